//! The queues above quinn: what waits for a link waits here, in class order, and not for long. Of sound that is too old
//! the oldest goes; what goes of video is in `shedding`. What was sent is kept for a while, and sent again when the
//! neighbor asks, and parity is made of it where the neighbor wants that. No clock.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use protocol::{
    mesh::{Alias, DatagramHeader, DatagramKind, Fragment, Withheld},
    parity::{Parity, Protection},
};

use super::{
    packet::{LANES, Packet, SOUND, VIDEO, lane, sequence, timestamp},
    parity::protector::{self, Protector, Since},
    queue::{Queue, Queued},
    repair::Nack,
    sent::{Kept, Sent},
    shedding::{DRAINED, SOON, Shed, Shedding},
    withheld::notice,
};

/// A packet waits so long in its lane at most. What is later is of no use to a listener, and makes all behind it late.
const WAITS: [Duration; LANES] =
    [Duration::from_millis(200), Duration::from_millis(200), Duration::from_millis(150), Duration::MAX];
/// Packets each lane holds, whatever their age, so that memory is bounded: of video what comes within 150 ms at
/// 250 Mbit/s.
pub(crate) const BOUNDS: [usize; LANES] = [256, 256, 4096, 1024];
/// Asks and repairs that wait to be sent.
const NACKS_MAX: usize = 64;
const REPAIRS_MAX: usize = 128;
/// Of so many packets sent, one may be a repair.
const BUDGET_SHARE: u32 = 5;
/// Repairs that may leave at once after a quiet time.
const BUDGET_MAX: u32 = 64;
/// Headers and payloads are put together in slabs of this size, which come back when quinn has sent them.
const SLAB: usize = 64 * 1024;
/// Slabs that may be waited for before another one is made.
const SLABS_MAX: usize = 8;

/// The queues of one link.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    lanes: [Queue; LANES],
    shedding: Shedding,
    dropped: Dropped,
    /// What is left of a packet that is sent in fragments: they leave one behind the other.
    fragments: [VecDeque<(Fragment, Packet)>; LANES],
    nacks: VecDeque<Nack>,
    repairs: [VecDeque<(Alias, u16)>; LANES],
    outgoing: HashMap<Alias, Outgoing>,
    protector: Protector,
    budget: Budget,
    slabs: Slabs,
}

/// One alias: the next link sequence, and what was sent.
#[derive(Debug)]
struct Outgoing {
    sequence: u16,
    lane: usize,
    kept: Kept,
    /// What was sent since the last parity of it.
    since: Since,
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

/// Packets that did not leave.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Their lane was full.
    pub full: u64,
    /// They had waited too long.
    pub late: u64,
    pub shed: Shed,
}

impl Scheduler {
    /// Whether something did not leave, or parity did: [`Scheduler::take_dropped`] and [`Scheduler::take_parity`] say what,
    /// [`Scheduler::poll_keyframe`] what follows.
    pub fn has_news(&self) -> bool {
        self.dropped != Dropped::default() || self.shedding.has_shed() || self.protector.has_news()
    }

    /// The parity that the neighbor asks for from now on.
    pub fn handle_protection(&mut self, asked: Protection) {
        self.protector.handle_asked(asked);
    }

    /// What the link is thought to carry, in bits per second.
    pub fn handle_believed(&mut self, bits: Option<u64>) {
        self.protector.handle_believed(bits);
    }

    /// Queues a packet. In a lane that is full something else goes for it.
    pub fn push(&mut self, packet: Packet, now: Instant) {
        let lane = lane(packet.class);
        if self.lanes[lane].len() >= BOUNDS[lane] {
            self.handle_full(lane, now);
        }
        let queue = &mut self.lanes[lane];
        if lane == VIDEO && self.shedding.is_active() {
            let is_low = queue.len() <= BOUNDS[VIDEO] / 2 && !queue.has_waited(DRAINED, now);
            self.shedding.push(packet, queue, is_low, now);
        } else {
            queue.push(packet, None, now);
        }
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
        self.shedding.handle_tick();
    }

    /// The next track of which the neighbor needs a keyframe, because what was before it did not leave.
    pub fn poll_keyframe(&mut self) -> Option<Alias> {
        self.shedding.poll_keyframe()
    }

