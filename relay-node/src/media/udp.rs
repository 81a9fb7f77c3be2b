//! The media port: datagrams in and out by the batch (`recvmmsg`, `sendmmsg`, UDP segmentation).
//!
//! The kernel's cost is per call and per datagram, not per byte, so everything here is about making few
//! of both. This is the file of the relay with unsafe code: neither tokio nor a kept crate sends to
//! many addresses with one call, each with a segment size of its own.
#![expect(unsafe_code, reason = "recvmmsg, sendmmsg and the UDP_SEGMENT control message")]

use std::{
    io, mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::AsRawFd,
    ptr,
};

use media::{Batch, Run, batch::MAX_RUNS};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Datagrams one `recvmmsg` brings.
const MAX_RECEIVED: usize = 64;
/// Longer than any datagram that is taken; of a longer one this much is read, to say that it is too long.
const DATAGRAM_LEN: usize = 2048;
/// Datagrams as short as this fit every way, IPv6's least MTU of 1280 included.
const SHORT: usize = 1232;
/// Below it, 300 listeners that join at once never finish (the kernel's default is 208 KiB).
const BUFFER: usize = 8 << 20;

/// Binds one socket for each worker to the media port. Port 0 takes any free one, the same for all.
///
/// The port is first tried without sharing: two relays on one port would steal each other's packets.
///
/// # Errors
///
/// When the port is in use, the system refuses the address, or has no socket left.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    let address = UdpSocket::bind(address)?.local_addr()?;
    (0..workers).map(|_| bind_shared(address)).collect()
}

fn bind_shared(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    let socket = raise_buffers(socket);
    allow_fragments(&socket, address);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks for large buffers; with the privilege for it also beyond the system's cap.
fn raise_buffers(socket: Socket) -> Socket {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        let len = BUFFER as libc::c_int;
        for option in [force, plain] {
            // SAFETY: the option value is an int that lives through the call.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    option,
                    (&raw const len).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            if result == 0 {
                break;
            }
        }
    }
    socket
}

/// Datagrams leave without "don't fragment": a packet of 1400 octets or more also passes a tunnel that is
/// narrower, also where the message that says so is filtered. A system that refuses has its default.
fn allow_fragments(socket: &Socket, address: SocketAddr) {
    let both = [
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT),
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT),
    ];
    for (level, option, value) in both.into_iter().take(if address.is_ipv6() { 2 } else { 1 }) {
        let value: libc::c_int = value;
        // SAFETY: the option value is an int that lives through the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}

/// The receive buffer the kernel gave, if it is less than what a zone needs.
pub fn short_receive_buffer(socket: &UdpSocket) -> Option<usize> {
    SockRef::from(socket).recv_buffer_size().ok().filter(|len| *len < BUFFER)
}

/// Receives batches of datagrams.
pub struct Receiver {
    buffers: Box<[[u8; DATAGRAM_LEN]; MAX_RECEIVED]>,
    addresses: Box<[libc::sockaddr_storage; MAX_RECEIVED]>,
    lengths: [usize; MAX_RECEIVED],
    received: usize,
}

impl Default for Receiver {
    fn default() -> Self {
        // SAFETY: all zeros is a valid sockaddr_storage and a valid octet array.
        let (buffers, addresses) =
            unsafe { (Box::new_zeroed().assume_init(), Box::new_zeroed().assume_init()) };
        Receiver { buffers, addresses, lengths: [0; MAX_RECEIVED], received: 0 }
    }
}

impl Receiver {
    /// Receives what is there, without waiting; true if there may be more.
    ///
    /// # Errors
    ///
    /// When the socket cannot be read; that nothing is there, or that an earlier send failed, is no error.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.received = 0;
        // SAFETY: all zeros is a valid iovec and a valid mmsghdr.
        let (mut parts, mut messages): ([libc::iovec; MAX_RECEIVED], [libc::mmsghdr; MAX_RECEIVED]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        for index in 0..MAX_RECEIVED {
            parts[index].iov_base = self.buffers[index].as_mut_ptr().cast();
            parts[index].iov_len = DATAGRAM_LEN;
            let header = &mut messages[index].msg_hdr;
            header.msg_name = (&raw mut self.addresses[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut parts[index];
            header.msg_iovlen = 1;
        }
        // SAFETY: every header points to one buffer and one address of the stated lengths, all of which
        // live in `self` or on this stack frame through the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                MAX_RECEIVED as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(false),
                // An ICMP error of an earlier send; the next call goes on.
                io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => Ok(true),
                _ => Err(error),
            };
        }
        self.received = count as usize;
        for (length, message) in self.lengths.iter_mut().zip(&messages[..self.received]) {
            // What was cut off is missed by whoever reads it: such a datagram is dropped with a reason.
            *length = (message.msg_len as usize).min(DATAGRAM_LEN);
        }
        Ok(self.received == MAX_RECEIVED)
    }

    /// What the last [`Receiver::receive`] brought.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        (0..self.received).filter_map(|index| {
            let from = address(&self.addresses[index])?;
            Some((from, &self.buffers[index][..self.lengths[index]]))
        })
    }
}

