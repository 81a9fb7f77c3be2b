//! The command line of the headless participant: what is typed, and what is printed. The work is done
//! in the library.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgGroup, Args, Parser, Subcommand};
use protocol::signaling::FromRelay;
use signaling_client::chat::{self, Chat};
use signaling_client::downlink::BitRate;
use signaling_client::encoding::{Pause, Rid};
use signaling_client::endpoint::Endpoint;
use signaling_client::feed::arguments::Arguments;
use signaling_client::feed::input::Input;
use signaling_client::feed::monitor::{Line, Monitor};
use signaling_client::ivf::Film;
use signaling_client::payload::TemporalPattern;
use signaling_client::source::{Chords, Demo, Source, Tone};
use signaling_client::view::Second;
use signaling_client::whep::Wanted;
use signaling_client::{Error, feed, listen, load, publish, simulcast};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// A headless participant of a relay: publishes, listens, chats and makes load.
///
/// Exit codes: 0 done, 64 bad usage, 69 nothing answers at the address, 1 anything else.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish a stream: sound made in code, stereo Opus in frames of 20 ms, and pictures from files
    Publish(Box<Publish>),
    /// Play a stream and print what arrived as one JSON object: packets, losses, what a receiver would have
    /// made up, which rung of the sound came when, and the picture
    Listen(Listen),
    /// Follow a room as JSON lines; each line typed is said there
    Chat(ChatArgs),
    /// Let many listeners or publishers join, hold, and print the figures
    Load(Load),
}

#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).multiple(true)
    .args(["tone", "demo", "tone_pair", "encodings", "list_devices"]).args(OPENED)))]
#[command(group(ArgGroup::new("source_opened").args(OPENED)
    .conflicts_with_all(["tone", "demo", "tone_pair", "encodings"])))]
struct Publish {
    /// WHIP endpoint, such as http://127.0.0.1:8080/whip/main-stage
    #[arg(required_unless_present = "list_devices")]
    url: Option<String>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    feed: Arguments,
    /// List the sound cards that GStreamer finds, with their channels and the option that opens each
    #[arg(long, exclusive = true, help_heading = "Sources that GStreamer opens")]
    list_devices: bool,
    /// Names of the encodings, in the order of the files [default: 0,1,2,…]
    #[arg(long, value_name = "R,R,…", value_delimiter = ',', requires = "encodings")]
    rids: Vec<Rid>,
    /// Leave an encoding out from one second to another, or for ever (RID@5-); repeatable
    #[arg(long, value_name = "RID@S-S", requires = "encodings")]
    pause: Vec<Pause>,
    /// The temporal layer of each frame of the files, repeated; y where one can go up: 0,2y,1y,2
    #[arg(long, value_name = "L,L,…", requires = "encodings")]
    temporal: Option<TemporalPattern>,
    /// Stop after so many seconds; without it, on Ctrl-C
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Bearer token for the relay
    #[arg(long, value_name = "T", env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Publish again, for ever, whenever the relay or the way to it fails
    #[arg(long, conflicts_with = "encodings")]
    reconnect: bool,
    /// Put the time of sending into each packet, so that a listener on this machine measures the delay
    #[arg(long, conflicts_with = "encodings")]
    stamp: bool,
    /// Publish a picture too: 25 frames a second that show nothing, in the shape of VP8, 1 Mbit/s
    #[arg(long, conflicts_with = "encodings")]
    video: bool,
    /// Bits per second of the sound
    #[arg(long, value_name = "BPS", default_value_t = publish::DEFAULT_BITRATE,
          value_parser = clap::value_parser!(u32).range(6_000..=510_000))]
    bitrate: u32,
}

/// The options of which GStreamer opens one.
const OPENED: [&str; 8] = ["test", "file", "device", "pipeline", "rtsp", "srt", "hls", "rtmp"];

#[derive(Args)]
struct What {
    /// A sine of so many hertz at half of full scale
    #[arg(long, value_name = "HZ", conflicts_with = "demo")]
    tone: Option<f64>,
    /// Music
    #[arg(long, conflicts_with = "tone_pair")]
    demo: bool,
    /// One chord on the left, another on the right, and a burst of noise each second
    #[arg(long, conflicts_with = "tone")]
    tone_pair: bool,
    /// A picture from IVF files of VP8, VP9 or AV1, each an encoding of a simulcast, over and over
    #[arg(long, value_name = "FILE,FILE,…", value_delimiter = ',')]
    encodings: Vec<PathBuf>,
}

