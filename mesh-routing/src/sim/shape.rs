//! The topologies that are always tried: which relays have a wire between them.

use super::random::Random;

/// Pairs of relays, by index.
pub type Wires = Vec<(usize, usize)>;

/// One after the other.
pub fn chain(relays: usize) -> Wires {
    (1..relays).map(|i| (i - 1, i)).collect()
}

/// A chain whose ends meet.
pub fn ring(relays: usize) -> Wires {
    (0..relays).map(|i| (i, (i + 1) % relays)).collect()
}

/// Two rings of `relays` that share relay 0.
pub fn two_rings(relays: usize) -> Wires {
    let far = |i: usize| if i == 0 { 0 } else { i + relays - 1 };
    let second = (0..relays).map(|i| (far(i), far((i + 1) % relays)));
    ring(relays).into_iter().chain(second).collect()
}

/// Two chains of `rungs`, tied rung by rung.
pub fn ladder(rungs: usize) -> Wires {
    let rails = (1..rungs).flat_map(|i| [(2 * i - 2, 2 * i), (2 * i - 1, 2 * i + 1)]);
    rails.chain((0..rungs).map(|i| (2 * i, 2 * i + 1))).collect()
}

/// Each to each.
pub fn full(relays: usize) -> Wires {
    (0..relays).flat_map(|a| (a + 1..relays).map(move |b| (a, b))).collect()
}

/// Relay 0 in the middle of `arms` relays, each of them in the middle of `leaves`.
pub fn star_of_stars(arms: usize, leaves: usize) -> Wires {
    let leaf = |arm: usize, i: usize| 1 + arms + arm * leaves + i;
    (0..arms)
        .flat_map(|arm| {
            std::iter::once((0, 1 + arm)).chain((0..leaves).map(move |i| (1 + arm, leaf(arm, i))))
        })
        .collect()
}

/// Relays strewn over a field, each tied to its `near` ones and to `far` others anywhere.
pub fn field(relays: usize, near: usize, far: usize, random: &mut Random) -> Wires {
    let mut wires = nearest(relays, near, random);
    for a in 0..relays {
        for _ in 0..far {
            let b = (a + 1 + random.below(relays as u64 - 1) as usize) % relays;
            wires.push((a.min(b), a.max(b)));
        }
    }
    wires.sort_unstable();
    wires.dedup();
    wires
}

/// Relays strewn over a field, each tied to its `near` ones, and a chain so that it is one field.
pub fn geometric(relays: usize, near: usize, random: &mut Random) -> Wires {
    let mut wires: Wires = chain(relays).into_iter().filter(|(a, _)| a % 3 == 0).collect();
    wires.extend(nearest(relays, near, random));
    wires.sort_unstable();
    wires.dedup();
    wires
}

fn nearest(relays: usize, near: usize, random: &mut Random) -> Wires {
    let at: Vec<(i64, i64)> =
        (0..relays).map(|_| (random.below(1000) as i64, random.below(1000) as i64)).collect();
    let square = |a: usize, b: usize| (at[a].0 - at[b].0).pow(2) + (at[a].1 - at[b].1).pow(2);
    let mut wires = Wires::new();
    for a in 0..relays {
        let mut others: Vec<usize> = (0..relays).filter(|b| *b != a).collect();
        others.sort_by_key(|b| square(a, *b));
        wires.extend(others.into_iter().take(near).map(|b| (a.min(b), a.max(b))));
    }
    wires
}
