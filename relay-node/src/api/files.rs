//! Files over HTTP: `/api/v1/rooms/{room}/files` takes and lists them, `/api/v1/files/{id}` gives them, whole
//! or by ranges, from any relay. Where their bytes are is for `files` and the mesh.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{ConnectInfo, Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
#[cfg(test)]
use mesh_routing::blob::{Block, Chunk};
use mesh_routing::blob::{Manifest, manifest::CHUNK_BITS};
use protocol::{
    FileId, RoomName,
    api::{Problem, SharedFile, Uploaded},
};
use rooms::file::{check_giver, media_type, shown_name};
use serde::Deserialize;

use super::{
    ApiState,
    conditions::EntityTags,
    content::{check_unpacked, content_type, declared_length},
    error::ApiError,
    file_headers::{Wanted, describe, parse_range},
    rate_limit::Rate,
    uploads,
};
use crate::{
    client::Client,
    clock,
    drop_reason::DropReason,
    incoming::announce,
    node_loop::request::{FileRequest, NodeRequest},
    outgoing::{Outgoing, OutgoingError, manifest_of},
    places::{
        Held, Places,
        shares::{GivesWay, Policy},
    },
    storage::files::{FileError, FileLimits, Files, Given},
};

/// Uploads at a time: each holds a chunk of 1 MiB in memory.
const UPLOADS_MAX: usize = 16;
/// Downloads at a time: each holds a block in memory.
const DOWNLOADS_MAX: usize = 256;
/// Of the greediest address the youngest gives way: it has the least to lose. One that did not get [`PROGRESS`]
/// further for so long gives way to others of its own address.
const SHARED: Policy = Policy { gives_way: GivesWay::Youngest, patience: Duration::from_secs(10) };
const PROGRESS: usize = 64 * 1024;
/// Bytes given to a client at a time.
const BLOCK: u32 = 64 * 1024;

/// Tells the place of an upload what comes of it.
pub(super) struct Progress<'a> {
    place: &'a Held,
    unsaid: usize,
}

impl<'a> Progress<'a> {
    pub(super) fn of(place: &'a Held) -> Progress<'a> {
        Progress { place, unsaid: 0 }
    }

    /// So many octets came.
    pub(super) fn handle_came(&mut self, octets: usize) {
        self.unsaid += octets;
        if self.unsaid >= PROGRESS {
            self.unsaid = 0;
            self.place.progress();
        }
    }
}

/// Files on disk and who may have them when.
#[derive(Debug, Clone)]
pub struct FilesState {
    files: Files,
    uploads: Places,
    downloads: Places,
    rate: Arc<Rate>,
}

impl FilesState {
    /// Nobody is there yet.
    pub fn new(files: Files) -> FilesState {
        FilesState {
            files,
            uploads: Places::new(UPLOADS_MAX, SHARED, DropReason::UploadGaveWay, DropReason::UploadRefused),
            downloads: Places::new(
                DOWNLOADS_MAX,
                SHARED,
                DropReason::DownloadGaveWay,
                DropReason::DownloadRefused,
            ),
            rate: Arc::new(Rate::new(30, Duration::from_secs(2))),
        }
    }
}

impl FilesState {
    /// The way to the disk of files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Places of uploads, and of downloads.
    pub fn places(&self) -> (Places, Places) {
        (self.uploads.clone(), self.downloads.clone())
    }

    pub(super) fn limits(&self) -> FileLimits {
        self.files.limits()
    }

    /// A place for an upload.
    pub(super) fn place(&self, client: Client) -> Result<Held, ApiError> {
        if !client.local && !self.rate.take(client.holder(), clock::now()) {
            return Err(ApiError::too_many_requests("too many files from this address: wait a little", 10));
        }
        self.uploads.take(client.holder()).map_err(|_| busy())
    }
}

#[cfg(test)]
impl FilesState {
    /// Waits until the disk has done all that was asked of it before.
    pub async fn settled(&self) {
        for _ in 0..2 {
            drop(self.files.begin(0).await.expect("there is room"));
        }
        let block = Block { file: FileId([0; 32]), chunk: Chunk::Manifest, offset: 0, length: 1 };
        assert_eq!(self.files.read(block).await, None);
    }
}

/// How an upload is called.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Called {
    /// The file's name; what is unfit to be shown or to be saved under is taken out of it.
    #[serde(default)]
    pub(super) name: String,
    /// Who gives it: 1 to 64 characters; without it `somebody`.
    #[serde(default)]
    from: String,
    /// 32 random hexadecimal characters: begins an upload that goes on where it broke (`/api/v1/uploads/{id}`).
    #[serde(default)]
    pub(super) upload: Option<String>,
}

