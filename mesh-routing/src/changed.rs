//! What differs since a relay was last at rest: every part answers with one such set, and `mesh/settle.rs` alone
//! looks at it. What each of them leads to, and in which order, is written there.

use std::ops::BitOrAssign;

/// A set of changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Changed {
    /// A link came or went, or what is told of one differs.
    pub links: bool,
    /// A link leads to another area now, or not any more.
    pub crossing: bool,
    /// Edges to stay away from are others.
    pub avoided: bool,
    /// Edges or their costs, as their ends say.
    pub edges: bool,
    /// What is reached in other areas, and how.
    pub ways: bool,
    /// This relay itself said what differs, or hears it from its own neighbors: routes do not wait.
    pub urgent: bool,
    /// Streams, or the zone of a relay.
    pub streams: bool,
    /// The ways that tracks come.
    pub paths: bool,
    /// Who hears what.
    pub heard: bool,
}

impl Changed {
    const NONE: Changed = Changed {
        links: false,
        crossing: false,
        avoided: false,
        edges: false,
        ways: false,
        urgent: false,
        streams: false,
        paths: false,
        heard: false,
    };
    /// What decides who the neighbors are and what is told of them.
    pub const OF_LINKS: Changed = Changed { links: true, crossing: true, ..Changed::NONE };
    /// What decides about the routes.
    pub const OF_ROUTES: Changed =
        Changed { avoided: true, edges: true, ways: true, urgent: true, ..Changed::NONE };
    /// What lists for people are made of.
    pub const OF_LISTS: Changed = Changed { streams: true, paths: true, heard: true, ..Changed::NONE };

    /// Takes these out of the set; returns those of them that were in it.
    #[must_use]
    pub fn take(&mut self, these: Changed) -> Changed {
        let before = *self;
        let each = |mine: &mut bool, theirs: bool| *mine &= !theirs;
        each(&mut self.links, these.links);
        each(&mut self.crossing, these.crossing);
        each(&mut self.avoided, these.avoided);
        each(&mut self.edges, these.edges);
        each(&mut self.ways, these.ways);
        each(&mut self.urgent, these.urgent);
        each(&mut self.streams, these.streams);
        each(&mut self.paths, these.paths);
        each(&mut self.heard, these.heard);
        Changed {
            links: before.links && these.links,
            crossing: before.crossing && these.crossing,
            avoided: before.avoided && these.avoided,
            edges: before.edges && these.edges,
            ways: before.ways && these.ways,
            urgent: before.urgent && these.urgent,
            streams: before.streams && these.streams,
            paths: before.paths && these.paths,
            heard: before.heard && these.heard,
        }
    }
}

impl BitOrAssign for Changed {
    fn bitor_assign(&mut self, more: Changed) {
        self.links |= more.links;
        self.crossing |= more.crossing;
        self.avoided |= more.avoided;
        self.edges |= more.edges;
        self.ways |= more.ways;
        self.urgent |= more.urgent;
        self.streams |= more.streams;
        self.paths |= more.paths;
        self.heard |= more.heard;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_out_and_the_rest_stays() {
        let mut changed = Changed { links: true, streams: true, ..Changed::default() };
        changed |= Changed { edges: true, ..Changed::default() };
        assert_eq!(changed.take(Changed::OF_ROUTES), Changed { edges: true, ..Changed::default() });
        assert_eq!(changed.take(Changed::OF_ROUTES), Changed::default());
        assert_eq!(changed, Changed { links: true, streams: true, ..Changed::default() });
    }

    #[test]
    fn every_change_is_of_one_group() {
        let (mut all, mut groups) =
            (Changed::default(), [Changed::OF_LINKS, Changed::OF_ROUTES, Changed::OF_LISTS]);
        groups.iter().for_each(|group| all |= *group);
        for group in &mut groups {
            assert_eq!(all.take(*group), *group, "no change is of two");
        }
        assert_eq!(all, Changed::default());
    }
}
