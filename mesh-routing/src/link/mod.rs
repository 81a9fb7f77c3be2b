//! One link: its neighbor, what it runs over, what was measured on it, what it costs, what was counted on
//! it. Whether it is alive is decided in `detector.rs`, what of it is told when in `damping.rs`, which parity is asked for
//! on it in `protection.rs`.

pub(crate) mod damping;
pub mod detector;
pub mod neighbor;
pub mod peer_selection;
pub mod protection;

use std::time::{Duration, Instant};

use protocol::{BridgeVersion, NodeId, parity::Protection};

use crate::{
    link::{
        damping::{DampedMetric, Figures, Flaps},
        detector::{Detector, State},
        protection::{Asking, Heard},
    },
    wire::{
        lsa::Edge,
        metric::{Capacity, Rate, Underlay},
    },
};

/// What is known of a link of this relay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkFigures {
    /// What it runs over.
    pub underlay: Underlay,
    /// The bridge version that both ends use.
    pub version: BridgeVersion,
    /// The smoothed round trip.
    pub rtt: Duration,
    /// The shortest of the last half minute or more.
    pub min_rtt: Duration,
    /// How much the round trip varies.
    pub jitter: Duration,
    /// Share of packets lost, 0 to 1.
    pub loss: f32,
    /// What it is thought to carry.
    pub capacity: Capacity,
    /// What it costs now, in quarters of a millisecond.
    pub cost: u16,
    /// What the mesh was told that it costs.
    pub told: u16,
    /// What it pays for having flapped, part of the cost.
    pub penalty: u16,
    /// How soon this end wants to know that it is gone.
    pub rate: Rate,
}

/// What was counted on a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Messages taken.
    pub received: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages dropped with a [`crate::MeshError`].
    pub refused: u64,
    /// LSAs and log records that were here already.
    pub duplicates: u64,
    /// Times the link became suspect.
    pub suspected: u64,
}

/// What each hop costs besides its delay, in quarters of a millisecond: of two ways of one length the one with fewer relays
/// has fewer of them to fail. Also the least cost, so that no edge is free.
const HOP: u32 = 4;
/// What a metered link costs besides, in quarters of a millisecond: a way of 100 ms more is preferred.
const METERED: u32 = 400;
/// Loss in per cent, and what it costs in quarters of a millisecond, linear between: a link that loses a fifth is taken
/// only if there is no other.
const LOSS_PENALTY: [(f32, f32); 5] = [(0.0, 0.0), (1.0, 8.0), (5.0, 60.0), (20.0, 480.0), (100.0, 4000.0)];

/// The shortest round trip is that of the last one or two of these.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(30);
/// Time constants of the two averages of loss, in seconds. The higher one counts: bad is believed soon, good late.
const LOSS_FAST: f32 = 1.0;
const LOSS_SLOW: f32 = 10.0;

#[derive(Debug)]
pub(crate) struct Link {
    pub neighbor: NodeId,
    pub underlay: Underlay,
    /// Which run of the neighbor it is, if it says so.
    pub incarnation: Option<u64>,
    /// What a later version brought does not leave here.
    pub version: BridgeVersion,
    pub detector: Detector,
    pub counters: LinkCounters,
    pub flaps: Flaps,
    /// Since when the driver has it.
    pub since: Instant,
    /// Messages it got wrong since patience began.
    pub wrong: u32,
    measured: Option<Measured>,
    /// In bits per second.
    capacity: Option<u64>,
    news: DampedMetric,
    asking: Asking,
}

/// The driver's measurements, smoothed.
#[derive(Debug)]
struct Measured {
    at: Instant,
    srtt: Duration,
    jitter: Duration,
    /// The shortest of this window and of the one before.
    shortest: (Duration, Duration),
    window: Instant,
    loss: (f32, f32),
}

impl Link {
    /// A link that has just come up, with the history it had before.
    pub fn new(
        neighbor: NodeId,
        (underlay, version): (Underlay, BridgeVersion),
        flaps: Flaps,
        now: Instant,
    ) -> Link {
        let detector = if flaps.flapping(now) { Detector::doubtful(now) } else { Detector::new(now) };
        Link {
            neighbor,
            underlay,
            incarnation: None,
            version,
            detector,
            counters: LinkCounters::default(),
            flaps,
            since: now,
            wrong: 0,
            measured: None,
            capacity: None,
            news: DampedMetric::default(),
            asking: Asking::default(),
        }
    }

