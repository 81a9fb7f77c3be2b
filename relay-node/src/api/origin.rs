//! Which names this relay answers to, and which pages may change something here.
//!
//! *Rebinding:* a page of the internet can make its own name point at this relay; for the browser the relay then
//! belongs to that page. Its name gives it away: it stands in `Host`, and is none of ours. A literal address cannot
//! be pointed elsewhere, and a name without a dot cannot be had in the public name system.
//!
//! *Foreign pages:* a browser tells where a page came from in `Origin`. Programs have none and always pass.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::error::ApiError;

/// The host that a trusted proxy was asked for.
#[derive(Debug, Clone)]
pub struct AskedHost(pub String);

/// Names and origins that are welcome here.
#[derive(Debug, Clone, Default)]
pub struct Welcome(Arc<Lists>);

#[derive(Debug, Default)]
struct Lists {
    /// In lower case; `*` is every name.
    hosts: BTreeSet<String>,
    /// As [`parse_origin`] writes them.
    origins: BTreeSet<String>,
}

/// Where the kernel says what this machine is called: it may change while the relay runs.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

impl Welcome {
    /// These names beside the machine's own, and these origins beside the relay's own.
    pub fn new(
        hosts: impl IntoIterator<Item = String>,
        origins: impl IntoIterator<Item = String>,
    ) -> Welcome {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
        Welcome(Arc::new(Lists { hosts, origins: origins.into_iter().collect() }))
    }

    /// Whether this relay is called so: `Host` as it came, with a port or without.
    fn answers_to(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        is_address(name)
            || !name.contains('.')
            || name.ends_with(".localhost")
            || self.0.hosts.contains(name)
            || self.0.hosts.contains("*")
            || is_hostname(name, &std::fs::read_to_string(HOSTNAME).unwrap_or_default())
    }

    /// Whether a page of `origin` may change something at the relay it knows as `host`.
    fn lets(&self, origin: &str, host: &str) -> bool {
        let origins = &self.0.origins;
        if origins.contains("*") {
            return true;
        }
        let Some(origin) = parse_origin(origin) else { return false };
        origins.contains(&origin) || is_own(&origin, host)
    }
}

/// Refuses who calls this relay by a name that is not its own, and pages of foreign origins that would change
/// something. WHIP and WHEP are for apps of any origin (RFC 9725 section 4.2): docs/api.md says why.
pub async fn guard(State(welcome): State<Welcome>, request: Request, next: Next) -> Response {
    match check(&welcome, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) fn check(welcome: &Welcome, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let host = host(request)?;
    if !host.is_empty() && !welcome.answers_to(&host) {
        let title = format!(
            "this relay is not known by the name in Host: use its address, or start it with --allow-host {}",
            shown(without_port(&host))
        );
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host", title));
    }
    if !changes_something(request) {
        return Ok(());
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("?");
        if !welcome.lets(origin, &host) {
            let title = format!(
                "a page of another origin may not do this here: start the relay with --allow-origin {}",
                shown(origin)
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, "origin", title));
        }
    }
    Ok(())
}

/// The name the relay was called by, empty if by none.
fn host(request: &Request) -> Result<String, ApiError> {
    if let Some(AskedHost(host)) = request.extensions().get::<AskedHost>() {
        return Ok(host.clone());
    }
    // A target that is a whole URL goes before the header (RFC 9112 section 3.2.2).
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.as_str().rsplit('@').next().unwrap_or_default().to_owned());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map_or(Ok(""), HeaderValue::to_str);
    match (host, hosts.next()) {
        (Ok(host), None) => Ok(host.trim().to_owned()),
        _ => Err(ApiError::bad_request("send one Host header, with the name or address of this relay")),
    }
}

fn changes_something(request: &Request) -> bool {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let converses = request.headers().contains_key(header::UPGRADE);
    (!reads || converses) && !path.starts_with("/whip/") && !path.starts_with("/whep/")
}

/// An origin (RFC 6454) in one form: in lower case, without the port of its scheme. `null` and `*` are themselves.
pub fn parse_origin(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    if matches!(&*text, "null" | "*") {
        return Some(text);
    }
    let (scheme, authority) = text.split_once("://")?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']');
    let names = !without_port(authority).is_empty() && authority.chars().all(good);
    let known = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (names && known && !scheme.is_empty())
        .then(|| format!("{scheme}://{}", strip_port(authority, port_of(scheme))))
}

/// Whether a page of this origin came from the relay itself. Behind a proxy that speaks TLS the scheme is
/// another one than here, but name and port are what the browser asked for.
fn is_own(origin: &str, host: &str) -> bool {
    match origin.split_once("://") {
        Some((scheme @ ("http" | "https"), authority)) => {
            authority == strip_port(&host.to_ascii_lowercase(), port_of(scheme))
        }
        _ => false,
    }
}

fn port_of(scheme: &str) -> &'static str {
    match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => ":",
    }
}

