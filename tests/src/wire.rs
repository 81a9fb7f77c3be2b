//! A wire between two relays: forwards the UDP datagrams of one bridge, and can be cut without a word, slowed
//! and made lossy. It sees ciphertext only; it counts what crosses it, each way.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::clock::now;

/// Datagrams on their way in one direction; more than that are dropped, as a full link does.
const IN_FLIGHT: usize = 8192;

/// A datagram of at least this many bytes carries media (or a handshake): acknowledgements and hellos are shorter.
const MEDIA_SIZE: usize = 110;

/// One wire. Dropping it cuts it for good.
#[derive(Debug)]
pub struct Wire {
    front: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    delay_us: AtomicU64,
    loss_ppm: AtomicU64,
    /// Toward the relay that was dialled, and back.
    counts: [Count; 2],
}

#[derive(Debug, Default)]
struct Count {
    datagrams: AtomicU64,
    large: AtomicU64,
    bytes: AtomicU64,
}

/// What crossed a wire in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossed {
    /// All datagrams.
    pub datagrams: u64,
    /// Those large enough to carry media.
    pub large: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Wire {
    /// A wire to the bridge at `target`.
    pub async fn to(target: SocketAddr) -> Result<Wire> {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
        let front = socket.local_addr()?;
        let state = Arc::new(State::default());
        let task = tokio::spawn(forward(socket, target, state.clone())).abort_handle();
        Ok(Wire { front, state, task })
    }

    /// What the dialling relay takes for the other's bridge address.
    pub fn front(&self) -> SocketAddr {
        self.front
    }

    /// Nothing passes from now on, and nobody is told.
    pub fn cut(&self) {
        self.state.cut.store(true, Relaxed);
    }

    /// It passes again.
    pub fn mend(&self) {
        self.state.cut.store(false, Relaxed);
    }

    /// Adds one-way delay, both ways.
    pub fn delay(&self, time: Duration) {
        self.state.delay_us.store(time.as_micros() as u64, Relaxed);
    }

    /// Loses this share of the datagrams, both ways, evenly spread.
    pub fn lose(&self, share: f64) {
        self.state.loss_ppm.store((share * 1e6) as u64, Relaxed);
    }

    /// What reached the relay that was dialled, and what came back.
    pub fn crossed(&self) -> (Crossed, Crossed) {
        let [there, back] = self.state.counts.each_ref().map(|count| Crossed {
            datagrams: count.datagrams.load(Relaxed),
            large: count.large.load(Relaxed),
            bytes: count.bytes.load(Relaxed),
        });
        (there, back)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One task reads what comes from dialling relays; each of them gets a socket of its own toward the target.
async fn forward(socket: Arc<UdpSocket>, target: SocketAddr, state: Arc<State>) {
    let mut tasks = JoinSet::new();
    let mut callers: HashMap<SocketAddr, mpsc::Sender<(Instant, Vec<u8>)>> = HashMap::new();
    let mut random = StdRng::seed_from_u64(1);
    let mut buffer = vec![0; 65536];
    loop {
        // An ICMP answer to something sent earlier shows here as an error; the wire is none the worse for it.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let there = match callers.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match caller(&mut tasks, &socket, from, target, &state).await {
                Ok(there) => new.insert(there),
                Err(_) => continue,
            },
        };
        if let Some(due) = state.passes(0, length, &mut random) {
            let _ = there.try_send((due, buffer[..length].to_vec()));
        }
    }
}

/// A new caller: a socket of its own toward the target, and the tasks that carry both ways.
async fn caller(
    tasks: &mut JoinSet<()>,
    socket: &Arc<UdpSocket>,
    from: SocketAddr,
    target: SocketAddr,
    state: &Arc<State>,
) -> Result<mpsc::Sender<(Instant, Vec<u8>)>> {
    let upstream = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    upstream.connect(target).await?;
    let (there, waiting) = mpsc::channel(IN_FLIGHT);
    tasks.spawn(deliver(waiting, upstream.clone(), None));
    let (back, waiting) = mpsc::channel(IN_FLIGHT);
    tasks.spawn(deliver(waiting, socket.clone(), Some(from)));
    tasks.spawn(come_back(upstream, back, state.clone()));
    Ok(there)
}

