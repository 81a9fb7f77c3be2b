//! Transport-wide feedback of a receiver (draft-holmer-rmcat-transport-wide-cc-extensions-01): which packets came when,
//! told every 50 ms. Has no clock; sealing and sending are for others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often it is told what came.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);
/// The unit of arrival times within a message.
const DELTA: Duration = Duration::from_micros(250);
/// The unit of the time that a message begins at.
const REFERENCE: Duration = Duration::from_millis(64);
/// Packets that one message tells of. More are told of in several.
const MOST: i64 = 500;
/// Packets of which nothing was told yet.
const MOST_WAITING: usize = 4096;
/// RTPFB, format 15.
const HEAD: [u8; 2] = [0x8f, 205];

/// What came and was not told of yet.
#[derive(Debug)]
pub struct Feedback {
    /// Times are told since then.
    origin: Instant,
    ssrc: u32,
    /// When each number came, numbers without wrap.
    waiting: BTreeMap<i64, Instant>,
    /// The highest number that came.
    highest: Option<i64>,
    /// Everything before it was told of.
    next: Option<i64>,
    messages: u8,
    due: Instant,
}

impl Feedback {
    /// Feedback under the SSRC of a receiver.
    pub fn new(ssrc: u32, now: Instant) -> Self {
        Feedback {
            origin: now,
            ssrc,
            waiting: BTreeMap::new(),
            highest: None,
            next: None,
            messages: 0,
            due: now,
        }
    }

    /// A packet with this transport-wide number came at this time.
    pub fn handle_packet(&mut self, number: u16, at: Instant) {
        let number = match self.highest {
            Some(highest) => highest + i64::from(number.wrapping_sub(highest as u16) as i16),
            None => i64::from(number),
        };
        self.highest = self.highest.max(Some(number));
        // What is told of as missing and comes later stays missing: it was too late to be of use.
        if self.next.is_none_or(|next| number >= next) && self.waiting.len() < MOST_WAITING {
            self.waiting.entry(number).or_insert(at);
        }
    }

    /// The next message about packets of this SSRC, not yet sealed, if it is due. To be asked until there is none.
    pub fn poll(&mut self, media_ssrc: u32, now: Instant) -> Option<Vec<u8>> {
        if now < self.due {
            return None;
        }
        let message = self.message(media_ssrc);
        if message.is_none() {
            self.due = now + INTERVAL;
        }
        message
    }

    fn message(&mut self, media_ssrc: u32) -> Option<Vec<u8>> {
        let (&lowest, &first_at) = self.waiting.first_key_value()?;
        // A gap that does not fit says nothing that loss reports do not say.
        let from = self.next.filter(|next| lowest - next < MOST).unwrap_or(lowest);
        let first_at = first_at.saturating_duration_since(self.origin);
        let reference = (first_at.as_nanos() / REFERENCE.as_nanos()) as u32;
        let mut clock = REFERENCE * reference;
        let (mut statuses, mut deltas) = (Vec::new(), Vec::new());
        let mut end = from;
        while let Some((&number, &at)) = self.waiting.first_key_value() {
            let since = at.saturating_duration_since(self.origin);
            let delta = units(since) - units(clock);
            // What a message cannot say begins the next one.
            let Ok(delta) = i16::try_from(delta) else { break };
            if number - from >= MOST {
                break;
            }
            statuses.resize((number - from) as usize, Status::Missing);
            match u8::try_from(delta) {
                Ok(small) => {
                    statuses.push(Status::Small);
                    deltas.push(small);
                }
                Err(_) => {
                    statuses.push(Status::Large);
                    deltas.extend(delta.to_be_bytes());
                }
            }
            clock = DELTA * u32::try_from(units(since)).unwrap_or(u32::MAX);
            end = number + 1;
            self.waiting.remove(&number);
        }
        self.next = Some(end);
        let mut message = HEAD.to_vec();
        message.extend([0, 0]);
        message.extend(self.ssrc.to_be_bytes());
        message.extend(media_ssrc.to_be_bytes());
        message.extend((from as u16).to_be_bytes());
        message.extend((statuses.len() as u16).to_be_bytes());
        message.extend(&(reference & 0x00ff_ffff).to_be_bytes()[1..]);
        message.push(self.messages);
        self.messages = self.messages.wrapping_add(1);
        chunks(&statuses).for_each(|chunk| message.extend(chunk.to_be_bytes()));
        message.extend(deltas);
        // Padding is counted by its last byte (RFC 3550 section 6.4.1).
        let padding = message.len().next_multiple_of(4) - message.len();
        if padding > 0 {
            message.resize(message.len() + padding, 0);
            message[0] |= 0x20;
            if let Some(last) = message.last_mut() {
                *last = padding as u8;
            }
        }
        let words = (message.len() / 4 - 1) as u16;
        message[2..4].copy_from_slice(&words.to_be_bytes());
        Some(message)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Missing = 0,
    Small = 1,
    Large = 2,
}

fn units(time: Duration) -> i64 {
    i64::try_from(time.as_nanos() / DELTA.as_nanos()).unwrap_or(i64::MAX)
}

/// Runs of one status where they are long, else seven statuses of two bits.
fn chunks(statuses: &[Status]) -> impl Iterator<Item = u16> {
    const LONGEST_RUN: usize = 0x1fff;
    let mut rest = statuses;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let run = rest.iter().take_while(|status| **status == first).count().min(LONGEST_RUN);
        if run >= 7 || run == rest.len() {
            rest = &rest[run..];
            return Some((first as u16) << 13 | run as u16);
        }
        let (vector, after) = rest.split_at(rest.len().min(7));
        rest = after;
        let two_bits = |sum: u16, (n, status): (usize, &Status)| sum | (*status as u16) << (12 - 2 * n);
        Some(vector.iter().enumerate().fold(0xc000, two_bits))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::rtcp::packet::unmarshal;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };

