//! A media packet in canonical form (`protocol::mesh`), with what fan-out needs to know already read.
//!
//! Ingest makes one out of what a publisher sent, a bridge reads one off a link; from there on the two
//! are the same.

use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use protocol::{Codec, Kind, mesh::extension};

use super::descriptor::{Description, Resolutions, describe, resolutions, summary::Summary};
use super::elements::Elements;
use super::header::{FIXED_LEN, Header};

/// What IP and UDP take of a path for each datagram (RFC 791, RFC 768), in octets. Where sound flows in frames of 20 ms that
/// is a fifth of what its lowest rung takes. With IPv6 it is 20 more.
pub const UDP_OVERHEAD: usize = 20 + 8;

/// A media packet in canonical form. Cloning it copies no payload.
#[derive(Debug, Clone)]
pub struct Packet {
    /// The canonical RTP packet, header and payload.
    pub bytes: Bytes,
    /// Where the payload starts in `bytes`.
    pub header_len: u16,
    /// Wraps around.
    pub sequence: u16,
    /// In units of the codec's clock.
    pub timestamp: u32,
    /// The last packet of a video frame.
    pub marker: bool,
    /// What the payload is.
    pub codec: Codec,
    /// RFC 6464.
    pub audio_level: Option<u8>,
    /// 3GPP TS 26.114.
    pub orientation: Option<u8>,
    /// What its payload says of itself. Of what cannot be read, and of sound, nothing: it is base layer then.
    pub description: Description,
    /// 0 to 15: changes when numbers and timestamps start anew.
    pub epoch: u8,
    /// When it came to this relay.
    pub received: Instant,
}

/// What the canonical header says.
#[derive(Debug, Clone, Copy)]
pub struct Canonical {
    /// What the payload is.
    pub codec: Codec,
    /// See [`Packet::marker`].
    pub marker: bool,
    /// See [`Packet::sequence`].
    pub sequence: u16,
    /// See [`Packet::timestamp`].
    pub timestamp: u32,
    /// See [`Packet::audio_level`].
    pub audio_level: Option<u8>,
    /// See [`Packet::orientation`].
    pub orientation: Option<u8>,
    /// What the publisher's dependency descriptor says.
    pub dependency: Option<Summary>,
}

/// The longest RTP packet of a publisher: what a path of 1500 carries, and a little more.
pub const MAX_RTP_LEN: usize = 1500;
/// The longest canonical packet: as long, with our header in place of the publisher's.
pub const MAX_LEN: usize = MAX_RTP_LEN - FIXED_LEN + MAX_HEADER_LEN;
/// The fixed header, the extension's head and two elements of two octets, or one of four.
pub const MAX_HEADER_LEN: usize = FIXED_LEN + 4 + 4;

impl Canonical {
    /// Appends the canonical header to `out`.
    pub fn write(&self, out: &mut impl BufMut) {
        let elements = self.elements();
        out.put_u8(0x80 | u8::from(elements.block_len() > 0) << 4);
        out.put_u8(u8::from(self.marker) << 7 | self.codec.canonical_payload_type());
        out.put_u16(self.sequence);
        out.put_u32(self.timestamp);
        out.put_u32(0);
        elements.write(out);
    }

    /// The octets [`Canonical::write`] appends.
    pub fn header_len(&self) -> usize {
        FIXED_LEN + self.elements().block_len()
    }

    fn elements(&self) -> Elements {
        let mut elements = Elements::default();
        let hints =
            [(extension::AUDIO_LEVEL, self.audio_level), (extension::VIDEO_ORIENTATION, self.orientation)];
        for (id, hint) in hints {
            if let Some(hint) = hint {
                elements.push(id, &[hint]);
            }
        }
        if let Some(Summary(octets)) = self.dependency {
            elements.push(extension::DEPENDENCY, &octets);
        }
        elements
    }
}

impl Packet {
    /// Reads a canonical packet off a link; `None` if it is not one.
    pub fn from_canonical(bytes: Bytes, epoch: u8, now: Instant) -> Option<Packet> {
        if bytes.len() > MAX_LEN {
            return None;
        }
        let header = Header::parse(&bytes).ok()?;
        let codec = Codec::from_canonical_payload_type(header.payload_type)?;
        if header.padding || header.header_len > MAX_HEADER_LEN {
            return None;
        }
        let mut audio_level = None;
        let mut orientation = None;
        let mut dependency = None;
        for (id, value) in header.extensions(&bytes) {
            match (id, value) {
                (extension::AUDIO_LEVEL, [level]) => audio_level = Some(*level),
                (extension::VIDEO_ORIENTATION, [turn]) => orientation = Some(*turn),
                (extension::DEPENDENCY, [a, b, c]) => dependency = Some(Summary([*a, *b, *c])),
                _ => {}
            }
        }
        Some(Packet {
            description: description(codec, &bytes[header.header_len..], header.marker, dependency),
            header_len: header.header_len as u16,
            sequence: header.sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            codec,
            audio_level,
            orientation,
            epoch,
            received: now,
            bytes,
        })
    }

