//! The forwarding table: what the mesh says of each track, and who listens to it here, in the numbers of this relay and
//! with the ends of its links. The driver hands it to the packet path.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use mesh_routing::{ForwardEntry, LinkId};
use protocol::mesh::{Alias, Class, TrackKey};

use super::Node;
use crate::bridge::{Child, LinkSender, Route, Table};

/// The numbers of the tracks that come from neighbors. Each is given once, the same for all feeds of a track while it
/// is in the table: no packet is ever taken for one of another track.
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
    /// The forwarding table over these links.
    pub fn forwarding(&mut self, links: &BTreeMap<LinkId, LinkSender>) -> Table {
        let entries = self.mesh.forwarding();
        self.track_numbers.retain(&entries.iter().map(|entry| &entry.track).collect());
        let mut table = Table::default();
        for ForwardEntry { track, published, sources, children, local, rank } in entries {
            let here = self.streams.get(&track.stream).map(|known| known.tracks.get(track.track).0);
            let child =
                |(link, alias)| Some(Child { link: links.get(&link)?.clone(), alias, precedence: rank });
            let children = children.into_iter().filter_map(child).collect();
            if !published {
                let (track, class) = (self.track_numbers.of(&track), Class::of(track.track.kind()));
                let route = Route { track, local: here.filter(|_| local), class, children };
                table.incoming.extend(sources.into_iter().map(|source| (source, route.clone())));
            } else if let Some(here) = here {
                table.local.insert(here, children);
            }
        }
        table
    }

    /// The neighbor on a link needs keyframes of these tracks that it gets from here: what was before them has been shed,
    /// because the link is too thin.
    pub fn handle_shed(&mut self, link: LinkId, aliases: &[Alias], now: Instant) {
        if aliases.is_empty() {
            return;
        }
        for ForwardEntry { track, children, .. } in self.mesh.forwarding() {
            if children.iter().any(|(to, alias)| *to == link && aliases.contains(alias)) {
                self.mesh.handle_keyframe_request(&track, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::{NodeId, StreamName, mesh::StreamTrack};

    use super::*;

    #[test]
    fn a_number_of_a_track_is_never_given_twice() {
        let track = |track| {
            let stream = StreamName::new("main-stage").expect("a name");
            TrackKey { origin: NodeId([1; 32]), stream, track }
        };
        let (sound, picture) = (track(StreamTrack::Audio), track(StreamTrack::Video));
        let mut numbers = TrackNumbers::default();
        let first = [&sound, &picture, &sound].map(|track| numbers.of(track));
        assert_eq!(first, [0, 1, 0]);
        numbers.retain(&BTreeSet::from([&picture]));
        assert_eq!([&sound, &picture].map(|track| numbers.of(track)), [2, 1]);
    }
}
