//! The race: one wire of a ring is cut without a word, again and again, and what is measured is for how long
//! nothing arrives at the far ends. The same for babeld and for relays.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Result, bail};

use super::{Conditions, Netlab, Topology, babel::Babel, flow::Flow};
use crate::clock::{now, pause, until};

/// One-way delay of each wire.
pub const WIRE_DELAY: Duration = Duration::from_millis(2);
/// How long a wire stays cut, and for how long the gap is looked for.
const CUT: Duration = Duration::from_millis(2500);
/// A wire that carries fewer large packets a second carries no flow.
const CARRIES: f64 = 20.0;

/// Figures of one kind, one per trial.
#[derive(Debug, Clone, Default)]
pub struct Figures(Vec<Duration>);

impl Figures {
    /// One more.
    pub fn add(&mut self, figure: Duration) {
        self.0.push(figure);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The figure below which this share of them lies (nearest rank); zero if there are none.
    pub fn rank(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
    }

    /// The largest.
    pub fn max(&self) -> Duration {
        self.rank(1.0)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |share| format!("{:.0}", self.rank(share).as_secs_f64() * 1e3);
        write!(f, "{} | {} | {} | {}", ms(0.5), ms(0.95), ms(1.0), self.count())
    }
}

/// What was measured, by name, to be printed side by side.
#[derive(Debug, Clone, Default)]
pub struct Table(Vec<(String, Figures)>);

impl Table {
    /// One more row.
    pub fn row(&mut self, name: &str, figures: Figures) {
        self.0.push((name.to_owned(), figures));
    }

    /// A row, by name.
    pub fn get(&self, name: &str) -> Option<&Figures> {
        self.0.iter().find(|(row, _)| row == name).map(|(_, figures)| figures)
    }

    /// Appends the rows of another one.
    pub fn extend(&mut self, other: Table) {
        self.0.extend(other.0);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | p50 ms | p95 ms | max ms | n |\n|---|---|---|---|---|")?;
        self.0.iter().try_for_each(|(name, figures)| writeln!(f, "| {name} | {figures} |"))
    }
}

/// The ring that is raced on.
pub fn ring() -> Topology {
    Topology::ring(4, Conditions::delay(WIRE_DELAY))
}

/// babeld with that hello interval: flows of a packet every 5 ms from `a` to each of the others.
pub async fn babeld(trials: usize, hello: Duration) -> Result<Table> {
    let lab = Netlab::new(&ring(), 1).await?;
    let mut babel = Babel::start(&lab, hello).await?;
    let mut flows = vec![];
    for to in ["b", "c", "d"] {
        flows.push(Flow::start(&lab, "a", to, Duration::from_millis(5)).await?);
    }
    let name = format!("babeld, hello {} ms", hello.as_millis());
    let (mut calm, mut gaps) = (Figures::default(), Figures::default());
    for trial in 0..trials {
        settled(&flows, hello).await?;
        if let Some(reason) = babel.ended()? {
            bail!("{reason}");
        }
        let quiet = now();
        let wire = carrying(&lab, trial).await?;
        pause(CUT.saturating_sub(quiet.elapsed())).await;
        calm.add(longest(&flows, quiet).1);
        let cut = now();
        lab.wires()[wire].cut();
        pause(CUT).await;
        let (flow, gap) = longest(&flows, cut);
        gaps.add(gap);
        let [a, b] = lab.wires()[wire].ends();
        println!("{name}, trial {trial}: {a}-{b} cut, {flow} silent for {:.0} ms", gap.as_secs_f64() * 1e3);
        lab.wires()[wire].heal();
    }
    let mut table = Table::default();
    table.row(&format!("{name}: nothing cut"), calm);
    table.row(&name, gaps);
    Ok(table)
}

/// The wire of this trial: in turn, but one that carries a flow.
pub async fn carrying(lab: &Netlab, trial: usize) -> Result<usize> {
    let wires = lab.wires();
    let before: BTreeMap<usize, u64> = wires.iter().map(|wire| wire.large()).enumerate().collect();
    let began = now();
    pause(Duration::from_millis(500)).await;
    let carries = |at: &usize| {
        let rate = (wires[*at].large() - before[at]) as f64 / began.elapsed().as_secs_f64();
        rate >= CARRIES
    };
    match (0..wires.len()).map(|step| (trial + step) % wires.len()).find(carries) {
        Some(wire) => Ok(wire),
        None => bail!("no wire carries anything"),
    }
}

fn longest(flows: &[Flow], from: std::time::Instant) -> (&str, Duration) {
    let gaps = flows.iter().map(|flow| (flow.name(), flow.gap(from, now())));
    gaps.max_by_key(|(_, gap)| *gap).unwrap_or_default()
}

/// All flows flow, and a healed wire had the time to be seen.
async fn settled(flows: &[Flow], hello: Duration) -> Result<()> {
    pause((hello * 16).min(Duration::from_secs(20))).await;
    until("every flow arrives", Duration::from_secs(60), || async {
        Ok(flows.iter().all(Flow::flows).then_some(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_the_sorted_figures() {
        let mut figures = Figures::default();
        assert_eq!(figures.max(), Duration::ZERO);
        for ms in (1..=30).rev() {
            figures.add(Duration::from_millis(ms));
        }
        assert_eq!(figures.rank(0.5), Duration::from_millis(15));
        assert_eq!(figures.rank(0.95), Duration::from_millis(29));
        assert_eq!(figures.max(), Duration::from_millis(30));
        assert_eq!(figures.to_string(), "15 | 29 | 30 | 30");
    }
}