    pub fn state(&self) -> State {
        self.detector.state()
    }

    /// Takes a measurement of the driver; out of range is brought into range.
    pub fn measure(&mut self, rtt: Duration, loss: f32, now: Instant) {
        let rtt = rtt.min(Duration::from_secs(10));
        let loss = if loss.is_finite() { loss.clamp(0.0, 1.0) } else { 0.0 };
        let Some(known) = &mut self.measured else {
            self.measured = Some(Measured {
                at: now,
                srtt: rtt,
                jitter: Duration::ZERO,
                shortest: (rtt, rtt),
                window: now,
                loss: (loss, loss),
            });
            return;
        };
        let past = now.saturating_duration_since(std::mem::replace(&mut known.at, now)).as_secs_f32();
        known.jitter = (known.jitter * 3 + known.srtt.abs_diff(rtt)) / 4;
        known.srtt = (known.srtt * 7 + rtt) / 8;
        if now >= known.window + MIN_RTT_WINDOW {
            (known.shortest, known.window) = ((rtt, known.shortest.0), now);
        }
        known.shortest.0 = known.shortest.0.min(rtt);
        known.loss.0 = toward(known.loss.0, loss, past, LOSS_FAST);
        known.loss.1 = toward(known.loss.1, loss, past, LOSS_SLOW);
    }

    /// Takes the driver's thought of what it carries, in bits per second.
    pub fn think(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
    }

    /// Takes what came of sound and of pictures so far. The parity to ask for from now on, if it is another.
    pub fn handle_media_heard(&mut self, heard: [Heard; 2], now: Instant) -> Option<Protection> {
        let round_trip = (self.rtt(), self.min_rtt());
        self.asking.handle_heard(heard, round_trip, now)
    }

    /// The smoothed round trip: the driver's, else the probes'.
    pub fn rtt(&self) -> Duration {
        self.measured.as_ref().map(|known| known.srtt).or(self.detector.rtt()).unwrap_or_default()
    }

    /// The shortest round trip of the last 30 to 60 s: the link without its queues.
    fn min_rtt(&self) -> Duration {
        self.measured.as_ref().map_or(self.rtt(), |known| known.shortest.0.min(known.shortest.1))
    }

    /// How much the round trip varies.
    fn jitter(&self) -> Duration {
        self.measured.as_ref().map_or(Duration::ZERO, |known| known.jitter)
    }

    /// Bad is believed after a second, good after ten.
    pub fn loss(&self) -> f32 {
        self.measured.as_ref().map_or(0.0, |known| known.loss.0.max(known.loss.1))
    }

    /// What it is thought to carry.
    pub fn capacity(&self) -> Capacity {
        self.capacity.map_or(Capacity::default(), Capacity::of)
    }

    /// Offers the present figures to be told. Says whether they are told from now on.
    pub fn retell(&mut self, now: Instant) -> bool {
        if self.measured.is_none() && self.detector.rtt().is_none() {
            return false;
        }
        let figures = self.figures(now);
        self.news.offer(figures, now)
    }

    /// When [`Link::retell`] has something to say if nothing changes.
    pub fn poll_timeout(&self) -> Instant {
        self.news
            .poll_timeout()
            .map_or(self.detector.poll_timeout(), |at| at.min(self.detector.poll_timeout()))
    }

    /// Everything there is to say of it.
    pub fn view(&self, now: Instant) -> LinkFigures {
        LinkFigures {
            underlay: self.underlay,
            version: self.version,
            rtt: self.rtt(),
            min_rtt: self.min_rtt(),
            jitter: self.jitter(),
            loss: self.loss(),
            capacity: self.capacity(),
            cost: self.figures(now).cost,
            told: self.edge().cost,
            penalty: self.flaps.penalty(now),
            rate: self.detector.rate(),
        }
    }

