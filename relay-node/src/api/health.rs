//! `/livez`, `/readyz`, `/metrics`, `/version`: for those who watch over the relay.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use protocol::api::{Problem, Version};

use super::{ApiState, error::ApiError};
use crate::{ask::Ask, clock, metrics};

/// The process runs and answers.
#[utoipa::path(get, path = "/livez", tag = "operations",
    responses((status = 200, description = "`ok`", body = String, content_type = "text/plain")))]
pub async fn live() -> &'static str {
    "ok\n"
}

/// The relay serves: the node loop answers and the relay is not about to stop. A second line tells how this
/// relay's zone token stands, if it has one.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "`ok`, and a line on the zone token", body = String, content_type = "text/plain"),
    (status = 503, description = "starting, stopping or overloaded", body = Problem,
        content_type = "application/problem+json"),
))]
pub async fn ready(State(state): State<ApiState>) -> Result<String, ApiError> {
    if !state.ready.get() {
        return Err(ApiError::unavailable("this relay is starting or stopping: try again in a second", 1));
    }
    state.asks.ask(|reply| Ask::Streams { reply }).await?;
    let told = state.festival.map(|festival| festival.told(clock::wall().0 / 1000) + "\n");
    Ok(format!("ok\n{}", told.unwrap_or_default()))
}

/// Metrics in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub async fn metrics(State(state): State<ApiState>) -> Result<impl IntoResponse, ApiError> {
    let handle = state.metrics.ok_or_else(|| ApiError::not_found("this relay keeps no metrics"))?;
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((content_type, metrics::render(&handle)))
}

/// What runs here.
#[utoipa::path(get, path = "/version", tag = "operations",
    responses((status = 200, description = "release, zone and id", body = Version)))]
pub async fn version(State(state): State<ApiState>) -> Json<Version> {
    Json(Version {
        name: "peddlenet-relay".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        zone: state.zone.to_string(),
        node: state.node.to_string(),
    })
}
