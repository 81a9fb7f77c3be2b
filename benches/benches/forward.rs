//! What it costs a relay to pass a packet on: from a datagram of one link to the datagrams of its children, without
//! quinn and the kernel. Prints nanoseconds and allocations per packet, for 1 to 8 children.
//!
//! Allocations are counted by the allocator of this process. Locks cannot be counted; that none is taken is a
//! matter of types: what a packet meets between quinn's two ends is a `RefCell` of its own thread, `HashMap`s and
//! `VecDeque`s in it, an `ArcSwap` load, atomic counters and an atomic waker.
//!
//! `cargo bench -p benches --bench forward`

use std::{
    alloc::{GlobalAlloc, Layout, System},
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use benches::measure::{load_average, median};
use bytes::{BufMut, BytesMut};
use protocol::{
    ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use relay_node::{
    bridge::{
        BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkSender, Route, SPOKEN, Table,
        Trust, bench::PacketPath,
    },
    clock::now,
    vitals::Pulse,
};
use tokio::sync::mpsc;

const ROUNDS: usize = 11;
const PACKETS: u32 = 50_000;
const BATCH: u32 = 10;

/// Counts while it is told to, on the thread that is measured.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

std::thread_local! {
    static MEASURED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

#[expect(unsafe_code, reason = "an allocator cannot be written without; it passes everything on")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Relaxed) && MEASURED.try_with(std::cell::Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if COUNTS.load(Relaxed) && MEASURED.try_with(std::cell::Cell::get).unwrap_or(false) {
            ALLOCATIONS.fetch_add(1, Relaxed);
        }
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

async fn start(name: &str, peers: Vec<String>) -> (Bridges, mpsc::Receiver<BridgeEvent>) {
    let data = tempfile::tempdir().expect("a directory for the key");
    let (sender, events) = mpsc::channel(1024);
    let config = BridgeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        peers,
        identity: Arc::new(Identity::load_or_create(data.path()).expect("a key")),
        zone: ZoneName::new(name).expect("a name"),
        trust: Trust::Anyone,
        versions: SPOKEN,
    };
    let bridges = Bridges::start(config, Arc::default(), Arc::new(|_, _, _| {}), sender, Pulse::unwatched())
        .await
        .expect("a socket");
    (bridges, events)
}

async fn up(events: &mut mpsc::Receiver<BridgeEvent>) -> LinkSender {
    loop {
        if let BridgeEvent::Up { sender, .. } = events.recv().await.expect("bridges run") {
            return sender;
        }
    }
}

/// Datagrams as they come from a neighbor: in memory that is used again, like ours.
struct Source {
    slab: BytesMut,
    number: u32,
    length: usize,
}

impl Source {
    fn next(&mut self) -> bytes::Bytes {
        // The last 256 packets are kept for repair; a slab that holds more comes back by itself.
        if !self.slab.try_reclaim(self.length + 64) {
            self.slab.reserve(1024 * 1024);
        }
        let number = self.number as u16;
        self.number += 1;
        let header = DatagramHeader { kind: DatagramKind::Rtp, epoch: 0, alias: Alias(1), sequence: number };
        header.write(&mut self.slab);
        self.slab.put_slice(&[0x80, 0x60]);
        self.slab.put_u16(number);
        self.slab.put_bytes(0, self.length - 4);
        self.slab.split().freeze()
    }
}

/// Nanoseconds and allocations per packet.
fn round(path: &mut PacketPath, source: &mut Source, children: usize) -> (f64, f64) {
    // Made before: what a neighbor sends is not ours to count.
    let mut packets = Vec::with_capacity(BATCH as usize);
    let (mut nanoseconds, mut allocations) = (0, 0);
    for _ in 0..PACKETS / BATCH {
        packets.extend((0..BATCH).map(|_| source.next()));
        let before = ALLOCATIONS.load(Relaxed);
        COUNTS.store(true, Relaxed);
        let begin = now();
        for packet in packets.drain(..) {
            path.handle(packet, begin);
        }
        let left = path.pop_all(drop);
        nanoseconds += begin.elapsed().as_nanos();
        COUNTS.store(false, Relaxed);
        allocations += ALLOCATIONS.load(Relaxed) - before;
        assert_eq!(left, children * BATCH as usize);
    }
    (nanoseconds as f64 / f64::from(PACKETS), allocations as f64 / f64::from(PACKETS))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("load average {}; medians of {ROUNDS} rounds of {PACKETS} packets", load_average());
    println!("children   bytes   ns/packet   ns/copy   allocations/packet (most of all rounds)");
    let (relay, mut events) = start("relay", vec![]).await;
    let mut links = Vec::new();
    let mut others = Vec::new();
    for i in 0..9 {
        others.push(start(&format!("n{i}"), vec![relay.local_addr().to_string()]).await);
        links.push(up(&mut events).await);
    }
    let from = links.remove(0);
    MEASURED.set(true);
    for length in [160, 1200] {
        for children in [1, 2, 4, 8] {
            let to: Vec<LinkSender> = links[..children].to_vec();
            let child = |(i, link): (usize, &LinkSender)| Child {
                link: link.clone(),
                alias: Alias(i as u16),
                precedence: 0,
            };
            let route = Route {
                // Another track each time: its numbers begin anew.
                track: (length * 10 + children) as u64,
                local: None,
                class: Class::Video,
                children: to.iter().enumerate().map(child).collect(),
            };
            let forwarding = Arc::new(Forwarding::new());
            let incoming = HashMap::from([((from.link(), Alias(1)), route)]);
            forwarding.replace(Table { incoming, local: HashMap::new() });
            let mut path = PacketPath::new(&from, to, forwarding, Arc::new(|_, _, _| {}));
            let mut source = Source { slab: BytesMut::new(), number: 0, length };
            // Queues grow to their size, slabs are made.
            round(&mut path, &mut source, children);
            let rounds: Vec<(f64, f64)> =
                (0..ROUNDS).map(|_| round(&mut path, &mut source, children)).collect();
            let (time, ..) = median(&rounds.iter().map(|round| round.0).collect::<Vec<_>>());
            let most = rounds.iter().map(|round| round.1).fold(0.0, f64::max);
            println!(
                "{children:>8}   {length:>5}   {time:>9.0}   {:>7.0}   {most:.6}",
                time / children as f64
            );
        }
    }
    drop((others, relay));
}
