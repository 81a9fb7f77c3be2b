//! What crosses a link: tracks, priority classes and the media datagram.
//!
//! A media packet inside a relay and between relays is an RTP packet (RFC 3550) in *canonical form*:
//! the payload type is [`Codec::canonical_payload_type`](crate::Codec::canonical_payload_type), the
//! SSRC is 0, there are no CSRCs and no padding, sequence numbers and timestamps are the publisher's, and
//! header extensions are one-byte (RFC 8285) with the ids of [`extension`]. When numbers and timestamps
//! start anew, because the publisher reloads, the epoch of the datagram header changes; each listener's
//! own numbers are made at egress.

use bytes::{BufMut, Bytes};
use serde::{Deserialize, Serialize};

use crate::{codec::Kind, codec::TrackDescription, id::NodeId, id::StreamName};

/// One track in the whole mesh: the relay it enters at, the stream's name, which of its tracks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackKey {
    /// The relay the publisher is connected to.
    pub origin: NodeId,
    /// The stream.
    pub stream: StreamName,
    /// Which of its tracks.
    pub track: StreamTrack,
}

/// Encodings of one picture.
pub const MAX_ENCODINGS: usize = 4;
/// Rungs of a sound below what its publisher sends.
pub const MAX_RUNGS: usize = 2;

/// Which of a stream's tracks.
///
/// On the wire it is one octet: 0 the sound, 1 the picture, from 2 on its encodings, from 6 on the rungs of its sound. Until
/// bridge version 4 there are the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum StreamTrack {
    /// Its sound.
    Audio,
    /// Its picture, where the publisher sends one encoding of it. Where it sends several, the best of them: for
    /// neighbors that know of no encodings.
    Video,
    /// One encoding of its picture, where the publisher sends several: below [`MAX_ENCODINGS`], by its place in the
    /// publisher's answer. The place says nothing of the quality.
    Encoding(u8),
    /// Its sound as its relay has encoded it anew, for paths that do not carry what the publisher sends: below
    /// [`MAX_RUNGS`], by rising quality.
    Rung(u8),
}

impl StreamTrack {
    /// The whole track of a kind.
    pub fn of(kind: Kind) -> StreamTrack {
        match kind {
            Kind::Audio => StreamTrack::Audio,
            Kind::Video => StreamTrack::Video,
        }
    }

    /// Sound or picture.
    pub fn kind(self) -> Kind {
        match self {
            StreamTrack::Audio | StreamTrack::Rung(_) => Kind::Audio,
            StreamTrack::Video | StreamTrack::Encoding(_) => Kind::Video,
        }
    }

    /// Which encoding of a picture, if it is one of several.
    pub fn encoding(self) -> Option<u8> {
        match self {
            StreamTrack::Encoding(encoding) => Some(encoding),
            StreamTrack::Audio | StreamTrack::Video | StreamTrack::Rung(_) => None,
        }
    }
}

/// The octet of the lowest rung.
const FIRST_RUNG: u8 = 2 + MAX_ENCODINGS as u8;

impl From<StreamTrack> for u8 {
    fn from(track: StreamTrack) -> u8 {
        match track {
            StreamTrack::Audio => 0,
            StreamTrack::Video => 1,
            StreamTrack::Encoding(encoding) => 2 + encoding,
            StreamTrack::Rung(rung) => FIRST_RUNG + rung,
        }
    }
}

impl TryFrom<u8> for StreamTrack {
    type Error = &'static str;

    fn try_from(octet: u8) -> Result<StreamTrack, &'static str> {
        match octet {
            0 => Ok(StreamTrack::Audio),
            1 => Ok(StreamTrack::Video),
            2..FIRST_RUNG => Ok(StreamTrack::Encoding(octet - 2)),
            _ if usize::from(octet - FIRST_RUNG) < MAX_RUNGS => Ok(StreamTrack::Rung(octet - FIRST_RUNG)),
            _ => Err("no track of a stream"),
        }
    }
}

/// A stream as its origin advertises it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAdvertisement {
    /// The stream's name.
    pub name: StreamName,
    /// At most one audio and one video.
    pub tracks: Vec<TrackDescription>,
}

/// The priority of what crosses a link, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Routing and joins: never waits.
    Control,
    /// Emergency override.
    Emergency,
    /// Announcements.
    Announcement,
    /// Chat.
    Chat,
    /// Audio packets.
    Audio,
    /// Files that somebody waits for.
    File,
    /// Video packets.
    Video,
    /// What may be wanted later.
    Prefetch,
}

impl Class {
    /// The class of a track's packets.
    pub fn of(kind: Kind) -> Class {
        match kind {
            Kind::Audio => Class::Audio,
            Kind::Video => Class::Video,
        }
    }
}

