//! What the handshake shows of the path, before any media: our longest flight is a kilobyte, a check of ICE a tenth of
//! that. By how much longer the answer to the flight takes, the path is narrow, or the peer slow. So it is the least that the
//! path carries towards the peer, and no more than a first guess.

use std::time::{Duration, Instant};

use crate::rtp::packet::UDP_OVERHEAD;

/// What is known of checks and flights of one session.
#[derive(Debug, Default)]
pub(super) struct HandshakePath {
    /// The first one.
    check: Option<Asked>,
    checked: Option<Answered>,
    /// The one that is answered next.
    flight: Option<Asked>,
    /// The longest one that was answered.
    longest: Option<Answered>,
}

/// What left, and waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    octets: usize,
    at: Instant,
    /// It left more than once: nobody knows which one is answered (Karn and Partridge 1987).
    again: bool,
}

#[derive(Debug, Clone, Copy)]
struct Answered {
    octets: usize,
    after: Duration,
}

/// Timers and a busy peer account for so much.
const CHANCE: Duration = Duration::from_millis(10);

impl HandshakePath {
    /// A check leaves, with what goes before it in the same moment. It is the same one until it is answered, and what
    /// counts is the first time: if that was lost the path only seems wider.
    pub(super) fn handle_check(&mut self, octets: usize, now: Instant) {
        self.check.get_or_insert(Asked { octets: octets + UDP_OVERHEAD, at: now, again: false });
    }

    /// It is answered.
    pub(super) fn handle_check_answered(&mut self, now: Instant) {
        if let Some(check) = &self.check {
            self.checked.get_or_insert(check.answered(now));
        }
    }

    /// A datagram of a flight leaves. Those that leave at one moment are one flight.
    pub(super) fn handle_flight(&mut self, octets: usize, again: bool, now: Instant) {
        match &mut self.flight {
            Some(flight) if flight.at == now && !again => flight.octets += octets + UDP_OVERHEAD,
            _ => self.flight = Some(Asked { octets: octets + UDP_OVERHEAD, at: now, again }),
        }
    }

    /// The peer says something in DTLS.
    pub(super) fn handle_flight_answered(&mut self, now: Instant) {
        let Some(flight) = self.flight.take().filter(|flight| !flight.again) else { return };
        if self.longest.is_none_or(|longest| longest.octets < flight.octets) {
            self.longest = Some(flight.answered(now));
        }
    }

    /// The least that the path carries, in bits per second, if the handshake has told.
    pub(super) fn carries(&self) -> Option<u64> {
        let (flight, check) = (self.longest?, self.checked?);
        let octets = flight.octets.checked_sub(check.octets)?;
        let longer = flight.after.saturating_sub(check.after).max(CHANCE);
        Some((octets as f64 * 8.0 / longer.as_secs_f64()) as u64)
    }
}

impl Asked {
    fn answered(self, now: Instant) -> Answered {
        Answered { octets: self.octets, after: now.saturating_duration_since(self.at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A check of 100 octets that is answered after 41 ms, and a flight of 1000.
    fn answered_after(ms: u64) -> HandshakePath {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut path = HandshakePath::default();
        path.handle_check(72, at(0));
        path.handle_check(72, at(30));
        path.handle_check_answered(at(41));
        path.handle_flight(50, false, at(50));
        path.handle_flight_answered(at(150));
        path.handle_flight(500, false, at(200));
        path.handle_flight(444, false, at(200));
        path.handle_flight_answered(at(200 + ms));
        path
    }

    #[test]
    fn what_the_longest_flight_takes_longer_than_a_check_is_the_path() {
        for (ms, carries) in [(161, 60_000), (77, 200_000), (50, 720_000), (41, 720_000), (5, 720_000)] {
            assert_eq!(answered_after(ms).carries(), Some(carries), "{ms} ms");
        }
        assert_eq!(HandshakePath::default().carries(), None);
    }

    #[test]
    fn what_left_again_tells_nothing() {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
        let now = Instant::now();
        let mut path = HandshakePath::default();
        path.handle_check(72, now);
        path.handle_check_answered(now + Duration::from_millis(41));
        path.handle_flight(1000, false, now);
        path.handle_flight(1000, true, now + Duration::from_millis(400));
        path.handle_flight_answered(now + Duration::from_millis(500));
        assert_eq!(path.carries(), None);
    }
}
