//! What an AV1 payload says of itself: the aggregation header (AV1 RTP payload specification, section 4.4), and how
//! large its pictures are, which is in the sequence header (AV1 bitstream specification, section 5.5). Layers are in the
//! dependency descriptor.

use super::{Description, Resolution, SpatialLayer, bits::Bits};

// The aggregation header: the payload goes on with what the packet before began; the next one goes on with what it began;
// how many OBUs there are; the first packet of a coded video sequence.
const GOES_ON: u8 = 0x80;
const UNFINISHED: u8 = 0x40;
const OBUS: u8 = 0x30;
const OBU: u8 = 0x10;
const NEW_SEQUENCE: u8 = 0x08;
// The OBU header.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// `OBU_SEQUENCE_HEADER`.
const SEQUENCE_HEADER: u8 = 1;
/// A number in groups of seven bits takes no more octets here.
const LEB128_MAX: usize = 5;

/// In the shape of all codecs, but for what the RTP header says.
pub(super) fn describe(payload: &[u8]) -> Option<Description> {
    let head = *payload.first()?;
    let (goes_on, new_sequence) = (head & GOES_ON != 0, head & NEW_SEQUENCE != 0);
    // Both at once cannot be.
    if goes_on && new_sequence {
        return None;
    }
    let resolution = if new_sequence { sequence_header(payload).and_then(largest) } else { None };
    Some(Description {
        picture_begins: new_sequence,
        layer_begins: new_sequence,
        resolution,
        ..Description::default()
    })
}

/// Whether a payload goes on behind the one before, or the next one behind it, as it is written for a receiver that gets
/// no dependency descriptor.
///
/// Such a receiver takes for a frame what lies between two ends of OBUs, and Chromium does not put together two frames of
/// one picture of which it does not know the layers. So the layer frames of a picture are joined: the last OBU of one
/// counts as unfinished, and the next one goes on with nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seam {
    /// The layer frame that begins here goes on behind the one before.
    pub before: bool,
    /// The picture goes on behind the layer frame that ends here.
    pub after: bool,
}

impl Seam {
    /// Of a packet of which this is said; `ends`: the receiver's picture ends with it.
    pub fn of(said: &Description, payload: &[u8], ends: bool) -> Seam {
        // Behind the third OBU there is no place for another one. No encoder begins an upper layer with so many.
        let has_place = payload.first().is_some_and(|head| head & OBUS != OBUS && head & GOES_ON == 0);
        let is_upper = said.spatial > SpatialLayer(0) && said.layer_begins;
        Seam { before: is_upper && has_place, after: said.layer_ends && !ends }
    }

    /// How much longer the payload becomes.
    pub fn octets(self) -> usize {
        usize::from(self.before)
    }

    /// Writes a payload into its place, which is longer by [`Seam::octets`].
    pub fn write(self, payload: &[u8], out: &mut [u8]) {
        let Some((head, rest)) = payload.split_first() else { return };
        let [first, behind @ ..] = out else { return };
        *first = *head | if self.after { UNFINISHED } else { 0 };
        match behind {
            [length, behind @ ..] if self.before => {
                *first |= GOES_ON;
                // Where OBUs are counted, that is one more.
                *first += if head & OBUS == 0 { 0 } else { OBU };
                *length = 0;
                behind.copy_from_slice(rest);
            }
            behind => behind.copy_from_slice(rest),
        }
    }
}

/// The sequence header, with which a coded video sequence begins.
fn sequence_header(payload: &[u8]) -> Option<&[u8]> {
    let (head, mut rest) = payload.split_first()?;
    // The last of so many OBUs has no length before it.
    if head & OBUS != 0x10 {
        rest = behind_length(rest)?;
    }
    let (head, mut rest) = rest.split_first()?;
    if head >> 3 & 0x0f != SEQUENCE_HEADER {
        return None;
    }
    if head & HAS_EXTENSION != 0 {
        rest = rest.get(1..)?;
    }
    if head & HAS_SIZE != 0 { behind_length(rest) } else { Some(rest) }
}

fn behind_length(octets: &[u8]) -> Option<&[u8]> {
    let last = octets.iter().take(LEB128_MAX).position(|octet| octet & 0x80 == 0)?;
    octets.get(last + 1..)
}

/// `sequence_header_obu()` up to `max_frame_height_minus_1`.
fn largest(header: &[u8]) -> Option<Resolution> {
    let mut bits = Bits::new(header);
    bits.number(3)?; // seq_profile
    bits.bit()?; // still_picture
    if bits.bit()? {
        bits.number(5)?; // reduced_still_picture_header: seq_level_idx alone
    } else {
        operating_points(&mut bits)?;
    }
    let (width, height) = (bits.number(4)? + 1, bits.number(4)? + 1);
    let mut size = |bits_of: u32| u16::try_from(bits.number(bits_of)? + 1).ok();
    Some(Resolution { width: size(width)?, height: size(height)? })
}

fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.bit()? {
        // timing_info()
        bits.number(32)?;
        bits.number(32)?;
        if bits.bit()? {
            bits.exp_golomb()?;
        }
        if bits.bit()? {
            // decoder_model_info()
            delay_bits = Some(bits.number(5)? + 1);
            bits.number(32)?;
            bits.number(10)?;
        }
    }
    let has_display_delay = bits.bit()?;
    let points = bits.number(5)? + 1;
    for _ in 0..points {
        bits.number(12)?; // operating_point_idc
        let level = bits.number(5)?;
        if level > 7 {
            bits.bit()?; // seq_tier
        }
        if let Some(delay_bits) = delay_bits
            && bits.bit()?
        {
            bits.number(delay_bits)?;
            bits.number(delay_bits)?;
            bits.bit()?;
        }
        if has_display_delay && bits.bit()? {
            bits.number(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::bits::Writer, *};

    /// A sequence header of so many operating points.
    fn header(points: u32, (width, height): (u32, u32)) -> Vec<u8> {
        let mut writer = Writer::default().bits(3, 0).bits(2, 0).bits(1, 0).bits(1, 0).bits(5, points - 1);
        for _ in 0..points {
            writer = writer.bits(12, 0x701).bits(5, 8).bits(1, 0);
        }
        writer.bits(4, 11).bits(4, 10).bits(12, width - 1).bits(11, height - 1).bits(5, 0).octets()
    }

    #[test]
    fn a_coded_video_sequence_says_how_large_its_pictures_are() {
        for points in [1, 9] {
            let header = header(points, (1280, 720));
            let size = Some(Resolution { width: 1280, height: 720 });
            let of = |payload: &[u8]| describe(payload).expect("valid").resolution;
            let len = header.len() as u8;
            // W is 1: no length. Then with a length, with an extension, and with a size of its own.
            assert_eq!(of(&[&[0x18, 0x08][..], &header].concat()), size);
            assert_eq!(of(&[&[0x28, len + 1, 0x08][..], &header, &[0x32]].concat()), size);
            assert_eq!(of(&[&[0x28, len + 2, 0x0c, 0x00][..], &header, &[0x32]].concat()), size);
            assert_eq!(of(&[&[0x18, 0x0a, len][..], &header].concat()), size);
            assert_eq!(of(&[&[0x10, 0x08][..], &header].concat()), None, "no sequence begins");
            assert_eq!(of(&[&[0x18, 0x30][..], &header].concat()), None, "a frame");
            assert_eq!(of(&[&[0x18, 0x08][..], &header[..4]].concat()), None, "cut off");
        }
    }

    #[test]
    fn layer_frames_of_a_picture_are_joined() {
        let upper = |layer_begins, layer_ends| Description {
            spatial: SpatialLayer(1),
            layer_begins,
            layer_ends,
            ..Description::default()
        };
        let written = |said: &Description, payload: &[u8], ends| {
            let seam = Seam::of(said, payload, ends);
            let mut out = vec![0xee; payload.len() + seam.octets()];
            seam.write(payload, &mut out);
            out
        };
        let base = Description { spatial: SpatialLayer(0), ..upper(true, true) };
        assert_eq!(written(&base, &[0x18, 0x0a, 7], false), [0x58, 0x0a, 7]);
        assert_eq!(written(&base, &[0x18, 0x0a, 7], true), [0x18, 0x0a, 7], "nothing follows");
        assert_eq!(written(&upper(true, false), &[0x50, 0x34, 7], false), [0xe0, 0, 0x34, 7]);
        assert_eq!(written(&upper(true, true), &[0x00, 2, 0x34, 7], true), [0x80, 0, 2, 0x34, 7]);
        assert_eq!(written(&upper(false, true), &[0x90, 7], true), [0x90, 7]);
        assert_eq!(written(&upper(true, true), &[0x30, 1, 2], true), [0x30, 1, 2], "no place");
        assert!(written(&upper(true, true), &[], true).is_empty());
    }

    proptest! {
        #[test]
        fn junk_never_panics(mut junk in proptest::collection::vec(any::<u8>(), 2..64)) {
            let _ = describe(&junk);
            (junk[0], junk[1]) = (0x18, 0x08);
            let _ = describe(&junk);
        }
    }
}
