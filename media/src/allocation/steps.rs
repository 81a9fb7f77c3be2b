//! When a picture gets another layer: worse at once, better step by step.
//!
//! What the link can carry is known only roughly. A picture that is too dear costs sound, so it goes at once. One that
//! could be better waits until that has been true for a while. Who stepped up too early waits longer the next time.

use std::time::{Duration, Instant};

use super::{Layer, Picture};

/// There must have been room for a step for so long. A probe has shown it by then, and after 20 s without one that did the
/// next comes within 8: together they leave a listener no more than 10 s behind its path. Who steps in vain waits longer.
const WAIT: Duration = Duration::from_secs(2);
/// After steps that failed, at most.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Who is down at the cheapest has most to win and takes least: beside somebody with more it is back before that one tries.
const WAIT_MAX_CHEAPEST: Duration = Duration::from_secs(12);
/// Between two steps up: the estimate has to hear what the first one did.
const BETWEEN: Duration = Duration::from_secs(2);
/// Both of them before anything went wrong: somebody has just come, and looks at it.
const AT_FIRST: Duration = Duration::from_secs(1);
/// A step down so soon after a step up says that this one was a mistake.
const FAILED_WITHIN: Duration = Duration::from_secs(10);
/// A step that held for so long was none: the wait is short again.
const HELD: Duration = Duration::from_secs(60);
/// If there is room again so soon after the picture stopped, this was a mistake: the queue was somebody else's. A wire that
/// became narrow and wide again takes longer.
const UNDONE: Duration = Duration::from_secs(2);
/// Beside others a link seems to become wider each time that they give way. That counts once in so long.
const FORGIVEN: Duration = Duration::from_secs(10);
/// What is to spare of a link before a picture gets better, in percent: rates swing by so much from second to second.
const SPARE: u64 = 15;
/// What is tried above that, in percent: probes measure a little less than there is, and what a step needs goes up and down
/// with the scene.
const TRIED: u64 = 4;

/// What a link has to carry before a step to this rate is taken: with something to spare.
pub fn spared(rate: u64) -> u64 {
    rate * (100 + SPARE) / 100
}

/// What is tried before such a step.
pub fn tried(rate: u64) -> u64 {
    rate * (100 + SPARE + TRIED) / 100
}

/// The steps of one picture to one listener, or over one link.
#[derive(Debug, Clone)]
pub struct Steps {
    current: Option<Layer>,
    /// Since when there is room for more.
    roomy_since: Option<Instant>,
    /// The last step, up or down.
    stepped: Option<Instant>,
    /// The last step up, until it is known whether it was right.
    up_at: Option<Instant>,
    /// When there was no room for any picture any more.
    ended: Option<Instant>,
    /// When steps that failed were last forgotten.
    forgiven_at: Option<Instant>,
    wait: Duration,
    between: Duration,
    /// The wish is another since it was looked last.
    wished: bool,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps {
            current: None,
            roomy_since: None,
            stepped: None,
            up_at: None,
            ended: None,
            forgiven_at: None,
            wait: AT_FIRST,
            between: AT_FIRST,
            wished: false,
        }
    }
}

impl Steps {
    /// What is sent now.
    pub fn current(&self) -> Option<Layer> {
        self.current
    }

    /// Encodings have changed places: what is sent has this number now. `None`: it has none any more, as far as is
    /// known.
    pub fn renumber(&mut self, encoding: Option<u8>) {
        if let (Some(layer), Some(encoding)) = (&mut self.current, encoding) {
            layer.encoding = encoding;
        }
    }

    /// The wish is another: what there is room for is given at once, and nothing that changes with it is a mistake.
    pub fn handle_wish(&mut self) {
        self.wished = true;
        self.up_at = None;
    }

    /// The link carries clearly more than it did: steps that failed say nothing any more.
    pub fn forgive(&mut self, now: Instant) {
        let lately = self.forgiven_at.is_some_and(|at| now.saturating_duration_since(at) < FORGIVEN);
        if !lately {
            self.wait = self.wait.min(WAIT);
            self.forgiven_at = Some(now);
        }
    }

    /// No picture is wished: nothing is sent.
    pub fn stop(&mut self) {
        self.current = None;
        self.ended = None;
        self.roomy_since = None;
    }