impl Called {
    /// Who gives it.
    pub(super) fn giver(&self) -> Result<String, ApiError> {
        let giver = if self.from.is_empty() { "somebody" } else { &self.from };
        check_giver(giver)?;
        Ok(giver.to_owned())
    }
}

/// Gives a file to a room: the body is its bytes, `Content-Type` what it is. Also as PUT, for `curl -T`.
///
/// # Errors
///
/// 400 for a name or a query that makes no sense and a body that breaks off, 401 or 403 if the token does not
/// allow it, 413 if the file is too large, 415 if it is packed or in a form, 422 for a giver without a name
/// that can be shown, 429 if the address gives too much, 503 if there is no place, or the disk or the node
/// loop is busy, 507 if the disk is full.
#[utoipa::path(post, path = "/api/v1/rooms/{room}/files", tag = "files",
    params(("room" = String, Path, description = "1 to 64 of a-z, 0-9 and -"), Called),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    security(("publish" = [])),
    responses(
        (status = 201, description = "on disk and announced; Location is where any relay gives it. Of an upload that goes on: \
            Location is where", body = Uploaded),
        (status = 400, description = "no such room name, a query that cannot be read, or the body broke off",
            body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "no token", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "a token that does not allow publishing", body = Problem,
            content_type = "application/problem+json"),
        (status = 413, description = "larger than this relay's --file-size", body = Problem,
            content_type = "application/problem+json"),
        (status = 415, description = "a form around the file, or a packed body", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "the name of who gives it is not as it has to be", body = Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "the upload is begun already, or of another file", body = Problem,
            content_type = "application/problem+json"),
        (status = 429, description = "too many files from one address: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
        (status = 507, description = "the disk is full: chat and media are not touched by it", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn upload(
    State(state): State<ApiState>,
    ConnectInfo(client): ConnectInfo<Client>,
    Path(room): Path<String>,
    called: Result<Query<Called>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let called = called.map(|Query(called)| called);
    let given = match called {
        Ok(called) if called.upload.is_some() => uploads::begin(&state, client, room, called, request).await,
        called => give(&state, client, room, called, request).await,
    };
    given.map_err(ApiError::with_unread_body)
}

/// Takes a file at once, and says where it is.
async fn give(
    state: &ApiState,
    client: Client,
    room: String,
    called: Result<Called, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (id, uploaded) = take(state, client, room, called, request).await?;
    let mut response = (StatusCode::CREATED, Json(uploaded)).into_response();
    response.headers_mut().insert(header::LOCATION, place_of(state, id)?);
    Ok(response)
}

/// Where a file is.
pub(super) fn place_of(state: &ApiState, file: FileId) -> Result<HeaderValue, ApiError> {
    text(&format!("{}/api/v1/files/{file}", state.prefix))
}

/// The value of a header.
pub(super) fn text(value: &str) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(value).map_err(|_| ApiError::internal())
}

async fn take(
    state: &ApiState,
    client: Client,
    room: String,
    called: Result<Called, QueryRejection>,
    request: Request,
) -> Result<(FileId, Uploaded), ApiError> {
    let room = RoomName::new(room)?;
    state.auth.may_publish(request.headers())?;
    check_bare(request.headers())?;
    let called = called.map_err(|_| ApiError::bad_request("the query may have ?name=… and from=…"))?;
    let limits = state.files.files.limits();
    let declared = declared_length(request.headers());
    if declared.is_some_and(|length| length > limits.size) {
        return Err(too_large(limits.size));
    }
    let from = called.giver()?;
    let place = state.files.place(client)?;
    let media_type = media_type(content_type(request.headers()));
    let name = shown_name(&called.name);
    let body = request.into_body();
    let receiving = receive(&state.files.files, body, (name.clone(), media_type.clone()), declared, &place);
    let (given, manifest) = tokio::select! {
        received = receiving => received?,
        () = place.lost() => return Err(busy()),
    };
    let (file, length) = (given.file(), manifest.length);
    announce(&state.requests, room, (given, manifest), from, || ()).await?;
    Ok((file, Uploaded { id: file.to_string(), name, bytes: length }))
}

/// The body is the file and nothing else: an envelope around it would be stored with it.
pub(super) fn check_bare(headers: &HeaderMap) -> Result<(), ApiError> {
    check_unpacked(headers)?;
    if content_type(headers).trim_start().to_ascii_lowercase().starts_with("multipart/") {
        let title = "send the file itself as the body, not a form around it: `curl -T FILE` or `--data-binary \
                     @FILE` in place of `-F`, with its own Content-Type";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type", title));
    }
    Ok(())
}

/// Takes the body to disk chunk by chunk. What was begun and not finished leaves nothing behind.
async fn receive(
    files: &Files,
    body: Body,
    (name, media_type): (String, String),
    declared: Option<u64>,
    place: &Held,
) -> Result<(Given, Manifest), ApiError> {
    let limits = files.limits();
    let draft = files.begin(declared.unwrap_or_default()).await?;
    let (mut buffer, mut chunks, mut length) = (Vec::new(), Vec::new(), 0u64);
    let mut body = body.into_data_stream();
    let mut progress = Progress::of(place);
    loop {
        let data = body.next().await.transpose();
        let data = data.map_err(|_| ApiError::bad_request("the body did not arrive whole: send it again"))?;
        let last = data.is_none();
        let mut data = data.unwrap_or_default();
        length += data.len() as u64;
        progress.handle_came(data.len());
        if length > limits.size {
            return Err(too_large(limits.size));
        }
        loop {
            let room = (1 << CHUNK_BITS) - buffer.len();
            buffer.extend_from_slice(&data.split_to(room.min(data.len())));
            if buffer.len() == 1 << CHUNK_BITS || (last && !buffer.is_empty()) {
                let chunk = Bytes::from(std::mem::take(&mut buffer));
                let number = chunks.len() as u32;
                chunks.push(*blake3::hash(&chunk).as_bytes());
                draft.append(number, chunk).await?;
            }
            if data.is_empty() {
                break;
            }
        }
        if last {
            break;
        }
    }
    let manifest = Manifest { name, media_type, length, chunk_bits: CHUNK_BITS, chunks };
    let given = draft.publish(manifest.clone()).await?;
    Ok((given, manifest))
}

/// The files of a room in the order in which they were given, and how much of each is here.
///
/// # Errors
///
/// 400 if the name is none of a room, 503 if the node loop is busy or stops.
#[utoipa::path(get, path = "/api/v1/rooms/{room}/files", tag = "files",
    params(("room" = String, Path, description = "1 to 64 of a-z, 0-9 and -")),
    responses(
        (status = 200, description = "at most 500", body = [SharedFile]),
        (status = 400, description = "no such room name", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy: see Retry-After", body = Problem,
            content_type = "application/problem+json"),
))]
pub async fn list(
    State(state): State<ApiState>,
    Path(room): Path<String>,
) -> Result<Json<Vec<SharedFile>>, ApiError> {
    let room = RoomName::new(room)?;
    Ok(Json(state.requests.ask(|reply| NodeRequest::File(FileRequest::List { room, reply })).await?))
}

