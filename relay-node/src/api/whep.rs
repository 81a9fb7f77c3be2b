//! What a listener may ask of its session beside WHEP's offer and goodbye: `…/layer`, what it wishes, and `…/events`,
//! what it sees (draft-ietf-wish-whep, its extensions).

use axum::{
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{SessionId, StreamName, api::LayerWish};
use serde_json::Value;

use super::{
    error::ApiError,
    events::{self, NAMES, Only},
    whip::{WhipState, bare, read, session_of},
};
use crate::{
    client::Client,
    node::sessions::{SessionError, WishError, merging::Frames},
    node_loop::request::NodeRequest,
};

const JSON: &str = "application/json";
/// Octets of a wish, or of a list of events.
const BODY_MAX: usize = 4 * 1024;
/// After too many wishes, seconds.
const RETRY_WISH: u32 = 1;

/// What is below a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// `{stream}/{session}`.
    session: String,
    door: Door,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Layer,
    Events,
}

/// Whether a path is below a session, and not that of a stream or a session. A stream may be called like a door: who
/// offers SDP means the stream, unless what is before the door is a session.
pub fn beside(path: &str, request: &Request) -> Option<Beside> {
    let (session, last) = bare(path).rsplit_once('/')?;
    let door = match last {
        "layer" => Door::Layer,
        "events" => Door::Events,
        _ => return None,
    };
    let (_, id) = session.rsplit_once('/')?;
    let offers = || {
        let content_type = request.headers().get(header::CONTENT_TYPE);
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/sdp"))
    };
    let is_session = id.parse::<SessionId>().is_ok();
    (is_session || !offers()).then(|| Beside { session: session.to_owned(), door })
}

/// The Link headers of an answer whose session has a picture or a sound, at this absolute path.
pub fn links(session: &str) -> [String; 2] {
    let events = NAMES.join(",");
    [
        format!("<{session}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\""),
        format!(
            "<{session}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"{events}\""
        ),
    ]
}

/// How a query asks for the sound: `frames=20` for each packet on its own, `frames=60` for merged ones. `None` if it does
/// not say.
///
/// # Errors
///
/// 400 for anything else.
pub fn frames(query: &str) -> Result<Option<Frames>, ApiError> {
    match query.split('&').find_map(|part| part.strip_prefix("frames=")) {
        None => Ok(None),
        Some("20") => Ok(Some(Frames::Single)),
        Some("60") => Ok(Some(Frames::Merged)),
        Some(_) => Err(ApiError::bad_request(
            "say frames=20 for sound with the least delay, frames=60 for a third of the packets, or nothing",
        )),
    }
}

/// Answers a request below a session.
pub async fn serve(state: &WhipState, client: Client, beside: Beside, request: Request) -> Response {
    let session = session_of(state, client, &beside.session);
    let (stream, session) = match session {
        Ok(session) => session,
        Err(error) => return error.into_response(),
    };
    let answered = match (beside.door, request.method()) {
        (Door::Layer, &Method::POST) => wish(state, client, (stream, session), request).await,
        (Door::Events, &Method::GET) => watch(state, client, (stream, session), request).await,
        (Door::Events, &Method::POST) => subscribe(state, client, (stream, session), request).await,
        (door, _) => return method_not_allowed(door),
    };
    answered.into_response()
}

