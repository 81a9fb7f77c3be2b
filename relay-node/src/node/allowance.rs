//! How fast people may speak: a participant, an address, and how often an address begins a room. A core without I/O.
//!
//! A token bucket for each, in bounded memory. What is said without a WebSocket counts for its address alone. Behind
//! one address there may be a whole festival, so those who listen on a WebSocket share more, and when their address has
//! spoken much, those who spoke little are heard first.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use rooms::{ParticipantId, Source};
use thiserror::Error;

use crate::drop_reason::DropReason;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speaker {
    /// Where from.
    pub address: IpAddr,
    /// The presence on whose WebSocket it is said, if on any.
    pub participant: Option<ParticipantId>,
}

/// How fast people may speak, by the operator. A rate of 0 bounds nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChatLimits {
    /// Messages a second of a participant.
    pub rate: f64,
    /// Messages of a participant in a row.
    pub burst: u32,
    /// Messages a second of an address.
    pub address_rate: f64,
}

impl Default for ChatLimits {
    fn default() -> ChatLimits {
        ChatLimits { rate: 1.0, burst: 10, address_rate: 20.0 }
    }
}

/// What was said too fast was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{whose}: wait {} s", wait.as_secs_f64().ceil())]
pub struct TooFast {
    /// What is too much.
    pub whose: Whose,
    /// When to say it again.
    pub wait: Duration,
}

/// What is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Whose {
    /// Of one participant.
    #[error("you speak too fast")]
    Participant,
    /// Of all those at an address.
    #[error("too many messages come from your address")]
    Address,
    /// Of rooms that an address begins.
    #[error("too many new rooms are begun from your address")]
    Rooms,
}

impl Whose {
    /// As what it is counted.
    pub fn reason(self) -> DropReason {
        match self {
            Whose::Participant => DropReason::ChatTooFast,
            Whose::Address => DropReason::ChatAddressTooFast,
            Whose::Rooms => DropReason::ChatRoomsTooFast,
        }
    }
}

/// An address may say so many seconds' worth in a row.
const ADDRESS_BURST_S: f64 = 3.0;
/// Those on WebSockets at one address share so many times what an address has without.
const CROWD: f64 = 5.0;
/// Who speaks so many times more seldom than he may is quiet.
const QUIET: f64 = 10.0;
/// Rooms that an address begins in a row, and between two after that.
const ROOMS_BURST: f64 = 100.0;
const ROOMS_EVERY: Duration = Duration::from_secs(5);
/// Buckets that are remembered, of each kind. When there are more, those that are nearest to full are forgotten.
const REMEMBERED_MAX: usize = 16_384;

/// What everybody may say now.
#[derive(Debug)]
pub struct Allowances {
    participants: Buckets<ParticipantId>,
    /// Fills slowly: who spoke much of late has little in it.
    quiet: Buckets<ParticipantId>,
    posts: Buckets<IpAddr>,
    crowds: Buckets<IpAddr>,
    begun: Buckets<IpAddr>,
    /// Makes the numbers in a [`Source`] say nothing about addresses.
    salt: u64,
}

impl Allowances {
    /// Nobody has said anything yet.
    pub fn new(limits: ChatLimits, salt: u64) -> Allowances {
        let ChatLimits { rate, burst, address_rate } = limits;
        let crowd = address_rate * CROWD;
        Allowances {
            participants: Buckets::new(rate, burst.into()),
            quiet: Buckets::new(rate / QUIET, burst.into()),
            posts: Buckets::new(address_rate, address_rate * ADDRESS_BURST_S),
            crowds: Buckets::new(crowd, crowd * ADDRESS_BURST_S),
            // Who bounds nothing else does not want this either.
            begun: match address_rate > 0.0 {
                true => Buckets::new(1.0 / ROOMS_EVERY.as_secs_f64(), ROOMS_BURST),
                false => Buckets::new(0.0, 0.0),
            },
            salt,
        }
    }

    /// Somebody says something, in a room in which nothing was said before if `begins`.
    ///
    /// # Errors
    ///
    /// [`TooFast`], with what is too much and how long to wait. Nothing is counted then.
    pub fn take(&mut self, speaker: Speaker, begins: bool, now: Instant) -> Result<(), TooFast> {
        let address = network(speaker.address);
        let mut waits = Vec::with_capacity(3);
        if begins {
            waits.push((self.begun.wait(&address, now), Whose::Rooms));
        }
        match &speaker.participant {
            Some(participant) => {
                waits.push((self.participants.wait(participant, now), Whose::Participant));
                let mut wait = self.crowds.wait(&address, now);
                // Half of it is for everybody; of the other half, the less there is, the quieter one has to be.
                let quiet = self.quiet.full(participant, now);
                if wait.is_zero() && quiet < 1.0 - 2.0 * self.crowds.full(&address, now) {
                    wait = self.participants.interval;
                }
                waits.push((wait, Whose::Address));
            }
            None => waits.push((self.posts.wait(&address, now), Whose::Address)),
        }
        if let Some((wait, whose)) = waits.into_iter().max_by_key(|(wait, _)| *wait)
            && !wait.is_zero()
        {
            return Err(TooFast { whose, wait });
        }
        if begins {
            self.begun.take(address, now);
        }
        match speaker.participant {
            Some(participant) => {
                self.participants.take(participant, now);
                self.quiet.take(participant, now);
                self.crowds.take(address, now);
            }
            None => self.posts.take(address, now),
        }
        Ok(())
    }

