//! Who may publish what: bearer tokens, compared in constant time, and the names they may give.

use std::fmt;

use axum::http::HeaderMap;
use protocol::StreamName;

use super::{bearer, error::ApiError};

/// Streams that may be published at a relay: one by its name, or all below a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams(String);

impl Streams {
    /// Reads `main-stage`, `kiosk/*` or `*`.
    pub fn parse(text: &str) -> Option<Streams> {
        let name = text.strip_suffix("/*").unwrap_or(text);
        (text == "*" || StreamName::new(name).is_ok()).then(|| Streams(text.to_owned()))
    }

    /// Whether it names this stream.
    pub fn names(&self, stream: &StreamName) -> bool {
        match self.0.strip_suffix('*') {
            // With the slash: `kiosk/*` is neither `kiosk` nor `kiosk-2`.
            Some(above) => stream.as_str().starts_with(above),
            None => stream.as_str() == self.0,
        }
    }
}

impl fmt::Display for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What this relay asks of publishers.
#[derive(Debug, Clone)]
pub struct Auth {
    dev: bool,
    /// Of the token, so that comparing takes the same time whatever is sent.
    publish: Option<blake3::Hash>,
    /// Any, if there are none.
    streams: Vec<Streams>,
}

impl Auth {
    /// As configured: open to everybody with `dev`, else to whoever shows the secret, if there is one; any stream, if
    /// none is named. Says loudly if everything is open.
    pub fn new(dev: bool, secret: Option<&str>, streams: Vec<Streams>) -> Auth {
        if dev {
            tracing::warn!(
                "--dev: ANYBODY can publish here and any relay can bridge to this one; \
                 for a festival use --publish-token and --trust instead"
            );
        } else if secret.is_none() {
            tracing::info!("publishing is closed: open it with --publish-token TOKEN, or --dev for a trial");
        }
        Auth { dev, publish: secret.map(|secret| blake3::hash(secret.as_bytes())), streams }
    }

    /// Whether a request with these headers may publish this stream.
    ///
    /// # Errors
    ///
    /// 401 and 403 as [`Auth::may_publish`]; 403, with what may be published here, if this is none of it.
    pub fn may_publish_as(&self, headers: &HeaderMap, stream: &StreamName) -> Result<(), ApiError> {
        self.may_publish(headers)?;
        if self.streams.is_empty() || self.streams.iter().any(|streams| streams.names(stream)) {
            return Ok(());
        }
        let allowed: Vec<String> = self.streams.iter().map(Streams::to_string).collect();
        Err(ApiError::forbidden(format!(
            "{stream} may not be published at this relay, but {}: take one of these names, or ask the zone \
             operator to add it to --streams",
            allowed.join(", ")
        )))
    }

    /// Whether a request with these headers may publish.
    ///
    /// # Errors
    ///
    /// 401 without a token, also if the relay has none to compare with; 403 with a wrong one.
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
        config.auth()
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
    fn a_token_names_what_the_operator_lets_it_name_and_a_trial_does_too() {
        for open in [["--dev", "--area", "0"], ["--publish-token", "correct-horse", "--dev"]] {
            let mut arguments = open.to_vec();
            arguments.extend(["--streams", "main-stage,kiosk/*", "--streams", "fm"]);
            let auth = auth(&arguments);
            for (name, allowed) in [
                ("main-stage", true),
                ("fm", true),
                ("kiosk/left", true),
                ("kiosk/left/fr", true),
                ("kiosk", false),
                ("kiosk-2/left", false),
                ("main-stage/left", false),
                ("main-stage-2", false),
            ] {
                let stream = StreamName::new(name).expect("a name");
                let refused = auth.may_publish_as(&HeaderMap::new(), &stream).err();
                assert_eq!(refused.is_none(), allowed, "{name}");
                if let Some(refused) = refused {
                    assert_eq!(refused.status().as_u16(), 403);
                    assert!(refused.title().contains("main-stage, kiosk/*, fm"), "{}", refused.title());
                }
            }
        }
        let anything = auth(&["--dev", "--streams", "*"]);
        let stream = StreamName::new("a/b/c").expect("a name");
        assert!(anything.may_publish_as(&HeaderMap::new(), &stream).is_ok());
        // Without a token it is 401 whatever the name.
        let closed = auth(&["--publish-token", "correct-horse", "--streams", "fm"]);
        let refused = closed.may_publish_as(&HeaderMap::new(), &stream).expect_err("no token");
        assert_eq!(refused.status().as_u16(), 401);
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