    /// The estimate, the rates or the wish may be others. `fits` is how many rungs of the picture are within the
    /// estimate ([`spend`](super::spend::spend)), `roomy` how many are with something to spare ([`spared`]). Gives what is to be
    /// sent from now on.
    pub fn handle(
        &mut self,
        picture: &Picture<'_>,
        fits: usize,
        roomy: usize,
        now: Instant,
    ) -> Option<Layer> {
        let rungs = picture.rungs;
        let fits = fits.min(rungs.len());
        let roomy = roomy.min(fits);
        if self.up_at.is_some_and(|up| now.saturating_duration_since(up) >= HELD) {
            (self.up_at, self.wait) = (None, WAIT);
        }
        let asked = std::mem::take(&mut self.wished);
        let there = self.current.and_then(|layer| rungs.iter().position(|rung| rung.layer == layer));
        let current = there.map_or(0, |at| at + 1);
        if let (Some(gone), None) = (self.current, there) {
            // It came to nothing at the publisher. What is nearest below goes on at once, else what there is above.
            let below = rungs.iter().filter(|rung| rung.layer < gone).count();
            self.turn(picture, below.max(1).min(fits), now);
        } else if fits < current {
            // A wish is no mistake of a step before it.
            let wished = picture.allowed().len() < current;
            let failed = !wished && !asked && self.fall(fits, now);
            self.turn(picture, fits, now);
            if failed {
                // What was undone a moment ago is not undone a second time.
                self.ended = None;
            }
        } else if (self.stepped.is_none() && roomy > 0) || (asked && roomy > current) {
            // The first picture of somebody who has just come, or what somebody asked for.
            self.turn(picture, roomy, now);
        } else if roomy > current {
            let since = *self.roomy_since.get_or_insert(now);
            let undone = self.ended.take_if(|ended| now.saturating_duration_since(*ended) < UNDONE);
            if undone.is_some() || now >= self.due(since) {
                self.turn(picture, current + 1, now);
                (self.roomy_since, self.up_at) = (Some(since), Some(now));
            }
        } else {
            self.roomy_since = None;
        }
        self.current
    }

    /// Whether the last step is so long ago.
    pub fn rested(&self, time: Duration, now: Instant) -> bool {
        self.stepped.is_none_or(|stepped| now.saturating_duration_since(stepped) > time)
    }

