//! A network in virtual time between a `Transport` and its peer, and two kinds of peer: a browser built from
//! the stock component crates, and a second transport. The seed decides every loss and delay; only the
//! handshake's own keys differ from run to run.

mod ledger;
mod stun;

pub use ledger::Ledger;
#[allow(unused_imports, reason = "shared by several tests")]
pub use stun::{Checker, answer, check};

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use media::DropReason;
use media::transport::*;
use rtc_datachannel::data_channel::{DataChannel, DataChannelConfig};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_sctp::PayloadProtocolIdentifier as Ppi;
use rtc_shared::TransportProtocol;
use sansio::Protocol;

#[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
pub fn origin() -> Instant {
    Instant::now()
}

pub fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// splitmix64
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One end of the network.
pub trait Node {
    fn receive(&mut self, from: SocketAddr, data: &[u8], now: Instant);
    fn timeout(&mut self, now: Instant);
    fn next(&self) -> Option<Instant>;
    /// Own address, destination, datagram.
    fn send(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)>;
    fn owns(&self, address: SocketAddr) -> bool;
}

type InFlight = Reverse<(Instant, u64, SocketAddr, SocketAddr, Vec<u8>)>;

pub struct Net {
    pub now: Instant,
    pub loss_percent: u64,
    pub dropped: usize,
    rng: Rng,
    flying: BinaryHeap<InFlight>,
    count: u64,
}

impl Net {
    pub fn new(now: Instant, loss_percent: u64, seed: u64) -> Net {
        Net { now, loss_percent, dropped: 0, rng: Rng(seed), flying: BinaryHeap::new(), count: 0 }
    }

    pub fn collect(&mut self, nodes: &mut [&mut dyn Node]) {
        for node in nodes {
            for (from, to, data) in node.send(self.now) {
                if self.rng.below(100) < self.loss_percent {
                    self.dropped += 1;
                    continue;
                }
                let at = self.now + Duration::from_micros(10_000 + self.rng.below(10_000));
                self.count += 1;
                self.flying.push(Reverse((at, self.count, from, to, data)));
            }
        }
    }

    /// Runs until `until` holds or the time is over; whether it held.
    pub fn run(
        &mut self,
        nodes: &mut [&mut dyn Node],
        limit: Duration,
        mut until: impl FnMut(&mut [&mut dyn Node]) -> bool,
    ) -> bool {
        let end = self.now + limit;
        self.collect(nodes);
        loop {
            if until(nodes) {
                return true;
            }
            let timers = nodes.iter().filter_map(|node| node.next());
            let next = timers.chain(self.flying.peek().map(|f| f.0.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return until(nodes);
            };
            self.now = self.now.max(next);
            while self.flying.peek().is_some_and(|f| f.0.0 <= self.now) {
                let Reverse((_, _, from, to, data)) = self.flying.pop().unwrap();
                if let Some(node) = nodes.iter_mut().find(|node| node.owns(to)) {
                    node.receive(from, &data, self.now);
                }
            }
            for node in nodes.iter_mut() {
                if node.next().is_some_and(|at| at <= self.now) {
                    node.timeout(self.now);
                }
            }
            self.collect(nodes);
        }
    }

    pub fn run_for(&mut self, nodes: &mut [&mut dyn Node], time: Duration) {
        self.run(nodes, time, |_| false);
    }
}

/// A transport with an address.
pub struct Relay {
    pub transport: Transport,
    pub address: SocketAddr,
    pub outputs: Vec<TransportOutput>,
    pub drops: Vec<DropReason>,
    pub sent: Vec<(SocketAddr, Vec<u8>)>,
    pub keys: Option<SrtpKeys>,
    /// Sends every message back.
    pub echo: bool,
    pub checker: Option<Checker>,
    /// What went where.
    pub ledger: Ledger,
    waiting: Vec<(SocketAddr, Vec<u8>)>,
}

impl Relay {
    pub fn new(config: TransportConfig, address: SocketAddr, now: Instant) -> Relay {
        Relay {
            transport: Transport::new(config, now),
            address,
            outputs: Vec::new(),
            drops: Vec::new(),
            sent: Vec::new(),
            keys: None,
            echo: false,
            checker: None,
            ledger: Ledger::default(),
            waiting: Vec::new(),
        }
    }

    pub fn poll(&mut self, now: Instant) {
        while let Some(output) = self.transport.poll_output() {
            match &output {
                TransportOutput::Transmit { to, data } => {
                    self.ledger.went(*to, data);
                    self.waiting.push((*to, data.clone()));
                    continue;
                }
                TransportOutput::Connected(keys, _) => {
                    assert!(self.keys.is_none(), "connected twice");
                    self.keys = Some(keys.clone());
                    self.ledger.proven(self.transport.remote().expect("an address"));
                }
                TransportOutput::Message { channel, data, binary } if self.echo => {
                    self.transport.send_message(*channel, data, *binary, now).unwrap();
                }
                _ => {}
            }
            self.outputs.push(output);
        }
    }

