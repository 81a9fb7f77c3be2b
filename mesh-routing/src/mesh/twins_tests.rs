//! Relays with one key in small meshes: who goes on, who ends its links, and that a restart is no second relay.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use protocol::{BridgeVersion, ZoneName};

use super::{ANSWER, YOUNG};
use crate::{
    Config, LinkId, Mesh, Output, Underlay,
    sim::{config, epoch, node},
};

const STEP: Duration = Duration::from_millis(10);
/// What the issue of two boxes with one key asks for.
const NOTICED: Duration = Duration::from_secs(5);

/// One end of a link: a relay and its number there.
type End = (usize, LinkId);

/// What came out of a relay, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Twin(Option<LinkId>),
    Second,
    Drop(LinkId),
}

struct Net {
    meshes: Vec<Mesh>,
    wires: Vec<[End; 2]>,
    on_the_way: VecDeque<(End, bytes::Bytes)>,
    said: Vec<Vec<(Duration, Said)>>,
    now: Instant,
    start: Instant,
    next: u32,
}

impl Net {
    fn new() -> Net {
        let now = epoch();
        let (meshes, wires, said) = (Vec::new(), Vec::new(), Vec::new());
        Net { meshes, wires, on_the_way: VecDeque::new(), said, now, start: now, next: 0 }
    }

    /// A relay with the key of that number, in that incarnation.
    fn relay(&mut self, key: usize, incarnation: u64) -> usize {
        let zone = ZoneName::new(format!("zone-{}", self.meshes.len())).unwrap();
        let config = Config { seed: incarnation, ..config(node(key), zone, 1, incarnation) };
        self.meshes.push(Mesh::new(config, self.now));
        self.said.push(Vec::new());
        self.meshes.len() - 1
    }

    fn link(&mut self, a: usize, b: usize) -> [End; 2] {
        let ends = [a, b].map(|relay| {
            self.next += 1;
            (relay, LinkId(self.next))
        });
        self.wires.push(ends);
        let over = (Underlay::default(), BridgeVersion(7));
        for ((at, link), (other, _)) in [(ends[0], ends[1]), (ends[1], ends[0])] {
            let other = &self.meshes[other].config;
            let of = (other.id, Some(other.seed));
            self.meshes[at].handle_link_up_of(link, of, over, self.now);
        }
        ends
    }

    /// A relay dies without a word.
    fn kill(&mut self, relay: usize) {
        self.wires.retain(|ends| ends.iter().all(|(at, _)| *at != relay));
        self.on_the_way.retain(|((at, _), _)| *at != relay);
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            for (to, message) in std::mem::take(&mut self.on_the_way) {
                // What is on its way when a link ends is lost.
                if self.wires.iter().flatten().any(|end| *end == to) {
                    let _ = self.meshes[to.0].handle_message(to.1, &message, self.now);
                }
            }
            for at in 0..self.meshes.len() {
                self.meshes[at].handle_timeout(self.now);
                self.collect(at);
            }
        }
    }

    fn collect(&mut self, at: usize) {
        while let Some(output) = self.meshes[at].poll_output() {
            let said = match output {
                Output::Send { link, message, .. } => {
                    let other = self.wires.iter().find_map(|ends| match ends {
                        [a, b] if *a == (at, link) => Some(*b),
                        [a, b] if *b == (at, link) => Some(*a),
                        _ => None,
                    });
                    self.on_the_way.extend(other.map(|other| (other, message)));
                    continue;
                }
                Output::Twin { link, .. } => Said::Twin(link),
                Output::Second => Said::Second,
                Output::DropLink { link, .. } => Said::Drop(link),
                _ => continue,
            };
            let close = match said {
                Said::Twin(link) => link,
                Said::Drop(link) => Some(link),
                Said::Second => None,
            };
            let is_twin = matches!(said, Said::Twin(Some(_)));
            self.said[at].push((self.now - self.start, said));
            if let Some(link) = close {
                self.close((at, link), is_twin);
            }
        }
    }

    /// A driver closes a link, and says to the other end if that is a second relay.
    fn close(&mut self, end: End, is_twin: bool) {
        let Some(at) = self.wires.iter().position(|ends| ends.contains(&end)) else { return };
        for (relay, link) in self.wires.remove(at) {
            self.meshes[relay].handle_link_down(link, self.now);
            if is_twin && relay != end.0 {
                self.meshes[relay].handle_second(self.now);
            }
        }
    }

    fn seconds(&self) -> Vec<usize> {
        (0..self.meshes.len()).filter(|relay| self.meshes[*relay].is_second()).collect()
    }

    /// The incarnation of a key as a relay has it.
    fn known(&self, at: usize, key: usize) -> Option<u64> {
        let held = self.meshes[at].lsdb().held(&crate::wire::signed_lsa::Key::Links(node(key)))?;
        Some(held.signed.incarnation()?.number)
    }

    fn is_linked(&self, a: usize, b: usize) -> bool {
        self.wires.iter().any(|ends| ends.map(|(at, _)| at) == [a, b])
    }
}

const FIRST: u64 = 0x1111_0000_0000_0001;
const OTHER: u64 = 0x2222_0000_0000_0002;