    /// When there will be a step up if nothing changes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.roomy_since.map(|since| self.due(since))
    }

    fn due(&self, since: Instant) -> Instant {
        let next = self.stepped.map(|stepped| stepped + self.between);
        next.map_or(since + self.wait, |next| next.max(since + self.wait))
    }

    /// The link did not carry what it was thought to. True if a step up shortly before was a mistake.
    fn fall(&mut self, to: usize, now: Instant) -> bool {
        self.between = BETWEEN;
        let failed = self.up_at.take().is_some_and(|up| now.saturating_duration_since(up) < FAILED_WITHIN);
        let most = if to <= 1 { WAIT_MAX_CHEAPEST } else { WAIT_MAX };
        self.wait = if failed { (2 * self.wait).clamp(2 * WAIT, most) } else { self.wait.max(WAIT) };
        failed
    }

    fn turn(&mut self, picture: &Picture<'_>, rungs: usize, now: Instant) {
        self.current = rungs.checked_sub(1).map(|top| picture.rungs[top].layer);
        self.ended = self.current.is_none().then_some(now);
        self.stepped = Some(now);
        self.roomy_since = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::allocation::Rung;
    use crate::rtp::descriptor::{SpatialLayer, TemporalLayer};

    const fn layer(encoding: u8) -> Layer {
        Layer { encoding, spatial: SpatialLayer(0), temporal: TemporalLayer(0) }
    }

    fn rungs() -> [Rung; 3] {
        [(0, 120_000), (1, 600_000), (2, 2_000_000)]
            .map(|(encoding, rate)| Rung { layer: layer(encoding), rate })
    }

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A picture, and the clock of the test.
    struct Field {
        rungs: Vec<Rung>,
        wish: Option<Layer>,
        steps: Steps,
        began: Instant,
        now: Instant,
    }

    impl Field {
        fn new() -> Field {
            let began = start();
            Field { rungs: rungs().to_vec(), wish: None, steps: Steps::default(), began, now: began }
        }

        /// So much is carried for so long; gives the seconds at which the picture became another, and which.
        fn run(&mut self, carried: usize, seconds: f64) -> Vec<(f64, Option<u8>)> {
            let until = self.now + Duration::from_secs_f64(seconds);
            let mut changes = Vec::new();
            while self.now < until {
                let before = self.steps.current();
                let picture = Picture { rungs: &self.rungs, wish: self.wish, wanted_by: 1 };
                let fits = carried.min(picture.allowed().len());
                let after = self.steps.handle(&picture, fits, fits, self.now);
                if after != before {
                    let at = self.now.duration_since(self.began).as_secs_f64();
                    changes.push(((at * 10.0).round() / 10.0, after.map(|layer| layer.encoding)));
                }
                self.now += Duration::from_millis(100);
            }
            changes
        }
    }

    #[test]
    fn who_comes_has_a_picture_at_once_and_the_best_soon() {
        assert_eq!(Field::new().run(3, 10.0), [(0.0, Some(2))]);
        let mut field = Field::new();
        assert_eq!(field.run(0, 1.0), []);
        assert_eq!(field.run(1, 1.0), [(1.0, Some(0))]);
        assert_eq!(field.run(3, 10.0), [(3.0, Some(1)), (4.0, Some(2))]);
    }

    #[test]
    fn down_is_at_once_and_up_is_one_step_after_another() {
        let mut field = Field::new();
        field.run(3, 20.0);
        assert_eq!(field.run(1, 20.0), [(20.0, Some(0))]);
        assert_eq!(field.run(3, 20.0), [(42.0, Some(1)), (44.0, Some(2))]);
        assert_eq!(field.run(0, 20.0), [(60.0, None)]);
        assert_eq!(field.run(1, 20.0), [(82.0, Some(0))]);
    }

    #[test]
    fn a_step_that_failed_is_tried_ever_more_seldom_and_one_that_held_is_forgiven() {
        let mut field = Field::new();
        field.run(3, 5.0);
        field.run(2, 5.0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let began = field.now;
            while field.steps.current() != Some(layer(2)) {
                field.run(3, 0.1);
            }
            waits.push(field.now.duration_since(began).as_secs());
            field.run(2, 3.0);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60]);
        field.run(3, 130.0);
        field.run(2, 3.0);
        let before = field.now;
        while field.steps.current() != Some(layer(2)) {
            field.run(3, 0.1);
        }
        assert_eq!(field.now.duration_since(before).as_secs(), 2);
    }

    #[test]
    fn an_encoding_that_is_gone_gives_way_to_the_next_below_and_else_above() {
        let mut field = Field::new();
        field.run(3, 5.0);
        field.rungs.remove(2);
        assert_eq!(field.run(3, 5.0), [(5.0, Some(1))]);
        field.rungs = vec![rungs()[2]];
        assert_eq!(field.run(3, 5.0), [(10.0, Some(2))]);
        field.rungs.clear();
        assert_eq!(field.run(3, 5.0), [(15.0, None)]);
        field.rungs = rungs().to_vec();
        assert_eq!(field.run(3, 10.0).last(), Some(&(23.0, Some(2))));
    }

    #[test]
    fn a_picture_that_was_stopped_by_mistake_is_back_at_once_but_not_again_and_again() {
        let mut field = Field::new();
        field.run(1, 30.0);
        assert_eq!(field.run(0, 1.0), [(30.0, None)]);
        assert_eq!(field.run(1, 1.0), [(31.0, Some(0))]);
        assert_eq!(field.run(0, 1.0), [(32.0, None)]);
        assert_eq!(field.run(1, 10.0), [(37.0, Some(0))], "the wait after a step that failed");
        assert_eq!(field.run(0, 3.0), [(43.0, None)]);
        assert_eq!(field.run(1, 1.0), [], "a wire that was too narrow for so long");
    }

    #[test]
    fn a_wish_is_followed_at_once_and_costs_no_waiting_later() {
        let mut field = Field::new();
        field.run(3, 5.0);
        field.wish = Some(layer(0));
        assert_eq!(field.run(3, 5.0), [(5.0, Some(0))]);
        field.wish = None;
        assert_eq!(field.run(3, 5.0), [(11.0, Some(1)), (12.0, Some(2))]);
    }

    #[test]
    fn what_is_wished_comes_at_once_where_there_is_room_and_is_no_step() {
        let mut field = Field::new();
        field.run(3, 5.0);
        field.wish = Some(layer(0));
        field.steps.handle_wish();
        assert_eq!(field.run(3, 5.0), [(5.0, Some(0))]);
        field.wish = None;
        field.steps.handle_wish();
        assert_eq!(field.run(3, 5.0), [(10.0, Some(2))]);
        // There is less room soon after: nobody stepped too early.
        field.run(2, 5.0);
        assert_eq!(field.run(3, 5.0), [(22.0, Some(2))]);
        // Without room it is a step like any other.
        field.wish = Some(layer(0));
        field.run(2, 5.0);
        field.wish = None;
        field.steps.handle_wish();
        assert_eq!(field.run(1, 3.0), []);
        assert_eq!(field.run(2, 5.0), [(35.0, Some(1))]);
        // No picture at all, and back.
        field.steps.stop();
        field.steps.handle_wish();
        assert_eq!(field.run(2, 1.0), [(38.0, Some(1))]);
    }

    #[test]
    fn capacity_that_swings_makes_few_changes() {
        let mut field = Field::new();
        field.run(3, 5.0);
        let changes: usize = (0..60).map(|second| field.run(2 + second % 2, 1.0).len()).sum();
        assert_eq!(changes, 1, "down once");
    }

    proptest! {
        #[test]
        fn never_more_than_fits_and_never_twice_up_in_a_second(
            carried in proptest::collection::vec((0usize..5, 1u64..3000), 1..100),
        ) {
            let (began, all) = (start(), rungs());
            let (mut now, mut steps, mut up) = (began, Steps::default(), None::<Instant>);
            for (carried, pause) in carried {
                let picture = Picture { rungs: &all, wish: None, wanted_by: 1 };
                let before = steps.current();
                let after = steps.handle(&picture, carried, carried, now);
                let rung = |layer: Option<Layer>| layer.map_or(0, |layer| usize::from(layer.encoding) + 1);
                prop_assert!(rung(after) <= carried);
                if rung(after) > rung(before) && before.is_some() {
                    prop_assert!(up.is_none_or(|up| now.duration_since(up) >= AT_FIRST));
                    prop_assert_eq!(rung(after), rung(before) + 1);
                    up = Some(now);
                }
                now += Duration::from_millis(pause);
            }
        }
    }
}
