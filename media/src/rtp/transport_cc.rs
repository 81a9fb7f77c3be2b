//! The reader of transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01):
//! which numbers came, and when. Total: what it takes is bounded by what came, whatever the counts say. The
//! writer is in `ingest/transport_cc.rs`; what is concluded from it is in `bandwidth`.

use crate::drop_reason::DropReason;

/// One feedback, checked: all of its packets can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// The first transport-wide number that it tells of.
    pub base: u16,
    /// How many numbers it tells of.
    pub count: u16,
    /// What arrivals count from, in units of 64 ms, 24 bits, of the receiver's clock: wraps every 12 days.
    pub reference: u32,
    /// Counts feedbacks, so that lost ones are noticed.
    pub number: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// What a feedback says of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The transport-wide number.
    pub number: u16,
    /// Since the reference time, in [`TICK_US`]; may be negative. `None`: it has not come.
    pub arrival: Option<i32>,
}

/// Microseconds in a tick of arrivals (section 3.1.5).
pub const TICK_US: i64 = 250;
/// Ticks in a unit of the reference time, which is 64 ms.
pub const TICKS_PER_REFERENCE: i64 = 256;
/// Two octets can say of 8191 packets that they are lost. A feedback comes at least a few times a second, and
/// nobody gets more packets than this in that time: 20 Mbit/s for two seconds.
const MAX_COUNT: u16 = 4096;
/// Addresses, base, count, reference, feedback count.
const HEAD: usize = 16;

impl<'a> Feedback<'a> {
    /// Reads what follows the first four octets of an RTCP packet with payload type 205 and format 15. Octets
    /// behind the last delta are padding.
    ///
    /// # Errors
    ///
    /// [`DropReason::FeedbackMalformed`]: it ends early, tells of nothing or of more than 4096 packets, or has
    /// a symbol that means nothing.
    pub fn parse(body: &'a [u8]) -> Result<Feedback<'a>, DropReason> {
        Feedback::read(body).ok_or(DropReason::FeedbackMalformed)
    }

    fn read(body: &'a [u8]) -> Option<Feedback<'a>> {
        let (head, rest) = body.split_at_checked(HEAD)?;
        let count = u16::from_be_bytes([head[10], head[11]]);
        if count == 0 || count > MAX_COUNT {
            return None;
        }
        let mut feedback = Feedback {
            base: u16::from_be_bytes([head[8], head[9]]),
            count,
            reference: u32::from_be_bytes([0, head[12], head[13], head[14]]),
            number: head[15],
            chunks: rest,
            deltas: &[],
        };
        let (chunks, deltas) = feedback.lengths()?;
        feedback.chunks = rest.get(..chunks)?;
        feedback.deltas = rest.get(chunks..chunks + deltas)?;
        Some(feedback)
    }

    /// Octets of the chunks, and of the deltas that they promise.
    fn lengths(&self) -> Option<(usize, usize)> {
        let (mut left, mut chunks, mut deltas) = (self.count, 0, 0);
        while left > 0 {
            let chunk = Chunk::read(self.chunks.get(chunks..)?)?;
            chunks += 2;
            let told = chunk.len().min(left);
            deltas += match chunk {
                Chunk::Run { symbol, .. } => usize::from(told) * delta_len(symbol)?,
                Chunk::Vector { .. } => {
                    (0..told).try_fold(0, |sum, at| Some(sum + delta_len(chunk.symbol(at))?))?
                }
            };
            left -= told;
        }
        Some((chunks, deltas))
    }

    /// All packets that it tells of, by rising number.
    pub fn packets(&self) -> impl Iterator<Item = Told> + use<'a> {
        let (mut chunks, mut deltas) = (self.chunks, self.deltas);
        let (mut chunk, mut at) = (Chunk::Run { symbol: 0, len: 0 }, 0);
        let mut arrival = 0_i32;
        (0..self.count).map(self.numbers()).map(move |number| {
            if at == chunk.len() {
                (chunk, at) = (Chunk::read(chunks).unwrap_or(chunk), 0);
                chunks = chunks.get(2..).unwrap_or_default();
            }
            let symbol = chunk.symbol(at);
            at += 1;
            let delta = match (symbol, deltas) {
                (1, [small, rest @ ..]) => {
                    deltas = rest;
                    i32::from(*small)
                }
                (2, [high, low, rest @ ..]) => {
                    deltas = rest;
                    i32::from(i16::from_be_bytes([*high, *low]))
                }
                _ => return Told { number, arrival: None },
            };
            // 4096 deltas of 16 bits stay far within 32 bits
            arrival += delta;
            Told { number, arrival: Some(arrival) }
        })
    }

    fn numbers(&self) -> impl Fn(u16) -> u16 + use<> {
        let base = self.base;
        move |step| base.wrapping_add(step)
    }
}

/// Octets that a symbol has among the deltas; 3 is reserved, so nobody knows what follows it.
fn delta_len(symbol: u8) -> Option<usize> {
    (symbol < 3).then_some(usize::from(symbol))
}

/// What a chunk says of the next packets (sections 3.1.3 and 3.1.4).
#[derive(Debug, Clone, Copy)]
enum Chunk {
    Run { symbol: u8, len: u16 },
    Vector { bits: u16, wide: bool },
}

impl Chunk {
    fn read(octets: &[u8]) -> Option<Chunk> {
        let word = u16::from_be_bytes([*octets.first()?, *octets.get(1)?]);
        match word >> 14 {
            0 | 1 => {
                let len = word & 0x1fff;
                // a run of nothing would be read for ever
                (len > 0).then_some(Chunk::Run { symbol: (word >> 13 & 3) as u8, len })
            }
            2 => Some(Chunk::Vector { bits: word, wide: false }),
            _ => Some(Chunk::Vector { bits: word, wide: true }),
        }
    }

