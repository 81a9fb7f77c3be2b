//! What a payload says of its picture: whether it begins one, its temporal layer, and its size where a keyframe has it
//! (RFC 7741, RFC 9628, RFC 6184). Total on any bytes.

use crate::bits::Bits;
use crate::video::VideoCodec;

/// What is read from one payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// It is the first of its picture, as far as the codec says so.
    pub begins: bool,
    /// Its temporal layer, where it says one.
    pub temporal: Option<u8>,
    /// Width and height in pixels, where a keyframe begins.
    pub size: Option<(u16, u16)>,
}

impl Descriptor {
    /// Reads a payload; what cannot be read is not there. Of AV1 nothing is read.
    pub fn read(codec: VideoCodec, payload: &[u8]) -> Descriptor {
        let read = match codec {
            VideoCodec::Vp8 => vp8(payload),
            VideoCodec::Vp9 => vp9(payload),
            VideoCodec::H264 => Some(Descriptor { size: h264(payload), ..Descriptor::default() }),
            VideoCodec::Av1 => None,
        };
        read.unwrap_or_default()
    }
}

fn vp8(payload: &[u8]) -> Option<Descriptor> {
    let (&first, mut rest) = payload.split_first()?;
    let mut temporal = None;
    if first & 0x80 != 0 {
        let extension = take(&mut rest)?;
        if extension & 0x80 != 0 && take(&mut rest)? & 0x80 != 0 {
            take(&mut rest)?;
        }
        if extension & 0x40 != 0 {
            take(&mut rest)?;
        }
        if extension & 0x30 != 0 {
            let layer = take(&mut rest)?;
            temporal = (extension & 0x20 != 0).then_some(layer >> 6);
        }
    }
    // The start of the first partition has the frame header (RFC 6386 section 9.1).
    let begins = first & 0x10 != 0 && first & 0x0f == 0;
    let size = match rest {
        [tag, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..] if begins && tag & 0x01 == 0 => {
            let pixels = |low: u8, high: u8| u16::from_le_bytes([low, high]) & 0x3fff;
            Some((pixels(*a, *b), pixels(*c, *d)))
        }
        _ => None,
    };
    Some(Descriptor { begins, temporal, size })
}

fn vp9(payload: &[u8]) -> Option<Descriptor> {
    let (&first, mut rest) = payload.split_first()?;
    let has = |bit: u8| first & bit != 0;
    if has(0x80) && take(&mut rest)? & 0x80 != 0 {
        take(&mut rest)?;
    }
    let (mut temporal, mut spatial) = (None, 0);
    if has(0x20) {
        let layers = take(&mut rest)?;
        temporal = Some(layers >> 5);
        spatial = layers >> 1 & 0x07;
        // Not in flexible mode: TL0PICIDX.
        if !has(0x10) {
            take(&mut rest)?;
        }
    }
    // Flexible mode: up to three references.
    if has(0x10) && has(0x40) {
        for _ in 0..3 {
            if take(&mut rest)? & 0x01 == 0 {
                break;
            }
        }
    }
    let structure = if has(0x02) { structure(&mut rest)? } else { None };
    let keyframe = has(0x08) && !has(0x40);
    let size = if keyframe { structure.or_else(|| vp9_header(rest)) } else { None };
    Some(Descriptor { begins: has(0x08) && spatial == 0, temporal, size })
}

/// The scalability structure (RFC 9628 section 4.2.1); gives the size of the highest spatial layer.
fn structure(rest: &mut &[u8]) -> Option<Option<(u16, u16)>> {
    let head = take(rest)?;
    let mut size = None;
    if head & 0x10 != 0 {
        for _ in 0..=head >> 5 {
            let (pixels, after) = rest.split_first_chunk::<4>()?;
            size = Some((
                u16::from_be_bytes([pixels[0], pixels[1]]),
                u16::from_be_bytes([pixels[2], pixels[3]]),
            ));
            *rest = after;
        }
    }
    if head & 0x08 != 0 {
        for _ in 0..take(rest)? {
            let references = take(rest)? >> 2 & 0x03;
            for _ in 0..references {
                take(rest)?;
            }
        }
    }
    Some(size)
}

/// The uncompressed header of a keyframe of profile 0 (VP9 bitstream specification, section 6.2).
fn vp9_header(frame: &[u8]) -> Option<(u16, u16)> {
    let mut bits = Bits::new(frame);
    let (marker, profile) = (bits.take(2)?, bits.take(2)?);
    let (existing, inter) = (bits.flag()?, bits.flag()?);
    bits.take(2)?;
    if marker != 2 || profile != 0 || existing || inter || bits.take(24)? != 0x0049_8342 {
        return None;
    }
    // Color space and range.
    bits.take(4)?;
    let mut pixels = || u16::try_from(bits.take(16)? + 1).ok();
    Some((pixels()?, pixels()?))
}

