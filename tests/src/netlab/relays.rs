//! Real relays on the hosts of a lab, bridged along its wires, with publishers and listeners beside them.
//! Everybody talks to the relay of their own host over its loopback; only bridges cross the wires.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use protocol::api::Mesh;
use serde::Deserialize;

use super::Netlab;
use crate::{
    api::Api,
    child::{Child, program},
    clock::until,
    relay::{Relay, Setup},
};

const BRIDGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8081);
const CONVERGENCE: Duration = Duration::from_secs(60);
/// Ends a program when whoever started it is gone, however that happened.
const BOUND: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// One relay per host. They end with this.
#[derive(Debug)]
pub struct Relays {
    relays: BTreeMap<String, Relay>,
}

/// Somebody who publishes or listens on a host.
#[derive(Debug)]
pub struct Peer {
    child: Child,
}

/// What a listener heard and saw.
#[derive(Debug, Clone, Deserialize)]
pub struct Heard {
    /// Audio packets.
    pub packets: u64,
    /// Audio packets that never came.
    pub lost: u64,
    /// Audio packets that came twice.
    pub duplicates: u64,
    /// Times without an audio packet.
    #[serde(default)]
    pub silences: Vec<Silence>,
    /// What a receiver with a small store would have made up.
    pub concealed: Option<Concealed>,
    /// From publisher to listener.
    pub delay_ms: Option<Delay>,
    /// The picture.
    pub video: Option<Seen>,
}

/// What a listener would have made up.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Concealed {
    /// Percent of all that was played.
    pub percent: f64,
    /// The longest time in one piece, in milliseconds.
    pub longest_ms: f64,
    /// Pieces.
    pub events: u64,
    /// Packets that came when their turn was over.
    pub late: u64,
}

/// What a listener saw.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// Packets.
    pub packets: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Times without a packet.
    #[serde(default)]
    pub silences: Vec<Silence>,
    /// When it became which size.
    #[serde(default)]
    pub sizes: Vec<Size>,
}

/// The size of a picture from some time on.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Size {
    /// Since when: milliseconds since 1970.
    pub at_ms: f64,
    /// In pixels.
    pub width: u16,
}

/// A time without a packet.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Silence {
    /// When the packet before it came: milliseconds since 1970.
    pub at_ms: f64,
    /// Until the next came.
    pub ms: f64,
    /// Packets that are missing between the two.
    pub missing: u64,
}

