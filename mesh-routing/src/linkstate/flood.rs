//! Link-state on its way: when this relay says something new of itself, what it passes on, what it asks for
//! (RFC 2328, section 13, with trees instead of all links). What is held is `lsdb.rs`'; which neighbors are told instead
//! of being sent it, `announce.rs`'; where a neighbor's way begins, whoever brings the [`View`]'s.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use protocol::{NodeId, fields::Fields};

use crate::{
    changed::Changed,
    error::MeshError,
    linkstate::{
        announce::{Due, PendingAnnouncements},
        lsdb::{Difference, Lsdb},
        pace::{Pace, first_counter},
    },
    wire::{
        area::Fragment,
        incarnation::Incarnation,
        message::{ENTRIES_MAX, Encoded, Message},
        metric::LinkId,
        signature::Keys,
        signed_lsa::{Key, Lsa, SignedLsa},
    },
};

/// Bytes of link-state sent in answer to one message; what is left is asked for again. One question must not fill the
/// queue of a link for long: a request names up to 2048 LSAs.
const ANSWER_MAX: usize = 4 << 20;
/// A full database is searched for relays that cannot be reached at most this often: each search computes routes, and
/// whoever fills the database would have one with every LSA.
const ROOM_EVERY: Duration = Duration::from_secs(1);
/// A database in which nothing changed for so long should be that of the neighbors.
const QUIET: Duration = Duration::from_secs(1);
/// Summaries in a row that may differ while LSAs come and go: at one each 5 s, 15 s until a hole is found in a mesh
/// that is never quiet.
const PATIENCE: u32 = 3;

/// How a neighbor's way to an origin begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstHop {
    /// With this relay.
    ViaUs,
    /// With another.
    ViaOther,
    /// Nobody here knows a way.
    Unknown,
}

/// What flooding may look at, and whom it asks.
pub(crate) trait View {
    /// Signs for this relay, checks what others signed.
    fn keys(&self) -> &dyn Keys;
    /// The neighbors that can be talked to, by id, each with its best link.
    fn neighbors(&self) -> Vec<(NodeId, LinkId)>;
    /// Who is at the other end of a link.
    fn neighbor(&self, link: LinkId) -> Option<NodeId>;
    /// Which run of the neighbor is at the other end of a link, if it says so.
    fn incarnation(&self, link: LinkId) -> Option<u64>;
    /// Whether a link leads to another area.
    fn crosses(&self, link: LinkId) -> bool;
    /// How the way of a neighbor to an origin begins.
    fn first_hop(&mut self, neighbor: &NodeId, origin: &NodeId, now: Instant) -> FirstHop;
    /// Tells the LSAs of relays that can be reached by what this database says.
    fn reached(&self, lsdb: &Lsdb) -> Box<dyn Fn(&Key) -> bool>;
}

/// What flooding wants done, in this order.
#[derive(Debug)]
pub(crate) enum Event {
    Send(LinkId, Encoded),
    /// What came on the link was here already.
    Duplicate(LinkId),
    /// Something of this relay's own was said.
    Originated,
    /// An own LSA of this or another incarnation came back, newer than what is here: its sequence and its age.
    OwnRun(Incarnation, u64, Duration),
    /// An own way of an earlier incarnation is still in the area.
    OwnWay(Fragment, u64),
    /// There are edges or streams that were not there. An event and no change of the batch: a neighbor that refuses a
    /// track later in the batch refuses it knowing them.
    Shape,
    /// There is more room on an edge, see [`Event::Shape`].
    Room,
    /// There are fields behind an LSA that was not here.
    Fields(Key),
}

/// The link-state database and what a relay keeps to flood it.
#[derive(Debug)]
pub(crate) struct Flooding {
    own: NodeId,
    /// Where the sequences of this start begin.
    first: u64,
    seed: u64,
    lsdb: Lsdb,
    /// Paces what is said of the links here.
    links: Pace,
    /// Paces what is said of the streams here; none were published so far.
    publication: Option<Pace>,
    announcements: PendingAnnouncements,
    /// How often in a row the hash of a neighbor's database was another.
    differs: BTreeMap<LinkId, u32>,
    room_made: Option<Instant>,
    changed: Changed,
    events: VecDeque<Event>,
}

