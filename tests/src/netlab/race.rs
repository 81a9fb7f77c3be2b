//! The race: one wire of a ring is cut without a word, again and again, and what is measured is for how long
//! nothing arrives at the far ends. The same for babeld and for relays.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context, Result, bail};
use protocol::api::MeshLink;

use super::{
    Conditions, Netlab, Topology,
    babel::{Babel, Tuning},
    flow::Flow,
    relays::{Heard, Peer, Relays, Seen, Silence, Size, longest},
};
use crate::{
    clock::{now, pause, unix_ms, until},
    film,
};

const STREAM: &str = "main-stage";
/// One-way delay of each wire.
pub const WIRE_DELAY: Duration = Duration::from_millis(2);
/// How long a wire stays cut, and for how long the gap is looked for.
const CUT: Duration = Duration::from_millis(2500);
/// After a healed wire is known everywhere, before the next trial.
const SETTLE: Duration = Duration::from_secs(3);
/// The encodings of a picture: sizes, and bits per second.
const ENCODINGS: [((u16, u16), u32); 3] =
    [((320, 180), 120_000), ((640, 360), 600_000), ((1280, 720), 2_000_000)];
/// By then everybody sees the best of them.
const TO_THE_TOP: Duration = Duration::from_secs(20);
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

    /// The share of them that is not above `limit`; 1 if there are none.
    pub fn share(&self, limit: Duration) -> f64 {
        let below = self.0.iter().filter(|figure| **figure <= limit).count();
        if self.0.is_empty() { 1.0 } else { below as f64 / self.0.len() as f64 }
    }

    /// The largest.
    pub fn max(&self) -> Duration {
        self.rank(1.0)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(f, "– | – | – | 0");
        }
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

/// babeld: flows of a packet every 5 ms from `a` to each of the others.
pub async fn babeld(trials: usize, tuning: Tuning) -> Result<Table> {
    let lab = Netlab::new(&ring(), 1).await?;
    let mut babel = Babel::start(&lab, tuning).await?;
    let mut flows = vec![];
    for to in ["b", "c", "d"] {
        flows.push(Flow::start(&lab, "a", to, Duration::from_millis(5)).await?);
    }
    let mut gaps = Gaps::default();
    for trial in 0..trials {
        settled(&flows, tuning.hello).await?;
        if let Some(reason) = babel.ended()? {
            bail!("{reason}");
        }
        let calm = now();
        let wire = carrying(&lab, trial).await?;
        pause(CUT.saturating_sub(calm.elapsed())).await;
        let cut = now();
        let quiet = flows.iter().map(|flow| flow.gap(calm, cut)).collect::<Vec<_>>();
        lab.wires()[wire].cut();
        pause(CUT).await;
        let after = flows.iter().map(|flow| flow.gap(cut, now())).collect::<Vec<_>>();
        gaps.add(&format!("{tuning}, trial {trial}"), lab.wires()[wire].ends(), &quiet, &after);
        lab.wires()[wire].heal();
    }
    Ok(gaps.table(&tuning.to_string()))
}

/// Relays: a tone and a picture published at `a`, somebody listening at each of the others.
pub async fn relays(trials: usize) -> Result<Table> {
    let lab = Netlab::new(&ring(), 1).await?;
    let relays = Relays::start(&lab).await?;
    let mut peers = vec![relays.publish(&lab, "a", STREAM, true).await?];
    relays.list(&lab, &["a", "b", "c", "d"], STREAM).await?;
    for host in ["b", "c", "d"] {
        peers.push(relays.listen(&lab, host, STREAM).await?);
    }
    pause(Duration::from_secs(5)).await;
    let cuts = cuts(&lab, &relays, &mut peers, trials).await?;
    figures(&lab, &cuts, &heard(peers).await?)
}

/// Relays: a tone and a picture in three encodings published at `a`, somebody at the top at each of the others.
pub async fn encodings(trials: usize) -> Result<Table> {
    let directory = tempfile::tempdir()?;
    let films: Vec<_> = (0..ENCODINGS.len()).map(|at| directory.path().join(format!("{at}.ivf"))).collect();
    for (film, (size, rate)) in films.iter().zip(ENCODINGS) {
        film::write(film, size, rate)?;
    }
    let lab = Netlab::new(&ring(), 1).await?;
    let relays = Relays::start(&lab).await?;
    let mut peers = vec![relays.publish_encodings(&lab, "a", STREAM, &films).await?];
    relays.list(&lab, &["a", "b", "c", "d"], STREAM).await?;
    for host in ["b", "c", "d"] {
        peers.push(relays.listen(&lab, host, STREAM).await?);
    }
    pause(TO_THE_TOP).await;
    let cuts = cuts(&lab, &relays, &mut peers, trials).await?;
    sights(&lab, &cuts, &heard(peers).await?)
}

