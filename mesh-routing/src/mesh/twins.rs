//! Relays with one key: a box was copied with its `node.key`, and both run. To the mesh they are one relay that says two
//! things. The one that the mesh knew first goes on; the other one ends its links and serves its own zone until it has a
//! key of its own.
//!
//! Each run of a relay has an incarnation, drawn at random. It stands in the hello of a link, and behind the LSA of a
//! relay's links. A restart is another incarnation too, but then the one before is gone: a new link is held back until that
//! is known. Three look for it:
//!
//! - A neighbor of both asks the one that it has. If that answers, the new link is refused.
//! - A neighbor of the second one alone finds the first one in the mesh. If it is still there after a while, the new link
//!   is refused.
//! - Where two parts of a mesh join that each know one of them, they meet in their LSAs. Who is longer in the mesh goes on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{BridgeVersion, NodeId};
use serde::{Deserialize, Serialize};

use crate::{
    link::detector::State,
    mesh::{Mesh, output::Output},
    wire::{
        envelope::{Opaque, Received, Said, Scope},
        incarnation::Incarnation,
        message::{Encoded, Message},
        metric::{LinkId, Underlay},
    },
};

/// How long a link is held back while the relay is in the mesh in another incarnation, elsewhere or on a link that does not
/// answer. Its neighbors take a bit more than 2 s to call a quiet link down, and the flood some more.
const ELSEWHERE: Duration = Duration::from_secs(4);
/// The probe that asks an incarnation whether it is there. Those of the detectors count up from 0.
const NONCE: u32 = u32::MAX;
/// An LSA that is so much younger than this run was not said by a run before, however long it was on its way.
const MARGIN: Duration = Duration::from_secs(2);
/// Of LSAs of another incarnation that are higher than the own one. One may have been on its way for long.
const PROOFS: u32 = 2;
/// Who is in the mesh for so much longer was there first; otherwise the lower incarnation was.
const LONGER: Duration = Duration::from_secs(1);
/// What comes on a link that is held back, at most.
const WAITING_MAX: usize = 256;
const WAITING_BYTES: usize = 1 << 20;
/// The kind of the message to everybody that says that a key is used twice.
const KIND: u32 = 64;
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
    told: u32,
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

