//! `GET /api/v1/streams`: what is live in the mesh.

use axum::{Json, extract::State};
use protocol::api::{Problem, Stream};

use super::{ApiState, error::ApiError};
use crate::ask::Ask;

/// Every live stream of the mesh, as this relay knows it.
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", responses(
    (status = 200, description = "every live stream, in the order of names", body = [Stream]),
    (status = 503, description = "busy: see Retry-After", body = Problem,
        content_type = "application/problem+json"),
))]
pub async fn list(State(state): State<ApiState>) -> Result<Json<Vec<Stream>>, ApiError> {
    Ok(Json(state.asks.ask(|reply| Ask::Streams { reply }).await?))
}