    pub fn closed(&self) -> Option<CloseReason> {
        self.outputs.iter().find_map(|output| match output {
            TransportOutput::Closed(reason) => Some(*reason),
            _ => None,
        })
    }

    pub fn opened(&self) -> Vec<(u16, String)> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                TransportOutput::ChannelOpen { channel, label } => Some((*channel, label.clone())),
                _ => None,
            })
            .collect()
    }
}

impl Node for Relay {
    fn receive(&mut self, from: SocketAddr, data: &[u8], now: Instant) {
        if let Some(checker) = &mut self.checker
            && checker.has_sent(data)
        {
            return checker.handle_reply(data);
        }
        self.ledger.came(from, data);
        let result = match classify(data) {
            Kind::Stun => self.transport.handle_stun(from, data, now),
            Kind::Dtls => self.transport.handle_dtls(from, data, now),
            other => panic!("unexpected {other:?}"),
        };
        if let Err(reason) = result {
            self.drops.push(reason);
        }
        self.poll(now);
    }

    fn timeout(&mut self, now: Instant) {
        if self.transport.poll_timeout().is_some_and(|at| at <= now) {
            self.transport.handle_timeout(now);
            assert!(self.transport.poll_timeout().is_none_or(|at| at > now), "a timer that never ends");
        }
        self.poll(now);
        if let Some(checker) = &mut self.checker {
            self.waiting.extend(checker.handle_timeout(now));
        }
    }

    fn next(&self) -> Option<Instant> {
        self.transport
            .poll_timeout()
            .into_iter()
            .chain(self.checker.as_ref().and_then(|checker| checker.next))
            .min()
    }

    fn send(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        self.poll(now);
        let sent = std::mem::take(&mut self.waiting);
        self.sent.extend(sent.iter().cloned());
        sent.into_iter().map(|(to, data)| (self.address, to, data)).collect()
    }

    fn owns(&self, address: SocketAddr) -> bool {
        self.address == address
    }
}

/// A browser: checks, stock rtc-dtls, stock rtc-sctp.
pub struct Browser {
    pub address: SocketAddr,
    pub checker: Checker,
    /// Signs the checks that come.
    pub pwd: String,
    /// Answers them.
    pub answers: bool,
    pub certificate: Certificate,
    pub done: bool,
    pub closed: bool,
    pub failed: Option<String>,
    pub inbox: VecDeque<(u16, Bytes, Ppi)>,
    pub channel_resets: Vec<u16>,
    pub sctp_connected: bool,
    dtls: Endpoint,
    client: Option<Arc<HandshakeConfig>>,
    sctp: rtc_sctp::Endpoint,
    association: Option<(rtc_sctp::AssociationHandle, rtc_sctp::Association)>,
    wants_channels: bool,
    waiting: Vec<Vec<u8>>,
}

const RELAY: &str = "192.0.2.1:8080";

impl Browser {
    pub fn new(
        role: DtlsRole,
        certificate: Certificate,
        profiles: &[SrtpProtectionProfile],
        wants_channels: bool,
        now: Instant,
    ) -> Browser {
        Browser::new_with(role, certificate, profiles, wants_channels, now, |config| config)
    }

