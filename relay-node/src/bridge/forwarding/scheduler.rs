//! The queues above quinn: what waits for a link waits here, in class order, and what is too old is dropped here,
//! oldest first, within its own class. What was sent is kept for a while, for [`crate::bridge::forwarding::repair`].

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use protocol::mesh::{Alias, DatagramHeader, DatagramKind, Piece};

use super::{
    packet::{LANES, Packet, lane, sequence},
    repair::{Budget, Kept, Nack, Sent},
};

/// Packets each lane holds: about 2.5 s of one audio track, 150 ms of 80 Mbit/s of video.
pub(crate) const BOUNDS: [usize; LANES] = [256, 256, 1024, 1024];
/// Asks and repairs that wait to be sent.
const NACKS_MAX: usize = 64;
const REPAIRS_MAX: usize = 128;
/// Headers and payloads are put together in slabs of this size, which come back when quinn has sent them.
const SLAB: usize = 64 * 1024;
/// Slabs that may be waited for before another one is made.
const SLABS_MAX: usize = 8;

/// The queues of one link.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    lanes: [VecDeque<Packet>; LANES],
    /// What is left of a packet that is sent in pieces: they leave one behind the other.
    pieces: [VecDeque<(Piece, Packet)>; LANES],
    nacks: VecDeque<Nack>,
    repairs: [VecDeque<(Alias, u16)>; LANES],
    outgoing: HashMap<Alias, Outgoing>,
    budget: Budget,
    slabs: Slabs,
}

/// One alias: the next link sequence, and what was sent.
#[derive(Debug)]
struct Outgoing {
    sequence: u16,
    lane: usize,
    kept: Kept,
    /// Nothing was sent since the last [`Scheduler::handle_tick`].
    idle: bool,
}

/// What may leave next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Datagram(Bytes),
    /// Something waits for room.
    Wait,
    Nothing,
}

impl Scheduler {
    /// Queues a packet; `false` if the oldest of its class had to go to make room.
    pub fn push(&mut self, packet: Packet) -> bool {
        let lane = lane(packet.class);
        let queue = &mut self.lanes[lane];
        let room = queue.len() < BOUNDS[lane];
        if !room {
            queue.pop_front();
        }
        queue.push_back(packet);
        room
    }

    /// Queues an ask for what the neighbor sent and did not arrive.
    pub fn push_nack(&mut self, nack: Nack) {
        if self.nacks.len() < NACKS_MAX {
            self.nacks.push_back(nack);
        }
    }

    /// The neighbor asks; how many packets it gets.
    pub fn handle_nack(&mut self, nack: Nack) -> u64 {
        let Some(outgoing) = self.outgoing.get(&nack.alias) else { return 0 };
        let queue = &mut self.repairs[outgoing.lane];
        let mut repairs = 0;
        for sequence in nack.sequences() {
            let known = outgoing.kept.get(sequence).is_some() && !queue.contains(&(nack.alias, sequence));
            if known && queue.len() < REPAIRS_MAX && self.budget.spend() {
                queue.push_back((nack.alias, sequence));
                repairs += 1;
            }
        }
        repairs
    }

    /// Lets go of the packets of tracks that send no more: call it every few seconds.
    pub fn handle_tick(&mut self) {
        for outgoing in self.outgoing.values_mut() {
            if std::mem::replace(&mut outgoing.idle, true) {
                outgoing.kept.clear();
            }
        }
    }

