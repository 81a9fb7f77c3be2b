//! What an H264 payload says of itself: in the headers of its units (RFC 6184 section 5.3), in the first bit of a
//! slice, and, of its size, in an SPS (ITU-T H.264 section 7.3.2.1.1). It knows no layers.

use super::{Description, Resolution, bits::Bits};
use crate::rtp::nal::{self, DELIMITER, FU_A, IDR, PARTITION_A, PREFIX, RESERVED, SEI, SLICE, SPS, STAP_A};

/// What the units of a payload say together.
#[derive(Debug, Default)]
struct Units {
    begins: bool,
    /// There is a slice, and nothing refers to any of them.
    slices: bool,
    referred: bool,
    resolution: Option<Resolution>,
}

/// In the shape of all codecs, but for what the RTP header says. `None`: units that cannot be read, or are
/// packed in a way that WebRTC does not know.
pub(super) fn describe(payload: &[u8]) -> Option<Description> {
    let (&head, rest) = payload.split_first()?;
    let mut units = Units::default();
    match head & 0x1f {
        STAP_A => nal::aggregated(rest).try_for_each(|unit| units.add(unit?))?,
        FU_A => {
            let (&fragment, slice) = rest.split_first()?;
            // The header that the unit had, for as far as it is told.
            let unit = head & 0xe0 | fragment & 0x1f;
            units.add_headed(unit, slice, fragment & 0x80 != 0)?;
        }
        _ => units.add(payload)?,
    }
    Some(Description {
        picture_begins: units.begins,
        layer_begins: units.begins,
        discardable: units.slices && !units.referred,
        not_needed_above: true,
        resolution: units.resolution,
        ..Description::default()
    })
}

impl Units {
    fn add(&mut self, unit: &[u8]) -> Option<()> {
        let (&head, behind) = unit.split_first()?;
        self.add_headed(head, behind, true)
    }

    /// A unit with what is behind its header, or a piece of it that is not the first.
    fn add_headed(&mut self, head: u8, behind: &[u8], first_piece: bool) -> Option<()> {
        let kind = head & 0x1f;
        match kind {
            SLICE..=IDR => {
                self.slices = true;
                // nal_ref_idc (section 7.4.1): 0 if no other picture needs the unit.
                self.referred |= head & 0x60 != 0 || kind == IDR;
                // first_mb_in_slice (section 7.3.3) is 0: a code of one bit.
                let heads_slice = matches!(kind, SLICE | PARTITION_A | IDR);
                self.begins |= first_piece && heads_slice && behind.first()? & 0x80 != 0;
            }
            // What may stand before the slices of a picture (section 7.4.1.2.3).
            SEI..=DELIMITER | PREFIX..=RESERVED => self.begins |= first_piece,
            0 | STAP_A.. => return None,
            _ => {}
        }
        if kind == SPS && first_piece {
            self.resolution = self.resolution.or(resolution(behind));
        }
        Some(())
    }
}

/// More of an SPS is not looked at: what tells the size comes first.
const SPS_LONGEST: usize = 256;
/// The largest picture of any level is smaller (table A-1).
const SIZE_MAX: u32 = 16_384;

/// The size that an SPS tells, without its header.
fn resolution(sps: &[u8]) -> Option<Resolution> {
    let mut octets = [0; SPS_LONGEST];
    let len = unescape(sps, &mut octets);
    let mut bits = Bits::new(octets.get(..len)?);
    let profile = bits.number(8)?;
    bits.number(16)?; // constraints, level
    bits.exp_golomb()?; // which SPS it is
    let chroma = chroma(profile, &mut bits)?;
    bits.exp_golomb()?; // log2_max_frame_num
    skip_order(&mut bits)?;
    bits.exp_golomb()?; // max_num_ref_frames
    bits.bit()?; // gaps in frame numbers
    let (width, height) = (bits.exp_golomb()?, bits.exp_golomb()?);
    let frames_only = bits.bit()?;
    if !frames_only {
        bits.bit()?; // mb_adaptive_frame_field
    }
    bits.bit()?; // direct_8x8_inference
    let fields = if frames_only { 1 } else { 2 };
    let (width, height) = (size(width, 16)?, size(height, 16 * fields)?);
    let (mut cut_width, mut cut_height) = (0, 0);
    if bits.bit()? {
        // Left, right, top, bottom, in units that table 6-1 and section 7.4.2.1.1 give.
        let mut pair = || bits.exp_golomb()?.checked_add(bits.exp_golomb()?);
        (cut_width, cut_height) = (pair()?, pair()?);
        cut_width = cut_width.checked_mul(if matches!(chroma, 1 | 2) { 2 } else { 1 })?;
        cut_height = cut_height.checked_mul(if chroma == 1 { 2 } else { 1 })?.checked_mul(fields)?;
    }
    let cut = |size: u32, by: u32| u16::try_from(size.checked_sub(by)?).ok().filter(|size| *size > 0);
    Some(Resolution { width: cut(width, cut_width)?, height: cut(height, cut_height)? })
}

