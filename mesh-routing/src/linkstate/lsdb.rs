//! The newest LSA of each key that any relay said, the own ones included.
//! Who is asked for what is missing, and who is told of what is new, belongs to `flood.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use protocol::{NodeId, StreamName};

use crate::{
    error::MeshError,
    wire::{
        area::{AreaId, Fragment, InterAreaLsa, NodePrefix},
        lsa::{Advertised, EXPIRY, Edge, LinkState, NODES_MAX, Publication},
        message::BUCKETS,
        signed_lsa::{Key, Lsa, SignedLsa},
    },
};

/// Bytes of LSAs kept, as `weight` counts them: 8192 relays of the usual size are a sixth.
pub const DATABASE_MAX: usize = 32 << 20;
/// LSAs of publications and of ways to other areas, together. Apart from the relays: neither fills the other's place.
const OTHERS_MAX: usize = 4 * NODES_MAX;

/// No fragment comes before.
const FIRST: Fragment = Fragment { area: AreaId(0), lowest: NodePrefix([0; 8]) };

/// An LSA in the database.
#[derive(Debug, Clone)]
pub struct Held {
    /// The newest of its key.
    pub signed: SignedLsa,
    /// When it is forgotten unless a newer one comes.
    pub expires: Instant,
    /// Since when one of this key is known here.
    pub since: Instant,
    /// Since when each of its streams is known here.
    pub streams_since: BTreeMap<StreamName, Instant>,
}

impl Held {
    /// How old the LSA is, as counted by all relays it passed.
    pub fn age_ms(&self, now: Instant) -> u32 {
        let age = EXPIRY.saturating_sub(self.expires.saturating_duration_since(now));
        u32::try_from(age.as_millis()).unwrap_or(u32::MAX)
    }

    /// Its sequence.
    pub fn sequence(&self) -> u64 {
        self.signed.lsa().sequence()
    }
}

/// What a newer LSA changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Difference {
    /// Edges or their costs: routes may differ.
    pub edges: bool,
    /// The set of edges, or the streams: a relay that refused a track may take it now.
    pub shape: bool,
    /// An edge is known to carry more: what was refused for want of room may be taken now. Where it is not known any more what
    /// an edge carries, that would start all at once.
    pub room: bool,
    /// Streams, or the zone of a relay: lists may differ.
    pub streams: bool,
    /// Listeners.
    pub heard: bool,
    /// What is reached in other areas, and how.
    pub ways: bool,
}

/// The newest LSA of each key.
#[derive(Debug, Default)]
pub struct Lsdb {
    lsas: BTreeMap<Key, Held>,
    /// Relays that say who their neighbors are.
    nodes: usize,
    bytes: usize,
    /// Of what stays in the area, and of what does not.
    buckets: [Buckets; 2],
    /// When it last became another.
    changed: Option<Instant>,
}

#[derive(Debug)]
struct Buckets([u64; BUCKETS]);

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets([0; BUCKETS])
    }
}

impl Lsdb {
    /// Takes an LSA that has been checked and is newer than the one held.
    ///
    /// # Errors
    ///
    /// It has expired.
    pub fn take(&mut self, signed: SignedLsa, age: Duration, now: Instant) -> Result<Difference, MeshError> {
        let left = EXPIRY.saturating_sub(age);
        if left.is_zero() {
            return Err(MeshError::Absurd { what: "an LSA that has expired" });
        }
        let key = signed.lsa().key();
        let held = self.lsas.get(&key);
        let difference = difference(held.map(|held| held.signed.lsa()), signed.lsa());
        let since = held.map_or(now, |held| held.since);
        let streams_since = match signed.lsa() {
            Lsa::Streams(said) => streams_since(held, said, now),
            _ => BTreeMap::new(),
        };
        self.bytes = self.bytes_with(&signed);
        if let Some(held) = held {
            self.buckets[usize::from(!key.local())].0[bucket(&key)] ^= word(&key, held.sequence());
        } else if matches!(key, Key::Links(_)) {
            self.nodes += 1;
        }
        self.buckets[usize::from(!key.local())].0[bucket(&key)] ^= word(&key, signed.lsa().sequence());
        self.changed = Some(now);
        self.lsas.insert(key, Held { signed, expires: now + left, since, streams_since });
        Ok(difference)
    }

    /// Whether an LSA of another relay may be taken without breaking a bound.
    ///
    /// # Errors
    ///
    /// [`MeshError::Full`], with the bound it would break.
    pub fn room_for(&self, signed: &SignedLsa) -> Result<(), MeshError> {
        let key = signed.lsa().key();
        let full = match key {
            Key::Links(_) => self.nodes >= NODES_MAX,
            _ => self.lsas.len() - self.nodes >= OTHERS_MAX,
        };
        if full && !self.lsas.contains_key(&key) {
            return Err(MeshError::Full { what: "relay" });
        }
        let bytes = self.bytes_with(signed);
        if bytes > DATABASE_MAX && bytes > self.bytes {
            return Err(MeshError::Full { what: "LSA" });
        }
        Ok(())
    }

