//! Delay that each relay adds to a packet on its way over QUIC: A → B → C over loopback, 50 Mbit/s of
//! 1200-byte packets from a plain thread. Prints percentiles of the whole way and of each hop.
//!
//! `cargo bench -p benches --bench bridge`

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use relay_node::bridge::{
    BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkId, LinkSender, Route, Table, Trust,
};
use tokio::sync::mpsc;

const PACKET: usize = 1200;
const BITS_PER_SECOND: u64 = 50_000_000;
const SECONDS: u64 = 8;
const WARM_UP: Duration = Duration::from_secs(1);

type Samples = Arc<Mutex<Vec<Sample>>>;

/// One packet's arrival.
#[derive(Clone, Copy)]
struct Sample {
    number: u32,
    sent: Duration,
    arrived: Duration,
}

struct Relay {
    _bridges: Bridges,
    _data: tempfile::TempDir,
    events: mpsc::Receiver<BridgeEvent>,
    forwarding: Arc<Forwarding>,
    samples: Samples,
    address: SocketAddr,
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the source paces itself")]
fn sleep_until(at: Instant) {
    std::thread::sleep(at.saturating_duration_since(now()));
}

async fn start(name: &str, peers: Vec<String>, epoch: Instant) -> Relay {
    let data = tempfile::tempdir().expect("a directory for the key");
    let samples = Samples::default();
    let sink = samples.clone();
    let local = Arc::new(move |_: u32, _: DatagramHeader, payload: Bytes| {
        let arrived = now().duration_since(epoch);
        let (number, rest) = payload.split_first_chunk::<4>().expect("the source writes both");
        let (sent, _) = rest.split_first_chunk::<8>().expect("the source writes both");
        sink.lock().expect("no thread panics").push(Sample {
            number: u32::from_be_bytes(*number),
            sent: Duration::from_nanos(u64::from_be_bytes(*sent)),
            arrived,
        });
    });
    let (sender, events) = mpsc::channel(1024);
    let forwarding = Arc::new(Forwarding::new());
    let config = BridgeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        peers,
        identity: Arc::new(Identity::load_or_create(data.path()).expect("a key")),
        zone: ZoneName::new(name).expect("a name"),
        trust: Trust::Anyone,
    };
    let bridges = Bridges::start(config, forwarding.clone(), local, sender).await.expect("a socket");
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
    let route = Route { local: Some(1), class, children };
    Table { incoming: HashMap::from([((from, Alias(alias)), route)]), local: HashMap::new() }
}

/// Sends `burst` packets at a time, as many bursts as the rate asks for.
fn send(link: &LinkSender, epoch: Instant, burst: u64) -> u32 {
    let pause = Duration::from_nanos(burst * PACKET as u64 * 8 * 1_000_000_000 / BITS_PER_SECOND);
    let bursts = SECONDS * 1_000_000_000 / pause.as_nanos() as u64;
    let begin = now();
    let mut number = 0_u32;
    for i in 0..bursts {
        sleep_until(begin + pause * i as u32);
        for _ in 0..burst {
            let mut payload = vec![0; PACKET];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            let sent = now().duration_since(epoch).as_nanos() as u64;
            payload[4..12].copy_from_slice(&sent.to_be_bytes());
            link.send_media(Class::Video, DatagramKind::Rtp, 0, Alias(1), &payload.into());
            number += 1;
        }
    }
    number
}

fn print(what: &str, mut delays: Vec<Duration>) {
    delays.sort_unstable();
    let at = |share: f64| {
        let i = ((delays.len() as f64 * share) as usize).min(delays.len().saturating_sub(1));
        delays.get(i).map_or(f64::NAN, |d| d.as_secs_f64() * 1000.0)
    };
    println!(
        "  {what:<28} p50 {:.3} ms   p90 {:.3} ms   p99 {:.3} ms   p99.9 {:.3} ms   max {:.3} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let epoch = now();
    for (name, burst) in [("evenly spaced packets", 1), ("bursts of 10 packets", 10)] {
        let mut c = start("c", vec![], epoch).await;
        let mut b = start("b", vec![c.address.to_string()], epoch).await;
        let ((_, b_to_c), (from_b, _)) = (up(&mut b).await, up(&mut c).await);
        let mut a = start("a", vec![b.address.to_string()], epoch).await;
        let ((_, a_to_b), (from_a, _)) = (up(&mut a).await, up(&mut b).await);
        b.forwarding.replace(route(from_a, 1, Class::Video, vec![Child { link: b_to_c, alias: Alias(2) }]));
        c.forwarding.replace(route(from_b, 2, Class::Video, vec![]));

        let begin = now().duration_since(epoch);
        let sent = tokio::task::spawn_blocking(move || send(&a_to_b, epoch, burst)).await.expect("sent");
        tokio::time::sleep(Duration::from_millis(300)).await;

        let at_b = std::mem::take(&mut *b.samples.lock().expect("no thread panics"));
        let at_c = std::mem::take(&mut *c.samples.lock().expect("no thread panics"));
        println!(
            "{name}, {} Mbit/s of {PACKET} B over A → B → C: {sent} sent, {} at B, {} at C",
            BITS_PER_SECOND / 1_000_000,
            at_b.len(),
            at_c.len()
        );
        let warm = |sample: &&Sample| sample.sent > begin + WARM_UP;
        let passed_b: HashMap<u32, Duration> = at_b.iter().map(|s| (s.number, s.arrived)).collect();
        print("A to C, both hops", at_c.iter().filter(warm).map(|s| s.arrived - s.sent).collect());
        print("A to C, per hop", at_c.iter().filter(warm).map(|s| (s.arrived - s.sent) / 2).collect());
        print(
            "first hop (plain thread to B)",
            at_b.iter().filter(warm).map(|s| s.arrived - s.sent).collect(),
        );
        print(
            "second hop (B to C)",
            at_c.iter()
                .filter(warm)
                .filter_map(|s| s.arrived.checked_sub(*passed_b.get(&s.number)?))
                .collect(),
        );
    }
}
