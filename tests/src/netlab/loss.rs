//! A chain of relays whose every wire loses packets: how soon what is said at one end is at the other, and
//! what a listener at the far end still misses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    Conditions, Netlab, Topology,
    race::{Figures, WIRE_DELAY},
    relays::Relays,
};
use crate::clock::{now, pause};

const ROOM: &str = "camping";
/// Between two looks at what has arrived: so much later than it was is when it is seen.
const LOOK: Duration = Duration::from_millis(50);
/// Everything has to be there after that.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the answer to a post to the message's being at the far end.
    pub took: Figures,
    /// Of how many.
    pub said: usize,
    /// Share that took at most 2 s.
    pub soon: f64,
    /// Messages that the far end has twice.
    pub twice: usize,
    /// Audio packets that came to the listener at the far end, that never came, and that came twice.
    pub audio: [u64; 3],
    /// Publisher to listener, in milliseconds: median, 99th percentile, worst.
    pub delay_ms: [f64; 3],
}

/// A chain of that many relays with that share of loss on each wire, each way; so many messages, 25 a second.
pub async fn chain(relays: usize, share: f64, messages: usize) -> Result<Outcome> {
    let lossless = Conditions::delay(WIRE_DELAY);
    let lab = Netlab::new(&Topology::chain(relays, lossless), 1).await?;
    let mesh = Relays::start(&lab).await?;
    let hosts: Vec<&str> = lab.hosts().map(|host| host.name()).collect();
    let (first, last) = (hosts[0], hosts[hosts.len() - 1]);
    let _publisher = mesh.publish(&lab, first, "main-stage", false).await?;
    mesh.list(&lab, &hosts, "main-stage").await?;
    let listener = mesh.listen(&lab, last, "main-stage").await?;
    pause(Duration::from_secs(2)).await;
    lab.wires().iter().for_each(|wire| wire.set(lossless.loss(share)));

    let mut said: BTreeMap<String, Instant> = BTreeMap::new();
    let mut seen: BTreeMap<String, Instant> = BTreeMap::new();
    let (mut due, mut look) = (now(), now());
    while said.len() < messages {
        let text = format!("number {}", said.len());
        let id = mesh.ask(&lab, first, move |api| async move { api.say(ROOM, "crew", &text).await }).await?;
        ensure!(said.insert(id, now()).is_none(), "two messages have one id");
        if look.elapsed() >= LOOK {
            look = now();
            note(&lab, &mesh, last, &mut seen).await?;
        }
        due += Duration::from_millis(40);
        pause(due.saturating_duration_since(now())).await;
    }
    let ended = now();
    while seen.len() < said.len() && ended.elapsed() < PATIENCE {
        note(&lab, &mesh, last, &mut seen).await?;
        pause(LOOK).await;
    }
    let history = mesh.ask(&lab, last, |api| async move { api.history(ROOM).await }).await?;
    let distinct: BTreeSet<_> = history.iter().map(|message| &message.id).collect();
    let heard = listener.heard().await?;

    let mut took = Figures::default();
    for (id, at) in &said {
        if let Some(seen) = seen.get(id) {
            took.add(seen.saturating_duration_since(*at));
        }
    }
    let soon = took.share(Duration::from_secs(2)) * took.count() as f64 / said.len().max(1) as f64;
    Ok(Outcome {
        took,
        said: said.len(),
        soon,
        twice: history.len() - distinct.len(),
        audio: [heard.packets, heard.lost, heard.duplicates],
        delay_ms: heard.delay_ms.map_or([0.0; 3], |delay| [delay.p50, delay.p99, delay.max]),
    })
}

/// Notes what the relay of a host has that was not there before.
async fn note(lab: &Netlab, mesh: &Relays, host: &str, seen: &mut BTreeMap<String, Instant>) -> Result<()> {
    let history = mesh.ask(lab, host, |api| async move { api.history(ROOM).await }).await?;
    let at = now();
    for message in history {
        seen.entry(message.id).or_insert(at);
    }
    Ok(())
}

impl Outcome {
    /// For people.
    pub fn print(&self) {
        let Outcome { took, said, soon, twice, audio: [packets, lost, duplicates], delay_ms } = self;
        println!(
            "chat: {} of {said} arrived, {:.2} % within 2 s, p50 | p95 | max | n in ms: {took}, twice: {twice}",
            took.count(),
            soon * 100.0
        );
        println!(
            "audio: {packets} packets, {lost} lost ({:.3} %), {duplicates} twice, delay p50 {:.1} p99 {:.1} max {:.1} ms",
            *lost as f64 * 100.0 / (packets + lost).max(1) as f64,
            delay_ms[0],
            delay_ms[1],
            delay_ms[2]
        );
    }
}
