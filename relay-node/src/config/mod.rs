//! What the operator decides: flags, environment and `relay-node.toml`, read into one [`Config`] and
//! checked before any port is bound. It opens nothing but the file.

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

use clap::{Args, Parser, Subcommand};
use mesh_routing::{AreaId, Underlay};
use protocol::{NodeId, ZoneName};
use thiserror::Error;

use crate::{
    api::auth::Streams,
    cli::{festival::Desk, pair::Pair},
    client::Proxies,
    membership::{
        festival::{self, Files, GRACE_HOURS},
        trusted_peers,
    },
    node::allowance::ChatLimits,
    storage::files::FileLimits,
};
use layers::{Layer, environment_layer, file_layer, flag_layer, known_keys};
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
    Id,
    /// Say whether the configuration is good.
    CheckConfig,
    /// Look at the machine and say what is wrong.
    Doctor,
    /// What the organizer of the festival does. It needs no configuration.
    Festival(Desk),
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

/// Why the process ends before it served anything.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value that is not allowed.
    #[error("{key} = {value:?} ({source_name}): {allowed}")]
    Value {
        /// The key, as in the file.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where it was given.
        source_name: String,
        /// What is allowed.
        allowed: String,
    },
    /// A key nobody knows.
    #[error("{key} ({source_name}) is not a key of this relay: the keys are {}", known_keys())]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was given.
        source_name: String,
    },
    /// The configuration file cannot be read or is not TOML.
    #[error("config = {path:?}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The command line: text for the terminal, help and version included.
    #[error("{}", .0.render())]
    Usage(clap::Error),
}

impl ConfigError {
    /// Prints it where it belongs: help on standard output, errors on standard error.
    pub fn print(&self) {
        match self {
            // Nobody is left to be told if the terminal is gone.
            ConfigError::Usage(error) => drop(error.print()),
            error => eprintln!("relay-node: {error}"),
        }
    }

    /// The exit code: 0 for help and version, else 64.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Usage(error) if !error.use_stderr() => 0,
            _ => 64,
        }
    }
}

const ABOUT: &str = "\
A streaming relay for one zone of a festival: publish a stage with WHIP, hear it in any zone with WHEP or
a browser. Relays bridge to each other over QUIC.";

