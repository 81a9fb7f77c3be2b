//! Two halves of a festival that lose sight of each other for a while: what is said on either side is
//! everywhere exactly once afterwards, and whoever listens meanwhile does not notice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use super::{
    Conditions, Netlab, Topology,
    race::WIRE_DELAY,
    relays::{Heard, Relays, longest},
};
use crate::clock::{now, pause, unix_ms, until};

const ROOM: &str = "camping";
/// What is said on each side, spread over the time of the cut.
const MESSAGES: usize = 100;
/// For how long the listeners are watched before the cut and after the heal.
const WATCHED: Duration = Duration::from_secs(10);
/// Everything has to be everywhere after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the heal until every relay knew all wires.
    pub linked: Duration,
    /// From the heal until every relay had every message.
    pub complete: Duration,
    /// Messages that each relay has in the end, by relay.
    pub messages: BTreeMap<String, usize>,
    /// Messages that some relay has twice.
    pub twice: usize,
    /// Listeners, by host.
    pub listeners: BTreeMap<String, Listened>,
}

/// How a listener fared: longest silence beyond the spacing of packets, and what is missing in silences.
#[derive(Debug, Clone, Copy)]
pub struct Listened {
    /// Before the cut.
    pub before: (Duration, u64),
    /// While the wire is cut.
    pub cut: (Duration, u64),
    /// While the halves catch up.
    pub after: (Duration, u64),
    /// Packets lost over the whole time.
    pub lost: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Publisher to listener, in milliseconds: median, 99th percentile, worst, over the whole time.
    pub delay_ms: [f64; 3],
}

/// Two triangles joined by the wire `c-d`, which is cut for so long.
pub async fn partition(cut: Duration) -> Result<Outcome> {
    let pairs = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)];
    let lab = Netlab::new(&Topology::of(6, pairs, Conditions::delay(WIRE_DELAY)), 1).await?;
    let relays = Relays::start(&lab).await?;
    let all: Vec<&str> = lab.hosts().map(|host| host.name()).collect();
    let _left = relays.publish(&lab, "a", "left", false).await?;
    let _right = relays.publish(&lab, "f", "right", false).await?;
    relays.list(&lab, &all, "left").await?;
    relays.list(&lab, &all, "right").await?;
    let mut listening = vec![];
    for (host, stream) in [("b", "left"), ("c", "left"), ("d", "right"), ("e", "right")] {
        listening.push((host, relays.listen(&lab, host, stream).await?));
    }
    // The first seconds of a listener bring what was there before; they are not watched.
    pause(Duration::from_secs(3)).await;
    let began = unix_ms();
    pause(WATCHED).await;

    let bridge = lab.wire("c", "d");
    bridge.cut();
    let cut_at = unix_ms();
    let mut said = BTreeSet::new();
    let mut due = now();
    for at in 0..MESSAGES {
        for host in [["a", "b", "c"][at % 3], ["d", "e", "f"][at % 3]] {
            let text = format!("{host} {at}");
            let id =
                relays.ask(&lab, host, move |api| async move { api.say(ROOM, "crew", &text).await }).await?;
            ensure!(said.insert(id), "two messages have one id");
        }
        due += cut / MESSAGES as u32;
        pause(due.saturating_duration_since(now())).await;
    }

    // A cut that lets something through would prove nothing.
    for host in &all {
        let history = relays.ask(&lab, host, |api| async move { api.history(ROOM).await }).await?;
        let up = relays.mesh(&lab, host).await?.links.iter().filter(|link| link.up).count();
        ensure!(
            (history.len(), up) == (MESSAGES, 3),
            "cut: {host} has {} messages, {up} links",
            history.len()
        );
    }

    bridge.heal();
    let (healed, healed_at) = (now(), unix_ms());
    let linked = async {
        relays.converge(&lab, lab.wires().len()).await?;
        Ok(healed.elapsed())
    };
    let (linked, complete) = tokio::try_join!(linked, everywhere(&lab, &relays, &all, &said, healed))?;
    pause(WATCHED.saturating_sub(healed.elapsed())).await;
    let ended = unix_ms();

    let (mut messages, mut twice) = (BTreeMap::new(), 0);
    for host in &all {
        let history = relays.ask(&lab, host, |api| async move { api.history(ROOM).await }).await?;
        let distinct: BTreeSet<_> = history.iter().map(|message| &message.id).collect();
        twice += history.len() - distinct.len();
        messages.insert((*host).to_owned(), history.len());
    }
    let mut listeners = BTreeMap::new();
    for (host, listener) in listening {
        let heard = listener.heard().await?;
        listeners.insert(host.to_owned(), listened(&heard, [began, cut_at, healed_at, ended]));
    }
    Ok(Outcome { linked, complete, messages, twice, listeners })
}

/// Waits until every relay has everything that was said.
async fn everywhere(
    lab: &Netlab,
    relays: &Relays,
    hosts: &[&str],
    said: &BTreeSet<String>,
    since: Instant,
) -> Result<Duration> {
    for host in hosts {
        until(&format!("{host} has everything that was said"), PATIENCE, || async {
            let history = relays.ask(lab, host, |api| async move { api.history(ROOM).await }).await?;
            let has: BTreeSet<String> = history.into_iter().map(|message| message.id).collect();
            let lacks = said.difference(&has).count();
            if lacks > 0 {
                bail!("{lacks} of {} are missing", said.len());
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(since.elapsed())
}

fn listened(heard: &Heard, [began, cut, healed, ended]: [f64; 4]) -> Listened {
    const SPACING: f64 = 20.0;
    let during = |from, to| longest(&heard.silences, from, to, SPACING);
    Listened {
        before: during(began, cut),
        cut: during(cut, healed),
        after: during(healed, ended),
        lost: heard.lost,
        duplicates: heard.duplicates,
        delay_ms: heard.delay_ms.map_or([0.0; 3], |delay| [delay.p50, delay.p99, delay.max]),
    }
}

impl Outcome {
    /// For people.
    pub fn print(&self) {
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
        println!("healed: every relay knows all wires after {} ms", ms(self.linked));
        println!(
            "everything is everywhere after {} ms: {:?}, twice: {}",
            ms(self.complete),
            self.messages,
            self.twice
        );
        println!(
            "\n| listener | longest silence before / cut / after, ms | missing before / cut / after | lost | twice | delay p50 / p99 / max, ms |"
        );
        println!("|---|---|---|---|---|---|");
        for (host, l) in &self.listeners {
            println!(
                "| {host} | {} / {} / {} | {} / {} / {} | {} | {} | {:.1} / {:.1} / {:.1} |",
                ms(l.before.0),
                ms(l.cut.0),
                ms(l.after.0),
                l.before.1,
                l.cut.1,
                l.after.1,
                l.lost,
                l.duplicates,
                l.delay_ms[0],
                l.delay_ms[1],
                l.delay_ms[2]
            );
        }
    }
}