    /// As `new`, with changes to its DTLS.
    pub fn new_with(
        role: DtlsRole,
        certificate: Certificate,
        profiles: &[SrtpProtectionProfile],
        wants_channels: bool,
        now: Instant,
        change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
    ) -> Browser {
        let config = ConfigBuilder::default()
            .with_crypto_provider(rtc_crypto::default_provider().unwrap())
            .with_certificates(vec![certificate.clone()])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require);
        let config = change(config).build(role == DtlsRole::Client, None).map(Arc::new).unwrap();
        let (server, client) =
            if role == DtlsRole::Client { (None, Some(config)) } else { (Some(config), None) };
        Browser {
            address: addr("198.51.100.7:40000"),
            checker: Checker::new(addr(RELAY), "relay:browser", "relay-password-relay-pw", now),
            pwd: browser_credentials().pwd,
            answers: true,
            certificate,
            done: false,
            closed: false,
            failed: None,
            inbox: VecDeque::new(),
            channel_resets: Vec::new(),
            sctp_connected: false,
            dtls: Endpoint::new(addr("0.0.0.0:0"), TransportProtocol::UDP, server),
            client,
            sctp: rtc_sctp::Endpoint::new(
                addr("0.0.0.0:0"),
                TransportProtocol::UDP,
                Arc::new(rtc_sctp::EndpointConfig::default()),
                Some(Arc::new(rtc_sctp::ServerConfig::new(sctp_config()))),
            ),
            association: None,
            wants_channels,
            waiting: Vec::new(),
        }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::sha256(self.certificate.certificate[0].as_ref())
    }

    pub fn open_channel(&mut self, channel: u16, label: &str, now: Instant) {
        let config = DataChannelConfig { label: label.into(), ..Default::default() };
        let mut dialled = DataChannel::dial(config, 0, channel).unwrap();
        let open = dialled.poll_write().unwrap();
        let (_, association) = self.association.as_mut().unwrap();
        association.open_stream(channel, Ppi::Binary).unwrap();
        association.stream(channel).unwrap().write_with_ppi(now, &open.payload, open.ppi).unwrap();
        self.flush_sctp(now);
    }

    pub fn send_message(&mut self, channel: u16, data: &[u8], ppi: Ppi, now: Instant) {
        let (_, association) = self.association.as_mut().unwrap();
        association.stream(channel).unwrap().write_with_ppi(now, data, ppi).unwrap();
        self.flush_sctp(now);
    }

    pub fn close(&mut self, now: Instant) {
        self.dtls.close(now).unwrap();
    }

    /// The certificate the relay showed.
    pub fn relay_fingerprint(&self) -> Fingerprint {
        let state = self.dtls.get_connection_state(addr(RELAY)).unwrap();
        Fingerprint::sha256(&state.peer_certificates[0])
    }

    pub fn keying_material(&self, length: usize) -> Vec<u8> {
        let state = self.dtls.get_connection_state(addr(RELAY)).unwrap();
        state.export_keying_material("EXTRACTOR-dtls_srtp", &[], length).unwrap().into_bytes()
    }

    fn handle_dtls(&mut self, data: &[u8], now: Instant) {
        match self.dtls.read(now, addr(RELAY), None, BytesMut::from(data)) {
            Ok(events) => {
                for event in events {
                    match event {
                        EndpointEvent::HandshakeComplete => self.handle_done(now),
                        EndpointEvent::ApplicationData(data) => self.handle_sctp(data.freeze(), now),
                        EndpointEvent::PeerClosed => self.closed = true,
                        _ => {}
                    }
                }
            }
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    fn handle_done(&mut self, now: Instant) {
        self.done = true;
        if self.wants_channels {
            let config = rtc_sctp::ClientConfig::new(sctp_config());
            self.association = Some(self.sctp.connect(now, config, addr(RELAY)).unwrap());
            self.flush_sctp(now);
        }
    }

    fn handle_sctp(&mut self, packet: Bytes, now: Instant) {
        match self.sctp.handle(now, addr(RELAY), None, packet) {
            Some((handle, rtc_sctp::DatagramEvent::AssociationEvent(event))) => {
                if let Some((ours, association)) = &mut self.association
                    && *ours == handle
                {
                    association.handle_event(event);
                }
            }
            Some((handle, rtc_sctp::DatagramEvent::NewAssociation(association))) => {
                self.association.get_or_insert((handle, association));
            }
            _ => {}
        }
        self.flush_sctp(now);
    }

    fn flush_sctp(&mut self, now: Instant) {
        let Some((_, association)) = &mut self.association else { return };
        while let Some(event) = association.poll() {
            match event {
                rtc_sctp::Event::Connected => self.sctp_connected = true,
                rtc_sctp::Event::Stream(rtc_sctp::StreamEvent::Readable { id }) => {
                    let mut stream = association.stream(id).unwrap();
                    while let Ok(Some(chunks)) = stream.read_sctp() {
                        let payload = chunks.to_payload(1 << 20).unwrap().freeze();
                        self.inbox.push_back((id, payload, chunks.ppi));
                    }
                }
                rtc_sctp::Event::AssociationLost { id, .. } => self.channel_resets.push(id),
                _ => {}
            }
        }
        let mut packets = Vec::new();
        while let Some(transmit) = association.poll_transmit(now) {
            if let rtc_sctp::Payload::RawEncode(encoded) = transmit.message {
                packets.extend(encoded);
            }
        }
        for packet in packets {
            let _ = self.dtls.write(now, addr(RELAY), &packet);
        }
    }
}

fn sctp_config() -> rtc_sctp::TransportConfig {
    rtc_sctp::TransportConfig::default().with_max_message_size(4 << 20)
}

impl Node for Browser {
    fn receive(&mut self, _: SocketAddr, data: &[u8], now: Instant) {
        match classify(data) {
            Kind::Stun if stun_answered(data).is_none() => {
                let reply = answer(data, &self.pwd).expect("a check with our password");
                if self.answers {
                    self.waiting.push(reply);
                }
            }
            Kind::Stun => {
                self.checker.handle_reply(data);
                if let Some(config) = self.client.take() {
                    self.dtls.connect(now, addr(RELAY), config, None).unwrap();
                }
            }
            Kind::Dtls => self.handle_dtls(data, now),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn timeout(&mut self, now: Instant) {
        let check = self.checker.handle_timeout(now);
        self.waiting.extend(check.map(|(_, data)| data));
        if self.dtls.poll_timeout(&addr(RELAY)).is_some_and(|at| at <= now)
            && let Err(error) = self.dtls.handle_timeout(addr(RELAY), now)
        {
            self.failed = Some(error.to_string());
        }
        if let Some((_, association)) = &mut self.association
            && association.poll_timeout().is_some_and(|at| at <= now)
        {
            association.handle_timeout(now);
        }
        self.flush_sctp(now);
    }

    fn next(&self) -> Option<Instant> {
        let sctp = self.association.as_ref().and_then(|(_, association)| association.poll_timeout());
        [self.checker.next, self.dtls.poll_timeout(&addr(RELAY)), sctp].into_iter().flatten().min()
    }

    fn send(&mut self, _: Instant) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        while let Some(transmit) = self.dtls.poll_transmit() {
            self.waiting.push(transmit.message.to_vec());
        }
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|data| (self.address, self.checker.to, data))
            .collect()
    }

    fn owns(&self, address: SocketAddr) -> bool {
        self.address == address
    }
}

pub fn certificate(rsa: bool) -> Certificate {
    let provider = rtc_crypto::default_provider().unwrap();
    let algorithm = if rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 };
    Certificate::generate_self_signed_with_alg(vec!["browser".to_owned()], algorithm, provider.crypto())
        .unwrap()
}

