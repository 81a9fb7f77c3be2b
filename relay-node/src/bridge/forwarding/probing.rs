//! The datagrams of probes: those that go out, and what is counted and answered of those that come. When to send them, and
//! what the answers say, is in `quic/probe.rs`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use protocol::mesh::{Alias, DatagramHeader, DatagramKind, ProbePart};

use crate::bridge::quic::probe::{Path, Probe, Prober, Seen};

/// Answers that wait to be sent: an honest neighbor waits for one at a time.
const ANSWERS_MAX: usize = 8;

/// The probes of one link, in both directions.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    prober: Prober,
    /// What came of the neighbor's newest probe: its number, and octets.
    came: (u16, u64),
    answers: VecDeque<(u16, u64)>,
    /// What the newest probe found.
    seen: Option<Seen>,
}

/// What leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Datagrams(Vec<Bytes>),
    /// A probe waits for room.
    Wait,
    /// It waits until then.
    Later(Instant),
    Nothing,
}

impl Probing {
    /// What the link is thought to carry.
    pub fn handle_believed(&mut self, bits: Option<u64>, now: Instant) {
        self.prober.handle_believed(bits, now);
    }

    /// A datagram of this length leaves.
    #[inline]
    pub fn handle_sent(&mut self, octets: usize, now: Instant) {
        self.prober.handle_sent(octets, now);
    }

    /// A probe or an answer came; false if it finds no room. `shortest` is the round trip as the congestion control
    /// knows it.
    pub fn handle(
        &mut self,
        header: &DatagramHeader,
        octets: usize,
        shortest: Option<Duration>,
        now: Instant,
    ) -> bool {
        let number = header.sequence;
        match ProbePart::of(header) {
            Some(ProbePart::Answer(came)) => {
                self.seen = self.prober.handle_answer(number, came.into(), shortest, now).or(self.seen);
            }
            Some(part) => {
                if self.came.0 != number {
                    self.came = (number, 0);
                }
                self.came.1 += octets as u64;
                if part == ProbePart::Last {
                    if self.answers.len() == ANSWERS_MAX {
                        return false;
                    }
                    self.answers.push_back(self.came);
                }
            }
            None => {}
        }
        true
    }

    /// An answer that is due, if there is room for it.
    pub fn pop_answer(&mut self, room: u64) -> Option<Bytes> {
        if self.answers.is_empty() || room < DatagramHeader::LEN as u64 {
            return None;
        }
        let (number, came) = self.answers.pop_front()?;
        let came = u16::try_from(came).unwrap_or(u16::MAX);
        Some(datagram(ProbePart::Answer(came), number, 0))
    }

    /// What the own probe sends next.
    pub fn poll(&mut self, path: &Path, now: Instant) -> Sent {
        match self.prober.poll(path, now) {
            Probe::Ask(number) => Sent::Datagrams(vec![datagram(ProbePart::Last, number, 0)]),
            Probe::Burst(number, octets) => {
                let (count, longest) = (octets.div_ceil(path.longest.max(1)), path.longest.max(1));
                let parts = (1..=count).map(|at| {
                    let length = longest.min(octets - (at - 1) * longest);
                    let part = if at == count { ProbePart::Last } else { ProbePart::Part };
                    datagram(part, number, length as usize)
                });
                Sent::Datagrams(parts.collect())
            }
            Probe::Wait => Sent::Wait,
            Probe::Later(at) => Sent::Later(at),
            Probe::Nothing => Sent::Nothing,
        }
    }

    /// What was found since the last call.
    pub fn take_seen(&mut self) -> Option<Seen> {
        self.seen.take()
    }
}

/// A datagram of a probe with so many octets that say nothing.
fn datagram(part: ProbePart, number: u16, octets: usize) -> Bytes {
    let mut datagram = BytesMut::with_capacity(DatagramHeader::LEN + octets);
    let (epoch, alias) = part.fields();
    let header = DatagramHeader { kind: DatagramKind::Probe, epoch, alias: Alias(alias), sequence: number };
    header.write(&mut datagram);
    datagram.resize(DatagramHeader::LEN + octets, 0);
    datagram.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn handle(probing: &mut Probing, datagram: Bytes, now: Instant) -> bool {
        let (header, payload) = DatagramHeader::split(datagram).unwrap();
        probing.handle(&header, payload.len(), None, now)
    }

    fn datagrams(probing: &mut Probing, path: &Path, now: Instant) -> Vec<Bytes> {
        match probing.poll(path, now) {
            Sent::Datagrams(datagrams) => datagrams,
            sent => panic!("{sent:?}"),
        }
    }

    #[test]
    fn what_came_of_a_burst_is_answered_once() {
        let (mut here, mut there) = (Probing::default(), Probing::default());
        let path = Path { room: 99_999, longest: 1299, idle: true };
        let mut now = clock::now();
        here.handle_believed(Some(1_000_000), now);
        now += Duration::from_secs(3);
        let [ask] = datagrams(&mut here, &path, now).try_into().unwrap();
        assert_eq!(ask.len(), DatagramHeader::LEN);
        assert!(handle(&mut there, ask, now));
        let answer = there.pop_answer(99).unwrap();
        assert_eq!(there.pop_answer(99), None);
        now += Duration::from_millis(100);
        assert!(handle(&mut here, answer, now));
        let burst = datagrams(&mut here, &path, now);
        assert_eq!(burst.iter().map(|part| part.len() - DatagramHeader::LEN).sum::<usize>(), 2436);
        // The first part is lost.
        for part in burst.into_iter().skip(1) {
            assert!(handle(&mut there, part, now));
        }
        let answer = there.pop_answer(99).unwrap();
        assert_eq!(there.pop_answer(99), None);
        let header = DatagramHeader::read(&answer).unwrap();
        assert_eq!(ProbePart::of(&header), Some(ProbePart::Answer(2436 - 1299)));
    }

    #[test]
    fn who_asks_for_too_many_answers_gets_some() {
        let mut probing = Probing::default();
        let ask = |number| datagram(ProbePart::Last, number, 0);
        let taken = (0..99).filter(|number| handle(&mut probing, ask(*number), clock::now())).count();
        assert_eq!(taken, ANSWERS_MAX);
        assert_eq!(std::iter::from_fn(|| probing.pop_answer(99)).count(), ANSWERS_MAX);
        assert!(handle(&mut probing, datagram(ProbePart::Answer(9), 1, 0), clock::now()), "nobody asked");
        assert_eq!(probing.take_seen(), None);
    }
}
