//! Media workers in virtual time, joined as the relay's threads join them, and peers at the end of a wire
//! that may lose and reorder media. The seed decides every loss and delay; only keys differ from run to run.
//!
//! Every datagram that leaves a worker is checked: it goes to an address with an authentic check, no more goes
//! there than three times what came until the address has shown that it receives, and no
//! (SSRC, sequence number) of a peer is ever sealed into different octets.

#![allow(dead_code, reason = "shared by several tests, none of which needs all")]

pub mod encodings;
pub mod feed;
pub mod ladder;
pub mod narrow;
pub mod peer;
#[path = "../transport_sim/mod.rs"]
pub mod transport_sim;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media::rtcp::{self, Report};
use media::sdp::{EgressPolicy, IngestPolicy, Local, Offer, Setup, answer_egress, answer_ingest};
use media::transport::{CloseReason, Credentials, DtlsRole, Identity, Kind, TransportConfig, classify};
use media::{
    Audience, Batch, Claim, Command, DropReason, EncodingView, Epochs, Event, Flow, Health, Packet, Relayed,
    SessionPlan, Sight, SoundSight, StreamTracks, TrackId, Worker,
};
use protocol::{Codec, SessionId};

use ladder::Ladder;
use narrow::Narrow;
pub use peer::{Media, Peer};
pub use transport_sim::addr;
use transport_sim::{Checker, Ledger, Rng, origin};

/// An offer of a real client, from `offers/`.
#[allow(unused_macros, reason = "the fuzzer brings offers of its own")]
macro_rules! offer {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/offers/", $name, ".sdp"))
    };
}

pub const TRACKS: StreamTracks = StreamTracks::from_first(0);
pub const SECOND: Duration = Duration::from_secs(1);

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What the wire does to SRTP and SRTCP; STUN and DTLS always arrive, their loss is tested elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    pub loss_percent: u64,
    pub jitter: Duration,
}

enum Item {
    Up { from: SocketAddr, data: Vec<u8> },
    Down { peer: usize, data: Vec<u8> },
    Command(usize, Command),
    Relayed(usize, TrackId, Relayed),
    Datagram { worker: usize, from: SocketAddr, data: Vec<u8> },
}

/// What left for a peer under one (SSRC, sequence number).
pub struct Sealed {
    pub octets: Vec<u8>,
    pub times: u32,
}

pub struct Sim {
    pub start: Instant,
    pub now: Instant,
    pub workers: Vec<Worker>,
    pub peers: Vec<Peer>,
    pub up: Impairment,
    pub down: Impairment,
    /// The worker at which datagrams from an address land; 0 for those not named.
    pub lands: BTreeMap<SocketAddr, usize>,
    pub closed: Vec<(SessionId, CloseReason)>,
    pub health: HashMap<SessionId, Health>,
    pub codecs: Vec<(SessionId, Codec)>,
    pub encodings: HashMap<SessionId, Vec<EncodingView>>,
    /// What listeners see, as far as somebody asked.
    pub sights: Vec<(Instant, Sight)>,
    pub sound_sights: Vec<(Instant, SoundSight)>,
    /// What listeners want of a picture from elsewhere, by worker.
    pub demands: BTreeMap<u8, [u32; 4]>,
    pub foreign: usize,
    pub keyframes_wanted: usize,
    /// The tracks that keyframes were wanted of.
    pub wanted: Vec<TrackId>,
    /// Who makes rungs of the sound.
    pub ladder: Ladder,
    /// Listeners that are opened from now on get merged packets of the sound.
    pub merged: bool,
    /// Narrow wires, by peer.
    pub narrow: HashMap<usize, Narrow>,
    /// Who is on the narrow wire of another.
    pub beside: HashMap<usize, usize>,
    /// What links could take.
    pub links: Vec<(Instant, TrackId, Relayed)>,
    /// By peer, SSRC and sequence number.
    pub sealed: HashMap<(usize, u32, u64), Sealed>,
    highest: HashMap<(usize, u32), u64>,
    /// Packets dropped by the wire on the way up.
    pub lost_up: usize,
    pub rng: Rng,
    /// Passes packets between workers with up to this much delay.
    pub handover: Duration,
    epochs: Option<Epochs>,
    /// What went where.
    pub ledger: Ledger,
    identity: Arc<Identity>,
    flying: BTreeMap<(Instant, u64), Item>,
    count: u64,
    by_address: HashMap<SocketAddr, usize>,
}

