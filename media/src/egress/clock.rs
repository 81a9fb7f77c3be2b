//! What a listener is told of time: sender reports (RFC 3550 section 6.4.1), and timestamps that go on from one source to
//! the next.

use std::time::{Duration, Instant};

use protocol::{Codec, Kind, mesh::SenderClock};

use super::{Egress, timeline::Timeline};
use crate::rtp::{packet::Packet, rtcp::Compound};

/// Of sender reports, once packets flow.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// By then the first packets have left: a report before them would say nothing.
const FIRST_REPORT: Duration = Duration::from_millis(20);
/// The clocks of two encodings say what their timestamps have in common. If that is further from when they came, the
/// clocks are wrong.
const CLOCKS_APART: f64 = 0.5;
/// Units of NTP's clock in a second.
const NTP_SECOND: f64 = 4_294_967_296.0;

impl Egress {
    /// When a sender report is due.
    pub fn report_at(&self) -> Option<Instant> {
        self.report_at
    }

    /// Appends a sender report to `out` if one is due: `clock` was true at `at`.
    pub fn poll_report(&mut self, clock: Option<(SenderClock, Instant)>, out: &mut Compound, now: Instant) {
        if self.report_at.is_none_or(|at| at > now) {
            return;
        }
        self.report_at = Some(now + REPORT_INTERVAL);
        if self.packets == 0 {
            return; // whoever cannot take the codec gets nothing, and no report of it
        }
        let (Some((clock, at)), Some(run)) = (clock, &self.run) else { return };
        let codec_clock = match self.kind {
            Kind::Audio => Codec::Opus.clock_rate(),
            Kind::Video => Codec::Vp8.clock_rate(),
        };
        let elapsed = now.saturating_duration_since(at).as_secs_f64();
        let clock = SenderClock {
            ntp: clock.ntp.wrapping_add((elapsed * NTP_SECOND) as u64),
            rtp: clock
                .rtp
                .wrapping_add((elapsed * f64::from(codec_clock)) as i64 as u32)
                .wrapping_add(run.timeline.offset()),
        };
        out.sender_report(self.ssrc, clock, self.packets, self.octets);
    }

    /// The first report goes out right after the first packets.
    pub fn report_soon(&mut self, now: Instant) {
        self.report_at.get_or_insert(now + FIRST_REPORT);
    }

    /// The times of a source that the listener catches up with from `first` on, while `live` is its newest packet.
    pub(super) fn catching_up(
        &self,
        [first, live]: [&Packet; 2],
        clocks: [Option<SenderClock>; 2],
        now: Instant,
    ) -> Timeline {
        let live_at = self.first_timestamp(live, clocks, now);
        match self.last {
            None => Timeline::new(live_at.wrapping_sub(live.timestamp)),
            Some(last) => Timeline::catching_up(
                [first.timestamp, live.timestamp],
                [last.timestamp, live_at],
                live.codec.clock_rate() / 100,
            ),
        }
    }

    /// The timestamp with which a source begins.
    pub(super) fn first_timestamp(
        &self,
        packet: &Packet,
        clocks: [Option<SenderClock>; 2],
        now: Instant,
    ) -> u32 {
        let Some(last) = self.last else { return packet.timestamp };
        let rate = f64::from(packet.codec.clock_rate());
        // The newest packet of a picture that is caught up with is not of this moment.
        let elapsed =
            (packet.received.min(now).saturating_duration_since(last.at).as_secs_f64() * rate) as u32;
        let mut timestamp = last.timestamp.wrapping_add(elapsed);
        if let ([Some(before), Some(after)], Some(run)) = (clocks, &self.run) {
            // the time at which the packet was taken, in the units of the source before
            let since = f64::from(packet.timestamp.wrapping_sub(after.rtp) as i32) / rate;
            let apart = after.ntp.wrapping_sub(before.ntp) as i64 as f64 / NTP_SECOND + since;
            let then =
                before.rtp.wrapping_add((apart * rate) as i64 as u32).wrapping_add(run.timeline.offset());
            if f64::from(then.wrapping_sub(timestamp) as i32).abs() <= CLOCKS_APART * rate {
                timestamp = then;
            }
        }
        // at least one frame further, or a receiver would take it for the same frame
        let least = packet.codec.clock_rate() / 100;
        match (timestamp.wrapping_sub(last.timestamp) as i32) < least as i32 {
            true => last.timestamp.wrapping_add(least),
            false => timestamp,
        }
    }
}
