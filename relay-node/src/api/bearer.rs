//! The token of `Authorization: Bearer …` (RFC 6750 section 2.1), and what is wrong if there is none: people
//! paste tokens into fields that add the word, and into fields that do not.

use axum::http::{HeaderMap, header};

use super::error::ApiError;

/// The token; the scheme may stand in any case.
///
/// # Errors
///
/// 401, with what is wrong: no such header, another scheme, no token, or more than one.
pub fn token(headers: &HeaderMap) -> Result<&str, ApiError> {
    let refused = |title: &str| Err(ApiError::unauthorized(title));
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return refused(
            "publishing here needs the header `Authorization: Bearer TOKEN`: ask the zone operator for the token",
        );
    };
    let value = value.to_str().unwrap_or_default().trim();
    let (scheme, token) = value.split_once([' ', '\t']).unwrap_or((value, ""));
    let token = token.trim();
    let is_bearer = |word: &str| word.trim_end_matches(':').eq_ignore_ascii_case("bearer");
    if !is_bearer(scheme) {
        let known = ["basic", "digest", "negotiate", "token", "apikey"];
        return match known.iter().any(|known| known.eq_ignore_ascii_case(scheme)) && !token.is_empty() {
            true => refused(
                "this Authorization is of another scheme: send `Authorization: Bearer TOKEN` with the token as it \
                 is, without user name and encoding",
            ),
            false => refused("the word Bearer is missing: send `Authorization: Bearer TOKEN`"),
        };
    }
    if token.is_empty() {
        return refused("no token follows the word Bearer: send `Authorization: Bearer TOKEN`");
    }
    if is_bearer(token.split([' ', '\t']).next().unwrap_or_default()) {
        return refused(
            "Authorization says Bearer twice: give your program the token alone, it adds the word Bearer itself",
        );
    }
    if token.contains([' ', '\t']) {
        return refused("a token has no blanks: send `Authorization: Bearer TOKEN` and nothing behind it");
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().expect("a header"));
        token(&headers).map(str::to_owned).map_err(|error| {
            assert_eq!(error.status().as_u16(), 401);
            error.title().to_owned()
        })
    }

    #[test]
    fn the_token_is_found_however_the_word_is_written() {
        for value in [
            "Bearer secret-1",
            "bearer secret-1",
            "BEARER  secret-1 ",
            "Bearer\tsecret-1",
            "Bearer: secret-1",
        ] {
            assert_eq!(of(value).as_deref(), Ok("secret-1"), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, hint) in [
            ("Bearer Bearer secret-1", "twice"),
            ("bearer bearer: secret-1", "twice"),
            ("Bearer BEARER", "twice"),
            ("Bearer", "no token follows"),
            ("Bearer  ", "no token follows"),
            ("Basic dXNlcjpzZWNyZXQ=", "another scheme"),
            ("Digest username=x", "another scheme"),
            ("Token secret-1", "another scheme"),
            ("secret-1", "the word Bearer is missing"),
            ("", "the word Bearer is missing"),
            ("Bearer secret-1 secret-2", "no blanks"),
        ] {
            let title = of(value).expect_err(value);
            assert!(title.contains(hint) && title.to_lowercase().contains("token"), "{value}: {title}");
        }
        let none = token(&HeaderMap::new()).expect_err("nothing is there");
        assert!(none.title().contains("ask the zone operator"));
    }
}
