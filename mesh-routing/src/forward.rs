//! The table the packet path reads: where each track comes from and where it goes. Made anew whenever a
//! tree changes; how trees come to be belongs to `tree.rs`.

use protocol::mesh::{Alias, TrackKey};

use crate::link::LinkId;

/// What happens to the packets of one track here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardEntry {
    /// Which track.
    pub track: TrackKey,
    /// Where its packets come from.
    pub source: Source,
    /// Links they leave on, each once, and the alias each of those children asked for.
    pub children: Vec<(LinkId, Alias)>,
    /// Somebody here listens.
    pub local: bool,
}

/// Where the packets of a track come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A publisher at this relay.
    Local,
    /// A neighbor, which writes this alias on them. Packets of the track with another alias, or from another
    /// link, are not wanted.
    Link {
        /// The link they come on.
        link: LinkId,
        /// The alias they carry.
        alias: Alias,
    },
    /// Nowhere at the moment.
    None,
}
