//! Who asks: the address at the other end of the connection, or, where that is a proxy the operator trusts, the
//! one it says the request came from (`Forwarded`, RFC 7239, or `X-Forwarded-For`).

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};

use crate::places::shares::Holder;

/// Octets of such a header that are read, and addresses in it; what is longer says nothing.
const HEADER_MAX: usize = 4096;
const HOPS_MAX: usize = 32;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What a proxy leaves behind.
const MARKS: [HeaderName; 6] = [
    header::FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
    header::VIA,
];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// It is a program on this machine, as load tests are, and nobody behind a proxy on this machine: limits on
    /// how often an address asks do not hold for it.
    pub local: bool,
}

impl Client {
    /// Whose share of places it uses.
    pub fn holder(&self) -> Holder {
        self.address.into()
    }
}

/// An address, or all those that begin with its first bits: `10.0.0.7`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Reads `ADDRESS[/PREFIX]`.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits)?,
            None => bits,
        };
        Some(Network { address, prefix })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let shift = 32 - u32::from(self.prefix);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let shift = 128 - u32::from(self.prefix);
                (own.to_bits() ^ other.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The proxies the operator trusts to say whom they ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Those in these networks.
    pub fn new(networks: Vec<Network>) -> Proxies {
        Proxies(networks)
    }

    /// Whether this address is one of theirs.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Who asks with these headers over a connection from `peer`: the nearest address that is no trusted proxy.
    /// What cannot be read, and what one header says and another one does not, is the proxy's own.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Client {
        let peer = peer.ip().to_canonical();
        let marked = MARKS.iter().any(|name| headers.contains_key(name));
        if !self.trusts(peer) {
            return Client { address: peer, local: peer.is_loopback() && !marked };
        }
        let hops = match (headers.contains_key(header::FORWARDED), headers.contains_key(FORWARDED_FOR)) {
            (true, false) => listed(headers, &header::FORWARDED, quoted, forwarded_for),
            (false, true) => listed(headers, &FORWARDED_FOR, plain, node),
            // A proxy writes one of them and may pass on the other as the client sent it.
            _ => Vec::new(),
        };
        let mut address = peer;
        for hop in hops.into_iter().rev().take(HOPS_MAX) {
            let Some(hop) = hop else { break };
            address = hop;
            if !self.trusts(hop) {
                break;
            }
        }
        Client { address, local: false }
    }

    /// The host that was asked for, if a trusted proxy says another one than it asks itself.
    pub fn host(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<String> {
        if !self.trusts(peer.ip()) {
            return None;
        }
        let hosts = match (headers.contains_key(header::FORWARDED), headers.contains_key(FORWARDED_HOST)) {
            (true, false) => {
                listed(headers, &header::FORWARDED, quoted, |element| parameter(element, "host"))
            }
            (false, true) => listed(headers, &FORWARDED_HOST, plain, |host| Some(host.to_owned())),
            _ => return None,
        };
        hosts.into_iter().next_back().flatten()
    }
}

/// The elements of a list header, all its lines joined (RFC 9110 section 5.3), read by `read`.
fn listed<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    elements: impl Fn(&str) -> Vec<&str>,
    read: impl Fn(&str) -> Option<T>,
) -> Vec<Option<T>> {
    let lines: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    if lines.iter().map(|line| line.len()).sum::<usize>() > HEADER_MAX {
        return Vec::new();
    }
    lines.iter().flat_map(|line| elements(line)).map(|element| read(element.trim())).collect()
}

/// `X-Forwarded-…` know no quotes, `Forwarded` does.
fn plain(line: &str) -> Vec<&str> {
    line.split(',').collect()
}

/// A line with a quote left open is one element, of which nothing can be read.
fn quoted(line: &str) -> Vec<&str> {
    split(line, ',').unwrap_or_else(|| vec![line])
}

/// Splits where `at` stands outside of quotes; `None` if a quote is left open: it may be the client's, and swallow
/// what the proxy wrote behind it.
fn split(text: &str, at: char) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == at && !quoted => {
                parts.push(&text[begin..index]);
                begin = index + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    (!quoted).then_some(parts)
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    node(&parameter(element, "for")?)
}

