//! WHIP (RFC 9725) and WHEP over HTTP: `/whip/{stream}` and `/whep/{stream}`, and the sessions below them. What listeners
//! may ask of a session beside is in `whep`.
//!
//! Checks what HTTP can check and asks the node loop; what is answered to an offer is decided in
//! `sessions` and `media::sdp`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{self, Body},
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{AppendHeaders, IntoResponse, Response},
    routing::any,
};
use media::sdp::{Fragment, Offer, SdpError};
use protocol::{SessionId, StreamName};

use super::{
    auth::Auth,
    conditions::EntityTags,
    content::{check_type, check_unpacked},
    error::ApiError,
    events,
    rate_limit::Rate,
    whep,
};
use crate::{
    client::Client,
    clock,
    node::sessions::{Direction, IfMatch, Patched, SessionError, Whose},
    node_loop::request::{NodeRequest, Requests},
    places::Places,
};

/// What the handlers know.
#[derive(Clone)]
pub struct WhipState {
    /// The way to the node loop.
    pub requests: Requests,
    /// Who may publish.
    pub auth: Arc<Auth>,
    /// What stands before this relay's paths where a proxy shows it.
    prefix: Arc<str>,
    /// Guesses of session URLs, by address.
    misses: Arc<Rate>,
    /// Offers, by address.
    offers: Arc<Rate>,
    /// Places of those who read events.
    pub readers: Places,
}

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// Octets of an offer or a fragment: browsers send about 10 kB.
const BODY_MAX: usize = 64 * 1024;
/// What a listener without a publisher should wait, seconds.
const RETRY_NOT_LIVE: u32 = 2;
const RETRY_FULL: u32 = 5;

impl WhipState {
    /// The state of both endpoints.
    pub fn new(requests: Requests, auth: Arc<Auth>, prefix: Arc<str>) -> WhipState {
        WhipState {
            requests,
            auth,
            prefix,
            misses: Arc::new(Rate::new(100, Duration::from_millis(500))),
            offers: Arc::new(Rate::new(600, Duration::from_millis(5))),
            readers: events::places(),
        }
    }
}

/// The routes of both.
pub fn router(state: WhipState) -> Router {
    Router::new().route("/whip/{*path}", any(whip)).route("/whep/{*path}", any(whep)).with_state(state)
}

async fn whip(
    state: State<WhipState>,
    client: ConnectInfo<Client>,
    path: Path<String>,
    request: Request,
) -> Response {
    serve(&state, Direction::Ingest, client.0, &path, request).await
}

async fn whep(
    state: State<WhipState>,
    client: ConnectInfo<Client>,
    path: Path<String>,
    request: Request,
) -> Response {
    serve(&state, Direction::Egress, client.0, &path, request).await
}

