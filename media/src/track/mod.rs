//! One track inside a worker: its ring, who listens here, and what waits to be fanned out.
//!
//! It is the same for a track that is published here and for one that comes over a link.

pub(crate) mod cadence;
pub(crate) mod epoch;
pub(crate) mod id;
pub(crate) mod merger;
pub(crate) mod meter;
pub(crate) mod ring;

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, Instant},
};

use protocol::{
    Kind,
    mesh::{SenderClock, Withheld},
};

use cadence::Cadence;
use id::TrackId;
use meter::Meter;
use ring::{Refused, Ring};

use crate::rtp::packet::Packet;

/// A listener's place: the session and which of its tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// Index of the session in the worker.
    pub session: usize,
    /// Index of the track in the session.
    pub egress: usize,
}

/// One track inside a worker.
#[derive(Debug)]
pub struct Track {
    ring: Ring,
    epoch: Option<u8>,
    last_at: Option<Instant>,
    /// When the newest number came.
    newest_at: Option<Instant>,
    clock: Option<(SenderClock, Instant)>,
    /// Each keeps its place as long as it listens: a flush that is half done goes on where it was.
    listeners: Vec<Option<Listener>>,
    meter: Meter,
    /// Its packets are made here, of several of another track.
    merged: bool,
    /// Of a picture.
    cadence: Cadence,
    pending: Vec<u64>,
    flush_at: Option<Instant>,
    stale: u32,
    keyframe_asked: Option<Instant>,
    /// A keyframe is needed, and was asked for a moment before.
    keyframe_due: Option<Instant>,
}

/// The tracks of a worker.
pub type Tracks = BTreeMap<TrackId, Track>;

/// What a packet did to the track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It waits to be fanned out.
    Pending,
    /// As `Pending`, and the source starts anew with it.
    Anew,
    /// Known already, too late, or of a source that is over.
    Stale,
}

/// About 5 s at 20 ms.
const AUDIO_RING: usize = 256;
/// Of video, unless a picture needs more, see [`Ring`].
const VIDEO_RING: usize = 1024;
const VIDEO_RING_MAX: usize = 8192;
/// A frame's packets come in one burst; those to one listener then leave with one system call.
const COALESCE: Duration = Duration::from_millis(1);
/// So many at once are fanned out without waiting for the end of the frame.
pub const MAX_BURST: usize = 16;
/// A source of which nothing was heard for so long gives way to any other.
const SOURCE_IDLE: Duration = Duration::from_millis(500);
/// Of a picture nothing came for so long: what is missing now is not repaired any more, and it goes on at a keyframe.
const REST: Duration = Duration::from_secs(1);
/// But not as long as so many pictures of a slow one take.
const SLOW_PICTURES: u32 = 3;
/// So many stale packets in a row mean that the numbers jumped, not that packets are late.
const MAX_STALE: u32 = 50;
/// Between two requests to the publisher's session or the node. One that comes sooner is not lost: it is made when
/// this is over, for all who asked.
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(250);

impl Track {
    /// An empty track.
    pub fn new(kind: Kind) -> Track {
        Track {
            ring: Ring::new(match kind {
                Kind::Audio => AUDIO_RING..=AUDIO_RING,
                Kind::Video => VIDEO_RING..=VIDEO_RING_MAX,
            }),
            epoch: None,
            last_at: None,
            newest_at: None,
            clock: None,
            listeners: Vec::new(),
            meter: Meter::default(),
            merged: false,
            cadence: Cadence::default(),
            pending: Vec::new(),
            flush_at: None,
            stale: 0,
            keyframe_asked: None,
            keyframe_due: None,
        }
    }

    /// An empty track of packets that are made of several of another one.
    pub fn merged() -> Track {
        Track { merged: true, ..Track::new(Kind::Audio) }
    }

    /// Whether its packets are made of several of another track.
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    /// Takes a packet into the ring.
    pub fn handle_packet(&mut self, packet: Packet, now: Instant) -> Taken {
        let anew = match self.epoch {
            Some(epoch) if epoch == packet.epoch => false,
            Some(epoch) if !self.gives_way(epoch, packet.epoch, now) => return Taken::Stale,
            _ => true,
        };
        if anew || self.stale >= MAX_STALE {
            self.start_anew(packet.epoch);
        }
        let (kind, marker, keyframe) = (packet.kind(), packet.marker, packet.description.keyframe);
        let timestamp = packet.timestamp;
        let rested = !anew && kind == Kind::Video && self.rested(packet.sequence, now);
        if rested {
            // Numbers are no longer those of before, everything else is.
            self.ring.clear();
            self.pending.clear();
        }
        let before = self.ring.highest();
        let number = match self.ring.push(packet) {
            Ok(number) => number,
            // A repeat says nothing of where the numbers are.
            Err(Refused::Known) => return Taken::Stale,
            Err(Refused::Late) => {
                self.stale += 1;
                return Taken::Stale;
            }
        };
        let jumped = std::mem::take(&mut self.stale) >= MAX_STALE;
        self.last_at = Some(now);
        if before.is_none_or(|before| number > before) {
            self.newest_at = Some(now);
        }
        if kind == Kind::Video {
            let follows = before.is_some_and(|before| number <= before + 1);
            self.cadence.handle_packet(timestamp, follows, now);
        }
        if let Some((packet, _)) = self.ring.get(number) {
            self.meter.handle_packet(packet, now);
        }
        if keyframe {
            self.keyframe_due = None;
        }
        self.pending.push(number);
        let at_once = kind == Kind::Audio || marker || self.pending.len() >= MAX_BURST;
        let due = if at_once { now } else { now + COALESCE };
        self.flush_at = Some(self.flush_at.map_or(due, |flush| flush.min(due)));
        if anew || jumped || rested { Taken::Anew } else { Taken::Pending }
    }

