//! A media packet on its way over a link, before it has a number there: its lane among others, and the number it
//! has in its track.

use bytes::Bytes;
use protocol::mesh::{Alias, Class, DatagramKind};

/// Lanes of a link, each for some classes.
pub(crate) const LANES: usize = 4;
/// The lane of live sound.
pub(crate) const SOUND: usize = 1;
/// The lane of video.
pub(crate) const VIDEO: usize = 2;

/// A media packet before it has a link sequence.
#[derive(Debug)]
pub(crate) struct Packet {
    pub kind: DatagramKind,
    pub class: Class,
    pub epoch: u8,
    pub alias: Alias,
    /// Which of the video goes first where a link is too thin: the highest. 0 is the base of a picture, or all there is
    /// of it.
    pub precedence: u8,
    pub payload: Bytes,
}

/// Emergency audio passes all, live audio passes video, and nothing waits for prefetch.
pub(crate) fn lane(class: Class) -> usize {
    match class {
        Class::Control | Class::Emergency | Class::Announcement => 0,
        Class::Chat | Class::Audio => SOUND,
        Class::File | Class::Video => VIDEO,
        Class::Prefetch => 3,
    }
}

/// What a packet of a class is of: 0 sound, 1 pictures. So figures of both are kept apart.
pub(crate) fn kind(class: Class) -> usize {
    usize::from(lane(class) > SOUND)
}

/// The RTP sequence number of a canonical packet.
pub(crate) fn sequence(packet: &[u8]) -> Option<u16> {
    let header = packet.first_chunk::<RTP_HEADER>()?;
    Some(u16::from_be_bytes([header[2], header[3]]))
}

/// The RTP timestamp of a canonical packet.
pub(crate) fn timestamp(packet: &[u8]) -> Option<u32> {
    let header = packet.first_chunk::<RTP_HEADER>()?;
    Some(u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}

/// RFC 3550 section 5.1, without CSRCs.
const RTP_HEADER: usize = 12;
