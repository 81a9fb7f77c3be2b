//! A peer of a worker: a browser's transport from the component crates, SRTP from `rtc-srtp`, and a note of
//! everything that came.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use media::ArrivalLog;
use media::rtcp::{self, Compound, Report};
use media::rtp::Header;
use media::sdp::{EgressPlan, EgressTrack, IngestPlan, IngestTrack};
use media::srtp::{Sealer, SrtpProfile};
use media::transport::{Credentials, DtlsRole, Kind as DatagramKind, classify};
use protocol::{Kind, SessionId, mesh::SenderClock};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use super::feed::Feed;
use super::transport_sim::{Browser, Checker, Node, addr, certificate};

/// What was agreed.
pub enum Media {
    Ingest(IngestPlan),
    Egress(EgressPlan),
}

/// An RTP packet that came, opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    pub at: Instant,
    pub ssrc: u32,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
    pub padding: usize,
    pub extensions: Vec<(u8, Vec<u8>)>,
}

type Secret = (Vec<u8>, Vec<u8>);

pub struct Keys {
    pub seal: Context,
    pub open: Context,
}

pub struct Peer {
    pub session: SessionId,
    pub browser: Browser,
    pub media: Media,
    pub keys: Option<Keys>,
    pub got: Vec<Got>,
    /// Compound packets that came, opened.
    pub reports: Vec<(Instant, Vec<u8>)>,
    /// It was closed, or is silent on purpose.
    pub gone: bool,
    /// A publisher that answers NACKs.
    pub repairs: bool,
    /// What a publisher sends: audio, video.
    pub feeds: [Option<Feed>; 2],
    /// What a publisher sends in place of one picture: its encodings, in the order of the answer.
    pub encodings: Vec<Feed>,
    /// The next transport-wide sequence number.
    pub transport_sequence: u16,
    /// What a listener tells of what came, where that was agreed on.
    pub arrivals: Option<ArrivalLog>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Peer {
    #[expect(clippy::too_many_arguments, reason = "both ends' credentials")]
    pub fn new(
        session: SessionId,
        address: SocketAddr,
        relay: DtlsRole,
        relay_ufrag: &str,
        ours: &Credentials,
        relay_pwd: &str,
        media: Media,
        now: Instant,
    ) -> Peer {
        static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
        let role = if relay == DtlsRole::Client { DtlsRole::Server } else { DtlsRole::Client };
        let certificate = CERTIFICATE.get_or_init(|| certificate(false)).clone();
        let profiles = [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm];
        let mut browser = Browser::new(role, certificate, &profiles, false, now);
        browser.address = address;
        browser.pwd.clone_from(&ours.pwd);
        let username = format!("{relay_ufrag}:{}", ours.ufrag);
        browser.checker = Checker::new(addr("192.0.2.1:8080"), &username, relay_pwd, now);
        let feeds = match &media {
            Media::Ingest(plan) => [Kind::Audio, Kind::Video]
                .map(|kind| plan.tracks.iter().find(|track| track.kind == kind).map(Feed::new)),
            Media::Egress(_) => [None, None],
        };
        let told = |track: &EgressTrack| track.feedback.transport_cc;
        let tells = matches!(&media, Media::Egress(plan) if plan.tracks.iter().any(told));
        let arrivals = tells.then(|| ArrivalLog::new(now));
        let several = |track: &&IngestTrack| track.rids.len() > 1;
        let encodings = match &media {
            Media::Ingest(plan) => plan
                .tracks
                .iter()
                .find(several)
                .map(|track| (0..track.rids.len()).map(|at| Feed::encoding(track, at)).collect()),
            Media::Egress(_) => None,
        };
        Peer {
            encodings: encodings.unwrap_or_default(),
            session,
            browser,
            media,
            keys: None,
            got: Vec::new(),
            reports: Vec::new(),
            gone: false,
            repairs: false,
            feeds,
            transport_sequence: 65_500,
            arrivals,
            outgoing: VecDeque::new(),
        }
    }

    /// The track of this kind that was agreed on with a listener.
    pub fn egress(&self, kind: Kind) -> &EgressTrack {
        let Media::Egress(plan) = &self.media else { panic!("a publisher") };
        plan.tracks.iter().find(|track| track.kind == kind).unwrap()
    }

    /// The track of this kind that was agreed on with a publisher.
    pub fn ingest(&self, kind: Kind) -> &IngestTrack {
        let Media::Ingest(plan) = &self.media else { panic!("a listener") };
        plan.tracks.iter().find(|track| track.kind == kind).unwrap()
    }

    pub fn feed(&mut self, kind: Kind) -> &mut Feed {
        self.feeds[kind as usize].as_mut().unwrap()
    }

    /// What came on this kind of track, without retransmissions.
    pub fn got_media(&self, kind: Kind) -> Vec<&Got> {
        let ssrc = self.egress(kind).ssrc;
        self.got.iter().filter(|got| got.ssrc == ssrc).collect()
    }

    /// Publishes a packet that follows the last one of its kind.
    pub fn publish(&mut self, kind: Kind, payload: &[u8], marker: bool) -> u16 {
        let transport_sequence = self.transport_sequence;
        let feed = self.feed(kind);
        let plain = feed.packet(payload, marker, transport_sequence);
        let sequence = feed.sequence.wrapping_sub(1);
        self.transport_sequence = transport_sequence.wrapping_add(1);
        self.send_rtp(&plain);
        sequence
    }

    /// Publishes a packet that follows the last one of this encoding.
    pub fn publish_encoding(&mut self, encoding: usize, payload: &[u8], marker: bool) -> u16 {
        let plain = self.hold_encoding(encoding, payload, marker);
        self.send_rtp(&plain);
        self.encodings[encoding].sequence.wrapping_sub(1)
    }

    /// As `publish_encoding`, but gives the plain packet instead of sending it.
    pub fn hold_encoding(&mut self, encoding: usize, payload: &[u8], marker: bool) -> Vec<u8> {
        let transport_sequence = self.transport_sequence;
        self.transport_sequence = transport_sequence.wrapping_add(1);
        self.encodings[encoding].packet(payload, marker, transport_sequence)
    }

    /// As `publish`, but gives the plain packet instead of sending it.
    pub fn hold(&mut self, kind: Kind, payload: &[u8]) -> Vec<u8> {
        let transport_sequence = self.transport_sequence;
        self.transport_sequence = transport_sequence.wrapping_add(1);
        self.feed(kind).packet(payload, false, transport_sequence)
    }

    /// Seals and sends a plain RTP packet.
    pub fn send_rtp(&mut self, plain: &[u8]) {
        let keys = self.keys.as_mut().expect("connected");
        self.outgoing.push_back(keys.seal.encrypt_rtp(plain).unwrap().to_vec());
    }

    /// Seals and sends a plain compound packet.
    pub fn send_rtcp(&mut self, plain: &[u8]) {
        let keys = self.keys.as_mut().expect("connected");
        self.outgoing.push_back(keys.seal.encrypt_rtcp(plain).unwrap().to_vec());
    }

    /// Sends a datagram as it is.
    pub fn send_raw(&mut self, data: Vec<u8>) {
        self.outgoing.push_back(data);
    }

    /// For packets that `rtc-srtp` refuses to seal.
    pub fn sealer(&self) -> Sealer {
        let (ours, _) = self.secrets();
        Sealer::new(SrtpProfile::AeadAes128Gcm, &ours.0, &ours.1).unwrap()
    }

    /// A sender report of this kind's feed: its clock at `ntp`.
    pub fn send_report(&mut self, kind: Kind, clock: SenderClock) {
        let ssrc = self.feed(kind).ssrc;
        let mut compound = Compound::default();
        compound.sender_report(ssrc, clock, 1, 1).cname(ssrc, "publisher");
        self.send_rtcp(compound.bytes());
    }

    /// Asks again for packets of the relay's source.
    pub fn nack(&mut self, ssrc: u32, sequences: impl IntoIterator<Item = u16>) {
        let pairs: Vec<_> = sequences.into_iter().map(|sequence| (sequence, 0)).collect();
        let mut compound = Compound::default();
        compound.receiver_report(7, &[]).nack(7, ssrc, &pairs);
        self.send_rtcp(compound.bytes());
    }

    /// Asks for a keyframe.
    pub fn picture_loss(&mut self) {
        let ssrc = self.egress(Kind::Video).ssrc;
        let mut compound = Compound::default();
        compound.receiver_report(7, &[]).picture_loss(7, ssrc);
        self.send_rtcp(compound.bytes());
    }

    pub fn receive(&mut self, data: &[u8], now: Instant) {
        if self.gone {
            return;
        }
        match classify(data) {
            DatagramKind::Rtp => {
                let plain = self.keys.as_mut().expect("keys").open.decrypt_rtp(data).expect("authentic");
                self.note(&plain, now);
            }
            DatagramKind::Rtcp => {
                let plain = self.keys.as_mut().expect("keys").open.decrypt_rtcp(data).expect("authentic");
                self.reports.push((now, plain.to_vec()));
                if self.repairs {
                    self.repair(&rtcp::parse(&plain));
                }
            }
            _ => self.browser.receive(addr("192.0.2.1:8080"), data, now),
        }
        if self.browser.done && self.keys.is_none() {
            self.keys = Some(self.cut_keys());
        }
        assert_eq!(self.browser.failed, None);
    }

    fn note(&mut self, plain: &[u8], now: Instant) {
        let header = Header::parse(plain).unwrap();
        let padded = &plain[header.header_len..];
        let len = header.payload_len(padded).unwrap();
        if let (Some(log), Media::Egress(plan)) = (&mut self.arrivals, &self.media) {
            let id = plan.tracks.iter().find_map(|track| track.extensions.transport_cc);
            for (_, value) in header.extensions(plain).filter(|(found, _)| Some(*found) == id) {
                log.handle_arrival(u16::from_be_bytes([value[0], value[1]]), now);
            }
        }
        self.got.push(Got {
            at: now,
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            sequence: header.sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: padded[..len].to_vec(),
            padding: padded.len() - len,
            extensions: header.extensions(plain).map(|(id, value)| (id, value.to_vec())).collect(),
        });
    }

    fn repair(&mut self, reports: &[Report]) {
        for report in reports {
            let Report::Nack { ssrc, pairs } = report else { continue };
            let sequences: Vec<u16> = pairs
                .iter()
                .flat_map(|(first, more)| {
                    let following = (0..16).filter(move |bit| more >> bit & 1 == 1);
                    std::iter::once(*first).chain(following.map(move |bit| first.wrapping_add(bit + 1)))
                })
                .collect();
            for sequence in sequences {
                let transport_sequence = self.transport_sequence;
                let feeds = self.feeds.iter_mut().flatten().chain(&mut self.encodings);
                let feed = feeds.into_iter().find(|feed| feed.ssrc == *ssrc);
                let Some(plain) = feed.and_then(|feed| feed.again(sequence, transport_sequence)) else {
                    continue;
                };
                self.transport_sequence = transport_sequence.wrapping_add(1);
                self.send_rtp(&plain);
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.gone && self.browser.next().is_some_and(|at| at <= now) {
            self.browser.timeout(now);
        }
        let mut compound = Compound::default();
        if let Some(log) = self.arrivals.as_mut().filter(|_| !self.gone && self.keys.is_some()) {
            log.poll_feedback(7, 1, &mut compound, now);
        }
        if !compound.is_empty() {
            self.send_rtcp(compound.bytes());
        }
    }

    pub fn next(&self) -> Option<Instant> {
        if self.gone {
            return None;
        }
        let feedback = self.arrivals.as_ref().and_then(ArrivalLog::poll_timeout);
        [self.browser.next(), feedback.filter(|_| self.keys.is_some())].into_iter().flatten().min()
    }

    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.gone {
            return None;
        }
        self.outgoing.extend(self.browser.send(now).into_iter().map(|(_, _, data)| data));
        self.outgoing.pop_front()
    }

    fn cut_keys(&self) -> Keys {
        let (ours, theirs) = self.secrets();
        let context = |(key, salt): (Vec<u8>, Vec<u8>)| {
            let provider = rtc_crypto::default_provider().unwrap();
            Context::new(&key, &salt, ProtectionProfile::AeadAes128Gcm, None, None, provider.crypto())
                .unwrap()
        };
        Keys { seal: context(ours), open: context(theirs) }
    }

    /// Key and salt of what we send and of what we get, in the order of RFC 5764 section 4.2.
    fn secrets(&self) -> (Secret, Secret) {
        let material = self.browser.keying_material(56);
        let secret =
            |key: usize, salt: usize| (material[key..key + 16].to_vec(), material[salt..salt + 12].to_vec());
        let (client, server) = (secret(0, 32), secret(16, 44));
        let we_are_client = matches!(
            &self.media,
            Media::Ingest(IngestPlan { setup, .. }) | Media::Egress(EgressPlan { setup, .. })
                if *setup == media::sdp::Setup::Passive
        );
        if we_are_client { (client, server) } else { (server, client) }
    }
}
