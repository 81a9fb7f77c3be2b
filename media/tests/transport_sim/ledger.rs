//! Keeps account of what a relay sends to addresses that have not shown that they receive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use media::transport::{Kind, classify, stun_answered};

/// Octets from and to each address, and the checks that went there.
#[derive(Default)]
pub struct Ledger {
    accounts: BTreeMap<SocketAddr, Account>,
}

#[derive(Default)]
struct Account {
    came: usize,
    went: usize,
    asked: BTreeSet<[u8; 12]>,
    proven: bool,
}

impl Ledger {
    /// A datagram came from there.
    pub fn came(&mut self, from: SocketAddr, data: &[u8]) {
        let account = self.accounts.entry(from).or_default();
        account.came += data.len();
        account.proven |= stun_answered(data).is_some_and(|id| account.asked.contains(&id));
    }

    /// A datagram goes there: no more than three times what came, until a check was answered.
    pub fn went(&mut self, to: SocketAddr, data: &[u8]) {
        let account = self.accounts.entry(to).or_default();
        account.went += data.len();
        if classify(data) == Kind::Stun && stun_answered(data).is_none() {
            account.asked.insert(data[8..20].try_into().unwrap());
        }
        let allowed = account.proven || account.went <= 3 * account.came;
        assert!(allowed, "{} octets to {to} for {} from there", account.went, account.came);
    }

    /// It has shown in another way that it receives.
    pub fn proven(&mut self, address: SocketAddr) {
        self.accounts.entry(address).or_default().proven = true;
    }

    /// How many octets went there.
    pub fn sent_to(&self, address: SocketAddr) -> usize {
        self.accounts.get(&address).map_or(0, |account| account.went)
    }

    /// Whether it was asked and answered.
    pub fn is_proven(&self, address: SocketAddr) -> bool {
        self.accounts.get(&address).is_some_and(|account| account.proven)
    }
}
