//! The doors of the media plane: datagrams and commands in, datagrams and events out.
//!
//! A [`Worker`] owns some sessions of the one media port and the tracks they feed or take. The driver
//! gives it what came (`handle_*`), then polls until nothing is left: [`Worker::poll_transmit`],
//! [`Worker::poll_relayed`], [`Worker::poll_event`], and sleeps until [`Worker::poll_timeout`].

pub mod advertised;
pub mod channel;
mod channels;
pub mod hearing;
mod hears;
mod keyframe_budget;
mod listening;
mod merging;
mod pictures;
pub mod plan;
mod ranked;
mod reports;
mod sessions;
pub mod sight;
pub mod sounds;
mod stall;
mod standby;
mod trial;
mod viewing;
mod views;
pub mod wish;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use protocol::mesh::{SenderClock, Withheld};

use merging::Merging;
use pictures::Pictures;
use plan::{Audience, Command, Event, Flow, Relayed};
pub use sessions::Claim;
use sessions::{Media, Owner, Session, Sessions, Ufrag, Wake};
use sounds::Sounds;

use crate::{
    drop_reason::DropReason,
    egress::{
        batch::Batch,
        fan_out::{EgressTable, FanOut, Sending},
    },
    ingest::{Part, Received},
    rtp::{packet::Packet, rtcp, transport_cc::Feedback},
    stats::Stats,
    track::{Taken, Track, Tracks, id::TrackId},
    transport::{
        CloseReason, DtlsFailure, Kind as DatagramKind, TransportOutput, classify, stun_answered,
        stun_username,
    },
};

/// One media worker.
#[derive(Debug)]
pub struct Worker {
    index: u8,
    sessions: Sessions,
    tracks: Tracks,
    pictures: Pictures,
    sounds: Sounds,
    merging: Merging,
    fan_out: FanOut,
    /// Tracks that a keyframe will be asked for.
    asking: Vec<TrackId>,
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    /// What leaves when nothing of media does: data channels.
    yielding: VecDeque<(SocketAddr, Vec<u8>)>,
    relayed: VecDeque<(TrackId, Relayed, Audience)>,
    /// What the path of a listener is thought to carry at most, bits per second.
    most: Option<u64>,
    events: VecDeque<Event>,
    stats: Stats,
}

/// What a worker keeps for its sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sessions it owns.
    pub sessions: usize,
    /// ICE user fragments that lead to a session, also to one that another worker owns.
    pub ufrags: usize,
    /// Addresses that lead to a session it owns.
    pub addresses: usize,
    /// Places of listeners at tracks.
    pub places: usize,
}

