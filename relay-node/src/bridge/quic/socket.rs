//! The UDP socket of the bridges as quinn drives it: as quinn's own over tokio, with fewer system calls and fewer wakeups.
//! What the datagrams are is quinn's matter.

use std::{
    fmt::{self, Debug},
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit, UdpSocketState},
};
use tokio::io::{Interest, unix::AsyncFd};

/// A socket on the runtime of the thread that made it.
///
/// It is watched for what comes. Watched for room to send too, as tokio watches its own, it would wake the thread each
/// time that the kernel has let go of a datagram that was sent.
#[derive(Debug)]
pub(crate) struct Socket {
    io: AsyncFd<UdpSocket>,
    offloads: UdpSocketState,
    /// The kernel took no more when it was tried last.
    is_full: AtomicBool,
}

impl Socket {
    /// Takes over a socket that is bound.
    ///
    /// # Errors
    ///
    /// When the system does not take the options of the socket or does not watch it.
    pub fn new(socket: UdpSocket) -> io::Result<Socket> {
        // It also makes the socket one that does not block.
        let offloads = UdpSocketState::new((&socket).into())?;
        let io = watch(socket, Interest::READABLE)?;
        Ok(Socket { io, offloads, is_full: AtomicBool::new(false) })
    }

    /// Waits until the kernel takes more: it watches a second descriptor of the socket for as long as that takes.
    async fn writable(self: Arc<Socket>) -> io::Result<()> {
        let io = watch(self.io.get_ref().try_clone()?, Interest::WRITABLE)?;
        io.writable().await?.retain_ready();
        Ok(())
    }
}

/// Has the runtime watch a socket for one thing.
#[expect(
    deprecated,
    reason = "what came in its place is unsafe: it asks that the descriptor stays, as a socket's own does"
)]
fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let sent = self.offloads.send(self.io.get_ref().into(), transmit);
        if sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.is_full.store(true, Relaxed);
        }
        sent
    }

    /// A call that brings fewer messages than it could has left none behind. So another one would find nothing, and is
    /// not made: what comes later wakes the endpoint as if it had been.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut readable = ready!(self.io.poll_read_ready(cx))?;
            match self.offloads.recv(self.io.get_ref().into(), buffers, meta) {
                Ok(count) => {
                    if count < buffers.len() {
                        readable.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable.clear_ready(),
                // Of a datagram that was sent, and none that came: quinn finds out about its loss by itself.
                Err(_) => {}
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.offloads.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.offloads.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.offloads.gro_segments()
    }
}

/// Waits for room in the socket, for one connection.
struct Poller {
    socket: Arc<Socket>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl UdpPoller for Poller {
    /// Asked before each system call: as long as none was refused there is nothing to wait for.
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Poller { socket, waiting } = &mut *self;
        if !socket.is_full.load(Relaxed) {
            *waiting = None;
            return Poll::Ready(Ok(()));
        }
        let writable = waiting.get_or_insert_with(|| Box::pin(socket.clone().writable()));
        let result = ready!(writable.as_mut().poll(cx));
        *waiting = None;
        socket.is_full.store(false, Relaxed);
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        net::{Ipv4Addr, UdpSocket},
        sync::atomic::AtomicUsize,
        task::Wake,
    };

    use quinn::udp::BATCH_SIZE;
    use tokio::time::{Duration, timeout};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A socket under test, and one that sends to it.
    fn pair() -> (Arc<Socket>, UdpSocket) {
        let [a, b] = [(); 2].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        b.connect(a.local_addr().unwrap()).unwrap();
        (Arc::new(Socket::new(a).unwrap()), b)
    }

    fn receive(socket: &Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut memory = vec![[0; 64]; BATCH_SIZE];
        let mut buffers: Vec<IoSliceMut<'_>> =
            memory.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        socket.poll_recv(cx, &mut buffers, &mut vec![RecvMeta::default(); BATCH_SIZE])
    }

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[tokio::test]
    async fn what_comes_after_the_last_call_is_noticed() {
        let (socket, other) = pair();
        for number in 1..=2 * BATCH_SIZE {
            for _ in 0..number {
                other.send(b"datagram").unwrap();
            }
            let mut came = 0;
            while came < number {
                came += timeout(LONG, poll_fn(|cx| receive(&socket, cx))).await.unwrap().unwrap();
            }
            assert!(receive(&socket, &mut Context::from_waker(std::task::Waker::noop())).is_pending());
        }
    }

    #[tokio::test]
    async fn what_was_sent_wakes_nobody_when_it_is_gone() {
        let (socket, other) = pair();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = count.clone().into();
        assert!(receive(&socket, &mut Context::from_waker(&waker)).is_pending());
        let transmit = Transmit {
            destination: other.local_addr().unwrap(),
            ecn: None,
            contents: b"datagram",
            segment_size: None,
            src_ip: None,
        };
        for _ in 0..100 {
            socket.try_send(&transmit).unwrap();
            other.recv(&mut [0; 64]).unwrap();
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(count.0.load(Relaxed), 0);
        other.send(b"datagram").unwrap();
        assert_eq!(timeout(LONG, poll_fn(|cx| receive(&socket, cx))).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_full_socket_is_waited_for() {
        let (socket, other) = pair();
        let mut poller = socket.clone().create_io_poller();
        let waits =
            |poller: &mut Pin<Box<dyn UdpPoller>>, cx: &mut Context<'_>| poller.as_mut().poll_writable(cx);
        let noop = std::task::Waker::noop();
        assert!(waits(&mut poller, &mut Context::from_waker(noop)).is_ready(), "nothing was refused");
        socket.is_full.store(true, Relaxed);
        timeout(LONG, poll_fn(|cx| waits(&mut poller, cx))).await.unwrap().unwrap();
        assert!(!socket.is_full.load(Relaxed), "the kernel takes more");
        drop(other);
    }
}
