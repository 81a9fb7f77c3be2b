//! What leaves a lane of video that is too full: pictures, not packets. A picture that lacks a packet is of no use, nor
//! is any that refers to it, so a track that has to give way gives up its higher temporal layers, then its higher spatial
//! layers, and if that is not enough, everything up to its next keyframe. The best encodings give way first. No clock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use media::rtp::descriptor::{Description, Extent, SpatialLayer, TemporalLayer};
use protocol::mesh::{Alias, DatagramKind, Withheld};

use super::{
    packet::{Packet, sequence, timestamp},
    queue::Queue,
    withheld::{Numbers, notice},
};

/// A lane with this wait or less has drained: what was shed may come back.
pub(crate) const DRAINED: Duration = Duration::from_millis(75);
/// Of a lane that is late enough has gone when the rest leaves within this time, as it drained lately: together with the
/// time that a packet waits before it is late, that is as long as a repair of video may take. All of the rest came while
/// the lane was becoming late, so what comes of it from now on is two thirds of what the link takes.
pub(crate) const SOON: Duration = Duration::from_millis(100);
/// A keyframe that does not come is asked for again after this time.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// All spatial layers of the pictures that the others refer to.
const BASE_OF_TIME: Extent = Extent { spatial: SpatialLayer(u8::MAX), temporal: TemporalLayer(0) };
/// In the second octet of an RTP header.
const MARKER: u8 = 0x80;

/// Of a track that is silent for so many ticks nothing is waited for.
const QUIET: u8 = 2;
/// And after so many it is forgotten: most have ended. If one goes on all the same, its listeners see a gap.
const FORGOTTEN: u8 = 60;

/// The tracks of a link that give way.
#[derive(Debug, Default)]
pub(crate) struct Shedding {
    tracks: BTreeMap<Alias, Track>,
    wanted: VecDeque<Alias>,
    shed: Shed,
}

/// Packets that were shed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shed {
    /// Of higher temporal and spatial layers.
    pub layers: u64,
    /// Of pictures that nobody could decode any more.
    pub pictures: u64,
}

/// A track that gives way.
#[derive(Debug)]
struct Track {
    gives: Gives,
    precedence: u8,
    /// What was shed since its last packet in the lane.
    withheld: Numbers,
    /// When a keyframe was asked for.
    asked: Option<Instant>,
    /// Calls of [`Shedding::handle_tick`] since something came of it.
    quiet: u8,
}

/// What a track gives up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gives {
    /// Layers above `sent`; there are some up to `highest`. Not of the picture of this timestamp: some of it has left
    /// without the marker.
    Layers { sent: Extent, highest: Extent, but: Option<u32> },
    /// Everything up to its next keyframe, but for the picture of this timestamp: a keyframe of which some has left
    /// already. Without it a picture whose keyframe takes long would never come through.
    Pictures { but: Option<u32> },
}

/// What a track has in the lane.
#[derive(Debug, Clone, Copy)]
struct Load {
    alias: Alias,
    precedence: u8,
    octets: usize,
}

impl Shedding {
    /// Whether some track gives way: then packets go through [`Shedding::push`].
    #[inline]
    pub fn is_active(&self) -> bool {
        !self.tracks.is_empty()
    }

    /// Queues a packet, unless its track gives it up. `is_low`: the lane has drained.
    #[cold]
    pub fn push(&mut self, mut packet: Packet, lane: &mut Queue, is_low: bool, now: Instant) {
        let is_held_back = self.is_held_back(packet.precedence);
        if is_held_back {
            self.tracks.entry(packet.alias).or_insert_with(|| Track::new(packet.precedence));
        }
        let Some(track) = self.tracks.get_mut(&packet.alias) else { return lane.push(packet, None, now) };
        track.quiet = 0;
        let Packet { class, alias, precedence, epoch, .. } = packet;
        match packet.kind {
            DatagramKind::Rtp => {
                let read = read(&packet, now);
                if track.passes(read.as_ref(), is_low && !is_held_back) {
                    let withheld = std::mem::take(&mut track.withheld).boxed();
                    if let Some(read) = read.filter(|read| track.gives.ends(read)) {
                        packet.payload = with_marker(&read.bytes);
                    }
                    if track.is_over() {
                        self.tracks.remove(&alias);
                    }
                    return lane.push(packet, withheld, now);
                }
                let next = track.asked.map(|asked| asked + ASK_EVERY);
                match track.gives {
                    Gives::Layers { .. } => self.shed.layers += 1,
                    Gives::Pictures { .. } => self.shed.pictures += 1,
                }
                // Not before it would be taken.
                let waits = track.gives.needs_keyframe() && is_low && !is_held_back;
                if waits && next.is_none_or(|next| next <= now) {
                    track.asked = Some(now);
                    self.wanted.push_back(alias);
                }
                if let Some(number) = sequence(&packet.payload) {
                    track.withheld.add(epoch, number);
                }
            }
            // What was shed before it came here, and is no news that could wait.
            DatagramKind::Withheld => {
                if let Some(run) = Withheld::read(&packet.payload) {
                    track.withheld.add_run(epoch, run);
                }
            }
            _ => return lane.push(packet, None, now),
        }
        if let Some(run) = track.withheld.pop_full() {
            lane.push(notice(class, alias, precedence, run), None, now);
        }
    }