impl Sim {
    pub fn new(workers: u8, seed: u64) -> Sim {
        let now = origin();
        Sim {
            start: now,
            now,
            workers: (0..workers).map(Worker::new).collect(),
            peers: Vec::new(),
            up: Impairment::default(),
            down: Impairment::default(),
            lands: BTreeMap::new(),
            closed: Vec::new(),
            health: HashMap::new(),
            codecs: Vec::new(),
            encodings: HashMap::new(),
            sights: Vec::new(),
            sound_sights: Vec::new(),
            demands: BTreeMap::new(),
            foreign: 0,
            keyframes_wanted: 0,
            wanted: Vec::new(),
            ladder: Ladder::default(),
            merged: false,
            narrow: HashMap::new(),
            beside: HashMap::new(),
            links: Vec::new(),
            sealed: HashMap::new(),
            highest: HashMap::new(),
            lost_up: 0,
            rng: Rng(seed),
            handover: Duration::ZERO,
            epochs: None,
            ledger: Ledger::default(),
            identity: Arc::new(Identity::generate().unwrap()),
            flying: BTreeMap::new(),
            count: 0,
            by_address: HashMap::new(),
        }
    }

    /// A publisher with this offer, opened but not connected. The first one begins behind epoch `before`.
    pub fn publisher(&mut self, offer: &str, before: u8) -> usize {
        let epochs = self.epochs.get_or_insert_with(|| Epochs::new(before)).clone();
        self.open(offer, |offer, local, _| {
            let (_, plan) = answer_ingest(offer, local, &IngestPolicy::default()).unwrap();
            let setup = (plan.setup, plan.data_channel);
            (setup, Media::Ingest(plan.clone()), Flow::Ingest { plan, tracks: TRACKS, epochs })
        })
    }

    /// A listener with this offer, opened but not connected.
    pub fn listener(&mut self, offer: &str) -> usize {
        self.listener_with(offer, &[Codec::Opus, Codec::Vp8], |_| {})
    }

    /// As `listener`, with what the stream carries now, and with changes to what was agreed.
    pub fn listener_with(
        &mut self,
        offer: &str,
        preferred: &[Codec],
        change: impl FnOnce(&mut media::sdp::EgressPlan),
    ) -> usize {
        let merged = self.merged;
        self.open(offer, |offer, local, number| {
            let policy = EgressPolicy::new("main-stage", preferred, 10_000 + 100 * number as u32);
            let (_, mut plan) = answer_egress(offer, local, &policy).unwrap();
            change(&mut plan);
            let setup = (plan.setup, plan.data_channel);
            let cname = "main-stage".into();
            let flow = Flow::Egress { plan: plan.clone(), tracks: TRACKS, cname, merged };
            (setup, Media::Egress(plan), flow)
        })
    }

