//! Which publication of a name is listed when several relays publish it: within a zone the last one, between zones the
//! first one that was known here, unless the organizer lets a relay take names over. And what is known of relays: of
//! which zone they are, and by whose word.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use protocol::{NodeId, ZoneName};

use crate::{
    linkstate::lsdb::Held,
    wire::lsa::{Advertised, Publication},
};

/// Relays that are remembered as members.
const MEMBERS_MAX: usize = 16_384;

/// What the organizer signed for relays.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// Whether somebody signs. If nobody does, each relay is believed to be of the zone that it says.
    signed: bool,
    zones: BTreeMap<NodeId, ZoneName>,
    take_over: BTreeSet<NodeId>,
}

/// A relay says that it publishes a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub advertised: &'a Advertised,
    pub said: &'a Publication,
    pub held: &'a Held,
}

/// Who stands together in a claim.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Side<'a> {
    Zone(&'a ZoneName),
    /// A relay whose zone is its own word only.
    Alone(NodeId),
}

impl Members {
    /// Somebody signs. Of this relay it is known.
    pub fn handle_festival(&mut self, own: NodeId, zone: ZoneName) {
        self.signed = true;
        self.zones.insert(own, zone);
    }

    /// The organizer signed that a relay is of a zone, and may or may not take over names; with `None` that is as it was.
    /// Says whether there was room for it.
    pub fn handle_member(&mut self, node: NodeId, zone: ZoneName, takes_over: Option<bool>) -> bool {
        if self.zones.len() >= MEMBERS_MAX && !self.zones.contains_key(&node) {
            return false;
        }
        self.zones.insert(node, zone);
        match takes_over {
            Some(true) => drop(self.take_over.insert(node)),
            Some(false) => drop(self.take_over.remove(&node)),
            None => {}
        }
        true
    }

    /// The zone of a relay that says that it is of `said`: none if that is to be proved and is not.
    pub fn zone<'a>(&'a self, node: &NodeId, said: Option<&'a ZoneName>) -> Option<&'a ZoneName> {
        if self.signed { self.zones.get(node) } else { said }
    }

    fn side<'a>(&'a self, claim: &Claim<'a>) -> Side<'a> {
        let (origin, zone) = (claim.said.origin, &claim.said.zone);
        // One that says another zone than it was signed for stands alone, too.
        let proven = self.zone(&origin, Some(zone)).filter(|proven| *proven == zone);
        proven.map_or(Side::Alone(origin), Side::Zone)
    }

