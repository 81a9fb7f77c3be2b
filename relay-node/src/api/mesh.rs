//! `GET /api/v1/mesh`: relays and the links between them.

use axum::{Json, extract::State};
use protocol::api::{Mesh, Problem};

use super::{ApiState, error::ApiError};
use crate::node_loop::request::NodeRequest;

/// Every relay and every link this relay knows of.
///
/// # Errors
///
/// 503 if the node loop is busy or stops.
#[utoipa::path(get, path = "/api/v1/mesh", tag = "mesh", responses(
    (status = 200, description = "relays and links", body = Mesh),
    (status = 503, description = "busy: see Retry-After", body = Problem,
        content_type = "application/problem+json"),
))]
pub async fn show(State(state): State<ApiState>) -> Result<Json<Mesh>, ApiError> {
    Ok(Json(state.requests.ask(|reply| NodeRequest::Mesh { reply }).await?))
}