impl Worker {
    /// The worker with this number.
    pub fn new(index: u8) -> Worker {
        Worker {
            index,
            sessions: Sessions::default(),
            tracks: Tracks::new(),
            pictures: Pictures::default(),
            sounds: Sounds::default(),
            merging: Merging::default(),
            fan_out: FanOut::default(),
            asking: Vec::new(),
            outbox: VecDeque::new(),
            yielding: VecDeque::new(),
            relayed: VecDeque::new(),
            most: None,
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// No listener gets more than this, in bits per second, whatever its path carries. To be said before there are any.
    pub fn set_max_bitrate(&mut self, most: u64) {
        self.most = Some(most);
    }

    /// What the node wants.
    pub fn handle_command(&mut self, command: Command, now: Instant) {
        match command {
            Command::Open(plan) => {
                let (Flow::Ingest { tracks, .. } | Flow::Egress { tracks, .. }) = &plan.flow;
                self.pictures.handle_stream(*tracks);
                self.sessions.open(plan);
            }
            Command::Restart { session, local, remote } => {
                self.sessions.handle_restart(session, local, remote, now);
            }
            Command::Close { session } => {
                self.sessions.close_waiting(session);
                if let Some(key) = self.sessions.find(session) {
                    if let Some(session) = self.sessions.get_mut(key) {
                        session.transport.close(now);
                    }
                    self.pump(key, now);
                    self.remove(key);
                }
            }
            Command::RequestKeyframe { track } => {
                self.request_keyframe(track, now);
            }
            Command::Forget { track } => {
                if self.tracks.get(&track).is_some_and(|track| track.listeners().next().is_none()) {
                    self.tracks.remove(&track);
                }
                self.pictures.handle_forget(track);
                self.forget_merged(track);
                self.sounds.forget(track);
            }
            Command::Advertised { tracks, encodings } => self.handle_advertised(tracks, &encodings, now),
            Command::Rungs { tracks, open, elsewhere } => self.handle_rungs((tracks, open, elsewhere), now),
            Command::Feed { tracks, feeds } => self.handle_feed(tracks, feeds),
            Command::SoundWish { session, wish } => self.handle_sound_wish(session, wish, now),
            Command::Wish { session, wish } => self.handle_wish(session, wish, now),
            Command::Watch { session, watched } => self.handle_watch(session, watched, now),
            Command::Reset { track } => {
                if let Some(track) = self.tracks.get_mut(&track) {
                    track.handle_reset();
                }
            }
        }
    }

    /// A datagram came to the media port.
    pub fn handle_datagram(&mut self, from: SocketAddr, data: &[u8], now: Instant) {
        match classify(data) {
            // An answer to a check of ours names nobody: the address that it comes from does.
            DatagramKind::Stun if stun_answered(data).is_none() => self.handle_check(from, data, now),
            kind => match self.sessions.address(from) {
                Some(Owner::Own(key)) => {
                    self.guarded(key, |own| own.handle_session_datagram(key, kind, from, data, now));
                }
                Some(Owner::Foreign(worker)) => {
                    self.events.push_back(Event::Foreign { worker, from, data: data.to_vec() });
                }
                None => self.stats.drop(DropReason::UnknownSource),
            },
        }
    }

    /// A packet of a track came from elsewhere: another worker or a link.
    pub fn handle_packet(&mut self, track: TrackId, packet: Packet, now: Instant) {
        self.take(track, packet, now);
    }

    /// A publisher's clock came from elsewhere.
    pub fn handle_clock(&mut self, track: TrackId, epoch: u8, clock: SenderClock, now: Instant) {
        if let Some(track) = self.tracks.get_mut(&track) {
            track.handle_clock(epoch, clock, now);
        }
    }

    /// Packets of a track do not come: a link on the way is too thin. Who listens at this worker gets numbers without a
    /// hole.
    pub fn handle_withheld(&mut self, id: TrackId, epoch: u8, withheld: Withheld) {
        let Some(track) = self.tracks.get_mut(&id) else { return };
        let Some(numbers) = track.handle_withheld(epoch, withheld) else { return };
        for listener in track.listeners() {
            if let Some(Sending { egress, .. }) = self.sessions.sending(listener) {
                egress.handle_withheld(id, numbers.clone());
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        // First, because it may wake a publisher's session at once.
        self.ask_due(now);
        // A session that asks to be woken in the past waits for the next turn: it must not keep this one.
        for _ in 0..self.sessions.wakes() {
            let key = match self.sessions.poll_wake(now) {
                Some(Wake::Session(key)) => key,
                Some(Wake::Nobody) => continue,
                None => break,
            };
            self.guarded(key, |own| {
                if let Some(session) = own.sessions.get_mut(key) {
                    session.transport.handle_timeout(now);
                }
                own.feed_back(key, now);
                own.pump(key, now);
            });
        }
        self.look_due(now);
        self.hear_due(now);
        self.merge_due(now);
        self.fan_out.flush_due(&mut self.tracks, &mut self.stats, now);
        self.fan_out.catch_up_due(&mut self.tracks, &mut self.sessions, now);
        self.fan_out.probe_due(now);
        self.fan_out.pace_due(now);
    }

    /// When [`Worker::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let fan_out = self.fan_out.poll_timeout(&self.tracks);
        let wake = self.sessions.poll_timeout();
        let ask = self.asking.iter().filter_map(|track| self.tracks.get(track)?.keyframe_due()).min();
        let looks = [self.pictures.poll_timeout(), self.sounds.poll_timeout(), self.merging.poll_timeout()];
        [fan_out, wake, ask].into_iter().chain(looks).flatten().min()
    }

    /// Fills `batch`: replies and reports, then what fan-out has, then data channels; false when there was nothing left to
    /// send.
    pub fn poll_transmit(&mut self, batch: &mut Batch, now: Instant) -> bool {
        if !empty_into(&mut self.outbox, batch) {
            return true;
        }
        self.fan_out.fill(batch, &self.tracks, &mut self.sessions, &mut self.stats, now);
        let mut turned = Vec::new();
        while let Some(started) = self.fan_out.poll_started() {
            let sound = self.handle_started(started);
            turned.extend(sound.filter(|sound| !turned.contains(sound)));
        }
        // Of all who turned at once the node is told once.
        turned.into_iter().for_each(|sound| self.tell_rungs(sound, Some(now)));
        while let Some(track) = self.fan_out.poll_keyframe() {
            self.want_keyframe(track, now);
        }
        empty_into(&mut self.yielding, batch);
        !batch.is_empty()
    }

    /// What the node should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What the other workers and the links should have, or the links alone.
    pub fn poll_relayed(&mut self) -> Option<(TrackId, Relayed, Audience)> {
        self.relayed.pop_front()
    }

    /// What has been counted.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What is kept at the moment.
    pub fn holdings(&self) -> Holdings {
        Holdings {
            sessions: self.sessions.len(),
            ufrags: self.sessions.ufrags(),
            addresses: self.sessions.own_addresses(),
            places: self.tracks.values().map(|track| track.listeners().count()).sum(),
        }
    }

    /// What one peer brings, or is owed. A defect that it meets ends its session, not the thread and with it
    /// the sessions of all others.
    fn guarded(&mut self, key: usize, act: impl FnOnce(&mut Worker)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            self.stats.drop(DropReason::SessionPanicked);
            self.closed(key, CloseReason::Panicked);
        }
    }

    fn handle_check(&mut self, from: SocketAddr, data: &[u8], now: Instant) {
        let Some((ufrag, _)) = stun_username(data) else {
            return self.stats.drop(DropReason::StunNoUsername);
        };
        let (key, checked) = match self.sessions.ufrag(ufrag) {
            None => return self.stats.drop(DropReason::StunUnknownUfrag),
            Some(Ufrag::Own(key)) => {
                let key = *key;
                let Some(session) = self.sessions.get_mut(key) else { return };
                (key, session.transport.handle_stun(from, data, now))
            }
            Some(Ufrag::Waiting(plan, asked)) => {
                let asked = *asked;
                if let Some(worker) = plan.claim.owner()
                    && worker != self.index
                {
                    return self.forward(worker, from, data);
                }
                let mut session = Session::new(plan.clone(), now);
                if let Err(reason) = session.transport.handle_stun(from, data, now) {
                    return self.stats.drop(reason);
                }
                let worker = session.plan.claim.claim(self.index);
                if worker != self.index {
                    return self.forward(worker, from, data);
                }
                session.handle_asked(asked, self.most, now);
                (self.sessions.insert(session), Ok(()))
            }
        };
        match checked {
            Ok(()) => self.sessions.learn(key, from),
            Err(reason) => self.stats.drop(reason),
        }
        self.pump(key, now);
    }

    fn handle_session_datagram(
        &mut self,
        key: usize,
        kind: DatagramKind,
        from: SocketAddr,
        data: &[u8],
        now: Instant,
    ) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match kind {
            DatagramKind::Dtls => {
                if let Err(reason) = session.transport.handle_dtls(from, data, now) {
                    self.stats.drop(reason);
                }
                self.pump(key, now);
            }
            DatagramKind::Rtp => {
                let (Media::Ingest(ingest), Some(keys)) = (&mut session.media, &mut session.keys) else {
                    return self.stats.drop(DropReason::RtpUnexpected);
                };
                let received = ingest.handle_rtp(data, &mut keys.opener, now);
                let mended = ingest.take_mended();
                if !matches!(received, Received::Dropped(_)) {
                    session.transport.handle_heard(from, now);
                }
                match received {
                    Received::Packet { track, packet, lost, before, whole } => {
                        Stats::traffic(&mut self.stats.received, packet.kind()).handle_packet(data.len());
                        self.stats.lost += u64::from(lost);
                        if session.handle_codec(packet.codec, now) {
                            let (session, codec) = (session.plan.id, packet.codec);
                            self.events.push_back(Event::Codec { session, codec });
                        }
                        if let Some(before) = before {
                            self.bring(track, *before, whole, now);
                        }
                        self.stats.mended += mended.len() as u64;
                        for packet in mended {
                            self.bring(track, packet, whole, now);
                        }
                        self.bring(track, packet, whole, now);
                    }
                    Received::Nothing => {}
                    Received::Aside(reason) | Received::Dropped(reason) => self.stats.drop(reason),
                    Received::Over(reason) => {
                        session.transport.give_up(reason, now);
                        return self.pump(key, now);
                    }
                }
                self.sessions.schedule(key);
            }
            DatagramKind::Rtcp => {
                let Some(keys) = &mut session.keys else {
                    return self.stats.drop(DropReason::RtcpUnexpected);
                };
                match keys.opener.open_rtcp(data) {
                    Ok(plain) => {
                        // A listener's reports count for the address that its media goes to, and for no other.
                        if matches!(session.media, Media::Ingest(_)) || session.remote == Some(from) {
                            session.transport.handle_heard(from, now);
                        }
                        self.handle_reports(key, &rtcp::parse(&plain), now);
                        for feedback in rtcp::transport_feedback(&plain) {
                            match Feedback::parse(feedback) {
                                Ok(feedback) => self.handle_transport_feedback(key, &feedback, now),
                                Err(reason) => self.stats.drop(reason),
                            }
                        }
                    }
                    Err(_) => self.stats.drop(DropReason::Srtcp),
                }
            }
            DatagramKind::Stun => {
                if let Err(reason) = session.transport.handle_stun(from, data, now) {
                    self.stats.drop(reason);
                }
                self.pump(key, now);
            }
            DatagramKind::Other => self.stats.drop(DropReason::UnknownDatagram),
        }
    }

    /// Takes what a publisher brought into its track. If it was news it is for the others too, and for the links also
    /// as a part of the whole picture.
    fn bring(&mut self, track: TrackId, packet: Packet, whole: Option<Part>, now: Instant) {
        if !self.take(track, packet.clone(), now) {
            return;
        }
        if let Some(Part { track, epoch }) = whole {
            let packet = Packet { epoch, ..packet.clone() };
            self.relayed.push_back((track, Relayed::Packet(packet), Audience::Links));
        }
        if packet.kind() == protocol::Kind::Audio && self.sounds.feeds(track) {
            self.relayed.push_back((track, Relayed::Packet(packet.clone()), Audience::Ladder));
        }
        self.relayed.push_back((track, Relayed::Packet(packet), Audience::Everybody));
    }

    /// Takes a packet into its track; true if it was news.
    fn take(&mut self, id: TrackId, packet: Packet, now: Instant) -> bool {
        let kind = packet.kind();
        let merged = self.merging.is_source(id).then(|| packet.clone());
        let track = self.tracks.entry(id).or_insert_with(|| Track::new(kind));
        let taken = track.handle_packet(packet, now);
        match taken {
            Taken::Stale => {
                self.stats.drop(DropReason::Stale);
                return false;
            }
            Taken::Pending => {}
            Taken::Anew => self.handle_anew(id, now),
        }
        if kind == protocol::Kind::Audio {
            self.look_for_stall(id, now);
        }
        self.fan_out.handle_pending(id);
        self.fan_out.flush_due(&mut self.tracks, &mut self.stats, now);
        if let Some(packet) = merged {
            self.merge(id, packet, taken == Taken::Anew, now);
        }
        true
    }

    /// Carries out what the transport of a session wants.
    fn pump(&mut self, key: usize, now: Instant) {
        while let Some(output) =
            self.sessions.get_mut(key).and_then(|session| session.transport.poll_output())
        {
            let Some(session) = self.sessions.get_mut(key) else { return };
            let id = session.plan.id;
            match output {
                TransportOutput::Transmit { to, data } if data.first() == Some(&APPLICATION_DATA) => {
                    self.yielding.push_back((to, data));
                }
                TransportOutput::Transmit { to, data } => self.outbox.push_back((to, data)),
                TransportOutput::Remote(remote) => {
                    session.remote = Some(remote);
                    self.sessions.learn(key, remote);
                }
                TransportOutput::Connected(keys, carries) => match session.handle_keys(&keys) {
                    Ok(()) => self.connected(key, carries, now),
                    Err(_) => self.closed(key, CloseReason::DtlsFailed(DtlsFailure::Keys)),
                },
                TransportOutput::Closed(reason) => self.closed(key, reason),
                // The rest is of channels.
                TransportOutput::ChannelOpen { .. }
                | TransportOutput::Message { .. }
                | TransportOutput::Acknowledged { .. }
                | TransportOutput::ChannelClosed { .. } => self.tell_of_channel((id, key), output),
            }
        }
        self.sessions.schedule(key);
    }

    fn connected(&mut self, key: usize, carries: Option<u64>, now: Instant) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        self.events.push_back(Event::Connected { session: session.plan.id });
        match &mut session.media {
            Media::Ingest(_) => self.stats.publishers += 1,
            Media::Egress(listening) => {
                listening.handle_connected(carries, now);
                // Who has data channels alone listens to nothing.
                self.stats.listeners += u64::from(!listening.tracks.is_empty());
                self.join(key, now);
            }
        }
    }

