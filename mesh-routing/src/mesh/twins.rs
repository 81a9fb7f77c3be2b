//! Relays with one key: a box was copied with its `node.key`, and both run. To the mesh they are one relay that says two
//! things. The one that the mesh knew first goes on; the other one ends its links and serves its own zone until it has a
//! key of its own.
//!
//! Each run of a relay has an incarnation, drawn at random. It stands in the hello of a link, and behind the LSA of a
//! relay's links. A restart is another incarnation too, but then the one before is gone. So where the mesh knows another
//! incarnation a new link is held back, and everybody is asked. If the other one answers, signed with its key, it is alive,
//! and the link is refused. Nothing else is taken for a proof: neighbors of a relay that died may be slow to notice it.
//!
//! Where two parts of a mesh join that each know one of them, they meet in their LSAs. Who is longer in the mesh goes on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{BridgeVersion, NodeId};
use serde::{Deserialize, Serialize};

use crate::{
    error::MeshError,
    link::{Link, detector::State},
    mesh::{Mesh, output::Output},
    wire::{
        envelope::{Opaque, Received, Said, Scope},
        incarnation::Incarnation,
        message::{Encoded, Message},
        metric::{LinkId, Underlay},
        signed_lsa::Key,
    },
};

/// How long a link is held back while another incarnation of the relay is in the mesh and does not answer. If that is alive
/// all the same, the two meet in their LSAs.
const ANSWER: Duration = Duration::from_secs(4);
/// An LSA that is so much younger than this run was not said by a run before, however long it was on its way.
const MARGIN: Duration = Duration::from_secs(2);
/// Of LSAs of another incarnation that are higher than the own one. One may have been on its way for long.
const PROOFS: u32 = 2;
/// Who is in the mesh for so much longer was there first; otherwise the lower incarnation was.
const LONGER: Duration = Duration::from_secs(1);
/// What comes on a link that is held back, at most.
const WAITING_MAX: usize = 256;
const WAITING_BYTES: usize = 1 << 20;
/// A run that is younger than this answers nothing: it may be asked because of the run before it, whose link is still held
/// back somewhere.
const YOUNG: Duration = ANSWER.saturating_add(MARGIN);
/// The kinds of the messages to everybody: another incarnation of a relay is asked for, it answers, and it hears that a
/// link was refused. The question alone proves nothing: it may come late.
const ASK: u32 = 64;
const ALIVE: u32 = 65;
const REFUSED: u32 = 66;
/// Why links end.
const SECOND: &str = "another relay with the key of this one was in the mesh before";

/// What is known of other relays with one key.
#[derive(Debug, Default)]
pub(super) struct Twins {
    /// Links that are held back.
    doubted: BTreeMap<LinkId, Doubted>,
    /// Another relay with the key of this one was in the mesh before.
    second: bool,
    /// Since when this relay is in the mesh.
    joined: Option<Instant>,
    /// LSAs of another incarnation of this relay that prove that it runs, and the highest sequence of one.
    proofs: (u32, u64),
    /// Messages to everybody.
    said: u32,
}

#[derive(Debug)]
struct Doubted {
    neighbor: NodeId,
    incarnation: u64,
    over: (Underlay, BridgeVersion),
    since: Instant,
    /// What came on it.
    waiting: Vec<Bytes>,
    bytes: usize,
}

/// What stands in the messages to everybody.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Doubt {
    /// Whose key it is.
    id: NodeId,
    /// The incarnation whose link is held back. Nobody knew it before, so an answer that names it is fresh.
    incarnation: u64,
}

impl Mesh {
    /// As [`Mesh::handle_link_up_over`], with the incarnation that the neighbor says it is, if it says so.
    pub fn handle_link_up_of(
        &mut self,
        link: LinkId,
        (neighbor, incarnation): (NodeId, Option<u64>),
        over: (Underlay, BridgeVersion),
        now: Instant,
    ) {
        self.touch(now);
        if self.twins.second {
            self.outputs.push_back(Output::DropLink { link, reason: SECOND });
            return;
        }
        let Some(said) = incarnation.filter(|said| self.is_doubtful(&neighbor, *said)) else {
            self.take_link(link, (neighbor, incarnation), over, now);
            return;
        };
        let doubted =
            Doubted { neighbor, incarnation: said, over, since: now, waiting: Vec::new(), bytes: 0 };
        self.twins.doubted.insert(link, doubted);
        self.say_to_all(ASK, Doubt { id: neighbor, incarnation: said });
    }