async fn come_back(upstream: Arc<UdpSocket>, back: mpsc::Sender<(Instant, Vec<u8>)>, state: Arc<State>) {
    let mut random = StdRng::seed_from_u64(2);
    let mut buffer = vec![0; 65536];
    loop {
        let Ok(length) = upstream.recv(&mut buffer).await else { continue };
        if let Some(due) = state.passes(1, length, &mut random) {
            let _ = back.try_send((due, buffer[..length].to_vec()));
        }
    }
}

async fn deliver(
    mut waiting: mpsc::Receiver<(Instant, Vec<u8>)>,
    socket: Arc<UdpSocket>,
    to: Option<SocketAddr>,
) {
    while let Some((due, datagram)) = waiting.recv().await {
        // A timer rounds up to the next millisecond: without delay there is none.
        if due > now().into() {
            sleep_until(due).await;
        }
        let _ = match to {
            Some(to) => socket.send_to(&datagram, to).await,
            None => socket.send(&datagram).await,
        };
    }
}

impl State {
    /// When a datagram of this direction arrives at the other end; `None` if it never does.
    fn passes(&self, direction: usize, length: usize, random: &mut StdRng) -> Option<Instant> {
        let loss = self.loss_ppm.load(Relaxed);
        if self.cut.load(Relaxed) || loss > 0 && random.random_range(0..1_000_000) < loss {
            return None;
        }
        let count = &self.counts[direction];
        count.datagrams.fetch_add(1, Relaxed);
        count.bytes.fetch_add(length as u64, Relaxed);
        if length >= MEDIA_SIZE {
            count.large.fetch_add(1, Relaxed);
        }
        Some((now() + Duration::from_micros(self.delay_us.load(Relaxed))).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    async fn pair() -> (Wire, UdpSocket, UdpSocket) {
        let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(target.local_addr().unwrap()).await.unwrap();
        let caller = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        caller.connect(wire.front()).await.unwrap();
        (wire, caller, target)
    }

    #[tokio::test]
    async fn a_wire_passes_both_ways_and_counts() {
        let (wire, caller, target) = pair().await;
        let mut buffer = [0; 2000];
        caller.send(&[1; 300]).await.unwrap();
        let (length, from) = target.recv_from(&mut buffer).await.unwrap();
        assert_eq!(length, 300);
        target.send_to(&[2; 20], from).await.unwrap();
        assert_eq!(caller.recv(&mut buffer).await.unwrap(), 20);
        let (there, back) = wire.crossed();
        assert_eq!(there, Crossed { datagrams: 1, large: 1, bytes: 300 });
        assert_eq!(back, Crossed { datagrams: 1, large: 0, bytes: 20 });
    }

    #[tokio::test]
    async fn a_cut_wire_is_silent_until_mended() {
        let (wire, caller, target) = pair().await;
        let mut buffer = [0; 2000];
        wire.cut();
        caller.send(b"lost").await.unwrap();
        assert!(timeout(Duration::from_millis(50), target.recv(&mut buffer)).await.is_err());
        wire.mend();
        caller.send(b"found").await.unwrap();
        assert_eq!(target.recv(&mut buffer).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn delay_and_loss_are_about_what_was_asked() {
        let (wire, caller, target) = pair().await;
        let mut buffer = [0; 2000];
        wire.delay(Duration::from_millis(30));
        let sent = now();
        caller.send(b"late").await.unwrap();
        target.recv(&mut buffer).await.unwrap();
        assert!(sent.elapsed() >= Duration::from_millis(30));
        wire.delay(Duration::ZERO);
        wire.lose(0.5);
        let before = wire.crossed().0.datagrams;
        let mut arrived = 0;
        for _ in 0..1000 {
            caller.send(b"maybe").await.unwrap();
            tokio::task::yield_now().await;
            while target.try_recv(&mut buffer).is_ok() {
                arrived += 1;
            }
        }
        while timeout(Duration::from_millis(100), target.recv(&mut buffer)).await.is_ok() {
            arrived += 1;
        }
        assert!((350..650).contains(&arrived), "{arrived} of 1000 arrived at 50 % loss");
        assert_eq!(wire.crossed().0.datagrams - before, arrived);
    }
}