    /// The claim that is listed.
    pub fn listed<'a>(&'a self, claims: &[Claim<'a>]) -> Option<Claim<'a>> {
        let mut sides: BTreeMap<Side<'_>, Vec<Claim<'a>>> = BTreeMap::new();
        for claim in claims {
            sides.entry(self.side(claim)).or_default().push(*claim);
        }
        let takes_over = |claim: &&Claim<'_>| self.take_over.contains(&claim.said.origin);
        let taken = |side: &[Claim<'_>]| side.iter().filter(takes_over).map(|c| c.advertised.since).max();
        let since = |side: &[Claim<'_>]| side.iter().filter_map(Claim::known_since).min();
        let least = |side: &[Claim<'_>]| side.iter().map(|c| (c.advertised.since, c.said.origin)).min();
        // Whoever may take over, by the last time; then who was known first. Of those that became known
        // together the one that says to be the earlier one: there is nothing else to go by.
        let best =
            sides.into_values().max_by_key(|side| (taken(side), Reverse(since(side)), Reverse(least(side))));
        // Relays come by id: of equal ones the lowest stays.
        best?.into_iter().rev().max_by_key(|claim| claim.advertised.since)
    }
}

impl Claim<'_> {
    fn known_since(&self) -> Option<Instant> {
        self.held.streams_since.get(&self.advertised.stream.name).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{Codec, Kind, StreamName, TrackDescription, mesh::StreamAdvertisement};

    use super::*;
    use crate::{
        linkstate::lsdb::Lsdb,
        sim::{epoch, node},
        wire::{
            signature::SimulatedKeys,
            signed_lsa::{Lsa, SignedLsa},
        },
    };

    fn zone(name: &str) -> ZoneName {
        ZoneName::new(name).unwrap()
    }

    /// Relays in the order in which they became known here, a second apart: number, zone, `since`.
    struct Claims(Lsdb, Members);

    impl Claims {
        fn new(claims: &[(usize, &str, u64)]) -> Claims {
            let mut database = Lsdb::default();
            for (at, (origin, name, since)) in (0..).zip(claims) {
                let track = TrackDescription { kind: Kind::Audio, codec: Codec::Opus, layers: 1 };
                let stream = StreamName::new("main-stage").unwrap();
                let stream = StreamAdvertisement { name: stream, tracks: vec![track] };
                let streams = vec![Advertised { stream, since: *since, rates: Default::default() }];
                let (origin, zone) = (node(*origin), zone(name));
                let said = Publication { origin, zone, sequence: 1, streams };
                let signed = SignedLsa::new(Lsa::Streams(said), &SimulatedKeys(origin));
                database.take(signed, Duration::ZERO, epoch() + Duration::from_secs(at)).unwrap();
            }
            Claims(database, Members::default())
        }

        fn sign(mut self, members: &[(usize, &str, bool)]) -> Claims {
            self.1.signed = true;
            for (origin, name, takes_over) in members {
                self.1.zones.insert(node(*origin), zone(name));
                if *takes_over {
                    self.1.take_over.insert(node(*origin));
                }
            }
            self
        }

        fn listed(&self) -> usize {
            let claims =
                self.0.publications().map(|(said, held)| Claim { advertised: &said.streams[0], said, held });
            let listed = self.1.listed(&claims.collect::<Vec<_>>()).unwrap().said.origin;
            (0..20).find(|number| node(*number) == listed).unwrap()
        }
    }

    #[test]
    fn within_a_zone_the_last_publication_is_listed_and_of_another_zone_none() {
        assert_eq!(Claims::new(&[(5, "stage", 1), (6, "stage", 2)]).listed(), 6);
        let lower = if node(5) < node(6) { 5 } else { 6 };
        assert_eq!(Claims::new(&[(5, "stage", 2), (6, "stage", 2)]).listed(), lower);
        for since in [0, 1, 2, 1 << 40] {
            assert_eq!(Claims::new(&[(5, "stage", 1), (2, "kiosk", since)]).listed(), 5);
            assert_eq!(Claims::new(&[(5, "stage", 1), (9, "kiosk", since), (7, "stage", 2)]).listed(), 7);
        }
    }

    #[test]
    fn where_an_organizer_signs_a_zone_is_not_what_a_relay_says() {
        let claims = [(5, "stage", 1), (2, "stage", 9)];
        assert_eq!(Claims::new(&claims).sign(&[(5, "stage", false), (2, "kiosk", false)]).listed(), 5);
        assert_eq!(Claims::new(&claims).sign(&[(5, "stage", false)]).listed(), 5);
        assert_eq!(Claims::new(&claims).sign(&[(5, "stage", false), (2, "stage", false)]).listed(), 2);
        // Two whose zones nobody signed are no zone together.
        assert_eq!(Claims::new(&claims).sign(&[]).listed(), 5);
    }

    #[test]
    fn who_may_take_over_does() {
        let claims = [(5, "stage", 1), (2, "control", 2), (3, "other", 7)];
        let signed = [(5, "stage", false), (2, "control", true), (3, "other", false)];
        assert_eq!(Claims::new(&claims).sign(&signed).listed(), 2);
        let both = [(5, "stage", false), (2, "control", true), (3, "other", true)];
        assert_eq!(Claims::new(&claims).sign(&both).listed(), 3);
    }
}