#[derive(Args)]
struct Listen {
    /// WHEP endpoint, such as http://127.0.0.1:8080/whep/main-stage
    url: String,
    /// Stop after so many seconds; without it, on Ctrl-C
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<Duration>,
    /// Bearer token for the relay
    #[arg(long, value_name = "T", env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Wait while nobody publishes the stream yet, or the relay is not yet there
    #[arg(long)]
    wait: bool,
    /// List every time without a packet longer than so many milliseconds, with when it began
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    silences_above: Option<u64>,
    /// Ask for no video
    #[arg(long)]
    audio_only: bool,
    /// Print a line about each second, before the object at the end
    #[arg(long)]
    watch: bool,
    /// With --watch: each line is a JSON object
    #[arg(long, requires = "watch")]
    json: bool,
}

#[derive(Args)]
struct ChatArgs {
    /// The relay, such as http://127.0.0.1:8080
    url: String,
    /// The room
    #[arg(long, value_name = "R")]
    room: String,
    /// The name to speak under
    #[arg(long, value_name = "A")]
    author: String,
    /// Over a data channel in place of a WebSocket: after one request over HTTP only the media port is used
    #[arg(long)]
    channel: bool,
    /// Say this, print its id as JSON, and leave
    #[arg(long, value_name = "TEXT")]
    say: Option<String>,
    /// Bearer token for the relay
    #[arg(long, value_name = "T", env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

#[derive(Args)]
struct Load {
    #[command(subcommand)]
    role: LoadRole,
}

#[derive(Subcommand)]
enum LoadRole {
    /// Many listeners of one stream
    Listen {
        /// WHEP endpoint, such as http://127.0.0.1:8080/whep/main-stage
        url: String,
        #[command(flatten)]
        much: Much,
        /// Ask for video too
        #[arg(long)]
        video: bool,
        /// Put each listener behind a wire of so many bits a second, with a queue of 200 ms: 800kbit, 1.5mbit
        #[arg(long, value_name = "RATE")]
        downlink: Option<BitRate>,
        /// Offer transport-wide feedback, as listeners behind a wire do anyway
        #[arg(long)]
        transport_cc: bool,
    },
    /// Many streams, each with one publisher
    Publish {
        /// Beginning of the WHIP endpoints: http://127.0.0.1:8080/whip/load gives load-1, load-2, …
        url: String,
        #[command(flatten)]
        much: Much,
    },
}

#[derive(Args)]
struct Much {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Joins per second
    #[arg(long, value_name = "R", default_value_t = 20.0)]
    rate: f64,
    /// Stay so many seconds once the last has been started
    #[arg(long, value_name = "N", default_value = "10", value_parser = seconds)]
    seconds: Duration,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Bearer token for the relay
    #[arg(long, value_name = "T", env = "RELAY_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed through the same door and are no errors.
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return ExitCode::from(if asked { 0 } else { 64 });
        }
    };
    let filter = std::env::var("RUST_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| {
        Targets::new()
            .with_default(LevelFilter::ERROR)
            .with_targets([("rtc", LevelFilter::OFF), ("webrtc", LevelFilter::OFF)])
            .with_target("signaling_client", LevelFilter::INFO)
    });
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::from(1);
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    // A task that still says goodbye to a relay gets a moment; a read of the terminal would block for ever.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

async fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Publish(args) => run_publish(*args).await,
        Command::Listen(args) => run_listen(args).await,
        Command::Chat(args) => run_chat(args).await,
        Command::Load(args) => run_load(args.role).await,
    }
}

async fn run_publish(args: Publish) -> Result<(), Error> {
    if args.list_devices {
        let devices = feed::devices()?;
        devices.iter().for_each(|device| println!("{device}"));
        if devices.is_empty() {
            tracing::warn!("GStreamer finds no sound card and no sound server here");
        }
        return Ok(());
    }
    let endpoint = Endpoint::new(args.url.as_deref().unwrap_or_default(), args.token)?;
    let input = args.feed.input()?;
    let mut source: Box<dyn Source> = match args.what.tone {
        Some(frequency) => Box::new(Tone::new(frequency)?),
        None if args.what.tone_pair => Box::new(Chords::default()),
        None => match input {
            Some(input) => tokio::select! {
                opened = opened(input, &args.feed, args.reconnect) => opened?,
                () = stopped() => return Ok(()),
            },
            None => Box::new(Demo::new(1)),
        },
    };
    if !args.what.encodings.is_empty() {
        let sounds = args.what.tone.is_some() || args.what.demo || args.what.tone_pair;
        let options = simulcast::Options {
            films: films(&args.what.encodings, args.rids)?,
            pauses: args.pause,
            pattern: args.temporal,
            bitrate: args.bitrate,
            length: args.seconds,
        };
        let sound: Option<&mut dyn Source> = if sounds { Some(source.as_mut()) } else { None };
        let sent = simulcast::publish(&endpoint, sound, &options, stopped()).await?;
        for (rid, sent) in sent {
            tracing::info!(
                "{}: sent {} frames, {} keyframes ({} asked for), {} packets, {} repairs",
                rid.as_str(),
                sent.frames,
                sent.keyframes,
                sent.asked,
                sent.packets,
                sent.repairs
            );
        }
        return Ok(());
    }
    let options = publish::Options {
        length: args.seconds,
        reconnect: args.reconnect,
        stamp: args.stamp,
        bitrate: args.bitrate,
        video: args.video,
    };
    let sent = publish::publish(&endpoint, source.as_mut(), &options, stopped()).await?;
    tracing::info!("sent {} packets, skipped {}", sent.packets, sent.skipped);
    Ok(())
}