    /// What did not leave since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        Dropped { shed: self.shedding.take_shed(), ..std::mem::take(&mut self.dropped) }
    }

    /// When a parity may leave, if nothing else wakes the link before.
    pub fn poll_parity(&self, now: Instant) -> Option<Instant> {
        self.protector.poll_timeout(now)
    }

    /// What became of parities since the last call.
    pub fn take_parity(&mut self) -> protector::Counts {
        self.protector.take_counts()
    }

    /// The next datagram to send, if it is no longer than there is room: `urgent` bytes for sound and what goes before it,
    /// `room` bytes for the rest. Nothing passes what waits. A packet that would be longer than
    /// `longest` leaves in fragments.
    ///
    /// A link sequence is given only now: what was dropped here leaves no gap, so a gap always means a loss on
    /// the way. Of pictures that were shed the neighbor is told their numbers, before the next packet of their track.
    /// Parity leaves when nothing else of its lane waits.
    pub fn pop(&mut self, urgent: u64, room: u64, longest: usize, now: Instant) -> Next {
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
        for (lane, wait) in WAITS.iter().enumerate() {
            if self.is_empty(lane) {
                if self.protector.waits(lane) {
                    let room = if lane <= SOUND { urgent } else { room };
                    if let Some(next) = self.pop_parity(lane, room, longest, now) {
                        return next;
                    }
                }
                continue;
            }
            if self.lanes[lane].is_late(*wait, now) {
                self.handle_late(lane, now);
            }
            let room = if lane <= SOUND { urgent } else { room };
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
            if self.fragments[lane].is_empty()
                && let Some(Queued { packet, withheld, .. }) = self.lanes[lane].front()
            {
                if withheld.is_some() {
                    if let Some(next) = self.tell(lane, room, now) {
                        return next;
                    }
                } else if DatagramHeader::LEN + packet.payload.len() > longest {
                    self.cut(lane, longest);
                }
            }
            if let Some((_, packet)) = self.fragments[lane].front() {
                if room < (DatagramHeader::LEN + Fragment::LEN + packet.payload.len()) as u64 {
                    return Next::Wait;
                }
                let (fragment, packet) = self.fragments[lane].pop_front().expect("it was there just now");
                return Next::Datagram(self.send(packet, Some(fragment), lane, now));
            }
            if let Some(length) = self.lanes[lane].front().map(|queued| queued.packet.payload.len()) {
                if room < (DatagramHeader::LEN + length) as u64 {
                    return Next::Wait;
                }
                let packet = self.lanes[lane].pop().expect("it was there just now");
                return Next::Datagram(self.send(packet, None, lane, now));
            }
        }
        Next::Nothing
    }

    #[inline]
    fn is_empty(&self, lane: usize) -> bool {
        self.lanes[lane].len() == 0 && self.repairs[lane].is_empty() && self.fragments[lane].is_empty()
    }

    /// A lane holds as many packets as it may.
    #[cold]
    fn handle_full(&mut self, lane: usize, now: Instant) {
        let Scheduler { lanes, shedding, .. } = self;
        if lane == VIDEO {
            let has_room =
                |lane: &Queue| lane.len() <= BOUNDS[VIDEO] / 2 && !lane.has_waited(WAITS[VIDEO], now);
            shedding.relieve(&mut lanes[VIDEO], has_room, |_| None, now);
        }
        if lanes[lane].len() >= BOUNDS[lane] {
            lanes[lane].drop_oldest();
            self.dropped.full += 1;
        }
    }

    /// The next packet of a lane has waited too long. Of video nothing goes as long as what waits would leave soon: a
    /// picture is worth more than a few milliseconds.
    #[cold]
    fn handle_late(&mut self, lane: usize, now: Instant) {
        let Scheduler { lanes, shedding, outgoing, .. } = self;
        let queue = &mut lanes[lane];
        if lane == VIDEO {
            let is_relieved =
                |lane: &Queue| !lane.has_waited(WAITS[VIDEO], now) || lane.leaves_within(SOON, now);
            let leaving = |alias| outgoing.get(&alias).and_then(|outgoing| outgoing.keyframe(now));
            return shedding.relieve(queue, is_relieved, leaving, now);
        }
        while queue.has_waited(WAITS[lane], now) {
            queue.drop_oldest();
            self.dropped.late += 1;
        }
    }

    /// Tells the neighbor what was shed before the next packet of a lane, if that is any.
    #[cold]
    fn tell(&mut self, lane: usize, room: u64, now: Instant) -> Option<Next> {
        let Queued { packet, withheld, .. } = self.lanes[lane].front_mut()?;
        let numbers = withheld.as_mut()?;
        if room < (DatagramHeader::LEN + Withheld::LEN) as u64 {
            return Some(Next::Wait);
        }
        let run = numbers.pop();
        withheld.take_if(|numbers| numbers.is_empty());
        let told = notice(packet.class, packet.alias, packet.precedence, run?);
        Some(Next::Datagram(self.send(told, None, lane, now)))
    }

    /// Cuts the next packet of a lane into fragments of about the same length. What that is no help for leaves whole,
    /// and quinn says that it is too long.
    #[inline(never)]
    fn cut(&mut self, lane: usize, longest: usize) {
        let Some(Queued { packet, .. }) = self.lanes[lane].front() else { return };
        let most = longest.saturating_sub(DatagramHeader::LEN + Fragment::LEN).max(1);
        let count = packet.payload.len().div_ceil(most);
        let Some(number_of_packet) = sequence(&packet.payload) else { return };
        if packet.kind != DatagramKind::Rtp || count > usize::from(Fragment::MAX) {
            return;
        }
        let Some(packet) = self.lanes[lane].pop() else { return };
        let length = packet.payload.len().div_ceil(count);
        for number in 0..count {
            let end = packet.payload.len().min((number + 1) * length);
            let payload = packet.payload.slice(number * length..end);
            let fragment = Fragment { number: number as u8, of: count as u8, packet: number_of_packet };
            self.fragments[lane]
                .push_back((fragment, Packet { kind: DatagramKind::Fragment, payload, ..packet }));
        }
    }

    fn send(&mut self, packet: Packet, fragment: Option<Fragment>, lane: usize, now: Instant) -> Bytes {
        let Packet { kind, class, epoch, alias, precedence, payload } = packet;
        let outgoing = self.outgoing.entry(alias).or_insert_with(|| Outgoing {
            sequence: 0,
            lane,
            kept: Kept::new(class),
            since: Since::default(),
            idle: false,
        });
        let sequence = outgoing.sequence;
        outgoing.sequence = sequence.wrapping_add(1);
        outgoing.idle = false;
        self.budget.earn();
        let header = DatagramHeader { kind, epoch, alias, sequence };
        let sent = Sent { sequence, kind, epoch, fragment, payload };
        let datagram = self.slabs.put(header, sent.len(), |out| sent.write(out));
        outgoing.kept.push(sent, now);
        // Clocks of pictures pass with the sound: they are in groups, and close none.
        if self.protector.is_on()
            && kind != DatagramKind::SenderClock
            && let Some(pattern) = self.protector.pattern(lane, precedence)
            && let Some(group) = outgoing.since.handle_sent(pattern, &outgoing.kept, sequence, now)
        {
            self.protector.push(lane, alias, group, now);
        }
        datagram
    }

    /// The next parity of a lane. What finds no room waits for it, but not for long.
    #[inline(never)]
    fn pop_parity(&mut self, lane: usize, room: u64, longest: usize, now: Instant) -> Option<Next> {
        while let Some(due) = self.protector.front(lane, now) {
            let kept = self.outgoing.get(&due.alias).map(|outgoing| &outgoing.kept);
            let of_it = due.group.sequences().map(|sequence| kept.and_then(|kept| kept.get(sequence)));
            let length = of_it.clone().map(|sent| sent.map(Sent::len)).try_fold(0, |most, length| {
                // One that is not kept any more takes the parity with it.
                length.map(|length| length.max(most))
            });
            let Some(length) = length.filter(|length| DatagramHeader::LEN + Parity::LEN + length <= longest)
            else {
                self.protector.shed(lane);
                continue;
            };
            let octets = DatagramHeader::LEN + Parity::LEN + length;
            if room < octets as u64 {
                return Some(Next::Wait);
            }
            if !self.protector.leaves(lane, octets, now) {
                continue;
            }
            let header = DatagramHeader {
                kind: DatagramKind::Parity,
                epoch: 0,
                alias: due.alias,
                sequence: due.group.first,
            };
            return Some(Next::Datagram(self.slabs.put(header, Parity::LEN + length, |out| {
                protector::write(due.group, due.alias, length, of_it.flatten(), out);
            })));
        }
        None
    }
}

