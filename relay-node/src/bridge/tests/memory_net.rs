//! A network in memory and in the time of the runtime: with a paused clock what happens on it depends on no machine.
//! It owns its wires and what is on the way; who sends what is the relays' matter.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Debug},
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use tokio::time::{Instant, Sleep, sleep_until};

/// How many datagrams a sender may hand over at once, as a kernel takes them.
const SEGMENTS_MAX: usize = 16;
/// Of a wire that nobody described.
const NEAR: Path = Path {
    rate: 1_000_000_000,
    later: &[],
    buffer: Duration::from_millis(100),
    delay: Duration::from_millis(1),
    loss: 0,
    longest: 65_535,
};

/// One direction has rate, buffer and both have delay and loss.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    pub rate: u64,
    /// The rates from so long after its first datagram on.
    pub later: &'static [(Duration, u64)],
    pub buffer: Duration,
    pub delay: Duration,
    /// In 1000.
    pub loss: u64,
    /// The longest UDP payload that gets through.
    pub longest: usize,
}

/// The queue that each datagram met.
pub(super) type Queues = Arc<Mutex<Vec<Duration>>>;

/// Its sockets, and what is between them.
#[derive(Debug, Clone, Default)]
pub(super) struct Net(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    mailboxes: HashMap<SocketAddr, Arc<Mutex<Mailbox>>>,
    wires: HashMap<[SocketAddr; 2], Wire>,
}

/// One direction.
#[derive(Debug)]
struct Wire {
    path: Path,
    /// Kept for the direction that has a rate.
    queues: Option<Queues>,
    dice: u64,
    begin: Option<Instant>,
    free_at: Option<Instant>,
}

impl Wire {
    fn new(path: Path, queues: Option<Queues>) -> Wire {
        Wire { path, queues, dice: 12_345, begin: None, free_at: None }
    }

    /// When a datagram of this length is at the other end, if it gets there.
    fn pass(&mut self, length: usize, now: Instant) -> Option<Instant> {
        let begin = *self.begin.get_or_insert(now);
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (self.dice >> 33) % 1000 < self.path.loss || length > self.path.longest {
            return None;
        }
        let Some(queues) = &self.queues else { return Some(now + self.path.delay) };
        let free_at = self.free_at.map_or(now, |free_at| free_at.max(now));
        let queue = free_at - now;
        if queue > self.path.buffer {
            return None;
        }
        queues.lock().unwrap().push(queue);
        let later = self.path.later.iter().rfind(|(at, _)| now >= begin + *at);
        let rate = later.map_or(self.path.rate, |(_, rate)| *rate);
        let leaves = free_at + Duration::from_nanos(length as u64 * 8_000_000_000 / rate);
        self.free_at = Some(leaves);
        Some(leaves + self.path.delay)
    }
}

/// What is on the way to one socket.
#[derive(Debug, Default)]
struct Mailbox {
    /// By arrival, and in the order of sending where that is the same.
    coming: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    sent: u64,
    /// Wakes who waits when the next datagram is there.
    alarm: Option<Pin<Box<Sleep>>>,
    waiting: Option<Waker>,
}

impl Net {
    /// A socket at this address, on the runtime of the caller.
    pub fn socket(&self, address: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let mailbox = Arc::<Mutex<Mailbox>>::default();
        self.0.lock().unwrap().mailboxes.insert(address, mailbox.clone());
        Arc::new(MemorySocket { net: self.clone(), address, mailbox })
    }

    /// Lays a wire; the queues are those of its first direction.
    pub fn wire(&self, from: SocketAddr, to: SocketAddr, path: Path) -> Queues {
        let queues = Queues::default();
        let mut inner = self.0.lock().unwrap();
        inner.wires.insert([from, to], Wire::new(path, Some(queues.clone())));
        inner.wires.insert([to, from], Wire::new(path, None));
        queues
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let now = Instant::now();
        let mut inner = self.0.lock().unwrap();
        let wire = inner.wires.entry([from, to]).or_insert_with(|| Wire::new(NEAR, None));
        let Some(arrival) = wire.pass(datagram.len(), now) else { return };
        let Some(mailbox) = inner.mailboxes.get(&to) else { return };
        let mut mailbox = mailbox.lock().unwrap();
        mailbox.sent += 1;
        let key = (arrival, mailbox.sent);
        mailbox.coming.insert(key, (from, datagram.to_vec()));
        if let Some(waiting) = mailbox.waiting.take() {
            waiting.wake();
        }
    }
}

struct MemorySocket {
    net: Net,
    address: SocketAddr,
    mailbox: Arc<Mutex<Mailbox>>,
}

impl Debug for MemorySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemorySocket").field(&self.address).finish()
    }
}

impl AsyncUdpSocket for MemorySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(NeverFull)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            self.net.send(self.address, transmit.destination, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut mailbox = self.mailbox.lock().unwrap();
        let mut count = 0;
        loop {
            let now = Instant::now();
            while count < buffers.len()
                && let Some(entry) = mailbox.coming.first_entry()
                && entry.key().0 <= now
            {
                let (addr, datagram) = entry.remove();
                let length = datagram.len();
                buffers[count][..length].copy_from_slice(&datagram);
                meta[count] = RecvMeta { addr, len: length, stride: length, ecn: None, dst_ip: None };
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            mailbox.waiting = Some(cx.waker().clone());
            let Some(next) = mailbox.coming.keys().next().map(|(at, _)| *at) else { return Poll::Pending };
            let mut alarm = Box::pin(sleep_until(next));
            let is_over = alarm.as_mut().poll(cx).is_ready();
            mailbox.alarm = Some(alarm);
            if !is_over {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS_MAX
    }
}

#[derive(Debug)]
struct NeverFull;

impl UdpPoller for NeverFull {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
