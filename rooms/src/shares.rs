//! Who has how much of what a room keeps. When it is too much, whoever has most gives way: first among the relays
//! that wrote it, then among the addresses there, the participants, and the names they give themselves.

use std::collections::BTreeMap;

use protocol::NodeId;

use crate::place::{Place, Source};

/// Whose a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Party {
    pub writer: NodeId,
    pub source: Source,
    /// Anybody can give himself another name, so it comes last.
    pub author: Author,
}

/// Stands for the name that somebody gives himself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Author(u64);

impl Author {
    pub fn new(name: &str) -> Author {
        let hash = blake3::hash(name.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Author(u64::from_le_bytes(*first))
    }
}

impl Party {
    /// As far as `level` tells parties apart.
    fn prefix(&self, level: usize) -> (NodeId, u32, u32, u64) {
        let Source { address, participant } = self.source;
        let from = |at: usize| level >= at;
        (
            self.writer,
            if from(1) { address } else { 0 },
            if from(2) { participant } else { 0 },
            if from(3) { self.author.0 } else { 0 },
        )
    }
}

/// Levels of [`Party::prefix`].
const LEVELS: usize = 4;

/// What each party has.
#[derive(Debug, Default)]
pub(crate) struct Shares(BTreeMap<Party, Share>);

#[derive(Debug)]
struct Share {
    first: Place,
    messages: usize,
    bytes: usize,
}

impl Shares {
    pub fn insert(&mut self, party: Party, place: Place, bytes: usize) {
        let share = self.0.entry(party).or_insert(Share { first: place, messages: 0, bytes: 0 });
        share.first = share.first.min(place);
        share.messages += 1;
        share.bytes += bytes;
    }

    /// A message is gone that was inserted. `next` finds the oldest that is left of that party after this one.
    pub fn remove(
        &mut self,
        party: &Party,
        place: &Place,
        bytes: usize,
        next: impl FnOnce() -> Option<Place>,
    ) {
        let Some(share) = self.0.get_mut(party) else { return };
        share.messages -= 1;
        share.bytes -= bytes;
        if share.messages == 0 {
            self.0.remove(party);
        } else if share.first == *place
            && let Some(next) = next()
        {
            share.first = next;
        }
    }

    /// The oldest of whoever has most.
    pub fn least(&self) -> Option<Place> {
        let mut parties: Vec<(&Party, &Share)> = self.0.iter().collect();
        for level in 0..LEVELS {
            let same = |a: &(&Party, &Share), b: &(&Party, &Share)| a.0.prefix(level) == b.0.prefix(level);
            let bytes = |run: &&[(&Party, &Share)]| run.iter().map(|(_, share)| share.bytes).sum::<usize>();
            // Of equals whoever spoke first gives way.
            let first =
                |run: &&[(&Party, &Share)]| std::cmp::Reverse(run.iter().map(|(_, share)| share.first).min());
            let most = parties.chunk_by(same).max_by_key(|run| (bytes(run), first(run)))?;
            parties = most.to_vec();
        }
        parties.first().map(|(_, share)| share.first)
    }
}

#[cfg(test)]
mod tests {
    use protocol::Hlc;

    use super::*;

    fn place(at: u64) -> Place {
        Place { clock: Hlc(at), writer: NodeId([1; 32]), number: at, incarnation: 1 }
    }

    fn party(writer: u8, address: u32, participant: u32, author: &str) -> Party {
        Party {
            writer: NodeId([writer; 32]),
            source: Source { address, participant },
            author: Author::new(author),
        }
    }

    /// Gives way until so many are left; says how many each of the parties has then.
    fn left(given: &[(Party, u64)], most: usize) -> Vec<usize> {
        let mut shares = Shares::default();
        let mut of = BTreeMap::new();
        for (at, (party, bytes)) in (1..).zip(given) {
            shares.insert(*party, place(at), *bytes as usize);
            of.insert(place(at), (*party, *bytes as usize));
        }
        while of.len() > most {
            let gone = shares.least().expect("there are some");
            let (party, bytes) = of.remove(&gone).expect("is there");
            let next = || of.range(gone..).find(|(_, (other, _))| *other == party).map(|(place, _)| *place);
            shares.remove(&party, &gone, bytes, next);
        }
        let mut parties: Vec<Party> = Vec::new();
        for (party, _) in given {
            if !parties.contains(party) {
                parties.push(*party);
            }
        }
        parties.iter().map(|party| of.values().filter(|(other, _)| other == party).count()).collect()
    }

    #[test]
    fn whoever_has_most_gives_way_at_each_level() {
        let ada = party(1, 7, 0, "Ada");
        let many = |from: &dyn Fn(u64) -> Party| {
            let mut given = vec![(ada, 100); 20];
            given.extend((0..200).map(|at| (from(at), 100)));
            left(&given, 100)
        };
        // By another name at the same address, from another address under any names, at another relay.
        assert_eq!(many(&|_| party(1, 7, 0, "Bob"))[..2], [20, 80]);
        assert_eq!(many(&|_| party(1, 7, 9, "Ada"))[..2], [20, 80]);
        assert_eq!(many(&|at| party(1, 8, 0, &at.to_string()))[0], 20);
        assert_eq!(many(&|at| party(1, 8, at as u32, &at.to_string()))[0], 20);
        assert_eq!(many(&|at| party(2, at as u32, 0, "x"))[0], 20);
    }

    #[test]
    fn bytes_count_and_not_messages() {
        let (long, short) = (party(1, 7, 0, "long"), party(1, 8, 0, "short"));
        let mut given = vec![(short, 10); 50];
        given.extend(vec![(long, 1000); 50]);
        assert_eq!(left(&given, 60), [50, 10]);
    }

    #[test]
    fn of_one_party_the_oldest_goes() {
        let mut shares = Shares::default();
        for at in [5, 3, 4] {
            shares.insert(party(1, 0, 0, "Ada"), place(at), 1);
        }
        assert_eq!(shares.least(), Some(place(3)));
        for (at, next) in [(5, None), (3, Some(4)), (4, None)] {
            shares.remove(&party(1, 0, 0, "Ada"), &place(at), 1, || next.map(place));
            assert_eq!(shares.least(), (at != 4).then(|| place(next.unwrap_or(3))));
        }
        assert_eq!(shares.least(), None);
    }
}
