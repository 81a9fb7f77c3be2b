//! The time of sending inside an Opus packet, as padding (RFC 6716 section 3.2.5) that every decoder
//! skips: relays carry payloads untouched, so two processes on one clock measure the delay between them
//! whatever happened to the RTP header on the way.

use bytes::{BufMut, Bytes, BytesMut};

const MAGIC: &[u8; 8] = b"\x00PNstamp";
/// The magic and the microseconds.
const PADDING: usize = 16;
/// Frame count byte of code 3: one frame, with padding, constant rate.
const ONE_FRAME_PADDED: u8 = 0x41;
/// The two low bits of the table-of-contents byte: how many frames follow.
const CODE: u8 = 0x03;

/// Puts `micros` into a packet of one Opus frame; a packet of another shape is returned unchanged.
pub fn write(packet: Bytes, micros: u64) -> Bytes {
    match packet.first() {
        Some(toc) if toc & CODE == 0 => {
            let mut stamped = BytesMut::with_capacity(packet.len() + 2 + PADDING);
            stamped.put_u8(toc | CODE);
            stamped.put_u8(ONE_FRAME_PADDED);
            stamped.put_u8(PADDING as u8);
            stamped.extend_from_slice(&packet[1..]);
            stamped.extend_from_slice(MAGIC);
            stamped.put_u64(micros);
            stamped.freeze()
        }
        _ => packet,
    }
}

/// The microseconds in a packet that [`write`] made.
pub fn read(packet: &[u8]) -> Option<u64> {
    let (head, rest) = packet.split_at_checked(3)?;
    if head[0] & CODE != CODE || head[1] != ONE_FRAME_PADDED || usize::from(head[2]) != PADDING {
        return None;
    }
    let (_, padding) = rest.split_at_checked(rest.len().checked_sub(PADDING)?)?;
    let (magic, micros) = padding.split_at(MAGIC.len());
    (magic == MAGIC).then(|| micros.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use opus::{Application, Channels, Decoder, Encoder};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stamped_packet_sounds_the_same() {
        let mut encoder = Encoder::new(48_000, Channels::Stereo, Application::Audio).unwrap();
        let mut plain = Decoder::new(48_000, Channels::Stereo).unwrap();
        let mut other = Decoder::new(48_000, Channels::Stereo).unwrap();
        let mut packets = 0;
        for n in 0..10 {
            let sound: Vec<f32> = (0..1920).map(|i| ((i + n * 1920) as f32 * 0.03).sin() * 0.4).collect();
            let packet = Bytes::from(encoder.encode_vec_float(&sound, 1275).unwrap());
            let stamped = write(packet.clone(), 1_234_567_890_123_456 + n as u64);
            assert_eq!(read(&stamped), Some(1_234_567_890_123_456 + n as u64));
            assert_eq!(read(&packet), None);
            let (mut a, mut b) = ([0.0; 1920], [0.0; 1920]);
            assert_eq!(plain.decode_float(&packet, &mut a, false).unwrap(), 960);
            assert_eq!(other.decode_float(&stamped, &mut b, false).unwrap(), 960);
            assert_eq!(a, b);
            packets += 1;
        }
        assert_eq!(packets, 10);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
            let _ = write(Bytes::from(bytes), 1);
        }
    }
}
