//! RTP sequence numbers that were left out on purpose, in runs: what a neighbor is told in their place.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use protocol::mesh::{Alias, Class, DatagramKind, Withheld};

use super::packet::Packet;

/// Numbers of one track that were withheld since its last packet.
#[derive(Debug, Default)]
pub(crate) struct Numbers(VecDeque<(u8, Withheld)>);

/// Runs that are kept: a picture's numbers follow each other, unless some were lost before they came here.
const RUNS_MAX: usize = 64;

impl Numbers {
    /// Another number of this epoch.
    pub fn add(&mut self, epoch: u8, number: u16) {
        self.add_run(epoch, Withheld { first: number, count: 1 });
    }

    /// More numbers of this epoch, one after the other.
    pub fn add_run(&mut self, epoch: u8, run: Withheld) {
        if let Some((known, last)) = self.0.back_mut()
            && *known == epoch
            && last.last().wrapping_add(1) == run.first
            && last.count + run.count <= Withheld::MAX
        {
            last.count += run.count;
        } else {
            self.0.push_back((epoch, run));
        }
    }

    /// All that were withheld after these.
    pub fn append(&mut self, later: Numbers) {
        later.0.into_iter().for_each(|(epoch, run)| self.add_run(epoch, run));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The oldest run.
    pub fn pop(&mut self) -> Option<(u8, Withheld)> {
        self.0.pop_front()
    }

    /// The oldest run, if it is not to wait for the next packet: it is as long as one can be, or there are too many.
    pub fn pop_full(&mut self) -> Option<(u8, Withheld)> {
        let (_, oldest) = self.0.front()?;
        if oldest.count == Withheld::MAX || self.0.len() > RUNS_MAX { self.pop() } else { None }
    }

    /// These numbers, unless there are none.
    pub fn boxed(self) -> Option<Box<Numbers>> {
        (!self.is_empty()).then(|| Box::new(self))
    }

    /// The runs, for tests.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (u8, Withheld)> {
        self.0.iter().copied()
    }
}

/// What tells the neighbor of a run, in the place of its packets.
pub(crate) fn notice(class: Class, alias: Alias, precedence: u8, (epoch, run): (u8, Withheld)) -> Packet {
    let mut payload = BytesMut::with_capacity(Withheld::LEN);
    run.write(&mut payload);
    Packet { kind: DatagramKind::Withheld, class, epoch, alias, precedence, payload: Bytes::from(payload) }
}
