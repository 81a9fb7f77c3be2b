//! Which encodings and layers a sender sends now, and at what bitrates: libwebrtc's header extension *video layers
//! allocation* (docs/native-code/rtp-hdrext/video-layers-allocation00 there). It comes with keyframes and when
//! something of it changes. Bounded: 4 streams by 4 spatial by 4 temporal layers.

use smallvec::SmallVec;

use super::{Resolution, SpatialLayer, bits::Bits};

/// As `a=extmap` names it.
pub const URI: &str = "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00";

/// All that a sender sends of one track.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayersAllocation {
    /// Which RTP stream this came on, from 0: an index into the encodings of the offer.
    pub stream: u8,
    /// How many RTP streams there are, 1 to 4; 0 if nothing is sent on this one.
    pub streams: u8,
    /// Those that are active: of stream 0 first, and the lowest layer of each first.
    pub layers: SmallVec<[ActiveLayer; 4]>,
}

/// A spatial layer that is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveLayer {
    /// The RTP stream, from 0.
    pub stream: u8,
    /// 0 to 3.
    pub spatial: SpatialLayer,
    /// What it takes to receive it up to each temporal layer, with all that it needs: kbit/s, one to four.
    pub kilobits: SmallVec<[u32; TEMPORAL_MAX]>,
    /// If it is said.
    pub resolution: Option<Resolution>,
    /// Frames in a second, at most, if it is said.
    pub frame_rate: Option<u8>,
}

/// Two bits count them.
const STREAMS_MAX: usize = 4;
const SPATIAL_MAX: u8 = 4;
const TEMPORAL_MAX: usize = 4;
/// Width, height, frame rate.
const SIZE_LEN: usize = 5;

impl LayersAllocation {
    /// Reads the value of the extension; `None` if it is cut off or too long.
    pub fn read(value: &[u8]) -> Option<LayersAllocation> {
        if value == [0] {
            return Some(LayersAllocation::default()); // nothing is sent
        }
        let (&head, mut rest) = value.split_first()?;
        let streams = (head >> 4 & 0x03) + 1;
        let masks = read_masks(head & 0x0f, streams, &mut rest)?;
        let mut layers: SmallVec<[ActiveLayer; 4]> = (0..streams)
            .zip(masks)
            .flat_map(|(stream, mask)| (0..SPATIAL_MAX).map(move |spatial| (stream, mask, spatial)))
            .filter(|(_, mask, spatial)| mask >> spatial & 1 != 0)
            .map(|(stream, _, spatial)| ActiveLayer {
                stream,
                spatial: SpatialLayer(spatial),
                ..ActiveLayer::default()
            })
            .collect();
        // Two bits for each, one less than there are.
        let (counts, behind) = rest.split_at_checked(layers.len().div_ceil(4))?;
        rest = behind;
        let mut counts = Bits::new(counts);
        for layer in &mut layers {
            for _ in 0..=counts.number(2)? {
                layer.kilobits.push(leb128(&mut rest)?);
            }
        }
        if !rest.is_empty() {
            if rest.len() != SIZE_LEN * layers.len() {
                return None;
            }
            for (layer, size) in layers.iter_mut().zip(rest.chunks_exact(SIZE_LEN)) {
                layer.read_size(size)?;
            }
        }
        Some(LayersAllocation { stream: head >> 6, streams, layers })
    }
}

impl ActiveLayer {
    /// Width and height are one less than they are.
    fn read_size(&mut self, size: &[u8]) -> Option<()> {
        let mut bits = Bits::new(size);
        let (width, height) = (bits.number(16)? as u16, bits.number(16)? as u16);
        let resolution = Resolution { width: width.saturating_add(1), height: height.saturating_add(1) };
        (self.resolution, self.frame_rate) = (Some(resolution), Some(bits.small(8)?));
        Some(())
    }
}

/// Which spatial layers each stream has: the same for all, or, if that is 0, four bits for each.
fn read_masks(same: u8, streams: u8, rest: &mut &[u8]) -> Option<[u8; STREAMS_MAX]> {
    if same != 0 {
        return Some([same; STREAMS_MAX]);
    }
    let (octets, behind) = rest.split_at_checked(usize::from(streams).div_ceil(2))?;
    *rest = behind;
    let mut bits = Bits::new(octets);
    let mut masks = [0; STREAMS_MAX];
    for mask in masks.iter_mut().take(streams.into()) {
        *mask = bits.small(4)?;
    }
    Some(masks)
}

