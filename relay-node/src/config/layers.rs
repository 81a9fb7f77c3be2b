//! Where a setting may stand: flags, environment, file. What each value means is in `values.rs`.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use super::{arguments::Flags, error::ConfigError};

/// Key and whether it is a list. The order is that of the documentation.
pub(super) const KEYS: [(&str, bool); 33] = [
    ("zone", false),
    ("area", false),
    ("http", false),
    ("media", false),
    ("bridge", false),
    ("peer", true),
    ("discover", false),
    ("public-ip", true),
    ("public-url", false),
    ("data", false),
    ("workers", false),
    ("dev", false),
    ("trust", true),
    ("festival-token", false),
    ("festival-key", false),
    ("revocations", false),
    ("token-grace", false),
    ("publish-token", false),
    ("streams", true),
    ("chat-rate", false),
    ("chat-burst", false),
    ("chat-address-rate", false),
    ("trusted-proxy", true),
    ("allow-host", true),
    ("allow-origin", true),
    ("opus-bitrate", false),
    ("simulcast", false),
    ("ladder", false),
    ("max-video-bitrate", false),
    ("file-size", false),
    ("file-cache", false),
    ("file-reserve", false),
    ("log", false),
];

pub(super) fn known_keys() -> String {
    KEYS.map(|(key, _)| key).join(", ")
}

/// Where a value comes from, and its text; lists have any number.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) source: String,
    pub(super) texts: Vec<String>,
}

pub(super) type Layer = BTreeMap<&'static str, Given>;

pub(super) fn flag_layer(flags: Flags) -> Layer {
    let one = |value: Option<String>| value.into_iter().collect::<Vec<_>>();
    let dev = flags.dev.then(|| "true".to_owned());
    let discover = flags.discover.then(|| "true".to_owned());
    let ladder = if flags.no_ladder { Some("false".to_owned()) } else { flags.ladder };
    let values = [
        ("zone", one(flags.zone)),
        ("area", one(flags.area)),
        ("http", one(flags.http)),
        ("media", one(flags.media)),
        ("bridge", one(flags.bridge)),
        ("peer", flags.peer),
        ("discover", one(discover)),
        ("public-ip", flags.public_ip),
        ("public-url", one(flags.public_url)),
        ("data", one(flags.data)),
        ("workers", one(flags.workers)),
        ("dev", one(dev)),
        ("trust", flags.trust),
        ("festival-token", one(flags.festival_token)),
        ("festival-key", one(flags.festival_key)),
        ("revocations", one(flags.revocations)),
        ("token-grace", one(flags.token_grace)),
        ("publish-token", one(flags.publish_token)),
        ("streams", flags.streams),
        ("chat-rate", one(flags.chat_rate)),
        ("chat-burst", one(flags.chat_burst)),
        ("chat-address-rate", one(flags.chat_address_rate)),
        ("trusted-proxy", flags.trusted_proxy),
        ("allow-host", flags.allow_host),
        ("allow-origin", flags.allow_origin),
        ("opus-bitrate", one(flags.opus_bitrate)),
        ("simulcast", one(flags.simulcast)),
        ("ladder", one(ladder)),
        ("max-video-bitrate", one(flags.max_video_bitrate)),
        ("file-size", one(flags.file_size)),
        ("file-cache", one(flags.file_cache)),
        ("file-reserve", one(flags.file_reserve)),
        ("log", one(flags.log)),
    ];
    let given = values.into_iter().filter(|(_, texts)| !texts.is_empty());
    given.map(|(key, texts)| (key, Given { source: format!("--{key}"), texts })).collect()
}

/// The `RELAY_…` variables, and `RELAY_CONFIG` apart. An empty variable counts as absent.
pub(super) fn environment_layer(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Layer, Option<String>), ConfigError> {
    let mut layer = Layer::new();
    let mut file = None;
    for (name, value) in environment {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        let Some(short) = name.strip_prefix("RELAY_") else { continue };
        if value.is_empty() {
            continue;
        }
        if short == "CONFIG" {
            file = Some(value.into_owned());
            continue;
        }
        let key = short.to_ascii_lowercase().replace('_', "-");
        let Some((key, list)) = KEYS.into_iter().find(|(known, _)| *known == key) else {
            return Err(ConfigError::UnknownKey {
                key: name.into_owned(),
                source_name: "environment".to_owned(),
            });
        };
        let texts = match list {
            true if key == "peer" => split_peers(&value),
            true => value.split(',').map(|part| part.trim().to_owned()).collect(),
            false => vec![value.into_owned()],
        };
        layer.insert(key, Given { source: name.into_owned(), texts });
    }
    Ok((layer, file))
}

pub(super) fn file_layer(path: &Path) -> Result<Layer, ConfigError> {
    let problem = |problem: String| ConfigError::File { path: path.to_owned(), problem };
    let text = std::fs::read_to_string(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error| problem(format!("is not TOML: {error}")))?;
    let source = path.display().to_string();
    let mut layer = Layer::new();
    for (key, value) in table {
        let Some((key, list)) = KEYS.into_iter().find(|(known, _)| *known == key) else {
            return Err(ConfigError::UnknownKey { key, source_name: source });
        };
        let wrong = |value: &toml::Value| ConfigError::Value {
            key,
            value: shown(key, &value.to_string()),
            source_name: source.clone(),
            allowed: if list { "a string or a list of strings" } else { "one value, not a list or a table" }
                .to_owned(),
        };
        let texts = match &value {
            toml::Value::Array(values) if list => {
                values.iter().map(|value| text_in(key, value).ok_or_else(|| wrong(value))).collect()
            }
            value => text_in(key, value).map(|text| vec![text]).ok_or_else(|| wrong(value)),
        }?;
        layer.insert(key, Given { source: source.clone(), texts });
    }
    Ok(layer)
}

/// Peers joined by commas, where what the way to one runs over stands behind commas too.
pub(super) fn split_peers(value: &str) -> Vec<String> {
    let mut peers: Vec<String> = Vec::new();
    for part in value.split(',').map(str::trim) {
        match peers.last_mut() {
            Some(last) if part.contains('=') || part == "metered" => {
                last.push(',');
                last.push_str(part);
            }
            _ => peers.push(part.to_owned()),
        }
    }
    peers
}

/// The text of a value; a peer may be a table: `{ address = "…", kind = "lte", metered = true, bias = 20 }`.
pub(super) fn text_in(key: &str, value: &toml::Value) -> Option<String> {
    let toml::Value::Table(table) = value else { return text_of(value) };
    if key != "peer" {
        return None;
    }
    let mut text = text_of(table.get("address")?)?;
    for (name, value) in table.iter().filter(|(name, _)| *name != "address") {
        text.push_str(&format!(",{name}={}", text_of(value)?));
    }
    Some(text)
}

pub(super) fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The value as an error may repeat it.
pub(super) fn shown(key: &str, value: &str) -> String {
    if key == "publish-token" { "(secret)".to_owned() } else { value.to_owned() }
}