/// A source that GStreamer opens, and a meter.
async fn opened(input: Input, options: &Arguments, patient: bool) -> Result<Box<dyn Source>, Error> {
    let feed = feed::open(input, options.mix(), patient).await?;
    let status = feed.status();
    let (readings, show): (u32, fn(&Line)) = if options.json {
        (2, |line| println!("{}", json(line)))
    } else if std::io::stderr().is_terminal() {
        // The next line is written over this one.
        (1, |line| eprint!("{line}\x1b[K\r"))
    } else {
        (1, |_| {})
    };
    Ok(Box::new(Monitor::new(feed, status, readings, Box::new(show))))
}

/// The files with their names.
fn films(files: &[PathBuf], rids: Vec<Rid>) -> Result<Vec<(Rid, Film)>, Error> {
    let count = files.len();
    let rids =
        if rids.is_empty() { (0..count).filter_map(|n| n.to_string().parse().ok()).collect() } else { rids };
    if rids.len() != count {
        return Err(Error::Usage(format!("--rids: {} names for {count} files", rids.len())));
    }
    rids.into_iter().zip(files).map(|(rid, file)| Ok((rid, Film::open(file)?))).collect()
}

async fn run_listen(args: Listen) -> Result<(), Error> {
    let endpoint = Endpoint::new(&args.url, args.token)?;
    let options = listen::Options {
        length: args.seconds,
        wait: args.wait,
        wanted: Wanted { audio: true, video: !args.audio_only },
        silences_above: args.silences_above.map(Duration::from_millis),
        watch: args.watch.then_some(if args.json {
            |second: &Second| println!("{}", json(second))
        } else {
            |second: &Second| println!("{second}")
        }),
    };
    let report = listen::listen(&endpoint, &options, stopped()).await?;
    println!("{}", json(&report));
    match report.ended {
        listen::Ended::Lost => Err(Error::Lost),
        listen::Ended::Complete | listen::Ended::Stopped => Ok(()),
    }
}

async fn run_chat(args: ChatArgs) -> Result<(), Error> {
    let token = args.token.as_deref();
    let mut room = match args.channel {
        true => Chat::join_by_channel(&args.url, &args.room, &args.author, token).await?,
        false => Chat::join(&args.url, &args.room, &args.author, token).await?,
    };
    if let Some(text) = args.say {
        let id = room.say_and_wait(&text).await?;
        println!("{}", json(&serde_json::json!({ "id": id })));
        room.leave().await;
        return Ok(());
    }
    let mut stop = std::pin::pin!(stopped());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut typing = true;
    loop {
        tokio::select! {
            said = room.next() => match said? {
                Some(FromRelay::Refused { reason, .. }) => tracing::warn!("not accepted: {reason}"),
                Some(said) => chat::messages(said).iter().for_each(|message| println!("{}", json(message))),
                None => return Err(Error::WebSocket("the relay closed the room".to_owned())),
            },
            line = lines.next_line(), if typing => match line {
                Ok(Some(line)) if line.trim().is_empty() => {}
                Ok(Some(line)) => {
                    room.say(&line).await?;
                }
                // The end of the input: what is said by others is followed on.
                _ => typing = false,
            },
            () = &mut stop => {
                room.leave().await;
                return Ok(());
            }
        }
    }
}

async fn run_load(role: LoadRole) -> Result<(), Error> {
    let (role, url, much, video, downlink, transport_cc) = match role {
        LoadRole::Listen { url, much, video, downlink, transport_cc } => {
            (load::Role::Listen, url, much, video, downlink, transport_cc)
        }
        LoadRole::Publish { url, much } => (load::Role::Publish, url, much, false, None, false),
    };
    let endpoint = Endpoint::new(&url, much.token)?;
    let options = load::Options {
        count: much.count,
        rate: much.rate,
        hold: much.seconds,
        wanted: Wanted { audio: true, video },
        downlink,
        transport_cc,
    };
    let report = load::load(role, &endpoint, &options, stopped()).await?;
    if much.json {
        println!("{}", json(&report));
    } else {
        print!("{report}");
    }
    Ok(())
}

/// Ready on Ctrl-C and on the signal a service is ended with.
async fn stopped() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("the reports hold no maps with keys other than text")
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "use a number of seconds above 0".to_owned())
}