/// A file, or a range of it. It begins as soon as the first chunk is here, wherever it comes from.
///
/// # Errors
///
/// 400 if this is no id, 404 if no room has the file, 412 if `If-Match` names another one, 503 if there is no
/// place, nobody who has it can be reached, or the node loop is busy or stops. A range outside of the file is
/// answered with 416.
#[utoipa::path(get, path = "/api/v1/files/{id}", tag = "files",
    params(("id" = String, Path, description = "64 hexadecimal characters")),
    responses(
        (status = 200, description = "the bytes; ETag is the id", content_type = "application/octet-stream"),
        (status = 206, description = "the range that was asked for"),
        (status = 304, description = "If-None-Match has the id"),
        (status = 400, description = "not an id", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "no room has such a file", body = Problem,
            content_type = "application/problem+json"),
        (status = 412, description = "If-Match does not have the id", body = Problem,
            content_type = "application/problem+json"),
        (status = 416, description = "a range outside of the file", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "busy, or nobody who has it can be reached: see Retry-After",
            body = Problem, content_type = "application/problem+json"),
))]
pub async fn download(
    State(state): State<ApiState>,
    ConnectInfo(client): ConnectInfo<Client>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file: FileId = file.parse()?;
    let place = state.files.downloads.take(client.holder()).map_err(|_| busy())?;
    let manifest = manifest_of(&state.requests, file).await?;
    let (id, etag) = (file.to_string(), format!("\"{file}\""));
    if EntityTags::of(&headers, header::IF_MATCH).is_some_and(|tags| !tags.name_exactly(&id)) {
        let title = "If-Match names another file: the entity tag of a file is its id";
        return Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", title));
    }
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), &etag, &manifest).map_err(|_| ApiError::internal())?;
    if EntityTags::of(&headers, header::IF_NONE_MATCH).is_some_and(|tags| tags.name(&id)) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    // A range of another version would not fit what the client has.
    let ranged = EntityTags::of(&headers, header::IF_RANGE).is_none_or(|tags| tags.name_exactly(&id));
    let range = headers.get(header::RANGE).filter(|_| ranged).and_then(|value| value.to_str().ok());
    let (from, to) = match range.map_or(Wanted::All, |range| parse_range(range, manifest.length)) {
        Wanted::All => (0, manifest.length),
        Wanted::Some { from, to } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {from}-{}/{}", to - 1, manifest.length);
            let value = HeaderValue::from_str(&value).map_err(|_| ApiError::internal())?;
            response.headers_mut().insert(header::CONTENT_RANGE, value);
            (from, to)
        }
        Wanted::Outside => {
            let title = format!("this range is outside of the file: it has {} bytes", manifest.length);
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", title);
            let mut response = error.into_response();
            let value = format!("bytes */{}", manifest.length);
            let value = HeaderValue::from_str(&value).map_err(|_| ApiError::internal())?;
            response.headers_mut().insert(header::CONTENT_RANGE, value);
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(to - from));
    if method == Method::HEAD || from == to {
        return Ok(response);
    }
    let ends = (state.requests, state.files.files);
    let mut outgoing = Outgoing::new(ends, (file, manifest), (from, to), place);
    // The first block is waited for here: until it is there, there can be another answer.
    let first = outgoing.block(BLOCK).await?;
    let rest = stream::unfold(Some(outgoing), |outgoing| async move {
        let mut outgoing = outgoing?;
        if outgoing.is_over() {
            return None;
        }
        // One that has to give way breaks off too.
        let block = outgoing.block_or_lost(BLOCK).await;
        match block {
            Ok(bytes) => Some((Ok(bytes), Some(outgoing))),
            // The body breaks off: the client can go on from there with a range.
            Err(_) => Some((Err(std::io::Error::other("the rest cannot be reached")), None)),
        }
    });
    *response.body_mut() = Body::from_stream(stream::iter([Ok(first)]).chain(rest));
    Ok(response)
}

impl From<OutgoingError> for ApiError {
    fn from(error: OutgoingError) -> ApiError {
        match error {
            OutgoingError::Unknown => ApiError::not_found(error.to_string()),
            OutgoingError::Unreachable => ApiError::unavailable(error.to_string(), 10),
            OutgoingError::Busy | OutgoingError::Stopped => ApiError::unavailable(error.to_string(), 5),
            OutgoingError::Request(error) => error.into(),
        }
    }
}

pub(super) fn busy() -> ApiError {
    OutgoingError::Busy.into()
}

pub(super) fn too_large(limit: u64) -> ApiError {
    let title = format!("the file is too large: this relay takes {} MiB", limit >> 20);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title)
}

impl From<FileError> for ApiError {
    fn from(error: FileError) -> ApiError {
        match error {
            FileError::Full => ApiError::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk-full",
                "the disk is full: give a smaller file, or ask the zone operator for room",
            ),
            FileError::Busy => ApiError::unavailable("the disk is busy: try again in a few seconds", 5),
            FileError::Disk(error) => {
                tracing::error!(%error, "a file cannot be written");
                ApiError::unavailable("the disk refuses the file: the relay's log says why", 30)
            }
        }
    }
}
