//! One bridge version more than this release speaks, for tests alone (feature `next`): a note that goes every way in which
//! a later version may say something new. A relay that speaks it says one each second and takes those of others. All
//! numbers are the ones that come next, as those of a later release would be.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{BridgeVersion, BridgeVersions, Carriage, NodeId, Topic, UnknownTopic, fields, mesh::Class};

use crate::{
    mesh::Mesh,
    wire::{
        envelope::{Opaque, Said, Scope},
        message::{Encoded, Message},
        signed_lsa::{Key, Lsa},
    },
};

/// The version after the highest one of this release.
pub const NEXT: BridgeVersion = BridgeVersion(BridgeVersions::SPOKEN.highest().0 + 1);
/// What a relay with this feature speaks.
pub const VERSIONS: BridgeVersions = match BridgeVersions::new(BridgeVersions::SPOKEN.lowest(), NEXT) {
    Some(versions) => versions,
    None => BridgeVersions::SPOKEN,
};
/// What a relay speaks if nothing else is said: in the tests of this crate, what it speaks without the feature.
pub(super) const SPOKEN: BridgeVersions =
    if cfg!(feature = "next") { VERSIONS } else { BridgeVersions::SPOKEN };

/// Passed over by who does not know it.
const ASIDE: u32 = Message::KINDS;
/// Sent only where it is understood.
const NEGOTIATED: u32 = Message::KINDS + 1;
/// Passed on by everybody.
const OPAQUE: u32 = Message::KINDS + 2;
/// The kind of a topic.
const TOPIC: u32 = 2;
/// A field behind the LSA of a relay's links: the one after those of this release.
const FIELD: u32 = crate::wire::incarnation::FIELD + 1;
const EVERY: Duration = Duration::from_secs(1);
/// Notes that wait for whoever looks at them.
const NOTES_MAX: usize = 1024;

/// How a note came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// In a message for the neighbor that need not be understood.
    Aside,
    /// In a message that has to be understood.
    Negotiated,
    /// In a message that everybody passes on.
    PassedOn,
    /// In a field of an LSA.
    Field,
    /// In a record of a log.
    Record,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 5] = [Way::Aside, Way::Negotiated, Way::PassedOn, Way::Field, Way::Record];

    /// A word for a metric's label.
    pub fn word(self) -> &'static str {
        match self {
            Way::Aside => "aside",
            Way::Negotiated => "negotiated",
            Way::PassedOn => "passed_on",
            Way::Field => "field",
            Way::Record => "record",
        }
    }
}

/// The notes of others, and when this relay says its own.
#[derive(Debug, Default)]
pub(super) struct Next {
    due: Option<Instant>,
    wrote: bool,
    said: u32,
    notes: VecDeque<(NodeId, Way)>,
}

impl Mesh {
    /// A note that came: from whom and how.
    pub fn poll_note(&mut self) -> Option<(NodeId, Way)> {
        self.next.notes.pop_front()
    }

    fn speaks_next(&self) -> bool {
        self.config.versions.contains(NEXT)
    }

    /// Says a note every way there is, each second; writes one down once.
    pub(super) fn say_notes(&mut self, now: Instant) {
        if !self.speaks_next() || self.next.due.is_some_and(|due| due > now) {
            return;
        }
        self.next.due = Some(now + EVERY);
        let links: Vec<_> = self.neighbors.values().map(|neighbor| neighbor.link).collect();
        for link in links {
            self.send(link, simple(ASIDE, BridgeVersion::FIRST));
            self.send(link, simple(NEGOTIATED, NEXT));
        }
        let (origin, boot) = (self.config.id, self.config.boot);
        self.next.said += 1;
        let number = boot << 32 | u64::from(self.next.said);
        let said = Said { kind: OPAQUE, origin, number, payload: Bytes::from_static(b"a note") };
        let message = Opaque::sign(Scope::Mesh, said, &*self.config.keys);
        self.spread(None, &message);
        if let (false, Some(topic)) = (self.next.wrote, topic())
            && !self.neighbors.is_empty()
        {
            let note = Bytes::from_static(b"a note");
            self.next.wrote = self.handle_append(Topic::Unknown(topic), note, now).is_ok();
        }
    }

    pub(super) fn notes_due(&self) -> Option<Instant> {
        self.speaks_next().then(|| self.next.due.unwrap_or(self.now))
    }

    /// The field behind what this relay says of its links.
    pub(super) fn note_beside(&self, lsa: &Lsa) -> Vec<u8> {
        let mut out = Vec::new();
        if self.speaks_next() && matches!(lsa, Lsa::Links(_)) {
            fields::write(&mut out, FIELD, b"a note");
        }
        out
    }

    pub(super) fn note_message(&mut self, neighbor: &NodeId, kind: u32) -> bool {
        match kind {
            ASIDE => self.note(neighbor, Way::Aside),
            NEGOTIATED => self.note(neighbor, Way::Negotiated),
            _ => false,
        }
    }

    pub(super) fn note_opaque(&mut self, message: &Opaque) -> bool {
        message.said.kind == OPAQUE && self.note(&message.said.origin, Way::PassedOn)
    }

    pub(super) fn note_field(&mut self, key: &Key) -> bool {
        // Behind an LSA of streams the number is of what they take.
        let there = |held: &crate::linkstate::lsdb::Held| {
            matches!(held.signed.lsa(), Lsa::Links(_)) && held.signed.fields().get(FIELD).is_some()
        };
        self.flooding.lsdb().held(key).is_some_and(there) && self.note(&key.origin(), Way::Field)
    }

    pub(super) fn note_record(&mut self, writer: &NodeId, topic: &UnknownTopic) -> bool {
        topic.kind() == TOPIC && self.note(writer, Way::Record)
    }

    /// False where this version is not spoken: there it is not known.
    fn note(&mut self, from: &NodeId, way: Way) -> bool {
        if !self.speaks_next() {
            return false;
        }
        if *from != self.config.id && self.next.notes.len() < NOTES_MAX {
            self.next.notes.push_back((*from, way));
        }
        true
    }
}

fn topic() -> Option<UnknownTopic> {
    UnknownTopic::new(TOPIC, Carriage::CHAT, b"notes")
}

/// A message of its kind alone.
fn simple(kind: u32, since: BridgeVersion) -> Encoded {
    let bytes = postcard::to_extend(&kind, vec![Scope::Link.octet()]).expect("a number always serializes");
    Encoded { class: Class::Control, of_use: false, since, bytes: bytes.into() }
}

#[cfg(test)]
#[path = "next_tests.rs"]
mod tests;
