//! What a receiver report says of one source (RFC 3550 section 6.4.1 and appendix A): counted here, written by
//! `rtcp`. Which numbers are missing is the business of `nack`.

use std::time::Instant;

use protocol::Codec;

use crate::rtp::{header::Header, rtcp::Reception};

/// The counts of one source.
#[derive(Debug, Default)]
pub(super) struct ReceptionState {
    first: Option<u32>,
    received: u32,
    expected_before: u32,
    received_before: u32,
    jitter: f64,
    transit: Option<f64>,
    started: Option<Instant>,
    /// The middle of the NTP time in its last sender report, and when that came.
    pub(super) last_report: Option<(u32, Instant)>,
}

impl ReceptionState {
    /// A media packet of the source came.
    pub(super) fn handle_packet(&mut self, header: &Header, codec: Codec, now: Instant) {
        self.received += 1;
        self.first.get_or_insert((1 << 16) | u32::from(header.sequence)); // as `Missing` counts
        let started = *self.started.get_or_insert(now);
        let clock = f64::from(codec.clock_rate());
        let arrival = now.duration_since(started).as_secs_f64() * clock;
        let transit = arrival - f64::from(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = (transit - before).abs();
            if change < clock {
                self.jitter += (change - self.jitter) / 16.0;
            }
        }
    }

    /// The block of the report that is due; the next one counts from here.
    pub(super) fn block(&mut self, ssrc: u32, highest: u32, now: Instant) -> Reception {
        let expected = highest.wrapping_sub(self.first.unwrap_or(highest)).wrapping_add(1);
        let expected_now = expected.saturating_sub(self.expected_before);
        let received_now = self.received.saturating_sub(self.received_before);
        let lost_now = expected_now.saturating_sub(received_now);
        (self.expected_before, self.received_before) = (expected, self.received);
        let (last_report, delay) = match self.last_report {
            Some((ntp, at)) => (ntp, (now.duration_since(at).as_secs_f64() * 65_536.0) as u32),
            None => (0, 0),
        };
        Reception {
            ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or_default().min(255) as u8,
            total_lost: expected.wrapping_sub(self.received) as i32, // less than none after reordering at the start
            highest,
            jitter: self.jitter as u32,
            last_report,
            delay,
        }
    }
}
