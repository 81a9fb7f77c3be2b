//! RTCP as it comes from outside and as the relay writes it (RFC 3550, 4585, 5104; transport-wide
//! congestion control; REMB). The reader is total: what it does not know or cannot read it passes over.

use protocol::mesh::SenderClock;

// Packet types: RFC 3550 section 12.1, those of feedback RFC 4585 section 6.1.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

// What is asked for: RFC 4585 sections 6.2.1, 6.3.1 and 6.4 (REMB is an application layer message,
// draft-alvestrand-rmcat-remb-03), RFC 5104 section 4.3.1, draft-holmer-rmcat-transport-wide-cc-extensions-01.
const GENERIC_NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA_REQUEST: u8 = 4;
const APPLICATION_LAYER: u8 = 15;

/// What the relay acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The publisher's clock for one of its sources.
    Sender {
        /// The source.
        ssrc: u32,
        /// Wall clock and RTP clock.
        clock: SenderClock,
    },
    /// How a receiver gets one of our sources.
    Reception(Reception),
    /// Packets a receiver misses.
    Nack {
        /// Our source.
        ssrc: u32,
        /// The first number, and a bit for each of the 16 after it.
        pairs: Vec<(u16, u16)>,
    },
    /// A receiver needs a keyframe (PLI or FIR).
    Keyframe {
        /// Our source.
        ssrc: u32,
    },
    /// A receiver's estimate of what it can take, bits per second.
    Estimate {
        /// Bits per second.
        bitrate: u64,
    },
    /// A source ends.
    Bye {
        /// The source.
        ssrc: u32,
    },
}

/// A report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reception {
    /// The source it is about.
    pub ssrc: u32,
    /// Share lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost in all, 24 bits, may be negative.
    pub total_lost: i32,
    /// The highest sequence number seen, extended to 32 bits.
    pub highest: u32,
    /// In units of the RTP clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, 0 if there was none.
    pub last_report: u32,
    /// Since that report came, in 1/65536 s.
    pub delay: u32,
}

/// Reads a compound packet; stops at the first length that does not fit. Transport-wide feedback is read by
/// [`transport_feedback`].
pub fn parse(compound: &[u8]) -> Vec<Report> {
    let mut reports = Vec::new();
    for Part { count, kind, body } in parts(compound) {
        if reports.len() > MAX_REPORTS {
            break;
        }
        // A packet whose inside does not fit adds nothing; the ones after it still count.
        let _ = read(count, kind, body, &mut reports);
    }
    reports
}

/// The bodies of the transport-wide feedback in a compound packet, for
/// [`Feedback::parse`](super::transport_cc::Feedback::parse).
pub fn transport_feedback(compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_feedback = |part: &Part<'_>| part.kind == TRANSPORT_FEEDBACK && part.count == TRANSPORT_WIDE;
    parts(compound).filter(is_feedback).take(MAX_REPORTS).map(|part| part.body)
}

/// A packet of a compound packet.
struct Part<'a> {
    /// Five bits: how many blocks, or which feedback.
    count: u8,
    kind: u8,
    /// Behind the first four octets.
    body: &'a [u8],
}

fn parts(compound: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let [head, kind, l0, l1, ..] = *rest else { return None };
        let len = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
        let (packet, next) = rest.split_at_checked(len).filter(|_| head >> 6 == 2)?;
        rest = next;
        Some(Part { count: head & 0x1f, kind, body: &packet[4..] })
    })
}

const MAX_REPORTS: usize = 128;

