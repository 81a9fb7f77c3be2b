//! One bridge that is too thin for what the publishers of several stages send: which quality of each is heard in the next zone,
//! and whether anything of it is missing.

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::api::MeshHearing;

use super::{
    Conditions, Netlab, Topology,
    relays::{Heard, Relays},
};
use crate::clock::pause;

/// From the coming of the listeners until what the bridge carries is known and each stage comes in what fits.
const SETTLE: Duration = Duration::from_secs(20);

/// What was heard.
#[derive(Debug)]
pub struct Outcome {
    /// Of each stage, by who came after [`SETTLE`].
    pub heard: Vec<Heard>,
    /// How many in the next zone hear which quality, in the end.
    pub hearing: MeshHearing,
    /// Bits per second over the bridge from the stages' side.
    pub rate: f64,
}

/// So many stages over a bridge of this rate and round trip, each with a listener at the other end, for so long.
pub async fn stages(stages: usize, rate_bps: u64, round_trip: Duration, length: Duration) -> Result<Outcome> {
    let wire = Conditions { rate_bps, ..Conditions::delay(round_trip / 2) };
    let lab = Netlab::new(&Topology::chain(2, wire), 1).await?;
    let mesh = Relays::start(&lab).await?;
    let names: Vec<String> = (1..=stages).map(|stage| format!("stage-{stage}")).collect();
    let (mut publishers, mut first, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    for name in &names {
        publishers.push(mesh.publish(&lab, "a", name, false).await?);
        mesh.list(&lab, &["a", "b"], name).await?;
    }
    for name in &names {
        first.push(mesh.listen(&lab, "b", name).await?);
    }
    pause(SETTLE).await;
    for name in &names {
        listeners.push(mesh.listen(&lab, "b", name).await?);
    }
    let sent = || async {
        let metrics = mesh.ask(&lab, "a", |api| async move { api.metrics().await }).await?;
        anyhow::Ok(metrics.sum("relay_bridge_bytes_total", &[("direction", "out")]))
    };
    let before = sent().await?;
    pause(length).await;
    let rate = (sent().await? - before) * 8.0 / length.as_secs_f64();
    let nodes = mesh.mesh(&lab, "b").await?.nodes;
    let next =
        nodes.into_iter().find(|node| node.id == mesh.relay("b").node()).context("the relay itself")?;
    let mut heard = Vec::new();
    for listener in listeners {
        heard.push(listener.heard().await?);
    }
    Ok(Outcome { heard, hearing: next.hearing.unwrap_or_default(), rate })
}

impl Outcome {
    /// For people.
    pub fn print(&self) {
        for (stage, heard) in (1..).zip(&self.heard) {
            let made_up = heard.concealed.map_or(0.0, |concealed| concealed.percent);
            let Heard { packets, lost, .. } = heard;
            println!("stage {stage}: {packets} packets, {lost} lost, {made_up:.2} % made up");
        }
        println!("heard in the next zone: {:?}", self.hearing);
        println!("on the bridge: {:.0} kbit/s", self.rate / 1e3);
    }
}
