//! The datagram of the next bridge version, for tests alone (feature `next`): a note that a relay which does not know it
//! passes over. The rest of that version is in `mesh-routing/src/mesh/next.rs`.

use bytes::Bytes;
use protocol::{
    NodeId,
    mesh::{Alias, DatagramHeader, DatagramKind},
};
use quinn::Connection;

/// The first kind that comes next.
pub(crate) const KIND: DatagramKind = DatagramKind::Unknown(5);

/// Says it to a neighbor, whatever version it speaks.
pub(crate) fn say(connection: &Connection) {
    let mut note = Vec::new();
    DatagramHeader { kind: KIND, epoch: 0, alias: Alias(0), sequence: 0 }.write(&mut note);
    note.extend(b"a note");
    // The next one follows.
    let _ = connection.send_datagram(Bytes::from(note));
}

/// A note came.
pub(crate) fn count(from: &NodeId, way: &'static str) {
    metrics::counter!("relay_next_notes_total", "way" => way, "from" => from.to_string()).increment(1);
}
