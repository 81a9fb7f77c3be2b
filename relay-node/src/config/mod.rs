//! What the operator decides: flags, environment and `relay-node.toml`, read into one [`Config`] and
//! checked before any port is bound. It opens nothing but the file.

mod arguments;
mod error;
mod layers;
mod public_url;
mod values;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Parser;
use media::sdp::IngestPolicy;
use mesh_routing::{AreaId, Underlay};
use protocol::{NodeId, ZoneName};

use crate::{
    api::auth::{Auth, Streams},
    client::Proxies,
    membership::{
        festival::{self, Files, GRACE_HOURS},
        trusted_peers,
    },
    node::allowance::ChatLimits,
    storage::files::FileLimits,
};
pub use arguments::Pair;
use arguments::{CommandLine, SubTask};
pub use error::ConfigError;
use layers::{Layer, environment_layer, file_layer, flag_layer};
pub use public_url::PublicUrl;
use values::{
    many, mebibytes, number, one, parse_host, parse_network, parse_node_id, parse_origin, parse_peer,
    parse_public_ip, parse_streams, parse_token, truth,
};

/// What the process was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Serve the zone.
    Serve,
    /// Print this relay's id.
    Id {
        /// Make a new key first.
        new: bool,
    },
    /// Say whether the configuration is good.
    CheckConfig,
    /// Look at the machine and say what is wrong.
    Doctor {
        /// Read every record too.
        store: bool,
    },
    /// Write a backup to this file.
    Backup(PathBuf),
    /// Put the backup in this file into an empty data directory.
    Restore(PathBuf),
    /// What the organizer of the festival does, in these words. It needs no configuration.
    Festival(Vec<OsString>),
    /// Make this relay and another one trust each other.
    Pair(Pair),
}

/// A relay's configuration, every value checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The zone this relay serves.
    pub zone: ZoneName,
    /// The area of the mesh it is in.
    pub area: AreaId,
    /// TCP: pages, API, WebSocket, WHIP, WHEP.
    pub http: SocketAddr,
    /// UDP: every WebRTC session.
    pub media: SocketAddr,
    /// UDP: QUIC from other relays.
    pub bridge: SocketAddr,
    /// Relays to bridge to.
    pub peers: Vec<Peer>,
    /// Look for relays on the local network and choose neighbors.
    pub discover: bool,
    /// Addresses offered to browsers; empty: every usable address of an interface.
    pub public_ips: Vec<IpAddr>,
    /// Where a proxy shows this relay.
    pub public_url: Option<PublicUrl>,
    /// Identity, rooms, chat, files.
    pub data: PathBuf,
    /// Media threads.
    pub workers: usize,
    /// Publishing and bridging are open to everybody.
    pub dev: bool,
    /// Relays that may bridge to this one.
    pub trust: BTreeSet<NodeId>,
    /// What the organizer gave: relays of the festival may bridge.
    pub festival: Option<Files>,
    /// What a publisher has to show.
    pub publish_token: Option<Token>,
    /// Streams that may be published here; empty: any.
    pub streams: Vec<Streams>,
    /// How fast people may speak.
    pub chat: ChatLimits,
    /// Proxies that are believed when they say whom they ask for.
    pub trusted_proxies: Proxies,
    /// Names this relay is called by, beside its addresses and the machine's own.
    pub allow_hosts: Vec<String>,
    /// Pages of other origins that may change something here.
    pub allow_origins: Vec<String>,
    /// Bits per second asked of publishers of music.
    pub opus_bitrate: u32,
    /// Whether a publisher may send several encodings of its picture.
    pub simulcast: bool,
    /// Whether sound is encoded at lower rates too; `None`: if the machine is fast enough.
    pub ladder: Option<bool>,
    /// Listeners who join get merged packets of sound while more packets a second leave than this; 0: always.
    pub merge_above: u64,
    /// Bits per second that one listener gets at most.
    pub max_video_bitrate: u64,
    /// What files may take.
    pub files: FileLimits,
    /// What is logged, as `tracing` filter directives.
    pub log: String,
}

/// A relay to dial, before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// A name or an address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// What the way there runs over, and what the operator thinks of it.
    pub underlay: Underlay,
}

impl Peer {
    /// Where it is, without what the way there runs over: as it is given to a resolver.
    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Peer {
    /// As it is given with `--peer`: an IPv6 address stands in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::bridge::link::peer_address::Peer { address: self.address(), underlay: self.underlay }.fmt(f)
    }
}

/// A bearer token: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret itself, to compare with.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

const DATA: &str = "./data";

