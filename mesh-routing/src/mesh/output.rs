//! What comes out of [`crate::Mesh::poll_output`]: everything that a driver has to do.

use bytes::Bytes;
use protocol::{
    NodeId, StreamName, ZoneName,
    mesh::{Class, MAX_RUNGS, TrackKey},
    parity::Protection,
};

use crate::{
    blob::FileOutput,
    log::NotStored,
    wire::{
        log_entry::{LogEntry, LogKey},
        metric::LinkId,
    },
};

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send on the link's reliable ordered stream of this class.
    Send {
        /// Where.
        link: LinkId,
        /// In which order among others.
        class: Class,
        /// At most [`crate::wire::message::MESSAGE_MAX`] bytes.
        message: Bytes,
    },
    /// [`Mesh::forwarding`] differs from what it was.
    ForwardingChanged,
    /// [`Mesh::streams`] or [`Mesh::heard_by`] differs from what it was.
    StreamsChanged,
    /// Of a sound that is heard here and published elsewhere other qualities come than before.
    SoundComes {
        /// The relay that it is published at.
        origin: NodeId,
        /// Its stream.
        stream: StreamName,
        /// Each rung, by rising quality, and what its publisher sends.
        comes: [bool; MAX_RUNGS + 1],
    },
    /// Somebody in the mesh needs a keyframe of a track published here.
    KeyframeWanted {
        /// Which track.
        track: TrackKey,
    },
    /// The neighbor asks for this much parity of what is sent to it over the link, until it asks for another.
    Protect {
        /// Which link.
        link: LinkId,
        /// What it asks for.
        protection: Protection,
    },
    /// A record that was never here before, own or not; of each log in order, each once, but for one
    /// that had been lacking and comes later. To be written after all
    /// that came out before; the answers go to [`crate::Mesh::handle_stored`] in the same order.
    Store(LogEntry),
    /// That record is on disk, or cannot be: now it may be shown. The messages that came after it follow.
    Record {
        /// The record.
        record: LogEntry,
        /// Why it is not on disk, if it is not.
        stored: Result<(), NotStored>,
    },
    /// Records of the own log up to a number are on the disk of another relay.
    Saved {
        /// Which log.
        key: LogKey,
        /// The last of them.
        upto: u64,
    },
    /// A neighbor gave back records that this relay wrote and its disk does not have: an older copy of the disk was put
    /// back, a copy of it runs elsewhere, or it refused them. They come out as every record does; this is for people.
    Returned {
        /// Who gave them.
        from: NodeId,
        /// Their log.
        key: LogKey,
        /// The number of the first.
        number: u64,
    },
    /// A neighbor brought a record that its writer did not sign, among others that are good. Those were taken, and somebody
    /// else is asked for this one; this is for people.
    BadRecord {
        /// Who brought it.
        from: NodeId,
        /// Its log.
        key: LogKey,
        /// Its number: the first, if there are several.
        number: u64,
    },
    /// Records of a log are forgotten here; on disk they are not needed any more either. Comes after a
    /// number of them, not for each.
    Forget {
        /// Which log.
        key: LogKey,
        /// Those with lower numbers.
        below: u64,
    },
    /// A track that lost its parent has another one.
    Rerouted {
        /// Which track.
        track: TrackKey,
    },
    /// Another relay with the key of one is alive. With a link: that is at its other end, and the link is to be closed with
    /// that reason, so that it learns of it. Without one the key is this relay's own, and this one goes on.
    Twin {
        /// Whose key it is.
        id: NodeId,
        /// The zone of the relay that refused the other one, if it is known.
        zone: Option<ZoneName>,
        /// The link of the other one.
        link: Option<LinkId>,
    },
    /// Another relay with the key of this one was in the mesh before: this one has no links until it has a key of its own.
    Second,
    /// The neighbor does not keep to the protocol: close the link.
    DropLink {
        /// Which link.
        link: LinkId,
        /// Why, as a clause.
        reason: &'static str,
    },
    /// Something about files.
    File(FileOutput),
}
