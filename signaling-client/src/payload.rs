//! Frames of VP8, VP9 and AV1 put into RTP payloads (RFC 7741, RFC 9628, the AV1 RTP specification), with a picture id
//! and, where a file has temporal layers, with what says which frame is of which.
//!
//! The library's packetizer for VP8 writes a picture id alone, and that for VP9 has no temporal layers.

use std::str::FromStr;

use bytes::Bytes;
use rtc::rtp::codec::av1::Av1Payloader;
use rtc::rtp::packetizer::Payloader as _;

use crate::ivf::{Film, Frame};
use crate::video::VideoCodec;

/// Payload bytes of one packet, so that it fits through any path with all its headers.
const LONGEST: usize = 1100;
/// A pattern longer than this is a mistake.
const LONGEST_PATTERN: usize = 64;

/// Which temporal layer each frame of a file is of: repeated from its first frame on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporalPattern(Vec<Place>);

/// One frame's place in the layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    layer: u8,
    /// Needs nothing but the base layer: somebody who has only that can go up here (the Y of RFC 7741).
    sync: bool,
}

/// Makes the payloads of one encoding.
#[derive(Debug)]
pub struct Payloads {
    /// Of the next picture, 15 bits.
    picture: u16,
    /// Counts pictures of the base layer.
    base: u8,
    pattern: Option<TemporalPattern>,
}

impl FromStr for TemporalPattern {
    type Err = String;

    /// `0,2y,1y,2`: a layer from 0 to 3 for each frame, with a `y` where somebody can go up.
    fn from_str(text: &str) -> Result<Self, String> {
        let place = |word: &str| {
            let (layer, sync) = word.strip_suffix('y').map_or((word, false), |layer| (layer, true));
            let layer = layer.parse::<u8>().ok().filter(|layer| *layer < 4)?;
            Some(Place { layer, sync })
        };
        let places: Option<Vec<Place>> = text.split(',').map(|word| place(word.trim())).collect();
        match places {
            Some(places) if places[0].layer == 0 && places.len() <= LONGEST_PATTERN => {
                Ok(TemporalPattern(places))
            }
            _ => Err("use layers from 0 to 3 as in 0,2y,1y,2, the base first".to_owned()),
        }
    }
}

impl Payloads {
    /// Payloads of a file with these temporal layers, if it has some.
    pub fn new(pattern: Option<TemporalPattern>) -> Self {
        Payloads { picture: rand::random::<u16>() & 0x7fff, base: rand::random(), pattern }
    }

    /// The payloads of the frame of a film with this number; none for a frame that is no AV1.
    pub fn frame(&mut self, film: &Film, number: usize) -> Vec<Bytes> {
        let frame = film.frame(number);
        let place = self.place(frame, number % film.len());
        if place.is_none_or(|place| place.layer == 0) {
            self.base = self.base.wrapping_add(1);
        }
        let picture = self.picture;
        self.picture = (picture + 1) & 0x7fff;
        match film.codec {
            VideoCodec::Vp8 => self.vp8(frame, picture, place),
            VideoCodec::Vp9 => self.vp9(frame, picture, place, (film.width, film.height)),
            VideoCodec::Av1 => Av1Payloader::default().payload(LONGEST, &frame.data).unwrap_or_default(),
            VideoCodec::H264 => Vec::new(),
        }
    }

    /// A keyframe is of the base layer, whatever the pattern says.
    fn place(&self, frame: &Frame, number: usize) -> Option<Place> {
        let TemporalPattern(places) = self.pattern.as_ref()?;
        let place = places[number % places.len()];
        Some(if frame.keyframe { Place { layer: 0, sync: false } } else { place })
    }

    fn vp8(&self, frame: &Frame, picture: u16, place: Option<Place>) -> Vec<Bytes> {
        let [high, low] = picture.to_be_bytes();
        let mut descriptor = vec![0x80, if place.is_some() { 0xe0 } else { 0x80 }, high | 0x80, low];
        if let Some(Place { layer, sync }) = place {
            descriptor.extend([self.base, layer << 6 | u8::from(sync) << 5]);
        }
        pieces(&frame.data, LONGEST - descriptor.len(), |first, _| {
            let mut head = descriptor.clone();
            // The start of the partition; all that follows is said to be of the same one.
            head[0] |= u8::from(first) << 4;
            head
        })
    }

    /// Non-flexible mode (RFC 9628 section 4.2), one spatial layer, which a keyframe describes.
    fn vp9(&self, frame: &Frame, picture: u16, place: Option<Place>, size: (u16, u16)) -> Vec<Bytes> {
        const ROOM: usize = 11;
        let [high, low] = picture.to_be_bytes();
        pieces(&frame.data, LONGEST - ROOM, |first, last| {
            let structure = first && frame.keyframe;
            let mut head = vec![
                0x80 | u8::from(!frame.keyframe) << 6
                    | u8::from(place.is_some()) << 5
                    | u8::from(first) << 3
                    | u8::from(last) << 2
                    | u8::from(structure) << 1,
                high | 0x80,
                low,
            ];
            if let Some(Place { layer, sync }) = place {
                head.extend([layer << 5 | u8::from(sync) << 4, self.base]);
            }
            if structure {
                head.push(0x10);
                head.extend(size.0.to_be_bytes());
                head.extend(size.1.to_be_bytes());
            }
            head
        })
    }
}

