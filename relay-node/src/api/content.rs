//! What a request says of its body: its type, its length, and whether it is packed.

use axum::http::{HeaderMap, header};

use super::error::ApiError;

/// The type, with its parameters; empty if none is said.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Refuses a body that is not of this type, which may be written in any case and with any parameters.
///
/// # Errors
///
/// 415, with the type that is expected.
pub(super) fn check_type(headers: &HeaderMap, expected: &'static str) -> Result<(), ApiError> {
    let essence = content_type(headers).split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) { Ok(()) } else { Err(ApiError::unsupported_type(expected)) }
}

/// Refuses a body that is packed: unpacking would let a small body become a large one, and stored as it is a
/// packed file would be taken for what it is not.
///
/// # Errors
///
/// 415, with the first coding that is not `identity`.
pub(super) fn check_unpacked(headers: &HeaderMap) -> Result<(), ApiError> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let mut codings = values.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim);
    match codings.find(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")) {
        Some(coding) => Err(ApiError::unsupported_encoding(coding)),
        None => Ok(()),
    }
}

/// The length, if it is said.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