/// Percentiles of a delay, in milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Delay {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Relays {
    /// Starts a relay on each host and waits until each knows all others and every wire carries a link.
    /// Of two neighbors the second end of their wire dials.
    pub async fn start(lab: &Netlab) -> Result<Relays> {
        let mut relays = BTreeMap::new();
        for host in lab.hosts() {
            let mut setup = Setup::zone(host.name()).bridge(BRIDGE).within(&BOUND);
            // One address says here what a whole zone says.
            setup = setup.argument("--chat-address-rate").argument("0");
            // However fast this machine is: what is measured needs rungs.
            setup = setup.argument("--ladder").argument("true");
            for wire in lab.wires() {
                let [first, second] = wire.ends();
                if second == host.name() {
                    setup = setup.peer(SocketAddr::new(wire.address(first).into(), BRIDGE.port()));
                }
            }
            relays.insert(host.name().to_owned(), host.run(setup.start()).await??);
        }
        let relays = Relays { relays };
        relays.converge(lab, lab.wires().len()).await?;
        Ok(relays)
    }

    /// The relay of a host.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn relay(&self, host: &str) -> &Relay {
        self.relays.get(host).unwrap_or_else(|| panic!("no relay on {host}"))
    }

    /// Asks the relay of a host something.
    pub async fn ask<T, F>(
        &self,
        lab: &Netlab,
        host: &str,
        question: impl FnOnce(Api) -> F + Send + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let api = self.relay(host).api();
        lab.host(host).run(async move { question(api).await }).await?
    }

    /// The mesh as the relay of a host knows it.
    pub async fn mesh(&self, lab: &Netlab, host: &str) -> Result<Mesh> {
        self.ask(lab, host, |api| async move { api.mesh().await }).await
    }

    /// Waits until every relay knows all relays and counts that many links that are up.
    pub async fn converge(&self, lab: &Netlab, links: usize) -> Result<()> {
        for host in self.relays.keys() {
            until(&format!("{host} knows {links} links"), CONVERGENCE, || async {
                let mesh = self.mesh(lab, host).await?;
                let up = mesh.links.iter().filter(|link| link.up).count();
                ensure!(
                    mesh.nodes.len() == self.relays.len() && up == links,
                    "{} nodes, {up} links",
                    mesh.nodes.len()
                );
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until the relay of each of these hosts lists a stream.
    pub async fn list(&self, lab: &Netlab, hosts: &[&str], stream: &str) -> Result<()> {
        for host in hosts {
            let name = stream.to_owned();
            until(&format!("{host} lists {stream}"), CONVERGENCE, || {
                let name = name.clone();
                self.ask(lab, host, move |api| async move { Ok(api.stream(&name).await?.map(|_| ())) })
            })
            .await?;
        }
        Ok(())
    }

    /// A tone and, if wanted, a picture, published at the relay of a host.
    pub async fn publish(&self, lab: &Netlab, host: &str, stream: &str, video: bool) -> Result<Peer> {
        let url = self.relay(host).api().url(&format!("/whip/{stream}"));
        let mut arguments =
            vec!["publish".to_owned(), url, "--tone".to_owned(), "440".to_owned(), "--stamp".to_owned()];
        arguments.extend(video.then(|| "--video".to_owned()));
        self.peer(lab, host, &format!("publisher of {stream} at {host}"), arguments).await
    }

    /// A tone and a picture in encodings, each from a file, published at the relay of a host.
    pub async fn publish_encodings(
        &self,
        lab: &Netlab,
        host: &str,
        stream: &str,
        films: &[PathBuf],
    ) -> Result<Peer> {
        let url = self.relay(host).api().url(&format!("/whip/{stream}"));
        let films: Vec<_> = films.iter().map(|film| film.to_string_lossy()).collect();
        let arguments =
            ["publish", &url, "--tone", "440", "--encodings", &films.join(",")].map(str::to_owned).into();
        self.peer(lab, host, &format!("publisher of {stream} at {host}"), arguments).await
    }

    /// Somebody who listens at the relay of a host until asked what was heard, with a timeline of silences of
    /// more than 22 ms.
    pub async fn listen(&self, lab: &Netlab, host: &str, stream: &str) -> Result<Peer> {
        let url = self.relay(host).api().url(&format!("/whep/{stream}"));
        let arguments = ["listen", &url, "--wait", "--silences-above", "22"].map(str::to_owned).into();
        self.peer(lab, host, &format!("listener of {stream} at {host}"), arguments).await
    }

    async fn peer(&self, lab: &Netlab, host: &str, name: &str, arguments: Vec<String>) -> Result<Peer> {
        let client = program("signaling-client")?.display().to_string();
        let (name, [bound, rest @ ..]) = (name.to_owned(), BOUND);
        let arguments: Vec<String> =
            rest.map(str::to_owned).into_iter().chain([client]).chain(arguments).collect();
        let started = async move { Child::start(&name, bound.as_ref(), arguments, &[]) };
        Ok(Peer { child: lab.host(host).run(started).await?? })
    }
}

impl Peer {
    /// Fails if it has ended.
    pub fn goes_on(&mut self) -> Result<()> {
        match self.child.ended()? {
            Some(status) => bail!("a participant ended ({status}): {}", self.child.log()),
            None => Ok(()),
        }
    }

    /// Ends it, and says what was heard.
    pub async fn heard(mut self) -> Result<Heard> {
        self.goes_on()?;
        self.child.terminate()?;
        self.child.wait(Duration::from_secs(10)).await?;
        let output = self.child.output();
        let start =
            output.find('{').with_context(|| format!("no report: {output:?} {}", self.child.log()))?;
        Ok(serde_json::from_str(output[start..].trim())?)
    }
}

/// The longest silence that begins before `to` and ends after `from`, beyond `spacing`, and what is missing in
/// all of them. Times are in milliseconds since 1970.
pub fn longest(silences: &[Silence], from: f64, to: f64, spacing: f64) -> (Duration, u64) {
    let within = || silences.iter().filter(|silence| silence.at_ms < to && silence.at_ms + silence.ms > from);
    let ms = within().map(|silence| silence.ms - spacing).fold(0.0, f64::max);
    (Duration::from_secs_f64(ms / 1e3), within().map(|silence| silence.missing).sum())
}
