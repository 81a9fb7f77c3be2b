//! What was sent to one listener: number, time and octets of the newest packets, until a feedback tells what
//! became of them. Judges nothing.

use crate::rtp;

/// What a packet was sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Sound or picture.
    Media,
    /// Once more, because the listener asked.
    Repair,
    /// Of a probe, with its number.
    Probe(u8),
}

/// One sent packet: 16 octets.
#[derive(Debug, Clone, Copy, Default)]
pub struct SentPacket {
    /// Microseconds since the estimator began.
    pub sent: u64,
    /// Of the receiver's clock, in ticks, wrapping; only if it has arrived.
    pub arrived: u32,
    /// On the wire.
    pub octets: u16,
    /// A [`Purpose`], in one octet.
    purpose: u8,
    /// What was told of it.
    pub state: State,
}

impl SentPacket {
    /// Whether the same octets were sent once more.
    pub fn is_repeated(&self) -> bool {
        self.purpose == REPEATED
    }

    /// What it was sent for.
    pub fn purpose(&self) -> Purpose {
        match self.purpose {
            0 | REPEATED => Purpose::Media,
            1 => Purpose::Repair,
            probe => Purpose::Probe(probe - 2),
        }
    }
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Purpose::Media => 0,
            Purpose::Repair => 1,
            Purpose::Probe(number) => 2 + number % PROBES,
        }
    }
}

/// Probes are numbered below this, then from 0 again.
pub const PROBES: u8 = 253;
/// Media whose octets were sent once more, in place of a [`Purpose`].
const REPEATED: u8 = u8::MAX;

/// What is known of a sent packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing yet.
    #[default]
    Untold,
    /// A feedback has passed over it; it may still come.
    Lost,
    /// It arrived.
    Arrived,
}

/// What a report changes.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// It arrived; `was_lost` if it was told to be lost before.
    Arrived {
        /// Which.
        packet: SentPacket,
        /// It was told to be lost before.
        was_lost: bool,
    },
    /// It is lost, for now.
    Lost {
        /// Which.
        packet: SentPacket,
    },
}

/// The newest packets of one listener, by number.
#[derive(Debug)]
pub struct History {
    /// A power of two, so that a place costs nothing to find.
    ring: Vec<SentPacket>,
    most: usize,
    next: u64,
    highest_arrived: Option<u64>,
    /// Reports of what was never sent, or too long ago, or told before.
    ignored: u64,
}

/// Of a listener that only hears: at 50 packets a second two and a half seconds, in 2 KiB.
pub const MOST_WITH_SOUND: usize = 128;
/// Of one that sees: at 3 Mbit/s three seconds, at 20 Mbit/s half a second, in 16 KiB.
pub const MOST_WITH_PICTURE: usize = 1024;
const LEAST: usize = 64;
/// Younger packets are kept if there is room: rates are measured over them.
const WANTED_US: u64 = 1_200_000;
/// Numbers begin here, so that those before the first are no wrap.
const FIRST: u64 = 1 << 16;

impl History {
    /// An empty one that holds at most so many packets, a power of two.
    pub fn new(most: usize) -> History {
        History {
            ring: vec![SentPacket::default(); LEAST],
            most,
            next: FIRST,
            highest_arrived: None,
            ignored: 0,
        }
    }

    /// A packet leaves: its transport-wide number.
    pub fn push(&mut self, octets: usize, purpose: Purpose, sent: u64) -> u64 {
        let number = self.next;
        let oldest = self.ring[self.place(number)];
        if number - FIRST >= self.ring.len() as u64
            && self.ring.len() < self.most
            && (oldest.state == State::Untold || sent.saturating_sub(oldest.sent) < WANTED_US)
        {
            self.grow();
        }
        let place = self.place(number);
        let octets = u16::try_from(octets).unwrap_or(u16::MAX);
        self.ring[place] =
            SentPacket { sent, arrived: 0, octets, purpose: purpose.code(), state: State::Untold };
        self.next += 1;
        number
    }

    /// The octets of this number leave once more, unchanged.
    pub fn repeat(&mut self, number: u64) {
        if number < self.next && number >= self.oldest() {
            let place = self.place(number);
            let packet = &mut self.ring[place];
            if packet.purpose() == Purpose::Media {
                packet.purpose = REPEATED;
            }
        }
    }