    /// The next datagram to send, if it is no longer than there is `room`: bytes for what goes before
    /// everything, and bytes for the rest. Nothing passes what waits. A packet that would be longer than
    /// `longest` leaves in pieces.
    ///
    /// A link sequence is given only now: what was dropped here leaves no gap, so a gap always means a loss on
    /// the way.
    pub fn pop(&mut self, urgent: u64, room: u64, longest: usize) -> Next {
        if let Some(nack) = self.nacks.front() {
            if urgent < (DatagramHeader::LEN + nack.len()) as u64 {
                return Next::Wait;
            }
            let nack = self.nacks.pop_front().expect("it was there just now");
            let header = DatagramHeader {
                kind: DatagramKind::Nack,
                epoch: 0,
                alias: nack.alias,
                sequence: nack.first,
            };
            return Next::Datagram(self.slabs.put(header, nack.len(), |out| nack.write(out)));
        }
        for lane in 0..LANES {
            let room = if lane == 0 { urgent } else { room };
            while let Some((alias, sequence)) = self.repairs[lane].front().copied() {
                let outgoing = self.outgoing.get(&alias);
                if let Some(sent) = outgoing.and_then(|outgoing| outgoing.kept.get(sequence)) {
                    if room < (DatagramHeader::LEN + sent.len()) as u64 {
                        return Next::Wait;
                    }
                    let header = DatagramHeader { kind: sent.kind, epoch: sent.epoch, alias, sequence };
                    let datagram = self.slabs.put(header, sent.len(), |out| sent.write(out));
                    self.repairs[lane].pop_front();
                    return Next::Datagram(datagram);
                }
                self.repairs[lane].pop_front();
            }
            if let Some(packet) = self.lanes[lane].front()
                && self.pieces[lane].is_empty()
                && DatagramHeader::LEN + packet.payload.len() > longest
            {
                self.cut(lane, longest);
            }
            if let Some((_, packet)) = self.pieces[lane].front() {
                if room < (DatagramHeader::LEN + Piece::LEN + packet.payload.len()) as u64 {
                    return Next::Wait;
                }
                let (piece, packet) = self.pieces[lane].pop_front().expect("it was there just now");
                return Next::Datagram(self.send(packet, Some(piece), lane));
            }
            if let Some(packet) = self.lanes[lane].front() {
                if room < (DatagramHeader::LEN + packet.payload.len()) as u64 {
                    return Next::Wait;
                }
                let packet = self.lanes[lane].pop_front().expect("it was there just now");
                return Next::Datagram(self.send(packet, None, lane));
            }
        }
        Next::Nothing
    }

    /// Cuts the next packet of a lane into pieces of about the same length. What that is no help for leaves whole,
    /// and quinn says that it is too long.
    fn cut(&mut self, lane: usize, longest: usize) {
        let Some(packet) = self.lanes[lane].front() else { return };
        let most = longest.saturating_sub(DatagramHeader::LEN + Piece::LEN).max(1);
        let count = packet.payload.len().div_ceil(most);
        let Some(number_of_packet) = sequence(&packet.payload) else { return };
        if packet.kind != DatagramKind::Rtp || count > usize::from(Piece::MAX) {
            return;
        }
        let Some(packet) = self.lanes[lane].pop_front() else { return };
        let length = packet.payload.len().div_ceil(count);
        for number in 0..count {
            let end = packet.payload.len().min((number + 1) * length);
            let payload = packet.payload.slice(number * length..end);
            let piece = Piece { number: number as u8, of: count as u8, packet: number_of_packet };
            self.pieces[lane].push_back((piece, Packet { kind: DatagramKind::Fragment, payload, ..packet }));
        }
    }

    fn send(&mut self, packet: Packet, piece: Option<Piece>, lane: usize) -> Bytes {
        let Packet { kind, class, epoch, alias, payload } = packet;
        let outgoing = self.outgoing.entry(alias).or_insert_with(|| Outgoing {
            sequence: 0,
            lane,
            kept: Kept::new(class),
            idle: false,
        });
        let sequence = outgoing.sequence;
        outgoing.sequence = sequence.wrapping_add(1);
        outgoing.idle = false;
        self.budget.earn();
        let header = DatagramHeader { kind, epoch, alias, sequence };
        let sent = Sent { sequence, kind, epoch, piece, payload };
        let datagram = self.slabs.put(header, sent.len(), |out| sent.write(out));
        outgoing.kept.push(sent);
        datagram
    }
}

/// Memory for datagrams, used again when quinn has let go of it.
#[derive(Debug, Default)]
struct Slabs {
    current: BytesMut,
    full: VecDeque<BytesMut>,
    started: bool,
}

impl Slabs {
    fn put(&mut self, header: DatagramHeader, length: usize, payload: impl FnOnce(&mut BytesMut)) -> Bytes {
        self.reserve(DatagramHeader::LEN + length);
        header.write(&mut self.current);
        payload(&mut self.current);
        self.current.split().freeze()
    }