/// What is told to everybody, as the payload of a message.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    /// Whose key it is.
    id: NodeId,
    /// The incarnation that was refused.
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
        for (old, rate) in self.links_of_another(&neighbor, said) {
            self.send(old, &Message::Probe { nonce: NONCE, rate });
        }
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

    /// Takes a message of a link that is held back: it waits with it. Says whether it is one. The neighbor does not know
    /// that, so it is answered that this end is there.
    pub(super) fn take_doubted(&mut self, link: LinkId, bytes: &[u8]) -> bool {
        let Some(doubted) = self.twins.doubted.get_mut(&link) else { return false };
        if let Ok(Received::Known { message: Message::Probe { nonce, rate }, .. }) = Received::decode(bytes) {
            let Encoded { class, bytes, .. } = (&Message::ProbeAck { nonce, rate }).into();
            self.outputs.push_back(Output::Send { link, class, message: bytes });
        } else if doubted.waiting.len() < WAITING_MAX && doubted.bytes + bytes.len() <= WAITING_BYTES {
            doubted.bytes += bytes.len();
            doubted.waiting.push(Bytes::copy_from_slice(bytes));
        }
        true
    }

    /// A neighbor answers a probe. If it is the one that asks for an incarnation, that is alive, and links of others are
    /// those of a second relay. Says whether it is.
    pub(super) fn take_proof(&mut self, link: LinkId, nonce: u32) -> bool {
        let Some(alive) = self.links.get(&link).filter(|_| nonce == NONCE) else { return false };
        let (neighbor, alive) = (alive.neighbor, alive.incarnation);
        let is_second = |(_, doubted): &(&LinkId, &Doubted)| {
            doubted.neighbor == neighbor && Some(doubted.incarnation) != alive
        };
        let seconds: Vec<_> = self.twins.doubted.iter().filter(is_second).map(|(link, _)| *link).collect();
        seconds.into_iter().for_each(|link| self.refuse(link));
        true
    }

    /// Lets go what need not be held back any more, and refuses what was for too long. Says whether a link is taken.
    pub(super) fn settle_doubted(&mut self) -> bool {
        let now = self.now;
        let mut taken = false;
        for link in self.twins.doubted.keys().copied().collect::<Vec<_>>() {
            let Some(doubted) = self.twins.doubted.get(&link) else { continue };
            if !self.is_doubtful(&doubted.neighbor, doubted.incarnation) {
                if let Some(Doubted { neighbor, incarnation, over, waiting, .. }) =
                    self.twins.doubted.remove(&link)
                {
                    taken = true;
                    // Links that are down, of the incarnation before.
                    for (old, _) in self.old_links(&neighbor, incarnation) {
                        let reason = "the neighbor was started anew";
                        self.outputs.push_back(Output::DropLink { link: old, reason });
                    }
                    self.take_link(link, (neighbor, Some(incarnation)), over, now);
                    for message in waiting {
                        // What is wrong with it is counted as on every link.
                        let _ = self.handle_message(link, &message, now);
                    }
                }
            } else if now >= doubted.since + ELSEWHERE {
                self.refuse(link);
            }
        }
        taken
    }

    /// When a link is held back no longer.
    pub(super) fn doubted_until(&self) -> Option<Instant> {
        self.twins.doubted.values().map(|doubted| doubted.since + ELSEWHERE).min()
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

    /// Somebody says that a key is used twice. It is for people: nothing follows from it.
    pub(super) fn take_told(&mut self, message: &Opaque) -> bool {
        if message.said.kind != KIND {
            return false;
        }
        if let Ok(told) = postcard::from_bytes::<Told>(&message.said.payload)
            && told.id == self.config.id
            && told.incarnation != self.config.seed
        {
            let zone = self.zone_of(&message.said.origin).cloned();
            self.outputs.push_back(Output::Twin { id: told.id, zone, link: None });
        }
        true
    }

    /// A second relay of one key: its link ends, and everybody is told, the first one too.
    fn refuse(&mut self, link: LinkId) {
        let Some(Doubted { neighbor: id, incarnation, .. }) = self.twins.doubted.remove(&link) else {
            return;
        };
        self.outputs.push_back(Output::Twin { id, zone: None, link: Some(link) });
        let payload = postcard::to_stdvec(&Told { id, incarnation }).expect("numbers always serialize");
        self.twins.told += 1;
        // Apart from what else this relay says to everybody.
        let number = self.config.seed << 32 | u64::from(self.twins.told);
        let said = Said { kind: KIND, origin: self.config.id, number, payload: payload.into() };
        let message = Opaque::sign(Scope::Mesh, said, &*self.config.keys);
        self.spread(None, &message);
    }

    /// Whether another incarnation of a relay may be alive.
    fn is_doubtful(&self, neighbor: &NodeId, incarnation: u64) -> bool {
        let known = || {
            let held = self.flooding.lsdb().held(&crate::wire::signed_lsa::Key::Links(*neighbor))?;
            held.signed.incarnation()
        };
        self.links_of_another(neighbor, incarnation).next().is_some()
            || self.routes.reaches(neighbor) && known().is_some_and(|known| known.number != incarnation)
    }

    /// Links to other incarnations of a relay that are not down.
    fn links_of_another(
        &self,
        neighbor: &NodeId,
        incarnation: u64,
    ) -> impl Iterator<Item = (LinkId, crate::wire::metric::Rate)> + use<> {
        let alive: Vec<_> = self
            .old_links(neighbor, incarnation)
            .into_iter()
            .filter(|(_, state)| *state != State::Down)
            .filter_map(|(link, _)| Some((link, self.links.get(&link)?.detector.rate())))
            .collect();
        alive.into_iter()
    }

    fn old_links(&self, neighbor: &NodeId, incarnation: u64) -> Vec<(LinkId, State)> {
        let another = |link: &&crate::link::Link| {
            link.neighbor == *neighbor && link.incarnation.is_some_and(|known| known != incarnation)
        };
        let links = self.links.iter().filter(|(_, link)| another(link));
        links.map(|(id, link)| (*id, link.state())).collect()
    }
}

#[cfg(test)]
#[path = "twins_tests.rs"]
mod tests;
