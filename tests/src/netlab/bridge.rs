//! One bridge that is narrow, long and lossy, with more pictures offered than it carries: what a listener of the next zone
//! would have to make up, how late announcements are, and what parity does and takes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{
    Conditions, Netlab, Topology,
    race::Figures,
    relays::{Concealed, Relays},
};
use crate::{
    api::Api,
    clock::{now, pause},
    film,
    metrics::Metrics,
};

const STREAM: &str = "main-stage";
/// What the stage offers: sizes and bits per second.
const ENCODINGS: [((u16, u16), u32); 3] =
    [((320, 180), 120_000), ((640, 360), 600_000), ((1280, 720), 2_000_000)];
/// From the listener's coming until parity is asked for, pictures fit, and what is heard counts.
const SETTLE: Duration = Duration::from_secs(20);
/// Between two announcements.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at what has arrived: so much later than it was is when it is seen.
const LOOK: Duration = Duration::from_millis(50);
/// What has not come after that never does.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What a listener with a store of 80 ms would have made up.
    pub concealed: Concealed,
    /// Audio packets that came to the listener, and that never came.
    pub audio: [u64; 2],
    /// Packets of the picture that came to the listener.
    pub video: u64,
    /// From the posting of an announcement to its being at the other relay.
    pub announced: Figures,
    /// Announcements that never came.
    pub missing: usize,
    /// Datagrams that were missing when the next one came, and those that were given up.
    pub lost: [f64; 2],
    /// Parities sent, packets recovered, late, parities of no use: of sound, of pictures.
    pub parity: [[f64; 4]; 2],
    /// Bits per second that parity took, and the bridge from the stage's side in all.
    pub rates: [f64; 2],
}

/// A bridge of this rate, loss (each way) and round trip, for so long.
pub async fn bridge(rate_bps: u64, loss: f64, round_trip: Duration, length: Duration) -> Result<Outcome> {
    let directory = tempfile::tempdir()?;
    let films: Vec<_> = (0..ENCODINGS.len()).map(|at| directory.path().join(format!("{at}.ivf"))).collect();
    for (film, (size, rate)) in films.iter().zip(ENCODINGS) {
        film::write(film, size, rate)?;
    }
    let wire = Conditions { rate_bps, ..Conditions::delay(round_trip / 2).loss(loss) };
    let lab = Netlab::new(&Topology::chain(2, wire), 1).await?;
    let mesh = Relays::start(&lab).await?;
    let _publisher = mesh.publish_encodings(&lab, "a", STREAM, &films).await?;
    mesh.list(&lab, &["a", "b"], STREAM).await?;
    // Somebody who is there from the beginning: the tracks cross, and the losses are known.
    let first = mesh.listen(&lab, "b", STREAM).await?;
    pause(SETTLE).await;
    let listener = mesh.listen(&lab, "b", STREAM).await?;
    let (before, began) = (Seen::now(&lab, &mesh).await?, now());
    let (mut announced, mut missing) = (Figures::default(), 0);
    while began.elapsed() < length {
        let turn = now();
        match announce(&lab, &mesh, announced.count() + missing).await? {
            Some(took) => announced.add(took),
            None => missing += 1,
        }
        pause(ANNOUNCE_EVERY.saturating_sub(turn.elapsed())).await;
    }
    let (after, seconds) = (Seen::now(&lab, &mesh).await?, began.elapsed().as_secs_f64());
    let heard = listener.heard().await?;
    drop(first);
    let at_stage =
        |name: &str, labels: &[(&str, &str)]| after.stage.sum(name, labels) - before.stage.sum(name, labels);
    let beyond =
        |name: &str, labels: &[(&str, &str)]| after.next.sum(name, labels) - before.next.sum(name, labels);
    let parity = ["audio", "video"].map(|kind| {
        let of = |outcome| [("kind", kind), ("outcome", outcome)];
        let received =
            ["recovered", "late", "useless"].map(|outcome| beyond("relay_fec_total", &of(outcome)));
        [at_stage("relay_fec_total", &of("sent")), received[0], received[1], received[2]]
    });
    Ok(Outcome {
        concealed: heard.concealed.context("no sound was played")?,
        audio: [heard.packets, heard.lost],
        video: heard.video.map_or(0, |video| video.packets),
        announced,
        missing,
        lost: [
            beyond("relay_rtp_lost_total", &[("direction", "bridge")]),
            beyond("relay_drop_total", &[("reason", "bridge_repair_late")]),
        ],
        parity,
        rates: [
            at_stage("relay_fec_bytes_total", &[]) * 8.0 / seconds,
            at_stage("relay_bridge_bytes_total", &[("direction", "out")]) * 8.0 / seconds,
        ],
    })
}

/// The figures of both relays.
struct Seen {
    stage: Metrics,
    next: Metrics,
}

impl Seen {
    async fn now(lab: &Netlab, mesh: &Relays) -> Result<Seen> {
        let metrics = |host| mesh.ask(lab, host, |api| async move { api.metrics().await });
        Ok(Seen { stage: metrics("a").await?, next: metrics("b").await? })
    }
}

/// Announces something at the stage; how long it took to the next zone, if it came there within some seconds.
async fn announce(lab: &Netlab, mesh: &Relays, number: usize) -> Result<Option<Duration>> {
    let text = format!("number {number}");
    let post = |api: Api| async move { api.post("/api/v1/announcements", "crew", &text).await };
    let posted: Instant = now();
    let id = mesh.ask(lab, "a", post).await?.id;
    while posted.elapsed() < PATIENCE {
        let there = mesh.ask(lab, "b", |api| async move { api.announcements().await }).await?;
        if there.iter().any(|message| message.id == id) {
            return Ok(Some(posted.elapsed()));
        }
        pause(LOOK).await;
    }
    Ok(None)
}

impl Outcome {
    /// For people.
    pub fn print(&self) {
        let Outcome { concealed, audio: [packets, lost], video, announced, missing, parity, rates, .. } =
            self;
        println!(
            "audio: {:.2} % made up in {} pieces, the longest {:.0} ms; {packets} packets, {lost} lost, {} late",
            concealed.percent, concealed.events, concealed.longest_ms, concealed.late
        );
        println!("picture: {video} packets");
        println!("announcements, p50 | p95 | max | n in ms: {announced}, missing: {missing}");
        println!("on the bridge: {:.0} lost, {:.0} given up", self.lost[0], self.lost[1]);
        for (kind, [sent, recovered, late, useless]) in ["audio", "video"].iter().zip(parity) {
            println!(
                "parity, {kind}: {sent:.0} sent, {recovered:.0} packets back, {late:.0} late, {useless:.0} of no use"
            );
        }
        println!("parity took {:.0} of {:.0} kbit/s", rates[0] / 1e3, rates[1] / 1e3);
    }
}
