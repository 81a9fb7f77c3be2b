//! The pages: the built web client inside the binary, compressed once, with the headers that keep a
//! browser from running anything that is not the relay's own.

use std::{collections::BTreeMap, io::Write, sync::LazyLock};

use axum::{
    Router,
    body::Bytes,
    extract::{OriginalUri, Path, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use rust_embed::RustEmbed;

use super::{conditions::EntityTags, error::ApiError};

#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Built;

/// One file of the web client.
struct Asset {
    content_type: HeaderValue,
    etag: HeaderValue,
    plain: Bytes,
    /// Where it is smaller.
    gzip: Option<Bytes>,
}

static ASSETS: LazyLock<BTreeMap<String, Asset>> = LazyLock::new(|| {
    let load = |name: std::borrow::Cow<'static, str>| {
        Built::get(&name).map(|file| (name.to_string(), Asset::new(&name, &file)))
    };
    Built::iter().filter_map(load).collect()
});

/// A page of ours loads its own files, talks to its own relay and nothing else; nothing inline runs.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src 'self'; img-src 'self' data:; \
    media-src 'self' blob:; worker-src 'self' blob:; style-src 'self'; script-src 'self'; object-src 'none'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const PERMISSIONS_POLICY: &str = "microphone=(self), camera=(self), display-capture=(self), \
    autoplay=(self), screen-wake-lock=(self), geolocation=(), payment=(), usb=()";

/// The pages and their files.
pub fn router() -> Router {
    Router::new()
        .route("/", get(front))
        // Links of a page are relative: below `/publish/` they would lead elsewhere.
        .route("/publish/", get(|| async { Redirect::permanent("../publish") }))
        .route("/organizer/", get(|| async { Redirect::permanent("../organizer") }))
        .route("/publish", get(|headers: HeaderMap| async move { page("publish.html", &headers) }))
        .route("/organizer", get(|headers: HeaderMap| async move { page("organizer.html", &headers) }))
        .route("/assets/{*file}", get(hashed))
}

/// `/`. Below a path of `--public-url` it may be asked for without the `/` at the end.
async fn front(OriginalUri(uri): OriginalUri, headers: HeaderMap) -> Response {
    if !uri.path().ends_with('/') {
        return Redirect::permanent(&format!("{}/", uri.path())).into_response();
    }
    page("index.html", &headers)
}

/// Of what is no document: nothing is loaded by it, whatever somebody takes it for.
const NO_DOCUMENT: &str = "default-src 'none'; frame-ancestors 'none'";
/// What a program reads and a browser does not show.
const NO_DOCUMENTS: [&str; 4] =
    ["application/json", "application/problem+json", "application/sdp", "text/event-stream"];

/// Puts the security headers on every answer. What a page asks for while it plays gets few: 600 octets of headers are a tenth of
/// a second of a path that carries little more than the sound.
pub async fn secure(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim_end());
    if media_type.is_none_or(|media_type| NO_DOCUMENTS.contains(&media_type)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(NO_DOCUMENT));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        return response;
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("permissions-policy"), PERMISSIONS_POLICY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn page(name: &str, headers: &HeaderMap) -> Response {
    match ASSETS.get(name) {
        Some(asset) => asset.answer(headers, "no-cache"),
        None if ASSETS.is_empty() => Html(NOT_BUILT).into_response(),
        None => ApiError::not_found("this relay was built without this page").into_response(),
    }
}

/// A file beside the pages, such as an icon; `None` if there is none at `path`.
pub fn beside_pages(path: &str, headers: &HeaderMap) -> Option<Response> {
    let asset = ASSETS.get(path.strip_prefix('/')?)?;
    Some(asset.answer(headers, "no-cache"))
}

/// Their names contain a hash of their content: a name never means anything else.
async fn hashed(Path(file): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.get(&format!("assets/{file}")) {
        Some(asset) => asset.answer(&headers, "public, max-age=31536000, immutable"),
        None => ApiError::not_found("this relay has another release of its pages: reload").into_response(),
    }
}

impl Asset {
    fn new(name: &str, file: &rust_embed::EmbeddedFile) -> Asset {
        let plain = Bytes::copy_from_slice(&file.data);
        let etag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..12]));
        let content_type = HeaderValue::from_static(content_type(name));
        let gzip = compress(&plain).filter(|gzip| gzip.len() < plain.len() * 9 / 10);
        let etag = HeaderValue::try_from(etag).expect("hexadecimal characters in quotes are a header value");
        Asset { content_type, etag, plain, gzip }
    }

    fn answer(&self, request: &HeaderMap, cache: &'static str) -> Response {
        let etag = self.etag.to_str().unwrap_or_default();
        // Weak comparison: compressed or not is the same page.
        let cached = EntityTags::of(request, header::IF_NONE_MATCH);
        let fresh = cached.is_some_and(|tags| tags.name(etag.trim_matches('"')));
        let gzip = self.gzip.as_ref().filter(|_| accepts_gzip(request));
        let mut response = match (fresh, gzip) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, Some(gzip)) => gzip.clone().into_response(),
            (false, None) => self.plain.clone().into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        match gzip {
            Some(_) => {
                // One ETag for both forms has to be a weak one.
                let weak = HeaderValue::try_from(format!("W/{etag}"));
                headers.insert(header::ETAG, weak.unwrap_or_else(|_| self.etag.clone()));
                if !fresh {
                    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                }
            }
            None => {
                headers.insert(header::ETAG, self.etag.clone());
            }
        }
        response
    }
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let value = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
    })
}

fn compress(plain: &[u8]) -> Option<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        "map" => "application/json",
        _ => "application/octet-stream",
    }
}

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>PeddleNet Relay</title>\
<h1>This relay runs, but without its pages</h1>\
<p>It was built before the web client. To have the pages, build both (needs node 20.19 or later):</p>\
<pre>cd web &amp;&amp; npm ci &amp;&amp; npm run build\ncargo build --release -p relay-node</pre>\
<p>or let <code>script/run</code> do it. Everything else works: \
<a href=\"api/v1/streams\">streams</a>, <a href=\"api/v1/mesh\">mesh</a>, \
<a href=\"api/v1/openapi.json\">the API</a>, WHIP and WHEP.</p></html>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (value, expected) in [
            ("gzip, br", true),
            ("br;q=1, GZIP;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("br", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().expect("a header"));
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
    }

    #[test]
    fn the_pages_tests_need_no_inline_script() {
        assert!(!NOT_BUILT.contains("<script") && !NOT_BUILT.contains("style="));
    }
}
