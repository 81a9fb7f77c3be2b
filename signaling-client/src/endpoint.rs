//! A WHIP or WHEP endpoint over HTTP (RFC 9725 and the WHEP draft): an offer is posted, the answer and
//! the session's own URL come back, and the session is deleted at the end. Knows no WebRTC.

use std::time::Duration;

use protocol::api::Problem;
use reqwest::header::{self, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};

use crate::error::{Error, innermost};

/// An answer longer than this is no answer.
const LONGEST_BODY: usize = 256 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MOST_REDIRECTS: usize = 5;
/// The longest wait a relay's `Retry-After` is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Where a participant posts its offers.
#[derive(Debug, Clone)]
pub struct Endpoint {
    client: Client,
    url: Url,
    token: Option<String>,
}

/// One session at an endpoint, made by [`Endpoint::offer`].
#[derive(Debug)]
pub struct Session {
    endpoint: Endpoint,
    url: Url,
    etag: Option<String>,
}

impl Endpoint {
    /// The endpoint at `url`; `token` goes with every request as a bearer token.
    ///
    /// # Errors
    /// [`Error::Usage`] when the URL is not an `http` one.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, Error> {
        let url = http_url(url)?;
        // RFC 9725 section 4.5: only redirects that keep the method may be followed.
        let redirects = Policy::custom(|attempt| match attempt.status() {
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
                if attempt.previous().len() <= MOST_REDIRECTS =>
            {
                attempt.follow()
            }
            _ => attempt.stop(),
        });
        let client = Client::builder()
            .redirect(redirects)
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // A relay is a neighbor, never beyond a web proxy.
            .no_proxy()
            .user_agent(concat!("signaling-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Usage(format!("no HTTP client: {}", innermost(&error))))?;
        Ok(Endpoint { client, url, token })
    }

    /// The endpoint's URL.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// An endpoint at another URL that shares this one's connections and token.
    ///
    /// # Errors
    /// As [`Endpoint::new`].
    pub fn at(&self, url: &str) -> Result<Self, Error> {
        Ok(Endpoint { url: http_url(url)?, ..self.clone() })
    }

    /// Posts an SDP offer; returns the SDP answer and the session.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`] with what the relay said, or [`Error::Protocol`].
    pub async fn offer(&self, sdp: String) -> Result<(String, Session), Error> {
        let request = self
            .request(Method::POST, &self.url)
            .header(header::CONTENT_TYPE, "application/sdp")
            .header(header::ACCEPT, "application/sdp")
            .body(sdp);
        let mut response = self.send(request).await?;
        if response.status() != StatusCode::CREATED {
            return Err(self.refusal(response).await);
        }
        let location = text(response.headers(), header::LOCATION)
            .ok_or_else(|| self.against_protocol("no Location header in the 201 answer"))?;
        let session = Session {
            endpoint: self.clone(),
            // Absolute and relative both occur, and both are relative to where the answer came from.
            url: response
                .url()
                .join(location)
                .map_err(|_| self.against_protocol("the Location header is not a URL"))?,
            etag: text(response.headers(), header::ETAG).map(str::to_owned),
        };
        tracing::debug!("session at {}", session.url);
        let is_sdp = text(response.headers(), header::CONTENT_TYPE)
            .is_some_and(|t| t.trim_start().to_ascii_lowercase().starts_with("application/sdp"));
        if !is_sdp {
            session.delete().await;
            return Err(self.against_protocol("the answer is not application/sdp"));
        }
        match self.body(&mut response).await {
            Ok(answer) => Ok((answer, session)),
            Err(error) => {
                session.delete().await;
                Err(error)
            }
        }
    }

    fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let request = self.client.request(method, url.clone());
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    async fn body(&self, response: &mut Response) -> Result<String, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > LONGEST_BODY {
                return Err(self.against_protocol("the answer is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| self.against_protocol("the answer is not UTF-8"))
    }

    async fn refusal(&self, mut response: Response) -> Error {
        let status = response.status();
        let retry_after = text(response.headers(), header::RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
        let body = self.body(&mut response).await.unwrap_or_default();
        let (title, detail) = match serde_json::from_str::<Problem>(&body) {
            Ok(problem) => (problem.title, problem.detail),
            Err(_) => {
                let line = body.lines().next().unwrap_or_default().trim();
                let detail = line.chars().take(200).collect::<String>();
                let title = status.canonical_reason().unwrap_or("no reason given").to_owned();
                (title, (!detail.is_empty()).then_some(detail))
            }
        };
        Error::Refused { url: self.url.to_string(), status: status.as_u16(), title, detail, retry_after }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let reason = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
        Error::Unreachable { url: self.url.to_string(), reason }
    }

    fn against_protocol(&self, reason: &str) -> Error {
        Error::Protocol { url: self.url.to_string(), reason: reason.to_owned() }
    }
}

impl Session {
    /// The session's URL, absolute.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The entity tag of the session's ICE state, as the relay gave it.
    pub fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// Ends the session at the relay. That it is gone already, or the relay is, changes nothing for the
    /// participant, so there is no error: returns whether the relay confirmed it.
    pub async fn delete(&self) -> bool {
        let request = self.endpoint.request(Method::DELETE, &self.url).timeout(Duration::from_secs(3));
        match request.send().await {
            Ok(response) => response.status().is_success(),
            Err(_) => false,
        }
    }
}

/// Checks that a URL is one this client can use.
///
/// # Errors
/// [`Error::Usage`] with what is wrong.
pub fn http_url(url: &str) -> Result<Url, Error> {
    let parsed = Url::parse(url).map_err(|error| Error::Usage(format!("{url:?} is not a URL: {error}")))?;
    match parsed.scheme() {
        "http" if parsed.has_host() => Ok(parsed),
        "https" => Err(Error::Usage(format!(
            "{url}: this client speaks plain http only; put it beside the relay, inside its TLS front"
        ))),
        _ => Err(Error::Usage(format!("{url}: the URL has to begin with http://"))),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_are_taken() {
        assert!(Endpoint::new("http://127.0.0.1:8080/whip/main-stage", None).is_ok());
        for wrong in ["127.0.0.1:8080/whip/a", "https://a/whip/a", "ftp://a/b", "whip", ""] {
            let error = Endpoint::new(wrong, None).unwrap_err();
            assert_eq!(error.exit_code(), 64, "{wrong}");
        }
    }

    #[tokio::test]
    async fn nobody_at_the_port_is_unreachable() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = Endpoint::new(&format!("http://{free}/whip/a"), None).unwrap();
        let error = endpoint.offer("v=0".to_owned()).await.unwrap_err();
        assert_eq!(error.exit_code(), 69, "{error}");
        assert!(error.is_passing());
    }
}
