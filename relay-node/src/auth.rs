//! Who may publish: bearer tokens, compared in constant time.

use axum::http::HeaderMap;

use crate::{api::error::ApiError, bearer, config::Config};

/// What this relay asks of publishers.
#[derive(Debug, Clone)]
pub struct Auth {
    dev: bool,
    /// Of the token, so that comparing takes the same time whatever is sent.
    publish: Option<blake3::Hash>,
}

impl Auth {
    /// As configured. Says loudly if everything is open.
    pub fn new(config: &Config) -> Auth {
        if config.dev {
            tracing::warn!(
                "--dev: ANYBODY can publish here and any relay can bridge to this one; \
                 for a festival use --publish-token and --trust instead"
            );
        } else if config.publish_token.is_none() {
            tracing::info!("publishing is closed: open it with --publish-token TOKEN, or --dev for a trial");
        }
        let publish = config.publish_token.as_ref().map(|token| blake3::hash(token.secret().as_bytes()));
        Auth { dev: config.dev, publish }
    }

    /// Whether a request with these headers may publish: 401 without a token, 403 with a wrong one.
    pub fn may_publish(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.dev {
            return Ok(());
        }
        let Some(expected) = &self.publish else {
            return Err(ApiError::unauthorized(
                "publishing is closed on this relay: start it with --publish-token TOKEN, or with --dev for a trial",
            ));
        };
        let token = bearer::token(headers)?;
        // Comparing hashes takes constant time.
        if blake3::hash(token.as_bytes()) == *expected {
            return Ok(());
        }
        Err(ApiError::forbidden(
            "this token does not allow publishing here: ask the zone operator for the right one",
        ))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    fn auth(arguments: &[&str]) -> Auth {
        let arguments = std::iter::once("relay-node").chain(arguments.iter().copied()).map(Into::into);
        let (_, config) = crate::config::read(arguments, []).expect("a good configuration");
        Auth::new(&config)
    }

    fn status(auth: &Auth, header: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(header::AUTHORIZATION, header.parse().expect("a header"));
        }
        auth.may_publish(&headers).map_or_else(|error| error.status().as_u16(), |()| 200)
    }

    #[test]
    fn publishing_is_closed_unless_the_operator_opens_it() {
        assert_eq!(status(&auth(&[]), None), 401);
        assert_eq!(status(&auth(&[]), Some("Bearer something")), 401);
        assert_eq!(status(&auth(&["--dev"]), None), 200);
    }

    #[test]
    fn a_publisher_shows_the_token() {
        let auth = auth(&["--publish-token", "correct-horse"]);
        for (header, expected) in [
            (None, 401),
            (Some("Bearer"), 401),
            (Some("Bearer  "), 401),
            (Some("Basic correct-horse"), 401),
            (Some("Bearer correct-hors"), 403),
            (Some("Bearer correct-horse"), 200),
            (Some("bearer correct-horse"), 200),
        ] {
            assert_eq!(status(&auth, header), expected, "{header:?}");
        }
    }
}