    /// Makes room for `length` bytes, without an allocation if there is a slab of which nothing is left.
    fn reserve(&mut self, length: usize) {
        if self.current.try_reclaim(length) {
            return;
        }
        let reclaimed = self.full.pop_front().and_then(|mut oldest| match oldest.try_reclaim(SLAB) {
            true => Some(oldest),
            false if self.full.len() + 1 < SLABS_MAX => {
                self.full.push_front(oldest);
                None
            }
            // Its last owner frees it.
            false => None,
        });
        let next = reclaimed.unwrap_or_else(|| BytesMut::with_capacity(SLAB.max(length)));
        let full = std::mem::replace(&mut self.current, next);
        if self.started {
            self.full.push_back(full);
        }
        self.started = true;
    }
}

#[cfg(test)]
mod tests {
    use protocol::mesh::Class;

    use super::*;
    use crate::clock;

    fn push(scheduler: &mut Scheduler, class: Class, alias: u16, byte: u8) -> bool {
        scheduler.push(Packet {
            kind: DatagramKind::Rtp,
            class,
            epoch: 3,
            alias: Alias(alias),
            payload: Bytes::from(vec![byte; 8]),
        })
    }

    fn pop(scheduler: &mut Scheduler) -> Option<Bytes> {
        match scheduler.pop(u64::MAX, u64::MAX, usize::MAX) {
            Next::Datagram(datagram) => Some(datagram),
            Next::Nothing => None,
            Next::Wait => panic!("there is room"),
        }
    }

    fn drain(scheduler: &mut Scheduler) -> Vec<(u16, u16, u8)> {
        std::iter::from_fn(|| pop(scheduler))
            .map(|datagram| {
                let (header, payload) = DatagramHeader::split(datagram).unwrap();
                assert_eq!((header.epoch, payload.len()), (3, 8));
                (header.alias.0, header.sequence, payload[0])
            })
            .collect()
    }

    #[test]
    fn audio_leaves_before_video_and_video_before_prefetch() {
        let mut scheduler = Scheduler::default();
        for (alias, class) in
            [(1, Class::Prefetch), (2, Class::Video), (3, Class::Audio), (4, Class::Emergency)]
        {
            push(&mut scheduler, class, alias, 0);
        }
        let order: Vec<u16> = drain(&mut scheduler).into_iter().map(|(alias, ..)| alias).collect();
        assert_eq!(order, [4, 3, 2, 1]);
        assert_eq!(scheduler.pop(u64::MAX, u64::MAX, usize::MAX), Next::Nothing);
    }

    #[test]
    fn a_full_class_loses_its_oldest_and_hurts_no_other() {
        let mut scheduler = Scheduler::default();
        assert!(push(&mut scheduler, Class::Video, 2, 0));
        for i in 0..=255 {
            assert!(push(&mut scheduler, Class::Audio, 1, i));
        }
        assert!(!push(&mut scheduler, Class::Audio, 1, 99));
        let left = drain(&mut scheduler);
        assert_eq!(left.len(), 257);
        assert_eq!(left[0], (1, 0, 1), "the oldest went, and its sequence was never given");
        assert_eq!(left[255], (1, 255, 99));
        assert_eq!(left[256], (2, 0, 0));
    }

    #[test]
    fn link_sequences_count_per_alias_and_wrap() {
        let mut scheduler = Scheduler::default();
        for _ in 0..0x1_0001 {
            push(&mut scheduler, Class::Video, 1, 0);
            pop(&mut scheduler);
        }
        push(&mut scheduler, Class::Video, 1, 0);
        push(&mut scheduler, Class::Video, 9, 0);
        assert_eq!(drain(&mut scheduler), [(1, 1, 0), (9, 0, 0)]);
    }

    #[test]
    fn without_room_nothing_passes_what_waits_but_the_most_urgent() {
        let mut scheduler = Scheduler::default();
        push(&mut scheduler, Class::Audio, 1, 0);
        push(&mut scheduler, Class::Video, 2, 0);
        assert_eq!(scheduler.pop(u64::MAX, 12, usize::MAX), Next::Wait);
        push(&mut scheduler, Class::Emergency, 3, 0);
        assert!(matches!(scheduler.pop(13, 12, usize::MAX), Next::Datagram(_)));
        assert_eq!(scheduler.pop(13, 12, usize::MAX), Next::Wait);
        assert!(matches!(scheduler.pop(13, 13, usize::MAX), Next::Datagram(_)));
    }

