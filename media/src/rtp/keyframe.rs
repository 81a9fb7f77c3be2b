//! Whether a picture can start with a packet: the few bits of each video payload that tell.

use protocol::Codec;

use super::nal::{FU_A, IDR, SPS, STAP_A};

/// True if `payload` is the first packet of a keyframe. Total on any bytes.
pub fn starts(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::Opus => false,
        Codec::Vp8 => vp8(payload).unwrap_or(false),
        Codec::Vp9 => vp9(payload).unwrap_or(false),
        Codec::H264 => h264(payload).unwrap_or(false),
        Codec::Av1 => av1(payload).unwrap_or(false),
    }
}

/// RFC 7741 section 4.2: start of partition 0 (S = 1, PID = 0), then the inverse key frame bit P.
fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    if first & 0x10 == 0 || first & 0x07 != 0 {
        return Some(false);
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let extended = *payload.get(at)?;
        at += 1;
        if extended & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extended & 0x40 != 0);
        at += usize::from(extended & 0x30 != 0);
    }
    Some(payload.get(at)? & 0x01 == 0)
}

/// RFC 9628 section 4.2: B (start of frame) and not P (inter-picture predicted), lowest spatial layer.
fn vp9(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let (picture_id, inter, layers, begin) =
        (first & 0x80 != 0, first & 0x40 != 0, first & 0x20 != 0, first & 0x08 != 0);
    if inter || !begin {
        return Some(false);
    }
    if !layers {
        return Some(true);
    }
    let mut at = 1;
    if picture_id {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let spatial = payload.get(at)? >> 1 & 0x07;
    Some(spatial == 0)
}

/// RFC 6184: an SPS or the start of an IDR slice, alone, in a STAP-A or in an FU-A.
fn h264(payload: &[u8]) -> Option<bool> {
    match payload.first()? & 0x1f {
        IDR | SPS => Some(true),
        STAP_A => {
            let mut rest = payload.get(1..)?;
            while let [high, low, unit, ..] = rest {
                if matches!(unit & 0x1f, IDR | SPS) {
                    return Some(true);
                }
                rest = rest.get(2 + usize::from(u16::from_be_bytes([*high, *low]))..)?;
            }
            Some(false)
        }
        FU_A => {
            let head = payload.get(1)?;
            Some(head & 0x80 != 0 && head & 0x1f == IDR)
        }
        _ => Some(false),
    }
}

/// AV1 RTP payload specification section 4.4: N, the first packet of a coded video sequence.
fn av1(payload: &[u8]) -> Option<bool> {
    Some(payload.first()? & 0x08 != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keyframes_are_told_from_other_frames() {
        assert!(starts(Codec::Vp8, &[0x10, 0x50, 0x01]));
        assert!(!starts(Codec::Vp8, &[0x10, 0x51, 0x01]), "predicted frame");
        assert!(!starts(Codec::Vp8, &[0x00, 0x50]), "not the start of the partition");
        assert!(starts(Codec::Vp8, &[0x90, 0xe0, 0x81, 0x23, 0x05, 0x07, 0x00]), "all extensions");
        assert!(starts(Codec::Vp9, &[0x8c, 0x81, 0x23]));
        assert!(!starts(Codec::Vp9, &[0xcc, 0x81, 0x23]));
        assert!(starts(Codec::Vp9, &[0xac, 0x81, 0x23, 0x00]), "spatial layer 0");
        assert!(!starts(Codec::Vp9, &[0xac, 0x81, 0x23, 0x02]), "spatial layer 1");
        assert!(starts(Codec::H264, &[0x67, 0x42]));
        assert!(starts(Codec::H264, &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68]));
        assert!(starts(Codec::H264, &[0x78, 0, 1, 0x06, 0, 1, 0x65]));
        assert!(starts(Codec::H264, &[0x7c, 0x85]));
        assert!(!starts(Codec::H264, &[0x7c, 0x05]), "middle of an IDR");
        assert!(!starts(Codec::H264, &[0x41]));
        assert!(starts(Codec::Av1, &[0x18]));
        assert!(!starts(Codec::Av1, &[0x10]));
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..64)) {
            for codec in Codec::ALL {
                let _ = starts(codec, &junk);
            }
        }
    }
}
