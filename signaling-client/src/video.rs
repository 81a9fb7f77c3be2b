//! What is seen in a video track without decoding it: packets, frames and keyframes, told from the
//! payload headers of each codec. Total on any bytes.

use rtc::rtp::Packet;

/// How a codec marks its keyframes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// The AV1 RTP specification.
    Av1,
}

/// Counts frames.
#[derive(Debug)]
pub struct Picture {
    codec: Option<VideoCodec>,
    frames: u64,
    keyframes: u64,
    last_keyframe: Option<u32>,
}

impl VideoCodec {
    /// The codec of a MIME type such as `video/VP8`.
    pub fn of_mime(mime: &str) -> Option<Self> {
        match mime.to_ascii_lowercase().as_str() {
            "video/vp8" => Some(VideoCodec::Vp8),
            "video/vp9" => Some(VideoCodec::Vp9),
            "video/h264" => Some(VideoCodec::H264),
            "video/av1" => Some(VideoCodec::Av1),
            _ => None,
        }
    }

    /// Whether a payload begins a keyframe.
    pub fn begins_keyframe(self, payload: &[u8]) -> bool {
        let begins = match self {
            VideoCodec::Vp8 => vp8(payload),
            VideoCodec::Vp9 => vp9(payload),
            VideoCodec::H264 => h264(payload),
            // The N bit: first packet of a coded video sequence.
            VideoCodec::Av1 => payload.first().map(|byte| byte & 0x08 != 0),
        };
        begins.unwrap_or(false)
    }
}

impl Picture {
    /// Counters for a codec; of an unknown one only frames are counted.
    pub fn new(codec: Option<VideoCodec>) -> Self {
        Picture { codec, frames: 0, keyframes: 0, last_keyframe: None }
    }

    /// Counts one packet that is no repeat.
    pub fn handle_packet(&mut self, packet: &Packet) {
        self.frames += u64::from(packet.header.marker);
        let timestamp = packet.header.timestamp;
        let begins = self.codec.is_some_and(|codec| codec.begins_keyframe(&packet.payload));
        if begins && self.last_keyframe != Some(timestamp) {
            self.last_keyframe = Some(timestamp);
            self.keyframes += 1;
        }
    }

    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Keyframes so far.
    pub fn keyframes(&self) -> u64 {
        self.keyframes
    }
}

fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    // Only the start of partition 0 has the frame header.
    if first & 0x10 == 0 || first & 0x0f != 0 {
        return Some(false);
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let extension = *payload.get(at)?;
        at += 1;
        if extension & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0);
        at += usize::from(extension & 0x30 != 0);
    }
    Some(payload.get(at)? & 0x01 == 0)
}

fn vp9(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let (predicted, begins) = (first & 0x40 != 0, first & 0x08 != 0);
    Some(begins && !predicted)
}

fn h264(payload: &[u8]) -> Option<bool> {
    const IDR: u8 = 5;
    match payload.first()? & 0x1f {
        IDR => Some(true),
        // STAP-A: each unit after two bytes of length.
        24 => {
            let mut rest = &payload[1..];
            while let Some((length, units)) = rest.split_at_checked(2) {
                if units.first()? & 0x1f == IDR {
                    return Some(true);
                }
                rest = units.get(usize::from(u16::from_be_bytes([length[0], length[1]]))..)?;
            }
            Some(false)
        }
        // FU-A: the first fragment has the start bit.
        28 => payload.get(1).map(|header| header & 0x80 != 0 && header & 0x1f == IDR),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keyframes_are_told_from_payload_headers() {
        use VideoCodec::{Av1, H264, Vp8, Vp9};
        for (codec, payload, expected) in [
            (Vp8, &[0x10, 0x00][..], true),
            (Vp8, &[0x10, 0x01], false),
            (Vp8, &[0x00, 0x00], false),
            (Vp8, &[0x90, 0x80, 0x81, 0x23, 0x00], true),
            (Vp8, &[0x90, 0xe0, 0x12, 0x00, 0x00, 0x01], false),
            (Vp9, &[0x08], true),
            (Vp9, &[0x48], false),
            (H264, &[0x65, 0x88], true),
            (H264, &[0x41], false),
            (H264, &[24, 0, 2, 0x67, 0x42, 0, 1, 0x65], true),
            (H264, &[24, 0, 1, 0x67, 0, 1, 0x68], false),
            (H264, &[28, 0x85, 0], true),
            (H264, &[28, 0x05, 0], false),
            (Av1, &[0x18], true),
            (Av1, &[0x10], false),
        ] {
            assert_eq!(codec.begins_keyframe(payload), expected, "{codec:?} {payload:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_is_looked_at_without_panic(
            payload in proptest::collection::vec(any::<u8>(), 0..64)
        ) {
            for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1] {
                let _ = codec.begins_keyframe(&payload);
            }
        }
    }
}