/// Macroblocks, one less than there are, in pixels.
fn size(blocks_less_one: u32, pixels: u32) -> Option<u32> {
    blocks_less_one.checked_add(1)?.checked_mul(pixels).filter(|size| *size <= SIZE_MAX)
}

/// `chroma_format_idc` of the profiles that tell it, with what follows it there; 0 also if the planes are coded
/// apart.
fn chroma(profile: u32, bits: &mut Bits<'_>) -> Option<u32> {
    if !matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        return Some(1);
    }
    let chroma = bits.exp_golomb()?;
    let apart = chroma == 3 && bits.bit()?;
    bits.exp_golomb()?; // bit depths
    bits.exp_golomb()?;
    bits.bit()?; // qpprime_y_zero_transform_bypass
    if bits.bit()? {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.bit()? {
                skip_scaling_list(if list < 6 { 16 } else { 64 }, bits)?;
            }
        }
    }
    match chroma {
        _ if apart => Some(0),
        0..=3 => Some(chroma),
        _ => None,
    }
}

/// Section 7.3.2.1.1.1.
fn skip_scaling_list(len: u32, bits: &mut Bits<'_>) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..len {
        if next != 0 {
            next = (last + bits.signed_exp_golomb()?.rem_euclid(256)) % 256;
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// What is said of the order of pictures.
fn skip_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.exp_golomb()? {
        0 => {
            bits.exp_golomb()?; // log2_max_pic_order_cnt_lsb
        }
        1 => {
            bits.bit()?;
            bits.signed_exp_golomb()?;
            bits.signed_exp_golomb()?;
            let frames = bits.exp_golomb()?;
            // Section 7.4.2.1.1 allows no more.
            for _ in 0..Some(frames).filter(|frames| *frames <= 255)? {
                bits.signed_exp_golomb()?;
            }
        }
        2 => {}
        _ => return None,
    }
    Some(())
}

/// Takes out the octets that keep a start code from appearing (section 7.4.1): a 3 behind two zeros. Gives how
/// many are left.
fn unescape(unit: &[u8], out: &mut [u8; SPS_LONGEST]) -> usize {
    let (mut len, mut zeros) = (0, 0);
    for &octet in unit {
        if zeros >= 2 && octet == 3 {
            zeros = 0;
            continue;
        }
        let Some(place) = out.get_mut(len) else { break };
        *place = octet;
        len += 1;
        zeros = if octet == 0 { zeros + 1 } else { 0 };
    }
    len
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use protocol::Codec;

    use super::{
        super::{bits::Writer, describe},
        *,
    };

    fn said(payload: &[u8]) -> Description {
        describe(Codec::H264, payload, false).expect("valid")
    }

    fn stap(units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x78];
        for unit in units {
            out.extend((unit.len() as u16).to_be_bytes());
            out.extend_from_slice(unit);
        }
        out
    }

    #[test]
    fn a_picture_begins_with_its_first_slice_or_with_what_stands_before_it() {
        for begins in [
            &[0x41, 0x9a][..],         // a slice from the first macroblock on
            &[0x65, 0x88],             // of an IDR
            &[0x67, 0x42, 0xc0, 0x1f], // SPS
            &[0x68, 0xce],             // PPS
            &[0x06, 5],                // SEI
            &[0x09, 0xf0],             // delimiter
            &[0x5c, 0x81, 0x9a],       // the first fragment of a slice
            &[0x7c, 0x85, 0x88],       // of an IDR
        ] {
            assert!(said(begins).picture_begins, "{begins:?}");
        }
        for goes_on in [
            &[0x41, 0x40][..],   // a slice from another macroblock on
            &[0x5c, 0x01, 0x9a], // a later fragment
            &[0x5c, 0x81, 0x40], // the first fragment of a later slice
            &[0x0c, 0xff],       // filler
        ] {
            assert!(!said(goes_on).picture_begins, "{goes_on:?}");
        }
        assert!(said(&stap(&[&[0x41, 0x40], &[0x41, 0x9a]])).picture_begins);
        assert!(said(&stap(&[&[0x67, 0x42], &[0x65, 0x40]])).keyframe, "as before");
    }

    #[test]
    fn what_nothing_refers_to_says_so() {
        for discardable in
            [&[0x01, 0x9a][..], &[0x1c, 0x81, 0x9a], &[0x1c, 0x41, 0], &stap(&[&[0x06, 5], &[0x01, 0x9a]])]
        {
            assert!(said(discardable).discardable, "{discardable:?}");
        }
        for referred in [
            &[0x41, 0x9a][..],
            &[0x21, 0x9a],
            &[0x05, 0x9a], // an IDR that says so is not believed
            &[0x3c, 0x81, 0x9a],
            &[0x06, 5], // an SEI alone says nothing of its picture
            &stap(&[&[0x01, 0x9a], &[0x61, 0x40]]),
            &stap(&[&[0x67, 0x42]]),
        ] {
            assert!(!said(referred).discardable, "{referred:?}");
        }
    }

    #[test]
    fn what_is_packed_otherwise_is_not_read() {
        for payload in [
            &[][..],
            &[0x60],                       // type 0
            &[0x79, 0, 1, 0x65],           // STAP-B
            &[0x7d, 0x85, 0, 0],           // FU-B
            &[0x7c],                       // no fragment header
            &[0x7c, 0x98, 1],              // a fragment of a STAP-A
            &[0x78, 0, 3, 0x65, 0x80],     // a unit longer than the packet
            &[0x78, 0, 1, 0x65, 0],        // half a length
            &[0x78, 0, 0],                 // no unit
            &stap(&[&[0x78, 0, 1, 0x65]]), // a STAP-A in one
            &[0x41],                       // a slice without a header
        ] {
            assert_eq!(describe(Codec::H264, payload, true), None, "{payload:?}");
        }
    }

    /// An SPS, with the octets that keep start codes out.
    fn sps(writer: Writer) -> Vec<u8> {
        let mut out = vec![0x67];
        let mut zeros = 0;
        for octet in writer.octets() {
            if zeros >= 2 && octet <= 3 {
                out.push(3);
                zeros = 0;
            }
            out.push(octet);
            zeros = if octet == 0 { zeros + 1 } else { 0 };
        }
        out
    }

    fn baseline() -> Writer {
        // Profile 66, constraints, level 3.1; SPS 0, frame numbers, order of type 0, one reference, no gaps.
        Writer::default().bits(24, 0x42_c0_1f).codes(&[0, 0, 0, 0, 1]).bits(1, 0)
    }

    #[test]
    fn sizes_are_read_and_cropped() {
        let size = |sps: &[u8]| said(sps).resolution.map(|size| (size.width, size.height));
        // 40 by 23 macroblocks, of which the last is cut in half: 640 by 360.
        let cropped = sps(baseline().codes(&[39, 22]).bits(3, 0b111).codes(&[0, 0, 0, 4]));
        assert_eq!(size(&cropped), Some((640, 360)));
        let whole = sps(baseline().codes(&[79, 44]).bits(3, 0b110));
        assert_eq!(size(&whole), Some((1280, 720)));
        let fields = sps(baseline().codes(&[119, 33]).bits(4, 0b0011).codes(&[0, 0, 0, 2]));
        assert_eq!(size(&fields), Some((1920, 1080)), "interlaced: 34 pairs of rows, 8 lines cut");
        assert_eq!(size(&stap(&[&whole, &[0x68, 0xce]])), Some((1280, 720)));
        assert_eq!(size(&whole[..8]), None, "cut off");
        let empty = sps(baseline().codes(&[0, 0]).bits(3, 0b111).codes(&[4, 4, 0, 0]));
        assert_eq!(size(&empty), None, "all of it cut");
        let large = sps(baseline().codes(&[2000, 44]).bits(3, 0b110));
        assert_eq!(size(&large), None, "larger than any level");
    }

    #[test]
    fn sizes_of_high_profiles_are_read() {
        let high = |chroma: u32| {
            let head = Writer::default().bits(24, 0x64_00_1f).codes(&[0, chroma]);
            let head = if chroma == 3 { head.bits(1, 0) } else { head };
            // Depths, bypass, and scaling lists: the first ends at once, the last is whole.
            let lists = head.codes(&[0, 0]).bits(2, 0b01).bits(1, 1).codes(&[16]).bits(6, 0).bits(1, 1);
            let lists = lists.codes(&[1; 64]);
            let lists = if chroma == 3 { lists.bits(4, 0) } else { lists };
            // Order of type 1, with two frames in a cycle.
            let order = lists.codes(&[0, 1]).bits(1, 0).codes(&[5, 6, 2, 7, 8]);
            sps(order.codes(&[1]).bits(1, 0).codes(&[79, 44]).bits(3, 0b111).codes(&[1, 1, 1, 1]))
        };
        let size = |sps: &[u8]| said(sps).resolution.map(|size| (size.width, size.height));
        assert_eq!(size(&high(0)), Some((1278, 718)));
        assert_eq!(size(&high(1)), Some((1276, 716)));
        assert_eq!(size(&high(2)), Some((1276, 718)));
        assert_eq!(size(&high(3)), Some((1278, 718)));
        assert_eq!(size(&high(4)), None);
    }

    proptest! {
        #[test]
        fn junk_parameter_sets_never_panic(
            mut junk in proptest::collection::vec(any::<u8>(), 4..400),
            profile in prop_oneof![Just(66_u8), Just(100), Just(244)],
        ) {
            (junk[0], junk[1]) = (0x67, profile);
            if let Some(size) = said(&junk).resolution {
                prop_assert!(size.pixels() > 0 && u32::from(size.width.max(size.height)) <= SIZE_MAX);
            }
        }
    }
}
