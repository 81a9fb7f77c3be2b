//! One link per neighbor and underlay, whoever dialed. The rule is the one of TCP's simultaneous open:
//! a dialer that already has the link, or has another dial under way, gives its new connection up
//! before the hello; whoever is dialed takes the newest connection, except that of two relays whose
//! hellos cross the lower id insists on its own, also if the other's comes a little after the link is up.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mesh_routing::UnderlayKind;
use protocol::NodeId;
use quinn::Connection;

use super::handle::LinkShared;
use crate::bridge::LinkId;

/// More than any sensible mesh; a limit for what strangers can make us hold.
const LINKS_MAX: usize = 256;
/// Links to one neighbor.
const PARALLEL_MAX: usize = 4;
/// So long after a link came up the other's hello may still be under way that was sent before.
const CROSSING: Duration = Duration::from_secs(1);
/// Neighbors the operator wants.
const CONFIGURED_MAX: usize = 1024;
/// Addresses of neighbors that are remembered.
const MET_MAX: usize = 1024;

/// What a connection runs over, as far as one end can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    kind: UnderlayKind,
    local: Option<IpAddr>,
    remote: IpAddr,
    /// Of the other end. It tells no underlays apart, but two boxes behind one address.
    port: u16,
}

impl Path {
    /// The path of a connection that the dialer says is of this kind.
    pub fn of(connection: &Connection, kind: UnderlayKind) -> Path {
        let local = connection.local_ip().map(|ip| ip.to_canonical());
        let remote = connection.remote_address();
        Path { kind, local, remote: remote.ip().to_canonical(), port: remote.port() }
    }

    /// Whether two connections to one neighbor share an underlay: the same addresses, unless the operator
    /// says that they differ; and a name with an address of each family is one place.
    fn same(&self, other: &Path) -> bool {
        let known = |path: &Path| path.kind != UnderlayKind::Unknown;
        if known(self) && known(other) && self.kind != other.kind {
            return false;
        }
        if self.remote.is_ipv4() != other.remote.is_ipv4() {
            return self.kind == other.kind;
        }
        let near = self.local.is_none() || other.local.is_none() || self.local == other.local;
        near && self.remote == other.remote
    }
}

/// Who is linked to this relay.
pub(crate) struct Neighbors {
    own: NodeId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_link: u32,
    entries: BTreeMap<NodeId, Entry>,
    configured: BTreeSet<NodeId>,
    /// Where neighbors have been, the newest at the end. A relay dials from the port it listens at.
    met: VecDeque<SocketAddr>,
}

#[derive(Default)]
struct Entry {
    links: Vec<(Path, Arc<LinkShared>)>,
    claimed: Vec<Path>,
    /// The last link that this relay dialed, and when it came up.
    dialed: Option<(Path, Instant)>,
}

/// Why a connection does not become a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is a link to this neighbor on this way already")]
    Duplicate,
    #[error("this address leads back to this relay itself")]
    Itself,
    #[error("this relay has {LINKS_MAX} links and takes no more")]
    Full,
}

/// The right to send a hello to one neighbor; given back when dropped.
pub(crate) struct Claim {
    neighbors: Arc<Neighbors>,
    node: NodeId,
    path: Path,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = self.neighbors.state().entries.get_mut(&self.node) {
            let at = entry.claimed.iter().position(|path| *path == self.path);
            at.map(|at| entry.claimed.swap_remove(at));
        }
    }
}

