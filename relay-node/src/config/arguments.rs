//! What the command line says, as plain data: flags and tasks. What values may be is in `values.rs`; what a task is,
//! `cli/` knows.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::membership::pairing::Code;

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
pub(super) struct CommandLine {
    #[command(subcommand)]
    pub(super) task: Option<SubTask>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum SubTask {
    /// Print this relay's id, made at the first start and kept in the data directory
    Id {
        /// Make a new key: for a box that was copied from another one. Rooms stay, a zone token has to be issued anew
        #[arg(long)]
        new: bool,
    },
    /// Say whether the configuration is good, and what it comes to
    CheckConfig,
    /// Look at ports, disk, kernel buffers, clock, zone token and peers; say what to mend
    Doctor {
        /// Read every record in the data directory too
        #[arg(long)]
        store: bool,
    },
    /// Write the records, the key and whom the relay trusts to one file, while the relay runs or not
    Backup {
        /// The file; only its owner may read it, as the key is in it
        file: PathBuf,
    },
    /// Put a backup into an empty data directory
    Restore {
        /// The file that `backup` wrote
        file: PathBuf,
    },
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
pub(super) struct Flags {
    /// The TOML file to read first
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) config: Option<String>,
    /// The zone this relay serves [default: main]
    #[arg(long, value_name = "NAME", global = true)]
    pub(super) zone: Option<String>,
    /// The area of the mesh this relay is in, 0 to 65535: above 200 relays give each part of the field one
    /// [default: 0]
    #[arg(long, value_name = "NUMBER", global = true)]
    pub(super) area: Option<String>,
    /// TCP address of pages, API, WebSocket, WHIP and WHEP [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", global = true)]
    pub(super) http: Option<String>,
    /// UDP address of all WebRTC sessions [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR", global = true)]
    pub(super) media: Option<String>,
    /// UDP address for QUIC from other relays [default: 0.0.0.0:8081]
    #[arg(long, value_name = "ADDR", global = true)]
    pub(super) bridge: Option<String>,
    /// A relay to bridge to; repeatable. What the way there runs over may follow behind commas:
    /// kind=fibre|wired|wifi|lte, metered, bias=MS
    #[arg(long, value_name = "HOST:PORT[,kind=..][,metered][,bias=MS]", global = true)]
    pub(super) peer: Vec<String>,
    /// Look for relays on the local network and in neighbors' records, and choose six to eight of them as
    /// neighbors; only those that may bridge become any
    #[arg(long, global = true)]
    pub(super) discover: bool,
    /// An address offered to browsers; repeatable [default: every usable interface address]
    #[arg(long, value_name = "IP", global = true)]
    pub(super) public_ip: Vec<String>,
    /// Where a proxy shows this relay, path included; addresses that the relay says begin with that path
    #[arg(long, value_name = "URL", global = true)]
    pub(super) public_url: Option<String>,
    /// Directory of identity, rooms, chat and files [default: ./data]
    #[arg(long, value_name = "PATH", global = true)]
    pub(super) data: Option<String>,
    /// Media threads [default: number of cores]
    #[arg(long, value_name = "N", global = true)]
    pub(super) workers: Option<String>,
    /// Open publishing and bridging to everybody: for a trial, not for a festival
    #[arg(long, global = true)]
    pub(super) dev: bool,
    /// The id of a relay that may bridge to this one (`relay-node id` prints it there); repeatable
    #[arg(long, value_name = "NODE_ID", global = true)]
    pub(super) trust: Vec<String>,
    /// This relay's zone token: relays of the same festival may bridge, and others not
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) festival_token: Option<String>,
    /// The festival's id, as `relay-node festival create` prints it, or a file that holds it [default: the
    /// one the token names]
    #[arg(long, value_name = "ID|FILE", global = true)]
    pub(super) festival_key: Option<String>,
    /// The organizer's list of relays that are no longer of the festival; read again when it changes
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) revocations: Option<String>,
    /// Hours for which an expired token still counts, as clocks may be wrong [default: 48]
    #[arg(long, value_name = "HOURS", global = true)]
    pub(super) token_grace: Option<String>,
    /// What publishers send as `Authorization: Bearer TOKEN`; better in the file than here
    #[arg(long, value_name = "TOKEN", global = true)]
    pub(super) publish_token: Option<String>,
    /// Streams that may be published here: names, `kiosk/*` for all below kiosk; repeatable, or joined by commas
    /// [default: any]
    #[arg(long, value_name = "NAME|NAME/*", global = true)]
    pub(super) streams: Vec<String>,
    /// Chat messages a second of one participant; 0 for no limit [default: 1]
    #[arg(long, value_name = "NUMBER", global = true)]
    pub(super) chat_rate: Option<String>,
    /// Chat messages of one participant in a row [default: 10]
    #[arg(long, value_name = "NUMBER", global = true)]
    pub(super) chat_burst: Option<String>,
    /// Chat messages a second that are posted from one address; those who listen there share five times as many;
    /// 0 for no limit [default: 20]
    #[arg(long, value_name = "NUMBER", global = true)]
    pub(super) chat_address_rate: Option<String>,
    /// A proxy in front of this relay, whose `Forwarded` or `X-Forwarded-For` says who asks; repeatable
    #[arg(long, value_name = "ADDRESS[/PREFIX]", global = true)]
    pub(super) trusted_proxy: Vec<String>,
    /// A name under which this relay is reached, beside its addresses and the names of the machine; `*` for
    /// every one; repeatable
    #[arg(long, value_name = "NAME", global = true)]
    pub(super) allow_host: Vec<String>,
    /// The origin of pages that may chat and give files here, like https://app.example; `*` for every one;
    /// repeatable [default: the relay's own pages]
    #[arg(long, value_name = "ORIGIN", global = true)]
    pub(super) allow_origin: Vec<String>,
    /// Bits per second of Opus asked of publishers [default: 256000]
    #[arg(long, value_name = "BITS", global = true)]
    pub(super) opus_bitrate: Option<String>,
    /// Whether a publisher may send several encodings of its picture; with `false` it is asked for the best one
    /// [default: true]
    #[arg(long, value_name = "true|false", global = true)]
    pub(super) simulcast: Option<String>,
    /// Whether sound is encoded at 24 and 64 kbit/s too, for listeners with little room; `auto` if a core does 30
    /// stages [default: auto]
    #[arg(long, value_name = "auto|true|false", global = true)]
    pub(super) ladder: Option<String>,
    /// The same as `--ladder false`
    #[arg(long, global = true, conflicts_with = "ladder")]
    pub(super) no_ladder: bool,
    /// While more packets a second leave for listeners, sound goes to those who join in packets of 60 ms: a third as many;
    /// 0 for always [default: 40000]
    #[arg(long, value_name = "PACKETS", global = true)]
    pub(super) merge_above: Option<String>,
    /// Bits per second that one listener gets at most, sound and picture together [default: 20000000]
    #[arg(long, value_name = "BITS", global = true)]
    pub(super) max_video_bitrate: Option<String>,
    /// MiB of one file that is given to a room [default: 256]
    #[arg(long, value_name = "MIB", global = true)]
    pub(super) file_size: Option<String>,
    /// MiB of files of other relays that are kept here [default: 2048]
    #[arg(long, value_name = "MIB", global = true)]
    pub(super) file_cache: Option<String>,
    /// MiB of the disk that files leave free, and a twentieth of it in any case [default: 512]
    #[arg(long, value_name = "MIB", global = true)]
    pub(super) file_reserve: Option<String>,
    /// What to log, for example `info` or `relay_node=debug` [default: info]
    #[arg(long, value_name = "FILTER", global = true)]
    pub(super) log: Option<String>,
}

/// What stands behind `relay-node pair`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Pair {
    /// Wait here for the other relay, which dials with --peer [default: 0.0.0.0:7900]
    #[arg(long, value_name = "ADDR", conflicts_with = "peer")]
    pub listen: Option<SocketAddr>,
    /// Confirm if this is the code, as the other relay's screen shows it; a question otherwise
    #[arg(long, value_name = "CODE", conflicts_with = "yes")]
    pub code: Option<Code>,
    /// Confirm whatever the code is: only over a wire of which you see both ends
    #[arg(long)]
    pub yes: bool,
    /// The organizer's key file: the other relay gets a zone token, and so does this one if it has none
    #[arg(long, value_name = "FILE")]
    pub festival_key_file: Option<PathBuf>,
    /// How long that token counts
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3660))]
    pub days: u64,
    /// Whom to dial: `--peer`, which every command knows.
    #[arg(skip)]
    pub peer: Option<String>,
}