fn read(count: u8, kind: u8, body: &[u8], reports: &mut Vec<Report>) -> Option<()> {
    match kind {
        SENDER_REPORT => {
            let clock = SenderClock {
                ntp: u64::from(word(body, 4)?) << 32 | u64::from(word(body, 8)?),
                rtp: word(body, 12)?,
            };
            reports.push(Report::Sender { ssrc: word(body, 0)?, clock });
            read_receptions(count, body.get(24..)?, reports)
        }
        RECEIVER_REPORT => read_receptions(count, body.get(4..)?, reports),
        BYE => (0..usize::from(count)).try_for_each(|source| {
            reports.push(Report::Bye { ssrc: word(body, 4 * source)? });
            Some(())
        }),
        TRANSPORT_FEEDBACK if count == GENERIC_NACK => {
            let pairs = body.get(8..)?.chunks_exact(4);
            let pairs = pairs
                .map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), u16::from_be_bytes([pair[2], pair[3]])));
            reports.push(Report::Nack { ssrc: word(body, 4)?, pairs: pairs.collect() });
            Some(())
        }
        PAYLOAD_FEEDBACK => match count {
            PICTURE_LOSS => {
                reports.push(Report::Keyframe { ssrc: word(body, 4)? });
                Some(())
            }
            FULL_INTRA_REQUEST => body.get(8..)?.chunks_exact(8).try_for_each(|entry| {
                reports.push(Report::Keyframe { ssrc: word(entry, 0)? });
                Some(())
            }),
            APPLICATION_LAYER if body.get(8..12)? == b"REMB" => {
                let packed = word(body, 12)?;
                let (exponent, mantissa) = (packed >> 18 & 0x3f, u64::from(packed & 0x3_ffff));
                let bitrate = mantissa.checked_shl(exponent).filter(|_| exponent < 46).unwrap_or(u64::MAX);
                reports.push(Report::Estimate { bitrate });
                Some(())
            }
            _ => None,
        },
        _ => None,
    }
}

