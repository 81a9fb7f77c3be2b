//! Relays that would be neighbors and speak no bridge version that this one speaks: which of the two has to be updated, and
//! whether the log has said so. Who is one is decided in `dial.rs`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use protocol::{BridgeVersions, NodeId, ZoneName};

/// Beyond this many different ones the log stays silent.
const NAMED_MAX: usize = 64;

/// Two relays without a bridge version in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The other one, proven by its key.
    pub neighbor: NodeId,
    /// The zone it says it serves.
    pub zone: ZoneName,
    /// What it speaks.
    pub theirs: BridgeVersions,
    /// What this relay speaks.
    pub ours: BridgeVersions,
}

impl Misfit {
    /// The same for the log of the other one.
    pub(crate) fn to_other(&self, own: NodeId) -> String {
        let (other, own) = (self.neighbor.short(), own.short());
        let older = if self.is_older() { &other } else { &own };
        format!(
            "relay {other} speaks bridge versions {}, relay {own} {}: update relay {older}",
            self.theirs, self.ours
        )
    }

    fn is_older(&self) -> bool {
        self.theirs.older_than(self.ours)
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Misfit { neighbor, zone, theirs, ours } = self;
        let older = if self.is_older() { "that relay" } else { "this relay" };
        let neighbor = neighbor.short();
        write!(
            f,
            "relay {neighbor} of {zone} speaks bridge versions {theirs}, this one {ours}: update {older}"
        )
    }
}

/// Those that the log has named, each once for what it speaks.
#[derive(Debug, Default)]
pub(crate) struct Misfits(Mutex<BTreeMap<NodeId, BridgeVersions>>);

impl Misfits {
    /// Whether the log should name it.
    pub fn names(&self, misfit: &Misfit) -> bool {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = named.len() < NAMED_MAX || named.contains_key(&misfit.neighbor);
        room && named.insert(misfit.neighbor, misfit.theirs) != Some(misfit.theirs)
    }

    /// It fits now.
    pub fn forget(&self, neighbor: &NodeId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(neighbor);
    }
}

#[cfg(test)]
mod tests {
    use protocol::BridgeVersion;

    use super::*;

    fn misfit(id: u8, theirs: u16, ours: u16) -> Misfit {
        let range = |version| BridgeVersions::new(BridgeVersion(version), BridgeVersion(version)).unwrap();
        Misfit {
            neighbor: NodeId([id; 32]),
            zone: ZoneName::new("gate").unwrap(),
            theirs: range(theirs),
            ours: range(ours),
        }
    }

    #[test]
    fn both_sides_name_the_same_older_relay() {
        assert_eq!(
            misfit(7, 3, 4).to_string(),
            "relay 07070707 of gate speaks bridge versions 3 to 3, this one 4 to 4: update that relay"
        );
        assert!(misfit(7, 5, 4).to_string().ends_with("update this relay"));
        assert_eq!(
            misfit(7, 5, 4).to_other(NodeId([1; 32])),
            "relay 07070707 speaks bridge versions 5 to 5, relay 01010101 4 to 4: update relay 01010101"
        );
    }

    #[test]
    fn a_relay_is_named_once_for_what_it_speaks_and_strangers_fill_nothing() {
        let misfits = Misfits::default();
        assert!(misfits.names(&misfit(1, 5, 4)) && !misfits.names(&misfit(1, 5, 4)));
        assert!(misfits.names(&misfit(1, 6, 4)), "it was updated to what does not fit either");
        let named = (2..=255).filter(|id| misfits.names(&misfit(*id, 5, 4))).count();
        assert_eq!(named, NAMED_MAX - 1);
        misfits.forget(&NodeId([1; 32]));
        assert!(misfits.names(&misfit(1, 6, 4)));
    }
}
