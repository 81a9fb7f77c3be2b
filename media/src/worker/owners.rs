//! Whose a datagram is: a check names its session by the user fragment, everything else by the address that it
//! comes from. The session may be of another worker: then it is known of which.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
    sync::Arc,
};

use protocol::SessionId;

use super::plan::SessionPlan;

/// Which session, or worker, a datagram is for.
#[derive(Debug, Default)]
pub(super) struct Owners {
    ufrags: HashMap<String, Ufrag>,
    addresses: HashMap<SocketAddr, Owner>,
}

/// What one of our ICE user fragments stands for.
#[derive(Debug)]
pub(super) enum Ufrag {
    /// A session that no check has come for here; another worker may own it by now.
    Waiting(Arc<SessionPlan>),
    /// The session with this key.
    Own(usize),
}

/// Whose the datagrams from an address are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Of the session with this key.
    Own(usize),
    /// Of a session that this worker owns.
    Foreign(u8),
}

/// Addresses known here; beyond that those of other workers' sessions are forgotten, and learnt anew.
const MAX_FOREIGN: usize = 16_384;
/// Addresses of one session: more than any client has.
const MAX_ADDRESSES: usize = 8;

impl Owners {
    /// A session was negotiated.
    pub(super) fn open(&mut self, plan: Arc<SessionPlan>) {
        self.ufrags.insert(plan.transport.local.ufrag.clone(), Ufrag::Waiting(plan));
    }

    /// The session that waited under this user fragment has come here, under this key.
    pub(super) fn claim(&mut self, ufrag: String, key: usize) {
        self.ufrags.insert(ufrag, Ufrag::Own(key));
    }

    /// What a user fragment stands for.
    pub(super) fn ufrag(&self, ufrag: &str) -> Option<&Ufrag> {
        self.ufrags.get(ufrag)
    }

    /// Whose the datagrams from an address are.
    pub(super) fn address(&self, from: SocketAddr) -> Option<Owner> {
        self.addresses.get(&from).copied()
    }

    /// A session of ours has new credentials. Those `before` these stay valid until the first check with the
    /// new ones, older ones do not.
    pub(super) fn restart(&mut self, key: usize, before: &str, ufrag: String) {
        self.ufrags.retain(|name, known| *name == before || !matches!(known, Ufrag::Own(own) if *own == key));
        self.ufrags.insert(ufrag, Ufrag::Own(key));
    }

    /// A session that is owned by another worker has new credentials: its checks may land here, and then they
    /// are forwarded.
    pub(super) fn restart_waiting(&mut self, id: SessionId, ufrag: String) {
        let plan = self.ufrags.values().find_map(|known| match known {
            Ufrag::Waiting(plan) if plan.id == id => Some(plan.clone()),
            _ => None,
        });
        if let Some(plan) = plan {
            let first = &plan.transport.local.ufrag;
            self.ufrags.retain(|name, known| {
                name == first || !matches!(known, Ufrag::Waiting(waiting) if waiting.id == id)
            });
            self.ufrags.insert(ufrag, Ufrag::Waiting(plan));
        }
    }

    /// A session that never came here is over.
    pub(super) fn close_waiting(&mut self, id: SessionId) {
        self.ufrags.retain(|_, known| !matches!(known, Ufrag::Waiting(plan) if plan.id == id));
    }

    /// What comes from `address` is for this session; `known` are its addresses, the oldest first.
    pub(super) fn learn(&mut self, key: usize, address: SocketAddr, known: &mut Vec<SocketAddr>) {
        if self.address(address) == Some(Owner::Own(key)) {
            return;
        }
        self.addresses.insert(address, Owner::Own(key));
        known.push(address);
        if known.len() > MAX_ADDRESSES {
            self.forget_address(key, known.remove(0));
        }
    }

    /// What comes from `from` is for another worker.
    pub(super) fn learn_foreign(&mut self, from: SocketAddr, worker: u8) {
        if self.addresses.len() >= MAX_FOREIGN {
            self.addresses.retain(|_, owner| matches!(owner, Owner::Own(_)));
        }
        // An address that has proven itself to a session here stays with it.
        self.addresses.entry(from).or_insert(Owner::Foreign(worker));
    }

    /// A session of ours is over; these were its addresses.
    pub(super) fn forget(&mut self, key: usize, addresses: Vec<SocketAddr>) {
        for address in addresses {
            self.forget_address(key, address);
        }
        self.ufrags.retain(|_, known| !matches!(known, Ufrag::Own(own) if *own == key));
    }

    /// User fragments known here, those of other workers' sessions included.
    pub(super) fn ufrags(&self) -> usize {
        self.ufrags.len()
    }

    /// Addresses that lead to a session here.
    pub(super) fn own_addresses(&self) -> usize {
        self.addresses.values().filter(|owner| matches!(owner, Owner::Own(_))).count()
    }

    /// It may lead to another session by now.
    fn forget_address(&mut self, key: usize, address: SocketAddr) {
        if let Entry::Occupied(known) = self.addresses.entry(address)
            && *known.get() == Owner::Own(key)
        {
            known.remove();
        }
    }
}
