//! What a lab consists of: relays by name and the wires between them, as JSON, and the commands that change
//! a wire while it runs.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::emulator::Conditions;

/// The hosts of a lab and its wires.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Names: letters and digits, up to 8.
    pub relays: Vec<String>,
    /// At most 250.
    pub wires: Vec<WireShape>,
}

/// A wire of a [`Topology`].
#[derive(Debug, Clone, Deserialize)]
pub struct WireShape {
    /// The two relays it joins.
    pub ends: [String; 2],
    /// How it is in the beginning, both ways.
    #[serde(flatten)]
    pub conditions: Conditions,
}

/// Something that happens to a wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its two ends; a one-way change is about what leaves the first.
    pub ends: [String; 2],
    /// Only what goes from the first end to the second.
    pub one_way: bool,
    /// What happens.
    pub what: What,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// Silence.
    Cut,
    /// No more silence.
    Heal,
    /// Another delay.
    Delay(Duration),
    /// Another jitter.
    Jitter(Duration),
    /// Another share of loss, and its mean burst.
    Loss(f64, f64),
    /// Another rate in bits per second, 0 for none.
    Rate(u64),
    /// Another queue.
    Queue(Duration),
}

impl Topology {
    /// Reads JSON and checks it.
    pub fn parse(json: &str) -> Result<Topology> {
        let topology: Topology = serde_json::from_str(json).context("reading the topology")?;
        topology.check()?;
        Ok(topology)
    }

    /// `a – b – c – …`, with the same conditions on each wire.
    pub fn chain(length: usize, conditions: Conditions) -> Topology {
        Topology::of(length, (1..length).map(|at| (at - 1, at)), conditions)
    }

    /// `a – b – c – … – a`.
    pub fn ring(length: usize, conditions: Conditions) -> Topology {
        Topology::of(length, (1..length).map(|at| (at - 1, at)).chain([(0, length - 1)]), conditions)
    }

    /// Any shape, by positions.
    pub fn of(
        length: usize,
        pairs: impl IntoIterator<Item = (usize, usize)>,
        conditions: Conditions,
    ) -> Topology {
        let name = |at: usize| char::from(b'a' + (at % 26) as u8).to_string();
        Topology {
            relays: (0..length).map(name).collect(),
            wires: pairs
                .into_iter()
                .map(|(a, b)| WireShape { ends: [name(a), name(b)], conditions })
                .collect(),
        }
    }

    fn check(&self) -> Result<()> {
        for (at, name) in self.relays.iter().enumerate() {
            let good = (1..=8).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
            ensure!(good, "{name:?} is no name of a relay: letters and digits, up to 8");
            ensure!(!self.relays[..at].contains(name), "there are two relays {name:?}");
        }
        ensure!(self.wires.len() <= 250, "more than 250 wires");
        for (at, wire) in self.wires.iter().enumerate() {
            let [a, b] = &wire.ends;
            ensure!(a != b, "a wire from {a} to itself");
            ensure!(self.relays.contains(a) && self.relays.contains(b), "no such relays: {a}, {b}");
            let again = self.wires[..at].iter().any(|other| other.ends.contains(a) && other.ends.contains(b));
            ensure!(!again, "there are two wires between {a} and {b}");
        }
        Ok(())
    }
}

impl Change {
    /// Reads `cut a-b`, `heal a-b`, `delay a-b 20ms`, `jitter a-b 5ms`, `loss a-b 5% burst 3`,
    /// `rate a-b 2mbit`, `queue a-b 50ms`; `a>b` instead of `a-b` changes one direction only.
    pub fn parse(line: &str) -> Result<Change> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(verb), Some(wire)) = (words.first(), words.get(1)) else { bail!("which wire? {line:?}") };
        let one_way = wire.contains('>');
        let (a, b) = wire.split_once(['-', '>']).with_context(|| format!("{wire:?} is no wire like a-b"))?;
        let value = words.get(2).copied().with_context(|| format!("{verb} needs a figure"));
        let what = match *verb {
            "cut" => What::Cut,
            "heal" => What::Heal,
            "delay" => What::Delay(time(value?)?),
            "jitter" => What::Jitter(time(value?)?),
            "queue" => What::Queue(time(value?)?),
            "rate" => What::Rate(rate(value?)?),
            "loss" => What::Loss(share(value?)?, burst(&words)?),
            _ => bail!("no such command: {verb:?} (cut, heal, delay, jitter, loss, rate, queue)"),
        };
        Ok(Change { ends: [a.to_owned(), b.to_owned()], one_way, what })
    }
}