impl Neighbors {
    pub fn new(own: NodeId) -> Arc<Neighbors> {
        Arc::new(Neighbors { own, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operator wants this neighbor.
    pub fn configure(&self, node: NodeId) {
        let mut state = self.state();
        if state.configured.len() < CONFIGURED_MAX {
            state.configured.insert(node);
        }
    }

    /// Whether the operator wants this neighbor.
    pub fn configured(&self, node: &NodeId) -> bool {
        self.state().configured.contains(node)
    }

    /// Before the hello of a dialed connection.
    ///
    /// # Errors
    ///
    /// [`Refused::Itself`] for this relay's own id, [`Refused::Full`] if there is no room for another link,
    /// [`Refused::Duplicate`] if there is a link on this way already, a dial under way, or no room for
    /// another one to this neighbor.
    pub fn claim(self: &Arc<Self>, node: NodeId, path: Path) -> Result<Claim, Refused> {
        if node == self.own {
            return Err(Refused::Itself);
        }
        let mut state = self.state();
        state.check_room(&node)?;
        let entry = state.entries.entry(node).or_default();
        let full = entry.links.len() + entry.claimed.len() >= PARALLEL_MAX;
        // Another port of one address may be another box with one key: its hello will tell.
        let has_link = entry.links.iter().any(|(other, _)| other.same(&path) && other.port == path.port);
        if full || has_link || entry.claims(&path) {
            return Err(Refused::Duplicate);
        }
        entry.claimed.push(path);
        Ok(Claim { neighbors: self.clone(), node, path })
    }

    /// After the hello of an accepted connection, before the answer.
    ///
    /// # Errors
    ///
    /// [`Refused::Itself`] for this relay's own id, [`Refused::Full`] if there is no room for another link,
    /// [`Refused::Duplicate`] if this relay insists on a connection of its own or has no room for another one
    /// to this neighbor.
    pub fn admit(&self, node: NodeId, path: &Path, now: Instant) -> Result<(), Refused> {
        if node == self.own {
            return Err(Refused::Itself);
        }
        let state = self.state();
        state.check_room(&node)?;
        let Some(entry) = state.entries.get(&node) else { return Ok(()) };
        let insists = self.own < node && (entry.claims(path) || entry.dialed_just_now(path, now));
        let full = entry.links.len() >= PARALLEL_MAX && entry.link(path).is_none();
        if insists || full { Err(Refused::Duplicate) } else { Ok(()) }
    }

    /// The next link has the number after this one.
    #[cfg(test)]
    pub fn number_after(&self, last: u32) {
        self.state().last_link = last;
    }

    /// A number for the next link. Never used again, so that an old table cannot mean a new link.
    pub fn next_id(&self) -> LinkId {
        let mut state = self.state();
        state.last_link = state.last_link.wrapping_add(1);
        LinkId(state.last_link)
    }

    /// The link is agreed on both sides, `now` if this relay dialed. Returns the one it takes the place of.
    pub fn insert(
        &self,
        link: Arc<LinkShared>,
        path: Path,
        dialed: Option<Instant>,
    ) -> Option<Arc<LinkShared>> {
        let mut state = self.state();
        let entry = state.entries.entry(link.neighbor).or_default();
        entry.dialed = dialed.map(|now| (path, now)).or(entry.dialed);
        let is_old = |(other, old): &(Path, Arc<LinkShared>)| other.same(&path) && old.same_run(&link);
        let old = entry.links.iter().position(is_old);
        let old = old.map(|at| entry.links.swap_remove(at).1);
        entry.links.push((path, link));
        old
    }

    /// A neighbor is at this address.
    pub fn meet(&self, address: SocketAddr) {
        let mut state = self.state();
        state.met.retain(|known| *known != address);
        if state.met.len() == MET_MAX {
            state.met.pop_front();
        }
        state.met.push_back(address);
    }

    /// Whether a neighbor has been at this address. Anybody can say so of a packet, but not answer for it.
    pub fn has_met(&self, address: SocketAddr) -> bool {
        self.state().met.contains(&address)
    }

    /// The link ended.
    pub fn remove(&self, link: &LinkShared) {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&link.neighbor) else { return };
        entry.links.retain(|(_, current)| current.id != link.id);
        if entry.links.is_empty() && entry.claimed.is_empty() {
            state.entries.remove(&link.neighbor);
        }
    }

    /// The link to a neighbor that is in the way of one more on this path.
    pub fn link_to(&self, node: &NodeId, path: &Path) -> Option<Arc<LinkShared>> {
        let state = self.state();
        let entry = state.entries.get(node)?;
        entry.link(path).or_else(|| entry.links.first().map(|(_, link)| link)).cloned()
    }

    /// Every link.
    pub fn links(&self) -> Vec<Arc<LinkShared>> {
        let state = self.state();
        let links = state.entries.values().flat_map(|entry| &entry.links);
        links.map(|(_, link)| link.clone()).collect()
    }

    /// A link by its number.
    pub fn link(&self, id: LinkId) -> Option<Arc<LinkShared>> {
        let state = self.state();
        let mut links = state.entries.values().flat_map(|entry| &entry.links);
        links.find(|(_, link)| link.id == id).map(|(_, link)| link.clone())
    }
}

impl Entry {
    fn link(&self, path: &Path) -> Option<&Arc<LinkShared>> {
        self.links.iter().find(|(other, _)| other.same(path)).map(|(_, link)| link)
    }

    fn dialed_just_now(&self, path: &Path, now: Instant) -> bool {
        self.link(path).is_some()
            && self.dialed.is_some_and(|(other, at)| other.same(path) && now < at + CROSSING)
    }

    fn claims(&self, path: &Path) -> bool {
        self.claimed.iter().any(|other| other.same(path))
    }
}

impl State {
    fn check_room(&self, node: &NodeId) -> Result<(), Refused> {
        if self.entries.len() >= LINKS_MAX && !self.entries.contains_key(node) {
            return Err(Refused::Full);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(kind: UnderlayKind, local: &str, remote: &str) -> Path {
        Path { kind, local: local.parse().ok(), remote: remote.parse().unwrap(), port: 8081 }
    }

    #[test]
    fn an_underlay_is_a_pair_of_addresses_or_what_the_operator_says() {
        use UnderlayKind::{Lte, Unknown, Wifi};
        let wifi = path(Unknown, "10.0.0.1", "10.0.0.2");
        assert!(wifi.same(&path(Unknown, "10.0.0.1", "10.0.0.2")));
        assert!(wifi.same(&path(Unknown, "", "10.0.0.2")));
        assert!(!wifi.same(&path(Unknown, "100.64.0.1", "100.64.0.2")));
        assert!(wifi.same(&path(Unknown, "fd00::1", "fd00::2")));
        assert!(wifi.same(&path(Lte, "10.0.0.1", "10.0.0.2")));
        assert!(!path(Wifi, "10.0.0.1", "10.0.0.2").same(&path(Lte, "10.0.0.1", "10.0.0.2")));
        assert!(!path(Lte, "10.0.0.1", "10.0.0.2").same(&path(Lte, "10.0.1.1", "10.0.1.2")));
    }
}