    /// What a feedback says of one number; `arrived` in ticks of the receiver's clock.
    pub fn report(&mut self, number: u16, arrived: Option<u32>) -> Option<Change> {
        let number = rtp::extend(self.next - 1, number);
        if number >= self.next || number < self.oldest() {
            self.ignored += 1;
            return None;
        }
        let place = self.place(number);
        let packet = &mut self.ring[place];
        let was_lost = packet.state == State::Lost;
        match (packet.state, arrived) {
            (State::Arrived, _) | (State::Lost, None) => {
                self.ignored += 1;
                None
            }
            (_, Some(at)) => {
                (packet.state, packet.arrived) = (State::Arrived, at);
                let packet = *packet;
                self.highest_arrived = self.highest_arrived.max(Some(number));
                Some(Change::Arrived { packet, was_lost })
            }
            (_, None) => {
                packet.state = State::Lost;
                Some(Change::Lost { packet: *packet })
            }
        }
    }

    /// The number that the next packet gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// A packet by its number, while it is remembered.
    pub fn get(&self, number: u64) -> Option<&SentPacket> {
        (number < self.next && number >= self.oldest()).then(|| &self.ring[self.place(number)])
    }

    /// Those remembered that are at or below the highest number that arrived, newest first.
    pub fn backwards(&self) -> impl Iterator<Item = &SentPacket> {
        let end = self.highest_arrived.map_or(self.oldest(), |highest| highest + 1);
        (self.oldest()..end).rev().map(|number| &self.ring[self.place(number)])
    }

    /// The whole of a number that a feedback names.
    pub fn extend(&self, number: u16) -> u64 {
        rtp::extend(self.next - 1, number).min(self.next - 1)
    }

    /// How many reports changed nothing.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Octets that it takes.
    pub fn memory(&self) -> usize {
        self.ring.capacity() * size_of::<SentPacket>()
    }

    fn oldest(&self) -> u64 {
        FIRST.max(self.next.saturating_sub(self.ring.len() as u64))
    }

    fn place(&self, number: u64) -> usize {
        number as usize & (self.ring.len() - 1)
    }

    /// Twice as many places, up to the most.
    fn grow(&mut self) {
        let len = (2 * self.ring.len()).min(self.most);
        let mut ring = Vec::with_capacity(len);
        ring.resize(len, SentPacket::default());
        for number in self.oldest()..self.next {
            ring[number as usize & (len - 1)] = self.ring[self.place(number)];
        }
        self.ring = ring;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_what_was_not_sent_change_nothing() {
        let mut history = History::new(MOST_WITH_PICTURE);
        for _ in 0..10 {
            history.push(100, Purpose::Media, 0);
        }
        for number in [10, 11, 5000, 40_000, 65_535] {
            assert!(history.report(number, Some(1)).is_none(), "{number} was never sent");
        }
        assert!(matches!(history.report(3, None), Some(Change::Lost { .. })));
        assert!(history.report(3, None).is_none(), "told before");
        assert!(matches!(history.report(3, Some(9)), Some(Change::Arrived { was_lost: true, .. })));
        assert!(history.report(3, Some(9)).is_none(), "told before");
        assert!(history.report(3, None).is_none(), "it does not vanish again");
        assert_eq!(history.ignored(), 8);
    }

    #[test]
    fn numbers_wrap_and_the_ring_stays_bounded() {
        let mut history = History::new(MOST_WITH_PICTURE);
        for number in 0..200_000_u64 {
            let given = history.push(1200, Purpose::Media, number);
            assert_eq!(given as u16, number as u16);
            if number >= 2000 {
                let told = history.report((number - 500) as u16, Some(number as u32));
                let Some(Change::Arrived { packet, .. }) = told else { panic!("{number}: {told:?}") };
                assert_eq!(packet.sent, number - 500);
            }
        }
        assert!(history.report((200_000_u64 - 1025) as u16, Some(0)).is_none(), "too long ago");
        assert!(history.memory() <= MOST_WITH_PICTURE * 16);
    }

    #[test]
    fn it_stays_small_while_feedback_comes() {
        let mut history = History::new(MOST_WITH_PICTURE);
        for number in 0..1000_u64 {
            history.push(1200, Purpose::Media, number * 20_000);
            if number >= 50 {
                history.report((number - 50) as u16, Some(1));
            }
        }
        assert_eq!(history.memory(), LEAST * size_of::<SentPacket>());
    }
}
