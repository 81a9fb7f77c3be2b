//! A festival as an operator writes it down: relays, wires, streams, listeners, and what happens, in JSON
//! (`docs/simulator.md`). Names are looked up here; errors name the field.

use std::collections::BTreeMap;

use protocol::{Kind, StreamName, ZoneName};
use serde::{Deserialize, Serialize};

use super::{Condition, Quality, Sim, node, random::Random};
use protocol::mesh::{StreamTrack, TrackKey};

/// A festival.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Of everything drawn by lot.
    #[serde(default)]
    pub seed: u64,
    /// How long it runs after it has come up, in seconds.
    #[serde(default = "seconds")]
    pub seconds: u64,
    /// Relays.
    pub relays: Vec<PlannedRelay>,
    /// What connects them.
    pub wires: Vec<PlannedWire>,
    /// Who publishes.
    #[serde(default)]
    pub streams: Vec<PlannedStream>,
    /// Who listens.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// What happens meanwhile.
    #[serde(default)]
    pub events: Vec<PlannedEvent>,
}

fn seconds() -> u64 {
    30
}

/// A relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRelay {
    /// Its name in this plan.
    pub name: String,
    /// Its zone; its name if there is none.
    pub zone: Option<String>,
}

/// What a wire is made of, where nothing else is said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// 0.5 ms, nothing lost, 1 Gbit/s.
    Fibre,
    /// 3 ms and up to 4 more, 1 % lost in bursts of 20 ms, 50 Mbit/s.
    Wifi,
    /// 25 ms and up to 15 more, 0.5 % lost in bursts of 60 ms, 20 Mbit/s.
    Lte,
}

/// A wire. What is said here counts before what its kind says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedWire {
    /// A relay.
    pub from: String,
    /// Another relay.
    pub to: String,
    /// What it is made of.
    pub kind: Option<Medium>,
    /// One way, in milliseconds.
    pub delay_ms: Option<f64>,
    /// At most so much more, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Share lost, 0 to 1.
    pub loss: Option<f64>,
    /// How long it loses everything when it loses something, in milliseconds.
    pub burst_ms: Option<u32>,
    /// In Mbit/s.
    pub rate_mbit: Option<f64>,
    /// How long media may wait for it, in milliseconds.
    pub queue_ms: Option<u32>,
}

/// A stream: 64 kbit/s of sound, 480 kbit/s of picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedStream {
    /// Its name.
    pub name: String,
    /// The relay it is published at.
    pub at: String,
    /// Picture instead of sound.
    #[serde(default)]
    pub video: bool,
}

/// Somebody who listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The relay, or `*` for every relay.
    pub at: String,
    /// The stream.
    pub stream: String,
}

/// Something that happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedEvent {
    /// When, in seconds after the mesh has come up.
    pub at_s: f64,
    /// What.
    #[serde(rename = "do")]
    pub deed: Deed,
}

/// What may happen. Wires by their two relays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// A relay loses its power.
    Kill(String),
    /// It is back.
    Start(String),
    /// It is back with an empty disk.
    StartEmpty(String),
    /// A wire is gone, and both ends know.
    Cut(String, String),
    /// A wire carries nothing, and nobody says so.
    Silence(String, String),
    /// A wire works again.
    Heal(String, String),
}

/// A plan whose names are looked up.
#[derive(Debug, Clone)]
pub struct Festival {
    /// As it was written.
    pub plan: Plan,
    /// From, to, and what it does.
    pub wires: Vec<(usize, usize, Quality)>,
    /// Relays that listen, and to what.
    pub listeners: Vec<(usize, TrackKey)>,
    zones: Vec<ZoneName>,
}

