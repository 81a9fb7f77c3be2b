//! What happens to a mesh, as data: a mesh, and timed actions. Any action may be left out and the rest still
//! makes sense, so that a schedule that fails can be made smaller (`shrink.rs`) and kept as JSON.

use std::{
    cell::Cell,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::Duration,
};

use protocol::{
    Kind, StreamName,
    mesh::{MAX_RUNGS, StreamTrack, TrackKey},
};
use serde::{Deserialize, Serialize};

use super::{Condition, DiskQuality, ENCODINGS, Quality, SOUND, Sim, check, node, random::Random};
use crate::AreaId;

/// A mesh has to be right so long after the last thing happened.
pub const SETTLED_BY: Duration = Duration::from_secs(25);

/// One thing that happens. Relays and wires by index; a stream by its origin and a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Both drivers know at once that a wire is gone.
    Cut {
        /// Which.
        wire: usize,
    },
    /// A wire carries nothing, and nobody says so.
    Silence {
        /// Which.
        wire: usize,
    },
    /// A wire carries nothing to one end.
    Deafen {
        /// Which.
        wire: usize,
        /// 0 or 1.
        end: usize,
    },
    /// A wire works again.
    Heal {
        /// Which.
        wire: usize,
    },
    /// A wire becomes another one.
    Change {
        /// Which.
        wire: usize,
        /// What it does from now on.
        quality: Quality,
    },
    /// The relay at one end of a wire learns what it carries.
    Narrow {
        /// Which.
        wire: usize,
        /// 0 or 1.
        end: usize,
        /// In bits per second; 0 if it does not know any more.
        rate: u64,
    },
    /// Every wire between these relays and the others falls silent.
    Part {
        /// One side.
        side: BTreeSet<usize>,
    },
    /// Every wire works again.
    Merge,
    /// A relay loses its power.
    Kill {
        /// Which.
        relay: usize,
    },
    /// It has power again.
    Start {
        /// Which.
        relay: usize,
    },
    /// It has power again, and an empty disk.
    StartEmpty {
        /// Which.
        relay: usize,
    },
    /// Its disk is full.
    Fill {
        /// Which.
        relay: usize,
    },
    /// There is room on its disk again.
    Clear {
        /// Which.
        relay: usize,
    },
    /// A bit flips in one of the records on its disk.
    Damage {
        /// Which.
        relay: usize,
    },
    /// Somebody copies what is on its disk.
    Snapshot {
        /// Which.
        relay: usize,
    },
    /// It has power again, and the disk as it was copied: an older one.
    StartOlder {
        /// Which.
        relay: usize,
    },
    /// It is in another area when it starts the next time.
    Move {
        /// Which.
        relay: usize,
        /// Which area.
        area: u16,
    },
    /// Its driver does nothing for a while.
    Stall {
        /// Which.
        relay: usize,
        /// For so long.
        ms: u64,
    },
    /// A stream begins.
    Publish {
        /// Where.
        relay: usize,
        /// Which: of three the first is sound, the second a picture, the third a picture in encodings.
        stream: usize,
    },
    /// A stream ends.
    Unpublish {
        /// Where.
        relay: usize,
        /// Which: of three the first is sound, the second a picture, the third a picture in encodings.
        stream: usize,
    },
    /// Somebody listens.
    Want {
        /// Where.
        relay: usize,
        /// To what: published there.
        origin: usize,
        /// Which: of three the first is sound, the second a picture, the third a picture in encodings.
        stream: usize,
    },
    /// Nobody listens any more.
    Unwant {
        /// Where.
        relay: usize,
        /// To what: published there.
        origin: usize,
        /// Which: of three the first is sound, the second a picture, the third a picture in encodings.
        stream: usize,
    },
    /// Somebody writes something.
    Append {
        /// Where.
        relay: usize,
    },
}

