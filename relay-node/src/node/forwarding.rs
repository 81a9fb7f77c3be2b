//! The rows of the forwarding table in the numbers of this relay: what the mesh says of a track, and who listens to it
//! here. The driver puts links in and hands it to the packet path.

use std::collections::{BTreeMap, BTreeSet};

use media::TrackId;
use mesh_routing::{ForwardEntry, LinkId};
use protocol::mesh::{Alias, Class, TrackKey};

use super::Node;

/// A row of the forwarding table, in the numbers of this relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The track: a number that is given once, the same for all its feeds while the track is in the table.
    pub track: u64,
    /// Where the packets come from.
    pub source: ForwardSource,
    /// The track's local number, if somebody here listens.
    pub local: Option<TrackId>,
    /// The class on the next links.
    pub class: Class,
    /// Where they go.
    pub children: Vec<(LinkId, Alias)>,
}

/// Where the packets of a track come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardSource {
    /// A publisher here.
    Here(TrackId),
    /// Neighbors; a packet may come from each of them.
    Links(Vec<(LinkId, Alias)>),
}

/// The numbers of the tracks in the table. Each is given once: no packet is ever taken for one of another track.
#[derive(Debug, Default)]
pub(super) struct TrackNumbers {
    given: BTreeMap<TrackKey, u64>,
    next: u64,
}

impl TrackNumbers {
    fn of(&mut self, track: &TrackKey) -> u64 {
        if let Some(number) = self.given.get(track) {
            return *number;
        }
        let number = self.next;
        self.next += 1;
        self.given.insert(track.clone(), number);
        number
    }

    /// Forgets the tracks that left the table; one that comes again is another one.
    fn retain(&mut self, tracks: &BTreeSet<&TrackKey>) {
        self.given.retain(|track, _| tracks.contains(track));
    }
}

impl Node {
    /// The forwarding table in this relay's numbers.
    pub fn forwarding(&mut self) -> Vec<Forward> {
        let entries = self.mesh.forwarding();
        self.track_numbers.retain(&entries.iter().map(|entry| &entry.track).collect());
        entries.into_iter().filter_map(|entry| self.row(entry)).collect()
    }

    fn row(&mut self, entry: ForwardEntry) -> Option<Forward> {
        let local = self.streams.get(&entry.track.stream).map(|known| known.tracks.of(entry.track.kind));
        let source =
            if entry.published { ForwardSource::Here(local?) } else { ForwardSource::Links(entry.sources) };
        Some(Forward {
            track: self.track_numbers.of(&entry.track),
            source,
            local: local.filter(|_| entry.local),
            class: Class::of(entry.track.kind),
            children: entry.children,
        })
    }
}

#[cfg(test)]
mod tests {
    use protocol::{Kind, NodeId, StreamName};

    use super::*;

    #[test]
    fn a_number_of_a_track_is_never_given_twice() {
        let track = |kind| {
            let stream = StreamName::new("main-stage").expect("a name");
            TrackKey { origin: NodeId([1; 32]), stream, kind }
        };
        let (sound, picture) = (track(Kind::Audio), track(Kind::Video));
        let mut numbers = TrackNumbers::default();
        let first = [&sound, &picture, &sound].map(|track| numbers.of(track));
        assert_eq!(first, [0, 1, 0]);
        numbers.retain(&BTreeSet::from([&picture]));
        assert_eq!([&sound, &picture].map(|track| numbers.of(track)), [2, 1]);
    }
}
