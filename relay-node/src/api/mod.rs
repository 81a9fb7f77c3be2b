//! The HTTP side: every route but WHIP and WHEP, which come as a router of their own, and what holds
//! for all of them. A handler parses, asks the node loop, answers; it never touches state.

pub mod announcements;
pub mod assets;
pub mod auth;
pub mod bearer;
pub mod body;
pub mod closing;
pub mod conditions;
mod content;
pub mod error;
pub mod events;
pub mod file_headers;
pub mod files;
pub mod health;
pub mod limits;
pub mod mesh;
pub mod openapi;
pub mod origin;
#[doc(hidden)]
pub mod outside;
pub mod pace;
pub mod rate_limit;
pub mod rooms;
pub mod server;
pub mod socket;
pub mod streams;
pub mod uploads;
pub mod websocket;
pub mod whep;
pub mod whip;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    http::{HeaderMap, Method, StatusCode, Uri},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, head},
};
use metrics_exporter_prometheus::PrometheusHandle;
use protocol::{NodeId, ZoneName};

use crate::{
    membership::festival::Festival, node_loop::request::Requests, places::Places,
    storage::condition::Condition, vitals::Vitals,
};
use auth::Auth;
use error::ApiError;
use files::FilesState;
use origin::Welcome;

/// What handlers know.
#[derive(Clone)]
pub struct ApiState {
    /// The way to the node loop.
    pub requests: Requests,
    /// Who may publish.
    pub auth: Arc<Auth>,
    /// This relay's id.
    pub node: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// What stands before its paths where a proxy shows it (`--public-url`): empty, or `/stage`.
    pub prefix: Arc<str>,
    /// Whether `GET /readyz` says yes.
    pub ready: Ready,
    /// Files on disk and who may have them when.
    pub files: FilesState,
    /// Places of WebSockets.
    pub participants: Places,
    /// Whose zone token `GET /readyz` speaks of, if there is one.
    pub festival: Option<Arc<Festival>>,
    /// Whether the relay's threads are alive.
    pub vitals: Vitals,
    /// How the records on disk are.
    pub store: Condition,
    /// For `GET /metrics`; `None` where no recorder is installed.
    pub metrics: Option<PrometheusHandle>,
}

/// Set once the relay serves, cleared when it is about to stop.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Says whether the relay serves.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether the relay serves.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// All routes, for those who are welcome. `sessions` are those of WHIP and WHEP: they answer OPTIONS by themselves
/// (RFC 9725 section 4.2 wants more in it than CORS does).
pub fn router(state: ApiState, sessions: Router, welcome: Welcome) -> Router {
    let prefix = state.prefix.clone();
    let router = Router::new()
        .route("/api/v1/streams", get(streams::list))
        .route("/api/v1/sessions/{session}", get(streams::session))
        .route("/api/v1/mesh", get(mesh::show))
        .route("/api/v1/announcements", get(announcements::list).post(announcements::post))
        .route("/api/v1/rooms/{room}/messages", get(rooms::history).post(rooms::post))
        .route("/api/v1/rooms/{room}/files", get(files::list).post(files::upload).put(files::upload))
        .route("/api/v1/files/{id}", get(files::download))
        .route("/api/v1/uploads/{id}", head(uploads::look).patch(uploads::go_on).delete(uploads::discard))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/rooms/{room}/ws", get(websocket::upgrade))
        .route("/version", get(health::version))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(state)
        .merge(assets::router())
        .merge(sessions)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(welcome, origin::guard))
        .layer(middleware::from_fn(origin::share))
        .layer(middleware::from_fn(assets::secure))
        .layer(middleware::from_fn(limits::survive_panics))
        .layer(middleware::from_fn(limits::count));
    // With and without the path: some proxies take it off, some do not, and the crew beside the box uses none.
    match &*prefix {
        "" => router,
        prefix => Router::new().nest_service(prefix, router.clone()).fallback_service(router),
    }
}

async fn no_such_path(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if matches!(method, Method::GET | Method::HEAD)
        && let Some(file) = assets::beside_pages(uri.path(), &headers)
    {
        return file;
    }
    ApiError::not_found("there is nothing at this path: see /api/v1/openapi.json for what there is")
        .with_detail(uri.path().chars().take(200).collect::<String>())
        .into_response()
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let title = "this path does not answer this method: the Allow header names those it answers";
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", title).with_detail(format!("{method} {path}"))
}

#[cfg(test)]
mod tests;
