//! One real relay-node: started with ports of its own choice, stopped in every way a relay can stop, and
//! started again on the same ports with the same data.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    api::Api,
    child::{Child, program},
    clock::until,
};

/// Any free port of this machine.
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(15);

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    zone: String,
    open: bool,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    bridge: SocketAddr,
    within: Vec<String>,
    program: &'static str,
}

impl Setup {
    /// A relay of that zone, open to all (`--dev`).
    pub fn zone(zone: &str) -> Setup {
        Setup {
            zone: zone.to_owned(),
            open: true,
            arguments: vec![],
            environment: vec![],
            bridge: LOCAL,
            within: vec![],
            program: "relay-node",
        }
    }

    /// Without `--dev`.
    pub fn closed(mut self) -> Setup {
        self.open = false;
        self
    }

    /// Where it takes bridges; otherwise at a free port of this machine alone.
    pub fn bridge(mut self, address: SocketAddr) -> Setup {
        self.bridge = address;
        self
    }

    /// Starts it by another program that becomes the relay: that program and its arguments.
    pub fn within(mut self, program: &[&str]) -> Setup {
        self.within = program.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Of the next bridge version, which a binary of its own speaks.
    pub fn next(mut self) -> Setup {
        self.program = "relay-node-next";
        self
    }

    /// Dials `peer`.
    pub fn peer(self, peer: SocketAddr) -> Setup {
        self.argument("--peer").argument(&peer.to_string())
    }

    /// One more argument.
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One more environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Result<Relay> {
        self.start_in(TempDir::new()?).await
    }

    /// The same, with what is in `data` already.
    pub async fn start_in(self, data: TempDir) -> Result<Relay> {
        let ports = Ports { http: LOCAL, media: LOCAL, bridge: self.bridge, node: String::new() };
        let mut relay = Relay { child: self.spawn(data.path(), &ports)?, setup: self, data, ports };
        relay.answers().await?;
        Ok(relay)
    }

    fn spawn(&self, data: &Path, ports: &Ports) -> Result<Child> {
        let mut arguments: Vec<String> = ["--zone", &self.zone, "--data"].map(str::to_owned).into();
        arguments.push(data.display().to_string());
        for (flag, port) in [("--http", ports.http), ("--media", ports.media), ("--bridge", ports.bridge)] {
            arguments.extend([flag.to_owned(), port.to_string()]);
        }
        if self.open {
            arguments.push("--dev".to_owned());
        }
        arguments.extend(self.arguments.iter().cloned());
        let environment: Vec<_> = self.environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let name = format!("relay {}", self.zone);
        let relay = program(self.program)?;
        match &self.within[..] {
            [] => Child::start(&name, &relay, arguments, &environment),
            [first, rest @ ..] => {
                let all = rest.iter().cloned().chain([relay.display().to_string()]).chain(arguments);
                Child::start(&name, first.as_ref(), all, &environment)
            }
        }
    }
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    setup: Setup,
    data: TempDir,
    ports: Ports,
}

/// `addresses.json`, as the relay writes it once everything is bound.
#[derive(Debug, Deserialize)]
struct Ports {
    http: SocketAddr,
    media: SocketAddr,
    bridge: SocketAddr,
    node: String,
}

impl Relay {
    /// Its zone.
    pub fn zone(&self) -> &str {
        &self.setup.zone
    }

    /// Its node id.
    pub fn node(&self) -> &str {
        &self.ports.node
    }

    /// Where other relays reach it.
    pub fn bridge(&self) -> SocketAddr {
        self.ports.bridge
    }

    /// Where WebRTC sessions reach it.
    pub fn media(&self) -> SocketAddr {
        self.ports.media
    }

    /// Where HTTP reaches it.
    pub fn http(&self) -> SocketAddr {
        self.ports.http
    }

    /// Its HTTP API.
    pub fn api(&self) -> Api {
        Api::at(self.ports.http)
    }

    /// The directory it keeps its data in.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// A path as the relay sees it, which may have disks of its own.
    pub fn inside(&self, path: &Path) -> PathBuf {
        if self.setup.within.is_empty() {
            return path.to_owned();
        }
        PathBuf::from(format!("/proc/{}/root{}", self.child.id(), path.display()))
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.child.log()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()
    }

    /// How it ended by itself.
    pub async fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.child.wait(limit).await
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.child.terminate()?;
        self.child.wait(STOP).await
    }

    /// Starts it again on the same ports with the same data, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let old = self.ports.node.clone();
        let _ = fs::remove_file(self.data.path().join("addresses.json"));
        self.child = self.setup.spawn(self.data.path(), &self.ports)?;
        self.answers().await?;
        if self.ports.node != old {
            bail!("{} changed its identity in a restart: {old} became {}", self.zone(), self.ports.node);
        }
        Ok(())
    }

    async fn answers(&mut self) -> Result<()> {
        let file = self.inside(&self.data.path().join("addresses.json"));
        let zone = self.setup.zone.clone();
        let child = &mut self.child;
        self.ports = until(&format!("relay {zone} tells its addresses"), START, || {
            let state = child.ended().map(|ended| match ended {
                Some(status) => Some(Err(format!("relay {zone} ended ({status}): {}", child.log()))),
                None => fs::read(&file).ok().map(Ok),
            });
            async {
                Ok(state?.map(|read| {
                    read.map_err(anyhow::Error::msg).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?))
                }))
            }
        })
        .await??;
        let api = self.api();
        until(&format!("relay {zone} is ready"), START, || async {
            api.ready().await.map(|ready| ready.then_some(()))
        })
        .await
    }
}