impl Action {
    /// The relays and wires it names.
    fn about(&self) -> (Vec<usize>, Vec<usize>) {
        match self {
            Action::Cut { wire }
            | Action::Silence { wire }
            | Action::Deafen { wire, .. }
            | Action::Narrow { wire, .. }
            | Action::Heal { wire }
            | Action::Change { wire, .. } => (Vec::new(), vec![*wire]),
            Action::Part { .. } | Action::Merge => (Vec::new(), Vec::new()),
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
            | Action::Append { relay } => (vec![*relay], Vec::new()),
            Action::Want { relay, origin, .. } | Action::Unwant { relay, origin, .. } => {
                (vec![*relay, *origin], Vec::new())
            }
        }
    }
}

/// An action and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Since the relays were switched on, in milliseconds.
    pub at_ms: u64,
    /// What happens.
    pub action: Action,
}

/// A mesh and what happens to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Of everything that is drawn by lot while it runs.
    pub seed: u64,
    /// How many.
    pub relays: usize,
    /// The area of each; all are in area 0 if it is empty.
    #[serde(default)]
    pub areas: Vec<u16>,
    /// The disk of each; all write at once and always if it is empty.
    #[serde(default)]
    pub disks: Vec<DiskQuality>,
    /// From, to, and what it does.
    pub wires: Vec<(usize, usize, Quality)>,
    /// In order of time.
    pub steps: Vec<Step>,
}

/// What came of a schedule that went well.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// From the last action until everything was right.
    pub settled: Duration,
    /// Messages that crossed a wire.
    pub messages: u64,
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

impl Schedule {
    /// Whether its numbers name relays and wires that are there.
    ///
    /// # Errors
    ///
    /// The first step or wire that names what is not there.
    pub fn check(&self) -> Result<(), String> {
        if !self.areas.is_empty() && self.areas.len() != self.relays {
            return Err(format!("areas: {} of them for {} relays", self.areas.len(), self.relays));
        }
        if !self.disks.is_empty() && self.disks.len() != self.relays {
            return Err(format!("disks: {} of them for {} relays", self.disks.len(), self.relays));
        }
        for (index, (a, b, _)) in self.wires.iter().enumerate() {
            if a == b || *a.max(b) >= self.relays {
                return Err(format!("wires[{index}]: no wire can join {a} and {b}"));
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let (relays, wires) = step.action.about();
            let there = relays.iter().all(|relay| *relay < self.relays)
                && wires.iter().all(|wire| *wire < self.wires.len());
            if !there {
                return Err(format!("steps[{index}]: no such relay or wire"));
            }
        }
        Ok(())
    }

    /// Plays it.
    ///
    /// # Errors
    ///
    /// The invariant that broke, in the words of its panic.
    pub fn play(&self) -> Result<Outcome, String> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if !QUIET.get() {
                    usual(panic);
                }
            }));
        });
        QUIET.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.run()));
        QUIET.set(false);
        outcome.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
        })
    }

    fn run(&self) -> Outcome {
        let mut sim = Sim::with_wires(self.relays, &self.wires, Random::new(self.seed));
        for (relay, area) in sim.relays.iter_mut().zip(&self.areas) {
            relay.area = AreaId(*area);
        }
        for (relay, quality) in self.disks.iter().enumerate() {
            sim.set_disk(relay, *quality);
        }
        (0..self.relays).for_each(|relay| sim.start(relay));
        for Step { at_ms, action } in &self.steps {
            let at = Duration::from_millis(*at_ms);
            sim.run(at.saturating_sub(sim.elapsed()));
            sim.act(action);
        }
        let settled = check::settle(&mut sim, SETTLED_BY);
        check::nobody_is_mute(&mut sim, SETTLED_BY);
        Outcome { settled, messages: sim.messages.0 }
    }
}

/// The key of a numbered stream.
pub fn track(origin: usize, stream: usize) -> TrackKey {
    TrackKey { origin: node(origin), stream: name(origin, stream), track: whole(stream) }
}

