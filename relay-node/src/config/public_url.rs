//! Where a proxy shows this relay: `https://live.example/stage`.

use std::fmt;

use axum::http::Uri;

/// An address of this relay as browsers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: String,
    host: String,
    /// Empty, or `/` and more, without a `/` at its end.
    path: String,
}

impl PublicUrl {
    /// The host, without a port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Scheme, host and port: `https://live.example`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What stands before the relay's own paths: empty, or `/stage`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}/", self.origin, self.path)
    }
}

const ALLOWED: &str = "the address at which a proxy shows this relay: http:// or https://, a name, and a path of \
    letters, digits, - . _ ~ if it has one, for example https://live.example/stage";

pub(super) fn parse(text: &str) -> Result<PublicUrl, String> {
    let allowed = || ALLOWED.to_owned();
    let uri: Uri = text.parse().map_err(|_| allowed())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(allowed()) };
    let path = uri.path().trim_end_matches('/');
    let good = |segment: &str| {
        let characters = segment.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c));
        characters && !segment.is_empty() && !matches!(segment, "." | "..")
    };
    let well_formed = matches!(scheme, "http" | "https")
        && !authority.host().is_empty()
        && !authority.as_str().contains('@')
        && uri.query().is_none()
        && !text.contains('#')
        && path.split('/').skip(1).all(good);
    if !well_formed {
        return Err(allowed());
    }
    let origin = format!("{scheme}://{}", authority.as_str().to_ascii_lowercase());
    let host = authority.host().to_ascii_lowercase();
    Ok(PublicUrl { origin, host, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_an_origin_and_perhaps_a_path() {
        for (text, shown, host, path) in [
            ("https://live.example", "https://live.example/", "live.example", ""),
            ("https://live.example/", "https://live.example/", "live.example", ""),
            ("https://Live.example/stage", "https://live.example/stage/", "live.example", "/stage"),
            ("https://live.example/a/b_1/", "https://live.example/a/b_1/", "live.example", "/a/b_1"),
            ("http://10.0.0.5:8080/x", "http://10.0.0.5:8080/x/", "10.0.0.5", "/x"),
            ("https://[fd00::5]:8443/x", "https://[fd00::5]:8443/x/", "[fd00::5]", "/x"),
        ] {
            let url = parse(text).expect(text);
            assert_eq!((url.to_string().as_str(), url.host(), url.path()), (shown, host, path), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_address_is_refused_with_an_example() {
        for text in [
            "",
            "live.example",
            "/stage",
            "ftp://live.example",
            "https://",
            "https://me@live.example",
            "https://live.example/?a",
            "https://live.example/#a",
            "https://live.example/a//b",
            "https://live.example/../b",
            "https://live.example/{x}",
            "https://live.example/a b",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("for example https://live.example/stage"), "{text}");
        }
    }
}