impl What {
    /// The conditions after it; a cut changes none.
    pub fn apply(self, to: Conditions) -> Conditions {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        match self {
            What::Cut | What::Heal => to,
            What::Delay(delay) => Conditions { delay_ms: ms(delay), ..to },
            What::Jitter(jitter) => Conditions { jitter_ms: ms(jitter), ..to },
            What::Loss(loss, burst) => Conditions { loss, burst, ..to },
            What::Rate(rate_bps) => Conditions { rate_bps, ..to },
            What::Queue(queue) => Conditions { queue_ms: ms(queue), queue_bytes: 0, ..to },
        }
    }
}

fn burst(words: &[&str]) -> Result<f64> {
    match words.get(3..) {
        Some(["burst", mean]) => {
            let mean: f64 = mean.parse().with_context(|| format!("{mean:?} is no number of packets"))?;
            ensure!((1.0..=1e6).contains(&mean), "a burst has one packet at least");
            Ok(mean)
        }
        Some([]) | None => Ok(1.0),
        Some(more) => bail!("what is {more:?}? (loss a-b 5% burst 3)"),
    }
}

fn time(text: &str) -> Result<Duration> {
    let (figure, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let per = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => bail!("{text:?} is no time like 20ms"),
    };
    let seconds = figure.parse::<f64>().with_context(|| format!("{text:?} is no time like 20ms"))? * per;
    ensure!((0.0..=3600.0).contains(&seconds), "{text} is not between 0 and an hour");
    Ok(Duration::from_secs_f64(seconds))
}

fn rate(text: &str) -> Result<u64> {
    let (figure, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let per = match unit {
        "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        "" if figure == "0" => 1.0,
        _ => bail!("{text:?} is no rate like 2mbit"),
    };
    let bits = figure.parse::<f64>().with_context(|| format!("{text:?} is no rate like 2mbit"))? * per;
    ensure!((0.0..=1e12).contains(&bits), "{text} is no rate of a wire");
    Ok(bits as u64)
}

fn share(text: &str) -> Result<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    let share = share.with_context(|| format!("{text:?} is no share like 5%"))?;
    ensure!((0.0..=1.0).contains(&share), "{text} is not between 0 and 100 %");
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topology_is_read_with_its_conditions() {
        let json = r#"{"relays": ["a", "b"], "wires": [{"ends": ["a", "b"], "delay_ms": 2, "loss": 0.05}]}"#;
        let topology = Topology::parse(json).unwrap();
        assert_eq!(topology.wires[0].conditions.delay_ms, 2.0);
        assert_eq!(topology.wires[0].conditions.loss, 0.05);
    }

    #[test]
    fn a_topology_that_cannot_be_built_is_refused() {
        for (json, reason) in [
            (r#"{"relays": ["a", "a"], "wires": []}"#, "two relays"),
            (r#"{"relays": ["a b"], "wires": []}"#, "no name"),
            (r#"{"relays": ["a"], "wires": [{"ends": ["a", "a"]}]}"#, "to itself"),
            (r#"{"relays": ["a"], "wires": [{"ends": ["a", "b"]}]}"#, "no such relays"),
            (r#"{"relays": ["a","b"], "wires": [{"ends": ["a", "b"]}, {"ends": ["b", "a"]}]}"#, "two wires"),
            (r#"{"relays": []}"#, "reading"),
        ] {
            let error = format!("{:#}", Topology::parse(json).unwrap_err());
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn commands_are_read() {
        let change = |line| Change::parse(line).unwrap();
        assert_eq!(change("cut a-b").what, What::Cut);
        assert!(change("cut a>b").one_way && !change("heal a-b").one_way);
        assert_eq!(change("delay a-b 20ms").what, What::Delay(Duration::from_millis(20)));
        assert_eq!(change("jitter a-b 1.5ms").what, What::Jitter(Duration::from_micros(1500)));
        assert_eq!(change("loss a-b 5% burst 3").what, What::Loss(0.05, 3.0));
        assert_eq!(change("loss a-b 0.2").what, What::Loss(0.2, 1.0));
        assert_eq!(change("rate a-b 2.5mbit").what, What::Rate(2_500_000));
        assert_eq!(change("rate a-b 0").what, What::Rate(0));
        assert_eq!(change("queue b-c 50ms").ends, ["b".to_owned(), "c".to_owned()]);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for line in [
            "",
            "cut",
            "cut ab",
            "delay a-b",
            "delay a-b 20",
            "loss a-b 200%",
            "loss a-b 5% burst 0",
            "loss a-b 5% bursts 3",
            "rate a-b fast",
            "explode a-b",
            "delay a-b -1ms",
            "loss a-b NaN",
        ] {
            assert!(Change::parse(line).is_err(), "{line:?} was taken");
        }
    }
}