/// What somebody at a relay listens to: of a picture in encodings another one at each, and of a sound in rungs.
fn wanted(relay: usize, origin: usize, stream: usize) -> TrackKey {
    let track = match whole(stream) {
        StreamTrack::Audio if in_rungs(origin) && relay % SOUND.len() < MAX_RUNGS => {
            StreamTrack::Rung((relay % SOUND.len()) as u8)
        }
        StreamTrack::Video if in_encodings(stream) => StreamTrack::Encoding((relay % ENCODINGS.len()) as u8),
        whole => whole,
    };
    TrackKey { track, ..self::track(origin, stream) }
}

fn whole(stream: usize) -> StreamTrack {
    StreamTrack::of(if stream.is_multiple_of(3) { Kind::Audio } else { Kind::Video })
}

/// Every second relay makes rungs of its sounds.
fn in_rungs(origin: usize) -> bool {
    origin % 2 == 1
}

fn in_encodings(stream: usize) -> bool {
    stream % 3 == 2
}

fn name(origin: usize, stream: usize) -> StreamName {
    StreamName::new(format!("stage-{origin}-{stream}")).expect("a good name")
}

impl Sim {
    /// Does what an action says; what makes no sense at the moment is left out.
    pub fn act(&mut self, action: &Action) {
        match *action {
            Action::Cut { wire } => self.set_wire(wire, Condition::Cut),
            Action::Silence { wire } => self.set_wire(wire, Condition::Silent),
            Action::Deafen { wire, end } => self.set_wire(wire, Condition::Deaf(end)),
            Action::Heal { wire } => self.set_wire(wire, Condition::Good),
            Action::Change { wire, quality } => self.set_quality(wire, quality),
            Action::Narrow { wire, end, rate } => self.set_capacity((wire, end), rate),
            Action::Part { ref side } => {
                for wire in 0..self.wires.len() {
                    let [a, b] = self.wires[wire].ends.map(|end| side.contains(&end));
                    if a != b && self.wires[wire].condition == Condition::Good {
                        self.set_wire(wire, Condition::Silent);
                    }
                }
            }
            Action::Merge => (0..self.wires.len()).for_each(|wire| self.set_wire(wire, Condition::Good)),
            Action::Kill { relay } => {
                if self.relays[relay].mesh.is_some() {
                    self.kill(relay);
                }
            }
            Action::Start { relay } => {
                if self.relays[relay].mesh.is_none() {
                    self.start(relay);
                }
            }
            Action::StartEmpty { relay } => {
                if self.relays[relay].mesh.is_none() {
                    self.wipe(relay);
                    self.start(relay);
                }
            }
            Action::Fill { relay } => self.fill_disk(relay, true),
            Action::Clear { relay } => self.fill_disk(relay, false),
            Action::Damage { relay } => self.damage(relay),
            Action::Snapshot { relay } => self.snapshot(relay),
            Action::StartOlder { relay } => {
                if self.relays[relay].mesh.is_none() {
                    self.put_back(relay);
                    self.start(relay);
                }
            }
            Action::Move { relay, area } => self.relays[relay].area = AreaId(area),
            Action::Stall { relay, ms } => self.stall(relay, Duration::from_millis(ms)),
            Action::Publish { relay, stream } => {
                let name = name(relay, stream);
                match whole(stream).kind() {
                    Kind::Audio if in_rungs(relay) => drop(self.publish_rungs(relay, name.as_str())),
                    Kind::Video if in_encodings(stream) => drop(self.publish_encodings(relay, name.as_str())),
                    kind => drop(self.publish_kind(relay, name.as_str(), kind)),
                }
            }
            Action::Unpublish { relay, stream } => self.unpublish(relay, &track(relay, stream)),
            Action::Want { relay, origin, stream } => {
                self.want(relay, &wanted(relay, origin, stream), true);
            }
            Action::Unwant { relay, origin, stream } => {
                self.want(relay, &wanted(relay, origin, stream), false);
            }
            Action::Append { relay } => {
                if self.relays[relay].mesh.is_some() {
                    self.written += 1;
                    self.append(relay, &format!("{} by {relay} at {:?}", self.written, self.elapsed()));
                }
            }
        }
    }
}
