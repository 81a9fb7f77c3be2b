//! A picture that was encoded beforehand: an IVF file of VP8, VP9 or AV1, as ffmpeg writes it. Knows when each frame is
//! due and which are keyframes; putting them into packets is [`crate::payload`]'s. Total on any bytes.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::video::VideoCodec;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 12;
/// How long the only frame of a file is shown.
const ONLY_FRAME: Duration = Duration::from_millis(40);
/// No frame is shown longer: a file with a gap of hours is a broken one.
const LONGEST_FRAME: Duration = Duration::from_secs(60);

/// A film that can be shown again and again: it begins with a keyframe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Film {
    /// What it is encoded with.
    pub codec: VideoCodec,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// In order; never empty.
    frames: Vec<Frame>,
}

/// One picture of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Encoded.
    pub data: Bytes,
    /// Whether decoding can begin here.
    pub keyframe: bool,
    /// Until the next one is due.
    pub lasts: Duration,
}

impl Film {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Usage`] when it cannot be read or is no IVF file that can be shown.
    pub fn open(path: &Path) -> Result<Film, Error> {
        let usage = |reason: &str| Error::Usage(format!("{}: {reason}", path.display()));
        let file = std::fs::read(path).map_err(|error| usage(&error.to_string()))?;
        Film::read(file.into()).map_err(usage)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(file: Bytes) -> Result<Film, &'static str> {
        let head = file.get(..HEADER).filter(|head| head.starts_with(b"DKIF")).ok_or("not an IVF file")?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let codec = match &head[8..12] {
            b"VP80" => VideoCodec::Vp8,
            b"VP90" => VideoCodec::Vp9,
            b"AV01" => VideoCodec::Av1,
            _ => return Err("neither VP8, VP9 nor AV1"),
        };
        let (rate, scale) = (word(16), word(20));
        if rate == 0 || scale == 0 {
            return Err("its time base is zero");
        }
        let mut shown: Vec<(u64, Bytes)> = Vec::new();
        let mut at = usize::from(half(6)).max(HEADER);
        while let Some(frame) = file.get(at..at + FRAME_HEADER) {
            let length = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
            let time = frame[4..].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            at += FRAME_HEADER;
            // What is cut off at the end of a file that is still being written is left out.
            let Some(end) = at.checked_add(length).filter(|end| *end <= file.len()) else { break };
            if length > 0 {
                shown.push((time, file.slice(at..end)));
            }
            at = end;
        }
        if !shown.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err("its frames are not in order");
        }
        let mut frames: Vec<Frame> = Vec::with_capacity(shown.len());
        for (n, (time, data)) in shown.iter().enumerate() {
            let lasts = match shown.get(n + 1) {
                Some((next, _)) => ticks(next - time, rate, scale),
                None => frames.last().map_or(ONLY_FRAME, |frame| frame.lasts),
            };
            frames.push(Frame { data: data.clone(), keyframe: is_keyframe(codec, data), lasts });
        }
        match frames.first() {
            None => Err("it has no frames"),
            Some(first) if !first.keyframe => Err("it does not begin with a keyframe"),
            _ => Ok(Film { codec, width: half(12), height: half(14), frames }),
        }
    }

    /// The frame with this number; after the last comes the first.
    pub fn frame(&self, number: usize) -> &Frame {
        &self.frames[number % self.frames.len()]
    }

    /// The number of the next keyframe, this one or a later one.
    pub fn keyframe_from(&self, number: usize) -> usize {
        // The first frame is one, so that one lap finds it.
        (number..=number + self.frames.len()).find(|at| self.frame(*at).keyframe).unwrap_or(number)
    }

    /// How many frames it has until it begins again.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Never: a film has a keyframe.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

fn ticks(ticks: u64, rate: u32, scale: u32) -> Duration {
    let nanos = u128::from(ticks) * u128::from(scale) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        .clamp(Duration::from_millis(1), LONGEST_FRAME)
}

fn is_keyframe(codec: VideoCodec, data: &[u8]) -> bool {
    let Some(&first) = data.first() else { return false };
    match codec {
        // The frame tag (RFC 6386 section 9.1).
        VideoCodec::Vp8 => first & 0x01 == 0,
        // The uncompressed header: marker, profile, show_existing_frame, frame_type.
        VideoCodec::Vp9 if first & 0x30 == 0x30 => first & 0xc6 == 0x80,
        VideoCodec::Vp9 => first & 0xcc == 0x80,
        // Encoders write a sequence header with every keyframe, and a temporal delimiter before everything.
        VideoCodec::Av1 => {
            let kind = |byte: u8| byte >> 3 & 0x0f;
            match (kind(first), data.get(1), data.get(2)) {
                (2, Some(0), Some(second)) => kind(*second) == 1,
                (kind, _, _) => kind == 1,
            }
        }
        VideoCodec::H264 => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of VP8 in 25 frames a second: each frame so many bytes, a keyframe where it is said.
    pub(crate) fn vp8_file(frames: &[(bool, usize)]) -> Bytes {
        let mut file = b"DKIF\0\0\x20\0VP80".to_vec();
        file.extend([64, 1, 180, 0, 25, 0, 0, 0, 1, 0, 0, 0]);
        file.extend((frames.len() as u32).to_le_bytes());
        file.extend([0; 4]);
        for (n, (keyframe, length)) in frames.iter().enumerate() {
            file.extend((*length as u32).to_le_bytes());
            file.extend((n as u64).to_le_bytes());
            let mut data = vec![n as u8; *length];
            data[0] = if *keyframe { 0x10 } else { 0x11 };
            file.extend(data);
        }
        file.into()
    }

    #[test]
    fn frames_are_read_with_their_times_and_keyframes_and_again_from_the_beginning() {
        let film = Film::read(vp8_file(&[(true, 9), (false, 5), (false, 6), (true, 7)])).unwrap();
        assert_eq!((film.codec, film.width, film.height, film.len()), (VideoCodec::Vp8, 320, 180, 4));
        assert_eq!(film.frame(2).data.len(), 6);
        assert_eq!(film.frame(4), film.frame(0));
        assert_eq!(film.frame(3).lasts, Duration::from_millis(40));
        assert_eq!([0, 1, 3, 4, 5].map(|number| film.keyframe_from(number)), [0, 3, 3, 4, 7]);
    }

    #[test]
    fn a_file_that_cannot_be_shown_is_told_why() {
        let read = |file: &[u8]| Film::read(Bytes::copy_from_slice(file)).unwrap_err();
        let file = vp8_file(&[(true, 9)]);
        assert_eq!(read(&file[..31]), "not an IVF file");
        assert_eq!(read(&file[..40]), "it has no frames");
        assert_eq!(read(&vp8_file(&[(false, 9)])), "it does not begin with a keyframe");
        let other = [&b"DKIF\0\0\x20\0H264"[..], &file[12..]].concat();
        assert_eq!(read(&other), "neither VP8, VP9 nor AV1");
    }

    #[test]
    fn keyframes_of_vp9_and_av1_are_told_from_their_headers() {
        use VideoCodec::{Av1, Vp9};
        for (codec, data, expected) in [
            (Vp9, &[0x82, 0x49][..], true),
            (Vp9, &[0x86, 0x00], false),
            (Vp9, &[0x88, 0x00], false),
            (Av1, &[0x12, 0, 0x0a, 1, 0], true),
            (Av1, &[0x12, 0, 0x32, 1, 0], false),
            (Av1, &[0x0a, 1, 0], true),
        ] {
            assert_eq!(is_keyframe(codec, data), expected, "{codec:?} {data:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            head in proptest::collection::vec(any::<u8>(), 0..28),
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let file = [&b"DKIF"[..], &head, &rest].concat();
            let _ = Film::read(file.into());
        }
    }
}
