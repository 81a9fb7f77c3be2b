//! ICE of the controlling side with one socket (RFC 8445): a check to every candidate of the relay, the first that
//! answers is used, and consent to it is kept fresh (RFC 7675). The relay is ICE-lite and only answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCrypto;

use super::stun::{self, Credentials, Read};
use crate::error::Error;

/// How often all candidates are tried until one answers.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);
/// How often the relay is asked whether it is still there.
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
/// A relay that has not answered for so long is gone. Sooner than the 30 s of RFC 7675: this is an instrument, and what
/// it measures is to be told soon.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(6);
/// Checks that may still be answered.
const PENDING: usize = 64;

/// The checks of one session.
pub(super) struct Checks {
    local: Credentials,
    remote: Credentials,
    candidates: Vec<SocketAddr>,
    tie_breaker: [u8; 8],
    selected: Option<SocketAddr>,
    pending: Vec<([u8; 12], SocketAddr)>,
    next: Instant,
    /// When the selected address answered last.
    heard: Instant,
}

impl Checks {
    pub(super) fn new(
        local: Credentials,
        remote: Credentials,
        candidates: Vec<SocketAddr>,
        now: Instant,
    ) -> Self {
        Checks {
            local,
            remote,
            candidates,
            tie_breaker: rand::random(),
            selected: None,
            pending: Vec::new(),
            next: now,
            heard: now,
        }
    }

    /// Where the relay is, once that is known.
    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Whether the relay has stopped answering.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.selected.is_some() && now.saturating_duration_since(self.heard) > CONSENT_TIMEOUT
    }

    /// A STUN message; gives what to send in answer.
    pub(super) fn handle_datagram(
        &mut self,
        from: SocketAddr,
        data: &[u8],
        crypto: &dyn RTCCrypto,
        now: Instant,
    ) -> Option<Vec<u8>> {
        match stun::read(data, &self.local, &self.remote, crypto)? {
            Read::Request(id) => stun::answer(id, from, &self.local, crypto).ok(),
            Read::Success(id) => {
                let at = self.pending.iter().position(|(pending, to)| *pending == id && *to == from)?;
                self.pending.swap_remove(at);
                if self.selected.is_none() {
                    self.selected = Some(from);
                    self.next = now + CONSENT_INTERVAL;
                    self.pending.clear();
                }
                if self.selected == Some(from) {
                    self.heard = now;
                }
                None
            }
            Read::Refused => None,
        }
    }

    /// The checks that are due.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when a message cannot be written.
    pub(super) fn handle_timeout(
        &mut self,
        crypto: &dyn RTCCrypto,
        now: Instant,
    ) -> Result<Vec<(SocketAddr, Vec<u8>)>, Error> {
        if now < self.next {
            return Ok(Vec::new());
        }
        let (to, interval) = match self.selected {
            Some(selected) => (vec![selected], CONSENT_INTERVAL),
            None => (self.candidates.clone(), FIRST_INTERVAL),
        };
        self.next = now + interval;
        let mut checks = Vec::with_capacity(to.len());
        for to in to {
            let (id, check) = stun::check(&self.local, &self.remote, self.tie_breaker, crypto)?;
            if self.pending.len() == PENDING {
                self.pending.remove(0);
            }
            self.pending.push((id, to));
            checks.push((to, check));
        }
        Ok(checks)
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn credentials(name: &str) -> Credentials {
        Credentials { ufrag: name.to_owned(), password: format!("{name}-password-of-22-letters") }
    }

    #[test]
    fn the_first_candidate_that_answers_is_used_and_lost_when_it_goes_silent() {
        let provider = rtc_crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        let (start, ours, theirs) = (clock::now(), credentials("ours"), credentials("theirs"));
        let candidates: Vec<SocketAddr> =
            vec!["192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap()];
        let mut checks = Checks::new(ours.clone(), theirs.clone(), candidates.clone(), start);
        let sent = checks.handle_timeout(crypto, start).unwrap();
        assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), candidates);
        assert!(checks.handle_timeout(crypto, start).unwrap().is_empty());
        let Some(Read::Request(id)) = stun::read(&sent[1].1, &theirs, &ours, crypto) else { panic!() };
        let answer = stun::answer(id, candidates[1], &theirs, crypto).unwrap();
        // The answer counts only from where the check went.
        checks.handle_datagram(candidates[0], &answer, crypto, start);
        assert_eq!(checks.selected(), None);
        checks.handle_datagram(candidates[1], &answer, crypto, start);
        assert_eq!(checks.selected(), Some(candidates[1]));
        let consent = checks.handle_timeout(crypto, start + CONSENT_INTERVAL).unwrap();
        assert_eq!(consent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [candidates[1]]);
        assert!(!checks.is_lost(start + CONSENT_TIMEOUT));
        assert!(checks.is_lost(start + CONSENT_TIMEOUT + Duration::from_millis(1)));
    }

    #[test]
    fn a_request_of_the_relay_is_answered() {
        let provider = rtc_crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        let (start, ours, theirs) = (clock::now(), credentials("ours"), credentials("theirs"));
        let from = "192.0.2.1:1".parse().unwrap();
        let mut checks = Checks::new(ours.clone(), theirs.clone(), vec![from], start);
        let (id, request) = stun::check(&theirs, &ours, [2; 8], crypto).unwrap();
        let answer = checks.handle_datagram(from, &request, crypto, start).unwrap();
        assert_eq!(stun::read(&answer, &theirs, &ours, crypto), Some(Read::Success(id)));
    }
}