/// Cuts one wire after the other, and heals it.
async fn cuts(lab: &Netlab, relays: &Relays, peers: &mut [Peer], trials: usize) -> Result<Vec<Cut>> {
    let mut cuts = vec![];
    for trial in 0..trials {
        relays.converge(lab, lab.wires().len()).await?;
        pause(SETTLE).await;
        peers.iter_mut().try_for_each(Peer::goes_on)?;
        let wire = carrying(lab, trial).await?;
        let at_ms = unix_ms();
        let (known, last) = known(lab, relays, wire).await?;
        let cut = Cut { wire, at_ms, known };
        pause(Duration::from_secs_f64(((cut.at_ms - unix_ms()) / 1e3 + CUT.as_secs_f64()).max(0.0))).await;
        let ([a, b], known) = (lab.wires()[wire].ends(), cut.known.as_secs_f64() * 1e3);
        println!("relays, trial {trial}: {a}-{b} cut, known everywhere after {known:.0} ms, at {last} last");
        cuts.push(cut);
        lab.wires()[wire].heal();
    }
    Ok(cuts)
}

/// What the listeners heard, who are all but the first.
async fn heard(peers: Vec<Peer>) -> Result<Vec<Heard>> {
    let mut heard = vec![];
    for peer in peers.into_iter().skip(1) {
        heard.push(peer.heard().await?);
    }
    Ok(heard)
}

/// One cut of a wire between relays.
struct Cut {
    wire: usize,
    at_ms: f64,
    known: Duration,
}

/// Cuts a wire, and waits until no relay counts it any more and none names it on the stream's path.
async fn known(lab: &Netlab, relays: &Relays, wire: usize) -> Result<(Duration, String)> {
    let wire_ends = lab.wires()[wire].ends();
    let ends = wire_ends.map(|end| relays.relay(end).node().to_owned());
    let cut = now();
    lab.wires()[wire].cut();
    let gone = lab.hosts().map(|host| {
        let ends = ends.clone();
        let gone = until("the cut is known everywhere", Duration::from_secs(20), move || {
            let [a, b] = ends.clone();
            async move {
                let mesh = relays.mesh(lab, host.name()).await?;
                let joins = |link: &MeshLink| (link.a == a && link.b == b) || (link.a == b && link.b == a);
                let stream =
                    relays.ask(lab, host.name(), |api| async move { api.stream(STREAM).await }).await?;
                let path = stream.map(|stream| stream.path).unwrap_or_default();
                let crosses =
                    path.windows(2).any(|pair| wire_ends.iter().all(|end| pair.contains(&(*end).to_owned())));
                Ok((!mesh.links.iter().any(|link| link.up && joins(link)) && !crosses).then_some(()))
            }
        });
        async move { gone.await.map(|()| (cut.elapsed(), host.name())) }
    });
    let known = futures_util::future::try_join_all(gone).await?;
    Ok(known.into_iter().max().map(|(after, last)| (after, last.to_owned())).unwrap_or_default())
}

/// The silences around each cut, laid beside those of the same time before it.
fn figures(lab: &Netlab, cuts: &[Cut], heard: &[Heard]) -> Result<Table> {
    let (mut audio, mut video) = (Gaps::default(), Gaps::default());
    let (mut settled, mut missing) = (Figures::default(), 0);
    let length = CUT.as_secs_f64() * 1e3;
    for (trial, cut) in cuts.iter().enumerate() {
        let ends = lab.wires()[cut.wire].ends();
        let around = |silences: &[Silence], spacing: f64| {
            let calm = longest(silences, cut.at_ms - length, cut.at_ms - 2.0 * spacing, spacing);
            (calm.0, longest(silences, cut.at_ms, cut.at_ms + length, spacing))
        };
        let sounds: Vec<_> = heard.iter().map(|heard| around(&heard.silences, 20.0)).collect();
        let seen: Vec<_> =
            heard.iter().map(|h| h.video.as_ref().context("no picture")).collect::<Result<_>>()?;
        let pictures: Vec<_> = seen.iter().map(|seen| around(&seen.silences, 40.0)).collect();
        missing += sounds.iter().map(|(_, (_, missing))| missing).sum::<u64>();
        // Settled: everybody knows, and nobody waits any more for sound that was rerouted.
        let last = heard.iter().flat_map(|heard| &heard.silences).filter(|silence| {
            silence.ms > 60.0 && silence.at_ms + silence.ms > cut.at_ms && silence.at_ms < cut.at_ms + length
        });
        let last = last.map(|silence| silence.at_ms + silence.ms - cut.at_ms).fold(0.0, f64::max);
        settled.add(cut.known.max(Duration::from_secs_f64(last / 1e3)));
        for (gaps, name, all) in [(&mut audio, "audio", &sounds), (&mut video, "video", &pictures)] {
            let calm: Vec<_> = all.iter().map(|(calm, _)| *calm).collect();
            let cut: Vec<_> = all.iter().map(|(_, (gap, _))| *gap).collect();
            gaps.add(&format!("relays, {name}, trial {trial}"), ends, &calm, &cut);
        }
    }
    println!("audio packets missing around all cuts, at all listeners: {missing}");
    let mut table = audio.table("relays, audio");
    table.extend(video.table("relays, video"));
    table.row("relays: route settled", settled);
    Ok(table)
}

