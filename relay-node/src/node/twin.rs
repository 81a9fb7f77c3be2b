//! Two relays with one key, as people are told of it, with the cure. Which of them goes on is the mesh's business.

use std::time::{Duration, Instant};

use protocol::{NodeId, ZoneName, api::MeshKeyTwice};

use super::relay_of;

/// It is said once in this time: the second one may try again and again.
const TOLD_EVERY: Duration = Duration::from_secs(10 * 60);
/// And shown for so long after it was noticed last; at the second one until it is started again.
const SHOWN_FOR: Duration = Duration::from_secs(15 * 60);
/// What to do.
const CURE: &str = "give that box a key of its own with `relay-node id --new` and start it again: its rooms stay, and it needs a \
                    zone token where the festival has them";

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Twin {
    /// Who refused this relay.
    refused: Option<(NodeId, ZoneName)>,
    shown: Option<(MeshKeyTwice, Instant)>,
    second: Option<MeshKeyTwice>,
    told: Option<Instant>,
}

impl Twin {
    /// A neighbor refused this relay.
    pub fn handle_refused(&mut self, by: (NodeId, ZoneName)) {
        self.refused.get_or_insert(by);
    }

    /// This relay is the second one. Says what to write into the log.
    pub fn handle_second(&mut self, own: NodeId) -> String {
        let by = self.refused.as_ref().map(|(by, zone)| format!(", as {} says", relay_of(by, Some(zone))));
        let warning = format!(
            "another relay with the key of this one was in the mesh before{}. This one serves its own zone and has no \
             bridges: give it a key of its own with `relay-node id --new` and start it again. Its rooms stay, and it needs \
             a zone token where the festival has them",
            by.unwrap_or_default()
        );
        self.second = Some(MeshKeyTwice { node: own.to_string(), second: true, warning: warning.clone() });
        warning
    }

    /// Another relay came with the key of this one, and stays outside; the relay of that zone says so. Says what to write
    /// into the log.
    pub fn handle_first(&mut self, own: NodeId, zone: Option<&ZoneName>, now: Instant) -> Option<String> {
        let place = zone.map(|zone| format!(" at the relay of {zone}")).unwrap_or_default();
        self.tell(own, format!("another relay has the key of this one and was refused{place}: {CURE}"), now)
    }

    /// This relay refused another one with the key of a relay that is in the mesh. Says what to write into the log.
    pub fn handle_at_neighbor(
        &mut self,
        id: NodeId,
        zone: Option<&ZoneName>,
        now: Instant,
    ) -> Option<String> {
        let relay = relay_of(&id, zone);
        self.tell(id, format!("a second relay with the key of {relay} was refused: {CURE}"), now)
    }

    fn tell(&mut self, id: NodeId, warning: String, now: Instant) -> Option<String> {
        let quiet = self.told.is_none_or(|at| now.saturating_duration_since(at) >= TOLD_EVERY);
        let shown = MeshKeyTwice { node: id.to_string(), second: false, warning: warning.clone() };
        self.shown = Some((shown, now));
        if quiet {
            self.told = Some(now);
        }
        quiet.then_some(warning)
    }

    /// What is shown.
    pub fn shown(&self, now: Instant) -> Option<MeshKeyTwice> {
        let lately = |(shown, at): &(MeshKeyTwice, Instant)| {
            (now.saturating_duration_since(*at) < SHOWN_FOR).then(|| shown.clone())
        };
        self.second.clone().or_else(|| self.shown.as_ref().and_then(lately))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_with_the_cure_and_shown_as_long_as_it_goes_on() {
        let (mut twin, now) = (Twin::default(), crate::clock::now());
        let (id, zone) = (NodeId([7; 32]), ZoneName::new("gate").expect("a name"));
        assert_eq!(twin.shown(now), None);
        let told = twin.handle_first(id, Some(&zone), now).expect("is told");
        assert!(told.contains("at the relay of gate") && told.contains("relay-node id --new"), "{told}");
        assert_eq!(twin.handle_at_neighbor(id, None, now + TOLD_EVERY / 2), None);
        let told = twin.handle_at_neighbor(id, Some(&zone), now + TOLD_EVERY).expect("is told again");
        assert!(told.contains("relay 07070707 of gate was refused"), "{told}");
        assert!(twin.shown(now + TOLD_EVERY).is_some_and(|shown| !shown.second && shown.warning == told));
        assert_eq!(twin.shown(now + TOLD_EVERY + SHOWN_FOR), None);
        twin.handle_refused((NodeId([1; 32]), zone));
        let told = twin.handle_second(id);
        assert!(told.contains("as relay 01010101 of gate says") && told.contains("id --new"), "{told}");
        assert!(twin.shown(now + 9 * SHOWN_FOR).is_some_and(|shown| shown.second));
    }
}