    fn closed(&mut self, key: usize, reason: CloseReason) {
        if let Some(session) = self.sessions.get_mut(key) {
            let (session, remote) = (session.plan.id, session.transport.remote());
            self.events.push_back(Event::Closed { session, reason, remote });
            self.remove(key);
        }
    }

    fn remove(&mut self, key: usize) {
        let Some(session) = self.sessions.remove(key) else { return };
        self.fan_out.handle_gone(key);
        if session.plan.transport.data_channels {
            self.events.push_back(Event::ChannelsOver { session: session.plan.id });
        }
        let connected = session.keys.is_some();
        match session.media {
            Media::Ingest(_) => self.stats.publishers -= u64::from(connected),
            Media::Egress(listening) => {
                self.stats.listeners -= u64::from(connected && !listening.tracks.is_empty());
                self.leave(key, listening.video, &listening.tracks);
            }
        }
    }

    fn forward(&mut self, worker: u8, from: SocketAddr, data: &[u8]) {
        self.sessions.learn_foreign(from, worker);
        self.events.push_back(Event::Foreign { worker, from, data: data.to_vec() });
    }
}

/// The record type of DTLS that carries data channels (RFC 6347 section 4.3.1).
const APPLICATION_DATA: u8 = 23;

/// Takes datagrams into a batch; false if some are left because it is full.
fn empty_into(waiting: &mut VecDeque<(SocketAddr, Vec<u8>)>, batch: &mut Batch) -> bool {
    while let Some((to, data)) = waiting.front() {
        if !batch.has_room(1, data.len()) {
            return false;
        }
        batch.push(*to, data.len(), |out| out.copy_from_slice(data));
        waiting.pop_front();
    }
    true
}

#[cfg(test)]
mod tests;
