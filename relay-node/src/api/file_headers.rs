//! What HTTP says of a file in headers, and which part of it a request wants: its type as far as a browser may believe
//! it, its name, ranges. The bytes are `files.rs`'s.

use axum::http::{HeaderMap, HeaderValue, header};
use mesh_routing::blob::Manifest;
use rooms::file::shown_name;

pub(super) fn describe(
    headers: &mut HeaderMap,
    etag: &str,
    manifest: &Manifest,
) -> Result<(), header::InvalidHeaderValue> {
    for (name, value) in [
        (header::ETAG, etag),
        (header::CONTENT_TYPE, harmless(&manifest.media_type)),
        (header::CONTENT_DISPOSITION, &disposition(&manifest.name)),
        (header::ACCEPT_RANGES, "bytes"),
        // The id is the hash: it never means anything else.
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_str(value)?);
    }
    Ok(())
}

/// The type, if a browser does nothing with it but show or play it: what could run in the name of this relay
/// is octets.
fn harmless(media_type: &str) -> &str {
    const IMAGES: [&str; 5] = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
    let plays = media_type.starts_with("audio/") || media_type.starts_with("video/");
    let shows = IMAGES.contains(&media_type) || matches!(media_type, "application/pdf" | "text/plain");
    let token = media_type.bytes().all(|b| b.is_ascii_graphic());
    if (plays || shows) && token { media_type } else { "application/octet-stream" }
}

/// `Content-Disposition` (RFC 6266) with a name of any language, and one of plain letters for old clients.
fn disposition(name: &str) -> String {
    let name = shown_name(name);
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, ' ' | '.' | '-' | '_') { c } else { '_' })
        .collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        // attr-char of RFC 5987.
        match byte {
            b if b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&b) => encoded.push(char::from(b)),
            b => encoded.push_str(&format!("%{b:02X}")),
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    All,
    Some { from: u64, to: u64 },
    Outside,
}

/// One range (RFC 9110 section 14.2). Several, and what makes no sense, are as good as none.
pub(super) fn parse_range(value: &str, length: u64) -> Wanted {
    let Some((from, to)) = value.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::All;
    };
    let number = |text: &str| {
        let text = text.trim();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(from), number(to), from.trim().is_empty(), to.trim().is_empty()) {
        (Some(from), Some(to), ..) if from > to => Wanted::All,
        (Some(from), ..) if from >= length && (number(to).is_some() || to.trim().is_empty()) => {
            Wanted::Outside
        }
        (Some(from), Some(to), ..) => Wanted::Some { from, to: length.min(to.saturating_add(1)) },
        (Some(from), None, _, true) => Wanted::Some { from, to: length },
        (None, Some(0), true, _) => Wanted::Outside,
        (None, Some(_), true, _) if length == 0 => Wanted::Outside,
        (None, Some(last), true, _) => Wanted::Some { from: length.saturating_sub(last), to: length },
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_the_standard_says() {
        for (value, wanted) in [
            ("bytes=0-0", Wanted::Some { from: 0, to: 1 }),
            ("bytes=5-", Wanted::Some { from: 5, to: 10 }),
            ("bytes=-3", Wanted::Some { from: 7, to: 10 }),
            ("bytes=-30", Wanted::Some { from: 0, to: 10 }),
            ("bytes=2-99999999999999999999999", Wanted::Some { from: 2, to: 10 }),
            ("bytes=10-", Wanted::Outside),
            ("bytes=10-12", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=99999999999999999999999-", Wanted::Outside),
            ("bytes=5-2", Wanted::All),
            ("bytes=0-1,4-5", Wanted::All),
            ("bytes=", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=+1-2", Wanted::All),
            ("lines=1-2", Wanted::All),
        ] {
            assert_eq!(parse_range(value, 10), wanted, "{value}");
        }
        assert_eq!(parse_range("bytes=-1", 0), Wanted::Outside);
    }

    #[test]
    fn a_name_cannot_leave_its_header() {
        assert_eq!(
            disposition("Grüße \"x\"; a=b\r\n.pdf"),
            "attachment; filename=\"Gr__e _x__ a_b.pdf\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20_x_%3B%20a%3Db.pdf"
        );
        for name in ["..", "", "\0", "\u{202e}", &"x".repeat(4096)] {
            assert!(HeaderValue::from_str(&disposition(name)).is_ok());
        }
    }

    #[test]
    fn what_could_run_here_is_octets() {
        for (given, sent) in [
            ("image/png", "image/png"),
            ("audio/ogg", "audio/ogg"),
            ("text/html", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("text/javascript", "application/octet-stream"),
            ("audio/a\r\nb", "application/octet-stream"),
        ] {
            assert_eq!(harmless(given), sent);
        }
    }
}
