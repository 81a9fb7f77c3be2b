//! What a value may be: each is read and bounded here, with an error that says what is allowed.

use std::{fmt, net::IpAddr};

use protocol::NodeId;

use super::{
    ConfigError, Peer, Token,
    layers::{Layer, shown},
};
use crate::{api::auth::Streams, bridge::link::peer_address as bridge, client::Network};

pub(super) fn mebibytes(
    values: &Layer,
    key: &'static str,
    default: &str,
    least: u64,
    most: u64,
) -> Result<u64, ConfigError> {
    Ok(one(values, key, default, |text| number(text, least, most, "MiB"))? << 20)
}

pub(super) fn one<T>(
    values: &Layer,
    key: &'static str,
    default: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let (source, text) = match values.get(key) {
        Some(given) => (given.source.as_str(), given.texts.last().map_or("", String::as_str)),
        None => ("default", default),
    };
    parse(text).map_err(|allowed| ConfigError::Value {
        key,
        value: shown(key, text),
        source_name: source.to_owned(),
        allowed,
    })
}

pub(super) fn many<T>(
    values: &Layer,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    let Some(given) = values.get(key) else { return Ok(Vec::new()) };
    let error = |text: &str, allowed| ConfigError::Value {
        key,
        value: shown(key, text),
        source_name: given.source.clone(),
        allowed,
    };
    given.texts.iter().map(|text| parse(text).map_err(|allowed| error(text, allowed))).collect()
}

pub(super) fn number<T>(text: &str, least: T, most: T, what: &str) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("{what} from {least} to {most}")),
    }
}

pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

pub(super) fn parse_peer(text: &str) -> Result<Peer, String> {
    let allowed = || {
        "HOST:PORT, for example 10.0.0.2:8081, [fd00::2]:8081 or stage.local:8081, and behind commas if you \
         like kind=fibre, wired, wifi or lte, metered, bias= and milliseconds up to 10000"
            .to_owned()
    };
    let bridge::Peer { address: text, underlay } = bridge::Peer::parse(text).ok_or_else(allowed)?;
    let (host, port) = text.rsplit_once(':').ok_or_else(allowed)?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(allowed)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        }
    };
    good.then(|| Peer { host: bracketed.unwrap_or(host).to_owned(), port, underlay }).ok_or_else(allowed)
}

pub(super) fn parse_public_ip(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => Ok(ip),
        _ => Err("an IP address that browsers can reach, for example 10.0.0.1".to_owned()),
    }
}

pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    Network::parse(text)
        .ok_or_else(|| "the address of a proxy, or a network like 10.0.0.0/8 or fd00::/8".to_owned())
}

pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name = !text.is_empty() && text.len() <= 253 && text.chars().all(good);
    let allowed = || "a name without scheme and port, like relay.example.org, or *".to_owned();
    (name || text == "*").then(|| text.trim_end_matches('.').to_ascii_lowercase()).ok_or_else(allowed)
}

pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let allowed =
        || "an origin without a path, like https://app.example or http://10.0.0.9:3000, or *".to_owned();
    crate::api::origin::parse_origin(text).ok_or_else(allowed)
}

pub(super) fn parse_node_id(text: &str) -> Result<NodeId, String> {
    text.parse().map_err(|_| "64 hexadecimal characters, as `relay-node id` prints them there".to_owned())
}

/// One or several, joined by commas.
pub(super) fn parse_streams(text: &str) -> Result<Vec<Streams>, String> {
    let one = |name: &str| Streams::parse(name.trim());
    let all: Option<Vec<Streams>> = text.split(',').map(one).collect();
    all.ok_or_else(|| {
        "names of streams joined by commas, for example main-stage,kiosk/* (kiosk/* is all below kiosk, * is any)"
            .to_owned()
    })
}

pub(super) fn parse_token(text: &str) -> Result<Token, String> {
    let good = |c: char| c.is_ascii_graphic();
    if (8..=256).contains(&text.len()) && text.chars().all(good) {
        Ok(Token(text.to_owned()))
    } else {
        Err("8 to 256 visible ASCII characters without spaces".to_owned())
    }
}