impl PlannedWire {
    fn quality(&self) -> Result<Quality, String> {
        let (delay, jitter, loss, burst, rate) = match self.kind.unwrap_or(Medium::Fibre) {
            Medium::Fibre => (0.5, 0.1, 0.0, 0, 1000.0),
            Medium::Wifi => (3.0, 4.0, 0.01, 20, 50.0),
            Medium::Lte => (25.0, 15.0, 0.005, 60, 20.0),
        };
        let loss = within("loss", self.loss.unwrap_or(loss), 0.0, 0.9)?;
        let micros = |ms: f64| (ms * 1000.0) as u64;
        Ok(Quality {
            delay_us: micros(within("delay_ms", self.delay_ms.unwrap_or(delay), 0.0, 5000.0)?),
            jitter_us: micros(within("jitter_ms", self.jitter_ms.unwrap_or(jitter), 0.0, 5000.0)?),
            loss,
            burst_ms: self.burst_ms.unwrap_or(burst),
            rate: (within("rate_mbit", self.rate_mbit.unwrap_or(rate), 0.05, 1e6)? * 1e6) as u64,
            queue_ms: self.queue_ms.unwrap_or(100),
        })
    }
}

fn within(field: &str, value: f64, low: f64, high: f64) -> Result<f64, String> {
    let fits = (low..=high).contains(&value);
    fits.then_some(value).ok_or_else(|| format!("{field}: {value} is not from {low} to {high}"))
}

impl Festival {
    /// Reads a plan.
    ///
    /// # Errors
    ///
    /// What is wrong, as a clause that names the field.
    pub fn parse(json: &str) -> Result<Festival, String> {
        Festival::new(serde_json::from_str(json).map_err(|error| error.to_string())?)
    }

    /// Looks up the names of a plan.
    ///
    /// # Errors
    ///
    /// As [`Festival::parse`].
    pub fn new(plan: Plan) -> Result<Festival, String> {
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        let mut zones = Vec::new();
        for (index, relay) in plan.relays.iter().enumerate() {
            if by_name.insert(&relay.name, index).is_some() {
                return Err(format!("relays[{index}].name: {:?} is there twice", relay.name));
            }
            let zone = relay.zone.as_ref().unwrap_or(&relay.name);
            let zone = ZoneName::new(zone.clone());
            zones.push(zone.map_err(|error| format!("relays[{index}].zone: {error}"))?);
        }
        let relay = |field: String, name: &str| {
            let found = by_name.get(name).copied();
            found.ok_or_else(|| format!("{field}: no relay is called {name:?}"))
        };
        let mut wires = Vec::new();
        for (index, wire) in plan.wires.iter().enumerate() {
            let from = relay(format!("wires[{index}].from"), &wire.from)?;
            let to = relay(format!("wires[{index}].to"), &wire.to)?;
            if from == to {
                return Err(format!("wires[{index}].to: a wire from {:?} to itself", wire.from));
            }
            wires.push((from, to, wire.quality().map_err(|error| format!("wires[{index}].{error}"))?));
        }
        let mut tracks = BTreeMap::new();
        for (index, stream) in plan.streams.iter().enumerate() {
            let origin = node(relay(format!("streams[{index}].at"), &stream.at)?);
            let name = StreamName::new(stream.name.clone());
            let name = name.map_err(|error| format!("streams[{index}].name: {error}"))?;
            let kind = if stream.video { Kind::Video } else { Kind::Audio };
            if tracks
                .insert(stream.name.as_str(), TrackKey { origin, stream: name, track: StreamTrack::of(kind) })
                .is_some()
            {
                return Err(format!("streams[{index}].name: {:?} is there twice", stream.name));
            }
        }
        let mut listeners = Vec::new();
        for (index, listener) in plan.listeners.iter().enumerate() {
            let track = tracks.get(listener.stream.as_str());
            let track = track.ok_or_else(|| {
                format!("listeners[{index}].stream: no stream is called {:?}", listener.stream)
            })?;
            if listener.at == "*" {
                listeners.extend((0..plan.relays.len()).map(|relay| (relay, track.clone())));
            } else {
                listeners.push((relay(format!("listeners[{index}].at"), &listener.at)?, track.clone()));
            }
        }
        listeners.retain(|(relay, track)| node(*relay) != track.origin);
        listeners.sort();
        listeners.dedup();
        let festival = Festival { wires, listeners, zones, plan: plan.clone() };
        for (index, event) in plan.events.iter().enumerate() {
            within("at_s", event.at_s, 0.0, 86_400.0).map_err(|error| format!("events[{index}].{error}"))?;
            festival.target(&event.deed).map_err(|error| format!("events[{index}].do: {error}"))?;
        }
        Ok(festival)
    }

