//! A [`Peer`] with a socket and the clock, for whoever waits for one session at a time. Many sessions on one thread are
//! [`crate::audience`]'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString as _};
use socket2::{Domain, Protocol, Socket, Type};

use super::description::{self, Answer, Offerer, Section};
use super::stun::Credentials;
use super::{Came, Identity, Peer, Standing};
use crate::clock;
use crate::error::Error;

/// Longer than any datagram of a relay.
pub(crate) const LONGEST_DATAGRAM: usize = 2048;
/// What the socket asks the kernel for: a burst of a picture for a latecomer.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket that has offered nothing yet.
pub struct Door {
    socket: UdpSocket,
    identity: Arc<Identity>,
    credentials: Credentials,
    candidate: SocketAddr,
}

/// A session with its socket.
pub struct Connection {
    socket: tokio::net::UdpSocket,
    peer: Peer,
    buffer: Vec<u8>,
    /// Of the last datagram that was handed out.
    length: usize,
}

impl Door {
    /// A socket that a relay at this address can answer.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when no socket can be bound.
    pub fn open(relay: SocketAddr, identity: Arc<Identity>) -> Result<Door, Error> {
        let unreachable = |error: std::io::Error| Error::Unreachable {
            url: relay.to_string(),
            reason: format!("no socket: {error}"),
        };
        let (domain, any): (_, IpAddr) = match relay {
            SocketAddr::V4(_) => (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into()),
        };
        let open = || {
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_nonblocking(true)?;
            // The kernel gives what its limit allows.
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
            socket.bind(&SocketAddr::new(any, 0).into())?;
            let socket = UdpSocket::from(socket);
            // The address that leads to the relay: what the kernel would send from.
            let route = UdpSocket::bind(SocketAddr::new(any, 0))?;
            route.connect(relay)?;
            let candidate = SocketAddr::new(route.local_addr()?.ip(), socket.local_addr()?.port());
            Ok((socket, candidate))
        };
        let (socket, candidate) = open().map_err(unreachable)?;
        let credentials = Credentials {
            ufrag: Alphanumeric.sample_string(&mut rand::rng(), 8),
            password: Alphanumeric.sample_string(&mut rand::rng(), 24),
        };
        Ok(Door { socket, identity, credentials, candidate })
    }

    /// The offer of these sections.
    pub fn offer(&self, sections: &[Section]) -> String {
        let fingerprint = self.identity.fingerprint();
        let offerer = Offerer { credentials: &self.credentials, fingerprint, candidate: self.candidate };
        description::offer(&offerer, sections)
    }

    /// Connects with whoever answered.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the answer lacks something, [`Error::NoConnection`] after `limit`, [`Error::Lost`] when
    /// the handshake failed.
    pub async fn connect(self, answer: &Answer, limit: Duration) -> Result<Connection, Error> {
        let now = clock::now();
        let protocol = |reason: String| Error::Protocol { url: self.candidate.to_string(), reason };
        let peer = Peer::new(self.identity, self.credentials, answer, self.candidate.is_ipv4(), now)
            .map_err(|reason| protocol(reason.to_owned()))?;
        let socket =
            tokio::net::UdpSocket::from_std(self.socket).map_err(|error| protocol(error.to_string()))?;
        let mut connection = Connection { socket, peer, buffer: vec![0; LONGEST_DATAGRAM], length: 0 };
        let connected = async {
            while connection.peer.standing() == Standing::Connecting {
                connection.turn().await?;
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(limit, connected).await.map_err(|_| Error::NoConnection(limit))??;
        match connection.peer.standing() {
            Standing::Connected => Ok(connection),
            _ => Err(Error::Lost),
        }
    }
}

impl Connection {
    /// Waits for a datagram of media or reports, and says what it is; [`Connection::datagram`] is it, still sealed. May be
    /// dropped while it waits.
    ///
    /// # Errors
    /// [`Error::Lost`] once the session is gone.
    pub async fn next(&mut self) -> Result<Came, Error> {
        loop {
            match self.turn().await? {
                Came::Nothing => {}
                came => return Ok(came),
            }
        }
    }

    /// What [`Connection::next`] waited for.
    pub fn datagram(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// The same, opened as RTCP; `None` if it is not the relay's.
    pub fn reports(&mut self) -> Option<bytes::BytesMut> {
        self.peer.secrets()?.open_rtcp(&self.buffer[..self.length])
    }

    /// Seals an RTP packet and sends it.
    ///
    /// # Errors
    /// [`Error::Lost`] once the session is gone.
    pub async fn send_rtp(&mut self, packet: &[u8]) -> Result<(), Error> {
        let sealed = self.peer.secrets().ok_or(Error::Lost)?.seal_rtp(packet)?;
        self.send(&sealed).await
    }

    /// Seals a compound RTCP packet and sends it.
    ///
    /// # Errors
    /// [`Error::Lost`] once the session is gone.
    pub async fn send_rtcp(&mut self, packet: &[u8]) -> Result<(), Error> {
        let sealed = self.peer.secrets().ok_or(Error::Lost)?.seal_rtcp(packet)?;
        self.send(&sealed).await
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        self.peer.close(clock::now());
        self.flush().await;
    }

    /// The parts, for a thread that drives many.
    ///
    /// # Errors
    /// [`Error::Lost`] when the runtime does not give the socket back.
    pub fn into_parts(self) -> Result<(UdpSocket, Peer), Error> {
        Ok((self.socket.into_std().map_err(|_| Error::Lost)?, self.peer))
    }

    /// One datagram, or one time that came.
    async fn turn(&mut self) -> Result<Came, Error> {
        let now = clock::now();
        if self.peer.poll_timeout() <= now {
            self.peer.handle_timeout(now);
        }
        self.flush().await;
        if self.peer.standing() == Standing::Gone {
            return Err(Error::Lost);
        }
        let received = tokio::select! {
            biased;
            received = self.socket.recv_from(&mut self.buffer) => received,
            () = clock::sleep_until(self.peer.poll_timeout()) => return Ok(Came::Nothing),
        };
        // A refusal by ICMP says nothing that consent does not say.
        let Ok((length, from)) = received else { return Ok(Came::Nothing) };
        self.length = length;
        let came = self.peer.handle_datagram(from, &self.buffer[..length], clock::now());
        self.flush().await;
        Ok(came)
    }

    async fn flush(&mut self) {
        while let Some((to, datagram)) = self.peer.poll_transmit() {
            // What the kernel refuses is lost like any datagram, and repeated.
            let _ = self.socket.send_to(&datagram, to).await;
        }
    }

    async fn send(&mut self, datagram: &[u8]) -> Result<(), Error> {
        let relay = self.peer.relay().ok_or(Error::Lost)?;
        let _ = self.socket.send_to(datagram, relay).await;
        Ok(())
    }
}