/// Reads the process's arguments and environment, and the file they name.
///
/// # Errors
///
/// As [`read`].
pub fn from_process() -> Result<(Task, Config), ConfigError> {
    read(std::env::args_os(), std::env::vars_os())
}

/// Reads `arguments` (the program's name first) and `environment`, and the file they name.
///
/// # Errors
///
/// [`ConfigError::Usage`] for what clap has to say, help and version included, [`ConfigError::File`] if the
/// file cannot be read or is not TOML, [`ConfigError::UnknownKey`] for a key in it or in the environment,
/// [`ConfigError::Value`] for a value that is not allowed.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Task, Config), ConfigError> {
    let line = CommandLine::try_parse_from(arguments).map_err(ConfigError::Usage)?;
    let task = match line.task {
        None => Task::Serve,
        Some(SubTask::Id { new }) => Task::Id { new },
        Some(SubTask::CheckConfig) => Task::CheckConfig,
        Some(SubTask::Doctor { store }) => Task::Doctor { store },
        Some(SubTask::Backup { file }) => Task::Backup(file),
        Some(SubTask::Restore { file }) => Task::Restore(file),
        Some(SubTask::Pair(mut pair)) => {
            let peer = line.flags.peer.first().map(|peer| peer.split(',').next().unwrap_or(peer).to_owned());
            pair.peer = peer;
            Task::Pair(pair)
        }
        Some(SubTask::Festival { rest }) => {
            return Ok((Task::Festival(rest), Config::check(&Layer::new())?));
        }
    };
    let (environment, file_in_environment) = environment_layer(environment)?;
    let file = line.flags.config.clone().or(file_in_environment);
    let mut values = match file {
        Some(path) => file_layer(Path::new(&path))?,
        None => Layer::new(),
    };
    values.extend(environment);
    values.extend(flag_layer(line.flags));
    Ok((task, Config::check(&values)?))
}

impl Config {
    /// Who may publish what.
    pub fn auth(&self) -> Auth {
        Auth::new(self.dev, self.publish_token.as_ref().map(Token::secret), self.streams.clone())
    }

    /// What publishers are asked for.
    pub fn ingest_policy(&self) -> IngestPolicy {
        IngestPolicy {
            opus_max_average_bitrate: self.opus_bitrate,
            data_channel: true,
            simulcast: self.simulcast,
        }
    }

    /// The relays this one was paired with are trusted like those named with `--trust`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::File`] if the file of paired relays cannot be read or holds something else than ids.
    pub fn trust_paired(&mut self) -> Result<(), ConfigError> {
        let paired = trusted_peers::read(&self.data).map_err(|error| ConfigError::File {
            path: self.data.join(trusted_peers::FILE),
            problem: error.to_string(),
        })?;
        if let Some(festival) = &mut self.festival {
            festival.trusted.extend(&paired);
        }
        self.trust.extend(paired);
        Ok(())
    }
}