/// Sends batches of datagrams.
pub struct Sender {
    segmentation: bool,
}

impl Default for Sender {
    fn default() -> Self {
        Sender { segmentation: true }
    }
}

/// What became of a batch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Datagrams handed to the kernel.
    pub sent: usize,
    /// Datagrams the kernel would not take.
    pub dropped: usize,
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 32]);

impl Sender {
    /// Sends a batch; what the kernel refuses for one address costs nothing to the others.
    pub fn send(&mut self, socket: &UdpSocket, batch: &Batch) -> Outcome {
        let mut outcome = Outcome::default();
        let mut runs = batch.runs();
        while !runs.is_empty() {
            let chunk = &runs[..runs.len().min(MAX_RUNS)];
            match self.send_chunk(socket, batch, chunk) {
                Ok(count) => {
                    outcome.sent += chunk[..count].iter().map(Run::datagrams).sum::<usize>();
                    runs = &runs[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && wait_writable(socket) => {}
                Err(error) if self.segmentation && is_segmentation_error(&error) => {
                    // Segments that are longer than the way to this address: it alone goes without.
                    if runs[0].datagrams() > 1 && runs[0].segment > SHORT {
                        match send_one_by_one(socket, batch, &runs[0]) {
                            Ok(_) => outcome.sent += runs[0].datagrams(),
                            Err(_) => outcome.dropped += runs[0].datagrams(),
                        }
                        runs = &runs[1..];
                    } else {
                        self.segmentation = false;
                    }
                }
                // The first run of the chunk is refused (no route, a firewall): go on behind it.
                Err(_) => {
                    outcome.dropped += runs[0].datagrams();
                    runs = &runs[1..];
                }
            }
        }
        outcome
    }

    fn send_chunk(&self, socket: &UdpSocket, batch: &Batch, runs: &[Run]) -> io::Result<usize> {
        if !self.segmentation && runs.iter().any(|run| run.datagrams() > 1) {
            return send_one_by_one(socket, batch, &runs[0]);
        }
        // SAFETY: all zeros is valid for each of these plain C structures.
        let (mut parts, mut messages, mut names): (
            [libc::iovec; MAX_RUNS],
            [libc::mmsghdr; MAX_RUNS],
            [libc::sockaddr_storage; MAX_RUNS],
        ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        let mut controls = [Control([0; 32]); MAX_RUNS];
        for (index, run) in runs.iter().enumerate() {
            let bytes = batch.bytes(run);
            parts[index].iov_base = bytes.as_ptr().cast_mut().cast();
            parts[index].iov_len = bytes.len();
            let header = &mut messages[index].msg_hdr;
            header.msg_namelen = put_address(run.to, &mut names[index]);
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_iov = &raw mut parts[index];
            header.msg_iovlen = 1;
            if run.datagrams() > 1 {
                header.msg_control = controls[index].0.as_mut_ptr().cast();
                // SAFETY: the control buffer is 8-aligned and longer than CMSG_SPACE(2), so the first
                // header and its two octets of data lie inside it.
                unsafe {
                    header.msg_controllen = libc::CMSG_SPACE(2) as usize;
                    let control = libc::CMSG_FIRSTHDR(header);
                    (*control).cmsg_level = libc::SOL_UDP;
                    (*control).cmsg_type = libc::UDP_SEGMENT;
                    (*control).cmsg_len = libc::CMSG_LEN(2) as usize;
                    libc::CMSG_DATA(control).cast::<u16>().write_unaligned(run.segment as u16);
                }
            }
        }
        // SAFETY: the first `runs.len()` headers point to names, parts and controls of this stack frame and
        // to octets of `batch`, which the kernel only reads.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                runs.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
            )
        };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }
}

/// The way of a kernel or device without segmentation.
fn send_one_by_one(socket: &UdpSocket, batch: &Batch, run: &Run) -> io::Result<usize> {
    for datagram in batch.bytes(run).chunks(run.segment) {
        socket.send_to(datagram, run.to)?;
    }
    Ok(1)
}

/// EIO comes from a device that cannot checksum for us, EINVAL and ENOPROTOOPT from an old kernel.
fn is_segmentation_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::ENOPROTOOPT))
}