impl Flooding {
    /// Nothing is known yet.
    pub fn new(own: NodeId, boot: u64, seed: u64) -> Flooding {
        Flooding {
            own,
            first: first_counter(boot, seed),
            seed,
            lsdb: Lsdb::default(),
            links: Pace::new(first_counter(boot, seed)).spread(seed),
            publication: None,
            announcements: PendingAnnouncements::default(),
            differs: BTreeMap::new(),
            room_made: None,
            changed: Changed::default(),
            events: VecDeque::new(),
        }
    }

    /// What all relays said.
    pub fn lsdb(&self) -> &Lsdb {
        &self.lsdb
    }

    /// There is news of the own links; `urgent` if routes are wrong without it.
    pub fn handle_links(&mut self, urgent: bool) {
        self.links.handle_news(urgent);
    }

    /// There is a neighbor where there was none.
    pub fn handle_first_neighbor(&mut self, now: Instant) {
        self.links.handle_first(now);
    }

    /// There is news of the own streams.
    pub fn handle_publication(&mut self) {
        let (first, seed) = (self.first, self.seed);
        self.publication.get_or_insert_with(|| Pace::new(first).spread(seed >> 10)).handle_news(true);
    }

    /// The link is gone.
    pub fn handle_link_down(&mut self, link: LinkId) {
        self.announcements.forget(link);
        self.differs.remove(&link);
    }

    /// An LSA came on a link. Its signature is looked at only if it is newer than what is here.
    ///
    /// # Errors
    ///
    /// [`MeshError::Forged`] if the signature is wrong, [`MeshError::Full`] if there is no room for it,
    /// [`MeshError::Absurd`] if it has expired.
    pub fn handle_lsa(
        &mut self,
        (link, age_ms): (LinkId, u32),
        signed: SignedLsa,
        view: &mut dyn View,
        now: Instant,
    ) -> Result<(), MeshError> {
        let (key, sequence) = (signed.lsa().key(), signed.lsa().sequence());
        if key.local() && view.crosses(link) {
            return Ok(());
        }
        self.announcements.handle_known(link, &key, sequence);
        let held = self.lsdb.held(&key);
        match held.map(|held| sequence.cmp(&held.sequence())) {
            // The neighbor has an older one: it is sent the newer (RFC 2328, section 13, step 8).
            Some(Ordering::Less) => {
                self.handle_request(link, &[key], view, now);
                return Ok(());
            }
            Some(Ordering::Equal) if key.origin() != self.own || held.is_some_and(|h| h.signed == signed) => {
                self.events.push_back(Event::Duplicate(link));
                return Ok(());
            }
            _ => {}
        }
        // Nobody passes on what it did not verify: whoever does is to blame.
        if !signed.verify(view.keys()) {
            return Err(MeshError::Forged);
        }
        if key.origin() == self.own {
            if let Some(said) = signed.incarnation() {
                let age = Duration::from_millis(age_ms.into());
                self.events.push_back(Event::OwnRun(said, sequence, age));
            }
            self.jump_over(&key, sequence);
            return Ok(());
        }
        if self.lsdb.room_for(&signed).is_err() {
            self.make_room(view, now);
            self.lsdb.room_for(&signed)?;
        }
        let has_fields = signed.fields() != Fields::default();
        let difference = self.lsdb.take(signed, Duration::from_millis(age_ms.into()), now)?;
        self.note(difference);
        self.events.extend(has_fields.then_some(Event::Fields(key)));
        self.announcements.handle_taken(&key, sequence);
        self.spread(Some(link), &key, view, now);
        Ok(())
    }

    /// A neighbor tells what has come to it: what is newer than here is pulled, unless it comes by itself.
    pub fn handle_news(&mut self, link: LinkId, entries: &[(Key, u64)], view: &mut dyn View, now: Instant) {
        let mut newer_here = Vec::new();
        let across = view.crosses(link);
        for (key, there) in entries.iter().filter(|(key, _)| !(across && key.local())) {
            let here = self.lsdb.held(key).map(|held| held.sequence());
            match here.map(|here| here.cmp(there)) {
                Some(Ordering::Equal) => self.announcements.handle_known(link, key, *there),
                Some(Ordering::Greater) => newer_here.push(*key),
                _ => {
                    self.announcements.handle_known(link, key, *there);
                    self.announcements.handle_told(link, *key, *there, now);
                }
            }
        }
        self.handle_request(link, &newer_here, view, now);
    }