#[test]
fn a_neighbor_of_both_keeps_the_one_it_had() {
    // Whichever of the two has the lower incarnation. One that has just come answers nothing, but its link works.
    let second = Duration::from_secs(1);
    let cases =
        [(FIRST, OTHER), (OTHER, FIRST)].map(|both| [(both, 3 * second, ANSWER), (both, YOUNG, second)]);
    for ((mine, theirs), age, takes) in cases.into_iter().flatten() {
        let mut net = Net::new();
        let hub = net.relay(0, 7);
        let first = net.relay(1, mine);
        net.link(hub, first);
        net.run(age);
        let second = net.relay(1, theirs);
        let [(_, refused), _] = net.link(hub, second);
        net.run(NOTICED);
        assert_eq!(net.seconds(), [second]);
        assert!(net.is_linked(hub, first) && !net.is_linked(hub, second));
        let [(at, said)] = &net.said[hub][..] else { panic!("{:?}", net.said[hub]) };
        assert_eq!(*said, Said::Twin(Some(refused)));
        assert!(*at <= age + takes + STEP, "{at:?}");
        assert!(matches!(net.said[first][..], [(_, Said::Twin(None))]), "it is told: {:?}", net.said[first]);
        assert_eq!(net.known(hub, 1), Some(mine));
        // It comes again, and stays outside.
        net.link(hub, second);
        net.run(NOTICED);
        assert!(net.is_linked(hub, first) && !net.is_linked(hub, second));
        assert_eq!(net.known(hub, 1), Some(mine));
    }
}

#[test]
fn a_neighbor_of_the_second_finds_the_first_elsewhere_in_the_mesh() {
    let mut net = Net::new();
    let hubs = [net.relay(0, 7), net.relay(2, 8), net.relay(3, 9)];
    let first = net.relay(1, OTHER);
    net.link(hubs[0], hubs[1]);
    net.link(hubs[1], hubs[2]);
    net.link(hubs[0], first);
    net.run(YOUNG);
    let second = net.relay(1, FIRST);
    net.link(hubs[2], second);
    let began = net.now - net.start;
    for _ in 0..50 {
        net.run(NOTICED / 50);
        assert!((0..3).all(|at| net.known(hubs[at], 1) == Some(OTHER)), "the mesh never sees the second one");
    }
    assert_eq!(net.seconds(), [second]);
    assert!(
        net.said[hubs[2]]
            .iter()
            .any(|(at, said)| matches!(said, Said::Twin(Some(_))) && *at - began < NOTICED)
    );
    assert!(net.said[first].iter().any(|(at, said)| *said == Said::Twin(None) && *at - began < NOTICED));
    assert!(net.is_linked(hubs[0], first));
}

#[test]
fn a_restart_is_no_second_relay() {
    for elsewhere in [false, true] {
        let mut net = Net::new();
        let hubs = [net.relay(0, 7), net.relay(2, 8)];
        net.link(hubs[0], hubs[1]);
        let before = net.relay(1, OTHER);
        net.link(hubs[0], before);
        net.run(Duration::from_secs(40));
        net.kill(before);
        let after = net.relay(1, FIRST);
        net.link(hubs[usize::from(elsewhere)], after);
        net.run(ANSWER);
        net.run(Duration::from_secs(20));
        assert!(net.seconds().is_empty(), "{:?}", net.said);
        assert!((0..2).all(|at| net.known(hubs[at], 1) == Some(FIRST)), "elsewhere: {elsewhere}");
        let twins = net.said.iter().flatten().filter(|(_, said)| matches!(said, Said::Twin(_))).count();
        assert_eq!(twins, 0, "{:?}", net.said);
    }
}

#[test]
fn where_two_meshes_join_who_was_longer_in_one_goes_on() {
    // By far, and switched on together, when the lower incarnation goes on.
    for (apart, goes_on) in [(Duration::from_secs(9), 0), (Duration::ZERO, 1)] {
        let mut net = Net::new();
        let hubs = [net.relay(0, 7), net.relay(2, 8)];
        let one = net.relay(1, OTHER);
        net.link(hubs[0], one);
        net.run(apart);
        let two = net.relay(1, FIRST);
        net.link(hubs[1], two);
        net.run(Duration::from_secs(12));
        net.link(hubs[0], hubs[1]);
        let joined = net.now - net.start;
        net.run(NOTICED);
        let boxes = [one, two];
        assert_eq!(net.seconds(), [boxes[1 - goes_on]], "{:?}", net.said);
        let second = &net.said[boxes[1 - goes_on]];
        assert!(
            second.iter().any(|(at, said)| *said == Said::Second && *at - joined < NOTICED),
            "{second:?}"
        );
        assert!(net.said[boxes[goes_on]].iter().any(|(_, said)| *said == Said::Twin(None)), "{:?}", net.said);
        net.run(Duration::from_secs(5));
        assert!(net.is_linked(hubs[goes_on], boxes[goes_on]));
        assert!(hubs.iter().all(|hub| net.known(*hub, 1) == Some([OTHER, FIRST][goes_on])));
    }
}