    /// A neighbor refused this relay because it has another one with this key: this one is the second.
    pub fn handle_second(&mut self, now: Instant) {
        self.touch(now);
        if std::mem::replace(&mut self.twins.second, true) {
            return;
        }
        self.outputs.push_back(Output::Second);
        let links: Vec<_> = self.links.keys().chain(self.twins.doubted.keys()).copied().collect();
        for link in links {
            self.outputs.push_back(Output::DropLink { link, reason: SECOND });
        }
    }

    /// Whether this relay stays away from the mesh, because another one with its key was there before.
    pub fn is_second(&self) -> bool {
        self.twins.second
    }

    /// Which run of this relay it is.
    pub fn run(&self) -> u64 {
        self.config.seed
    }

    /// What this relay says of its run, behind the LSA of its links.
    pub(super) fn incarnation(&self) -> Incarnation {
        let joined = self.twins.joined.map_or(Duration::ZERO, |at| self.now.saturating_duration_since(at));
        Incarnation { number: self.config.seed, joined }
    }

    /// There are neighbors.
    pub(super) fn handle_joined_mesh(&mut self) {
        self.twins.joined.get_or_insert(self.now);
    }

    /// A link that is held back is gone. Says whether it was one.
    pub(super) fn forget_doubted(&mut self, link: LinkId) -> bool {
        self.twins.doubted.remove(&link).is_some()
    }

    /// Takes a message of a link that is held back: it waits with it. `None` if it is not of such a link. The neighbor does
    /// not know that, so it is answered that this end is there.
    pub(super) fn take_doubted(&mut self, link: LinkId, bytes: &[u8]) -> Option<Result<(), MeshError>> {
        let doubted = self.twins.doubted.get_mut(&link)?;
        if let Ok(Received::Known { message: Message::Probe { nonce, rate }, .. }) = Received::decode(bytes) {
            let Encoded { class, bytes, .. } = (&Message::ProbeAck { nonce, rate }).into();
            self.outputs.push_back(Output::Send { link, class, message: bytes });
        } else if doubted.waiting.len() < WAITING_MAX && doubted.bytes + bytes.len() <= WAITING_BYTES {
            doubted.bytes += bytes.len();
            doubted.waiting.push(Bytes::copy_from_slice(bytes));
        } else {
            // What is missing is found by hashes, as on every link.
            return Some(Err(MeshError::Full { what: "message of a link that is held back" }));
        }
        Some(Ok(()))
    }

    /// Lets go what need not be held back any more. Says whether a link is taken.
    pub(super) fn settle_doubted(&mut self) -> bool {
        let now = self.now;
        let over = |(_, doubted): &(&LinkId, &Doubted)| {
            now >= doubted.since + ANSWER || !self.is_doubtful(&doubted.neighbor, doubted.incarnation)
        };
        let taken: Vec<_> = self.twins.doubted.iter().filter(over).map(|(link, _)| *link).collect();
        for link in &taken {
            let Some(doubted) = self.twins.doubted.get(link) else { continue };
            // It has not said so, and still answers here.
            if self.is_linked_to_another(&doubted.neighbor, doubted.incarnation) {
                self.refuse_second(Doubt { id: doubted.neighbor, incarnation: doubted.incarnation });
                continue;
            }
            let Some(doubted) = self.twins.doubted.remove(link) else { continue };
            let Doubted { neighbor, incarnation, over, waiting, .. } = doubted;
            for old in self.links_of_another(&neighbor, incarnation) {
                self.outputs
                    .push_back(Output::DropLink { link: old, reason: "the neighbor was started anew" });
            }
            self.take_link(*link, (neighbor, Some(incarnation)), over, now);
            for message in waiting {
                // What is wrong with it is counted as on every link.
                let _ = self.handle_message(*link, &message, now);
            }
        }
        !taken.is_empty()
    }

    /// When a link is held back no longer.
    pub(super) fn doubted_until(&self) -> Option<Instant> {
        self.twins.doubted.values().map(|doubted| doubted.since + ANSWER).min()
    }

