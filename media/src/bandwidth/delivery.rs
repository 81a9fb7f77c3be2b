//! At what rate packets arrive: what the path has carried, which is the one thing about it that is known.

use super::{
    history::{History, SentPacket, State},
    line::Line,
};
use crate::{bins::Bins, rtp::transport_cc::TICK_US};

/// A stretch of packets, as it left and as it arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delivery {
    /// Bits per second at which they arrived.
    pub arrived: f64,
    /// Bits per second at which they were sent.
    pub sent: f64,
    /// The share of them that is lost.
    pub lost: f64,
}

/// A stretch that took longer to send is long because of jitter.
const LONG_US: u64 = 30_000;
/// Reordered packets are found if they are this much out of order.
const SLACK_US: i64 = 30_000;

/// What arrived in the last `window_us` of the receiver's clock, in bits per second; `None` if that is too little
/// to tell. The first packet only begins the time: when it began to arrive is not known.
pub fn arrival_rate(history: &History, window_us: i64) -> Option<f64> {
    let mut arrived = history.backwards().filter(|packet| packet.state == State::Arrived);
    let latest = arrived.next()?;
    let before_latest = |packet: &SentPacket| since(latest.arrived, packet.arrived);
    let (mut first, mut last) = ((0, latest.octets), 0);
    let mut bits = 8 * u64::from(latest.octets);
    for packet in arrived {
        let age = before_latest(packet);
        if age > window_us + SLACK_US {
            break;
        }
        if age > window_us {
            continue;
        }
        bits += 8 * u64::from(packet.octets);
        if age >= first.0 {
            first = (age, packet.octets);
        }
        last = last.min(age);
    }
    let span = first.0 - last;
    let bits = bits - 8 * u64::from(first.1);
    (span * 2 >= window_us).then(|| bits as f64 * 1e6 / span as f64)
}

/// How the packets from one number to another fared, if enough of them arrived to tell. `usual` is the share of all packets
/// that was lost lately, if it is known.
///
/// What a radio loses has taken its time on the wire, what a full queue drops has not. So of what is lost in between no
/// more counts as carried than twice what is usual: a burst is short, and chance may take so much of it.
pub fn stretch(history: &History, from: u64, to: u64, usual: Option<f64>) -> Option<Delivery> {
    let packets = (from..=to).filter_map(|number| history.get(number));
    let mut first: Option<&SentPacket> = None;
    let (mut sent_us, mut arrived_us) = (0, 0);
    // up to the last that arrived, with what was lost in between
    let (mut bits, mut pending) = ((0, 0), (0, 0));
    let (mut count, mut lost) = (0_u32, 0_u32);
    let mut line = Line::default();
    for packet in packets {
        count += 1;
        let takes = 8 * u64::from(packet.octets);
        pending.0 += takes;
        if packet.state != State::Arrived {
            lost += 1;
            pending.1 += takes;
            continue;
        }
        match first {
            None => {
                (first, pending) = (Some(packet), (0, 0));
                line.add(0.0, 0.0);
            }
            Some(first) => {
                sent_us = packet.sent.saturating_sub(first.sent);
                let at = since(packet.arrived, first.arrived);
                arrived_us = at.max(arrived_us);
                bits = (bits.0 + pending.0, bits.1 + pending.1);
                pending = (0, 0);
                line.add(sent_us as f64, at as f64 - sent_us as f64);
            }
        }
    }
    if sent_us >= LONG_US {
        // the growth of the delay: chance disturbs it less than it does the first and the last arrival
        arrived_us = (sent_us as f64 * (1.0 + line.slope()).max(0.1)) as i64;
    }
    let rate = |bits: f64, span: u64| if span == 0 { f64::INFINITY } else { bits * 1e6 / span as f64 };
    let share = f64::from(lost) / f64::from(count);
    let dropped = usual.map_or(0.0, |usual| 1.0 - (2.0 * usual / share).min(1.0));
    let carried = bits.0 as f64 - if lost > 0 { dropped * bits.1 as f64 } else { 0.0 };
    (bits.0 > 0).then(|| Delivery {
        arrived: rate(carried, u64::try_from(arrived_us).unwrap_or_default()),
        sent: rate(bits.0 as f64, sent_us),
        lost: share,
    })
}

