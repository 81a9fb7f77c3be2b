//! The rows of the forwarding table in the numbers of this relay: what the mesh says of a track, and who listens to it
//! here. The driver puts links in and hands it to the packet path.

use std::hash::{DefaultHasher, Hash, Hasher};

use media::TrackId;
use mesh_routing::{ForwardEntry, LinkId};
use protocol::mesh::{Alias, Class, TrackKey};

use super::Node;

/// A row of the forwarding table, in the numbers of this relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The track, the same number for all its feeds while it is in the table, and no other's ever.
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

impl Node {
    /// The forwarding table in this relay's numbers.
    pub fn forwarding(&self) -> Vec<Forward> {
        let row = |entry: ForwardEntry| {
            let local = self.streams.get(&entry.track.stream).map(|known| known.tracks.of(entry.track.kind));
            let source = if entry.published {
                ForwardSource::Here(local?)
            } else {
                ForwardSource::Links(entry.sources)
            };
            Some(Forward {
                track: number(&entry.track),
                source,
                local: local.filter(|_| entry.local),
                class: Class::of(entry.track.kind),
                children: entry.children,
            })
        };
        self.mesh.forwarding().into_iter().filter_map(row).collect()
    }
}

/// A number for a track that is the same for as long as this relay runs, whichever of its feeds is meant.
fn number(track: &TrackKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    track.hash(&mut hasher);
    hasher.finish()
}