    fn open(
        &mut self,
        text: &str,
        answer: impl FnOnce(&Offer, &Local<'_>, usize) -> ((Setup, bool), Media, Flow),
    ) -> usize {
        let number = self.peers.len();
        let offer = Offer::parse(text).unwrap();
        let (ufrag, pwd) = (format!("relay{number}"), format!("relay-password-{number:08}"));
        let fingerprint = self.identity.fingerprint().to_string();
        let local =
            Local { ufrag: &ufrag, pwd: &pwd, fingerprint: &fingerprint, candidates: &[], session_id: 1 };
        let ((setup, data_channels), media, flow) = answer(&offer, &local, number);
        let mut id = SessionId([0; 16]);
        id.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let role = if setup == Setup::Active { DtlsRole::Client } else { DtlsRole::Server };
        let address = SocketAddr::from(([10, 0, (number / 250) as u8, (number % 250) as u8 + 1], 40_000));
        let remote = Credentials { ufrag: offer.ufrag().to_owned(), pwd: offer.pwd().to_owned() };
        let peer = Peer::new(id, address, role, &ufrag, &remote, &pwd, media, self.now);
        let transport = TransportConfig {
            identity: self.identity.clone(),
            role,
            local: Credentials { ufrag, pwd },
            remote,
            fingerprint: peer.browser.fingerprint(),
            data_channels,
        };
        let plan = Arc::new(SessionPlan { id, transport, flow, claim: Claim::default() });
        self.tell(&Command::Open(plan));
        self.peers.push(peer);
        self.move_to(number, address);
        number
    }

    /// Connects what has been opened.
    pub fn connect(&mut self) {
        for _ in 0..20 {
            self.run(ms(100));
            if self.peers.iter().all(|peer| peer.keys.is_some() || peer.gone) {
                return;
            }
        }
        panic!("peers that do not connect");
    }

    /// The peer sends from another address.
    pub fn move_to(&mut self, peer: usize, address: SocketAddr) {
        self.peers[peer].browser.address = address;
        self.by_address.insert(address, peer);
    }

    /// An ICE restart; the peer checks with the new credentials if it is told to.
    pub fn restart(&mut self, peer: usize, round: usize, checks: bool) {
        let local =
            Credentials { ufrag: format!("again{peer}x{round}"), pwd: format!("password-again-{round:08}") };
        let session = self.peers[peer].session;
        let remote = Credentials { ufrag: "new".into(), pwd: format!("new-password-of-the-peer-{round}") };
        if checks {
            self.peers[peer].browser.pwd.clone_from(&remote.pwd);
            let username = format!("{}:new", local.ufrag);
            self.peers[peer].browser.checker =
                Checker::new(addr("192.0.2.1:8080"), &username, &local.pwd, self.now);
        }
        self.tell(&Command::Restart { session, local, remote });
    }

    /// Ends a session, as DELETE does.
    pub fn close(&mut self, peer: usize) {
        let session = self.peers[peer].session;
        self.peers[peer].gone = true;
        self.tell(&Command::Close { session });
    }

    pub fn tell(&mut self, command: &Command) {
        for worker in 0..self.workers.len() {
            self.fly(self.now, Item::Command(worker, command.clone()));
        }
    }

    /// A datagram from anywhere.
    pub fn inject(&mut self, from: SocketAddr, data: Vec<u8>) {
        self.fly(self.now, Item::Up { from, data });
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.poll_peers();
            while self.flying.first_key_value().is_some_and(|((at, _), _)| *at <= self.now) {
                self.deliver();
                (0..self.workers.len()).for_each(|worker| self.turn(worker));
                self.poll_peers();
            }
            let timers = self.peers.iter().filter_map(Peer::next);
            let timers = timers.chain(self.workers.iter().filter_map(Worker::poll_timeout));
            let next = timers.chain(self.flying.keys().next().map(|(at, _)| *at)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            (0..self.workers.len()).for_each(|worker| self.turn(worker));
            self.peers.iter_mut().for_each(|peer| peer.handle_timeout(self.now));
        }
    }

    /// Everything that is due, without letting the workers send in between: as one batch of the socket.
    fn deliver(&mut self) {
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Item::Up { from, data } => {
                    self.ledger.came(from, &data);
                    let worker = self.lands.get(&from).copied().unwrap_or_default();
                    self.workers[worker].handle_datagram(from, &data, self.now);
                }
                Item::Down { peer, data } => self.peers[peer].receive(&data, self.now),
                Item::Command(worker, command) => self.workers[worker].handle_command(command, self.now),
                Item::Relayed(worker, track, Relayed::Packet(packet)) => {
                    self.workers[worker].handle_packet(track, packet, self.now);
                }
                Item::Relayed(worker, track, Relayed::Clock { epoch, clock }) => {
                    self.workers[worker].handle_clock(track, epoch, clock, self.now);
                }
                Item::Relayed(worker, track, Relayed::Withheld { epoch, withheld }) => {
                    self.workers[worker].handle_withheld(track, epoch, withheld);
                }
                Item::Datagram { worker, from, data } => {
                    self.workers[worker].handle_datagram(from, &data, self.now);
                }
            }
        }
    }

    /// One turn of a worker's thread after it has received.
    fn turn(&mut self, worker: usize) {
        if self.workers[worker].poll_timeout().is_some_and(|at| at <= self.now) {
            self.workers[worker].handle_timeout(self.now);
            let next = self.workers[worker].poll_timeout();
            assert!(next.is_none_or(|at| at > self.now), "a timer that never ends");
        }
        self.pass_on(worker);
        let mut batch = Batch::default();
        while self.workers[worker].poll_transmit(&mut batch, self.now) {
            for run in batch.runs() {
                for datagram in batch.bytes(run).chunks(run.segment) {
                    self.emit(run.to, datagram.to_vec());
                }
            }
            batch.clear();
        }
        self.pass_on(worker);
    }

    fn pass_on(&mut self, worker: usize) {
        while let Some((track, relayed, audience)) = self.workers[worker].poll_relayed() {
            if audience == Audience::Ladder {
                let Relayed::Packet(packet) = relayed else { continue };
                for (rung, packet) in self.ladder.handle_packet(packet, self.now) {
                    for worker in 0..self.workers.len() {
                        let at = self.now + self.random(self.handover);
                        self.fly(at, Item::Relayed(worker, rung, Relayed::Packet(packet.clone())));
                    }
                }
                continue;
            }
            self.links.push((self.now, track, relayed.clone()));
            let everybody = audience == Audience::Everybody;
            for other in (0..self.workers.len()).filter(|other| *other != worker && everybody) {
                let at = self.now + self.random(self.handover);
                self.fly(at, Item::Relayed(other, track, relayed.clone()));
            }
        }
        while let Some(event) = self.workers[worker].poll_event() {
            match event {
                Event::Foreign { worker, from, data } => {
                    self.foreign += 1;
                    self.fly(self.now, Item::Datagram { worker: usize::from(worker), from, data });
                }
                Event::KeyframeWanted { track } => {
                    self.keyframes_wanted += 1;
                    self.wanted.push(track);
                    self.tell(&Command::RequestKeyframe { track });
                }
                Event::Closed { session, reason, .. } => {
                    self.closed.push((session, reason));
                    self.tell(&Command::Close { session });
                }
                Event::Sound { .. } | Event::Heard { .. } => {}
                Event::SoundSight { sight, .. } => self.sound_sights.push((self.now, sight)),
                Event::Rungs { worker, wanted, left, .. } => {
                    let made = std::array::from_fn(|rung| wanted[rung] + left[rung]);
                    let feeds = self.ladder.handle_wanted(worker, made);
                    self.tell(&Command::Feed { tracks: TRACKS, feeds });
                }
                Event::Sight { sight, .. } => self.sights.push((self.now, *sight)),
                Event::Demand { worker, wanted, .. } => {
                    self.demands.insert(worker, wanted);
                }
                Event::Health { session, health } => drop(self.health.insert(session, health)),
                Event::Connected { session } => {
                    let peer = self.peers.iter().find(|peer| peer.session == session).unwrap();
                    self.ledger.proven(peer.browser.address);
                }
                Event::Channel(..) | Event::ChannelsOver { .. } => {}
                Event::Encodings { session, encodings } => drop(self.encodings.insert(session, encodings)),
                Event::Codec { session, codec } => self.codecs.push((session, codec)),
            }
        }
    }

    fn emit(&mut self, to: SocketAddr, data: Vec<u8>) {
        self.ledger.went(to, &data);
        let Some(&peer) = self.by_address.get(&to) else { return };
        let kind = classify(&data);
        if kind == Kind::Rtp {
            let header = media::rtp::Header::parse(&data).unwrap();
            // as the receiver extends them: a jump of the source may bring the wrap near
            let number = match self.highest.get(&(peer, header.ssrc)) {
                Some(highest) => media::rtp::extend(*highest, header.sequence),
                None => u64::from(header.sequence),
            };
            let highest = self.highest.entry((peer, header.ssrc)).or_default();
            *highest = number.max(*highest);
            let key = (peer, header.ssrc, number);
            let sealed = self.sealed.entry(key).or_insert_with(|| Sealed { octets: data.clone(), times: 0 });
            assert!(sealed.octets == data, "different octets under one number: {key:?}");
            sealed.times += 1;
        }
        let at = match self.travel(kind, self.down) {
            Some(at) => at,
            None => return,
        };
        let wire = self.beside.get(&peer).unwrap_or(&peer);
        let at = match self.narrow.get_mut(wire) {
            Some(narrow) => narrow.pass(data.len(), self.now).map(|through| through + (at - self.now)),
            None => Some(at),
        };
        if let Some(at) = at {
            self.fly(at, Item::Down { peer, data });
        }
    }

    fn poll_peers(&mut self) {
        for peer in 0..self.peers.len() {
            let from = self.peers[peer].browser.address;
            while let Some(data) = self.peers[peer].poll_transmit(self.now) {
                let kind = classify(&data);
                match self.travel(kind, self.up) {
                    Some(at) => self.fly(at, Item::Up { from, data }),
                    None => self.lost_up += usize::from(kind == Kind::Rtp),
                }
            }
        }
    }

    /// When a datagram arrives, if it does; in steps of half a millisecond, so that some come together.
    fn travel(&mut self, kind: Kind, impairment: Impairment) -> Option<Instant> {
        let media = matches!(kind, Kind::Rtp | Kind::Rtcp);
        if media && self.rng.below(100) < impairment.loss_percent {
            return None;
        }
        let delay = ms(10) + if media { self.random(impairment.jitter) } else { Duration::ZERO };
        Some(self.now + delay)
    }

    fn random(&mut self, below: Duration) -> Duration {
        let steps = below.as_micros() as u64 / 500;
        if steps == 0 { Duration::ZERO } else { Duration::from_micros(500 * self.rng.below(steps + 1)) }
    }

    fn fly(&mut self, at: Instant, item: Item) {
        self.count += 1;
        self.flying.insert((at, self.count), item);
    }

    /// Sound for this many packets of 20 ms.
    pub fn sound(&mut self, publisher: usize, packets: usize) {
        for _ in 0..packets {
            let peer = &mut self.peers[publisher];
            let feed = peer.feed(protocol::Kind::Audio);
            let payload = [&b"opus"[..], &feed.timestamp.to_be_bytes()].concat();
            peer.publish(protocol::Kind::Audio, &payload, false);
            peer.feed(protocol::Kind::Audio).timestamp += 960;
            self.run(ms(20));
        }
    }

    /// One frame of VP8 in packets of about `size` octets, all at once; no time passes.
    pub fn frame(&mut self, publisher: usize, keyframe: bool, packets: usize, size: usize) {
        let peer = &mut self.peers[publisher];
        for packet in 0..packets {
            let mut payload = vec![if packet == 0 { 0x10 } else { 0 }, u8::from(!keyframe)];
            payload.extend(peer.feed(protocol::Kind::Video).timestamp.to_be_bytes());
            payload.extend((packet as u16).to_be_bytes());
            payload.resize(size.max(8) + self.rng.below(30) as usize, 0xab);
            peer.publish(protocol::Kind::Video, &payload, packet + 1 == packets);
        }
        peer.feed(protocol::Kind::Video).timestamp += 3000;
    }

    /// One frame of VP8 in each of these encodings, in packets of about 200 octets times the place of the encoding; no
    /// time passes. The encoding at place n is 160 pixels wide, doubled n times.
    pub fn pictures(&mut self, publisher: usize, encodings: &[usize], keyframe: bool) {
        for &encoding in encodings {
            let peer = &mut self.peers[publisher];
            let timestamp = peer.encodings[encoding].timestamp;
            for packet in 0..2_u8 {
                let mut payload = vec![if packet == 0 { 0x10 } else { 0 }, u8::from(!keyframe), 0, 0];
                let [low, high] = (160_u16 << encoding).to_le_bytes();
                payload.extend([0x9d, 0x01, 0x2a, low, high, low, high]);
                payload.extend([encoding as u8, packet]);
                payload.extend(timestamp.to_be_bytes());
                payload.resize(200 * (encoding + 1), 0xab);
                peer.publish_encoding(encoding, &payload, packet == 1);
            }
            peer.encodings[encoding].timestamp = timestamp.wrapping_add(3600);
        }
    }

    /// So many frames of 40 ms as in `pictures`, with keyframes when they are asked for.
    pub fn show(&mut self, publisher: usize, encodings: &[usize], frames: usize) {
        for _ in 0..frames {
            let (since, peer) = (self.now - ms(40), &self.peers[publisher]);
            let lately = peer.reports.iter().rev().take_while(|(at, _)| *at > since);
            let wanted: Vec<u32> = lately.flat_map(|(_, compound)| media_of_losses(compound)).collect();
            for &encoding in encodings {
                let ssrc = self.peers[publisher].encodings[encoding].ssrc;
                self.pictures(publisher, &[encoding], wanted.contains(&ssrc));
            }
            self.run(ms(40));
        }
    }

    /// What links could take of a track.
    pub fn to_links(&self, track: TrackId) -> Vec<(Instant, Packet)> {
        let of_it = self.links.iter().filter(|(_, of, _)| *of == track);
        let packet = |(at, _, relayed): &'_ (Instant, TrackId, Relayed)| match relayed {
            Relayed::Packet(packet) => Some((*at, packet.clone())),
            Relayed::Clock { .. } | Relayed::Withheld { .. } => None,
        };
        of_it.filter_map(packet).collect()
    }

    /// Dropped for this reason by all workers.
    pub fn drops(&self, reason: &str) -> u64 {
        let reason = DropReason::ALL.iter().find(|known| known.label() == reason).expect("a reason there is");
        self.workers.iter().filter_map(|worker| worker.stats().drops.get(reason)).sum()
    }
}

/// The SSRCs that a compound packet asks a keyframe of.
pub fn media_of_losses(compound: &[u8]) -> Vec<u32> {
    let asked = |report| match report {
        Report::Keyframe { ssrc } => Some(ssrc),
        _ => None,
    };
    rtcp::parse(compound).into_iter().filter_map(asked).collect()
}

/// When the publisher was asked for keyframes.
pub fn keyframe_requests(sim: &Sim, publisher: usize) -> Vec<Instant> {
    let asks = |compound: &[u8]| {
        rtcp::parse(compound).iter().any(|report| matches!(report, Report::Keyframe { .. }))
    };
    sim.peers[publisher].reports.iter().filter(|(_, compound)| asks(compound)).map(|(at, _)| *at).collect()
}

/// Whether a listener's numbers of one kind go on without a gap.
pub fn is_continuous(sim: &Sim, listener: usize, kind: protocol::Kind) -> bool {
    let got = sim.peers[listener].got_media(kind);
    got.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1))
}