pub fn relay_credentials() -> Credentials {
    Credentials { ufrag: "relay".into(), pwd: "relay-password-relay-pw".into() }
}

pub fn browser_credentials() -> Credentials {
    Credentials { ufrag: "browser".into(), pwd: "browser-password-browser".into() }
}

/// A relay whose peer is this browser.
pub fn relay_for(browser: &Browser, role: DtlsRole, identity: &Arc<Identity>, now: Instant) -> Relay {
    let config = TransportConfig {
        identity: identity.clone(),
        role,
        local: relay_credentials(),
        remote: browser_credentials(),
        fingerprint: browser.fingerprint(),
        data_channels: browser.wants_channels,
    };
    Relay::new(config, addr(RELAY), now)
}

/// Two transports that check each other; the first is the DTLS client.
pub fn twins(a: &Arc<Identity>, b: &Arc<Identity>, now: Instant) -> (Relay, Relay) {
    let (at_a, at_b) = (addr(RELAY), addr("198.51.100.7:40000"));
    let make =
        |identity: &Arc<Identity>, peer: &Arc<Identity>, role, ours: &str, theirs: &str| TransportConfig {
            identity: identity.clone(),
            role,
            local: Credentials { ufrag: ours.into(), pwd: format!("{ours}-password-password") },
            remote: Credentials { ufrag: theirs.into(), pwd: format!("{theirs}-password-password") },
            fingerprint: peer.fingerprint(),
            data_channels: false,
        };
    let mut first = Relay::new(make(a, b, DtlsRole::Client, "aaaa", "bbbb"), at_a, now);
    let mut second = Relay::new(make(b, a, DtlsRole::Server, "bbbb", "aaaa"), at_b, now);
    first.checker = Some(Checker::new(at_b, "bbbb:aaaa", "bbbb-password-password", now));
    second.checker = Some(Checker::new(at_a, "aaaa:bbbb", "aaaa-password-password", now));
    (first, second)
}

pub const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
pub const SECOND: Duration = Duration::from_secs(1);

pub fn identity() -> Arc<Identity> {
    Arc::new(Identity::generate().unwrap())
}

pub fn opposite(role: DtlsRole) -> DtlsRole {
    if role == DtlsRole::Client { DtlsRole::Server } else { DtlsRole::Client }
}

/// A relay and a browser that have connected over a network without loss.
pub fn connected(
    ours: DtlsRole,
    rsa: bool,
    profiles: &[SrtpProtectionProfile],
    channels: bool,
) -> (Net, Relay, Browser) {
    let now = origin();
    let mut browser = Browser::new(opposite(ours), certificate(rsa), profiles, channels, now);
    let mut relay = relay_for(&browser, ours, &identity(), now);
    let mut net = Net::new(now, 0, 1);
    net.run_for(&mut [&mut relay, &mut browser], SECOND);
    assert_eq!(browser.failed, None);
    assert!(browser.done && relay.transport.is_connected(), "{:?} {:?}", relay.outputs, relay.drops);
    (net, relay, browser)
}
