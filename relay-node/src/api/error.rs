//! Errors as people see them: `application/problem+json` (RFC 9457) with a title that says what to do.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::{NameError, api::Problem};
use rooms::RoomsError;

use crate::{node::posts::PostError, node_loop::request::RequestError};

const PACKED: &str = "content-encoding";

/// An answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    title: String,
    detail: Option<String>,
    retry_after_s: Option<u32>,
    /// The body of the request was not read to its end.
    unread: bool,
}

impl ApiError {
    /// A problem of `kind` (the last part of its `/problems/…` path); `title` says what to do about it.
    pub fn new(status: StatusCode, kind: &'static str, title: impl Into<String>) -> ApiError {
        ApiError { status, kind, title: title.into(), detail: None, retry_after_s: None, unread: false }
    }

    /// What exactly was wrong.
    pub fn with_detail(self, detail: impl Into<String>) -> ApiError {
        ApiError { detail: Some(detail.into()), ..self }
    }

    /// When to try again.
    pub fn with_retry_after(self, seconds: u32) -> ApiError {
        ApiError { retry_after_s: Some(seconds), ..self }
    }

    /// The rest of the request's body is not read: the connection ends with this answer.
    pub fn with_unread_body(self) -> ApiError {
        ApiError { unread: true, ..self }
    }

    /// 400: the request makes no sense as it is.
    pub fn bad_request(title: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "bad-request", title)
    }

    /// 401: nothing shows who asks.
    pub fn unauthorized(title: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", title)
    }

    /// 403: who asks may not.
    pub fn forbidden(title: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", title)
    }

    /// 404.
    pub fn not_found(title: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "not-found", title)
    }

    /// 408: the body trickles, or stopped coming.
    pub fn too_slow() -> ApiError {
        let title = "the body came too slowly: send at least 1 kB a second, without pauses of 10 seconds";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "too-slow", title)
    }

    /// 413, with the limit in bytes.
    pub fn too_large(limit: usize) -> ApiError {
        let title = format!("the body is too large: send at most {limit} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title)
    }

    /// 415, with the type that is expected.
    pub fn unsupported_type(expected: &str) -> ApiError {
        let title = format!("send the body with the header `Content-Type: {expected}`");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", title)
    }

    /// 415, for a body that is packed.
    pub fn unsupported_encoding(coding: &str) -> ApiError {
        let coding: String = coding.chars().take(40).collect();
        let title = format!("send the body as it is, without `Content-Encoding: {coding}`");
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, PACKED, title)
    }

    /// 429.
    pub fn too_many_requests(title: impl Into<String>, retry_after_s: u32) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate", title).with_retry_after(retry_after_s)
    }

    /// 503: later it may work.
    pub fn unavailable(title: impl Into<String>, retry_after_s: u32) -> ApiError {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title).with_retry_after(retry_after_s)
    }

    /// 500: a defect of the relay.
    pub fn internal() -> ApiError {
        let title = "the relay failed on this request: its log says why; please report it";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", title)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What to do about it.
    pub fn title(&self) -> &str {
        &self.title
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("/problems/{}", self.kind),
            title: self.title,
            status: self.status.as_u16(),
            detail: self.detail,
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // The rest of the body stays unread, so this connection cannot carry another request: say so, or
        // a client finds out by an error.
        if self.unread
            || matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE)
        {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.kind == PACKED {
            // RFC 9110 section 15.5.16
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> ApiError {
        ApiError::unavailable(error.to_string(), 1)
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "name", error.to_string())
    }
}

impl From<RoomsError> for ApiError {
    fn from(error: RoomsError) -> ApiError {
        let title = error.to_string();
        match error {
            RoomsError::UnknownMessage { .. } => {
                ApiError::new(StatusCode::NOT_FOUND, "unknown-message", title)
            }
            RoomsError::TooManyRooms | RoomsError::Full => ApiError::unavailable(title, 30),
            RoomsError::Unreadable => ApiError::internal(),
            RoomsError::Empty { .. }
            | RoomsError::TooLong { .. }
            | RoomsError::TooLarge { .. }
            | RoomsError::Control { .. } => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "message", title),
        }
    }
}

impl From<PostError> for ApiError {
    fn from(error: PostError) -> ApiError {
        match error {
            PostError::Refused(error) => error.into(),
            PostError::TooFast(error) => {
                let seconds = error.wait.as_secs_f64().ceil().max(1.0);
                ApiError::too_many_requests(error.to_string(), seconds as u32)
            }
            PostError::NotStored => ApiError::unavailable(error.to_string(), 5),
        }
    }
}