/// Ids of the canonical header extensions.
pub mod extension {
    /// RFC 6464, one byte: voice flag and level.
    pub const AUDIO_LEVEL: u8 = 1;
    /// 3GPP TS 26.114 coordination of video orientation, one byte.
    pub const VIDEO_ORIENTATION: u8 = 2;
    /// Of AV1, three bytes: of which layer the packet is, and what its dependency descriptor says else. The first byte are
    /// flags, from the highest bit on: a layer frame begins, it ends, it refers to nothing of its spatial layer before it, a
    /// receiver may go up by a temporal layer here, nothing refers to it, it refers to the spatial layer below, no higher
    /// spatial layer refers to it; the last is 0. The second: two bits of spatial layer, three of temporal layer, then 0.
    /// The third: the width of the spatial layer in 144ths of the largest one, or 0. Who does not know it passes it over.
    pub const DEPENDENCY: u8 = 3;
}

/// The child-chosen number of a track on one link: the parent writes it on each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alias(pub u16);

/// What a media datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatagramKind {
    /// A canonical RTP packet.
    Rtp,
    /// A [`SenderClock`], 12 bytes.
    SenderClock,
    /// Whether a link carries more than it is sent, see [`ProbePart`].
    Probe,
    /// Asks the parent for datagrams again. Sent by the child, with the alias it chose; the link sequence is the
    /// first one that is missing, the payload 1 to 16 bytes of bits, least significant first, for the sequences
    /// from there on.
    Nack,
    /// A fragment of a canonical RTP packet that is longer than a datagram of this link may be: three octets that say
    /// which, see [`Fragment`], then its part of the packet. Each fragment has a link sequence of its own.
    Fragment,
    /// In place of packets that the parent did not send, see [`Withheld`]: 4 bytes.
    Withheld,
    /// Brings back one datagram of a group that was lost, see [`Parity`](crate::parity::Parity). Only where the neighbor
    /// asked for it. The link sequence is the first one of the group.
    Parity,
    /// Something that this relay does not know, by its number: 5, 6 and 9 to 15. It is passed over.
    Unknown(u8),
}

impl DatagramKind {
    /// Whether its link sequence is one of its alias. Where it is not known, a datagram that is one leaves no gap, and
    /// nobody asks for it again. Kinds from 8 on are; those below are not, and say in their place what they like.
    pub fn in_sequence(self) -> bool {
        match self {
            DatagramKind::Rtp
            | DatagramKind::SenderClock
            | DatagramKind::Fragment
            | DatagramKind::Withheld => true,
            DatagramKind::Nack | DatagramKind::Probe | DatagramKind::Parity => false,
            DatagramKind::Unknown(number) => number >= 8,
        }
    }

    fn number(self) -> u8 {
        match self {
            DatagramKind::Rtp => 0,
            DatagramKind::SenderClock => 1,
            DatagramKind::Nack => 2,
            DatagramKind::Fragment => 3,
            DatagramKind::Parity => 4,
            DatagramKind::Probe => 7,
            DatagramKind::Withheld => 8,
            DatagramKind::Unknown(number) => number & 0x0f,
        }
    }

    fn of(number: u8) -> DatagramKind {
        match number {
            0 => DatagramKind::Rtp,
            1 => DatagramKind::SenderClock,
            2 => DatagramKind::Nack,
            3 => DatagramKind::Fragment,
            4 => DatagramKind::Parity,
            7 => DatagramKind::Probe,
            8 => DatagramKind::Withheld,
            number => DatagramKind::Unknown(number),
        }
    }
}

/// What a [`DatagramKind::Probe`] is, by the epoch of its header. The link sequence is the number of the probe, and what
/// stands behind the header says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbePart {
    /// Epoch 0: a part of a burst.
    Part,
    /// Epoch 1: its last part, or all of it. It is answered.
    Last,
    /// Epoch 2: the answer. In place of the alias, how many octets behind headers came of the probe.
    Answer(u16),
}

impl ProbePart {
    /// What a header says; `None` if it says nothing that is known.
    pub fn of(header: &DatagramHeader) -> Option<ProbePart> {
        match header.epoch {
            0 => Some(ProbePart::Part),
            1 => Some(ProbePart::Last),
            2 => Some(ProbePart::Answer(header.alias.0)),
            _ => None,
        }
    }

    /// The epoch and the alias of its header.
    pub fn fields(self) -> (u8, u16) {
        match self {
            ProbePart::Part => (0, 0),
            ProbePart::Last => (1, 0),
            ProbePart::Answer(octets) => (2, octets),
        }
    }
}