/// The value of one parameter of an element of `Forwarded`, without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    let pairs = split(element, ';')?.into_iter().filter_map(|pair| pair.split_once('='));
    let (_, value) = { pairs }.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    let value = value.trim();
    Some(match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(quoted) => quoted.replace('\\', ""),
        None => value.to_owned(),
    })
}

/// An address, with a port or without; IPv6 in brackets, though some proxies leave them out.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            rest.split_once(']').and_then(|(ip, port)| Some((IpAddr::V6(ip.parse().ok()?), port)))?
        }
        None => text
            .split_once(':')
            .and_then(|(ip, _)| Some((IpAddr::V4(ip.parse().ok()?), &text[ip.len()..])))?,
    };
    let port_is_one = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(port_is_one)).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> Proxies {
        Proxies::new(networks.iter().map(|text| Network::parse(text).expect("a network")).collect())
    }

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"));
        }
        headers
    }

    fn peer(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().expect("an address"), 4000)
    }

    fn asks(proxies: &Proxies, from: &str, lines: &[(&str, &str)]) -> String {
        proxies.client(peer(from), &headers(lines)).address.to_string()
    }

    #[test]
    fn the_nearest_hop_that_is_no_trusted_proxy_is_the_client() {
        let proxies = proxies(&["127.0.0.1", "10.1.0.0/16", "fd00::/8"]);
        for (from, name, value, client) in [
            ("127.0.0.1", "x-forwarded-for", "192.0.2.7", "192.0.2.7"),
            ("127.0.0.1", "x-forwarded-for", "6.6.6.6, 192.0.2.7", "192.0.2.7"),
            ("127.0.0.1", "x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.1.2.3", "192.0.2.7"),
            ("127.0.0.1", "x-forwarded-for", "192.0.2.7:5000", "192.0.2.7"),
            ("127.0.0.1", "x-forwarded-for", "2001:db8::1", "2001:db8::1"),
            ("127.0.0.1", "x-forwarded-for", "10.1.0.1, 10.1.0.2", "10.1.0.1"),
            ("::ffff:10.1.0.9", "x-forwarded-for", "192.0.2.7", "192.0.2.7"),
            ("10.1.9.9", "forwarded", "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("10.1.9.9", "forwarded", "For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("10.1.9.9", "forwarded", "for=6.6.6.6, for=\"192.0.2.1:80\";host=\"a,b\"", "192.0.2.1"),
            ("fd00::9", "forwarded", "for=192.0.2.43,for=10.1.0.1", "192.0.2.43"),
            // What says nothing is the proxy's own, and a claim behind it is not believed.
            ("10.1.9.9", "forwarded", "for=unknown", "10.1.9.9"),
            ("10.1.9.9", "forwarded", "for=192.0.2.1, for=_hidden, for=10.1.0.1", "10.1.0.1"),
            ("10.1.9.9", "forwarded", "proto=http", "10.1.9.9"),
            ("10.1.9.9", "x-forwarded-for", "", "10.1.9.9"),
            ("10.1.9.9", "x-forwarded-for", "192.0.2.1, nonsense", "10.1.9.9"),
            // Nobody else is believed.
            ("192.0.2.9", "x-forwarded-for", "6.6.6.6", "192.0.2.9"),
            ("10.2.0.1", "forwarded", "for=6.6.6.6", "10.2.0.1"),
        ] {
            assert_eq!(asks(&proxies, from, &[(name, value)]), client, "{from} {name}: {value}");
        }
        for claim in ["for=6.6.6.6;x=\"", "for=6.6.6.6;\"", "for=\"6.6.6.6:", "for=6.6.6.6;x=\"\\"] {
            let line = format!("{claim}, for=192.0.2.7");
            assert_eq!(asks(&proxies, "127.0.0.1", &[("forwarded", &line)]), "127.0.0.1", "{line}");
        }
        let both = [("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=6.6.6.6")];
        assert_eq!(asks(&proxies, "127.0.0.1", &both), "127.0.0.1", "one of them is the client's own");
        let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(asks(&proxies, "127.0.0.1", &lines), "192.0.2.7", "the last line is the nearest");
        let long = format!("6.6.6.6,{}", " ".repeat(HEADER_MAX));
        assert_eq!(asks(&proxies, "127.0.0.1", &[("x-forwarded-for", &long)]), "127.0.0.1");
    }

    #[test]
    fn who_comes_through_a_proxy_on_this_machine_is_not_local() {
        fn local(proxies: &Proxies, from: &str, lines: &[(&str, &str)]) -> bool {
            proxies.client(peer(from), &headers(lines)).local
        }
        let (none, trusted) = (Proxies::default(), proxies(&["127.0.0.1", "10.0.0.1"]));
        assert!(local(&none, "127.0.0.1", &[]) && local(&none, "::1", &[]));
        assert!(local(&none, "::ffff:127.0.0.1", &[]));
        assert!(!local(&none, "10.0.0.1", &[]));
        for name in &MARKS {
            assert!(!local(&none, "127.0.0.1", &[(name.as_str(), "127.0.0.1")]), "{name}");
            assert!(!local(&trusted, "127.0.0.1", &[(name.as_str(), "127.0.0.1")]), "{name}");
            assert!(!local(&trusted, "10.0.0.1", &[(name.as_str(), "127.0.0.1")]), "{name}");
        }
        assert!(!local(&trusted, "127.0.0.1", &[]), "a proxy may leave no mark");
    }

    #[test]
    fn only_a_trusted_proxy_says_which_host_was_asked_for() {
        let proxies = proxies(&["127.0.0.1"]);
        let host = |from: &str, lines: &[(&str, &str)]| proxies.host(peer(from), &headers(lines));
        assert_eq!(host("127.0.0.1", &[("x-forwarded-host", "a.example")]).as_deref(), Some("a.example"));
        assert_eq!(host("127.0.0.1", &[("forwarded", "for=1.2.3.4;host=\"b:1\"")]).as_deref(), Some("b:1"));
        assert_eq!(host("127.0.0.1", &[]), None);
        assert_eq!(host("10.0.0.1", &[("x-forwarded-host", "a.example")]), None);
    }

    #[test]
    fn a_network_is_an_address_and_its_first_bits() {
        for text in
            ["", "10.0.0.0/33", "::/129", "10.0.0/8", "a/8", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8"]
        {
            assert_eq!(Network::parse(text), None, "{text}");
        }
        for (network, address, inside) in [
            ("0.0.0.0/0", "255.1.1.1", true),
            ("::/0", "2001:db8::1", true),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network = Network::parse(network).expect("a network");
            assert_eq!(
                network.contains(address.parse().expect("an address")),
                inside,
                "{network:?} {address}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_harm(value in "[ -~]{0,200}", more in "[ -~]{0,40}", forwarded: bool) {
            let proxies = proxies(&["127.0.0.1"]);
            let name = if forwarded { "forwarded" } else { "x-forwarded-for" };
            let client = proxies.client(peer("127.0.0.1"), &headers(&[(name, &value), (name, &more)]));
            prop_assert!(!client.local);
            let _ = proxies.host(peer("127.0.0.1"), &headers(&[(name, &value), ("x-forwarded-host", &more)]));
        }

        #[test]
        fn what_a_client_claims_does_not_matter_behind_an_honest_proxy(claim in "[ -~]{0,200}") {
            // The proxy appends whom it sees, as a line of its own or behind whatever the client sent.
            let proxies = proxies(&["127.0.0.1"]);
            let lines = [("x-forwarded-for", &*claim), ("x-forwarded-for", "192.0.2.7")];
            prop_assert_eq!(asks(&proxies, "127.0.0.1", &lines), "192.0.2.7");
            let line = format!("{claim}, 192.0.2.7");
            prop_assert_eq!(asks(&proxies, "127.0.0.1", &[("x-forwarded-for", &line)]), "192.0.2.7");
            let lines = [("forwarded", &*claim), ("forwarded", "for=192.0.2.7")];
            prop_assert_eq!(asks(&proxies, "127.0.0.1", &lines), "192.0.2.7");
        }

        #[test]
        fn an_open_quote_hides_at_most_the_client_itself(claim in "(for=)?\"?(6[.]6[.]6[.]6)?(;x=\")?[:,;=\"\\\\a-z0-9]{0,20}") {
            let proxies = proxies(&["127.0.0.1"]);
            for own in ["for=192.0.2.7", "for=\"192.0.2.7:80\""] {
                let line = format!("{claim}, {own}");
                let client = asks(&proxies, "127.0.0.1", &[("forwarded", &line)]);
                prop_assert!(client == "192.0.2.7" || client == "127.0.0.1", "{} from {}", client, line);
            }
        }
    }
}
