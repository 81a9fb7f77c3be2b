//! What it costs to pass media on from one neighbor to another: A → B → C over loopback, 40 stages of a picture and
//! sound each. B is a process of its own and does nothing else. Prints its CPU time for each Gbit that it sent, packets
//! for each system call, wakeups, the delay, and what was lost.
//!
//! `cargo bench -p benches --bench hop`. With `RELAY_A` and `RELAY_B`, two builds of this bench, all three relays are of
//! one and of the other in turn, so that both are measured under the same load. `ROUNDS` (5), `SECONDS` (10), `MBITS`
//! (46,200), and `BUSY` (0), threads that take whatever they get of the cores.

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use benches::measure::{load_average, median};
use bytes::{Bytes, BytesMut};
use media::packet::Canonical;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use protocol::{
    Codec, Kind, ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use relay_node::{
    bridge::{
        BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkId, LinkSender, Route, SPOKEN,
        Table, Trust, bench,
    },
    clock::now,
    vitals::Pulse,
};
use tokio::sync::mpsc;

const STAGES: u16 = 40;
/// A picture every 40 ms, sound every 20 ms.
const TICK: Duration = Duration::from_millis(20);
/// 128 kbit/s.
const SOUND: usize = 320;
const PACKET: usize = 1200;
/// When it was sent, at the end of each packet.
const STAMP: usize = 8;
/// What is in flight at the end arrives.
const DRAIN: Duration = Duration::from_millis(500);
const WARM_UP: Duration = Duration::from_secs(1);

/// Delays of what arrived at C, in nanoseconds.
type Delays = Arc<Mutex<Vec<u64>>>;

struct Relay {
    _bridges: Bridges,
    _data: tempfile::TempDir,
    events: mpsc::Receiver<BridgeEvent>,
    forwarding: Arc<Forwarding>,
    address: SocketAddr,
}

#[expect(clippy::disallowed_methods, reason = "the source paces itself")]
fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(now()));
}

async fn start(name: &str, peers: Vec<String>, delays: Option<(Delays, Instant)>) -> Relay {
    let data = tempfile::tempdir().expect("a directory for the key");
    let local = Arc::new(move |_: u32, header: DatagramHeader, payload: Bytes| {
        let Some((delays, epoch)) = delays.as_ref().filter(|_| header.kind == DatagramKind::Rtp) else {
            return;
        };
        let arrived = now().duration_since(*epoch).as_nanos() as u64;
        let sent = payload.last_chunk::<STAMP>().expect("the source stamps each");
        delays.lock().expect("no thread panics").push(arrived - u64::from_be_bytes(*sent));
    });
    let (sender, events) = mpsc::channel(1024);
    let forwarding = Arc::new(Forwarding::new());
    let config = BridgeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        peers,
        identity: Arc::new(Identity::load_or_create(data.path()).expect("a key")),
        zone: ZoneName::new(name).expect("a name"),
        trust: Trust::Anyone,
        versions: SPOKEN,
    };
    let bridges = Bridges::start(config, forwarding.clone(), local, sender, Pulse::unwatched())
        .await
        .expect("a socket");
    let address = bridges.local_addr();
    Relay { _bridges: bridges, _data: data, events, forwarding, address }
}

async fn up(relay: &mut Relay) -> (LinkId, LinkSender) {
    loop {
        if let BridgeEvent::Up { link, sender, .. } = relay.events.recv().await.expect("bridges run") {
            return (link, sender);
        }
    }
}

/// A link that goes down is the end of a run that says something.
async fn watch(mut events: mpsc::Receiver<BridgeEvent>) {
    while let Some(event) = events.recv().await {
        if let BridgeEvent::Down { reason, .. } = event {
            eprintln!("      a link went down: {reason}");
        }
    }
}

