//! Sessions that got an answer and no way through UDP: how many, and what is said about them, once a minute.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Direction, Sessions};

/// So long a browser may take from the answer to the end of its DTLS handshake. The page waits as long
/// before it says so, and before it tries anew.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// The log is told once in this time, however many there are.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How many there were since the last word about it.
#[derive(Debug, Default)]
pub(super) struct Unreached {
    listeners: u64,
    publishers: u64,
    first: Option<Instant>,
    said: Option<Instant>,
}

impl Unreached {
    fn handle(&mut self, direction: Direction, now: Instant) {
        self.first.get_or_insert(now);
        match direction {
            Direction::Egress => self.listeners += 1,
            Direction::Ingest => self.publishers += 1,
        }
    }

    /// What the log should be told now: of the first at once, of those that follow when a minute is over.
    fn poll(&mut self, ports: impl FnOnce() -> String, now: Instant) -> Option<String> {
        self.poll_timeout().filter(|at| *at <= now)?;
        self.said = Some(now);
        let (listeners, publishers) =
            (std::mem::take(&mut self.listeners), std::mem::take(&mut self.publishers));
        Some(sentence(listeners, publishers, &ports()))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let due = self.said.map_or(self.first, |said| Some(said + SAY_EVERY));
        due.filter(|_| self.listeners + self.publishers > 0)
    }
}

/// Also in `doctor`.
pub fn sentence(listeners: u64, publishers: u64, ports: &str) -> String {
    let some = |count: u64, who: &str| match count {
        0 => None,
        1 => Some(format!("1 {who}")),
        count => Some(format!("{count} {who}s")),
    };
    let who: Vec<_> =
        [some(listeners, "listener"), some(publishers, "publisher")].into_iter().flatten().collect();
    let who = who.join(" and ");
    format!(
        "the page arrives, the sound does not: {who} had an answer and did not connect within 8 s; the way is \
         UDP to {ports}: open that port in the firewall here and on the access points, and name an address that \
         phones reach with --public-ip if this is none"
    )
}

/// Addresses and ports as people read them.
pub fn ports(candidates: &[SocketAddr]) -> String {
    const MOST: usize = 4;
    let shown: Vec<String> = candidates.iter().take(MOST).map(ToString::to_string).collect();
    let more = if candidates.len() > MOST { " and others" } else { "" };
    format!("{}{more}", shown.join(" or "))
}

impl Sessions {
    /// Where browsers are told to go.
    pub(super) fn ports(&self) -> String {
        ports(&self.candidates)
    }

    /// Time has passed: the sessions that should have connected by now, each once, and what the log should be told.
    pub(crate) fn handle_late(&mut self, now: Instant) -> (Vec<Direction>, Option<String>) {
        let sessions = self.sessions.values_mut();
        let late = sessions.filter(|one| !one.connected && !one.late && one.opened + PATIENCE <= now);
        let late = late.map(|session| {
            session.late = true;
            session.direction
        });
        let late: Vec<Direction> = late.collect();
        for direction in &late {
            self.unreached.handle(*direction, now);
        }
        let said = self.unreached.poll(|| ports(&self.candidates), now);
        (late, said)
    }
}