async fn serve(
    state: &WhipState,
    direction: Direction,
    client: Client,
    path: &str,
    request: Request,
) -> Response {
    let method = request.method().clone();
    let beside = if direction == Direction::Egress { whep::beside(path, &request) } else { None };
    let mut response = match method {
        Method::OPTIONS => preflight(),
        _ if let Some(beside) = beside => whep::serve(state, client, beside, request).await,
        Method::POST => post(state, direction, client, path, request).await.into_response(),
        Method::PATCH => patch(state, direction, client, path, request).await.into_response(),
        Method::DELETE => delete(state, direction, client, path, request.headers()).await.into_response(),
        Method::HEAD => StatusCode::OK.into_response(),
        _ => method_not_allowed(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let exposed = "Location, ETag, Link, Accept-Patch, Accept-Post, Retry-After";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    response
}

/// The CORS preflight needs no credentials and gives none (RFC 9725 section 4.2).
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PATCH, DELETE, OPTIONS, HEAD"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        (HeaderName::from_static("accept-post"), SDP),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn method_not_allowed() -> Response {
    let title = "offer with POST here; PATCH and DELETE belong to the session URL that POST answers";
    let mut response = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", title).into_response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("POST, PATCH, DELETE, OPTIONS, HEAD"));
    response
}

async fn post(
    state: &WhipState,
    direction: Direction,
    client: Client,
    path: &str,
    request: Request,
) -> Result<Response, ApiError> {
    if direction == Direction::Ingest {
        state.auth.may_publish(request.headers())?;
    }
    let stream = StreamName::new(bare(path))?;
    if direction == Direction::Ingest {
        state.auth.may_publish_as(request.headers(), &stream)?;
    }
    if direction == Direction::Ingest && stream.is_bare() {
        let title = "the name - is that of sessions without a stream: publish under another";
        return Err(ApiError::bad_request(title));
    }
    // Who may publish may give files over the session's data channels, a listener too.
    let may_publish = state.auth.may_publish(request.headers()).is_ok();
    if !client.local && !state.offers.take(client.holder(), clock::now()) {
        return Err(ApiError::too_many_requests(
            "too many offers from this address: try again in a second",
            1,
        ));
    }
    let frames = match direction {
        Direction::Ingest => None,
        Direction::Egress => whep::frames(request.uri().query().unwrap_or_default())?,
    };
    let text = read(request, SDP, BODY_MAX).await?;
    let offer = Box::new(Offer::parse(&text)?);
    let (name, whose) = (stream.clone(), Whose { client, may_publish });
    let opened = state
        .requests
        .ask(|reply| NodeRequest::Open { direction, stream: name, whose, offer, frames, reply })
        .await??;
    let door = match direction {
        Direction::Ingest => "whip",
        Direction::Egress => "whep",
    };
    // An absolute path: some clients resolve a relative reference wrongly.
    let prefix = &state.prefix;
    let location = format!("{prefix}/{door}/{stream}/{}", opened.id);
    let status = format!("<{prefix}/api/v1/sessions/{}>; rel=\"status\"", opened.id);
    let links = if opened.listens { whep::links(&location).to_vec() } else { Vec::new() };
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, location),
        (header::ETAG, format!("\"{}\"", opened.tag)),
        (HeaderName::from_static("accept-patch"), FRAGMENT.to_owned()),
    ];
    let links = [status].into_iter().chain(links).map(|link| (header::LINK, link));
    Ok((StatusCode::CREATED, headers, AppendHeaders(links), opened.answer).into_response())
}

async fn patch(
    state: &WhipState,
    direction: Direction,
    client: Client,
    path: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let (stream, session) = session_of(state, client, path)?;
    if direction == Direction::Ingest {
        state.auth.may_publish(request.headers())?;
    }
    let if_match = if_match(request.headers());
    let text = read(request, FRAGMENT, BODY_MAX).await?;
    let fragment = Fragment::parse(&text)?;
    let patched = state
        .requests
        .ask(|reply| NodeRequest::Patch { direction, stream, session, if_match, fragment, reply })
        .await?
        .map_err(|error| state.refused(client, error))?;
    Ok(match patched {
        Patched::Trickled => StatusCode::NO_CONTENT.into_response(),
        Patched::Restarted { tag, answer } => {
            let headers = [(header::CONTENT_TYPE, FRAGMENT.to_owned()), (header::ETAG, format!("\"{tag}\""))];
            (StatusCode::OK, headers, answer).into_response()
        }
    })
}

async fn delete(
    state: &WhipState,
    direction: Direction,
    client: Client,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let (stream, session) = session_of(state, client, path)?;
    if direction == Direction::Ingest {
        state.auth.may_publish(headers)?;
    }
    state
        .requests
        .ask(|reply| NodeRequest::End { direction, stream, session, reply })
        .await?
        .map_err(|error| state.refused(client, error))?;
    Ok(StatusCode::OK.into_response())
}

impl WhipState {
    /// What stands before this relay's paths where a proxy shows it.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A session URL cannot be guessed, but who tries is slowed down all the same. Whoever has a right one is
    /// served before it is asked who guesses: a guesser behind the same address locks nobody out.
    pub(super) fn refused(&self, client: Client, error: SessionError) -> ApiError {
        if error == SessionError::NoSession && !self.misses.take(client.holder(), clock::now()) {
            let title = "too many requests for sessions that do not exist: try again in a minute";
            return ApiError::too_many_requests(title, 60);
        }
        error.into()
    }
}

