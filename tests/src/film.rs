//! Pictures for tests that cost nothing: IVF files of VP8 that show nothing, each frame as large as its rate wants.

use std::{fs, path::Path};

use anyhow::Result;

/// Pictures in a second.
const RATE: u32 = 30;
/// Seconds until it begins anew; each second begins with a keyframe.
const SECONDS: u32 = 4;
/// A keyframe is as large as so many others.
const KEYFRAME: u32 = 4;

/// Writes a film of this size and bit rate.
pub fn write(path: &Path, (width, height): (u16, u16), bits_per_second: u32) -> Result<()> {
    let count = RATE * SECONDS;
    let mut file = Vec::new();
    file.extend_from_slice(b"DKIF");
    file.extend_from_slice(&[0, 0, 32, 0]);
    file.extend_from_slice(b"VP80");
    file.extend([width, height].map(u16::to_le_bytes).concat());
    file.extend([RATE, 1, count, 0].map(u32::to_le_bytes).concat());
    // Each second is one keyframe and the others.
    let inter = bits_per_second / 8 / (KEYFRAME + RATE - 1);
    for number in 0..count {
        let keyframe = number % RATE == 0;
        // RFC 6386 section 9.1: the frame tag, then, of a keyframe, the start code and the size.
        let mut frame = vec![u8::from(!keyframe) | 0x10, 0, 0];
        if keyframe {
            frame.extend_from_slice(&[0x9d, 0x01, 0x2a]);
            frame.extend([width, height].map(u16::to_le_bytes).concat());
        }
        let size = if keyframe { KEYFRAME * inter } else { inter } as usize;
        frame.resize(size.max(frame.len()), 0x55);
        file.extend((frame.len() as u32).to_le_bytes());
        file.extend(u64::from(number).to_le_bytes());
        file.extend(frame);
    }
    Ok(fs::write(path, file)?)
}
