//! Exactly one link per neighbor, whoever dialed. The rule is the one of TCP's simultaneous open:
//! a dialer that already has the link, or has another dial under way, gives its new connection up
//! before the hello; whoever is dialed takes the newest connection, except that of two relays whose
//! hellos cross the lower id insists on its own.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::NodeId;

use super::{LinkId, link::LinkShared};

/// More than any sensible mesh; a limit for what strangers can make us hold.
const LINKS_MAX: usize = 256;

/// Who is linked to this relay.
pub(super) struct Neighbors {
    own: NodeId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_link: u32,
    entries: BTreeMap<NodeId, Entry>,
}

#[derive(Default)]
struct Entry {
    link: Option<Arc<LinkShared>>,
    claimed: bool,
}

/// Why a connection does not become a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is a link to this neighbor already")]
    Duplicate,
    #[error("this address leads back to this relay itself")]
    Itself,
    #[error("this relay has {LINKS_MAX} links and takes no more")]
    Full,
}

/// The right to send a hello to one neighbor; given back when dropped.
pub(super) struct Claim {
    neighbors: Arc<Neighbors>,
    node: NodeId,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(entry) = self.neighbors.state().entries.get_mut(&self.node) {
            entry.claimed = false;
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

    /// Before the hello of a dialed connection.
    pub fn claim(self: &Arc<Self>, node: NodeId) -> Result<Claim, Refused> {
        if node == self.own {
            return Err(Refused::Itself);
        }
        let mut state = self.state();
        state.check_room(&node)?;
        let entry = state.entries.entry(node).or_default();
        if entry.link.is_some() || entry.claimed {
            return Err(Refused::Duplicate);
        }
        entry.claimed = true;
        Ok(Claim { neighbors: self.clone(), node })
    }

    /// After the hello of an accepted connection, before the answer.
    pub fn admit(&self, node: NodeId) -> Result<(), Refused> {
        if node == self.own {
            return Err(Refused::Itself);
        }
        let state = self.state();
        state.check_room(&node)?;
        match state.entries.get(&node) {
            Some(entry) if entry.claimed && self.own < node => Err(Refused::Duplicate),
            _ => Ok(()),
        }
    }

    /// A number for the next link. Never used again, so that an old table cannot mean a new link.
    pub fn next_id(&self) -> LinkId {
        let mut state = self.state();
        state.last_link = state.last_link.wrapping_add(1);
        LinkId(state.last_link)
    }

    /// The link is agreed on both sides. Returns the one it takes the place of.
    pub fn insert(&self, link: Arc<LinkShared>) -> Option<Arc<LinkShared>> {
        self.state().entries.entry(link.neighbor).or_default().link.replace(link)
    }

    /// The link ended.
    pub fn remove(&self, link: &LinkShared) {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&link.neighbor) else { return };
        if entry.link.as_ref().is_some_and(|current| current.id == link.id) {
            entry.link = None;
        }
        if entry.link.is_none() && !entry.claimed {
            state.entries.remove(&link.neighbor);
        }
    }

    /// The link to a neighbor.
    pub fn link_to(&self, node: &NodeId) -> Option<Arc<LinkShared>> {
        self.state().entries.get(node)?.link.clone()
    }

    /// Every link.
    pub fn links(&self) -> Vec<Arc<LinkShared>> {
        self.state().entries.values().filter_map(|entry| entry.link.clone()).collect()
    }

    /// A link by its number.
    pub fn link(&self, id: LinkId) -> Option<Arc<LinkShared>> {
        self.state().entries.values().filter_map(|entry| entry.link.as_ref()).find(|l| l.id == id).cloned()
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
