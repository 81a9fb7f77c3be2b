//! What protects the HTTP side from its clients and from its own defects, and counts requests.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;

use super::error::ApiError;

/// Connections at a time, WebSockets apart; beyond it somebody gives way.
pub const CONNECTIONS_MAX: usize = 2000;
/// Connections beyond them, for health and metrics.
pub const RESERVE_MAX: usize = 128;
/// How long a client may take for the head of a request, and how long a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A defect in a handler is that request's 500 and nobody else's business.
pub async fn survive_panics(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("a handler panicked; the message is above");
            ApiError::internal().into_response()
        }
    }
}

/// Counts `relay_http_requests_total` by class of route and of status.
pub async fn count(request: Request, next: Next) -> Response {
    let route = route_class(request.uri().path());
    let response = next.run(request).await;
    let status = match response.status().as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    metrics::counter!("relay_http_requests_total", "route" => route, "status" => status).increment(1);
    response
}

/// A handful of classes: whatever a client makes up, the metric does not grow.
fn route_class(path: &str) -> &'static str {
    let mut segments = path.split('/').skip(1);
    match (segments.next(), segments.next(), segments.next()) {
        (Some("whip"), ..) => "whip",
        (Some("whep"), ..) => "whep",
        (Some("api"), Some("v1"), Some("streams" | "sessions")) => "streams",
        (Some("api"), Some("v1"), Some("mesh")) => "mesh",
        (Some("api"), Some("v1"), Some("rooms")) if path.ends_with("/ws") => "websocket",
        (Some("api"), Some("v1"), Some("rooms")) if path.ends_with("/files") => "files",
        (Some("api"), Some("v1"), Some("files")) => "files",
        (Some("api"), Some("v1"), Some("rooms")) => "rooms",
        (Some("livez" | "readyz" | "metrics" | "version"), ..) => "operations",
        (Some("" | "publish" | "organizer" | "assets"), ..) => "pages",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_of_few_classes() {
        for (path, class) in [
            ("/whip/main-stage/commentary", "whip"),
            ("/api/v1/rooms/lobby/ws", "websocket"),
            ("/api/v1/rooms/lobby/messages", "rooms"),
            ("/api/v1/rooms/lobby/files", "files"),
            ("/api/v1/files/00", "files"),
            ("/", "pages"),
            ("/metrics", "operations"),
            ("/wp-admin.php", "other"),
            ("", "other"),
        ] {
            assert_eq!(route_class(path), class, "{path}");
        }
    }
}