/// Microseconds from one arrival to another.
fn since(later: u32, earlier: u32) -> i64 {
    i64::from(later.wrapping_sub(earlier) as i32) * TICK_US
}

/// What leaves, over the last second.
#[derive(Debug, Default)]
pub struct SendRate(Bins<u32, BINS, BIN_US>);

/// One is being filled, the others are the last second.
const BINS: usize = 9;
const BIN_US: u64 = 125_000;

impl SendRate {
    /// A packet leaves.
    pub fn handle_sent(&mut self, octets: usize, now: u64) {
        self.0.advance(now);
        let newest = self.0.newest();
        *newest = newest.saturating_add(octets as u32);
    }

    /// Bits per second.
    pub fn rate(&mut self, now: u64) -> f64 {
        self.0.advance(now);
        let octets: u64 = self.0.all()[1..].iter().map(|octets| u64::from(*octets)).sum();
        // the first second is not over yet
        let since = self.0.began().clamp(BIN_US, 1_000_000) as f64;
        octets as f64 * 8e6 / since
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bandwidth::history::{MOST_WITH_PICTURE, Purpose};

    /// Packets of 1000 octets that leave and arrive at these times, in microseconds; without an arrival lost.
    fn history(packets: &[(u64, Option<u32>)]) -> History {
        let mut history = History::new(MOST_WITH_PICTURE);
        for (sent, arrived) in packets {
            let number = history.push(1000, Purpose::Media, *sent);
            history.report(number as u16, arrived.map(|us| us / TICK_US as u32));
        }
        history
    }

    #[test]
    fn the_rate_of_arrivals_is_that_of_the_wire() {
        // sent at once, one each 10 ms arrives: 800 kbit/s
        let packets: Vec<_> = (0..50).map(|at| (0, Some(20_000 + at * 10_000))).collect();
        let rate = arrival_rate(&history(&packets), 250_000).expect("there is enough");
        assert!((rate - 800e3).abs() < 1.0, "{rate}");
        assert_eq!(arrival_rate(&history(&packets[..5]), 250_000), None, "40 ms are too short to tell");
        assert_eq!(arrival_rate(&history(&[(0, None)]), 250_000), None);
    }

    #[test]
    fn what_a_radio_loses_in_between_has_taken_its_time_and_what_a_queue_drops_has_not() {
        let packets: Vec<_> =
            (0..8).map(|at| (u64::from(at) * 2000, (at % 4 != 1).then_some(20_000 + at * 4000))).collect();
        let history = history(&packets);
        // Five arrive behind the first, and two are lost.
        for (usual, arrived) in [
            (None, 2e6),
            (Some(0.25), 2e6),
            (Some(0.13), 2e6),
            (Some(0.0625), 12e6 / 7.0),
            (Some(0.0), 10e6 / 7.0),
        ] {
            let fared = stretch(&history, 1 << 16, (1 << 16) + 7, usual).expect("there is enough");
            assert!((fared.arrived - arrived).abs() < 1.0 && (fared.sent - 4e6).abs() < 1.0, "{fared:?}");
            assert!((fared.lost - 0.25).abs() < 1e-9);
        }
    }

    #[test]
    fn a_burst_that_arrives_at_once_has_no_rate_of_its_own() {
        let history = history(&[(0, Some(1000)), (3000, Some(1000)), (6000, Some(1000))]);
        let fared = stretch(&history, 1 << 16, (1 << 16) + 2, None).expect("there is enough");
        assert!(fared.arrived.is_infinite() && fared.sent.is_finite());
        assert_eq!(stretch(&history, 1 << 16, 1 << 16, None), None, "one packet has no rate");
    }

    #[test]
    fn the_rate_of_what_leaves_is_that_of_the_last_second() {
        let mut sending = SendRate::default();
        for at in 0..100 {
            sending.handle_sent(125, at * 10_000);
        }
        let rate = sending.rate(1_000_000);
        assert!((95e3..105e3).contains(&rate), "{rate}");
        assert_eq!(sending.rate(9_000_000), 0.0);
    }
}