    /// The publisher's clock, as it was at `now`.
    pub fn handle_clock(&mut self, epoch: u8, clock: SenderClock, now: Instant) {
        if self.epoch == Some(epoch) {
            self.clock = Some((clock, now));
        }
    }

    /// Packets of this epoch do not come: their numbers in the ring.
    pub fn handle_withheld(&mut self, epoch: u8, withheld: Withheld) -> Option<Range<u64>> {
        let is_of_now = self.epoch == Some(epoch);
        if is_of_now { self.ring.skip(withheld.first, withheld.count) } else { None }
    }

    /// The track comes from elsewhere from now on.
    pub fn handle_reset(&mut self) {
        self.epoch = None;
    }

    /// What is due for fan-out goes into `numbers`, which is empty.
    pub fn take_pending(&mut self, numbers: &mut Vec<u64>, now: Instant) {
        if self.flush_at.is_some_and(|flush| flush <= now) {
            self.flush_at = None;
            std::mem::swap(&mut self.pending, numbers);
        }
    }

    /// When something is due for fan-out.
    pub fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// True if a keyframe should be asked for now: at most one in 250 ms. If not, then at
    /// [`Track::keyframe_due`].
    pub fn ask_keyframe(&mut self, now: Instant) -> bool {
        let next = self.keyframe_asked.map(|asked| asked + KEYFRAME_INTERVAL).filter(|next| *next > now);
        self.keyframe_due = next;
        if next.is_none() {
            self.keyframe_asked = Some(now);
        }
        next.is_none()
    }

    /// When a keyframe is to be asked for, unless one has come meanwhile.
    pub fn keyframe_due(&self) -> Option<Instant> {
        self.keyframe_due
    }

    /// Its newest packets.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// When its newest packet came.
    pub fn newest_at(&self) -> Option<Instant> {
        self.newest_at
    }

    /// For fixing the padding of packets.
    pub fn ring_mut(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Who listens at this worker, by place; some places are free.
    pub fn places(&self) -> &[Option<Listener>] {
        &self.listeners
    }

    /// Who listens at this worker.
    pub fn listeners(&self) -> impl Iterator<Item = Listener> {
        self.listeners.iter().copied().flatten()
    }

    /// What flows of it.
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// How evenly its pictures come.
    pub fn cadence(&self) -> &Cadence {
        &self.cadence
    }

    /// The publisher's clock and when it was heard.
    pub fn clock(&self) -> Option<(SenderClock, Instant)> {
        self.clock
    }

    /// Somebody listens from now on.
    pub fn subscribe(&mut self, listener: Listener) {
        if self.listeners.contains(&Some(listener)) {
            return;
        }
        match self.listeners.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(listener),
            None => self.listeners.push(Some(listener)),
        }
    }

    /// Somebody listens no more.
    pub fn unsubscribe(&mut self, listener: Listener) {
        if let Some(place) = self.listeners.iter_mut().find(|place| **place == Some(listener)) {
            *place = None;
        }
        while self.listeners.last().is_some_and(Option::is_none) {
            self.listeners.pop();
        }
    }

    fn start_anew(&mut self, epoch: u8) {
        self.ring.clear();
        self.meter = Meter::default();
        self.cadence = Cadence::default();
        self.pending.clear();
        self.clock = None;
        self.epoch = Some(epoch);
    }

    /// Whether it comes on after a rest with this number, and not where it was: what would follow is the middle of a
    /// picture. A number from before the rest may still be a repair.
    fn rested(&self, sequence: u16, now: Instant) -> bool {
        let rest = REST.max(self.cadence.interval() * SLOW_PICTURES);
        let silent = self.newest_at.is_some_and(|at| now.saturating_duration_since(at) >= rest);
        silent && self.ring.is_apart(sequence)
    }