impl Outgoing {
    /// The timestamp of the picture that was sent last, if it is a keyframe. What a packet says of itself is read only
    /// here, where something has to be shed.
    fn keyframe(&self, now: Instant) -> Option<u32> {
        let begins = |sent: &&Sent| {
            matches!(
                (sent.kind, sent.fragment),
                (DatagramKind::Rtp, _) | (_, Some(Fragment { number: 0, .. }))
            )
        };
        let newest =
            (1..=self.kept.most as u16).map_while(|back| self.kept.get(self.sequence.wrapping_sub(back)));
        let mut newest = newest.filter(begins).peekable();
        let picture = timestamp(&newest.peek()?.payload)?;
        let is_of_it = |sent: &&Sent| timestamp(&sent.payload) == Some(picture);
        newest
            .take_while(is_of_it)
            .filter_map(|sent| media::Packet::from_canonical(sent.payload.clone(), sent.epoch, now))
            .any(|packet| packet.description.keyframe)
            .then_some(picture)
    }
}

/// How many repairs a link may send: a fifth of its packets, or a neighbor that asks for everything would have
/// the link for itself.
#[derive(Debug)]
pub(crate) struct Budget(u32);

impl Default for Budget {
    fn default() -> Budget {
        Budget(BUDGET_MAX * BUDGET_SHARE)
    }
}

impl Budget {
    /// A packet was sent that was no repair.
    pub fn earn(&mut self) {
        self.0 = (self.0 + 1).min(BUDGET_MAX * BUDGET_SHARE);
    }

    /// Whether one repair may be sent; it is counted.
    pub fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(BUDGET_SHARE - 1);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
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
#[path = "scheduler_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "shedding_tests.rs"]
mod shedding_tests;
