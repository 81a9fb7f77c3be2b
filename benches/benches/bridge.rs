//! Delay that each relay adds to a packet on its way over QUIC: A → B → C over loopback, 50 Mbit/s of
//! 1200-byte packets from a plain thread. Prints percentiles of the whole way and of each hop.
//!
//! Each run has a control right before it: the same packets at the same rate over plain UDP sockets and
//! two plain threads. What the control shows is the machine: its scheduler, its other work.
//!
//! `cargo bench -p benches --bench bridge`

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use benches::measure::{load_average, median};
use bytes::Bytes;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use protocol::{
    ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use relay_node::{
    bridge::{
        BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkId, LinkSender, Route, SPOKEN,
        Table, Trust,
    },
    clock::now,
    vitals::Pulse,
};
use tokio::sync::mpsc;

const PACKET: usize = 1200;
const BITS_PER_SECOND: u64 = 50_000_000;
const RUNS: usize = 7;
const RUN: Duration = Duration::from_secs(3);
/// What is in flight at the end of a run arrives.
const DRAIN: Duration = Duration::from_millis(300);

type Samples = Arc<Mutex<Vec<Sample>>>;

/// One packet's arrival.
#[derive(Clone, Copy)]
struct Sample {
    number: u32,
    sent: Duration,
    arrived: Duration,
}

impl Sample {
    fn delay(&self) -> Duration {
        self.arrived - self.sent
    }
}

/// Reads the mark that [`mark`] wrote.
fn arrival(packet: &[u8], epoch: Instant) -> Sample {
    let arrived = now().duration_since(epoch);
    let (number, rest) = packet.split_first_chunk::<4>().expect("the source writes both");
    let (sent, _) = rest.split_first_chunk::<8>().expect("the source writes both");
    Sample {
        number: u32::from_be_bytes(*number),
        sent: Duration::from_nanos(u64::from_be_bytes(*sent)),
        arrived,
    }
}

fn mark(packet: &mut [u8], number: u32, epoch: Instant) {
    let sent = now().duration_since(epoch).as_nanos() as u64;
    packet[..4].copy_from_slice(&number.to_be_bytes());
    packet[4..12].copy_from_slice(&sent.to_be_bytes());
}

struct Relay {
    _bridges: Bridges,
    _data: tempfile::TempDir,
    events: mpsc::Receiver<BridgeEvent>,
    forwarding: Arc<Forwarding>,
    samples: Samples,
    address: SocketAddr,
}

#[expect(clippy::disallowed_methods, reason = "the source paces itself")]
fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(now()));
}

