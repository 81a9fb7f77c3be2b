//! The framing of Opus packets (RFC 6716 section 3): what a packet says of its frames, and how frames become one
//! packet. Of what is in a frame it knows nothing.

use smallvec::SmallVec;

/// Samples of the longest packet, 120 ms at 48 kHz: more is no Opus packet (R5 of RFC 6716).
pub const MAX_SAMPLES: u32 = 5760;
/// Samples of the shortest frame, 2.5 ms. Every duration is a multiple of it.
pub const SHORTEST: u32 = 120;
/// The most frames of a packet: 120 ms of the shortest.
const MAX_FRAMES: usize = 48;
/// The longest frame.
pub const MAX_FRAME_LEN: usize = 1275;
/// From this configuration on a frame is CELT; below it is SILK or hybrid.
const FIRST_CELT: u8 = 16;

/// What the framing of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// 0 to 31: mode, bandwidth and length of its frames.
    pub config: u8,
    /// Two channels.
    pub stereo: bool,
    /// Samples of all its frames at 48 kHz, 1 to 48 times [`SHORTEST`].
    pub samples: u32,
    /// 1 to 48.
    pub frames: usize,
}

impl Layout {
    /// Reads a packet; `None` if it breaks a rule of RFC 6716 section 3.4.
    pub fn read(packet: &[u8]) -> Option<Layout> {
        let (toc, rest) = packet.split_first()?;
        let config = toc >> 3;
        let frames = match toc & 3 {
            0 => (rest.len() <= MAX_FRAME_LEN).then_some(1)?,
            1 => (rest.len() % 2 == 0 && rest.len() / 2 <= MAX_FRAME_LEN).then_some(2)?,
            2 => {
                let (first, rest) = read_len(rest)?;
                let second = rest.len().checked_sub(first)?;
                (second <= MAX_FRAME_LEN).then_some(2)?
            }
            _ => read_many(rest)?,
        };
        let samples = frames as u32 * frame_samples(config);
        (samples <= MAX_SAMPLES).then_some(Layout { config, stereo: toc & 4 != 0, samples, frames })
    }

    /// All of it is CELT: rungs are, and a switch among such packets does not glitch.
    pub fn is_celt(&self) -> bool {
        self.config >= FIRST_CELT
    }
}

/// Whether a packet that begins with this octet is CELT, whatever follows.
pub fn is_celt(toc: u8) -> bool {
    toc >> 3 >= FIRST_CELT
}

/// Samples of a frame at 48 kHz, by configuration (RFC 6716 table 2).
fn frame_samples(config: u8) -> u32 {
    match config {
        0..12 => [480, 960, 1920, 2880][usize::from(config & 3)],
        12..FIRST_CELT => [480, 960][usize::from(config & 1)],
        _ => SHORTEST << (config & 3),
    }
}

/// The length of a frame in one or two octets (RFC 6716 section 3.2.1), and what follows it.
fn read_len(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [first, rest @ ..] if *first < 252 => Some((usize::from(*first), rest)),
        [first, second, rest @ ..] => Some((usize::from(*first) + 4 * usize::from(*second), rest)),
        _ => None,
    }
}

/// What stands behind the first octet of a code 3 (RFC 6716 section 3.2.5).
struct Many<'a> {
    frames: usize,
    /// Each frame but the last has a length.
    lengths: bool,
    /// Lengths and frames, without the padding.
    rest: &'a [u8],
}