/// The size in a sequence parameter set, alone or in a STAP-A.
fn h264(payload: &[u8]) -> Option<(u16, u16)> {
    match payload.first()? & 0x1f {
        7 => parameter_set(payload.get(1..)?),
        24 => {
            let mut rest = payload.get(1..)?;
            while let Some((length, units)) = rest.split_first_chunk::<2>() {
                let (unit, after) = units.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                if unit.first()? & 0x1f == 7 {
                    return parameter_set(unit.get(1..)?);
                }
                rest = after;
            }
            None
        }
        _ => None,
    }
}

/// A sequence parameter set (ITU-T H.264 section 7.3.2.1.1) without scaling lists.
fn parameter_set(set: &[u8]) -> Option<(u16, u16)> {
    const WITH_CHROMA: [u32; 7] = [100, 110, 122, 244, 44, 83, 86];
    let mut plain = Vec::with_capacity(set.len());
    for byte in set.iter().take(64) {
        // Emulation prevention.
        if !(*byte == 3 && plain.ends_with(&[0, 0])) {
            plain.push(*byte);
        }
    }
    let mut bits = Bits::new(&plain);
    let profile = bits.take(8)?;
    bits.take(16)?;
    bits.golomb()?;
    let mut chroma = 1;
    if WITH_CHROMA.contains(&profile) {
        chroma = bits.golomb()?;
        bits.golomb()?;
        bits.golomb()?;
        bits.flag()?;
        if chroma == 3 || bits.flag()? {
            return None;
        }
    }
    bits.golomb()?;
    match bits.golomb()? {
        0 => {
            bits.golomb()?;
        }
        1 => return None,
        _ => {}
    }
    bits.golomb()?;
    bits.flag()?;
    let (width, height) = (bits.golomb()? + 1, bits.golomb()? + 1);
    let frames_only = bits.flag()?;
    if !frames_only {
        bits.flag()?;
    }
    bits.flag()?;
    let fields = 2 - u32::from(frames_only);
    let (mut across, mut down) = (0, 0);
    if bits.flag()? {
        let (left, right) = (bits.golomb()?, bits.golomb()?);
        let (top, bottom) = (bits.golomb()?, bits.golomb()?);
        let (unit_x, unit_y) = if chroma == 1 { (2, 2 * fields) } else { (1, fields) };
        (across, down) = ((left + right) * unit_x, (top + bottom) * unit_y);
    }
    let width = (width * 16).checked_sub(across)?;
    let height = (height * 16 * fields).checked_sub(down)?;
    Some((u16::try_from(width).ok()?, u16::try_from(height).ok()?))
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (&first, after) = rest.split_first()?;
    *rest = after;
    Some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use VideoCodec::{H264, Vp8, Vp9};

    fn read(codec: VideoCodec, payload: &[u8]) -> (bool, Option<u8>, Option<(u16, u16)>) {
        let Descriptor { begins, temporal, size } = Descriptor::read(codec, payload);
        (begins, temporal, size)
    }

    #[test]
    fn a_payload_of_vp8_says_its_layer_and_a_keyframe_its_size() {
        let keyframe =
            [0x90, 0xe0, 0x81, 0x23, 5, 0x00, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x41];
        assert_eq!(read(Vp8, &keyframe), (true, Some(0), Some((640, 360))));
        let other = [0x90, 0xe0, 0x81, 0x24, 5, 0xa0, 0x11, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
        assert_eq!(read(Vp8, &other), (true, Some(2), None));
        assert_eq!(read(Vp8, &[0x80, 0x80, 0x12, 9]), (false, None, None));
        assert_eq!(read(Vp8, &[0x10, 0x11]), (true, None, None));
    }

    #[test]
    fn the_size_of_vp9_is_in_its_structure_or_in_its_header() {
        let structure = [0xaa, 0x81, 0x23, 0x00, 7, 0x10, 0x05, 0x00, 0x02, 0xd0, 0x82];
        assert_eq!(read(Vp9, &structure), (true, Some(0), Some((1280, 720))));
        let header = [0x88, 0x12, 0x82, 0x49, 0x83, 0x42, 0x00, 0x13, 0xf0, 0x0b, 0x30];
        assert_eq!(read(Vp9, &header), (true, None, Some((320, 180))));
        assert_eq!(read(Vp9, &[0xe8, 0x12, 0x40, 7, 0x86]), (true, Some(2), None));
    }

    #[test]
    fn the_size_of_h264_is_in_its_parameter_set() {
        // 320 x 180, constrained baseline, of x264: twelve rows of blocks, cropped by six pairs of lines.
        let set = [
            0x67, 0x42, 0xc0, 0x0d, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10,
            0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x42, 0xa4, 0x80,
        ];
        let size = read(H264, &set).2;
        let packed = [&[24, 0, set.len() as u8][..], &set].concat();
        assert_eq!(read(H264, &packed).2, size);
        assert_eq!(size, Some((320, 180)));
        assert_eq!(read(H264, &[0x65, 0x88]).2, None);
    }

    proptest! {
        #[test]
        fn any_payload_is_read_without_panic(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
            for codec in [Vp8, Vp9, H264, VideoCodec::Av1] {
                let _ = Descriptor::read(codec, &payload);
            }
        }

        #[test]
        fn any_parameter_set_is_read_without_panic(set in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = h264(&[&[0x67][..], &set].concat());
        }
    }
}
