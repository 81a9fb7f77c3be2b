//! The command line of the lab: what is typed and what is printed. The work is done in `tests::netlab`.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::{
    netlab::{
        Conditions, Netlab, Topology,
        babel::{Babel, Tuning},
        bridge, console,
        flow::Flow,
        loss, partition, race, stages,
    },
    pause,
};

/// Network emulation for real processes on one machine, and the measurements made in it.
#[derive(Parser)]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say whether there can be a lab here: exit code 77 if not
    Check,
    /// Bring a lab up and take commands, line by line
    Up {
        /// JSON: {"relays": ["a", "b"], "wires": [{"ends": ["a", "b"], "delay_ms": 2}]}
        topology: std::path::PathBuf,
        /// What to run on each host, with NETLAB_HOST and NETLAB_PEERS set; without it, a relay
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Measure how exactly a wire keeps its delay
    Accuracy {
        /// One-way delay to ask for
        #[arg(long, default_value_t = 20.0)]
        delay_ms: f64,
    },
    /// Part two triangles of relays for a while; chat on both sides, then merge
    Partition {
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// A chain of relays that loses on every wire: chat and sound at the far end
    Loss {
        /// Relays
        #[arg(long, default_value_t = 5)]
        relays: usize,
        /// Share of packets lost on each wire, each way
        #[arg(long, default_value_t = 0.05)]
        share: f64,
        /// Messages
        #[arg(long, default_value_t = 500)]
        messages: usize,
    },
    /// A bridge too thin for what several stages send: which quality of each is heard in the next zone, and what is missing
    Stages {
        /// How many
        #[arg(long, default_value_t = 2)]
        stages: usize,
        /// Bits per second
        #[arg(long, default_value_t = 160_000)]
        rate: u64,
        /// Round trip
        #[arg(long, default_value_t = 40)]
        round_trip_ms: u64,
        /// How long what is heard counts
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// A narrow, long and lossy bridge: sound and announcements in the next zone, and what parity does
    Bridge {
        /// Bits per second
        #[arg(long, default_value_t = 1_000_000)]
        rate: u64,
        /// Share of packets lost, each way
        #[arg(long, default_value_t = 0.05)]
        share: f64,
        /// Round trip
        #[arg(long, default_value_t = 80)]
        round_trip_ms: u64,
        /// How long what is heard counts
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Cut a ring of four again and again: babeld and relays side by side
    Race {
        /// Cuts of each kind
        #[arg(long, default_value_t = 30)]
        trials: usize,
        /// babeld's hello intervals, in milliseconds; 0 leaves it out
        #[arg(long, value_delimiter = ',', default_value = "200,50")]
        hello_ms: Vec<u64>,
        /// Let babeld estimate link quality
        #[arg(long)]
        link_quality: bool,
        /// Leave the relays out
        #[arg(long)]
        babeld_only: bool,
        /// Instead of all that: relays alone, and a picture in three encodings
        #[arg(long, conflicts_with_all = ["hello_ms", "link_quality", "babeld_only"])]
        encodings: bool,
    },
}

/// Not possible here, as test runners know it.
const SKIPPED: u8 = 77;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(reason) = Netlab::obstacle() {
        eprintln!("skipped: {reason}");
        return ExitCode::from(SKIPPED);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads to run on: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Whatever ends it, what was started is dropped, and with it the lab.
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = run(cli.command) => outcome,
            () = stopped() => Err(anyhow::anyhow!("stopped")),
        }
    });
    // A read of the terminal would block for ever.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn stopped() {
    let mut terminated = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Check => Ok(()),
        Command::Up { topology, command } => {
            let topology = Topology::parse(&std::fs::read_to_string(&topology)?)?;
            console::console(&topology, &command).await
        }
        Command::Accuracy { delay_ms } => accuracy(delay_ms).await,
        Command::Partition { seconds } => {
            partition::partition(Duration::from_secs(seconds)).await?.print();
            Ok(())
        }
        Command::Loss { relays, share, messages } => {
            loss::chain(relays, share, messages).await?.print();
            Ok(())
        }
        Command::Stages { stages, rate, round_trip_ms, seconds } => {
            let (round_trip, length) = (Duration::from_millis(round_trip_ms), Duration::from_secs(seconds));
            stages::stages(stages, rate, round_trip, length).await?.print();
            Ok(())
        }
        Command::Bridge { rate, share, round_trip_ms, seconds } => {
            let (round_trip, length) = (Duration::from_millis(round_trip_ms), Duration::from_secs(seconds));
            bridge::bridge(rate, share, round_trip, length).await?.print();
            Ok(())
        }
        Command::Race { trials, encodings: true, .. } => {
            println!("\n{}", race::encodings(trials).await?);
            Ok(())
        }
        Command::Race { trials, hello_ms, link_quality, babeld_only, encodings: false } => {
            let mut table = race::Table::default();
            match Babel::obstacle() {
                Some(reason) => println!("skipped: {reason}"),
                None => {
                    for hello in hello_ms.into_iter().filter(|hello| *hello > 0) {
                        let tuning = Tuning { hello: Duration::from_millis(hello), link_quality };
                        table.extend(race::babeld(trials, tuning).await?);
                    }
                }
            }
            if !babeld_only {
                table.extend(race::relays(trials).await?);
            }
            println!("\n{table}");
            Ok(())
        }
    }
}

async fn accuracy(delay_ms: f64) -> Result<()> {
    let delay = Duration::from_secs_f64(delay_ms / 1e3);
    let lab = Netlab::new(&Topology::chain(2, Conditions::delay(delay)), 1).await?;
    // Each host routes the other's own address over the wire.
    for (from, to) in [("a", "b"), ("b", "a")] {
        lab.host(from).ip(&format!("route add {}/32 dev to-{to}\n", lab.address(to))).await?;
    }
    let flow = Flow::start(&lab, "a", "b", Duration::from_millis(5)).await?;
    pause(Duration::from_secs(10)).await;
    let mut took = race::Figures::default();
    flow.arrivals().iter().for_each(|arrival| took.add(arrival.took));
    let ms = |share| took.rank(share).as_secs_f64() * 1e3;
    println!(
        "asked {delay_ms} ms: p50 {:.3}, p99 {:.3}, max {:.3} ms, {} packets",
        ms(0.5),
        ms(0.99),
        ms(1.0),
        took.count()
    );
    Ok(())
}
