//! Listeners as a relay sees them: each its own UDP socket, ICE checks, a DTLS handshake, SRTP keys and,
//! if wanted, an SCTP association with a data channel. Made of the stock component crates, not of ours.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use media::{
    rtp,
    srtp::Opener,
    transport::{Fingerprint, Kind, SrtpProfile, classify},
};
use rtc_datachannel::data_channel::{DataChannel, DataChannelConfig};
use rtc_dtls::{
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    crypto::Certificate,
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_sctp::PayloadProtocolIdentifier as Ppi;
use rtc_shared::TransportProtocol;
use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, Message, Setter},
    textattrs::TextAttribute,
};
use sansio::Protocol;
use socket2::SockRef;

use crate::credentials;

/// As Chromium: fast until there is an answer, then now and then.
const CHECK_FAST: Duration = Duration::from_millis(200);
const CHECK_SLOW: Duration = Duration::from_secs(5);
/// Listeners that join at the same time.
const JOINING: usize = 64;
const CHANNEL: u16 = 0;

/// All listeners.
pub struct Crowd {
    relay: SocketAddr,
    listeners: Vec<Listener>,
    data_channels: bool,
    certificate: Certificate,
    config: Arc<HandshakeConfig>,
}

struct Listener {
    number: usize,
    socket: UdpSocket,
    next_check: Instant,
    checks: u64,
    answered: bool,
    dtls: Endpoint,
    opener: Option<Opener>,
    heard: bool,
    sctp: Option<Sctp>,
}

struct Sctp {
    endpoint: rtc_sctp::Endpoint,
    handle: rtc_sctp::AssociationHandle,
    association: rtc_sctp::Association,
    relay: SocketAddr,
    open: bool,
}

impl Crowd {
    /// `count` listeners, each with a socket of its own, who will join the relay at this address.
    pub fn new(relay: SocketAddr, count: usize, data_channels: bool, now: Instant) -> Crowd {
        let provider = rtc_crypto::default_provider().expect("a crypto provider is built in");
        let certificate = Certificate::generate_self_signed(vec!["phone".to_owned()], provider.crypto())
            .expect("a key can be made");
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate.clone()])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .build(true, None)
            .map(Arc::new)
            .expect("a complete configuration");
        let listeners = (0..count).map(|number| Listener::new(number, now)).collect();
        Crowd { relay, listeners, data_channels, certificate, config }
    }

    /// The fingerprint of their certificate: they share one.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::sha256(self.certificate.certificate[0].as_ref())
    }

    /// Where they are, in the order of their numbers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.socket.local_addr().expect("bound")).collect()
    }

    /// Lets time pass: checks, handshakes, whatever came. `joined` listeners have joined already; a few
    /// more may try. Gives how many have joined by now.
    pub fn turn(&mut self, joined: usize, now: Instant) -> usize {
        let trying = (joined + JOINING).min(self.listeners.len());
        for listener in &mut self.listeners[..trying] {
            listener.turn(self.relay, &self.config, self.data_channels, now);
        }
        self.listeners.iter().take_while(|listener| listener.has_joined(self.data_channels)).count()
    }

    /// How many have opened a media packet with their keys.
    pub fn heard(&self) -> usize {
        self.listeners.iter().filter(|listener| listener.heard).count()
    }

    /// From now on they keep their sessions alive but read nothing: receive buffers shrink to the
    /// smallest, so that the kernel drops what comes where a listener would read it.
    pub fn stop_reading(&mut self) {
        for listener in &mut self.listeners {
            SockRef::from(&listener.socket).set_recv_buffer_size(1).expect("a socket takes a buffer size");
        }
    }

    /// What [`Crowd::stop_reading`] leaves to do.
    pub fn keep_alive(&mut self, now: Instant) {
        for listener in &mut self.listeners {
            listener.check(self.relay, now);
        }
    }
}

impl Listener {
    fn new(number: usize, now: Instant) -> Listener {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_nonblocking(true).expect("a socket can be");
        Listener {
            number,
            socket,
            next_check: now,
            checks: 0,
            answered: false,
            dtls: Endpoint::new((Ipv4Addr::UNSPECIFIED, 0).into(), TransportProtocol::UDP, None),
            opener: None,
            heard: false,
            sctp: None,
        }
    }

    fn has_joined(&self, data_channels: bool) -> bool {
        self.opener.is_some() && (!data_channels || self.sctp.as_ref().is_some_and(|sctp| sctp.open))
    }

    fn turn(&mut self, relay: SocketAddr, config: &Arc<HandshakeConfig>, data_channels: bool, now: Instant) {
        self.check(relay, now);
        let mut buffer = [0; 2048];
        while let Ok(len) = self.socket.recv(&mut buffer) {
            match classify(&buffer[..len]) {
                Kind::Stun if !self.answered => {
                    self.answered = true;
                    self.dtls.connect(now, relay, config.clone(), None).expect("the first connection");
                }
                Kind::Dtls => self.handle_dtls(relay, &buffer[..len], data_channels, now),
                Kind::Rtp => self.handle_rtp(&buffer[..len]),
                _ => {}
            }
        }
        if self.dtls.poll_timeout(&relay).is_some_and(|at| at <= now) {
            // The stock endpoint may refuse to repeat a flight in mid-handshake; the relay repeats its own.
            let _ = self.dtls.handle_timeout(relay, now);
        }
        self.flush_sctp(relay, now);
        while let Some(transmit) = self.dtls.poll_transmit() {
            send(&self.socket, relay, &transmit.message);
        }
    }

