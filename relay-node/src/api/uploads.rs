//! Uploads that resume (draft-ietf-httpbis-resumable-upload): `POST /api/v1/rooms/{room}/files?upload={id}` begins one,
//! `/api/v1/uploads/{id}` goes on, says how far it is, and ends it. What is on disk of it is for `storage`.

use axum::{
    Json,
    extract::{ConnectInfo, Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use protocol::{
    RoomName, UploadId,
    api::{Problem, Uploaded},
};
use rooms::file::{media_type, shown_name};

use super::{
    ApiState,
    content::{check_type, content_type, declared_length},
    error::ApiError,
    files::{Called, Progress, busy, check_bare, place_of, text, too_large},
};
use crate::{
    client::Client,
    incoming::{Incoming, IncomingError},
    places::Held,
    storage::files::upload::{About, KEPT_SECONDS, Reached, UploadError},
};

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_LIMIT: HeaderName = HeaderName::from_static("upload-limit");
const PARTIAL: &str = "application/partial-upload";
/// Where the draft registers its problems.
const MISMATCH: &str = "mismatching-upload-offset";

/// Begins an upload under the id that the client drew, with as much of the file as the body has.
pub(super) async fn begin(
    state: &ApiState,
    client: Client,
    room: String,
    called: Called,
    request: Request,
) -> Result<Response, ApiError> {
    let room = RoomName::new(room)?;
    state.auth.may_publish(request.headers())?;
    check_bare(request.headers())?;
    let id: UploadId = called.upload.as_deref().unwrap_or_default().parse()?;
    let complete = flag(request.headers(), &UPLOAD_COMPLETE)?.unwrap_or(true);
    let said = number(request.headers(), &UPLOAD_LENGTH)?;
    let length = said.or_else(|| declared_length(request.headers()).filter(|_| complete));
    let limit = state.files.limits().size;
    if length.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let from = called.giver()?;
    let place = state.files.place(client)?;
    let about = About {
        room,
        name: shown_name(&called.name),
        media_type: media_type(content_type(request.headers())),
        from,
        length,
        holder: client.address,
    };
    let reached = state.files.files().begin_upload(id, about).await?;
    if reached.chunks > 0 || reached.done.is_some() {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            MISMATCH,
            "this upload is begun already: ask with HEAD how far it is, and go on with PATCH",
        ));
    }
    let mut response = receive(state, id, reached, complete, request, &place).await?;
    let headers = response.headers_mut();
    if !complete {
        headers.insert(header::LOCATION, text(&location(state, id))?);
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

/// Goes on with an upload, from the offset that HEAD gives.
///
/// # Errors
///
/// 400 for an id or headers that make no sense, an upload that is done and a body that breaks off, 401 or 403 if the token
/// does not allow it, 404 if there is no such upload, 409 if the offset is another, 413 if the file is too large, 415 for
/// another type, 503 if there is no place or the disk is busy, 507 if the disk is full.
#[utoipa::path(patch, path = "/api/v1/uploads/{id}", tag = "files",
    params(("id" = String, Path, description = "32 hexadecimal characters"),
        ("Upload-Offset" = u64, Header, description = "as HEAD gives it"),
        ("Upload-Complete" = String, Header, description = "?1 if the file ends with this body, else ?0")),
    request_body(content = Vec<u8>, content_type = "application/partial-upload"),
    security(("publish" = [])),
    responses(
        (status = 201, description = "whole, on disk and announced", body = Uploaded),
        (status = 204, description = "so far: Upload-Offset says from where to go on"),
        (status = 400, description = "headers that make no sense, an upload that is done, or the body broke off",
            body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "a token that does not allow publishing", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "no such upload, or none any more", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "the offset is another: Upload-Offset says it", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "larger than this relay's --file-size", body = Problem,
            content_type = "application/problem+json"),
        (status = 415, description = "not application/partial-upload, or packed", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
        (status = 507, description = "the disk is full: what is there stays", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn go_on(
    State(state): State<ApiState>,
    ConnectInfo(client): ConnectInfo<Client>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    go_on_with(&state, client, &id, request).await.map_err(ApiError::with_unread_body)
}

async fn go_on_with(
    state: &ApiState,
    client: Client,
    id: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let id: UploadId = id.parse()?;
    state.auth.may_publish(request.headers())?;
    let headers = request.headers();
    check_bare(headers)?;
    check_type(headers, PARTIAL)?;
    let complete = flag(headers, &UPLOAD_COMPLETE)?;
    let complete = complete.ok_or_else(|| missing("Upload-Complete: ?1, or ?0 if more follows"))?;
    let offset =
        number(headers, &UPLOAD_OFFSET)?.ok_or_else(|| missing("Upload-Offset, as HEAD gives it"))?;
    let place = state.files.place(client)?;
    let reached = state.files.files().upload(id).await?;
    if reached.done.is_some() {
        return Err(UploadError::Done.into());
    }
    if reached.offset() != offset {
        let error: ApiError = UploadError::Elsewhere.into();
        return Ok(with_offset(error.into_response(), reached.offset()));
    }
    receive(state, id, reached, complete, request, &place).await
}

/// How far an upload is.
///
/// # Errors
///
/// 400 if this is no id, 401 or 403 if the token does not allow it, 404 if there is no such upload, 503 if the disk is busy.
#[utoipa::path(head, path = "/api/v1/uploads/{id}", tag = "files",
    params(("id" = String, Path, description = "32 hexadecimal characters")),
    security(("publish" = [])),
    responses(
        (status = 204, description = "Upload-Offset, Upload-Complete, Upload-Limit; Content-Location is the file once it is whole"),
        (status = 400, description = "not an id"),
        (status = 401, description = "no token"),
        (status = 403, description = "a token that does not allow publishing"),
        (status = 404, description = "no such upload, or none any more"),
        (status = 503, description = "busy: see Retry-After"),
))]
pub async fn look(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id: UploadId = id.parse()?;
    state.auth.may_publish(&headers)?;
    let reached = state.files.files().upload(id).await?;
    let mut response = with_offset(StatusCode::NO_CONTENT.into_response(), reached.offset());
    let headers = response.headers_mut();
    headers.insert(UPLOAD_COMPLETE, flagged(reached.done.is_some()));
    headers.insert(UPLOAD_LIMIT, text(&limit(&state))?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(length) = reached.about.length {
        headers.insert(UPLOAD_LENGTH, HeaderValue::from(length));
    }
    if let Some((file, _)) = reached.done {
        headers.insert(header::CONTENT_LOCATION, place_of(&state, file)?);
    }
    Ok(response)
}

/// Ends an upload: what came of it goes. A file that is whole stays.
///
/// # Errors
///
/// As [`look`].
#[utoipa::path(delete, path = "/api/v1/uploads/{id}", tag = "files",
    params(("id" = String, Path, description = "32 hexadecimal characters")),
    security(("publish" = [])),
    responses(
        (status = 204, description = "forgotten"),
        (status = 400, description = "not an id", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "a token that does not allow publishing", body = Problem,
            content_type = "application/problem+json"),
        (status = 404, description = "no such upload, or none any more", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn discard(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let id: UploadId = id.parse()?;
    state.auth.may_publish(&headers)?;
    state.files.files().discard_upload(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a body to disk. What came of it stays if it breaks off, but for less than a chunk.
async fn receive(
    state: &ApiState,
    id: UploadId,
    reached: Reached,
    complete: bool,
    request: Request,
    place: &Held,
) -> Result<Response, ApiError> {
    let name = reached.about.name.clone();
    let mut incoming = Incoming::new(state.files.files().clone(), state.requests.clone(), id, reached);
    let mut body = request.into_body().into_data_stream();
    let taking = async {
        let mut progress = Progress::of(place);
        while let Some(data) = body.next().await {
            let data = data.map_err(|_| {
                ApiError::bad_request(
                    "the body broke off: ask with HEAD how far it came, and go on with PATCH",
                )
            })?;
            progress.handle_came(data.len());
            incoming.write(data).await?;
        }
        Ok::<_, ApiError>(())
    };
    tokio::select! {
        taken = taking => taken?,
        () = place.lost() => return Err(busy()),
    }
    if !complete {
        let mut response = with_offset(StatusCode::NO_CONTENT.into_response(), incoming.kept());
        let headers = response.headers_mut();
        headers.insert(UPLOAD_COMPLETE, flagged(false));
        headers.insert(UPLOAD_LIMIT, text(&limit(state))?);
        return Ok(response);
    }
    let (file, bytes) = incoming.finish().await?;
    let uploaded = Uploaded { id: file.to_string(), name, bytes };
    let mut response = with_offset((StatusCode::CREATED, Json(uploaded)).into_response(), bytes);
    let headers = response.headers_mut();
    headers.insert(UPLOAD_COMPLETE, flagged(true));
    headers.insert(header::LOCATION, place_of(state, file)?);
    Ok(response)
}

fn location(state: &ApiState, id: UploadId) -> String {
    format!("{}/api/v1/uploads/{id}", state.prefix)
}

fn limit(state: &ApiState) -> String {
    format!("max-size={}, max-age={KEPT_SECONDS}", state.files.limits().size)
}

fn with_offset(mut response: Response, offset: u64) -> Response {
    response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(offset));
    response
}

fn flagged(flag: bool) -> HeaderValue {
    HeaderValue::from_static(if flag { "?1" } else { "?0" })
}

fn missing(what: &str) -> ApiError {
    ApiError::bad_request(format!("send {what}"))
}

/// A Boolean (RFC 9651 section 3.3.6).
fn flag(headers: &HeaderMap, name: &HeaderName) -> Result<Option<bool>, ApiError> {
    match headers.get(name).map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"?1") => Ok(Some(true)),
        Some(b"?0") => Ok(Some(false)),
        Some(_) => Err(ApiError::bad_request(format!("{name} is ?1 or ?0"))),
    }
}

/// An Integer that is not below 0 (RFC 9651 section 3.3.1).
fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let digits =
        value.to_str().ok().filter(|text| text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| ApiError::bad_request(format!("{name} is a number of at most 15 digits")))
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> ApiError {
        match error {
            UploadError::Unknown => ApiError::not_found(
                "there is no such upload, or none any more: uploads are kept for 24 hours; begin another",
            ),
            UploadError::Other => ApiError::new(
                StatusCode::CONFLICT,
                "upload",
                "this upload is of another file: draw another id for this one",
            ),
            UploadError::Elsewhere => ApiError::new(
                StatusCode::CONFLICT,
                MISMATCH,
                "the upload is at another offset: Upload-Offset of HEAD says from where to go on",
            ),
            UploadError::Done => ApiError::new(
                StatusCode::BAD_REQUEST,
                "completed-upload",
                "the upload is done: Content-Location of HEAD says where the file is",
            ),
            UploadError::TooMany => {
                ApiError::unavailable("too many uploads are begun at this relay: try again in a minute", 60)
            }
            UploadError::File(error) => error.into(),
        }
    }
}

impl From<IncomingError> for ApiError {
    fn from(error: IncomingError) -> ApiError {
        match error {
            IncomingError::TooLarge(limit) => too_large(limit),
            IncomingError::Length => {
                ApiError::new(StatusCode::BAD_REQUEST, "inconsistent-upload-length", error.to_string())
            }
            IncomingError::Hash => ApiError::bad_request(error.to_string()),
            IncomingError::Upload(error) => error.into(),
            IncomingError::Request(error) => error.into(),
            IncomingError::Post(error) => error.into(),
        }
    }
}