/// A frame in pieces of about the same length, each behind a head.
fn pieces(data: &Bytes, room: usize, head: impl Fn(bool, bool) -> Vec<u8>) -> Vec<Bytes> {
    let count = data.len().div_ceil(room).max(1);
    let length = data.len().div_ceil(count).max(1);
    let last = data.len().div_ceil(length).max(1) - 1;
    let piece = |(n, piece): (usize, &[u8])| Bytes::from([&head(n == 0, n == last)[..], piece].concat());
    data.chunks(length).enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::rtp::codec::vp8::Vp8Packet;
    use rtc::rtp::codec::vp9::Vp9Packet;
    use rtc::rtp::packetizer::Depacketizer as _;

    use super::*;
    use crate::ivf::tests::vp8_file;

    fn film(codec: VideoCodec, frames: &[(bool, usize)]) -> Film {
        let mut film = Film::read(vp8_file(frames)).unwrap();
        film.codec = codec;
        film
    }

    #[test]
    fn a_reader_of_vp8_finds_the_picture_and_its_layer() {
        let film = film(VideoCodec::Vp8, &[(true, 3000), (false, 500), (false, 600), (false, 1)]);
        let mut payloads = Payloads::new(Some("0,2y,1y,2".parse().unwrap()));
        let mut found = Vec::new();
        for number in 0..5 {
            let frame = payloads.frame(&film, number);
            assert!(frame.iter().all(|payload| payload.len() <= LONGEST));
            let mut picture = Vec::new();
            for (n, payload) in frame.iter().enumerate() {
                let mut packet = Vp8Packet::default();
                picture.extend(packet.depacketize(payload).unwrap());
                assert_eq!((packet.s == 1, packet.pid, packet.i, packet.l, packet.t), (n == 0, 0, 1, 1, 1));
                if n == 0 {
                    found.push((packet.picture_id, packet.tl0_pic_idx, packet.tid, packet.y));
                }
            }
            assert_eq!(picture, film.frame(number).data);
        }
        let (id, base) = (found[0].0, found[0].1);
        let next = |n: u16| (id + n) & 0x7fff;
        assert_eq!(
            found,
            [
                (id, base, 0, 0),
                (next(1), base, 2, 1),
                (next(2), base, 1, 1),
                (next(3), base, 2, 0),
                (next(4), base.wrapping_add(1), 0, 0)
            ]
        );
    }

    #[test]
    fn without_a_pattern_a_picture_has_its_id_alone() {
        let film = film(VideoCodec::Vp8, &[(true, 10)]);
        let frame = Payloads::new(None).frame(&film, 0);
        assert_eq!((frame[0][0], frame[0][1], frame[0].len()), (0x90, 0x80, 14));
    }

    #[test]
    fn a_reader_of_vp9_finds_the_picture_its_layer_and_its_size() {
        let film = film(VideoCodec::Vp9, &[(true, 3000), (false, 500)]);
        let mut payloads = Payloads::new(Some("0,1y".parse().unwrap()));
        for number in 0..2 {
            let frame = payloads.frame(&film, number);
            let mut picture = Vec::new();
            for (n, payload) in frame.iter().enumerate() {
                assert!(payload.len() <= LONGEST);
                let mut packet = Vp9Packet::default();
                picture.extend(packet.depacketize(payload).unwrap());
                assert_eq!((packet.b, packet.e), (n == 0, n + 1 == frame.len()));
                assert_eq!((packet.p, usize::from(packet.tid)), (number == 1, number));
                if n == 0 && number == 0 {
                    assert_eq!((&packet.width[..], &packet.height[..]), (&[320][..], &[180][..]));
                }
            }
            assert_eq!(picture, film.frame(number).data);
            assert_eq!(VideoCodec::Vp9.begins_keyframe(&frame[0]), number == 0);
        }
    }

    #[test]
    fn a_keyframe_of_av1_says_that_it_begins_a_sequence() {
        let temporal_unit = [0x12, 0, 0x0a, 1, 7, 0x32, 2, 8, 9];
        let frame = Frame {
            data: Bytes::copy_from_slice(&temporal_unit),
            keyframe: true,
            lasts: std::time::Duration::from_millis(40),
        };
        let payloads = Av1Payloader::default().payload(LONGEST, &frame.data).unwrap();
        assert_eq!(payloads.len(), 1);
        assert!(VideoCodec::Av1.begins_keyframe(&payloads[0]));
    }

    #[test]
    fn a_pattern_begins_with_the_base() {
        for wrong in ["", "1,0", "0,4", "0,,1", "0,y", "a"] {
            assert!(wrong.parse::<TemporalPattern>().is_err(), "{wrong}");
        }
        assert!("0".parse::<TemporalPattern>().is_ok());
    }

    proptest! {
        #[test]
        fn any_frames_come_out_whole(lengths in proptest::collection::vec(1_usize..5000, 1..6)) {
            let frames: Vec<(bool, usize)> = lengths.iter().enumerate().map(|(n, l)| (n == 0, *l)).collect();
            let film = film(VideoCodec::Vp8, &frames);
            let mut payloads = Payloads::new(None);
            for (number, (_, expected)) in frames.iter().enumerate() {
                let length: usize = payloads.frame(&film, number).iter().map(|payload| payload.len() - 4).sum();
                prop_assert_eq!(length, *expected);
            }
        }
    }
}
