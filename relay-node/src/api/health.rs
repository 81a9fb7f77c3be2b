//! `/livez`, `/readyz`, `/metrics`, `/version`: for those who watch over the relay.

use axum::{Json, extract::State, http::header, response::IntoResponse};
use protocol::api::{Problem, Version};

use super::{ApiState, error::ApiError};
use crate::{clock, ladder, metrics, node_loop::request::NodeRequest, vitals::Silent};

/// The process answers and none of its threads is stuck: for 2 s, or 30 s where a disk is waited for.
///
/// # Errors
///
/// 503 with the thread that is stuck.
#[utoipa::path(get, path = "/livez", tag = "operations", responses(
    (status = 200, description = "`ok`", body = String, content_type = "text/plain"),
    (status = 503, description = "a thread is stuck: start the relay anew", body = Problem,
        content_type = "application/problem+json"),
))]
pub async fn live(State(state): State<ApiState>) -> Result<&'static str, ApiError> {
    alive(state.vitals.dead(clock::now()))?;
    Ok("ok\n")
}

fn alive(silent: Option<Silent>) -> Result<(), ApiError> {
    let Some(silent) = silent else { return Ok(()) };
    Err(ApiError::unavailable("a part of this relay is stuck", 1).with_detail(silent.to_string()))
}

/// The relay serves: the node loop answers, no thread has been stuck for 2 s, and the relay is not about to stop. A second line tells how this
/// relay's zone token stands, if it has one; another one which streams are heard only as their publishers send them,
/// because the machine is short of CPU; another one what is wrong with the records on its disk.
///
/// # Errors
///
/// 503 if the relay starts or stops, if a thread is stuck, or if the node loop does not answer.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "`ok`, and a line on the zone token", body = String, content_type = "text/plain"),
    (status = 503, description = "starting, stopping or overloaded", body = Problem,
        content_type = "application/problem+json"),
))]
pub async fn ready(State(state): State<ApiState>) -> Result<String, ApiError> {
    if !state.ready.get() {
        return Err(ApiError::unavailable("this relay is starting or stopping: try again in a second", 1));
    }
    alive(state.vitals.stuck(clock::now()))?;
    let closed = state.requests.ask(|reply| NodeRequest::ClosedRungs { reply }).await?;
    let token = state.festival.map(|festival| festival.status_line(clock::wall().0 / 1000) + "\n");
    let names: Vec<&str> = closed.iter().map(|stream| stream.as_str()).collect();
    let closed = (!names.is_empty()).then(|| ladder::closed_for(&names.join(", ")) + "\n");
    let store = state.store.shown().map(|store| store.warning + "\n");
    let lines: String = [token, closed, store].into_iter().flatten().collect();
    Ok(format!("ok\n{lines}"))
}

/// Metrics in the Prometheus text format.
///
/// # Errors
///
/// 404 if the relay was started without a recorder, as in tests.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "Prometheus text format", body = String, content_type = "text/plain")))]
pub async fn metrics(State(state): State<ApiState>) -> Result<impl IntoResponse, ApiError> {
    let handle = state.metrics.ok_or_else(|| ApiError::not_found("this relay keeps no metrics"))?;
    for Silent { name, silent } in state.vitals.ages(clock::now()) {
        ::metrics::gauge!("relay_thread_beat_age_seconds", "thread" => name).set(silent.as_secs_f64());
    }
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