fn method_not_allowed(door: Door) -> Response {
    let (title, allow) = match door {
        Door::Layer => ("wish with POST here", "POST, OPTIONS"),
        Door::Events => ("read events with GET here", "GET, POST, OPTIONS"),
    };
    let mut response = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", title).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

async fn wish(
    state: &WhipState,
    client: Client,
    (stream, session): (StreamName, SessionId),
    request: Request,
) -> Result<Response, ApiError> {
    let text = read(request, JSON, BODY_MAX).await?;
    let wish = wish_of(&text)?;
    let wished = state.requests.ask(|reply| NodeRequest::Wish { stream, session, wish, reply }).await?;
    wished.map_err(|error| match error {
        WishError::NoSession => state.refused(client, SessionError::NoSession),
        WishError::TooFast => ApiError::too_many_requests(error.to_string(), RETRY_WISH),
        WishError::NoPicture | WishError::Media { .. } | WishError::Encoding { .. } => {
            ApiError::not_found(error.to_string())
        }
    })?;
    Ok(StatusCode::OK.into_response())
}

/// What a body wishes.
///
/// # Errors
///
/// 400 if it is not JSON, no object, or has fields or types that are not known.
pub fn wish_of(text: &str) -> Result<LayerWish, ApiError> {
    let refused = |detail: String| {
        ApiError::bad_request(
            "send {} for the best that fits, {\"video\":false} for sound only, or {\"encodingId\":\"…\"} for \
             no better than that, with mediaId, maxSpatialLayerId and maxTemporalLayerId if you like",
        )
        .with_detail(detail)
    };
    let value: Value = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    if !value.is_object() {
        return Err(refused("the body is no object".to_owned()));
    }
    serde_json::from_value(value).map_err(|error| refused(error.to_string()))
}

async fn watch(
    state: &WhipState,
    client: Client,
    (stream, session): (StreamName, SessionId),
    request: Request,
) -> Result<Response, ApiError> {
    let only = only(request.uri().query().unwrap_or_default())?;
    let asked = state.requests.ask(|reply| NodeRequest::Watch { stream, session, reply }).await?;
    let watching = asked.map_err(|error| state.refused(client, error))?;
    Ok(events::answer(watching, only, state.readers.clone()))
}

/// The draft's way: which events are wanted is said before, and answered with where they are read.
async fn subscribe(
    state: &WhipState,
    client: Client,
    (stream, session): (StreamName, SessionId),
    request: Request,
) -> Result<Response, ApiError> {
    let path = format!("{}/whep/{stream}/{session}/events", state.prefix());
    let text = read(request, JSON, BODY_MAX).await?;
    let names: Vec<String> = serde_json::from_str(&text).map_err(|error| {
        ApiError::bad_request("send a list of events, like [\"layers\"]").with_detail(error.to_string())
    })?;
    let only = known(names.iter().map(String::as_str))?;
    let found = state.requests.ask(|reply| NodeRequest::Session { session, reply }).await?;
    if !found.is_some_and(|found| !found.publishes && found.stream == stream.as_str()) {
        return Err(state.refused(client, SessionError::NoSession));
    }
    let names: Vec<&str> =
        NAMES.into_iter().zip(only).filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect();
    let location = format!("{path}?only={}", names.join(","));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

/// Which events a query asks for: all, if it does not say.
fn only(query: &str) -> Result<Only, ApiError> {
    let asked = query.split('&').filter_map(|part| part.strip_prefix("only="));
    let mut names = asked.flat_map(|list| list.split(',')).flat_map(|name| name.split("%2C")).peekable();
    if names.peek().is_none() { Ok([true; NAMES.len()]) } else { known(names) }
}

fn known<'a>(names: impl Iterator<Item = &'a str>) -> Result<Only, ApiError> {
    let mut only = [false; NAMES.len()];
    for name in names {
        let Some(at) = NAMES.iter().position(|known| *known == name) else { return Err(unknown()) };
        only[at] = true;
    }
    if only.contains(&true) { Ok(only) } else { Err(unknown()) }
}

fn unknown() -> ApiError {
    let title = format!("ask for events that there are: {}", NAMES.join(", "));
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "events", title)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use proptest::prelude::*;

    use super::*;

    fn request(content_type: &str) -> Request {
        Request::post("/").header(header::CONTENT_TYPE, content_type).body(Body::empty()).expect("a request")
    }

    #[test]
    fn a_stream_may_be_called_like_a_door() {
        let id = SessionId([7; 16]);
        let of = |path: &str, content_type| beside(path, &request(content_type)).map(|found| found.door);
        assert_eq!(of(&format!("main-stage/{id}/layer"), JSON), Some(Door::Layer));
        assert_eq!(of(&format!("a/b/{id}/events/"), JSON), Some(Door::Events));
        assert_eq!(of(&format!("main-stage/{id}/layer"), "application/sdp"), Some(Door::Layer));
        assert_eq!(of("a/b/layer", "application/sdp"), None);
        assert_eq!(of("a/b/layer", JSON), Some(Door::Layer), "a session that cannot be");
        assert_eq!(of("stage/layer", JSON), None);
        assert_eq!(of(&format!("main-stage/{id}"), JSON), None);
    }

    #[test]
    fn events_are_chosen_by_their_names() {
        assert_eq!(only("").ok(), Some([true, true]));
        assert_eq!(only("a=b").ok(), Some([true, true]));
        assert_eq!(only("only=layers").ok(), Some([true, false]));
        assert_eq!(only("x=1&only=quality,layers").ok(), Some([true, true]));
        assert_eq!(only("only=quality%2Clayers").ok(), Some([true, true]));
        for unknown in ["only=", "only=viewercount", "only=layers,"] {
            let error = only(unknown).expect_err("unknown");
            assert_eq!(error.status(), StatusCode::UNPROCESSABLE_ENTITY);
            assert!(error.title().contains("layers, quality"));
        }
    }

    #[test]
    fn frames_are_20_or_60_or_as_the_relay_thinks() {
        let asked = |query| frames(query).ok();
        assert_eq!([asked(""), asked("a=b&frame=20")], [Some(None); 2]);
        assert_eq!(asked("frames=20"), Some(Some(Frames::Single)));
        assert_eq!(asked("x&frames=60&frames=20"), Some(Some(Frames::Merged)));
        for other in ["frames=", "frames=40", "frames=60ms", "frames=6%30"] {
            let error = frames(other).expect_err("no such frames");
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            assert!(error.title().contains("frames=60"));
        }
    }

    proptest! {
        #[test]
        fn no_body_and_no_query_panics(text in ".{0,200}", json in r#"\{("(video|encodingId|mediaId|maxTemporalLayerId)":(true|-1|256|0|"m"|null|\[\]),?){0,4}\}"#) {
            let _ = only(&text);
            let _ = frames(&text);
            for text in [&text, &json] {
                if let Err(error) = wish_of(text) {
                    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
                }
            }
        }
    }
}