    use super::*;
    use crate::clock;

    /// What a reader of another library finds: each number, and when it came in microseconds; `None` if it did not.
    fn read(message: &[u8]) -> (TransportLayerCc, Vec<(u16, Option<i64>)>) {
        let packets = unmarshal(&mut &message[..]).unwrap();
        let message = packets[0].as_any().downcast_ref::<TransportLayerCc>().unwrap().clone();
        let mut symbols = Vec::new();
        for chunk in &message.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(chunk) => {
                    symbols.extend((0..chunk.run_length).map(|_| chunk.packet_status_symbol));
                }
                PacketStatusChunk::StatusVectorChunk(chunk) => symbols.extend(&chunk.symbol_list),
            }
        }
        symbols.truncate(usize::from(message.packet_status_count));
        let mut at = i64::from(message.reference_time) * 64_000;
        let mut deltas = message.recv_deltas.iter();
        let came = symbols.iter().enumerate().map(|(n, symbol)| {
            let number = message.base_sequence_number.wrapping_add(n as u16);
            let came = (*symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                at += deltas.next().unwrap().delta;
                at
            });
            (number, came)
        });
        let came = came.collect();
        (message, came)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn another_reader_finds_what_came_and_what_did_not() {
        let start = clock::now();
        let mut feedback = Feedback::new(1, start);
        for (number, at) in [(65_534_u16, 70), (65_535, 71), (2, 90), (1, 200), (3, 91)] {
            feedback.handle_packet(number, start + ms(at));
        }
        let message = feedback.poll(9, start + ms(200)).unwrap();
        let (read, came) = read(&message);
        assert_eq!((read.sender_ssrc, read.media_ssrc, read.fb_pkt_count), (1, 9, 0));
        let expected = [
            (65_534, Some(70_000)),
            (65_535, Some(71_000)),
            (0, None),
            (1, Some(200_000)),
            (2, Some(90_000)),
            (3, Some(91_000)),
        ];
        assert_eq!(came, expected);
        assert_eq!(feedback.poll(9, start + ms(200)), None);
    }

    #[test]
    fn each_message_goes_on_where_the_last_one_ended() {
        let start = clock::now();
        let mut feedback = Feedback::new(1, start);
        feedback.handle_packet(10, start);
        assert!(feedback.poll(9, start).is_some());
        assert_eq!(feedback.poll(9, start), None);
        feedback.handle_packet(13, start + ms(10));
        // Too late to be told of.
        feedback.handle_packet(9, start + ms(10));
        assert_eq!(feedback.poll(9, start + ms(20)), None, "only every 50 ms");
        let message = feedback.poll(9, start + INTERVAL).unwrap();
        let (read, came) = read(&message);
        assert_eq!(read.fb_pkt_count, 1);
        assert_eq!(came, [(11, None), (12, None), (13, Some(10_000))]);
    }

    #[test]
    fn what_one_message_cannot_say_is_in_the_next() {
        let start = clock::now();
        let mut feedback = Feedback::new(1, start);
        feedback.handle_packet(1, start);
        feedback.handle_packet(2, start + Duration::from_secs(20));
        for number in 3..1000 {
            feedback.handle_packet(number, start + Duration::from_secs(20));
        }
        let messages: Vec<Vec<u8>> =
            std::iter::from_fn(|| feedback.poll(9, start + Duration::from_secs(20))).collect();
        let counts: Vec<u16> = messages.iter().map(|message| read(message).0.packet_status_count).collect();
        assert_eq!(counts, [1, 500, 498]);
        let last = read(&messages[2]).1;
        assert_eq!(last.last(), Some(&(999, Some(20_000_000))));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_told_once_and_to_a_quarter_of_a_millisecond(
            packets in proptest::collection::btree_map(0_u16..2000, 0_u64..3_000_000, 1..200)
        ) {
            let start = clock::now();
            let mut feedback = Feedback::new(1, start);
            for (number, micros) in &packets {
                feedback.handle_packet(*number, start + Duration::from_micros(*micros));
            }
            let mut told = std::collections::BTreeMap::new();
            while let Some(message) = feedback.poll(9, start) {
                prop_assert_eq!(message.len() % 4, 0);
                for (number, came) in read(&message).1 {
                    if let Some(came) = came {
                        prop_assert_eq!(told.insert(number, came), None);
                    }
                }
            }
            prop_assert_eq!(told.len(), packets.len());
            for (number, micros) in packets {
                prop_assert!((told[&number] - micros as i64).abs() <= 250);
            }
        }
    }
}