/// Which fragment of which packet a [`DatagramKind::Fragment`] is. On the wire: the fragment's number in the upper four
/// bits of the first octet, how many there are in the lower four, then the packet's RTP sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// From 0.
    pub number: u8,
    /// 2 to 15.
    pub of: u8,
    /// The packet's RTP sequence number.
    pub packet: u16,
}

impl Fragment {
    /// The most fragments a packet is cut into.
    pub const MAX: u8 = 15;
    /// Its length on the wire.
    pub const LEN: usize = 3;

    /// Appends it to `out`.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u8(self.number << 4 | self.of);
        out.put_u16(self.packet);
    }

    /// Splits what follows the datagram header into fragment and content; `None` if that makes no sense.
    pub fn split(mut payload: Bytes) -> Option<(Fragment, Bytes)> {
        let [head, a, b, _, ..] = *payload else { return None };
        let fragment = Fragment { number: head >> 4, of: head & 0x0f, packet: u16::from_be_bytes([a, b]) };
        (fragment.of >= 2 && fragment.number < fragment.of)
            .then(|| (fragment, payload.split_off(Fragment::LEN)))
    }
}

/// Packets that a relay left out on purpose, because a link is too thin: so many RTP sequence numbers, one after the
/// other, in the epoch of the datagram header. Nobody asks for them, and listeners' numbers close over them. On the wire:
/// the first number, then how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withheld {
    /// The first RTP sequence number.
    pub first: u16,
    /// 1 to 4096.
    pub count: u16,
}

impl Withheld {
    /// The most packets that one of them names.
    pub const MAX: u16 = 4096;
    /// Its length on the wire.
    pub const LEN: usize = 4;

    /// Appends it to `out`.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u16(self.first);
        out.put_u16(self.count);
    }

    /// Reads it; `None` if the length is not 4, or the count is none that there is.
    pub fn read(bytes: &[u8]) -> Option<Withheld> {
        let [a, b, c, d] = *bytes else { return None };
        let withheld = Withheld { first: u16::from_be_bytes([a, b]), count: u16::from_be_bytes([c, d]) };
        (1..=Withheld::MAX).contains(&withheld.count).then_some(withheld)
    }

    /// The last number.
    pub fn last(&self) -> u16 {
        self.first.wrapping_add(self.count).wrapping_sub(1)
    }
}

/// The five bytes before the payload of a media datagram: flags, alias, link sequence; big-endian.
///
/// ```text
///  0                   1                   2                   3                   4
///  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9
/// +-------+-------+-------------------------------+-------------------------------+
/// | epoch | kind  |             alias             |         link sequence         |
/// +-------+-------+-------------------------------+-------------------------------+
/// ```
///
/// Kinds are 0 a packet, 1 a clock, 2 a nack, 3 a fragment of a packet, 4 a parity, 7 a probe, 8 what was
/// withheld. The others are of later
/// versions: see [`DatagramKind::in_sequence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramHeader {
    /// What follows.
    pub kind: DatagramKind,
    /// 0 to 15: changes when sequence numbers and timestamps of the track start anew.
    pub epoch: u8,
    /// The track on this link.
    pub alias: Alias,
    /// Counts the datagrams of this track on this link; a gap is a loss on this hop.
    pub sequence: u16,
}

impl DatagramHeader {
    /// Its length on the wire.
    pub const LEN: usize = 5;

    /// Appends the header to `out`.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u8(self.flags());
        out.put_u16(self.alias.0);
        out.put_u16(self.sequence);
    }

    /// Reads the header; `None` if the datagram is too short.
    pub fn read(datagram: &[u8]) -> Option<DatagramHeader> {
        let [flags, a0, a1, s0, s1, ..] = *datagram else { return None };
        let (alias, sequence) = (Alias(u16::from_be_bytes([a0, a1])), u16::from_be_bytes([s0, s1]));
        Some(DatagramHeader::of(flags, alias, sequence))
    }

    /// The header with this first octet.
    pub fn of(flags: u8, alias: Alias, sequence: u16) -> DatagramHeader {
        DatagramHeader { kind: DatagramKind::of(flags & 0x0f), epoch: flags >> 4, alias, sequence }
    }

    /// Its first octet: epoch and kind.
    pub fn flags(&self) -> u8 {
        self.epoch << 4 | self.kind.number()
    }

    /// Splits a datagram into header and payload.
    pub fn split(mut datagram: Bytes) -> Option<(DatagramHeader, Bytes)> {
        let header = DatagramHeader::read(&datagram)?;
        Some((header, datagram.split_off(DatagramHeader::LEN)))
    }
}

