//! For the fuzzer: what is read of a request before the node loop is asked.

use axum::{
    body::Body,
    extract::{Query, Request},
    http::{HeaderMap, Uri, header::InvalidHeaderValue},
};
use futures_util::FutureExt;
use mesh_routing::blob::Manifest;
use protocol::api::{LayerWish, NewMessage};
use rooms::file::shown_name;

use super::{
    error::ApiError,
    file_headers::{self, Wanted},
    files::{self, Called},
    origin::{self, Welcome},
    rooms::{read_json, since},
    whep,
};

/// Whether a request of this name and origin is welcome.
///
/// # Errors
///
/// 400 for a `Host` that makes no sense, 421 for one that is none of this relay's, 403 for a page of an
/// origin that may not do this.
pub fn is_welcome(welcome: &Welcome, request: &Request<Body>) -> Result<(), ApiError> {
    origin::check(welcome, request)
}

/// The message in a request whose body is in memory.
///
/// # Errors
///
/// 400, 413 or 415: as for a message that is posted.
pub fn message(request: Request<Body>) -> Result<NewMessage, ApiError> {
    read_json(request).now_or_never().expect("nothing is waited for")
}

/// What a listener wishes.
///
/// # Errors
///
/// 400 for what is no wish.
pub fn wish(text: &str) -> Result<LayerWish, ApiError> {
    whep::wish_of(text)
}

/// The message after which history is asked for.
///
/// # Errors
///
/// 400 for a query that cannot be read.
pub fn after(uri: &Uri) -> Result<Option<String>, ApiError> {
    since(Query::try_from_uri(uri))
}

/// The name of a file that is given, and who gives it.
///
/// # Errors
///
/// 400 for a query that cannot be read, 415 for a body that is packed or in a form, 422 for a giver without a
/// name that can be shown.
pub fn called(uri: &Uri, headers: &HeaderMap) -> Result<(String, String), ApiError> {
    files::check_bare(headers)?;
    let called: Query<Called> =
        Query::try_from_uri(uri).map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    Ok((shown_name(&called.name), called.giver()?))
}

/// The headers that a file leaves with.
///
/// # Errors
///
/// When a value is none of a header: what `shown_name` and the media type leave is one.
pub fn described(manifest: &Manifest) -> Result<HeaderMap, InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    file_headers::describe(&mut headers, &format!("\"{}\"", manifest.id()), manifest)?;
    Ok(headers)
}

/// The bytes of a file that a range asks for: from one to before another.
pub fn range(value: &str, length: u64) -> Option<(u64, u64)> {
    match file_headers::parse_range(value, length) {
        Wanted::All => Some((0, length)),
        Wanted::Some { from, to } => Some((from, to)),
        Wanted::Outside => None,
    }
}