    /// A neighbor says what it has: asks for what is newer there, sends what is newer here.
    pub fn handle_digest(&mut self, link: LinkId, entries: &[(Key, u64)], view: &mut dyn View, now: Instant) {
        let across = view.crosses(link);
        let sequence = |key| self.lsdb.held(key).map(|held| held.sequence());
        let newer_there: Vec<_> = entries
            .iter()
            .filter(|(key, _)| !(across && key.local()))
            .filter(|(key, there)| sequence(key).is_none_or(|here| here < *there))
            .map(|(key, _)| *key)
            .collect();
        let newer_here: Vec<_> = entries
            .iter()
            .filter(|(key, there)| sequence(key).is_some_and(|here| here > *there))
            .map(|(key, _)| *key)
            .collect();
        if !newer_there.is_empty() {
            self.send(link, &Message::Request { keys: newer_there });
        }
        self.handle_request(link, &newer_here, view, now);
    }

    /// A neighbor asks for LSAs.
    pub fn handle_request(&mut self, link: LinkId, keys: &[Key], view: &dyn View, now: Instant) {
        let mut room = ANSWER_MAX;
        let across = view.crosses(link);
        for key in keys.iter().filter(|key| !(across && key.local())) {
            let Some(message) = self.message(key, now) else { continue };
            let Some(left) = room.checked_sub(message.bytes.len()) else { return };
            room = left;
            self.events.push_back(Event::Send(link, message));
        }
    }

    /// A neighbor's hash of its database. LSAs on their way make it another for a moment, so it is answered
    /// only if nothing came here for a while or it goes on.
    pub fn handle_summary(&mut self, link: LinkId, hash: u64, view: &dyn View, now: Instant) {
        let across = view.crosses(link);
        if hash == self.lsdb.hash(across) {
            self.differs.remove(&link);
            return;
        }
        let quiet = self.lsdb.changed().is_none_or(|at| now.saturating_duration_since(at) >= QUIET);
        let times = self.differs.entry(link).or_default();
        *times += 1;
        if quiet || *times >= PATIENCE {
            *times = 0;
            self.send(link, &Message::Buckets { hashes: self.lsdb.buckets(across) });
        }
    }

    /// Hashes of the parts of a neighbor's database: it is told what is here of those that differ.
    pub fn handle_buckets(&mut self, link: LinkId, hashes: &[u32], view: &dyn View) {
        let across = view.crosses(link);
        let own = self.lsdb.buckets(across);
        let differs = |bucket: usize| hashes.get(bucket) != own.get(bucket);
        let entries = self.lsdb.digest(across, differs);
        // Also if there are none: the neighbor's turn to tell comes with the next summary.
        self.send_digest(link, &entries);
    }

    /// A link is there: says what is here, for the neighbor to compare. That this relay has no neighbors is no news
    /// to one: what it says next names them, and asking for both would flood the mesh twice with each relay that is
    /// switched on.
    pub fn handle_link_up(&mut self, link: LinkId, view: &dyn View) {
        let mut entries = self.lsdb.digest(view.crosses(link), |_| true);
        if self.lsdb.links(&self.own).is_some_and(|said| said.links.is_empty()) {
            let own = Key::Links(self.own);
            entries.retain(|(key, _)| *key != own);
        }
        self.send_digest(link, &entries);
    }

