//! Makes a schedule that fails smaller, as long as it fails: actions go by halves, by quarters, at last one
//! by one, then wires and relays that nothing needs, then areas and disks.

use std::collections::BTreeSet;

use super::{
    DiskQuality,
    schedule::{Action, Schedule},
};

/// Schedules tried, at most.
const TRIES: usize = 2000;

/// The smallest schedule found that `fails`; the first one has to.
pub fn shrink(schedule: Schedule, fails: impl Fn(&Schedule) -> bool) -> Schedule {
    let mut shrinking = Shrinking { best: schedule, tries: TRIES, fails };
    loop {
        let before = shrinking.best.clone();
        shrinking.actions();
        shrinking.wires();
        shrinking.relays();
        shrinking.areas();
        shrinking.disks();
        if shrinking.best == before || shrinking.tries == 0 {
            return shrinking.best;
        }
    }
}

struct Shrinking<F> {
    best: Schedule,
    tries: usize,
    fails: F,
}

impl<F: Fn(&Schedule) -> bool> Shrinking<F> {
    fn attempt(&mut self, candidate: Schedule) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        let fails = (self.fails)(&candidate);
        if fails {
            self.best = candidate;
        }
        fails
    }

    fn actions(&mut self) {
        let mut piece = self.best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let end = (at + piece).min(candidate.steps.len());
                candidate.steps.drain(at..end);
                if !self.attempt(candidate) {
                    at += piece;
                }
            }
            if piece == 1 {
                return;
            }
            piece = piece.div_ceil(2);
        }
    }

    fn wires(&mut self) {
        for wire in (0..self.best.wires.len()).rev() {
            let mut candidate = self.best.clone();
            candidate.wires.remove(wire);
            candidate.steps.retain_mut(|step| match &mut step.action {
                Action::Cut { wire: at }
                | Action::Silence { wire: at }
                | Action::Deafen { wire: at, .. }
                | Action::Heal { wire: at }
                | Action::Change { wire: at, .. } => {
                    let keep = *at != wire;
                    *at -= usize::from(*at > wire);
                    keep
                }
                _ => true,
            });
            self.attempt(candidate);
        }
    }

    /// The last relay goes if nothing is done there, or if things that are can go with it.
    fn relays(&mut self) {
        while self.best.relays > 2 {
            let last = self.best.relays - 1;
            if self.best.wires.iter().any(|(a, b, _)| *a == last || *b == last) {
                return;
            }
            let mut candidate = self.best.clone();
            candidate.relays = last;
            candidate.areas.truncate(last);
            candidate.disks.truncate(last);
            candidate.steps.retain_mut(|step| match &mut step.action {
                Action::Kill { relay }
                | Action::Start { relay }
                | Action::StartEmpty { relay }
                | Action::Fill { relay }
                | Action::Clear { relay }
                | Action::Damage { relay }
                | Action::Snapshot { relay }
                | Action::StartOlder { relay }
                | Action::Move { relay, .. }
                | Action::Stall { relay, .. }
                | Action::Publish { relay, .. }
                | Action::Unpublish { relay, .. }
                | Action::Append { relay } => *relay != last,
                Action::Want { relay, origin, .. } | Action::Unwant { relay, origin, .. } => {
                    *relay != last && *origin != last
                }
                Action::Part { side } => {
                    side.remove(&last);
                    side != &BTreeSet::new()
                }
                _ => true,
            });
            if !self.attempt(candidate) {
                return;
            }
        }
    }

    /// No areas at all, or each relay in area 0.
    fn areas(&mut self) {
        if self.best.areas.is_empty() {
            return;
        }
        if self.attempt(Schedule { areas: Vec::new(), ..self.best.clone() }) {
            return;
        }
        for relay in 0..self.best.areas.len() {
            let mut candidate = self.best.clone();
            if std::mem::take(&mut candidate.areas[relay]) != 0 {
                self.attempt(candidate);
            }
        }
    }

    /// No disks at all, or each relay with one that writes at once.
    fn disks(&mut self) {
        if self.best.disks.is_empty() || self.attempt(Schedule { disks: Vec::new(), ..self.best.clone() }) {
            return;
        }
        for relay in 0..self.best.disks.len() {
            let mut candidate = self.best.clone();
            if std::mem::take(&mut candidate.disks[relay]) != DiskQuality::default() {
                self.attempt(candidate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Quality, generate, schedule::Step};

    #[test]
    fn what_does_not_matter_goes() {
        let mut schedule = generate::schedule(7);
        schedule.steps.insert(5, Step { at_ms: 10, action: Action::Append { relay: 1 } });
        let fails = |schedule: &Schedule| {
            schedule.relays >= 3
                && schedule.steps.iter().any(|step| matches!(step.action, Action::Append { relay: 1 }))
        };
        assert!(fails(&schedule));
        let small = shrink(schedule, fails);
        assert_eq!((small.relays, small.steps.len(), small.wires.len()), (3, 1, 0));
    }

    #[test]
    fn wires_that_stay_keep_their_actions() {
        let wires = vec![(0, 1, Quality::default()), (1, 2, Quality::default())];
        let steps = vec![Step { at_ms: 1, action: Action::Cut { wire: 1 } }];
        let fails = |schedule: &Schedule| {
            schedule.steps.iter().any(|step| match step.action {
                Action::Cut { wire } => schedule.wires[wire].1 == 2,
                _ => false,
            })
        };
        let disks = vec![DiskQuality { delay_us: 5000, ..DiskQuality::default() }; 3];
        let small = shrink(Schedule { seed: 1, relays: 3, areas: vec![0, 1, 1], disks, wires, steps }, fails);
        assert_eq!((small.wires.len(), &small.steps[0].action), (1, &Action::Cut { wire: 0 }));
        assert!(small.areas.is_empty() && small.disks.is_empty(), "areas and disks did not matter");
    }
}