fn read_receptions(count: u8, body: &[u8], reports: &mut Vec<Report>) -> Option<()> {
    for block in body.chunks_exact(24).take(usize::from(count)) {
        let lost = word(block, 4)?;
        reports.push(Report::Reception(Reception {
            ssrc: word(block, 0)?,
            fraction_lost: (lost >> 24) as u8,
            total_lost: (lost << 8) as i32 >> 8,
            highest: word(block, 8)?,
            jitter: word(block, 12)?,
            last_report: word(block, 16)?,
            delay: word(block, 20)?,
        }));
    }
    Some(())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Writes a compound packet, one part after the other.
#[derive(Debug, Default)]
pub struct Compound {
    bytes: Vec<u8>,
}

impl Compound {
    /// A sender report without report blocks.
    pub fn sender_report(&mut self, ssrc: u32, clock: SenderClock, packets: u32, octets: u32) -> &mut Self {
        self.packet(0, SENDER_REPORT, |out| {
            out.extend(ssrc.to_be_bytes());
            out.extend(clock.ntp.to_be_bytes());
            out.extend(clock.rtp.to_be_bytes());
            out.extend(packets.to_be_bytes());
            out.extend(octets.to_be_bytes());
        })
    }

    /// A receiver report.
    pub fn receiver_report(&mut self, ssrc: u32, blocks: &[Reception]) -> &mut Self {
        self.packet(blocks.len().min(31) as u8, RECEIVER_REPORT, |out| {
            out.extend(ssrc.to_be_bytes());
            for block in blocks.iter().take(31) {
                out.extend(block.ssrc.to_be_bytes());
                let lost = block.total_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
                out.extend((u32::from(block.fraction_lost) << 24 | lost).to_be_bytes());
                for word in [block.highest, block.jitter, block.last_report, block.delay] {
                    out.extend(word.to_be_bytes());
                }
            }
        })
    }

    /// The canonical name of a source: every compound packet carries it.
    pub fn cname(&mut self, ssrc: u32, name: &str) -> &mut Self {
        let name = &name.as_bytes()[..name.len().min(255)];
        self.packet(1, SOURCE_DESCRIPTION, |out| {
            out.extend(ssrc.to_be_bytes());
            out.extend([1, name.len() as u8]);
            out.extend_from_slice(name);
            out.push(0); // ends the chunk; `packet` pads it
        })
    }

    /// Asks for packets again.
    pub fn nack(&mut self, own: u32, ssrc: u32, pairs: &[(u16, u16)]) -> &mut Self {
        self.feedback(GENERIC_NACK, TRANSPORT_FEEDBACK, own, ssrc, |out| {
            for (first, following) in pairs {
                out.extend(first.to_be_bytes());
                out.extend(following.to_be_bytes());
            }
        })
    }

    /// Asks for a keyframe.
    pub fn picture_loss(&mut self, own: u32, ssrc: u32) -> &mut Self {
        self.feedback(PICTURE_LOSS, PAYLOAD_FEEDBACK, own, ssrc, |_| {})
    }

    /// Asks for a keyframe of a sender that knows no picture loss indication (RFC 5104 section 4.3.1).
    pub fn full_intra_request(&mut self, own: u32, ssrc: u32, number: u8) -> &mut Self {
        self.feedback(FULL_INTRA_REQUEST, PAYLOAD_FEEDBACK, own, 0, |out| {
            out.extend(ssrc.to_be_bytes());
            out.extend([number, 0, 0, 0]);
        })
    }

    /// Tells the sender what it may send, bits per second.
    pub fn estimate(&mut self, own: u32, ssrcs: &[u32], bitrate: u64) -> &mut Self {
        let exponent = (64 - bitrate.leading_zeros()).saturating_sub(18);
        let packed = (ssrcs.len().min(255) as u32) << 24 | exponent << 18 | (bitrate >> exponent) as u32;
        self.feedback(APPLICATION_LAYER, PAYLOAD_FEEDBACK, own, 0, |out| {
            out.extend_from_slice(b"REMB");
            out.extend(packed.to_be_bytes());
            ssrcs.iter().take(255).for_each(|ssrc| out.extend(ssrc.to_be_bytes()));
        })
    }

    /// A transport-wide feedback whose body `write` appends.
    pub fn transport_wide(&mut self, own: u32, ssrc: u32, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.feedback(TRANSPORT_WIDE, TRANSPORT_FEEDBACK, own, ssrc, write)
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The packet, ready to be sealed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn feedback(
        &mut self,
        format: u8,
        kind: u8,
        own: u32,
        ssrc: u32,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> &mut Self {
        self.packet(format, kind, |out| {
            out.extend(own.to_be_bytes());
            out.extend(ssrc.to_be_bytes());
            write(out);
        })
    }

    fn packet(&mut self, count: u8, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0x80 | count, kind, 0, 0]);
        write(&mut self.bytes);
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
        let words = (self.bytes.len() - start) / 4 - 1;
        self.bytes[start + 2..start + 4].copy_from_slice(&(words as u16).to_be_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let clock = SenderClock { ntp: 0x0102_0304_0506_0708, rtp: 9 };
        let block = Reception {
            ssrc: 5,
            fraction_lost: 128,
            total_lost: -3,
            highest: 70_000,
            jitter: 4,
            last_report: 6,
            delay: 7,
        };
        let mut compound = Compound::default();
        compound
            .sender_report(1, clock, 10, 1000)
            .receiver_report(2, &[block])
            .cname(1, "stage")
            .nack(1, 3, &[(65_535, 0x8001)])
            .picture_loss(1, 4)
            .full_intra_request(1, 6, 2)
            .estimate(1, &[4], 2_500_000);
        let reports = parse(compound.bytes());
        assert_eq!(reports[0], Report::Sender { ssrc: 1, clock });
        assert_eq!(reports[1], Report::Reception(block));
        assert_eq!(reports[2], Report::Nack { ssrc: 3, pairs: vec![(65_535, 0x8001)] });
        assert_eq!(reports[3], Report::Keyframe { ssrc: 4 });
        assert_eq!(reports[4], Report::Keyframe { ssrc: 6 });
        let Report::Estimate { bitrate } = reports[5] else { panic!("{:?}", reports[5]) };
        assert!((2_490_000..=2_500_000).contains(&bitrate), "{bitrate}");
        assert_eq!(reports.len(), 6);
    }

    #[test]
    fn a_length_that_lies_ends_the_compound() {
        let mut bytes = vec![0x80, RECEIVER_REPORT, 0, 1, 0, 0, 0, 1];
        bytes.extend([0x80, RECEIVER_REPORT, 0xff, 0xff, 0, 0, 0, 1]);
        assert_eq!(parse(&bytes), []);
        // 31 report blocks claimed, none there
        assert_eq!(parse(&[0x9f, SENDER_REPORT, 0, 1, 0, 0, 0, 1]), []);
    }

    proptest! {
        #[test]
        fn junk_never_panics(mut junk in proptest::collection::vec(any::<u8>(), 0..200), kind in 200_u8..208) {
            let _ = parse(&junk);
            if junk.len() > 4 {
                let words = (junk.len() / 4 - 1) as u16;
                junk[0] = 0x80 | junk[0] & 0x1f;
                junk[1] = kind;
                junk[2..4].copy_from_slice(&words.to_be_bytes());
                let _ = parse(&junk);
            }
        }
    }
}