async fn start(name: &str, peers: Vec<String>, epoch: Instant) -> Relay {
    let data = tempfile::tempdir().expect("a directory for the key");
    let samples = Samples::default();
    let sink = samples.clone();
    let local = Arc::new(move |_: u32, _: DatagramHeader, payload: Bytes| {
        let sample = arrival(&payload, epoch);
        sink.lock().expect("no thread panics").push(sample);
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
    Relay { _bridges: bridges, _data: data, events, forwarding, samples, address }
}

async fn up(relay: &mut Relay) -> (LinkId, LinkSender) {
    loop {
        if let BridgeEvent::Up { link, sender, .. } = relay.events.recv().await.expect("bridges run") {
            return (link, sender);
        }
    }
}

fn route(from: LinkId, alias: u16, class: Class, children: Vec<Child>) -> Table {
    let route = Route { track: 1, local: Some(1), class, children };
    Table { incoming: HashMap::from([((from, Alias(alias)), route)]), local: HashMap::new() }
}

/// Offers `burst` packets at a time to `send`, as many bursts as the rate asks for; how many packets.
fn pace(burst: u64, mut send: impl FnMut(u32)) -> u32 {
    let pause = Duration::from_nanos(burst * PACKET as u64 * 8 * 1_000_000_000 / BITS_PER_SECOND);
    let bursts = (RUN.as_nanos() / pause.as_nanos()) as u32;
    let begin = now();
    for i in 0..bursts {
        sleep_until(begin + pause * i);
        (0..burst as u32).for_each(|j| send(i * burst as u32 + j));
    }
    bursts * burst as u32
}

/// Over plain UDP sockets: a thread that passes on, a thread that takes. What arrived at the end.
fn control(epoch: Instant, burst: u64) -> Vec<Sample> {
    let [a, b, c] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a free port"));
    let [to_b, to_c] = [&b, &c].map(|socket| socket.local_addr().expect("bound"));
    for socket in [&b, &c] {
        socket.set_read_timeout(Some(DRAIN)).expect("a socket takes a timeout");
    }
    let passes = thread::spawn(move || {
        let mut packet = [0; PACKET];
        while b.recv(&mut packet).is_ok() {
            b.send_to(&packet, to_c).expect("loopback");
        }
    });
    let takes = thread::spawn(move || {
        let (mut packet, mut samples) = ([0; PACKET], Vec::new());
        while c.recv(&mut packet).is_ok() {
            samples.push(arrival(&packet, epoch));
        }
        samples
    });
    let mut packet = [0; PACKET];
    pace(burst, |number| {
        mark(&mut packet, number, epoch);
        a.send_to(&packet, to_b).expect("loopback");
    });
    passes.join().expect("it does not panic");
    takes.join().expect("it does not panic")
}

/// p50, p90, p99 in milliseconds.
fn percentiles(mut delays: Vec<Duration>) -> [f64; 3] {
    delays.sort_unstable();
    [0.5, 0.9, 0.99].map(|share| {
        let i = ((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1));
        delays.get(i).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1000.0)
    })
}

fn print(what: &str, runs: &[[f64; 3]]) {
    let column = |i: usize| median(&runs.iter().map(|run| run[i]).collect::<Vec<_>>());
    let (p50, p90, p99) = (column(0), column(1), column(2));
    println!(
        "  {what:<34} p50 {:.3} ms   p90 {:.3} ms   p99 {:.3} ms   (p99 of the runs: {:.3} to {:.3})",
        p50.0, p90.0, p99.0, p99.1, p99.2
    );
}

/// Everything a relay has dropped or missed so far, by reason.
fn losses(metrics: &PrometheusHandle) -> Vec<String> {
    let text = metrics.render();
    let counted = |line: &&str| {
        (line.starts_with("relay_drop_total") || line.starts_with("relay_rtp_lost_total"))
            && !line.ends_with(" 0")
    };
    text.lines().filter(counted).map(str::to_owned).collect()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let metrics = PrometheusBuilder::new().install_recorder().expect("the only recorder");
    let epoch = now();
    for (name, burst) in [("evenly spaced packets", 1), ("bursts of 10 packets", 10)] {
        let mut c = start("c", vec![], epoch).await;
        let mut b = start("b", vec![c.address.to_string()], epoch).await;
        let ((_, b_to_c), (from_b, _)) = (up(&mut b).await, up(&mut c).await);
        let mut a = start("a", vec![b.address.to_string()], epoch).await;
        let ((_, a_to_b), (from_a, _)) = (up(&mut a).await, up(&mut b).await);
        b.forwarding.replace(route(
            from_a,
            1,
            Class::Video,
            vec![Child { link: b_to_c, alias: Alias(2), precedence: 0 }],
        ));
        c.forwarding.replace(route(from_b, 2, Class::Video, vec![]));

        let mut figures: [Vec<[f64; 3]>; 4] = Default::default();
        let (mut sent, mut came) = (0, [0; 2]);
        // The first run warms up and is not counted.
        for run in 0..=RUNS {
            let link = a_to_b.clone();
            let (bare, offered) = tokio::task::spawn_blocking(move || {
                let bare = control(epoch, burst);
                let offered = pace(burst, |number| {
                    let mut packet = vec![0; PACKET];
                    mark(&mut packet, number, epoch);
                    link.send_media(Class::Video, DatagramKind::Rtp, 0, Alias(1), &packet.into());
                });
                (bare, offered)
            })
            .await
            .expect("the source does not panic");
            tokio::time::sleep(DRAIN).await;
            let [at_b, at_c] =
                [&b, &c].map(|relay| std::mem::take(&mut *relay.samples.lock().expect("no thread panics")));
            if run == 0 {
                continue;
            }
            sent += offered;
            came = [came[0] + at_b.len(), came[1] + at_c.len()];
            let passed_b: HashMap<u32, Duration> = at_b.iter().map(|s| (s.number, s.arrived)).collect();
            let second = |s: &Sample| s.arrived.checked_sub(*passed_b.get(&s.number)?);
            figures[0].push(percentiles(bare.iter().map(|s| s.delay() / 2).collect()));
            figures[1].push(percentiles(at_c.iter().map(|s| s.delay() / 2).collect()));
            figures[2].push(percentiles(at_b.iter().map(Sample::delay).collect()));
            figures[3].push(percentiles(at_c.iter().filter_map(second).collect()));
        }
        println!(
            "{name}, {} Mbit/s of {PACKET} B over A → B → C, medians of {RUNS} runs of {} s, load average {}: \
             {sent} sent, {} at B, {} at C",
            BITS_PER_SECOND / 1_000_000,
            RUN.as_secs(),
            load_average(),
            came[0],
            came[1]
        );
        print("control: plain UDP, per hop", &figures[0]);
        print("QUIC, per hop (A to C, halved)", &figures[1]);
        print("QUIC, first hop (thread to B)", &figures[2]);
        print("QUIC, second hop (B to C)", &figures[3]);
        losses(&metrics).iter().for_each(|line| println!("  {line}"));
    }
}
