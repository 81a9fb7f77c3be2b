//! The table the packet path reads: where each track comes from and where it goes. Made anew whenever a
//! tree changes; how trees come to be belongs to `mod.rs`.

use protocol::mesh::{Alias, TrackKey};

use crate::wire::metric::LinkId;

/// What happens to the packets of one track here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardEntry {
    /// Which track.
    pub track: TrackKey,
    /// A publisher at this relay is where its packets come from.
    pub published: bool,
    /// Links its packets may come on and the alias the neighbors write on them: a packet that comes on several
    /// is taken once. Packets of the track with another alias, or from another link, are not wanted.
    pub sources: Vec<(LinkId, Alias)>,
    /// Links they leave on, each once and not on the one they came on, and the alias each of those children
    /// asked for.
    pub children: Vec<(LinkId, Alias)>,
    /// Somebody here listens.
    pub local: bool,
    /// Which goes first where a link is too narrow: the highest. 0 is sound, the base of a picture, and a picture that
    /// comes in one encoding; each better encoding is one more, and a picture as a whole beside its encodings the highest.
    pub rank: u8,
}
