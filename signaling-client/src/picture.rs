//! The picture of a publication: frames that show nothing, in the shape of VP8 (RFC 7741), so that relays and
//! counters see what they see of a camera: frames in several packets, keyframes, keyframes on request.

use bytes::Bytes;

/// Bytes of a frame: 25 a second make 1 Mbit/s.
const FRAME: usize = 4800;
/// Bytes of a keyframe.
const KEYFRAME: usize = 14_400;
/// Payload bytes of one packet.
const PACKET: usize = 1100;
/// A keyframe at least every so many frames, asked for or not.
const KEYFRAME_EVERY: u32 = 250;
/// Ticks of the 90 kHz clock between two frames.
pub const FRAME_TICKS: u32 = 3600;

/// Makes frames.
#[derive(Debug, Default)]
pub struct Pictures {
    /// Of the next frame, 15 bits.
    id: u16,
    since_keyframe: Option<u32>,
}

impl Pictures {
    /// The RTP payloads of the next frame, a keyframe if one is asked for or due.
    pub fn frame(&mut self, keyframe_asked: bool) -> Vec<Bytes> {
        let keyframe = keyframe_asked || self.since_keyframe.is_none_or(|count| count >= KEYFRAME_EVERY);
        self.since_keyframe =
            Some(if keyframe { 1 } else { self.since_keyframe.map_or(1, |count| count + 1) });
        let id = self.id;
        self.id = (id + 1) & 0x7fff;
        let mut left = if keyframe { KEYFRAME } else { FRAME };
        let mut payloads = Vec::with_capacity(left.div_ceil(PACKET));
        while left > 0 {
            let length = left.min(PACKET);
            payloads.push(payload(id, keyframe, payloads.is_empty(), length));
            left -= length;
        }
        payloads
    }
}

/// A descriptor with a picture id of 15 bits, in the first packet the frame header, then zeros.
fn payload(id: u16, keyframe: bool, first: bool, length: usize) -> Bytes {
    let [high, low] = id.to_be_bytes();
    let mut payload = vec![if first { 0x90 } else { 0x80 }, 0x80, high | 0x80, low];
    if first && keyframe {
        // Frame tag with the bit "inter frame" clear, the start code, 640 x 360 (RFC 6386 section 9.1).
        payload.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
    } else if first {
        payload.extend([0x11, 0, 0]);
    }
    payload.resize(payload.len().max(length), 0);
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::VideoCodec;

    #[test]
    fn the_first_frame_is_a_keyframe_and_the_next_when_asked_or_due() {
        let mut pictures = Pictures::default();
        let is_keyframe = |frame: &[Bytes]| VideoCodec::Vp8.begins_keyframe(&frame[0]);
        assert!(is_keyframe(&pictures.frame(false)));
        assert!(!is_keyframe(&pictures.frame(false)));
        assert!(is_keyframe(&pictures.frame(true)));
        let due = (0..KEYFRAME_EVERY).filter(|_| is_keyframe(&pictures.frame(false))).count();
        assert_eq!(due, 1);
    }

    #[test]
    fn only_the_first_packet_of_a_frame_begins_it() {
        let frame = Pictures::default().frame(true);
        assert_eq!(frame.len(), KEYFRAME.div_ceil(PACKET));
        assert!(frame.iter().all(|payload| payload.len() <= PACKET));
        let begins = frame.iter().filter(|payload| VideoCodec::Vp8.begins_keyframe(payload)).count();
        assert_eq!(begins, 1);
    }
}