    /// An own LSA came back from the mesh, with the incarnation that said it and its age.
    pub(super) fn handle_own_said(&mut self, said: Incarnation, sequence: u64, age: Duration) {
        let running = self.now.saturating_duration_since(self.started);
        let (count, highest) = self.twins.proofs;
        if said.number == self.config.seed || age + MARGIN >= running || sequence <= highest {
            return;
        }
        self.twins.proofs = (count + 1, sequence);
        let (own, theirs) = (self.incarnation(), said.joined + age);
        let is_second = match theirs.abs_diff(own.joined) {
            difference if difference > LONGER => theirs > own.joined,
            _ => said.number < own.number,
        };
        if is_second && count + 1 >= PROOFS {
            self.handle_second(self.now);
        } else if !is_second {
            self.outputs.push_back(Output::Twin { id: self.config.id, zone: None, link: None });
        }
    }

    /// Somebody asks for another incarnation of a relay, or one answers. Says whether it is such a message.
    pub(super) fn take_doubt(&mut self, message: &Opaque) -> bool {
        let Said { kind, origin, payload, .. } = &message.said;
        if !matches!(*kind, ASK | ALIVE | REFUSED) {
            return false;
        }
        let Ok(doubt) = postcard::from_bytes::<Doubt>(payload) else { return true };
        let is_of_another = doubt.id == self.config.id && doubt.incarnation != self.config.seed;
        match *kind {
            ASK if is_of_another && self.now >= self.started + YOUNG => self.say_to_all(ALIVE, doubt),
            // Who signed the answer has the key.
            ALIVE if doubt.id == *origin => self.refuse_second(doubt),
            REFUSED if is_of_another => {
                let zone = self.zone_of(origin).cloned();
                self.outputs.push_back(Output::Twin { id: doubt.id, zone, link: None });
            }
            _ => {}
        }
        true
    }

    /// The other incarnation of a relay is alive: no link to this one.
    fn refuse_second(&mut self, doubt: Doubt) {
        let is_second = |(_, doubted): &(&LinkId, &Doubted)| {
            (doubted.neighbor, doubted.incarnation) == (doubt.id, doubt.incarnation)
        };
        let seconds: Vec<_> = self.twins.doubted.iter().filter(is_second).map(|(link, _)| *link).collect();
        for link in &seconds {
            self.twins.doubted.remove(link);
            self.outputs.push_back(Output::Twin { id: doubt.id, zone: None, link: Some(*link) });
        }
        if !seconds.is_empty() {
            self.say_to_all(REFUSED, doubt);
        }
    }

    fn say_to_all(&mut self, kind: u32, doubt: Doubt) {
        let payload = postcard::to_stdvec(&doubt).expect("numbers always serialize").into();
        self.twins.said += 1;
        // Another one than what another run says.
        let number = self.config.seed << 32 | u64::from(self.twins.said);
        let said = Said { kind, origin: self.config.id, number, payload };
        let message = Opaque::sign(Scope::Mesh, said, &*self.config.keys);
        self.spread(None, &message);
    }

    /// Whether another incarnation of a relay may be alive.
    fn is_doubtful(&self, neighbor: &NodeId, incarnation: u64) -> bool {
        let held = self.flooding.lsdb().held(&Key::Links(*neighbor));
        let said = held.and_then(|held| held.signed.incarnation());
        self.is_linked_to_another(neighbor, incarnation)
            || self.routes.reaches(neighbor) && said.is_some_and(|said| said.number != incarnation)
    }

    /// Whether a link to another incarnation of a relay works: a relay that is gone answers for 2.25 s at most.
    fn is_linked_to_another(&self, neighbor: &NodeId, incarnation: u64) -> bool {
        let alive = |link: &LinkId| self.links.get(link).is_some_and(|link| link.state() != State::Down);
        self.links_of_another(neighbor, incarnation).iter().any(alive)
    }

    /// Links to other incarnations of a relay.
    fn links_of_another(&self, neighbor: &NodeId, incarnation: u64) -> Vec<LinkId> {
        let is_one = |link: &Link| {
            link.neighbor == *neighbor && link.incarnation.is_some_and(|known| known != incarnation)
        };
        self.links.iter().filter(|(_, link)| is_one(link)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
#[path = "twins_tests.rs"]
mod tests;
