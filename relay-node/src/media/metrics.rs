//! What a media worker has counted, as metrics: differences since the last time.

use media::{
    Mended, Reason, Stats,
    stats::{Bitrates, DelayHistogram, Traffic},
};
use metrics::{Histogram, counter, gauge, histogram};

use crate::drop_reason::DropReason;

const KINDS: [&str; 2] = ["audio", "video"];

/// Remembers what was published last.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    last: Stats,
}

impl WorkerMetrics {
    /// Adds what was counted since the last call.
    pub fn publish(&mut self, stats: &Stats) {
        let last = &self.last;
        for (kind, name) in KINDS.into_iter().enumerate() {
            traffic(stats.received[kind], last.received[kind], name, "in");
            traffic(stats.sent[kind], last.sent[kind], name, "out");
        }
        counter!("relay_rtp_lost_total", "direction" => "in").increment(stats.lost - last.lost);
        counter!("relay_rtp_mended_total", "direction" => "in").increment(stats.mended - last.mended);
        for (direction, name) in ["out", "in"].into_iter().enumerate() {
            let nacks = stats.nacks[direction] - last.nacks[direction];
            counter!("relay_nack_total", "direction" => name).increment(nacks);
            let requests = stats.keyframe_requests[direction] - last.keyframe_requests[direction];
            counter!("relay_pli_total", "direction" => name).increment(requests);
        }
        counter!("relay_repair_total").increment(stats.repairs - last.repairs);
        counter!("relay_repeat_total").increment(stats.repeats - last.repeats);
        counter!("relay_red_total").increment(stats.red - last.red);
        counter!("relay_probe_total").increment(stats.probes - last.probes);
        for (speed, name) in ["pace", "haste"].into_iter().enumerate() {
            let paced = stats.paced[speed] - last.paced[speed];
            counter!("relay_paced_packets_total", "speed" => name).increment(paced);
        }
        for (direction, name) in ["up", "down"].into_iter().enumerate() {
            for reason in Reason::ALL.into_iter().filter(|reason| *reason != Reason::Best) {
                let now = stats.switches[direction][reason as usize];
                let switches = now - last.switches[direction][reason as usize];
                counter!("relay_video_switch_total", "direction" => name, "reason" => reason.label())
                    .increment(switches);
            }
        }
        for reason in [Reason::Link, Reason::Wish] {
            let pauses = stats.pauses[reason as usize] - last.pauses[reason as usize];
            counter!("relay_video_pause_total", "reason" => reason.label()).increment(pauses);
        }
        counter!("relay_video_thinned_total").increment(stats.thinned - last.thinned);
        for (name, now, before) in [
            ("relay_listener_estimate_bits_per_second", &stats.estimates, &last.estimates),
            ("relay_listener_allocated_bits_per_second", &stats.allocated, &last.allocated),
        ] {
            record(&histogram!(name), (&now.buckets, &before.buckets), (&Bitrates::BOUNDS, f64::MAX));
        }
        for (reason, count) in &stats.drops {
            let before = last.drops.get(reason).copied().unwrap_or_default();
            counter!("relay_drop_total", "reason" => reason.label()).increment(count - before);
        }
        for (kind, now, before) in
            [("ingest", stats.publishers, last.publishers), ("egress", stats.listeners, last.listeners)]
        {
            gauge!("relay_sessions", "kind" => kind).increment(now as f64 - before as f64);
        }
        for (rung, name) in ["low", "mid", "high"].into_iter().enumerate() {
            gauge!("relay_audio_listeners", "rung" => name)
                .increment(stats.hearing[rung] as f64 - last.hearing[rung] as f64);
        }
        for mended in Mended::ALL {
            let (now, last) = (stats.mending[mended as usize], last.mending[mended as usize]);
            gauge!("relay_audio_mended_listeners", "mending" => mended.label())
                .increment(now as f64 - last as f64);
        }
        let delay = histogram!("relay_forward_delay_seconds");
        record(&delay, (&stats.delay.buckets, &last.delay.buckets), (&DelayHistogram::BOUNDS, 1.0));
        self.last = stats.clone();
    }

    /// Datagrams that the kernel would not take.
    pub fn dropped_by_kernel(&self, count: usize) {
        if count > 0 {
            DropReason::SendRefused.count_all(count as u64);
        }
    }
}

/// Adds what was counted since the last call to a histogram. The upper bound stands for each bucket, and `above` for the one
/// without: never better than it was.
fn record(histogram: &Histogram, (now, before): (&[u64], &[u64]), (bounds, above): (&[f64], f64)) {
    let bounds = bounds.iter().copied().chain([above]);
    for ((now, before), bound) in now.iter().zip(before).zip(bounds) {
        if now > before {
            histogram.record_many(bound, (now - before) as usize);
        }
    }
}

fn traffic(now: Traffic, before: Traffic, kind: &'static str, direction: &'static str) {
    counter!("relay_rtp_packets_total", "kind" => kind, "direction" => direction)
        .increment(now.packets - before.packets);
    counter!("relay_rtp_bytes_total", "kind" => kind, "direction" => direction)
        .increment(now.octets - before.octets);
}