    /// A newer epoch counts at once, any other only when its source is silent: packets of a publisher
    /// that was replaced may still be on their way.
    fn gives_way(&self, epoch: u8, other: u8, now: Instant) -> bool {
        epoch::is_newer(other, epoch)
            || self.last_at.is_none_or(|last| now.saturating_duration_since(last) > SOURCE_IDLE)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use protocol::Codec;

    use super::*;
    use crate::rtp::packet::Canonical;

    fn packet(sequence: u16, epoch: u8, codec: Codec, marker: bool, now: Instant) -> Packet {
        let canonical = Canonical {
            codec,
            marker,
            sequence,
            timestamp: 0,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&[1, 2, 3]);
        Packet::from_parts(canonical, buffer, epoch, now)
    }

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn audio_leaves_at_once_and_video_with_its_frame() {
        let now = start();
        let mut audio = Track::new(Kind::Audio);
        audio.handle_packet(packet(1, 0, Codec::Opus, false, now), now);
        assert_eq!(audio.flush_at(), Some(now));
        let mut video = Track::new(Kind::Video);
        video.handle_packet(packet(1, 0, Codec::Vp8, false, now), now);
        assert_eq!(video.flush_at(), Some(now + COALESCE));
        video.handle_packet(packet(2, 0, Codec::Vp8, true, now), now);
        let mut numbers = Vec::new();
        video.take_pending(&mut numbers, now);
        assert_eq!(numbers.len(), 2);
    }

    #[test]
    fn packets_of_a_replaced_publisher_do_not_bring_it_back() {
        let now = start();
        let mut track = Track::new(Kind::Audio);
        assert_eq!(track.handle_packet(packet(1, 2, Codec::Opus, false, now), now), Taken::Anew);
        assert_eq!(track.handle_packet(packet(900, 4, Codec::Opus, false, now), now), Taken::Anew);
        assert_eq!(track.handle_packet(packet(2, 2, Codec::Opus, false, now), now), Taken::Stale);
        let later = now + SOURCE_IDLE + COALESCE;
        assert_eq!(track.handle_packet(packet(3, 2, Codec::Opus, false, later), later), Taken::Anew);
    }

    /// A picture of one packet every 40 ms, from `first` on.
    fn pictures(track: &mut Track, first: u16, count: u16, now: &mut Instant) -> Vec<Taken> {
        let one = |sequence| {
            let mut picture = packet(sequence, 0, Codec::Vp8, true, *now);
            picture.timestamp = 3600 * u32::from(sequence);
            *now += Duration::from_millis(40);
            track.handle_packet(picture, *now)
        };
        (first..first + count).map(one).collect()
    }

    #[test]
    fn a_picture_that_rested_begins_anew_where_numbers_are_missing() {
        let mut now = start();
        let mut track = Track::new(Kind::Video);
        pictures(&mut track, 1, 50, &mut now);
        let before = track.ring().highest().expect("some");
        now += REST;
        assert_eq!(pictures(&mut track, 90, 3, &mut now), [Taken::Anew, Taken::Pending, Taken::Pending]);
        assert!(track.ring().highest().expect("some") > before + 50 && track.meter().is_alive(now));
        // Nothing is missing, or what comes first is late.
        now += REST;
        assert_eq!(pictures(&mut track, 93, 1, &mut now), [Taken::Pending]);
        now += REST;
        assert_eq!(pictures(&mut track, 89, 1, &mut now), [Taken::Pending]);
        assert_eq!(
            pictures(&mut track, 99, 1, &mut now),
            [Taken::Anew],
            "it was no sign that the rest is over"
        );
        // So long that its numbers are nearer from the other side.
        now += REST;
        assert_eq!(pictures(&mut track, 40_000, 1, &mut now), [Taken::Anew]);
    }

    #[test]
    fn a_short_loss_is_no_rest_and_sound_goes_on_after_one() {
        let mut now = start();
        let mut track = Track::new(Kind::Video);
        pictures(&mut track, 1, 50, &mut now);
        now += Duration::from_millis(300);
        assert_eq!(pictures(&mut track, 60, 1, &mut now), [Taken::Pending]);
        now += REST;
        track.handle_withheld(0, Withheld { first: 61, count: 30 });
        assert_eq!(pictures(&mut track, 91, 1, &mut now), [Taken::Pending], "they were withheld");
        let mut sound = Track::new(Kind::Audio);
        sound.handle_packet(packet(1, 0, Codec::Opus, false, now), now);
        now += REST;
        assert_eq!(sound.handle_packet(packet(90, 0, Codec::Opus, false, now), now), Taken::Pending);
    }

    #[test]
    fn a_loss_in_a_slow_picture_is_no_rest() {
        let mut now = start();
        let mut track = Track::new(Kind::Video);
        for sequence in 1..20 {
            now += Duration::from_secs(1);
            pictures(&mut track, sequence, 1, &mut now);
        }
        now += Duration::from_secs(1);
        assert_eq!(pictures(&mut track, 21, 1, &mut now), [Taken::Pending]);
    }

    #[test]
    fn a_publisher_whose_numbers_jump_back_is_heard_again() {
        let now = start();
        let mut track = Track::new(Kind::Audio);
        track.handle_packet(packet(30_000, 0, Codec::Opus, false, now), now);
        let taken: Vec<_> = (1..100)
            .map(|sequence| track.handle_packet(packet(sequence, 0, Codec::Opus, false, now), now))
            .collect();
        assert_eq!(taken.iter().filter(|taken| **taken == Taken::Anew).count(), 1);
        assert_eq!(taken.last(), Some(&Taken::Pending));
    }
}