    #[test]
    fn a_repair_is_the_original_datagram_and_goes_before_its_class() {
        let mut scheduler = Scheduler::default();
        for byte in 0..10 {
            push(&mut scheduler, Class::Video, 1, byte);
        }
        drain(&mut scheduler);
        push(&mut scheduler, Class::Video, 1, 10);
        push(&mut scheduler, Class::Audio, 2, 0);
        // 3 and 5 are there, 10 was not sent yet, and 3 is asked for twice.
        let nack = Nack { alias: Alias(1), first: 3, bits: 0b1000_0101 };
        assert_eq!(scheduler.handle_nack(nack), 2);
        assert_eq!(scheduler.handle_nack(Nack { bits: 1, ..nack }), 0);
        assert_eq!(scheduler.handle_nack(Nack { alias: Alias(7), ..nack }), 0);
        assert_eq!(drain(&mut scheduler), [(2, 0, 0), (1, 3, 3), (1, 5, 5), (1, 10, 10)]);
        // A track that sends no more keeps nothing.
        scheduler.handle_tick();
        assert_eq!(scheduler.handle_nack(nack), 3);
        scheduler.handle_tick();
        assert_eq!(drain(&mut scheduler), []);
        push(&mut scheduler, Class::Video, 1, 11);
        assert_eq!(drain(&mut scheduler), [(1, 11, 11)], "its numbers go on");
    }

    #[test]
    fn a_packet_longer_than_a_datagram_leaves_in_pieces_that_are_repaired_one_by_one() {
        for (length, longest, count) in [(1500, 1208, 2), (1208, 1208, 2), (1203, 1208, 1), (1508, 208, 8)] {
            let mut scheduler = Scheduler::default();
            let payload: Bytes = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            for alias in [1, 2] {
                scheduler.push(Packet {
                    kind: DatagramKind::Rtp,
                    class: Class::Video,
                    epoch: 9,
                    alias: Alias(alias),
                    payload: payload.clone(),
                });
            }
            push(&mut scheduler, Class::Audio, 3, 0);
            let sent: Vec<Bytes> = std::iter::from_fn(|| match scheduler.pop(u64::MAX, u64::MAX, longest) {
                Next::Datagram(datagram) => Some(datagram),
                _ => None,
            })
            .collect();
            assert_eq!(sent.len(), 1 + 2 * count);
            assert!(sent.iter().all(|datagram| datagram.len() <= longest));
            let mut pieces = crate::bridge::forwarding::pieces::Pieces::default();
            let whole: Vec<Bytes> = sent[1..]
                .iter()
                .filter_map(|datagram| {
                    let (header, rest) = DatagramHeader::split(datagram.clone()).unwrap();
                    match header.kind {
                        DatagramKind::Fragment => {
                            pieces.handle(&header, rest, clock::now()).expect("a piece")
                        }
                        _ => Some(rest),
                    }
                })
                .collect();
            assert_eq!(whole, [payload.clone(), payload.clone()]);
            let nack = Nack { alias: Alias(1), first: count as u16 - 1, bits: 1 };
            assert_eq!(scheduler.handle_nack(nack), 1);
            assert_eq!(scheduler.pop(u64::MAX, u64::MAX, longest), Next::Datagram(sent[count].clone()));
        }
    }

    #[test]
    fn a_new_packet_never_comes_between_the_pieces_of_another() {
        let mut scheduler = Scheduler::default();
        let long = |alias| Packet {
            kind: DatagramKind::Rtp,
            class: Class::Video,
            epoch: 0,
            alias: Alias(alias),
            payload: Bytes::from(vec![1; 1400]),
        };
        scheduler.push(long(1));
        assert!(matches!(scheduler.pop(u64::MAX, u64::MAX, 1000), Next::Datagram(_)));
        for _ in 0..2 * BOUNDS[2] {
            scheduler.push(long(1));
        }
        let Next::Datagram(second) = scheduler.pop(u64::MAX, u64::MAX, 1000) else {
            panic!("the other half")
        };
        let (header, rest) = DatagramHeader::split(second).unwrap();
        let (piece, _) = Piece::split(rest).unwrap();
        assert_eq!((header.sequence, piece), (1, Piece { number: 1, of: 2, packet: 0x0101 }));
    }

    #[test]
    fn slabs_are_used_again() {
        let mut scheduler = Scheduler::default();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            push(&mut scheduler, Class::Video, 1, 0);
            let datagram = pop(&mut scheduler).unwrap();
            places.insert(datagram.as_ptr() as usize / SLAB);
        }
        assert!(places.len() <= 8, "{} places", places.len());
    }
}