    fn bytes_with(&self, signed: &SignedLsa) -> usize {
        let old = self.lsas.get(&signed.lsa().key()).map_or(0, |held| held.signed.weight());
        self.bytes - old + signed.weight()
    }

    /// Forgets what nobody refreshed; says whether there was any.
    pub fn expire(&mut self, own: &NodeId, now: Instant) -> bool {
        let withdrawn =
            |held: &Held| matches!(held.signed.lsa(), Lsa::InterArea(InterAreaLsa { area_path: None, .. }));
        self.keep(now, |key, held| held.expires > now || (key.origin() == *own && !withdrawn(held)))
    }

    /// Forgets all others; says whether there were any.
    pub fn keep(&mut self, now: Instant, which: impl Fn(&Key, &Held) -> bool) -> bool {
        let before = self.lsas.len();
        let gone: Vec<_> = self.lsas.extract_if(.., |key, held| !which(key, held)).collect();
        for (key, held) in gone {
            self.bytes -= held.signed.weight();
            self.nodes -= usize::from(matches!(key, Key::Links(_)));
            self.buckets[usize::from(!key.local())].0[bucket(&key)] ^= word(&key, held.sequence());
            self.changed = Some(now);
        }
        self.lsas.len() != before
    }

    /// The LSA of a key.
    pub fn held(&self, key: &Key) -> Option<&Held> {
        self.lsas.get(key)
    }

    /// All LSAs, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Held)> {
        self.lsas.iter()
    }

    /// Who says it is whose neighbor, by origin.
    pub fn relays(&self) -> impl Iterator<Item = (&LinkState, &Held)> {
        self.lsas.range(..Key::Streams(NodeId([0; 32]))).filter_map(|(_, held)| match held.signed.lsa() {
            Lsa::Links(said) => Some((said, held)),
            _ => None,
        })
    }

    /// What is published where, by origin.
    pub fn publications(&self) -> impl Iterator<Item = (&Publication, &Held)> {
        self.lsas.range(Key::Streams(NodeId([0; 32]))..).map_while(|(_, held)| match held.signed.lsa() {
            Lsa::Streams(said) => Some((said, held)),
            _ => None,
        })
    }

    /// How border relays reach fragments of other areas, by origin.
    pub fn ways(&self) -> impl Iterator<Item = (&InterAreaLsa, &Held)> {
        let first = Key::InterArea(NodeId([0; 32]), FIRST);
        self.lsas.range(first..).filter_map(|(_, held)| match held.signed.lsa() {
            Lsa::InterArea(said) => Some((said, held)),
            _ => None,
        })
    }

    /// How one border relay reaches fragments of other areas.
    pub fn ways_of(&self, origin: &NodeId) -> impl Iterator<Item = (&InterAreaLsa, &Held)> {
        let origin = *origin;
        self.lsas.range(Key::InterArea(origin, FIRST)..).map_while(move |(_, held)| match held.signed.lsa() {
            Lsa::InterArea(said) if said.origin == origin => Some((said, held)),
            _ => None,
        })
    }

    /// What a relay says of its neighbors.
    pub fn links(&self, origin: &NodeId) -> Option<&LinkState> {
        match self.lsas.get(&Key::Links(*origin))?.signed.lsa() {
            Lsa::Links(said) => Some(said),
            _ => None,
        }
    }

    /// What is published at a relay.
    pub fn publication(&self, origin: &NodeId) -> Option<&Publication> {
        match self.lsas.get(&Key::Streams(*origin))?.signed.lsa() {
            Lsa::Streams(said) => Some(said),
            _ => None,
        }
    }

    /// What a relay says of a stream that is published there.
    pub fn advertised(&self, origin: &NodeId, stream: &StreamName) -> Option<&Advertised> {
        self.publication(origin)?.stream(stream)
    }

    /// How many relays say who their neighbors are.
    pub fn len(&self) -> usize {
        self.nodes
    }

    /// Whether there is no LSA at all.
    pub fn is_empty(&self) -> bool {
        self.lsas.is_empty()
    }

    /// What the LSAs take, as [`DATABASE_MAX`] bounds it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// When it last became another.
    pub fn changed(&self) -> Option<Instant> {
        self.changed
    }

    /// Equal on two relays that have the same LSAs; `across` areas only those that do not stay in one.
    pub fn hash(&self, across: bool) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for word in self.words(across) {
            hasher.update(&word.to_be_bytes());
        }
        crate::wire::signature::first_word(&hasher)
    }

    /// A hash of each part.
    pub fn buckets(&self, across: bool) -> Vec<u32> {
        self.words(across).map(|word| word as u32).collect()
    }

    fn words(&self, across: bool) -> impl Iterator<Item = u64> {
        let [local, global] = &self.buckets;
        local.0.iter().zip(&global.0).map(move |(a, b)| if across { *b } else { a ^ b })
    }

    /// What is held of the parts that `which` names.
    pub fn digest(&self, across: bool, which: impl Fn(usize) -> bool) -> Vec<(Key, u64)> {
        let named = |key: &Key| which(bucket(key)) && !(across && key.local());
        self.lsas.iter().filter(|(key, _)| named(key)).map(|(key, held)| (*key, held.sequence())).collect()
    }
}