    /// Makes a packet out of a buffer in which `canonical` and the plain payload already stand.
    pub fn from_parts(canonical: Canonical, buffer: BytesMut, epoch: u8, now: Instant) -> Packet {
        let header_len = canonical.header_len();
        Packet {
            description: description(
                canonical.codec,
                &buffer[header_len..],
                canonical.marker,
                canonical.dependency,
            ),
            header_len: header_len as u16,
            sequence: canonical.sequence,
            timestamp: canonical.timestamp,
            marker: canonical.marker,
            codec: canonical.codec,
            audio_level: canonical.audio_level,
            orientation: canonical.orientation,
            epoch,
            received: now,
            bytes: buffer.freeze(),
        }
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header_len)..]
    }

    /// The payload, shared with the packet.
    pub fn payload_bytes(&self) -> Bytes {
        self.bytes.slice(usize::from(self.header_len)..)
    }

    /// How large its spatial layers are, where it says so: with keyframes.
    pub fn resolutions(&self) -> Resolutions {
        resolutions(self.codec, self.payload())
    }

    /// Audio or video.
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// What the payload says, and the dependency descriptor in its place where there is one.
fn description(codec: Codec, payload: &[u8], marker: bool, dependency: Option<Summary>) -> Description {
    let said = describe(codec, payload, marker).unwrap_or_default();
    dependency.filter(|_| codec == Codec::Av1).map_or(said, |dependency| dependency.describe(said))
}

/// Moves the canonical header that ends at `payload_at` two octets up, over the original sequence number
/// of a retransmission (RFC 4588 section 4), and gives that number.
pub fn unwrap_retransmission(buffer: &mut BytesMut, canonical: &mut Canonical) -> Option<()> {
    let header_len = canonical.header_len();
    let original = buffer.get(header_len..header_len + 2)?;
    canonical.sequence = u16::from_be_bytes([original[0], original[1]]);
    buffer.advance(2);
    canonical.write(&mut &mut buffer[..header_len]);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an instant to stamp packets with")]
    fn now() -> Instant {
        Instant::now()
    }

    fn canonical() -> Canonical {
        Canonical {
            codec: Codec::Opus,
            marker: true,
            sequence: 0xfffe,
            timestamp: 0x0102_0304,
            audio_level: Some(0x85),
            orientation: None,
            dependency: None,
        }
    }

    fn buffer(canonical: &Canonical, payload: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        assert_eq!(buffer.len(), canonical.header_len());
        buffer.extend_from_slice(payload);
        buffer
    }

    #[test]
    fn a_canonical_packet_reads_back_as_written() {
        for (audio_level, orientation) in [(None, None), (Some(1), None), (None, Some(2)), (Some(3), Some(4))]
        {
            let canonical = Canonical { audio_level, orientation, ..canonical() };
            let made = Packet::from_parts(canonical, buffer(&canonical, b"sound"), 3, now());
            let read = Packet::from_canonical(made.bytes.clone(), 3, now()).expect("canonical");
            assert_eq!(read.payload(), b"sound");
            assert_eq!((read.sequence, read.timestamp, read.marker), (0xfffe, 0x0102_0304, true));
            assert_eq!((read.audio_level, read.orientation), (audio_level, orientation));
            assert_eq!((read.codec, read.epoch), (Codec::Opus, 3));
        }
    }

    #[test]
    fn a_retransmission_becomes_the_original_packet() {
        let mut canonical = Canonical { sequence: 1, ..canonical() };
        let mut buffer = buffer(&canonical, &[0x12, 0x34, b's', b'o']);
        unwrap_retransmission(&mut buffer, &mut canonical).expect("long enough");
        let packet = Packet::from_parts(canonical, buffer, 0, now());
        assert_eq!((packet.sequence, packet.payload()), (0x1234, &b"so"[..]));
        let read = Packet::from_canonical(packet.bytes, 0, now()).expect("canonical");
        assert_eq!((read.sequence, read.audio_level), (0x1234, Some(0x85)));
    }

    proptest! {
        #[test]
        fn reading_junk_off_a_link_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Packet::from_canonical(junk.into(), 0, now());
        }
    }
}
