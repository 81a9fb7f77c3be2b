//! Network emulation for real processes on one machine: a network namespace for each relay, and wires between
//! them whose delay, loss, rate and queue are ours to choose and to change while everything runs.
//!
//! A wire is a pair of TUN devices, one in each namespace, and the [`emulator`] between them. Everything
//! goes when the [`Netlab`] does: namespaces have no names and devices belong to open files.

pub mod babel;
pub mod bridge;
pub mod console;
pub mod emulator;
pub mod flow;
mod host;
mod kernel;
pub mod loss;
pub mod partition;
mod pump;
pub mod race;
pub mod relays;
pub mod stages;
pub mod topology;

use std::{collections::BTreeMap, fs::File, net::Ipv4Addr};

use anyhow::{Context, Result};

pub use emulator::{Conditions, Counters};
pub use host::Host;
use pump::{Pump, Shared, Way};
pub use topology::{Change, Topology, What};

/// Hosts, wires and the thread that carries packets.
#[derive(Debug)]
pub struct Netlab {
    // In the order in which they are to go: first the traffic, then the machines.
    _pump: Pump,
    wires: Vec<Wire>,
    hosts: BTreeMap<String, Host>,
}

/// A wire between two hosts.
#[derive(Debug)]
pub struct Wire {
    ends: [String; 2],
    addresses: [Ipv4Addr; 2],
    /// What leaves the first end, and what leaves the second.
    lanes: [Shared; 2],
}

impl Netlab {
    /// Why there can be no lab here; `None` if there can.
    pub fn obstacle() -> Option<String> {
        let tried = std::thread::spawn(|| {
            kernel::own_namespace()
                .map_err(|error| format!("no network namespace can be had here: {error}"))?;
            kernel::tun("try0").map_err(|error| format!("no TUN device can be had here: {error}"))?;
            Ok(())
        });
        match tried.join() {
            Ok(Ok(())) => None,
            Ok(Err(reason)) => Some(reason),
            Err(_) => Some("trying for a network namespace failed".to_owned()),
        }
    }

    /// Builds it. The same seed loses the same packets, as far as programs send the same ones.
    pub async fn new(topology: &Topology, seed: u64) -> Result<Netlab> {
        let mut hosts = BTreeMap::new();
        for name in &topology.relays {
            hosts.insert(name.clone(), Host::new(name).await?);
        }
        for (at, host) in hosts.values().enumerate() {
            host.ip(&format!("address add {}/32 dev lo\n", own_address(at))).await?;
        }
        let (mut wires, mut ways) = (vec![], vec![]);
        for (at, shape) in topology.wires.iter().enumerate() {
            let [a, b] = &shape.ends;
            let addresses = [1, 2].map(|end| Ipv4Addr::new(10, 77, at as u8, end));
            let lane = |way| {
                let mut lane = emulator::Lane::new(seed ^ ((at as u64) << 1 | way));
                lane.set(shape.conditions);
                Shared::new(lane)
            };
            let lanes = [lane(0), lane(1)];
            let one = device(&hosts[a], b, addresses[0], addresses[1]).await?;
            let other = device(&hosts[b], a, addresses[1], addresses[0]).await?;
            ways.push(Way { from: one.try_clone()?, to: other.try_clone()?, lane: lanes[0].clone() });
            ways.push(Way { from: other, to: one, lane: lanes[1].clone() });
            wires.push(Wire { ends: shape.ends.clone(), addresses, lanes });
        }
        Ok(Netlab { _pump: Pump::start(ways)?, wires, hosts })
    }

    /// A host, by name.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.get(name).unwrap_or_else(|| panic!("no host {name} in this lab"))
    }

    /// The address of a host that belongs to none of its wires: reachable where something routes.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn address(&self, name: &str) -> Ipv4Addr {
        own_address(
            self.hosts.keys().position(|host| host == name).unwrap_or_else(|| panic!("no host {name}")),
        )
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// The wire between two hosts, if there is one.
    pub fn find(&self, a: &str, b: &str) -> Option<&Wire> {
        self.wires.iter().find(|wire| wire.joins(a) && wire.joins(b) && a != b)
    }

    /// The wire between two hosts.
    ///
    /// # Panics
    /// If there is none.
    pub fn wire(&self, a: &str, b: &str) -> &Wire {
        self.find(a, b).unwrap_or_else(|| panic!("no wire {a}-{b} in this lab"))
    }

    /// All wires, in the order of the topology.
    pub fn wires(&self) -> &[Wire] {
        &self.wires
    }

    /// Changes a wire.
    pub fn change(&self, change: &Change) -> Result<()> {
        let [a, b] = &change.ends;
        let wire = self.find(a, b).with_context(|| format!("there is no wire {a}-{b}"))?;
        for from in change.ends.iter().take(if change.one_way { 1 } else { 2 }) {
            let mut lane = wire.from(from).lane();
            match change.what {
                What::Cut => lane.cut(),
                What::Heal => lane.heal(),
                what => {
                    let now = lane.conditions();
                    lane.set(what.apply(now));
                }
            }
        }
        Ok(())
    }
}

impl Wire {
    /// The hosts at its ends.
    pub fn ends(&self) -> [&str; 2] {
        [&self.ends[0], &self.ends[1]]
    }

    /// Whether a host is one of its ends.
    pub fn joins(&self, host: &str) -> bool {
        self.ends.iter().any(|end| end == host)
    }

    /// The host at the other end; `None` if `host` is at neither.
    pub fn other(&self, host: &str) -> Option<&str> {
        let at = self.ends.iter().position(|end| end == host)?;
        Some(&self.ends[1 - at])
    }

    /// The address of one of its ends.
    pub fn address(&self, end: &str) -> Ipv4Addr {
        self.addresses[usize::from(self.ends[0] != end)]
    }

    /// Changes it both ways.
    pub fn set(&self, conditions: Conditions) {
        self.lanes.iter().for_each(|lane| lane.lane().set(conditions));
    }

    /// Changes what leaves `end`.
    pub fn set_from(&self, end: &str, conditions: Conditions) {
        self.from(end).lane().set(conditions);
    }

    /// Nothing passes from now on, either way, and nobody is told.
    pub fn cut(&self) {
        self.lanes.iter().for_each(|lane| lane.lane().cut());
    }

    /// Nothing that leaves `end` arrives from now on.
    pub fn cut_from(&self, end: &str) {
        self.from(end).lane().cut();
    }

    /// It passes again, both ways.
    pub fn heal(&self) {
        self.lanes.iter().for_each(|lane| lane.lane().heal());
    }

    /// What happened to packets that left `end`.
    pub fn counters_from(&self, end: &str) -> Counters {
        self.from(end).lane().counters()
    }

    /// How long packets that left `end` waited for the rate, since the last call; in no order.
    pub fn take_waits_from(&self, end: &str) -> Vec<std::time::Duration> {
        self.from(end).lane().take_waits()
    }

    /// Large packets that came through, both ways together.
    pub fn large(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.lane().counters().large).sum()
    }

    fn from(&self, end: &str) -> &Shared {
        &self.lanes[usize::from(self.ends[0] != end)]
    }
}

/// A host's address that belongs to none of its wires.
fn own_address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, at as u8 + 1)
}

/// The device of a wire in one of its hosts: `to-b`.
async fn device(host: &Host, toward: &str, address: Ipv4Addr, peer: Ipv4Addr) -> Result<File> {
    let name = format!("to-{toward}");
    let device = host.tun(&name).await?;
    host.ip(&format!("address add {address} peer {peer} dev {name}\nlink set {name} mtu 1500 up\n")).await?;
    Ok(device)
}
