//! `GET /api/v1/streams`: what is live in the mesh. `GET /api/v1/sessions/{session}`: what one session gets of it.

use axum::{
    Json,
    extract::{Path, State},
};
use protocol::{
    SessionId,
    api::{Problem, Session, Stream},
};

use super::{ApiState, error::ApiError};
use crate::node_loop::request::NodeRequest;

/// Every live stream of the mesh, as this relay knows it.
///
/// # Errors
///
/// 503 if the node loop is busy or stops.
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", responses(
    (status = 200, description = "every live stream, in the order of names", body = [Stream]),
    (status = 503, description = "busy: see Retry-After", body = Problem,
        content_type = "application/problem+json"),
))]
pub async fn list(State(state): State<ApiState>) -> Result<Json<Vec<Stream>>, ApiError> {
    Ok(Json(state.requests.ask(|reply| NodeRequest::Streams { reply }).await?))
}

/// What a session of WHIP or WHEP gets of its stream, and why not all of it.
///
/// # Errors
///
/// 404 if there is no such session or it is over, 503 if the node loop is busy or stops.
#[utoipa::path(get, path = "/api/v1/sessions/{session}", tag = "streams",
    params(("session" = String, Path, description = "the last part of the Location that POST answered")),
    responses(
        (status = 200, description = "how it is", body = Session),
        (status = 404, description = "no such session, or it is over", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn session(
    State(state): State<ApiState>,
    Path(session): Path<String>,
) -> Result<Json<Session>, ApiError> {
    let none = || ApiError::not_found("there is no such session: it may have ended");
    let session: SessionId = session.parse().map_err(|_| none())?;
    let found = state.requests.ask(|reply| NodeRequest::Session { session, reply }).await?;
    found.map(Json).ok_or_else(none)
}
