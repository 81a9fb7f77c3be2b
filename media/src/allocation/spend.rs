//! The best use of a rate: sound first and whole, then the base of each picture, then one step at a time.

use super::Picture;

/// For each picture how many of its rungs are within the budget: 0 is no picture, 1 is the base.
///
/// Sound is not asked: it goes, and what it takes is gone. The base of every picture comes before the second rung of any,
/// those that more people want first. A base that does not fit leaves room for a cheaper one behind it. Then each step
/// goes to the picture that has the fewest steps for those who want it; one that does not fit ends at what it has.
pub fn spend(budget: u64, sound: u64, pictures: &[Picture<'_>]) -> Vec<usize> {
    let mut out = vec![0; pictures.len()];
    let Some(mut left) = budget.checked_sub(sound) else { return out };
    let mut order: Vec<usize> = (0..pictures.len()).collect();
    // Stable: of two that are wanted alike the first goes first, always.
    order.sort_by_key(|at| std::cmp::Reverse(pictures[*at].wanted_by));
    for at in &order {
        if let Some(base) = pictures[*at].allowed().first()
            && base.rate <= left
        {
            left -= base.rate;
            out[*at] = 1;
        }
    }
    let mut ended: Vec<bool> = out.iter().map(|rungs| *rungs == 0).collect();
    while let Some(at) = next(pictures, &out, &ended, &order) {
        let allowed = pictures[at].allowed();
        match allowed.get(out[at]).map(|next| next.rate.saturating_sub(allowed[out[at] - 1].rate)) {
            Some(more) if more <= left => {
                left -= more;
                out[at] += 1;
            }
            _ => ended[at] = true,
        }
    }
    out
}

/// The picture that the next step goes to: the one with the fewest steps for each who wants it.
fn next(pictures: &[Picture<'_>], rungs: &[usize], ended: &[bool], order: &[usize]) -> Option<usize> {
    let open = order.iter().copied().filter(|at| !ended[*at]);
    open.min_by(|a, b| {
        // a/wanted(a) against b/wanted(b), without a division
        let weight = |at: usize| u64::from(pictures[at].wanted_by.max(1));
        (rungs[*a] as u64 * weight(*b)).cmp(&(rungs[*b] as u64 * weight(*a)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::allocation::{Layer, Rung};
    use crate::rtp::descriptor::{SpatialLayer, TemporalLayer};

    fn rung(encoding: u8, rate: u64) -> Rung {
        Rung { layer: Layer { encoding, spatial: SpatialLayer(0), temporal: TemporalLayer(0) }, rate }
    }

    fn three() -> [Rung; 3] {
        [rung(0, 120_000), rung(1, 600_000), rung(2, 2_000_000)]
    }

    fn picture(rungs: &[Rung], wanted_by: u32) -> Picture<'_> {
        Picture { rungs, wish: None, wanted_by }
    }

    #[test]
    fn a_picture_is_the_best_that_fits_behind_the_sound() {
        let rungs = three();
        let one = [picture(&rungs, 1)];
        let of = |budget| spend(budget, 96_000, &one)[0];
        assert_eq!([0, 96_000, 215_999, 216_000, 695_999, 696_000, 2_096_000].map(of), [0, 0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn the_base_of_each_comes_before_the_second_rung_of_any() {
        let rungs = three();
        let all = [picture(&rungs, 1), picture(&rungs, 50), picture(&rungs, 3)];
        assert_eq!(spend(120_000, 0, &all), [0, 1, 0]);
        assert_eq!(spend(359_999, 0, &all), [0, 1, 1], "who is wanted least goes without");
        assert_eq!(spend(360_000 + 480_000, 0, &all), [1, 2, 1]);
        assert_eq!(spend(360_000 + 480_000 + 1_400_000, 0, &all), [1, 3, 1]);
        assert_eq!(spend(360_000 + 3 * 480_000, 0, &all), [2, 2, 2], "the top of the first is too dear");
    }

    #[test]
    fn a_base_that_does_not_fit_leaves_room_for_a_cheaper_one() {
        let (dear, cheap) = ([rung(0, 500_000)], [rung(0, 100_000), rung(1, 200_000)]);
        assert_eq!(spend(200_000, 0, &[picture(&dear, 9), picture(&cheap, 1)]), [0, 2]);
    }

    #[test]
    fn a_wish_is_a_bound_and_the_base_is_below_each() {
        let rungs = three();
        let wish = |encoding| Picture {
            rungs: &rungs,
            wish: Some(Layer { encoding, spatial: SpatialLayer(7), temporal: TemporalLayer(7) }),
            wanted_by: 1,
        };
        assert_eq!(spend(u64::MAX, 0, &[wish(0)]), [1]);
        assert_eq!(spend(u64::MAX, 0, &[wish(1)]), [2]);
        assert_eq!(spend(u64::MAX, 0, &[wish(9)]), [3]);
        let only_high = [rung(2, 1)];
        let low = Picture { rungs: &only_high, ..wish(0) };
        assert_eq!(spend(10, 0, &[low, picture(&[], 4)]), [1, 0]);
    }

    fn any_picture() -> impl Strategy<Value = (Vec<Rung>, u32)> {
        let rates = proptest::collection::vec(1u64..1_000_000, 0..6);
        (rates, 0u32..100).prop_map(|(rates, wanted_by)| {
            let mut sum = 0;
            let rise = |(at, rate): (usize, &u64)| {
                sum += rate;
                rung(at as u8, sum)
            };
            (rates.iter().enumerate().map(rise).collect(), wanted_by)
        })
    }

    proptest! {
        #[test]
        fn no_more_is_spent_than_there_is_and_nothing_that_fits_is_left(
            pictures in proptest::collection::vec(any_picture(), 0..6),
            budget in 0u64..6_000_000,
            sound in 0u64..300_000,
        ) {
            let pictures: Vec<Picture<'_>> =
                pictures.iter().map(|(rungs, wanted)| picture(rungs, *wanted)).collect();
            let out = spend(budget, sound, &pictures);
            let rate = |at: usize| out[at].checked_sub(1).map_or(0, |top| pictures[at].rungs[top].rate);
            let all: u64 = (0..pictures.len()).map(rate).sum();
            if out.iter().any(|rungs| *rungs > 0) {
                prop_assert!(sound + all <= budget);
            }
            for (at, picture) in pictures.iter().enumerate() {
                let more = picture.rungs.get(out[at]).map(|next| next.rate - rate(at));
                prop_assert!(more.is_none_or(|more| sound + all + more > budget), "picture {at} of {out:?}");
            }
        }
    }
}
