//! `/api/v1/rooms/{room}/messages`: chat for those without a WebSocket.

use axum::{
    Json,
    body::Bytes,
    extract::{
        ConnectInfo, DefaultBodyLimit, FromRequest, Path, Query, Request, State, rejection::QueryRejection,
    },
    http::StatusCode,
};
use protocol::{
    RoomName, Topic,
    api::{Message, NewMessage, Posted, Problem},
};
use serde::Deserialize;

use super::{
    ApiState,
    content::{check_type, check_unpacked, declared_length},
    error::ApiError,
};
use crate::{
    client::Client, conversation::with_nonce, node::allowance::Speaker, node_loop::request::NodeRequest,
};

/// Bytes of a posted message.
const BODY_MAX: usize = 64 * 1024;
/// Messages in one answer.
const HISTORY_MAX: usize = 1000;

/// Which part of the history.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Since {
    /// Only messages after the one with this id.
    after: Option<String>,
}

/// The newest messages of a room in display order, at most 1000.
///
/// # Errors
///
/// 400 if the name is none of a room or the query cannot be read, 404 if the message in it is not here, 503
/// if the node loop is busy or stops.
#[utoipa::path(get, path = "/api/v1/rooms/{room}/messages", tag = "rooms",
    params(("room" = String, Path, description = "1 to 64 of a-z, 0-9 and -"), Since),
    responses(
        (status = 200, description = "in display order", body = [Message]),
        (status = 400, description = "no such room name, or a query that cannot be read", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "this relay does not have the message `after`: ask without it",
            body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn history(
    State(state): State<ApiState>,
    Path(room): Path<String>,
    since: Result<Query<Since>, QueryRejection>,
) -> Result<Json<Vec<Message>>, ApiError> {
    let (topic, after) = (Topic::Room(RoomName::new(room)?), self::since(since)?);
    let history =
        state.requests.ask(|reply| NodeRequest::History { topic, after, limit: HISTORY_MAX, reply }).await?;
    Ok(Json(history?))
}

/// The id after which messages are wanted.
pub(super) fn since(query: Result<Query<Since>, QueryRejection>) -> Result<Option<String>, ApiError> {
    let Query(since) = query.map_err(|_| ApiError::bad_request("the query may only have ?after=ID"))?;
    Ok(since.after.filter(|after| !after.is_empty()))
}

/// Says something in a room, in every zone.
///
/// # Errors
///
/// 400 if the name is none of a room, 400, 413 or 415 for another body than a message in JSON, 422 if its
/// author or text is not as it has to be, 429 if the address speaks too fast, 503 if the node loop is busy or
/// stops or the disk does not take it.
#[utoipa::path(post, path = "/api/v1/rooms/{room}/messages", tag = "rooms",
    params(("room" = String, Path, description = "1 to 64 of a-z, 0-9 and -")),
    request_body = NewMessage,
    responses(
        (status = 201, description = "accepted and on disk", body = Posted),
        (status = 400, description = "not JSON, or no such room name", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "more than 64 KiB", body = Problem,
            content_type = "application/problem+json"),
        (status = 415, description = "not application/json", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "author or text is not as it has to be", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "too fast, or too many new rooms, from one address: see Retry-After",
            body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn post(
    State(state): State<ApiState>,
    ConnectInfo(client): ConnectInfo<Client>,
    Path(room): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<Posted>), ApiError> {
    let topic = Topic::Room(RoomName::new(room)?);
    let new = with_nonce(read_json(request).await?);
    let speaker = Speaker { address: client.address, participant: None };
    let posted = state.requests.ask(|reply| NodeRequest::Post { topic, new, speaker, reply }).await?;
    Ok((StatusCode::CREATED, Json(posted?)))
}

pub(super) async fn read_json(request: Request) -> Result<NewMessage, ApiError> {
    check_type(request.headers(), "application/json")?;
    check_unpacked(request.headers())?;
    if declared_length(request.headers()).is_some_and(|length| length > BODY_MAX as u64) {
        return Err(ApiError::too_large(BODY_MAX));
    }
    let mut request = request;
    DefaultBodyLimit::apply(DefaultBodyLimit::max(BODY_MAX), &mut request);
    let body = Bytes::from_request(request, &()).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(BODY_MAX),
        _ => ApiError::bad_request("the body did not arrive whole: send it again"),
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request("send JSON like {\"author\": \"Ada\", \"text\": \"hello\"}")
            .with_detail(error.to_string())
    })
}