fn strip_port<'a>(authority: &'a str, port: &str) -> &'a str {
    match authority.strip_suffix(port) {
        // What is left of an address in brackets keeps them.
        Some(name) if !name.contains(':') || name.ends_with(']') => name,
        _ => authority,
    }
}

/// The name or address of `Host`; an IPv6 address in its brackets.
fn without_port(host: &str) -> &str {
    match host.find(']') {
        Some(end) if host.starts_with('[') => match &host[end + 1..] {
            port if port.is_empty() || port.starts_with(':') => &host[..=end],
            _ => host,
        },
        _ => host.split(':').next().unwrap_or_default(),
    }
}

fn is_address(name: &str) -> bool {
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match bracketed {
        // An address of one link names the interface too (RFC 6874).
        Some(ip) => ip.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => name.parse::<IpAddr>().is_ok(),
    }
}

/// What this machine is called, and what multicast DNS calls it: with a number behind it where two have one name
/// (RFC 6762 section 9).
fn is_hostname(name: &str, hostname: &str) -> bool {
    let hostname = hostname.trim().to_ascii_lowercase();
    if hostname.is_empty() {
        return false;
    }
    let first = hostname.split('.').next().unwrap_or_default();
    let local = name.strip_suffix(".local").and_then(|label| label.strip_prefix(first));
    let numbered = |rest: &str| {
        rest.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    name == hostname || (!first.is_empty() && local.is_some_and(|rest| rest.is_empty() || numbered(rest)))
}

/// Fit to be repeated in an error.
fn shown(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(100).collect()
}

const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const ALLOWED_HEADERS: &str =
    "content-type, authorization, range, if-range, upload-offset, upload-complete, upload-length";
const EXPOSED: &str = "retry-after, etag, location, content-location, content-range, content-disposition, upload-offset, \
    upload-complete, upload-length, upload-limit";

/// CORS of the API: pages of any origin may read what is told here, refusals included, as there are no cookies
/// that could be misused. What they may change is for [`guard`].
pub async fn share(request: Request, next: Next) -> Response {
    if !is_shared(request.uri().path()) {
        return next.run(request).await;
    }
    let asks = *request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    // Every path that is there answers a preflight, whatever its methods are.
    if asks && response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response = StatusCode::NO_CONTENT.into_response();
        put(
            response.headers_mut(),
            [
                (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, "86400"),
            ],
        );
    }
    let every = HeaderValue::from_static("*");
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, every);
    put(response.headers_mut(), [(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)]);
    response
}