fn difference(old: Option<&Lsa>, new: &Lsa) -> Difference {
    match (old, new) {
        (Some(Lsa::Links(old)), Lsa::Links(new)) => Difference {
            edges: old.links != new.links,
            shape: !old.links.iter().map(|e| e.neighbor).eq(new.links.iter().map(|e| e.neighbor)),
            room: old.links != new.links && has_more_room(&old.links, &new.links),
            streams: old.zone != new.zone,
            heard: old.heard != new.heard,
            ways: false,
        },
        (Some(Lsa::Streams(old)), Lsa::Streams(new)) => {
            let differ = old.streams != new.streams;
            Difference { shape: differ, streams: differ || old.zone != new.zone, ..Difference::default() }
        }
        (Some(Lsa::InterArea(old)), Lsa::InterArea(new)) => {
            let differ = old.area_path != new.area_path;
            let shape = old.area_path.is_some() != new.area_path.is_some();
            Difference { ways: differ, shape, ..Difference::default() }
        }
        (_, Lsa::InterArea(new)) => {
            let any = new.area_path.is_some();
            Difference { ways: any, shape: any, ..Difference::default() }
        }
        (_, Lsa::Links(_)) => {
            Difference { edges: true, shape: true, streams: true, heard: true, ..Difference::default() }
        }
        (_, Lsa::Streams(new)) => {
            let any = !new.streams.is_empty();
            Difference { shape: any, streams: any, ..Difference::default() }
        }
    }
}

fn has_more_room(old: &[Edge], new: &[Edge]) -> bool {
    let before = |new: &Edge| old.iter().find(|old| old.neighbor == new.neighbor);
    new.iter()
        .any(|edge| before(edge).is_some_and(|old| !old.capacity.unknown() && edge.capacity > old.capacity))
}

/// A stream that is published again is a new one.
fn streams_since(held: Option<&Held>, said: &Publication, now: Instant) -> BTreeMap<StreamName, Instant> {
    let before = |name: &StreamName, since| {
        let held = held?;
        let Lsa::Streams(old) = held.signed.lsa() else { return None };
        (old.stream(name)?.since == since).then(|| held.streams_since.get(name).copied()).flatten()
    };
    let since = |ad: &crate::wire::lsa::Advertised| before(&ad.stream.name, ad.since).unwrap_or(now);
    said.streams.iter().map(|ad| (ad.stream.name.clone(), since(ad))).collect()
}

fn bucket(key: &Key) -> usize {
    let fragment = if let Key::InterArea(_, fragment) = key { fragment.lowest.0[7] } else { 0 };
    usize::from(key.origin().0[31] ^ fragment) % BUCKETS
}

fn word(key: &Key, sequence: u64) -> u64 {
    let kind: u8 = match key {
        Key::Links(_) => 0,
        Key::Streams(_) => 1,
        Key::InterArea(..) => 2,
    };
    let mut hasher = blake3::Hasher::new();
    if let Key::InterArea(_, fragment) = key {
        hasher.update(&fragment.area.0.to_be_bytes()).update(&fragment.lowest.0);
    }
    hasher.update(&[kind]).update(&key.origin().0).update(&sequence.to_be_bytes());
    crate::wire::signature::first_word(&hasher)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::metric::Capacity;

    #[test]
    fn there_is_more_room_where_more_is_known_to_be_carried() {
        let edge = |neighbor, capacity| {
            let (neighbor, capacity) = (protocol::NodeId([neighbor; 32]), Capacity(capacity));
            Edge { neighbor, cost: 10, rtt_us: 1000, loss: 0, capacity }
        };
        for (before, after, more) in
            [(3, 5, true), (5, 3, false), (5, 5, false), (5, 0, false), (0, 5, false)]
        {
            let (old, new) = ([edge(1, 4), edge(2, before)], [edge(2, after), edge(3, 9)]);
            assert_eq!(has_more_room(&old, &new), more, "{before} and then {after}");
        }
    }
}
