//! What a link counts and what quinn measures of it.

use std::{collections::VecDeque, time::Duration};

use metrics::{Counter, counter};
use quinn::ConnectionStats;

use crate::drop_reason::DropReason;

/// How often a link reports.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);
/// Reports over which loss is averaged: 2 s.
const REPORTS: usize = 8;

/// Counters looked up once; the packet path only adds to them.
pub(crate) struct Counters {
    pub malformed: Counter,
    pub unknown_alias: Counter,
    pub track_left: Counter,
    pub unknown_kind: Counter,
    pub too_large: Counter,
    pub duplicate: Counter,
    pub too_old: Counter,
    pub second_feed: Counter,
    pub queue_full: Counter,
    pub link_down: Counter,
    pub outbox_full: Counter,
    pub repair_late: Counter,
    pub parity_malformed: Counter,
    pub parity_absent: Counter,
    /// Of sound and of pictures.
    pub fec: [Fec; 2],
    pub nacks: Counter,
    pub lost: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
}

impl Counters {
    pub fn new() -> Counters {
        Counters {
            malformed: DropReason::BridgeMalformed.counter(),
            unknown_alias: DropReason::BridgeUnknownAlias.counter(),
            track_left: DropReason::BridgeTrackLeft.counter(),
            unknown_kind: DropReason::BridgeUnknownDatagram.counter(),
            too_large: DropReason::BridgeTooLarge.counter(),
            duplicate: DropReason::BridgeDuplicate.counter(),
            too_old: DropReason::BridgeTooOld.counter(),
            second_feed: DropReason::BridgeSecondFeed.counter(),
            queue_full: DropReason::BridgeQueueFull.counter(),
            link_down: DropReason::BridgeLinkDown.counter(),
            outbox_full: DropReason::BridgeOutboxFull.counter(),
            repair_late: DropReason::BridgeRepairLate.counter(),
            parity_malformed: DropReason::BridgeParityMalformed.counter(),
            parity_absent: DropReason::BridgeParityAbsent.counter(),
            fec: [Fec::new("audio"), Fec::new("video")],
            nacks: counter!("relay_nack_total", "direction" => "bridge"),
            lost: counter!("relay_rtp_lost_total", "direction" => "bridge"),
            bytes_in: counter!("relay_bridge_bytes_total", "direction" => "in"),
            bytes_out: counter!("relay_bridge_bytes_total", "direction" => "out"),
        }
    }
}

/// What becomes of parity.
pub(crate) struct Fec {
    /// Sent to neighbors.
    pub sent: Counter,
    /// Bytes of these.
    pub bytes: Counter,
    /// Packets that it brought back.
    pub recovered: Counter,
    /// Packets that it brought when they had come by themselves, or were too old.
    pub late: Counter,
    /// Parity that brought nothing: nothing was missing, or too much.
    pub useless: Counter,
}

impl Fec {
    fn new(kind: &'static str) -> Fec {
        let of = |outcome: &'static str| counter!("relay_fec_total", "kind" => kind, "outcome" => outcome);
        Fec {
            sent: of("sent"),
            bytes: counter!("relay_fec_bytes_total", "kind" => kind),
            recovered: of("recovered"),
            late: of("late"),
            useless: of("useless"),
        }
    }
}

/// Turns quinn's running totals into rates.
#[derive(Default)]
pub(crate) struct Meter {
    last: (u64, u64, u64, u64),
    window: VecDeque<(u64, u64)>,
}

/// One report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measurement {
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// 0 to 1, of the packets this relay sent.
    pub loss: f32,
}

impl Meter {
    pub fn read(&mut self, stats: &ConnectionStats) -> Measurement {
        let now = (stats.udp_rx.bytes, stats.udp_tx.bytes, stats.path.sent_packets, stats.path.lost_packets);
        let last = std::mem::replace(&mut self.last, now);
        if self.window.len() == REPORTS {
            self.window.pop_front();
        }
        self.window.push_back((now.2.saturating_sub(last.2), now.3.saturating_sub(last.3)));
        let sent: u64 = self.window.iter().map(|(sent, _)| sent).sum();
        let lost: u64 = self.window.iter().map(|(_, lost)| lost).sum();
        Measurement {
            bytes_in: now.0.saturating_sub(last.0),
            bytes_out: now.1.saturating_sub(last.1),
            loss: (lost as f32 / sent.max(1) as f32).min(1.0),
        }
    }
}