    fn check(&mut self, relay: SocketAddr, now: Instant) {
        if self.next_check > now {
            return;
        }
        self.next_check = now + if self.answered { CHECK_SLOW } else { CHECK_FAST };
        self.checks += 1;
        let [(theirs, password), (ours, _)] = credentials(self.number);
        let provider = rtc_crypto::default_provider().expect("a crypto provider is built in");
        let mut message = Message::new();
        message.transaction_id.0[..8].copy_from_slice(&self.checks.to_be_bytes());
        message.set_type(BINDING_REQUEST);
        message.write_header();
        let added = TextAttribute::new(ATTR_USERNAME, format!("{theirs}:{ours}")).add_to(&mut message);
        added.expect("a short name");
        message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
        message.add(ATTR_USE_CANDIDATE, &[]);
        message.add(ATTR_ICE_CONTROLLING, &[1; 8]);
        MessageIntegrity::new_short_term_integrity_with_provider(password, provider.crypto())
            .add_to(&mut message)
            .and_then(|()| FINGERPRINT.add_to(&mut message))
            .expect("room for both");
        send(&self.socket, relay, &message.raw);
    }

    fn handle_rtp(&mut self, packet: &[u8]) {
        let (Some(opener), Ok(header)) = (&mut self.opener, rtp::Header::parse(packet)) else { return };
        self.heard |= opener.open_rtp(packet, &header, &mut BytesMut::new()).is_ok();
    }

    fn handle_dtls(&mut self, relay: SocketAddr, datagram: &[u8], data_channels: bool, now: Instant) {
        let events = self.dtls.read(now, relay, None, BytesMut::from(datagram));
        for event in events.expect("a handshake over loopback") {
            match event {
                EndpointEvent::HandshakeComplete => self.handle_done(relay, data_channels, now),
                EndpointEvent::ApplicationData(data) => self.handle_sctp(data.freeze(), now),
                _ => {}
            }
        }
    }

    fn handle_done(&mut self, relay: SocketAddr, data_channels: bool, now: Instant) {
        let state = self.dtls.get_connection_state(relay).expect("the handshake is complete");
        let material = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 56);
        let material = material.expect("the handshake is complete").into_bytes();
        // client key, server key, client salt, server salt (RFC 5764 section 4.2)
        let opener = Opener::new(SrtpProfile::AeadAes128Gcm, &material[16..32], &material[44..56]);
        self.opener = Some(opener.expect("the lengths of the profile"));
        if data_channels {
            let config = Arc::new(rtc_sctp::EndpointConfig::default());
            let mut endpoint = rtc_sctp::Endpoint::new(relay, TransportProtocol::UDP, config, None);
            let config = rtc_sctp::ClientConfig::new(rtc_sctp::TransportConfig::default());
            let (handle, association) = endpoint.connect(now, config, relay).expect("the first association");
            self.sctp = Some(Sctp { endpoint, handle, association, relay, open: false });
        }
    }

    fn handle_sctp(&mut self, packet: Bytes, now: Instant) {
        if let Some(sctp) = &mut self.sctp {
            sctp.handle(packet, now);
        }
    }

    fn flush_sctp(&mut self, relay: SocketAddr, now: Instant) {
        let Some(sctp) = &mut self.sctp else { return };
        for packet in sctp.poll(now) {
            self.dtls.write(now, relay, &packet).expect("the handshake is complete");
        }
    }
}

impl Sctp {
    fn handle(&mut self, packet: Bytes, now: Instant) {
        if let Some((handle, rtc_sctp::DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(now, self.relay, None, packet)
            && handle == self.handle
        {
            self.association.handle_event(event);
        }
    }

    fn poll(&mut self, now: Instant) -> VecDeque<Bytes> {
        if self.association.poll_timeout().is_some_and(|at| at <= now) {
            self.association.handle_timeout(now);
        }
        while let Some(event) = self.association.poll() {
            match event {
                rtc_sctp::Event::Connected => self.open_channel(now),
                // The answer to the request to open it.
                rtc_sctp::Event::Stream(rtc_sctp::StreamEvent::Readable { id }) => {
                    let mut stream = self.association.stream(id).expect("it is readable");
                    while let Ok(Some(_)) = stream.read_sctp() {
                        self.open = true;
                    }
                }
                _ => {}
            }
        }
        let mut packets = VecDeque::new();
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let rtc_sctp::Payload::RawEncode(encoded) = transmit.message {
                packets.extend(encoded);
            }
        }
        packets
    }

    fn open_channel(&mut self, now: Instant) {
        let config = DataChannelConfig { label: "chat".into(), ..Default::default() };
        let mut channel = DataChannel::dial(config, 0, CHANNEL).expect("a plain channel");
        let request = channel.poll_write().expect("it asks to be opened");
        let mut stream = self.association.open_stream(CHANNEL, Ppi::Binary).expect("the first stream");
        stream.write_with_ppi(now, &request.payload, request.ppi).expect("an empty buffer");
    }
}

/// A datagram that the kernel does not take is a lost one.
fn send(socket: &UdpSocket, to: SocketAddr, datagram: &[u8]) {
    if let Err(error) = socket.send_to(datagram, to) {
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "loopback: {error}");
    }
}