    fn len(self) -> u16 {
        match self {
            Chunk::Run { len, .. } => len,
            Chunk::Vector { wide: false, .. } => 14,
            Chunk::Vector { wide: true, .. } => 7,
        }
    }

    /// The symbol at a place below [`Chunk::len`].
    fn symbol(self, at: u16) -> u8 {
        match self {
            Chunk::Run { symbol, .. } => symbol,
            Chunk::Vector { bits, wide: false } => (bits >> 13_u16.saturating_sub(at) & 1) as u8,
            Chunk::Vector { bits, wide: true } => (bits >> 12_u16.saturating_sub(2 * at) & 3) as u8,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(base: u16, count: u16, rest: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 1, 0, 0, 0, 2];
        body.extend(base.to_be_bytes());
        body.extend(count.to_be_bytes());
        body.extend([0xff, 0xff, 0xfe, 7]);
        body.extend(rest);
        body
    }

    fn arrivals(body: &[u8]) -> Vec<(u16, Option<i32>)> {
        let feedback = Feedback::parse(body).expect("it is well formed");
        feedback.packets().map(|told| (told.number, told.arrival)).collect()
    }

    #[test]
    fn all_kinds_of_chunks_and_deltas_are_read() {
        // a run of two small deltas; 14 single bits, the first and the last came; seven double bits
        let chunks = [0x20, 2, 0b1010_0000, 1, 0b1110_0100, 0];
        let deltas = [4, 0, 8, 255, 0xff, 0xfe, 9];
        let body = body(65_535, 19, &[&chunks[..], &deltas].concat());
        let feedback = Feedback::parse(&body).expect("it is well formed");
        assert_eq!((feedback.base, feedback.reference, feedback.number), (65_535, 0xff_fffe, 7));
        let told = arrivals(&body);
        assert_eq!(told.len(), 19);
        assert_eq!(told[..3], [(65_535, Some(4)), (0, Some(4)), (1, Some(12))]);
        assert!(told[3..15].iter().all(|(_, arrival)| arrival.is_none()));
        assert_eq!(told[15..], [(14, Some(267)), (15, Some(265)), (16, Some(274)), (17, None)]);
    }

    #[test]
    fn what_lies_is_dropped() {
        for (what, body) in [
            ("too short", vec![0; 15]),
            ("nothing told", body(0, 0, &[0x20, 1, 0, 0])),
            ("more than there can be", body(0, 4097, &[0x1f, 0xff])),
            ("chunks end early", body(0, 20, &[0x80, 0])),
            ("deltas end early", body(0, 3, &[0x20, 3, 1, 2])),
            ("a run of nothing", body(0, 3, &[0x20, 0, 1, 2])),
            ("the reserved symbol in a run", body(0, 1, &[0x60, 1, 1, 2])),
            ("the reserved symbol in a vector", body(0, 1, &[0xf0, 0, 1, 2])),
        ] {
            assert_eq!(Feedback::parse(&body), Err(DropReason::FeedbackMalformed), "{what}");
        }
    }

    #[test]
    fn symbols_behind_the_last_packet_do_not_count() {
        // the second symbol would be a reserved one
        assert_eq!(arrivals(&body(9, 1, &[0xdc, 0, 3])), [(9, Some(3))]);
        assert_eq!(arrivals(&body(9, 2, &[0x3f, 0xff, 3, 4])), [(9, Some(3)), (10, Some(7))]);
    }

    proptest! {
        #[test]
        fn junk_never_panics_and_says_of_each_packet_what_it_can(
            junk in proptest::collection::vec(any::<u8>(), 0..200),
            count in 0_u16..60,
        ) {
            let mut body = junk;
            if let Some(octets) = body.get_mut(10..12) {
                octets.copy_from_slice(&count.to_be_bytes());
            }
            if let Ok(feedback) = Feedback::parse(&body) {
                prop_assert_eq!(feedback.packets().count(), usize::from(count));
                let last = feedback.packets().last().map(|told| told.number);
                prop_assert_eq!(last, Some(feedback.base.wrapping_add(count - 1)));
            }
        }
    }
}
