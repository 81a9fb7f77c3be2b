//! Repeats our last DTLS flight when no answer comes. rtc-dtls lets its own timer die on an incomplete
//! flight and waits two seconds otherwise; under loss that costs a tenth of the handshakes. Owns the flight's
//! datagrams and when they go out again; knows nothing of their content.

use std::time::{Duration, Instant};

/// The last flight, and when to repeat it.
pub(super) struct Resend {
    flight: Vec<Vec<u8>>,
    next: Option<Instant>,
    interval: Duration,
    /// When the flight last left, so that a storm of repeats from the peer does not become ours.
    sent: Option<Instant>,
    answers_left: u8,
}

impl Resend {
    pub(super) fn new() -> Resend {
        Resend { flight: Vec::new(), next: None, interval: FIRST, sent: None, answers_left: MAX_ANSWERS }
    }

    /// Our first ClientHello: repeated early, because ffmpeg throws the first one away.
    pub(super) fn handle_hello(&mut self, datagrams: &[Vec<u8>], now: Instant) {
        self.handle_flight(datagrams, now);
        self.interval = EARLY;
        self.next = Some(now + EARLY);
    }

    /// A flight has been sent. One that the engine repeats by itself replaces the last one too: its record
    /// numbers are fresher.
    pub(super) fn handle_flight(&mut self, datagrams: &[Vec<u8>], now: Instant) {
        if datagrams.is_empty() {
            return;
        }
        self.flight = datagrams.to_vec();
        self.interval = FIRST;
        self.next = Some(now + FIRST);
        self.sent = Some(now);
    }

    /// The peer has answered with something: the early repeats of the hello have done their work.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        if self.interval < FIRST && self.next.is_some() {
            self.interval = FIRST;
            self.next = Some(now + FIRST);
        }
    }

    /// The peer repeats what this flight answered: it has not seen it.
    pub(super) fn handle_repeat(&mut self, now: Instant) -> &[Vec<u8>] {
        let recently = self.sent.is_some_and(|sent| now.duration_since(sent) < ANSWER_GAP);
        if recently || self.answers_left == 0 || self.flight.is_empty() {
            return &[];
        }
        self.answers_left -= 1;
        self.sent = Some(now);
        &self.flight
    }

    /// What to send again.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> &[Vec<u8>] {
        if self.next.is_none_or(|next| next > now) {
            return &[];
        }
        // 50, 150, 350, 750 ms for the hello; 400 ms, 1.2 s, 2.8 s … for the others.
        self.interval = (self.interval * 2).min(LONGEST);
        self.next = Some(now + self.interval);
        self.sent = Some(now);
        &self.flight
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// The handshake is done: repeat only when asked.
    pub(super) fn stop(&mut self) {
        self.next = None;
    }

    /// Nobody will ask any more.
    pub(super) fn clear(&mut self) {
        *self = Resend { answers_left: 0, ..Resend::new() };
    }
}

/// Sooner than the two seconds of rtc-dtls, which under loss cost a tenth of the handshakes.
const FIRST: Duration = Duration::from_millis(400);
/// For the hello that ffmpeg throws away.
const EARLY: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(4);
/// A storm of repeats from the peer must not become ours.
const ANSWER_GAP: Duration = Duration::from_millis(50);
const MAX_ANSWERS: u8 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
    fn the_hello_is_repeated_early_and_then_less_and_less() {
        let start = Instant::now();
        let mut resend = Resend::new();
        resend.handle_hello(&[vec![1]], start);
        let mut at = Vec::new();
        while at.len() < 6 {
            let next = resend.poll_timeout().unwrap();
            assert_eq!(resend.handle_timeout(next).len(), 1);
            at.push((next - start).as_millis());
        }
        assert_eq!(at, [50, 150, 350, 750, 1550, 3150]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
    fn a_storm_of_repeats_is_answered_sparsely() {
        let start = Instant::now();
        let mut resend = Resend::new();
        resend.handle_flight(&[vec![1]], start);
        let answers: usize =
            (0..10_000).map(|ms| resend.handle_repeat(start + Duration::from_millis(ms)).len()).sum();
        assert_eq!(answers, usize::from(MAX_ANSWERS));
    }
}
