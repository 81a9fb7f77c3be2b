//! What `next.rs` is in a build without the feature `next`, which is every build but that of some tests: nothing.

use std::time::Instant;

use protocol::{BridgeVersions, NodeId, UnknownTopic};

use crate::{
    mesh::Mesh,
    wire::{
        envelope::Opaque,
        signed_lsa::{Key, Lsa},
    },
};

/// What a relay speaks if nothing else is said.
pub(super) const SPOKEN: BridgeVersions = BridgeVersions::SPOKEN;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next {}

impl Mesh {
    pub(super) fn say_notes(&mut self, _: Instant) {}

    pub(super) fn notes_due(&self) -> Option<Instant> {
        let Next {} = self.next;
        None
    }

    pub(super) fn note_beside(&self, _: &Lsa) -> Vec<u8> {
        Vec::new()
    }

    pub(super) fn note_message(&mut self, _: &NodeId, _: u32) -> bool {
        false
    }

    pub(super) fn note_opaque(&mut self, _: &Opaque) -> bool {
        false
    }

    pub(super) fn note_field(&mut self, _: &Key) -> bool {
        false
    }

    pub(super) fn note_record(&mut self, _: &NodeId, _: &UnknownTopic) -> bool {
        false
    }
}
