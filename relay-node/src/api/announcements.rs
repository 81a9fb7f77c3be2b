//! `/api/v1/announcements`: what the organizer tells everybody, in every zone, ahead of all chat.

use axum::{
    Json,
    extract::{ConnectInfo, Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
};
use protocol::{
    Topic,
    api::{Message, NewMessage, Posted, Problem},
};

use super::{
    ApiState,
    error::ApiError,
    rooms::{Since, read_json, since},
};
use crate::{
    client::Client, conversation::with_nonce, node::allowance::Speaker, node_loop::request::NodeRequest,
};

/// Announcements in one answer.
const ANNOUNCEMENTS_MAX: usize = 100;

/// The newest announcements in display order, at most 100.
///
/// # Errors
///
/// 400 for a query that cannot be read, 404 if the message in it is not here, 503 if the node loop is busy or
/// stops.
#[utoipa::path(get, path = "/api/v1/announcements", tag = "announcements",
    params(Since),
    responses(
        (status = 200, description = "in display order", body = [Message]),
        (status = 400, description = "a query that cannot be read", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "this relay does not have the announcement `after`: ask without it",
            body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Json<Vec<Message>>, ApiError> {
    let (topic, after) = (Topic::Announcements, since(query)?);
    let history = state
        .requests
        .ask(|reply| NodeRequest::History { topic, after, limit: ANNOUNCEMENTS_MAX, reply })
        .await?;
    Ok(Json(history?))
}

/// Tells everybody something, in every room of every zone.
///
/// # Errors
///
/// 401 or 403 if the token does not allow it, 400, 413 or 415 for another body than a message in JSON, 422 if
/// its author or text is not as it has to be, 503 if the node loop is busy or stops or the disk does not take
/// it.
#[utoipa::path(post, path = "/api/v1/announcements", tag = "announcements",
    request_body = NewMessage,
    security(("publish" = [])),
    responses(
        (status = 201, description = "accepted and on disk", body = Posted),
        (status = 400, description = "not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "a wrong token", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "more than 64 KiB", body = Problem,
            content_type = "application/problem+json"),
        (status = 415, description = "not application/json", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "author or text is not as it has to be", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn post(
    State(state): State<ApiState>,
    ConnectInfo(client): ConnectInfo<Client>,
    request: Request,
) -> Result<(StatusCode, Json<Posted>), ApiError> {
    state.auth.may_publish(request.headers())?;
    let new: NewMessage = with_nonce(read_json(request).await?);
    let (topic, speaker) = (Topic::Announcements, Speaker { address: client.address, participant: None });
    let posted = state.requests.ask(|reply| NodeRequest::Post { topic, new, speaker, reply }).await?;
    Ok((StatusCode::CREATED, Json(posted?)))
}