    /// Sheds until the lane is relieved, or nothing is left that could go: of the highest precedence first, of that the
    /// track with most octets. `leaving`: the timestamp of a track's keyframe of which some has left.
    pub fn relieve(
        &mut self,
        lane: &mut Queue,
        is_relieved: impl Fn(&Queue) -> bool,
        leaving: impl Fn(Alias) -> Option<u32>,
        now: Instant,
    ) {
        if is_relieved(lane) {
            return;
        }
        let loads = loads(lane);
        let lowest = loads.last().map(|load| load.precedence);
        for load in loads {
            for most in [BASE_OF_TIME, Extent::BASE] {
                self.shed_layers(load, most, lane, now);
                if is_relieved(lane) {
                    return;
                }
            }
            // A keyframe of a better encoding is not worth the base of another picture.
            let may_finish = Some(load.precedence) == lowest;
            self.shed_pictures(load, lane, || leaving(load.alias).filter(|_| may_finish));
            if is_relieved(lane) {
                return;
            }
        }
    }

    /// The next track of which a keyframe is needed, because all before it has been shed.
    pub fn poll_keyframe(&mut self) -> Option<Alias> {
        self.wanted.pop_front()
    }

    /// What was shed after the last packet of each track in the lane, for tests.
    #[cfg(test)]
    pub fn untold(&self) -> impl Iterator<Item = (Alias, Withheld)> {
        let of = |(alias, track): (&Alias, &Track)| {
            let alias = *alias;
            track.withheld.iter().map(move |(_, run)| (alias, run)).collect::<Vec<_>>()
        };
        self.tracks.iter().flat_map(of)
    }

    /// Whether something was shed since the last [`Shedding::take_shed`].
    #[inline]
    pub fn has_shed(&self) -> bool {
        self.shed != Shed::default()
    }

    /// What was shed since the last call.
    pub fn take_shed(&mut self) -> Shed {
        std::mem::take(&mut self.shed)
    }

    /// A track of which nothing comes any more keeps no other from coming back: call it every few seconds.
    pub fn handle_tick(&mut self) {
        self.tracks.retain(|_, track| {
            track.quiet += 1;
            track.quiet < FORGOTTEN
        });
    }

    /// Whether a track of less precedence has no picture: then none of more gets one.
    fn is_held_back(&self, precedence: u8) -> bool {
        self.tracks.values().any(|track| {
            track.precedence < precedence
                && track.quiet < QUIET
                && matches!(track.gives, Gives::Pictures { .. })
        })
    }

    /// Gives up the layers above `most`.
    fn shed_layers(&mut self, load: Load, most: Extent, lane: &mut Queue, now: Instant) {
        if let Some(Track { gives: Gives::Pictures { .. }, .. }) = self.tracks.get(&load.alias) {
            return;
        }
        let of = |packet: &Packet| {
            read(packet, now).map(|packet| (packet.timestamp, packet.description)).unwrap_or_default()
        };
        let all = || lane.iter().filter(|packet| load.is_of(packet)).map(of);
        let highest = all().fold(Extent::BASE, |highest, (_, said)| above(highest, &said));
        if highest.up_to(most) == highest {
            return;
        }
        // Of a picture that has begun to leave the rest does, or it would have no end.
        let left = all().next().filter(|(_, said)| !said.picture_begins).map(|(timestamp, _)| timestamp);
        let but = left.filter(|_| most.spatial < highest.spatial);
        let track = self.tracks.entry(load.alias).or_insert_with(|| Track::new(load.precedence));
        let (sent, highest) = match track.gives {
            Gives::Layers { sent, highest: known, .. } => (sent.up_to(most), highest_of(highest, known)),
            Gives::Pictures { .. } => (most, highest),
        };
        let gives = Gives::Layers { sent, highest, but };
        track.gives = gives;
        self.shed.layers += track.shed(load, lane, |packet| {
            let (timestamp, said) = of(packet);
            !gives.has(timestamp, &said)
        });
        lane.retain(|queued| {
            let packet = &mut queued.packet;
            if load.is_of(packet)
                && let Some(read) = read(packet, now).filter(|read| gives.ends(read))
            {
                packet.payload = with_marker(&read.bytes);
            }
            true
        });
    }

    fn shed_pictures(&mut self, load: Load, lane: &mut Queue, leaving: impl Fn() -> Option<u32>) {
        let track = self.tracks.entry(load.alias).or_insert_with(|| Track::new(load.precedence));
        let but = leaving();
        track.gives = Gives::Pictures { but };
        self.shed.pictures +=
            track.shed(load, lane, |packet| but.is_none() || timestamp(&packet.payload) != but);
    }
}

impl Gives {
    /// Whether a packet leaves.
    fn has(&self, timestamp: u32, said: &Description) -> bool {
        let Gives::Layers { sent, but, .. } = self else { return true };
        said.is_within(*sent) || said.temporal <= sent.temporal && *but == Some(timestamp)
    }