/// Sound and picture of each stage, from this link, for this relay or for a child.
fn table(from: LinkId, child: Option<&LinkSender>) -> Table {
    let rows = (0..2 * STAGES).map(|alias| {
        let class = if alias < STAGES { Class::Audio } else { Class::Video };
        let children = child.map(|link| Child { link: link.clone(), alias: Alias(alias), precedence: 0 });
        let children: Vec<Child> = children.into_iter().collect();
        let local = children.is_empty().then_some(u32::from(alias));
        ((from, Alias(alias)), Route { track: u64::from(alias) + 1, local, class, children })
    });
    Table { incoming: rows.collect(), local: HashMap::new() }
}

/// One stage: where in a tick it is, and the numbers of its two tracks.
struct Stage {
    number: u16,
    phase: Duration,
    sequences: [u16; 2],
}

impl Stage {
    fn send(
        &mut self,
        link: &LinkSender,
        codec: Codec,
        (length, flags): (usize, [u8; 2]),
        at: (u32, Instant),
    ) {
        let (tick, epoch) = at;
        let sequence = &mut self.sequences[codec.kind() as usize];
        *sequence = sequence.wrapping_add(1);
        let canonical = Canonical {
            codec,
            marker: false,
            sequence: *sequence,
            timestamp: tick * 960,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut packet = BytesMut::with_capacity(length);
        canonical.write(&mut packet);
        packet.extend_from_slice(&flags);
        packet.resize((length - STAMP).max(packet.len()), 0x55);
        packet.extend_from_slice(&(now().duration_since(epoch).as_nanos() as u64).to_be_bytes());
        let (class, alias) = match codec.kind() {
            Kind::Audio => (Class::Audio, self.number),
            Kind::Video => (Class::Video, STAGES + self.number),
        };
        link.send_media(class, DatagramKind::Rtp, 0, Alias(alias), &packet.freeze());
    }
}

/// What is sent to A's link: sound and pictures of all stages, for so long; how many packets.
fn publish(link: &LinkSender, bits: u64, time: Duration, epoch: Instant, stages: &mut [Stage]) -> u64 {
    let pictures = bits.saturating_sub(u64::from(STAGES) * SOUND as u64 * 8 * 50);
    let picture = (pictures / u64::from(STAGES) / 8 / 25) as usize;
    let begin = now();
    let mut sent = 0;
    for tick in 0..(time.as_nanos() / TICK.as_nanos()) as u32 {
        for stage in &mut *stages {
            sleep_until(begin + TICK * tick + stage.phase);
            stage.send(link, Codec::Opus, (SOUND, [0; 2]), (tick, epoch));
            sent += 1;
            // Half of the pictures in each tick; of each stage one in a second is a keyframe.
            let turn = tick + u32::from(stage.number);
            if turn % 2 == 1 {
                continue;
            }
            let delta = u8::from(turn % 50 != 0);
            // Packets of about the same length, as browsers cut a picture.
            let count = picture.div_ceil(PACKET);
            for index in 0..count {
                // VP8: a descriptor of one octet, then the first of the picture or what goes on with it.
                let flags = if index == 0 { [0x10, delta] } else { [0, 0x55] };
                stage.send(link, Codec::Vp8, (picture / count, flags), (tick, epoch));
                sent += 1;
            }
        }
    }
    sent
}

/// The process in the middle.
struct Middle {
    process: Process,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What it has done so far.
#[derive(Default, Clone)]
struct Figures {
    /// Datagrams, octets, system calls; datagrams in.
    counts: [u64; 4],
    cpu_ns: u64,
    /// In user mode and in the kernel, in clock ticks.
    ticks: [u64; 2],
    wakeups: u64,
    losses: String,
}

impl Middle {
    fn start(program: &str, to: SocketAddr) -> (Middle, String) {
        let mut process = Command::new(program)
            .args(["relay", &to.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a build of this bench");
        let commands = process.stdin.take().expect("piped");
        let mut answers = BufReader::new(process.stdout.take().expect("piped"));
        let mut address = String::new();
        answers.read_line(&mut address).expect("it says where it listens");
        (Middle { process, commands, answers }, address.trim().to_owned())
    }

    fn figures(&mut self) -> Figures {
        writeln!(self.commands).and_then(|()| self.commands.flush()).expect("it runs");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        let mut words = line.split(' ');
        let counts =
            std::array::from_fn(|_| words.next().and_then(|word| word.parse().ok()).expect("counts"));
        let losses = words.collect::<Vec<_>>().join(" ").trim().to_owned();
        let (mut cpu_ns, mut wakeups) = (0, 0);
        let id = self.process.id();
        for task in fs::read_dir(format!("/proc/{id}/task")).expect("Linux has /proc") {
            let task = task.expect("it runs").path();
            let read = |name| fs::read_to_string(task.join(name)).unwrap_or_default();
            let first = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok());
            cpu_ns += first(&read("schedstat")).unwrap_or(0);
            let status = read("status");
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            wakeups += line.and_then(first).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
        let stat: Vec<&str> = stat.rsplit(") ").next().expect("a name").split(' ').collect();
        let ticks = [11, 12].map(|field: usize| stat[field].parse().expect("a number"));
        Figures { counts, cpu_ns, ticks, wakeups, losses }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Everything that was dropped or missed so far, by reason.
fn losses(metrics: &PrometheusHandle) -> Vec<String> {
    let text = metrics.render();
    let counted = |line: &&str| {
        (line.starts_with("relay_drop_total") || line.starts_with("relay_rtp_lost_total"))
            && !line.ends_with(" 0")
    };
    text.lines().filter(counted).map(|line| line.replace(' ', "=")).collect()
}

/// B: passes on what the first neighbor that dials sends, and says what it has done whenever it is asked.
async fn relay(to: &str) {
    let metrics = PrometheusBuilder::new().install_recorder().expect("the only recorder");
    let mut b = start("b", vec![to.to_owned()], None).await;
    let (_, to_c) = up(&mut b).await;
    println!("{}", b.address);
    let (from_a, a) = up(&mut b).await;
    b.forwarding.replace(table(from_a, Some(&to_c)));
    tokio::spawn(watch(b.events));
    tokio::task::spawn_blocking(move || {
        for _ in std::io::stdin().lines() {
            let [sent, received] = [bench::traffic(&to_c), bench::traffic(&a)];
            let [datagrams, octets, calls] = sent.sent;
            println!("{datagrams} {octets} {calls} {} {}", received.received[0], losses(&metrics).join(" "));
        }
    })
    .await
    .expect("it does not panic");
}

/// A and C in this process, B in another one. Prints the figures, then what the relays have dropped.
async fn run(program: &str, bits: u64, time: Duration) {
    let metrics = PrometheusBuilder::new().install_recorder().expect("the only recorder");
    let epoch = now();
    let delays = Delays::default();
    let mut c = start("c", vec![], Some((delays.clone(), epoch))).await;
    let (mut middle, address) = Middle::start(program, c.address);
    let (from_b, _) = up(&mut c).await;
    c.forwarding.replace(table(from_b, None));
    let mut a = start("a", vec![address], None).await;
    let (_, to_b) = up(&mut a).await;
    tokio::spawn(watch(a.events));
    tokio::spawn(watch(c.events));
    // B has its table before the first packet.
    tokio::time::sleep(DRAIN).await;
    let measured = tokio::task::spawn_blocking(move || {
        let mut stages = stages();
        publish(&to_b, bits, WARM_UP, epoch, &mut stages);
        sleep_until(now() + DRAIN);
        delays.lock().expect("no thread panics").clear();
        let (before, begin) = (middle.figures(), now());
        let sent = publish(&to_b, bits, time, epoch, &mut stages);
        let (took, after) = (now().duration_since(begin).as_secs_f64(), middle.figures());
        sleep_until(now() + DRAIN);
        let mut delays = std::mem::take(&mut *delays.lock().expect("no thread panics"));
        delays.sort_unstable();
        let count = |i: usize| (after.counts[i] - before.counts[i]) as f64;
        let gbits = count(1) * 8.0 / 1e9;
        // Two hops, in nanoseconds.
        let at = |share: f64| {
            let i = ((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1));
            delays.get(i).map_or(f64::NAN, |ns| *ns as f64 / 2e6)
        };
        let ticks = |i: usize| (after.ticks[i] - before.ticks[i]) as f64;
        let figures: [f64; NAMES.len()] = [
            (after.cpu_ns - before.cpu_ns) as f64 / 1e9 / gbits,
            100.0 * ticks(1) / (ticks(0) + ticks(1)).max(1.0),
            count(0) / count(2),
            (after.wakeups - before.wakeups) as f64 / took,
            at(0.5),
            at(0.99),
            100.0 * (sent as f64 - delays.len() as f64) / sent as f64,
            gbits * 1000.0 / took,
        ];
        (figures, after.losses)
    });
    let (figures, at_b) = measured.await.expect("it does not panic");
    let figures: Vec<String> = figures.iter().map(f64::to_string).collect();
    println!("{} A and C: {} B: {at_b}", figures.join(" "), losses(&metrics).join(" "));
}

/// Where in a tick each stage is: the same in each run.
fn stages() -> Vec<Stage> {
    let mut random = 7_u64;
    let mut stages: Vec<Stage> = (0..STAGES)
        .map(|number| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let phase = TICK.mul_f64((random >> 40) as f64 / (1 << 24) as f64);
            Stage { number, phase, sequences: [0; 2] }
        })
        .collect();
    stages.sort_by_key(|stage| stage.phase);
    stages
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a run prints, in this order. CPU time and wakeups are those of B's whole process.
const NAMES: [&str; 8] = [
    "core-s a Gbit",
    "of it in the kernel, %",
    "packets a send",
    "wakeups a second",
    "per hop p50, ms",
    "per hop p99, ms",
    "lost, %",
    "Mbit/s on the wire",
];

/// Runs the builds in turn and prints what they printed in the middle.
fn compare(programs: &[String]) {
    let (rounds, seconds) = (number("ROUNDS", 5), number("SECONDS", 10));
    let rates = env::var("MBITS").unwrap_or_else(|_| "46,200".to_owned());
    for rate in rates.split(',') {
        let mut figures = vec![Vec::new(); programs.len()];
        for _ in 0..rounds {
            for (program, figures) in programs.iter().zip(&mut figures) {
                let output = Command::new(program)
                    .args(["run", program, rate, &seconds.to_string()])
                    .stderr(Stdio::inherit())
                    .output();
                let output = output.expect("a build of this bench").stdout;
                let text = String::from_utf8_lossy(&output);
                eprintln!("    {program} {}", text.trim());
                let run: Vec<f64> = text.split(' ').map_while(|word| word.parse().ok()).collect();
                assert_eq!(run.len(), NAMES.len(), "a run prints all its figures");
                figures.push(run);
            }
        }
        println!(
            "{rate} Mbit/s of {STAGES} stages over A → B → C, medians of {rounds} runs of {seconds} s, load average {}",
            load_average()
        );
        for (program, figures) in programs.iter().zip(&figures) {
            println!("  {program}");
            for (i, name) in NAMES.iter().enumerate() {
                let (middle, low, high) = median(&figures.iter().map(|run| run[i]).collect::<Vec<_>>());
                println!("    {name:<24} {middle:>9.3}   ({low:.3} to {high:.3})");
            }
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["relay", to] => return relay(to).await,
        ["run", program, rate, seconds] => {
            let rate: u64 = rate.parse().expect("Mbit/s");
            let seconds = seconds.parse().expect("seconds");
            return run(program, rate * 1_000_000, Duration::from_secs(seconds)).await;
        }
        _ => {}
    }
    let own = env::current_exe().expect("Linux says").to_string_lossy().into_owned();
    let programs: Vec<String> = match ["RELAY_A", "RELAY_B"].map(|name| env::var(name).ok()) {
        [None, None] => vec![own],
        both => both.into_iter().flatten().collect(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..number("BUSY", 0) {
        let stop = stop.clone();
        thread::spawn(move || while !stop.load(Ordering::Relaxed) {});
    }
    tokio::task::spawn_blocking(move || compare(&programs)).await.expect("it does not panic");
    stop.store(true, Ordering::Relaxed);
}