/// `leb128()` of the AV1 bitstream specification, section 4.10.5: seven bits in an octet, the lowest first.
fn leb128(rest: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for at in 0..5 {
        let (&octet, behind) = rest.split_first()?;
        *rest = behind;
        let bits = u32::from(octet & 0x7f);
        number |= bits.checked_shl(7 * at).filter(|shifted| shifted >> (7 * at) == bits)?;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer(stream: u8, spatial: u8, kilobits: &[u32]) -> ActiveLayer {
        let (spatial, kilobits) = (SpatialLayer(spatial), SmallVec::from_slice(kilobits));
        ActiveLayer { stream, spatial, kilobits, ..ActiveLayer::default() }
    }

    #[test]
    fn simulcast_of_three_encodings_with_sizes() {
        // On the second of three streams, one spatial layer each, in two, two and three temporal layers.
        let mut value =
            vec![0x61, 0b0101_1000, 90, 120, 0xac, 0x02, 0xf4, 0x03, 0xe8, 0x07, 0xd0, 0x0f, 0xc4, 0x13];
        let whole = value.clone();
        for size in [[1, 63, 0, 179, 15], [2, 127, 1, 103, 30], [4, 255, 2, 207, 60]] {
            value.extend(size);
        }
        let mut expected = LayersAllocation {
            stream: 1,
            streams: 3,
            layers: [layer(0, 0, &[90, 120]), layer(1, 0, &[300, 500]), layer(2, 0, &[1000, 2000, 2500])]
                .into_iter()
                .collect(),
        };
        assert_eq!(LayersAllocation::read(&whole), Some(expected.clone()), "without sizes");
        for (layer, (width, height, rate)) in
            expected.layers.iter_mut().zip([(320, 180, 15), (640, 360, 30), (1280, 720, 60)])
        {
            (layer.resolution, layer.frame_rate) = (Some(Resolution { width, height }), Some(rate));
        }
        assert_eq!(LayersAllocation::read(&value), Some(expected));
        for len in (0..value.len()).filter(|len| *len != whole.len()) {
            assert_eq!(LayersAllocation::read(&value[..len]), None, "cut off at {len}");
        }
        value.push(0);
        assert_eq!(LayersAllocation::read(&value), None, "too long");
    }

    #[test]
    fn streams_may_have_different_layers() {
        // Of two streams the first has layers 0 and 2, the second has none.
        let read = LayersAllocation::read(&[0x10, 0x50, 0b0001_0000, 5, 6, 7]).expect("valid");
        assert_eq!((read.stream, read.streams), (0, 2));
        assert_eq!(&read.layers[..], [layer(0, 0, &[5]), layer(0, 2, &[6, 7])]);
        // Of three streams the masks take two octets.
        let read = LayersAllocation::read(&[0x20, 0x01, 0x20, 0, 5, 6]).expect("valid");
        assert_eq!(&read.layers[..], [layer(1, 0, &[5]), layer(2, 1, &[6])]);
    }

    #[test]
    fn nothing_and_all() {
        assert_eq!(LayersAllocation::read(&[0]), Some(LayersAllocation::default()));
        assert_eq!(LayersAllocation::read(&[]), None);
        let mut value = vec![0xff, 0xff, 0xff, 0xff, 0xff];
        value.extend([1; 64]);
        let read = LayersAllocation::read(&value).expect("valid");
        assert_eq!((read.stream, read.streams, read.layers.len()), (3, 4, 16));
        assert!(read.layers.iter().all(|layer| layer.kilobits.len() == 4));
    }

    #[test]
    fn bitrates_have_32_bits() {
        let read = |octets: &[u8]| leb128(&mut &*octets);
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Some(u32::MAX));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), None);
        assert_eq!(read(&[0x80]), None);
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(read) = LayersAllocation::read(&junk) {
                prop_assert!(read.streams <= 4 && read.layers.len() <= 16);
                prop_assert!(read.layers.iter().all(|layer| layer.stream < read.streams && layer.kilobits.len() <= 4));
            }
        }
    }
}