/// `{stream}/{session}`.
pub(super) fn session_of(
    state: &WhipState,
    client: Client,
    path: &str,
) -> Result<(StreamName, SessionId), ApiError> {
    let parsed = bare(path)
        .rsplit_once('/')
        .and_then(|(stream, session)| Some((StreamName::new(stream).ok()?, session.parse().ok()?)));
    parsed.ok_or_else(|| state.refused(client, SessionError::NoSession))
}

/// A `/` at the end means nothing: people type it.
pub(super) fn bare(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn if_match(headers: &HeaderMap) -> IfMatch {
    match EntityTags::of(headers, header::IF_MATCH) {
        Some(EntityTags::Any) => IfMatch::Any,
        // Strong comparison (RFC 9110 section 13.1.1): a weak tag matches nothing.
        Some(EntityTags::List(tags)) => {
            IfMatch::Tags(tags.into_iter().filter(|tag| !tag.weak).map(|tag| tag.tag).collect())
        }
        None => IfMatch::Missing,
    }
}

/// The body as text, if it is of this type and not too large.
pub(super) async fn read(request: Request, expected: &'static str, most: usize) -> Result<String, ApiError> {
    check_type(request.headers(), expected)?;
    check_unpacked(request.headers())?;
    let body: Body = request.into_body();
    let bytes = body::to_bytes(body, most).await.map_err(|_| ApiError::too_large(most))?;
    String::from_utf8(bytes.into())
        .map_err(|_| ApiError::bad_request(format!("the body is not UTF-8: send {expected}")))
}

impl From<SdpError> for ApiError {
    fn from(error: SdpError) -> ApiError {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        ApiError::new(status, "sdp", error.to_string())
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> ApiError {
        let title = error.to_string();
        match error {
            SessionError::Sdp(error) => error.into(),
            SessionError::NotLive { .. } => {
                ApiError::new(StatusCode::CONFLICT, "not-live", title).with_retry_after(RETRY_NOT_LIVE)
            }
            SessionError::Elsewhere { .. } => ApiError::new(StatusCode::CONFLICT, "live-elsewhere", title),
            SessionError::NoSession => ApiError::not_found(title),
            SessionError::Tag => ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title),
            SessionError::NoTag => {
                ApiError::new(StatusCode::PRECONDITION_REQUIRED, "precondition-required", title)
            }
            SessionError::Full => ApiError::unavailable(title, RETRY_FULL),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::node_loop::request;

    #[tokio::test]
    async fn a_guesser_of_sessions_is_slowed_down_and_locks_nobody_out() {
        let (requests, mut queue) = request::queue();
        let own = SessionId([7; 16]);
        tokio::spawn(async move {
            while let Some(ask) = queue.recv().await {
                if let NodeRequest::End { session, reply, .. } = ask {
                    drop(reply.send(if session == own { Ok(()) } else { Err(SessionError::NoSession) }));
                }
            }
        });
        let (_, config) = crate::config::read(["relay-node", "--dev"].map(Into::into), []).expect("is good");
        let relay = router(WhipState::new(requests, Arc::new(config.auth()), "".into()));
        let delete = async |path: &str, address: [u8; 4]| {
            let client = ConnectInfo(Client { address: address.into(), local: false });
            let request = Request::delete(path).extension(client).body(Body::empty()).expect("a request");
            relay.clone().oneshot(request).await.expect("answers").status().as_u16()
        };
        let guess = format!("/whep/main-stage/{}", SessionId([1; 16]));
        let statuses = async |path: &str| {
            let mut all = Vec::new();
            for _ in 0..150 {
                all.push(delete(path, [10, 0, 0, 1]).await);
            }
            all
        };
        let guessed = statuses(&guess).await;
        assert!(guessed[..100].iter().all(|status| *status == 404), "{guessed:?}");
        assert!(guessed.contains(&429), "{guessed:?}");
        let nonsense = statuses("/whep/main-stage/nonsense").await;
        assert!(nonsense.contains(&429), "what cannot be a session is a guess too");
        assert_eq!(delete(&guess, [10, 0, 0, 2]).await, 404, "another address");
        let right = format!("/whep/main-stage/{own}");
        assert_eq!(delete(&right, [10, 0, 0, 1]).await, 200, "who has a right one is served");
    }
}