    /// The mesh, switched on, with its publishers and listeners.
    pub fn sim(&self) -> Sim {
        let mut sim = Sim::with_wires(self.zones.len(), &self.wires, Random::new(self.plan.seed));
        for (relay, zone) in self.zones.iter().enumerate() {
            sim.set_zone(relay, zone.clone());
            sim.start(relay);
        }
        for stream in &self.plan.streams {
            let kind = if stream.video { Kind::Video } else { Kind::Audio };
            if let Some(relay) = self.index(&stream.at) {
                sim.publish_kind(relay, &stream.name, kind);
            }
        }
        for (relay, track) in &self.listeners {
            sim.want(*relay, track, true);
        }
        sim
    }

    /// Lets something happen.
    pub fn happen(&self, sim: &mut Sim, deed: &Deed) {
        let Ok(target) = self.target(deed) else { return };
        let alive = |sim: &Sim| sim.relays[target].mesh.is_some();
        match deed {
            Deed::Kill(_) if alive(sim) => sim.kill(target),
            Deed::Start(_) if !alive(sim) => sim.start(target),
            Deed::StartEmpty(_) if !alive(sim) => {
                sim.wipe(target);
                sim.start(target);
            }
            Deed::Kill(_) | Deed::Start(_) | Deed::StartEmpty(_) => {}
            Deed::Cut(..) => sim.set_wire(target, Condition::Cut),
            Deed::Silence(..) => sim.set_wire(target, Condition::Silent),
            Deed::Heal(..) => sim.set_wire(target, Condition::Good),
        }
    }

    /// The name of a relay.
    pub fn name(&self, relay: usize) -> &str {
        &self.plan.relays[relay].name
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.plan.relays.iter().position(|relay| relay.name == name)
    }

    /// The index of the relay or wire.
    fn target(&self, deed: &Deed) -> Result<usize, String> {
        let relay = |name: &String| self.index(name).ok_or_else(|| format!("no relay is called {name:?}"));
        match deed {
            Deed::Kill(name) | Deed::Start(name) | Deed::StartEmpty(name) => relay(name),
            Deed::Cut(a, b) | Deed::Silence(a, b) | Deed::Heal(a, b) => {
                let (x, y) = (relay(a)?, relay(b)?);
                let joins = |wire: &&(usize, usize, Quality)| {
                    (wire.0, wire.1) == (x, y) || (wire.0, wire.1) == (y, x)
                };
                let found = self.wires.iter().position(|wire| joins(&wire));
                found.ok_or_else(|| format!("no wire joins {a:?} and {b:?}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{report, trial};

    const EXAMPLE: &str = include_str!("../../../deploy/festival.example.json");

    #[test]
    fn the_example_runs_and_its_weak_point_is_found() {
        let festival = Festival::parse(EXAMPLE).unwrap();
        let figures = trial::figures(&festival, true);
        assert!(figures.delivery.iter().all(|delivery| !delivery.lost && delivery.share > 0.9));
        assert_eq!((figures.chat.share, figures.articulations.join(" ")), (1.0, "gate".to_owned()));
        let gate = figures.failures.iter().find(|failure| failure.what == "relay gate dies").unwrap();
        assert_eq!(gate.cut_off, ["parking"]);
        assert!(gate.hurt.iter().any(|delivery| delivery.lost && delivery.at == "parking"));
        let tables = report::tables(&figures);
        assert!(tables.contains("Relays the mesh hangs on: gate."));
        assert!(serde_json::to_string(&figures).is_ok());
    }

    #[test]
    fn errors_name_the_field() {
        let said = |from: &str, to: &str| Festival::parse(&EXAMPLE.replace(from, to)).unwrap_err();
        assert_eq!(
            said(r#""at": "main-stage" }"#, r#""at": "moon" }"#),
            "streams[0].at: no relay is called \"moon\""
        );
        assert_eq!(said(r#""loss": 0.02"#, r#""loss": 2"#), "wires[5].loss: 2 is not from 0 to 0.9");
        assert!(said(r#""seconds""#, r#""secons""#).contains("secons"));
        let error = said(r#"["gate", "camping-north"] } },"#, r#"["gate", "main-stage"] } },"#);
        assert_eq!(error, "events[0].do: no wire joins \"gate\" and \"main-stage\"");
    }
}