const EXAMPLES: &str = "\
Every option is also a key of the TOML file given with --config and an environment variable:
--public-ip is public-ip = [\"10.0.0.1\"] in the file and RELAY_PUBLIC_IP=10.0.0.1 in the environment
(lists joined by commas). The file gives way to the environment, the environment to the option.

Try it:
  relay-node --dev                                    one open relay at http://localhost:8080
  relay-node --zone camping --peer 10.0.0.2:8081      bridged to the relay at 10.0.0.2
  relay-node pair                                     let another relay bridge: six digits to compare
  relay-node doctor                                   what is wrong with this machine, and how to mend it

Exit codes: 0 stopped cleanly, 64 bad usage or configuration, 69 a port or the data directory is not
available, 1 anything else.";

#[derive(Debug, Parser)]
#[command(name = "relay-node", version, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    task: Option<SubTask>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Clone, Subcommand)]
enum SubTask {
    /// Print this relay's id, made at the first start and kept in the data directory
    Id,
    /// Say whether the configuration is good, and what it comes to
    CheckConfig,
    /// Look at ports, disk, kernel buffers, clock, zone token and peers; say what to mend
    Doctor,
    /// Make this relay and another one trust each other: both show a code, and two people compare it
    Pair(Pair),
    /// Be the organizer: make a festival's key, sign zone tokens, take them back; `festival --help` says more
    #[command(disable_help_flag = true)]
    Festival {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct Flags {
    /// The TOML file to read first
    #[arg(long, value_name = "PATH", global = true)]
    config: Option<String>,
    /// The zone this relay serves [default: main]
    #[arg(long, value_name = "NAME", global = true)]
    zone: Option<String>,
    /// The area of the mesh this relay is in, 0 to 65535: above 200 relays give each part of the field one
    /// [default: 0]
    #[arg(long, value_name = "NUMBER", global = true)]
    area: Option<String>,
    /// TCP address of pages, API, WebSocket, WHIP and WHEP [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", global = true)]
    http: Option<String>,
    /// UDP address of all WebRTC sessions [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", global = true)]
    media: Option<String>,
    /// UDP address for QUIC from other relays [default: 0.0.0.0:8081]
    #[arg(long, value_name = "ADDR", global = true)]
    bridge: Option<String>,
    /// A relay to bridge to; repeatable. What the way there runs over may follow behind commas:
    /// kind=fibre|wired|wifi|lte, metered, bias=MS
    #[arg(long, value_name = "HOST:PORT[,kind=..][,metered][,bias=MS]", global = true)]
    peer: Vec<String>,
    /// Look for relays on the local network and in neighbors' records, and choose six to eight of them as
    /// neighbors; only those that may bridge become any
    #[arg(long, global = true)]
    discover: bool,
    /// An address offered to browsers; repeatable [default: every usable interface address]
    #[arg(long, value_name = "IP", global = true)]
    public_ip: Vec<String>,
    /// Where a proxy shows this relay, path included; addresses that the relay says begin with that path
    #[arg(long, value_name = "URL", global = true)]
    public_url: Option<String>,
    /// Directory of identity, rooms, chat and files [default: ./data]
    #[arg(long, value_name = "PATH", global = true)]
    data: Option<String>,
    /// Media threads [default: number of cores]
    #[arg(long, value_name = "N", global = true)]
    workers: Option<String>,
    /// Open publishing and bridging to everybody: for a trial, not for a festival
    #[arg(long, global = true)]
    dev: bool,
    /// The id of a relay that may bridge to this one (`relay-node id` prints it there); repeatable
    #[arg(long, value_name = "NODE_ID", global = true)]
    trust: Vec<String>,
    /// This relay's zone token: relays of the same festival may bridge, and others not
    #[arg(long, value_name = "FILE", global = true)]
    festival_token: Option<String>,
    /// The festival's id, as `relay-node festival create` prints it, or a file that holds it [default: the
    /// one the token names]
    #[arg(long, value_name = "ID|FILE", global = true)]
    festival_key: Option<String>,
    /// The organizer's list of relays that are no longer of the festival; read again when it changes
    #[arg(long, value_name = "FILE", global = true)]
    revocations: Option<String>,
    /// Hours for which an expired token still counts, as clocks may be wrong [default: 48]
    #[arg(long, value_name = "HOURS", global = true)]
    token_grace: Option<String>,
    /// What publishers send as `Authorization: Bearer TOKEN`; better in the file than here
    #[arg(long, value_name = "TOKEN", global = true)]
    publish_token: Option<String>,
    /// Streams that may be published here: names, `kiosk/*` for all below kiosk; repeatable, or joined by commas
    /// [default: any]
    #[arg(long, value_name = "NAME|NAME/*", global = true)]
    streams: Vec<String>,
    /// Chat messages a second of one participant; 0 for no limit [default: 1]
    #[arg(long, value_name = "NUMBER", global = true)]
    chat_rate: Option<String>,
    /// Chat messages of one participant in a row [default: 10]
    #[arg(long, value_name = "NUMBER", global = true)]
    chat_burst: Option<String>,
    /// Chat messages a second that are posted from one address; those who listen there share five times as many;
    /// 0 for no limit [default: 20]
    #[arg(long, value_name = "NUMBER", global = true)]
    chat_address_rate: Option<String>,
    /// A proxy in front of this relay, whose `Forwarded` or `X-Forwarded-For` says who asks; repeatable
    #[arg(long, value_name = "ADDRESS[/PREFIX]", global = true)]
    trusted_proxy: Vec<String>,
    /// A name under which this relay is reached, beside its addresses and the names of the machine; `*` for
    /// every one; repeatable
    #[arg(long, value_name = "NAME", global = true)]
    allow_host: Vec<String>,
    /// The origin of pages that may chat and give files here, like https://app.example; `*` for every one;
    /// repeatable [default: the relay's own pages]
    #[arg(long, value_name = "ORIGIN", global = true)]
    allow_origin: Vec<String>,
    /// Bits per second of Opus asked of publishers [default: 256000]
    #[arg(long, value_name = "BITS", global = true)]
    opus_bitrate: Option<String>,
    /// MiB of one file that is given to a room [default: 256]
    #[arg(long, value_name = "MIB", global = true)]
    file_size: Option<String>,
    /// MiB of files of other relays that are kept here [default: 2048]
    #[arg(long, value_name = "MIB", global = true)]
    file_cache: Option<String>,
    /// MiB of the disk that files leave free, and a twentieth of it in any case [default: 512]
    #[arg(long, value_name = "MIB", global = true)]
    file_reserve: Option<String>,
    /// What to log, for example `info` or `relay_node=debug` [default: info]
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,
}

const DATA: &str = "./data";

/// Reads the process's arguments and environment, and the file they name.
pub fn from_process() -> Result<(Task, Config), ConfigError> {
    read(std::env::args_os(), std::env::vars_os())
}

/// Reads `arguments` (the program's name first) and `environment`, and the file they name.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Task, Config), ConfigError> {
    let line = CommandLine::try_parse_from(arguments).map_err(ConfigError::Usage)?;
    let task = match line.task {
        None => Task::Serve,
        Some(SubTask::Id) => Task::Id,
        Some(SubTask::CheckConfig) => Task::CheckConfig,
        Some(SubTask::Doctor) => Task::Doctor,
        Some(SubTask::Pair(mut pair)) => {
            let peer = line.flags.peer.first().map(|peer| peer.split(',').next().unwrap_or(peer).to_owned());
            pair.peer = peer;
            Task::Pair(pair)
        }
        Some(SubTask::Festival { rest }) => {
            let desk = Desk::parse(rest).map_err(ConfigError::Usage)?;
            return Ok((Task::Festival(desk), Config::check(&Layer::new())?));
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
    /// The relays this one was paired with are trusted like those named with `--trust`.
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
            files: FileLimits {
                size: mebibytes(values, "file-size", "256", 1, FILE_MIB_MAX)?,
                cache: mebibytes(values, "file-cache", "2048", 0, DISK_MIB_MAX)?,
                reserve: mebibytes(values, "file-reserve", "512", 0, DISK_MIB_MAX)?,
            },
            log: one(values, "log", "info", |text| {
                let allowed = "error, warn, info, debug, trace, or directives like relay_node=debug";
                let filter = text.parse::<tracing_subscriber::EnvFilter>();
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