/// The publisher's wall clock against a track's RTP clock, out of its sender reports (RFC 3550 section
/// 6.4.1). Two tracks of one stream share the wall clock; that keeps lips and voice together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderClock {
    /// NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// The canonical RTP timestamp at that time.
    pub rtp: u32,
}

impl SenderClock {
    /// Its length on the wire.
    pub const LEN: usize = 12;

    /// Appends it to `out`.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_u64(self.ntp);
        out.put_u32(self.rtp);
    }

    /// Reads it; `None` if the length is not 12.
    pub fn read(bytes: &[u8]) -> Option<SenderClock> {
        let bytes: [u8; Self::LEN] = bytes.try_into().ok()?;
        let (ntp, rtp) = bytes.split_at(8);
        Some(SenderClock {
            ntp: u64::from_be_bytes(ntp.try_into().ok()?),
            rtp: u32::from_be_bytes(rtp.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_header_reads_back_as_written() {
        let known = [
            DatagramKind::Rtp,
            DatagramKind::SenderClock,
            DatagramKind::Nack,
            DatagramKind::Fragment,
            DatagramKind::Probe,
            DatagramKind::Withheld,
            DatagramKind::Parity,
        ];
        let unknown = (5..7).chain(9..16).map(DatagramKind::Unknown);
        for kind in known.into_iter().chain(unknown) {
            let header = DatagramHeader { kind, epoch: 13, alias: Alias(0x0102), sequence: 0xfffe };
            let mut bytes = Vec::new();
            header.write(&mut bytes);
            bytes.extend_from_slice(b"rest");
            let (read, rest) = DatagramHeader::split(bytes.into()).expect("long enough");
            assert_eq!((read, &rest[..]), (header, &b"rest"[..]));
        }
        assert_eq!(DatagramHeader::read(&[0; 4]), None);
    }

    #[test]
    fn a_track_of_a_stream_is_one_octet_and_sound_and_picture_are_what_they_were() {
        for octet in 0..=u8::MAX {
            match postcard::from_bytes::<StreamTrack>(&[octet]) {
                Ok(track) => assert_eq!(postcard::to_stdvec(&track).unwrap(), [octet]),
                Err(_) => assert!(usize::from(octet) >= 2 + MAX_ENCODINGS + MAX_RUNGS, "{octet}"),
            }
        }
        for kind in [Kind::Audio, Kind::Video] {
            assert_eq!(StreamTrack::of(kind).kind(), kind);
            let octets = postcard::to_stdvec(&kind).unwrap();
            assert_eq!(postcard::to_stdvec(&StreamTrack::of(kind)).unwrap(), octets);
        }
    }

    #[test]
    fn a_fragment_reads_back_and_nonsense_does_not() {
        for octet in 0..=u8::MAX {
            let bytes = [octet, 1, 2, 9];
            match Fragment::split(Bytes::copy_from_slice(&bytes)) {
                Some((fragment, content)) => {
                    let mut out = Vec::new();
                    fragment.write(&mut out);
                    assert_eq!((&out[..], &content[..]), (&bytes[..3], &bytes[3..]));
                }
                None => assert!(octet & 0x0f < 2 || octet >> 4 >= octet & 0x0f, "{octet:#x}"),
            }
        }
        assert_eq!(Fragment::split(Bytes::from_static(&[0x02, 0, 0])), None, "nothing in it");
    }

    #[test]
    fn a_sender_clock_reads_back_as_written() {
        let clock = SenderClock { ntp: 0x0123_4567_89ab_cdef, rtp: 0xfedc_ba98 };
        let mut bytes = Vec::new();
        clock.write(&mut bytes);
        assert_eq!(SenderClock::read(&bytes), Some(clock));
        assert_eq!(SenderClock::read(&bytes[1..]), None);
    }

    proptest! {
        #[test]
        fn what_was_withheld_reads_back_as_written(first: u16, count in 1..=Withheld::MAX) {
            let withheld = Withheld { first, count };
            let mut bytes = Vec::new();
            withheld.write(&mut bytes);
            prop_assert_eq!(bytes.len(), Withheld::LEN);
            prop_assert_eq!(Withheld::read(&bytes), Some(withheld));
            prop_assert_eq!(withheld.last().wrapping_sub(first), count - 1);
        }

        #[test]
        fn no_bytes_say_that_nothing_was_withheld_or_too_much(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            match Withheld::read(&bytes) {
                Some(withheld) => prop_assert!((1..=Withheld::MAX).contains(&withheld.count)),
                None => prop_assert!(bytes.len() != 4 || bytes[2..] == [0, 0] || bytes[2] >= 0x10),
            }
        }
    }
}