/// The times without a picture around each cut, and after which the top was back where it had been left.
fn sights(lab: &Netlab, cuts: &[Cut], heard: &[Heard]) -> Result<Table> {
    let seen: Vec<_> =
        heard.iter().map(|heard| heard.video.as_ref().context("no picture")).collect::<Result<_>>()?;
    let (mut gaps, mut back, mut stayed) = (Gaps::default(), Figures::default(), 0);
    let (length, spacing) = (CUT.as_secs_f64() * 1e3, 1e3 / 30.0);
    let top = ENCODINGS.map(|((width, _), _)| width).into_iter().max().unwrap_or_default();
    for (trial, cut) in cuts.iter().enumerate() {
        let until = cuts.get(trial + 1).map_or(f64::MAX, |next| next.at_ms);
        let calm =
            |seen: &&Seen| longest(&seen.silences, cut.at_ms - length, cut.at_ms - 2.0 * spacing, spacing).0;
        let gap = |seen: &&Seen| longest(&seen.silences, cut.at_ms, cut.at_ms + length, spacing).0;
        let (before, after): (Vec<_>, Vec<_>) =
            (seen.iter().map(calm).collect(), seen.iter().map(gap).collect());
        gaps.add(&format!("encodings, trial {trial}"), lab.wires()[cut.wire].ends(), &before, &after);
        for seen in &seen {
            let within = |size: &&Size| size.at_ms >= cut.at_ms && size.at_ms < until;
            let changes: Vec<&Size> = seen.sizes.iter().filter(within).collect();
            let left = changes.iter().find(|size| size.width < top && size.at_ms < cut.at_ms + length);
            let again = left
                .and_then(|left| changes.iter().find(|size| size.width == top && size.at_ms > left.at_ms));
            match (left, again) {
                (None, _) => stayed += 1,
                (Some(left), again) => {
                    let ms = again.map_or(until.min(left.at_ms + 60_000.0), |size| size.at_ms) - cut.at_ms;
                    println!("  left the top after {:.0} ms, back after {ms:.0} ms", left.at_ms - cut.at_ms);
                    back.add(Duration::from_secs_f64(ms / 1e3));
                }
            }
        }
    }
    println!("a listener whose top was not cut, or did not notice: {stayed} times");
    let mut table = gaps.table("encodings, picture");
    table.row("encodings: the top is back", back);
    Ok(table)
}

/// Silences at `b`, `c`, `d`, trial by trial.
#[derive(Debug, Default)]
pub struct Gaps {
    calm: Figures,
    far: Figures,
    worst: Figures,
}

impl Gaps {
    /// One trial: the silence of each without a cut, and around the cut.
    pub fn add(&mut self, trial: &str, [a, b]: [&str; 2], calm: &[Duration], cut: &[Duration]) {
        let worst = |gaps: &[Duration]| gaps.iter().copied().max().unwrap_or_default();
        self.calm.add(worst(calm));
        self.worst.add(worst(cut));
        // The far corner has two ways of the same length. If the cut took neither, there is nothing to tell.
        if cut[1] > worst(calm) + Duration::from_millis(10) {
            self.far.add(cut[1]);
        }
        let ms = |gaps: &[Duration]| {
            gaps.iter().map(|gap| format!("{:.0}", gap.as_secs_f64() * 1e3)).collect::<Vec<_>>().join(" ")
        };
        println!("{trial}: {a}-{b} cut, silent for {} ms at b c d ({} before)", ms(cut), ms(calm));
    }

    /// As rows.
    pub fn table(self, name: &str) -> Table {
        let mut table = Table::default();
        table.row(&format!("{name}: nothing cut"), self.calm);
        if self.far.count() > 0 {
            table.row(&format!("{name}: far corner, where noticed"), self.far);
        }
        table.row(&format!("{name}: worst of three"), self.worst);
        table
    }
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