    /// Tells and asks what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for due in self.announcements.handle_timeout(now) {
            match due {
                Due::Tell(link, entries) => {
                    for part in entries.chunks(ENTRIES_MAX) {
                        self.send(link, &Message::Announce { entries: part.to_vec() });
                    }
                }
                Due::Ask(link, keys) => {
                    for part in keys.chunks(ENTRIES_MAX) {
                        self.send(link, &Message::Request { keys: part.to_vec() });
                    }
                }
            }
        }
    }

    /// Forgets what nobody refreshed.
    pub fn expire(&mut self, now: Instant) {
        if self.lsdb.expire(&self.own, now) {
            self.forgot();
        }
    }

    /// The sequence to say something of the own links with, if it is time to; `heard` says that there is news of who
    /// listens, which has a pace of its own and delays nothing.
    pub fn poll_links(&mut self, heard: bool, now: Instant) -> Option<u64> {
        self.links.handle_timeout(now).or_else(|| heard.then(|| self.links.advance()))
    }

    /// The sequence to say something of the own streams with, if it is time to.
    pub fn poll_publication(&mut self, now: Instant) -> Option<u64> {
        self.publication.as_mut()?.handle_timeout(now)
    }

    /// This relay says something, with these fields behind it.
    pub fn originate(&mut self, (lsa, fields): (Lsa, &[u8]), view: &mut dyn View, now: Instant) {
        let key = lsa.key();
        let signed = SignedLsa::with_fields(lsa, fields, view.keys());
        if let Ok(Difference { edges, ways, streams, .. }) = self.lsdb.take(signed, Duration::ZERO, now) {
            self.changed |= Changed { edges, ways, urgent: edges || ways, streams, ..Changed::default() };
            self.events.push_back(Event::Originated);
            self.spread(None, &key, view, now);
        }
    }

    /// When there is something to say, to tell or to ask.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let publication = self.publication.as_ref().and_then(Pace::poll_timeout);
        let own = self.links.poll_timeout().into_iter().chain(publication);
        self.announcements.poll_timeout().into_iter().chain(own).min()
    }

    /// What to do next; `None` when there is nothing left.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What changed since this was asked last.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// An own LSA of an earlier incarnation is still in the mesh: the next one has a higher sequence (RFC 2328,
    /// section 13.4).
    fn jump_over(&mut self, key: &Key, sequence: u64) {
        let first = self.first;
        let pace = match key {
            Key::Links(_) => &mut self.links,
            Key::Streams(_) => self.publication.get_or_insert_with(|| Pace::new(first)),
            Key::InterArea(_, fragment) => {
                self.events.push_back(Event::OwnWay(*fragment, sequence));
                return;
            }
        };
        pace.handle_own(sequence);
    }

    fn note(&mut self, difference: Difference) {
        let Difference { edges, shape, room, streams, heard, ways } = difference;
        self.changed |= Changed { edges, streams, heard, ways, ..Changed::default() };
        if room {
            self.events.push_back(Event::Room);
        }
        if shape {
            self.events.push_back(Event::Shape);
        }
    }

    /// LSAs are gone, and it was not looked which.
    fn forgot(&mut self) {
        self.changed |= Changed { edges: true, streams: true, ..Changed::default() };
    }

    /// Sends an LSA to the neighbors whose way to its origin begins here, or whose way nobody knows unless there
    /// are many of those, and tells the others that it is here.
    fn spread(&mut self, from: Option<LinkId>, key: &Key, view: &mut dyn View, now: Instant) {
        let Some(message) = self.message(key, now) else { return };
        let Some(sequence) = self.lsdb.held(key).map(|held| held.sequence()) else { return };
        let (own, origin) = (self.own, key.origin());
        let said_by = self.lsdb.held(key).and_then(|held| held.signed.incarnation());
        let from = from.and_then(|link| view.neighbor(link));
        for (id, link) in view.neighbors().into_iter().filter(|(id, _)| Some(*id) != from) {
            if id == origin {
                // It knows what it said, but not what another run with its key said.
                let run = view.incarnation(link);
                if said_by.is_some_and(|said| run.is_some_and(|run| run != said.number)) {
                    self.events.push_back(Event::Send(link, message.clone()));
                }
                continue;
            }
            let turn = match view.crosses(link) {
                true if key.local() => continue,
                true => FirstHop::Unknown,
                false => view.first_hop(&id, &origin, now),
            };
            let push = match turn {
                _ if origin == own => true,
                FirstHop::ViaUs => true,
                FirstHop::Unknown => self.announcements.sends_blindly(link, now),
                FirstHop::ViaOther => false,
            };
            if push {
                self.announcements.handle_known(link, key, sequence);
                self.events.push_back(Event::Send(link, message.clone()));
            } else {
                self.announcements.tell(link, *key, sequence, now);
            }
        }
    }

    /// Forgets the LSAs of relays that cannot be reached, at most once a second.
    fn make_room(&mut self, view: &dyn View, now: Instant) {
        if self.room_made.is_some_and(|at| now < at + ROOM_EVERY) {
            return;
        }
        self.room_made = Some(now);
        let (own, reached) = (self.own, view.reached(&self.lsdb));
        if self.lsdb.keep(now, |key, _| key.origin() == own || reached(key)) {
            self.forgot();
        }
    }

    fn message(&self, key: &Key, now: Instant) -> Option<Encoded> {
        // What has expired here has expired there.
        let held = self.lsdb.held(key).filter(|held| held.expires > now)?;
        Some((&Message::LinkState { age_ms: held.age_ms(now), lsa: held.signed.clone() }).into())
    }

    fn send_digest(&mut self, link: LinkId, entries: &[(Key, u64)]) {
        for part in entries.chunks(ENTRIES_MAX) {
            self.send(link, &Message::Digest { entries: part.to_vec() });
        }
    }

    fn send(&mut self, link: LinkId, message: &Message) {
        self.events.push_back(Event::Send(link, message.into()));
    }
}