fn put<const N: usize>(headers: &mut HeaderMap, lines: [(HeaderName, &'static str); N]) {
    headers.extend(lines.map(|(name, value)| (name, HeaderValue::from_static(value))));
}

fn is_shared(path: &str) -> bool {
    (path.starts_with("/api/v1/") && !path.ends_with("/ws")) || path == "/version"
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use proptest::prelude::*;

    use super::*;

    fn welcome(hosts: &[&str], origins: &[&str]) -> Welcome {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Welcome::new(own(hosts), own(origins).into_iter().map(|text| parse_origin(&text).expect("an origin")))
    }

    fn status(welcome: &Welcome, request: axum::http::request::Builder) -> u16 {
        let request = request.body(Body::empty()).expect("a request");
        check(welcome, &request).map_or_else(|refusal| refusal.status().as_u16(), |()| 200)
    }

    #[test]
    fn addresses_and_own_names_are_answered_to_and_no_others() {
        let welcome = welcome(&["Relay.Example.org"], &[]);
        for host in [
            "10.0.0.1",
            "203.0.113.9:8080",
            "[::1]",
            "[fe80::1%25eth0]:8080",
            "[fe80::1%eth0]",
            "localhost:1",
            "a.localhost",
            "relay",
            "relay:8080",
            "x",
            "relay.example.org",
            "RELAY.example.org.:8080",
            "",
        ] {
            assert!(welcome.answers_to(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "10.0.0.1.evil.example",
            "a.relay.example.org",
            "relay.example.org.evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "some-other-box.local",
            "[::1].evil.example",
            "[evil.example]",
            "1.2.3",
        ] {
            assert!(!welcome.answers_to(host), "{host}");
        }
        assert!(self::welcome(&["*"], &[]).answers_to("evil.example"));
    }

    #[test]
    fn the_machine_is_known_by_its_name_and_what_multicast_dns_makes_of_it() {
        for (name, hostname, own) in [
            ("gate.local", "gate\n", true),
            ("gate-2.local", "gate", true),
            ("gate-x.local", "gate", false),
            ("gates.local", "gate", false),
            ("gate.example.org", "gate.example.org", true),
            ("gate.local", "Gate.example.org", true),
            ("gate.example.com", "gate.example.org", false),
            ("gate.example.com", "gate", false),
            (".local", "", false),
            ("x.local", "", false),
        ] {
            assert_eq!(is_hostname(name, hostname), own, "{name} at {hostname:?}");
        }
    }

    #[test]
    fn a_page_may_change_something_where_it_came_from_and_where_it_is_allowed() {
        let welcome = welcome(&[], &["https://app.example", "http://app.example:80"]);
        for (origin, host, allowed) in [
            ("http://10.0.0.1:8080", "10.0.0.1:8080", true),
            ("http://relay", "relay", true),
            ("http://relay", "relay:80", true),
            ("http://relay:80", "relay", true),
            ("https://relay.example", "relay.example", true),
            ("https://relay.example", "relay.example:443", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("http://[::1]", "[::1]:80", true),
            ("HTTP://RELAY:8080", "relay:8080", true),
            ("https://app.example", "10.0.0.1:8080", true),
            ("https://app.example:443", "10.0.0.1:8080", true),
            ("http://app.example", "10.0.0.1:8080", true),
            ("http://app.example:81", "10.0.0.1:8080", false),
            ("http://10.0.0.1:8081", "10.0.0.1:8080", false),
            ("http://10.0.0.2:8080", "10.0.0.1:8080", false),
            ("http://10.0.0.1", "10.0.0.1:8080", false),
            ("http://evil.example", "10.0.0.1:8080", false),
            ("ftp://10.0.0.1:8080", "10.0.0.1:8080", false),
            ("null", "10.0.0.1:8080", false),
            ("", "10.0.0.1:8080", false),
            ("10.0.0.1:8080", "10.0.0.1:8080", false),
            ("http://", "", false),
        ] {
            assert_eq!(welcome.lets(origin, host), allowed, "{origin} at {host}");
        }
        assert!(self::welcome(&[], &["*"]).lets("http://evil.example", "relay"));
        assert!(self::welcome(&[], &["null"]).lets("null", "relay"));
    }

    #[test]
    fn only_what_changes_something_asks_for_the_origin() {
        let welcome = welcome(&[], &[]);
        let foreign = |method: &str, path: &str| {
            Request::builder()
                .method(method)
                .uri(path)
                .header("host", "relay")
                .header("origin", "http://evil.example")
        };
        let room = "/api/v1/rooms/lobby/messages";
        assert_eq!(status(&welcome, foreign("GET", room)), 200);
        assert_eq!(status(&welcome, foreign("OPTIONS", room)), 200);
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(status(&welcome, foreign(method, room)), 403, "{method}");
        }
        let ws = foreign("GET", "/api/v1/rooms/lobby/ws").header("upgrade", "websocket");
        assert_eq!(status(&welcome, ws), 403);
        for path in ["/whip/main-stage", "/whep/main-stage/0000"] {
            assert_eq!(status(&welcome, foreign("POST", path)), 200, "{path}");
        }
        let twice = Request::post(room).header("host", "relay").header("origin", "http://relay");
        assert_eq!(status(&welcome, twice.header("origin", "http://evil.example")), 403);
        assert_eq!(status(&welcome, Request::post(room).header("host", "relay")), 200, "no page, a program");
    }

    #[test]
    fn the_name_is_looked_for_everywhere_it_may_stand() {
        let welcome = welcome(&[], &[]);
        let at = |uri: &str| Request::get(uri);
        assert_eq!(status(&welcome, at("/livez")), 200, "HTTP/1.0 knows no Host");
        assert_eq!(status(&welcome, at("/livez").header("host", "evil.example")), 421);
        assert_eq!(status(&welcome, at("http://evil.example/livez").header("host", "relay")), 421);
        assert_eq!(status(&welcome, at("http://relay/livez").header("host", "evil.example")), 200);
        assert_eq!(status(&welcome, at("/").header("host", "relay").header("host", "evil.example")), 400);
        let behind = at("/").header("host", "relay").extension(AskedHost("evil.example".to_owned()));
        assert_eq!(status(&welcome, behind), 421);
    }

    #[test]
    fn a_refusal_names_the_flag_that_would_allow_it() {
        let refusal = |request: axum::http::request::Builder| {
            let request = request.body(Body::empty()).expect("a request");
            check(&welcome(&[], &[]), &request).expect_err("is refused").title().to_owned()
        };
        let title = refusal(Request::get("/").header("host", "relay.example:8080"));
        assert!(title.ends_with("--allow-host relay.example"), "{title}");
        let foreign = Request::post("/").header("host", "relay").header("origin", "http://app.example:81");
        let title = refusal(foreign);
        assert!(title.ends_with("--allow-origin http://app.example:81"), "{title}");
    }

    proptest! {
        #[test]
        fn any_host_and_origin_is_read_without_harm(host in "[ -~]{0,60}", origin in "[ -~]{0,60}") {
            let welcome = welcome(&["relay.example"], &["https://app.example"]);
            let request = Request::post("/").header("host", &host).header("origin", &origin);
            status(&welcome, request);
        }

        #[test]
        fn a_name_with_a_dot_that_is_not_ours_is_never_answered_to(name in "[a-z]{1,8}[.][a-z]{2,8}", port: u16) {
            prop_assume!(!name.ends_with(".local") && !name.ends_with(".localhost"));
            prop_assert!(!welcome(&[], &[]).answers_to(&format!("{name}:{port}")), "{}", name);
        }
    }
}