    /// Whether a picture ends with a packet, because what follows of it does not leave.
    fn ends(&self, packet: &media::Packet) -> bool {
        let Gives::Layers { sent, highest, but } = self else { return false };
        let is_cut = sent.spatial < highest.spatial && *but != Some(packet.timestamp);
        is_cut && !packet.marker && packet.description.ends_at(sent.spatial)
    }

    /// Whether some of what it gives up comes back with a keyframe alone.
    fn needs_keyframe(&self) -> bool {
        match self {
            Gives::Layers { sent, highest, .. } => sent.spatial < highest.spatial,
            Gives::Pictures { .. } => true,
        }
    }
}

/// The higher of both, and of what a packet is of.
fn above(highest: Extent, said: &Description) -> Extent {
    highest_of(highest, Extent { spatial: said.spatial, temporal: said.temporal })
}

fn highest_of(one: Extent, other: Extent) -> Extent {
    Extent { spatial: one.spatial.max(other.spatial), temporal: one.temporal.max(other.temporal) }
}

/// The packet as the last one of its picture. It is shared with other links and with listeners here.
fn with_marker(packet: &[u8]) -> Bytes {
    let mut packet = BytesMut::from(packet);
    if let Some(octet) = packet.get_mut(1) {
        *octet |= MARKER;
    }
    packet.freeze()
}

impl Load {
    fn is_of(&self, packet: &Packet) -> bool {
        packet.alias == self.alias && packet.kind == DatagramKind::Rtp
    }
}

impl Track {
    fn new(precedence: u8) -> Track {
        Track {
            gives: Gives::Pictures { but: None },
            precedence,
            withheld: Numbers::default(),
            asked: None,
            quiet: 0,
        }
    }

    /// Whether a packet goes into the lane; what cannot be read is of the base. `may_rise`: more than before may.
    fn passes(&mut self, packet: Option<&media::Packet>, may_rise: bool) -> bool {
        let said = packet.map(|packet| packet.description).unwrap_or_default();
        match &mut self.gives {
            Gives::Layers { sent, highest, .. } => {
                *highest = above(*highest, &said);
                let next = said.temporal.0 == sent.temporal.0.saturating_add(1);
                if may_rise && said.keyframe {
                    *sent = *highest;
                } else if may_rise && said.picture_begins && said.switch_up && next {
                    sent.temporal = said.temporal;
                }
                self.gives.has(packet.map_or(0, |packet| packet.timestamp), &said)
            }
            Gives::Pictures { .. } if may_rise && said.keyframe => {
                self.gives = Gives::Layers { sent: Extent::BASE, highest: Extent::BASE, but: None };
                true
            }
            Gives::Pictures { but } => but.is_some() && packet.map(|packet| packet.timestamp) == *but,
        }
    }

    /// Whether it gives up nothing any more.
    fn is_over(&self) -> bool {
        matches!(self.gives, Gives::Layers { sent, highest, .. } if highest.up_to(sent) == highest)
    }

    /// Takes packets out of the lane. In their place stays what was withheld, before the next packet of the track.
    /// Gives how many.
    fn shed(&mut self, load: Load, lane: &mut Queue, goes: impl Fn(&Packet) -> bool) -> u64 {
        let (mut shed, mut numbers) = (0, Numbers::default());
        lane.retain(|queued| {
            let packet = &queued.packet;
            if packet.alias != load.alias {
                return true;
            }
            if let Some(before) = queued.withheld.take() {
                numbers.append(*before);
            }
            match packet.kind {
                DatagramKind::Rtp if goes(packet) => {
                    if let Some(number) = sequence(&packet.payload) {
                        numbers.add(packet.epoch, number);
                    }
                    shed += 1;
                    false
                }
                DatagramKind::Rtp => {
                    queued.withheld = std::mem::take(&mut numbers).boxed();
                    true
                }
                DatagramKind::Withheld => {
                    if let Some(run) = Withheld::read(&packet.payload) {
                        numbers.add_run(packet.epoch, run);
                    }
                    false
                }
                _ => true,
            }
        });
        numbers.append(std::mem::take(&mut self.withheld));
        self.withheld = numbers;
        shed
    }
}

/// What each track has in the lane; who gives way first comes first.
fn loads(lane: &Queue) -> Vec<Load> {
    let mut loads = BTreeMap::new();
    for packet in lane.iter().filter(|packet| packet.kind == DatagramKind::Rtp) {
        let Packet { alias, precedence, .. } = *packet;
        let load = loads.entry(alias).or_insert(Load { alias, precedence, octets: 0 });
        load.precedence = precedence;
        load.octets += packet.payload.len();
    }
    let mut loads: Vec<Load> = loads.into_values().collect();
    loads.sort_by_key(|load| (Reverse(load.precedence), Reverse(load.octets), load.alias));
    loads
}

/// What a packet says of itself.
pub(crate) fn read(packet: &Packet, now: Instant) -> Option<media::Packet> {
    media::Packet::from_canonical(packet.payload.clone(), packet.epoch, now)
}