impl Config {
    fn check(values: &Layer) -> Result<Config, ConfigError> {
        let address = |key, default: &str| {
            one(values, key, default, |text| {
                let allowed = || format!("an address and port like {default} or [::]:8080");
                text.parse::<SocketAddr>().map_err(|_| allowed())
            })
        };
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(WORKERS_MAX);
        let config = Config {
            zone: one(values, "zone", "main", |text| {
                ZoneName::new(text).map_err(|error| format!("{error}, for example `camping`"))
            })?,
            area: one(values, "area", "0", |text| number(text, 0, u16::MAX, "an area").map(AreaId))?,
            http: address("http", "0.0.0.0:8080")?,
            media: address("media", "0.0.0.0:8080")?,
            bridge: address("bridge", "0.0.0.0:8081")?,
            peers: many(values, "peer", parse_peer)?,
            discover: one(values, "discover", "false", truth)?,
            public_ips: many(values, "public-ip", parse_public_ip)?,
            public_url: many(values, "public-url", public_url::parse)?.pop(),
            data: one(values, "data", DATA, |text| match text {
                "" => Err("a directory, for example ./data".to_owned()),
                text => Ok(PathBuf::from(text)),
            })?,
            workers: one(values, "workers", &cores.to_string(), |text| {
                number(text, 1, WORKERS_MAX, "a number of threads")
            })?,
            dev: one(values, "dev", "false", truth)?,
            trust: many(values, "trust", parse_node_id)?.into_iter().collect(),
            festival: given_festival(values)?,
            publish_token: many(values, "publish-token", parse_token)?.pop(),
            streams: many(values, "streams", parse_streams)?.into_iter().flatten().collect(),
            chat: ChatLimits {
                rate: one(values, "chat-rate", "1", |text| number(text, 0.0, RATE_MAX, MESSAGES))?,
                burst: one(values, "chat-burst", "10", |text| number(text, 1, 1000, "messages in a row"))?,
                address_rate: one(values, "chat-address-rate", "20", |text| {
                    number(text, 0.0, RATE_MAX, MESSAGES)
                })?,
            },
            trusted_proxies: Proxies::new(many(values, "trusted-proxy", parse_network)?),
            allow_hosts: many(values, "allow-host", parse_host)?,
            allow_origins: many(values, "allow-origin", parse_origin)?,
            opus_bitrate: one(values, "opus-bitrate", "256000", |text| {
                number(text, 6_000, 510_000, "bits per second")
            })?,
            simulcast: one(values, "simulcast", "true", truth)?,
            ladder: one(values, "ladder", "auto", |text| match text {
                "auto" => Ok(None),
                text => truth(text).map(Some).map_err(|_| "auto, true or false".to_owned()),
            })?,
            merge_above: one(values, "merge-above", "40000", |text| {
                number(text, 0, MERGE_MAX, "packets per second")
            })?,
            max_video_bitrate: one(values, "max-video-bitrate", "20000000", |text| {
                number(text, 100_000, 20_000_000, "bits per second")
            })?,
            files: FileLimits {
                size: mebibytes(values, "file-size", "256", 1, FILE_MIB_MAX)?,
                cache: mebibytes(values, "file-cache", "2048", 0, DISK_MIB_MAX)?,
                reserve: mebibytes(values, "file-reserve", "512", 0, DISK_MIB_MAX)?,
            },
            log: one(values, "log", "info", |text| {
                let allowed = "error, warn, info, debug, trace, or directives like relay_node=debug";
                let filter = text.parse::<tracing_subscriber::filter::Targets>();
                filter.map(|_| text.to_owned()).map_err(|_| allowed.to_owned())
            })?,
        };
        config.check_ports(values)?;
        Ok(config)
    }

    /// Media and bridge are both UDP and cannot share a port.
    fn check_ports(&self, values: &Layer) -> Result<(), ConfigError> {
        let (media, bridge) = (self.media, self.bridge);
        let same_ip =
            media.ip() == bridge.ip() || media.ip().is_unspecified() || bridge.ip().is_unspecified();
        if media.port() == 0 || media.port() != bridge.port() || !same_ip {
            return Ok(());
        }
        let key = if values.contains_key("bridge") { "bridge" } else { "media" };
        let value = if key == "bridge" { bridge } else { media };
        let source_name = values.get(key).map_or("default", |given| &given.source).to_owned();
        let allowed = "media and bridge are both UDP: give them different ports".to_owned();
        Err(ConfigError::Value { key, value: value.to_string(), source_name, allowed })
    }
}

const WORKERS_MAX: usize = 64;
const RATE_MAX: f64 = 10_000.0;
/// Packets a second: more than any machine sends.
const MERGE_MAX: u64 = 1_000_000_000;
const MESSAGES: &str = "messages a second, 0 for no limit,";
/// What a manifest has room for.
const FILE_MIB_MAX: u64 = mesh_routing::blob::manifest::CHUNKS_MAX as u64;
const DISK_MIB_MAX: u64 = 1 << 30;

fn given_festival(values: &Layer) -> Result<Option<Files>, ConfigError> {
    let text = |key| many(values, key, |text| Ok(text.to_owned())).map(|mut texts| texts.pop());
    let grace_hours =
        one(values, "token-grace", &GRACE_HOURS.to_string(), |text| number(text, 0, 24 * 365, "hours"))?;
    let trusted = many(values, "trust", parse_node_id)?.into_iter().collect();
    let (key, revocations) = (text("festival-key")?, text("revocations")?);
    // A token that came by pairing counts like one that is named.
    let data = text("data")?.unwrap_or_else(|| DATA.to_owned());
    let paired = Path::new(&data).join(festival::TOKEN);
    let paired = paired.is_file().then(|| paired.display().to_string());
    match text("festival-token")?.or(paired) {
        Some(token) => {
            let revocations = revocations.map(PathBuf::from);
            Ok(Some(Files { token: token.into(), key, revocations, grace_hours, trusted }))
        }
        None => match (key, revocations) {
            (Some(value), _) => Err(half("festival-key", value, "needs festival-token beside it")),
            (_, Some(value)) => Err(half("revocations", value, "needs festival-token beside it")),
            (None, None) => Ok(None),
        },
    }
}

fn half(key: &'static str, value: String, allowed: &str) -> ConfigError {
    ConfigError::Value { key, value, source_name: "given alone".to_owned(), allowed: allowed.to_owned() }
}

#[cfg(test)]
mod tests;