    /// A participant is gone.
    pub fn forget(&mut self, participant: ParticipantId) {
        self.participants.full_at.remove(&participant);
        self.quiet.full_at.remove(&participant);
    }

    /// What a record tells of where it was said: enough to tell places apart, and nothing else.
    pub fn source(&self, speaker: Speaker) -> Source {
        let number = |what: &[u8]| {
            let mut hasher = blake3::Hasher::new_derive_key("peddlenet relay 2026 source of a message");
            hasher.update(&self.salt.to_be_bytes()).update(what);
            let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
            u32::from_be_bytes([a, b, c, d]).max(1)
        };
        let address = match network(speaker.address) {
            IpAddr::V4(address) => number(&address.octets()),
            IpAddr::V6(address) => number(&address.octets()),
        };
        let participant = speaker.participant.map_or(0, |id| number(&id.0.to_be_bytes()));
        Source { address, participant }
    }
}

/// What one household or one host has: an IPv4 address, 64 bits of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Token buckets.
#[derive(Debug)]
struct Buckets<K> {
    /// What one token takes to come; zero if there is no bound.
    interval: Duration,
    /// What a whole bucket takes.
    whole: Duration,
    /// When each bucket is full again; one that is full needs no place.
    full_at: BTreeMap<K, Instant>,
}

impl<K: Ord + Copy> Buckets<K> {
    fn new(rate: f64, burst: f64) -> Buckets<K> {
        let interval = if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { Duration::ZERO };
        Buckets { interval, whole: interval.mul_f64(burst.max(1.0)), full_at: BTreeMap::new() }
    }

