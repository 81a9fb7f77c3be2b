//! One link: its neighbor, what was measured on it, what it costs, what was counted on it.
//! Whether it is alive is decided in `detector.rs`.

use std::time::{Duration, Instant};

use protocol::NodeId;

use crate::{
    detector::{Detector, State},
    link_state::Edge,
};

/// A link to a neighbor, numbered by the driver and never numbered so again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u32);

/// What was counted on a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Messages taken.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages dropped with a [`crate::MeshError`].
    pub refused: u64,
    /// Link-state records and log records that were here already.
    pub duplicates: u64,
    /// Times the link became suspect.
    pub suspected: u64,
}

/// What each hop costs besides its delay, in quarters of a millisecond.
const HOP: u32 = 4;
/// Loss in per cent, and what it costs in quarters of a millisecond.
const LOSS_PENALTY: [(f32, f32); 5] = [(0.0, 0.0), (1.0, 8.0), (5.0, 60.0), (20.0, 480.0), (100.0, 4000.0)];

#[derive(Debug)]
pub(crate) struct Link {
    pub neighbor: NodeId,
    pub detector: Detector,
    pub counters: LinkCounters,
    /// Messages it got wrong since patience began.
    pub wrong: u32,
    measured: Option<Duration>,
    loss: f32,
    /// What the mesh was told last.
    told: (Duration, f32),
}

impl Link {
    pub fn new(neighbor: NodeId, now: Instant) -> Link {
        Link {
            neighbor,
            detector: Detector::new(now),
            counters: LinkCounters::default(),
            wrong: 0,
            measured: None,
            loss: 0.0,
            told: (Duration::ZERO, 0.0),
        }
    }

    pub fn state(&self) -> State {
        self.detector.state()
    }

    /// Takes a measurement of the driver; out of range is brought into range.
    pub fn measure(&mut self, rtt: Duration, loss: f32) {
        let rtt = rtt.min(Duration::from_secs(10));
        self.measured = Some(self.measured.map_or(rtt, |old| (old * 7 + rtt) / 8));
        let loss = if loss.is_finite() { loss.clamp(0.0, 1.0) } else { 0.0 };
        self.loss = (self.loss * 7.0 + loss) / 8.0;
    }

    fn rtt(&self) -> Duration {
        self.measured.or(self.detector.rtt()).unwrap_or_default()
    }

    /// Takes the present figures as those to tell, if they are news: more than 20 % and 2 ms apart, or a
    /// different loss. Says whether they were.
    pub fn retell(&mut self) -> bool {
        let (rtt, loss) = (self.rtt(), self.loss);
        let apart = self.told.0.abs_diff(rtt);
        let rtt_news = apart > Duration::from_millis(2) && apart > self.told.0.max(rtt) / 5;
        let loss_news =
            (loss - self.told.1).abs() > 0.01 && (loss - self.told.1).abs() > 0.2 * loss.max(self.told.1);
        if rtt_news || loss_news {
            self.told = (rtt, loss);
        }
        rtt_news || loss_news
    }

    /// The told figures as an edge.
    pub fn edge(&self) -> Edge {
        Edge {
            neighbor: self.neighbor,
            cost: cost(self.told.0, self.told.1),
            rtt_us: u32::try_from(self.told.0.as_micros()).unwrap_or(u32::MAX),
            loss: (self.told.1 * f32::from(u16::MAX)) as u16,
        }
    }
}

/// Half the round trip in quarters of a millisecond, something for the hop, something for the loss.
pub(crate) fn cost(rtt: Duration, loss: f32) -> u16 {
    let delay = u32::try_from(rtt.as_micros() / 500).unwrap_or(u32::MAX);
    let percent = loss * 100.0;
    let penalty = LOSS_PENALTY.windows(2).find(|pair| percent <= pair[1].0).map_or(4000.0, |pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        y0 + (y1 - y0) * (percent - x0) / (x1 - x0)
    });
    u16::try_from(delay.saturating_add(HOP).saturating_add(penalty as u32)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_grows_with_delay_and_loss() {
        assert_eq!(cost(Duration::ZERO, 0.0), 4);
        assert_eq!(cost(Duration::from_millis(10), 0.0), 24);
        assert_eq!(cost(Duration::ZERO, 0.01), 12);
        assert_eq!(cost(Duration::ZERO, 0.05), 64);
        assert_eq!(cost(Duration::from_secs(1000), 1.0), u16::MAX);
    }

    #[test]
    fn small_changes_are_not_told() {
        let mut link = Link::new(NodeId([1; 32]), crate::sim::epoch());
        link.measure(Duration::from_millis(10), 0.0);
        assert!(link.retell());
        link.measure(Duration::from_millis(12), 0.0);
        assert!(!link.retell());
    }
}