impl<'a> Many<'a> {
    fn read(bytes: &'a [u8]) -> Option<Many<'a>> {
        let (head, mut rest) = bytes.split_first()?;
        let frames = usize::from(head & 0x3f);
        if !(1..=MAX_FRAMES).contains(&frames) {
            return None;
        }
        let mut padding = 0;
        if head & 0x40 != 0 {
            loop {
                let (octet, behind) = rest.split_first()?;
                rest = behind;
                // 255 says 254 octets, and that another such octet follows.
                padding += usize::from(*octet).min(254);
                if *octet < 255 {
                    break;
                }
            }
        }
        let rest = &rest[..rest.len().checked_sub(padding)?];
        Some(Many { frames, lengths: head & 0x80 != 0, rest })
    }
}

/// How many frames there are, if all is as it has to be.
fn read_many(bytes: &[u8]) -> Option<usize> {
    let Many { frames, lengths, mut rest } = Many::read(bytes)?;
    let mut last = rest.len();
    if !lengths {
        return (last % frames == 0 && last / frames <= MAX_FRAME_LEN).then_some(frames);
    }
    for _ in 1..frames {
        let (len, behind) = read_len(rest)?;
        last = last.checked_sub(rest.len() - behind.len() + len)?;
        rest = behind;
    }
    (last <= MAX_FRAME_LEN).then_some(frames)
}

/// The frames of a packet, one behind the other; `None` if it breaks a rule of RFC 6716 section 3.4.
pub fn frames(packet: &[u8]) -> Option<SmallVec<[&[u8]; 3]>> {
    let layout = Layout::read(packet)?;
    let (toc, mut rest) = packet.split_first()?;
    let mut lens: SmallVec<[usize; 3]> = SmallVec::new();
    match toc & 3 {
        0 => {}
        1 => lens.push(rest.len() / 2),
        2 => {
            let (first, behind) = read_len(rest)?;
            lens.push(first);
            rest = behind;
        }
        _ => {
            let many = Many::read(rest)?;
            rest = many.rest;
            for _ in 1..layout.frames {
                if !many.lengths {
                    lens.push(many.rest.len() / layout.frames);
                    continue;
                }
                let (len, behind) = read_len(rest)?;
                lens.push(len);
                rest = behind;
            }
        }
    }
    let mut frames = SmallVec::new();
    for len in lens {
        let (frame, behind) = rest.split_at_checked(len)?;
        frames.push(frame);
        rest = behind;
    }
    frames.push(rest);
    Some(frames)
}

/// The frames of a packet in the making.
#[derive(Debug, Default)]
pub struct Frames {
    /// Configuration and channels: the first octet of a packet of one frame.
    toc: Option<u8>,
    octets: Vec<u8>,
    /// Where each ends in `octets`.
    ends: SmallVec<[usize; 8]>,
    /// A packet was none, or of another kind than the first one.
    unlike: bool,
}

impl Frames {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
        (self.toc, self.unlike) = (None, false);
    }

    /// Adds the frames of a packet.
    pub fn push(&mut self, packet: &[u8]) {
        let toc = packet.first().map(|toc| toc & !3);
        match frames(packet).filter(|_| self.toc.is_none() || self.toc == toc) {
            Some(frames) => {
                self.toc = toc;
                for frame in frames {
                    self.octets.extend_from_slice(frame);
                    self.ends.push(self.octets.len());
                }
            }
            None => self.unlike = true,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.octets[start..*end])
    }

    /// Appends the packet of all of them to `out`, as libopus's repacketizer writes it. `None`, and nothing appended, if
    /// there is none, if they are not of one kind, too many, or one came in no packet.
    pub fn write(&self, out: &mut impl bytes::BufMut) -> Option<()> {
        let (toc, count) = (self.toc?, self.ends.len());
        let samples = count as u32 * frame_samples(toc >> 3);
        if self.unlike || count > MAX_FRAMES || samples > MAX_SAMPLES {
            return None;
        }
        let first = self.iter().next()?.len();
        let alike = self.iter().all(|frame| frame.len() == first);
        match (count, alike) {
            (1, _) => out.put_u8(toc),
            (2, true) => out.put_u8(toc | 1),
            (2, false) => {
                out.put_u8(toc | 2);
                write_len(first, out);
            }
            (_, true) => out.put_slice(&[toc | 3, count as u8]),
            (_, false) => {
                out.put_slice(&[toc | 3, 0x80 | count as u8]);
                self.iter().take(count - 1).for_each(|frame| write_len(frame.len(), out));
            }
        }
        out.put_slice(&self.octets);
        Some(())
    }
}

/// The length of a frame (RFC 6716 section 3.2.1).
fn write_len(len: usize, out: &mut impl bytes::BufMut) {
    if len < 252 {
        return out.put_u8(len as u8);
    }
    let first = 252 + (len & 3);
    out.put_u8(first as u8);
    out.put_u8(((len - first) / 4) as u8);
}
