//! A link that comes and goes, between two whole relays: how often the mesh is told of it.

use std::time::{Duration, Instant};

use super::{config, epoch, node, random::Random};
use crate::{LinkId, Mesh, Output};

const MS: Duration = Duration::from_millis(1);

/// Two relays and a link between them, in virtual time.
struct Pair {
    now: Instant,
    meshes: [Mesh; 2],
    /// Messages arrive.
    works: bool,
}

impl Pair {
    fn new() -> Pair {
        let now = epoch();
        let mesh = |index| {
            let zone = protocol::ZoneName::new("zone").unwrap();
            Mesh::new(config(node(index), zone, 1, index as u64), now)
        };
        Pair { now, meshes: [mesh(0), mesh(1)], works: true }
    }

    fn deliver(&mut self) {
        loop {
            let mut quiet = true;
            for from in [0, 1] {
                while let Some(output) = self.meshes[from].poll_output() {
                    quiet = false;
                    if let (Output::Send { link, message, .. }, true) = (output, self.works) {
                        let _ = self.meshes[1 - from].handle_message(link, &message, self.now);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass in steps of 10 ms.
    fn run(&mut self, time: Duration, mut each: impl FnMut(&mut Mesh, Instant)) {
        let until = self.now + time;
        while self.now < until {
            self.now += MS * 10;
            for mesh in &mut self.meshes {
                each(mesh, self.now);
                if mesh.poll_timeout().is_some_and(|at| at <= self.now) {
                    mesh.handle_timeout(self.now);
                }
            }
            self.deliver();
        }
    }

    fn originated(&self) -> u64 {
        self.meshes[0].counters().originated
    }
}

/// Originations of one relay in a minute of a link that is down and up by turns of 3 s.
fn flapping(silent: bool, damped: bool) -> (u64, u64) {
    let mut pair = Pair::new();
    let mut before = 0;
    let mut link = 0;
    let mut minutes = (0, 0);
    for turn in 0..20 {
        let up = turn % 2 == 0;
        if silent {
            pair.works = up;
        }
        if turn == 0 || (up && !silent) {
            link += 1;
            for index in [0, 1] {
                let now = pair.now;
                pair.meshes[index].handle_link_up(LinkId(link), node(1 - index), now);
            }
        } else if !up && !silent {
            for mesh in &mut pair.meshes {
                mesh.handle_link_down(LinkId(link), pair.now);
            }
        }
        pair.run(MS * 3000, |mesh, now| {
            if !damped {
                mesh.forget_flaps();
            }
            for link in mesh.links().map(|(link, ..)| link).collect::<Vec<_>>() {
                mesh.handle_measurement(link, MS * 10, 0.0, now);
            }
        });
        if turn == 9 {
            minutes.0 = pair.originated() - before;
            before = pair.originated();
        }
    }
    minutes.1 = pair.originated() - before;
    minutes
}

#[test]
fn a_flapping_link_is_told_of_a_few_times_only() {
    for silent in [false, true] {
        let (without, with) = (flapping(silent, false), flapping(silent, true));
        let word = if silent { "silently" } else { "announced" };
        println!(
            "a link that flaps every 3 s, {word}: own records in the first and in the second half minute: \
             undamped {without:?}, damped {with:?}"
        );
        assert!(with.0 <= 8 && with.1 == 0, "{with:?}");
        assert!(without.1 >= 8, "{without:?}");
    }
}

#[test]
fn a_jittering_round_trip_is_never_news() {
    let mut pair = Pair::new();
    for index in [0, 1] {
        let now = pair.now;
        pair.meshes[index].handle_link_up(LinkId(1), node(1 - index), now);
    }
    let mut random = Random::new(7);
    let mut step = 0;
    let mut jitter = |mesh: &mut Mesh, now| {
        step += 1;
        if step % 50 < 2 {
            mesh.handle_measurement(LinkId(1), MS * (15 + random.below(20) as u32), 0.0, now);
        }
    };
    pair.run(MS * 60_000, &mut jitter);
    let before = pair.originated();
    pair.run(MS * 120_000, &mut jitter);
    let said = pair.originated() - before;
    println!("a round trip of 15 to 35 ms at random: {said} own records in two minutes");
    assert_eq!(said, 0);
}