    fn empty(&self, key: &K, now: Instant) -> Duration {
        self.full_at.get(key).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// How long until there is a token.
    fn wait(&self, key: &K, now: Instant) -> Duration {
        // Rounding must not cost the last token of a burst.
        let wait = (self.empty(key, now) + self.interval).saturating_sub(self.whole);
        if wait < Duration::from_micros(1) { Duration::ZERO } else { wait }
    }

    /// 1 for a full one, 0 for an empty one.
    fn full(&self, key: &K, now: Instant) -> f64 {
        if self.whole.is_zero() {
            return 1.0;
        }
        1.0 - self.empty(key, now).div_duration_f64(self.whole)
    }

    fn take(&mut self, key: K, now: Instant) {
        if self.interval.is_zero() {
            return;
        }
        if self.full_at.len() >= REMEMBERED_MAX && !self.full_at.contains_key(&key) {
            self.full_at.retain(|_, at| *at > now);
            if self.full_at.len() >= REMEMBERED_MAX {
                let mut times: Vec<Instant> = self.full_at.values().copied().collect();
                let (_, middle, _) = times.select_nth_unstable(REMEMBERED_MAX / 2);
                let middle = *middle;
                self.full_at.retain(|_, at| *at > middle);
            }
        }
        let at = self.full_at.entry(key).or_insert(now);
        // No emptier than empty.
        *at = ((*at).max(now) + self.interval).min(now + self.whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn allowances() -> Allowances {
        Allowances::new(ChatLimits::default(), 7)
    }

    fn at(address: IpAddr, participant: Option<u64>) -> Speaker {
        Speaker { address, participant: participant.map(ParticipantId) }
    }

    /// How many of so many are taken at once.
    fn taken(allowances: &mut Allowances, speaker: Speaker, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| allowances.take(speaker, false, now).is_ok()).count()
    }

    #[test]
    fn a_participant_says_ten_in_a_row_and_then_one_a_second_and_is_told_when() {
        let (mut allowances, start) = (allowances(), crate::clock::now());
        let ada = at(HERE, Some(1));
        assert_eq!(taken(&mut allowances, ada, 30, start), 10);
        let wait = Duration::from_secs(1);
        assert_eq!(allowances.take(ada, false, start), Err(TooFast { whose: Whose::Participant, wait }));
        assert_eq!(taken(&mut allowances, at(HERE, Some(2)), 30, start), 10, "others are not touched");
        assert_eq!(allowances.take(ada, false, start + wait), Ok(()));
        assert_eq!(taken(&mut allowances, ada, 30, start + Duration::from_secs(4)), 3);
        assert_eq!(taken(&mut allowances, ada, 30, start + Duration::from_secs(3600)), 10);
    }

    #[test]
    fn without_a_websocket_an_address_has_one_bucket_and_ipv6_one_for_64_bits() {
        let (mut allowances, start) = (allowances(), crate::clock::now());
        assert_eq!(taken(&mut allowances, at(HERE, None), 200, start), 60);
        assert_eq!(taken(&mut allowances, at(HERE, None), 200, start + Duration::from_secs(1)), 20);
        assert_eq!(taken(&mut allowances, at("10.0.0.2".parse().unwrap(), None), 200, start), 60);
        let v6 = |text: &str| at(text.parse().unwrap(), None);
        assert_eq!(taken(&mut allowances, v6("2001:db8::1"), 200, start), 60);
        assert_eq!(taken(&mut allowances, v6("2001:db8::ffff:1"), 200, start), 0);
        assert_eq!(taken(&mut allowances, v6("2001:db8:0:1::1"), 200, start), 60);
        assert_eq!(taken(&mut allowances, v6("::ffff:10.0.0.1"), 200, start), 0);
    }

    #[test]
    fn a_festival_behind_one_address_speaks_and_those_who_shout_wait_for_those_who_do_not() {
        let (mut allowances, start) = (allowances(), crate::clock::now());
        let mut shouted = 0;
        for second in 0..120 {
            let now = start + Duration::from_secs(second);
            for participant in 0..300 {
                shouted += taken(&mut allowances, at(HERE, Some(participant)), 3, now);
            }
            // Once it is known who shouts, those who were quiet are heard at once.
            for quiet in 0..20 {
                let quiet = at(HERE, Some(1000 + second * 20 + quiet));
                assert!(allowances.take(quiet, false, now).is_ok() || second < 60, "{second}");
            }
        }
        // All together are bounded: 300 at first and 100 a second.
        assert!((120 * 70..=300 + 120 * 100).contains(&shouted), "{shouted}");
        // 1500 people who say something now and then are not.
        let later = start + Duration::from_secs(1000);
        for said in 0..15_000u64 {
            let now = later + Duration::from_millis(said * 20);
            assert_eq!(allowances.take(at(HERE, Some(said % 1500)), false, now), Ok(()), "{said}");
        }
    }

    #[test]
    fn an_address_begins_a_bounded_number_of_rooms_and_speaks_on_in_those_that_are() {
        let (mut allowances, start) = (allowances(), crate::clock::now());
        let now = |said: u64| start + Duration::from_millis(said * 100);
        let begun = (0..150).filter(|said| allowances.take(at(HERE, None), true, now(*said)).is_ok()).count();
        assert_eq!(begun, 102);
        let refused = allowances.take(at(HERE, Some(3)), true, now(149)).unwrap_err();
        assert_eq!(refused.whose, Whose::Rooms);
        assert_eq!(allowances.take(at(HERE, Some(3)), false, now(149)), Ok(()));
    }

    #[test]
    fn a_rate_of_nothing_bounds_nothing() {
        let limits = ChatLimits { rate: 0.0, burst: 1, address_rate: 0.0 };
        let (mut allowances, now) = (Allowances::new(limits, 7), crate::clock::now());
        for _ in 0..10_000 {
            assert_eq!(allowances.take(at(HERE, Some(1)), true, now), Ok(()));
            assert_eq!(allowances.take(at(HERE, None), true, now), Ok(()));
        }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_those_who_spoke_most_stay_in_it() {
        let (mut allowances, now) = (allowances(), crate::clock::now());
        let loud = at(HERE, None);
        assert_eq!(taken(&mut allowances, loud, 60, now), 60);
        for other in 0..3 * REMEMBERED_MAX as u32 {
            let other = at(std::net::Ipv4Addr::from(0x0b00_0000 + other).into(), None);
            assert_eq!(allowances.take(other, false, now), Ok(()));
        }
        assert!(allowances.posts.full_at.len() <= REMEMBERED_MAX);
        assert_eq!(taken(&mut allowances, loud, 60, now), 0);
    }

    #[test]
    fn a_source_tells_places_apart_and_nothing_else() {
        let (one, other) = (allowances(), Allowances::new(ChatLimits::default(), 8));
        let (here, there) = (at(HERE, None), at("10.0.0.2".parse().unwrap(), Some(1)));
        assert_eq!(one.source(here), one.source(at("::ffff:10.0.0.1".parse().unwrap(), None)));
        assert_ne!(one.source(here).address, one.source(there).address);
        assert_eq!((one.source(here).participant, one.source(there).participant == 0), (0, false));
        assert_ne!(one.source(here), other.source(here));
    }
}