/// Waits a moment for room in the send buffer; false if there is none even then.
fn wait_writable(socket: &UdpSocket) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd that lives through the call.
    unsafe { libc::poll(&raw mut poll, 1, 2) == 1 }
}

fn put_address(address: SocketAddr, into: &mut libc::sockaddr_storage) -> libc::socklen_t {
    let into: *mut libc::sockaddr_storage = into;
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than and aligned for every socket address.
            unsafe { into.cast::<libc::sockaddr_in>().write(name) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { into.cast::<libc::sockaddr_in6>().write(name) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

fn address(from: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let from: *const libc::sockaddr_storage = from;
    // SAFETY: the family says which of the two structures the kernel wrote; both fit in the storage.
    unsafe {
        match libc::c_int::from((*from).ss_family) {
            libc::AF_INET => {
                let name = *from.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                let name = *from.cast::<libc::sockaddr_in6>();
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let port = u16::from_be(name.sin6_port);
                Some(SocketAddrV6::new(ip, port, name.sin6_flowinfo, name.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &mut Receiver, socket: &UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut all = Vec::new();
        while all.len() < count {
            receiver.receive(socket).expect("receives");
            all.extend(receiver.datagrams().map(|(from, bytes)| (from, bytes.to_vec())));
        }
        all
    }

    #[test]
    fn a_batch_arrives_datagram_by_datagram_with_and_without_segmentation() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let [a, b] = [(); 2].map(|()| bind(ip.parse().expect("an address"), 1).expect("binds").remove(0));
            let (from, to) = (a.local_addr().expect("bound"), b.local_addr().expect("bound"));
            for segmentation in [true, false] {
                let mut batch = Batch::default();
                for len in [1200, 1200, 700, 160, 160] {
                    batch.push(to, len, |out| out.fill(len as u8));
                }
                let outcome = Sender { segmentation }.send(&a, &batch);
                assert_eq!(outcome, Outcome { sent: 5, dropped: 0 });
                let all = received(&mut Receiver::default(), &b, 5);
                let lengths: Vec<_> = all.iter().map(|(_, bytes)| bytes.len()).collect();
                assert_eq!(lengths, [1200, 1200, 700, 160, 160]);
                assert!(all.iter().all(|(sender, bytes)| *sender == from && bytes[0] == bytes.len() as u8));
            }
        }
    }

    #[test]
    fn a_datagram_too_long_to_be_taken_is_seen_as_such() {
        let [a, b] =
            [(); 2].map(|()| bind("127.0.0.1:0".parse().expect("an address"), 1).expect("binds").remove(0));
        let to = b.local_addr().expect("bound");
        a.send_to(&[7; 9000], to).expect("loopback takes it");
        a.send_to(&[8; 1516], to).expect("loopback takes it");
        let all = received(&mut Receiver::default(), &b, 2);
        let lengths: Vec<_> = all.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [DATAGRAM_LEN, 1516]);
    }

    #[test]
    fn an_address_that_cannot_be_reached_costs_only_its_own_datagrams() {
        let [a, b] =
            [(); 2].map(|()| bind("127.0.0.1:0".parse().expect("an address"), 1).expect("binds").remove(0));
        let to = b.local_addr().expect("bound");
        let mut batch = Batch::default();
        for to in ["255.255.255.255:9".parse().expect("an address"), to] {
            batch.push(to, 10, |_| {});
        }
        let outcome = Sender::default().send(&a, &batch);
        assert_eq!(outcome, Outcome { sent: 1, dropped: 1 });
        assert_eq!(received(&mut Receiver::default(), &b, 1).len(), 1);
    }

    #[test]
    fn a_port_of_another_relay_is_refused_although_workers_share_theirs() {
        let sockets = bind("127.0.0.1:0".parse().expect("an address"), 3).expect("binds");
        let address = sockets[0].local_addr().expect("bound");
        assert!(sockets.iter().all(|socket| socket.local_addr().expect("bound") == address));
        let error = bind(address, 1).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
