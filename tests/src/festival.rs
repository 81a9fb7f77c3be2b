//! Several relays and the wires between them, in the shapes that festivals have.
//! Each bridge goes through a [`Wire`], so that any of them can be cut without either end being told.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use crate::{
    clock::until,
    relay::{Relay, Setup},
    wire::{Crossed, Wire},
};

const CONVERGENCE: Duration = Duration::from_secs(15);

/// Relays `a`, `b`, `c`, … and their wires.
#[derive(Debug)]
pub struct Festival {
    /// The relays, by position.
    pub relays: Vec<Relay>,
    /// By the positions of their two ends, lower first. The higher one dials.
    wires: BTreeMap<(usize, usize), Wire>,
}

impl Festival {
    /// `a – b – c – …`
    pub async fn chain(length: usize) -> Result<Festival> {
        Festival::of(length, (1..length).map(|at| (at - 1, at))).await
    }

    /// A chain of relays that all have these arguments.
    pub async fn chain_of(length: usize, arguments: &[&str]) -> Result<Festival> {
        let wires = (1..length).map(|at| (at - 1, at));
        let all = |setup| arguments.iter().fold(setup, |setup: Setup, argument| setup.argument(argument));
        Festival::with(length, wires, |_, setup| all(setup)).await
    }

    /// A chain in which some relays speak the next bridge version.
    pub async fn chain_of_versions(next: &[bool]) -> Result<Festival> {
        let wires = (1..next.len()).map(|at| (at - 1, at));
        Festival::with(next.len(), wires, |at, setup| if next[at] { setup.next() } else { setup }).await
    }

    /// A chain in which one relay speaks a bridge version alone.
    pub async fn chain_with(length: usize, place: usize, version: u16) -> Result<Festival> {
        let version = version.to_string();
        let old = |setup: Setup| setup.next().variable("PEDDLENET_NEXT_ALONE", &version);
        let wires = (1..length).map(|at| (at - 1, at));
        Festival::with(length, wires, |at, setup| if at == place { old(setup) } else { setup }).await
    }

    /// `a – b – c – … – a`
    pub async fn ring(length: usize) -> Result<Festival> {
        Festival::of(length, (1..length).map(|at| (at - 1, at)).chain([(0, length - 1)])).await
    }

    /// `a` in the middle, all others bridged to it alone.
    pub async fn star(length: usize) -> Result<Festival> {
        Festival::of(length, (1..length).map(|at| (0, at))).await
    }

    /// Any shape: `length` relays and a wire for each pair, lower position first.
    pub async fn of(length: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Result<Festival> {
        Festival::with(length, pairs, |_, setup| setup).await
    }

    async fn with(
        length: usize,
        pairs: impl IntoIterator<Item = (usize, usize)>,
        each: impl Fn(usize, Setup) -> Setup,
    ) -> Result<Festival> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let mut festival = Festival { relays: vec![], wires: BTreeMap::new() };
        for at in 0..length {
            let mut setup = each(at, Setup::zone(&zone(at)));
            for &(lower, _) in pairs.iter().filter(|(_, higher)| *higher == at) {
                let wire = Wire::to(festival.relays[lower].bridge()).await?;
                setup = setup.peer(wire.front());
                festival.wires.insert((lower, at), wire);
            }
            festival.relays.push(setup.start().await?);
        }
        festival.converges().await?;
        Ok(festival)
    }

    /// The wire between two positions.
    pub fn wire(&self, a: usize, b: usize) -> &Wire {
        self.wires.get(&(a.min(b), a.max(b))).unwrap_or_else(|| panic!("no wire between {a} and {b}"))
    }

    /// All wires, with the positions of their ends.
    pub fn wires(&self) -> impl Iterator<Item = ((usize, usize), &Wire)> {
        self.wires.iter().map(|(pair, wire)| (*pair, wire))
    }

    /// What crossed each wire so far: toward the lower end, and toward the higher.
    pub fn crossed(&self) -> BTreeMap<(usize, usize), (Crossed, Crossed)> {
        self.wires().map(|(pair, wire)| (pair, wire.crossed())).collect()
    }

    /// Waits until every relay knows every other one and every link is up.
    pub async fn converges(&self) -> Result<()> {
        self.agree(self.relays.len(), self.wires.len()).await
    }

    /// Waits until every relay that answers counts that many links that are up, and at least that many nodes.
    pub async fn agree(&self, nodes: usize, links: usize) -> Result<()> {
        for relay in &self.relays {
            let api = relay.api();
            until(
                &format!("{} knows {nodes} nodes and {links} links", relay.zone()),
                CONVERGENCE,
                || async {
                    let mesh = api.mesh().await?;
                    let up = mesh.links.iter().filter(|link| link.up).count();
                    anyhow::ensure!(
                        mesh.nodes.len() >= nodes && up == links,
                        "it knows {} and {up}",
                        mesh.nodes.len()
                    );
                    Ok(Some(()))
                },
            )
            .await?;
        }
        Ok(())
    }

    /// Waits until every relay lists `stream`.
    pub async fn lists(&self, stream: &str) -> Result<()> {
        for relay in &self.relays {
            let api = relay.api();
            until(&format!("{} lists {stream}", relay.zone()), CONVERGENCE, || api.stream(stream)).await?;
        }
        Ok(())
    }

    /// Runs `check` on every relay's API at once; the first error ends it.
    pub async fn everywhere<F>(&self, check: impl Fn(crate::Api) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut checks = JoinSet::new();
        for relay in &self.relays {
            checks.spawn(check(relay.api()));
        }
        while let Some(done) = checks.join_next().await {
            done.context("a check panicked")??;
        }
        Ok(())
    }
}

/// The zone at a position: `zone-a`, `zone-b`, …
fn zone(at: usize) -> String {
    let letter = char::from(b'a' + u8::try_from(at % 26).expect("below 26"));
    format!("zone-{letter}{}", if at < 26 { String::new() } else { (at / 26).to_string() })
}