    fn figures(&self, now: Instant) -> Figures {
        let (rtt, loss) = (self.rtt(), self.loss());
        let metered = if self.underlay.metered { METERED } else { 0 };
        let more = u32::from(self.underlay.bias) + u32::from(self.flaps.penalty(now)) + metered;
        Figures { cost: cost(rtt, loss, more), rtt, loss, capacity: self.capacity() }
    }

    /// The told figures as an edge.
    pub fn edge(&self) -> Edge {
        let told = self.news.told();
        Edge {
            neighbor: self.neighbor,
            cost: told.cost.max(HOP as u16),
            rtt_us: u32::try_from(told.rtt.as_micros()).unwrap_or(u32::MAX),
            loss: (told.loss * f32::from(u16::MAX)) as u16,
            capacity: told.capacity,
        }
    }
}

/// An average that forgets with a time constant, in seconds.
fn toward(old: f32, new: f32, past: f32, constant: f32) -> f32 {
    new + (old - new) * (-past / constant).exp()
}

/// Half the round trip in quarters of a millisecond (the queue on the path is in it), something for the hop,
/// something for the loss, and `more`.
pub(crate) fn cost(rtt: Duration, loss: f32, more: u32) -> u16 {
    let delay = u32::try_from(rtt.as_micros() / 500).unwrap_or(u32::MAX);
    let percent = loss * 100.0;
    let penalty = LOSS_PENALTY.windows(2).find(|pair| percent <= pair[1].0).map_or(4000.0, |pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        y0 + (y1 - y0) * (percent - x0) / (x1 - x0)
    });
    let sum = delay.saturating_add(HOP).saturating_add(penalty as u32).saturating_add(more);
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::epoch;

    const MS: Duration = Duration::from_millis(1);

    fn link(underlay: Underlay) -> Link {
        Link::new(NodeId([1; 32]), (underlay, BridgeVersion::FIRST), Flaps::default(), epoch())
    }

    #[test]
    fn cost_grows_with_delay_and_loss() {
        let plain = |rtt, loss| cost(rtt, loss, 0);
        assert_eq!(plain(Duration::ZERO, 0.0), 4);
        assert_eq!(plain(MS * 10, 0.0), 24);
        assert_eq!(plain(Duration::ZERO, 0.01), 12);
        assert_eq!(plain(Duration::ZERO, 0.05), 64);
        assert_eq!(cost(Duration::ZERO, 0.0, 7), 11);
        assert_eq!(plain(Duration::from_secs(1000), 1.0), u16::MAX);
    }

    #[test]
    fn a_metered_link_costs_more_than_a_long_one() {
        let now = epoch();
        let mut metered = link(Underlay { metered: true, ..Underlay::default() });
        let mut long = link(Underlay::default());
        metered.measure(MS * 2, 0.0, now);
        long.measure(MS * 150, 0.0, now);
        assert!(metered.view(now).cost > long.view(now).cost);
    }

    #[test]
    fn the_shortest_round_trip_is_remembered_for_half_a_minute() {
        let start = epoch();
        let mut link = link(Underlay::default());
        for step in 0..280 {
            let rtt = if step == 0 { MS * 4 } else { MS * 20 };
            link.measure(rtt, 0.0, start + MS * 250 * step);
            let expected = if step < 240 { MS * 4 } else { MS * 20 };
            assert_eq!(link.min_rtt(), expected, "step {step}");
        }
        assert!(link.rtt() > MS * 19 && link.jitter() < MS);
    }

    #[test]
    fn loss_is_believed_soon_and_forgotten_late() {
        let start = epoch();
        let mut link = link(Underlay::default());
        let measure = |link: &mut Link, loss, from: u32, steps: u32| {
            for step in from..from + steps {
                link.measure(Duration::ZERO, loss, start + MS * 250 * step);
            }
        };
        measure(&mut link, 0.0, 0, 4);
        measure(&mut link, 0.1, 4, 4);
        assert!(link.loss() > 0.06, "{}", link.loss());
        measure(&mut link, 0.0, 8, 4);
        assert!(link.loss() > 0.008, "{}", link.loss());
        measure(&mut link, 0.0, 12, 160);
        assert!(link.loss() < 0.001, "{}", link.loss());
    }
}
