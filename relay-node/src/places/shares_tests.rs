//! Who gives way where all places are taken.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn shares(total: usize, gives_way: GivesWay) -> Shares {
    Shares::new(total, Policy { gives_way, patience: 5 * SECOND })
}

fn holder(number: u8) -> Holder {
    IpAddr::from([10, 0, 0, number]).into()
}

/// Fills what is free.
fn fill(shares: &mut Shares, number: u8, count: usize, now: Instant) -> Vec<PlaceId> {
    (0..count).map(|_| shares.take(holder(number), now).expect("there is room").place).collect()
}

#[test]
fn one_machine_is_one_holder_however_its_address_is_written() {
    let of = |text: &str| Holder::from(text.parse::<IpAddr>().expect("an address"));
    assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff:ffff:ffff:ffff"));
    assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
}

#[test]
fn one_address_may_have_every_place_that_nobody_else_wants() {
    let now = crate::clock::now();
    let mut shares = shares(1000, GivesWay::Youngest);
    fill(&mut shares, 1, 1000, now);
    assert_eq!(shares.take(holder(1), now), Err(Full), "its own newcomers find no room");
    assert_eq!(shares.len(), 1000);
}

#[test]
fn the_youngest_of_the_greediest_gives_way() {
    let now = crate::clock::now();
    let mut shares = shares(10, GivesWay::Youngest);
    let modest = fill(&mut shares, 2, 3, now);
    let greedy = fill(&mut shares, 1, 7, now);
    for (number, expected) in [(3, greedy[6]), (4, greedy[5]), (5, greedy[4])] {
        let taken = shares.take(holder(number), now).expect("somebody is greedier");
        assert_eq!(taken.gave_way, Some(expected));
    }
    // 4, 3, 1, 1, 1: the second one may still grow by nothing, a newcomer by one.
    assert_eq!(shares.take(holder(2), now), Err(Full));
    assert_eq!(shares.take(holder(6), now).map(|taken| taken.gave_way), Ok(Some(greedy[3])));
    assert!(modest.iter().all(|place| shares.places.contains_key(place)));
}

#[test]
fn what_is_stalest_gives_way_where_that_is_the_rule_and_progress_counts() {
    let now = crate::clock::now();
    let mut shares = shares(3, GivesWay::Stalest);
    let places = fill(&mut shares, 1, 3, now);
    shares.progress(places[0], now + SECOND);
    let taken = shares.take(holder(2), now + SECOND).expect("has fewer");
    assert_eq!(taken.gave_way, Some(places[1]));
}

#[test]
fn a_place_that_waits_in_vain_gives_way_to_its_own_holder_and_a_young_one_does_not() {
    let now = crate::clock::now();
    let mut shares = shares(3, GivesWay::Youngest);
    let places = fill(&mut shares, 1, 3, now);
    assert_eq!(shares.take(holder(1), now + 4 * SECOND), Err(Full));
    let taken = shares.take(holder(1), now + 5 * SECOND).expect("one waited for long");
    assert_eq!(taken.gave_way, Some(places[0]));
}

#[test]
fn what_has_proven_itself_is_no_greed() {
    let now = crate::clock::now();
    let mut shares = shares(10, GivesWay::Youngest);
    for place in fill(&mut shares, 1, 5, now) {
        shares.stand(place, Standing::Proven, now);
    }
    let greedy = fill(&mut shares, 2, 5, now);
    let taken = shares.take(holder(3), now).expect("the second is greedier");
    assert_eq!(taken.gave_way, Some(greedy[4]));
    let taken = shares.take(holder(1), now).expect("the first has nothing unproven");
    assert_eq!(taken.gave_way, Some(greedy[3]));
}

#[test]
fn even_proven_places_of_one_holder_keep_others_out_of_half_at_most() {
    let now = crate::clock::now();
    let mut shares = shares(10, GivesWay::Youngest);
    for place in fill(&mut shares, 1, 10, now) {
        shares.stand(place, Standing::Proven, now);
    }
    assert_eq!(shares.take(holder(1), now), Err(Full), "there is nobody to take from");
    for number in 2..7 {
        let taken = shares.take(holder(number), now).expect("the first has more than half");
        shares.stand(taken.place, Standing::Proven, now);
    }
    assert_eq!(shares.take(holder(7), now), Err(Full), "half of them is left to it");
}

#[test]
fn what_is_idle_gives_way_first_whoever_holds_it() {
    let now = crate::clock::now();
    let mut shares = shares(10, GivesWay::Youngest);
    fill(&mut shares, 1, 9, now);
    let idle = fill(&mut shares, 2, 1, now)[0];
    shares.stand(idle, Standing::Idle, now);
    assert_eq!(shares.take(holder(1), now).map(|taken| taken.gave_way), Ok(Some(idle)));
    assert!(shares.take(holder(1), now).is_err());
}

#[test]
fn a_place_that_is_handed_over_is_the_greed_of_its_new_holder() {
    let now = crate::clock::now();
    let mut shares = shares(4, GivesWay::Youngest);
    // A proxy's connections.
    let places = fill(&mut shares, 1, 4, now);
    for place in &places[1..] {
        shares.hand_over(*place, holder(9));
    }
    let taken = shares.take(holder(1), now).expect("the ninth is greedier");
    assert_eq!(taken.gave_way, Some(places[3]));
}

#[test]
fn room_can_be_made_without_a_newcomer() {
    let now = crate::clock::now();
    let mut shares = shares(10, GivesWay::Youngest);
    assert_eq!(shares.make_room(), None);
    let places = fill(&mut shares, 1, 2, now);
    shares.stand(places[1], Standing::Idle, now);
    assert_eq!(shares.make_room(), Some(places[1]));
    assert_eq!(shares.make_room(), Some(places[0]));
    assert!(shares.is_empty() && shares.holders.is_empty() && shares.greed.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Take(u8),
    Release(usize),
    Stand(usize, Standing),
    HandOver(usize, u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let standing = prop_oneof![Just(Standing::Idle), Just(Standing::Unproven), Just(Standing::Proven)];
    prop_oneof![
        6 => (0u8..6).prop_map(Step::Take),
        1 => (0usize..64).prop_map(Step::Release),
        2 => ((0usize..64), standing).prop_map(|(place, standing)| Step::Stand(place, standing)),
        1 => ((0usize..64), (0u8..6)).prop_map(|(place, holder)| Step::HandOver(place, holder)),
        1 => (0u64..4).prop_map(Step::Wait),
    ]
}

/// How many unproven places a holder has, and how many in all: counted the slow way.
fn counted(shares: &Shares, who: Holder) -> (usize, usize) {
    let own = || shares.places.values().filter(|place| place.holder == who);
    (own().filter(|place| place.standing == Standing::Unproven).count(), own().count())
}

proptest! {
    #[test]
    fn shares_are_bounded_and_fair_whatever_is_done(
        steps in prop::collection::vec(step(), 0..200),
        total in 1usize..12,
        youngest in any::<bool>(),
    ) {
        let gives_way = if youngest { GivesWay::Youngest } else { GivesWay::Stalest };
        let mut shares = shares(total, gives_way);
        let mut now = crate::clock::now();
        let mut known: Vec<PlaceId> = Vec::new();
        for step in steps {
            let pick = |at: usize| (!known.is_empty()).then(|| known[at % known.len()]);
            match step {
                Step::Wait(seconds) => now += SECOND * seconds as u32,
                Step::Release(at) => if let Some(place) = pick(at) { shares.release(place) },
                Step::Stand(at, standing) => {
                    if let Some(place) = pick(at) { shares.stand(place, standing, now) }
                }
                Step::HandOver(at, to) => {
                    if let Some(place) = pick(at) { shares.hand_over(place, holder(to)) }
                }
                Step::Take(number) => {
                    let who = holder(number);
                    let others: Vec<Holder> = (0..6).map(holder).filter(|other| *other != who).collect();
                    let own = counted(&shares, who);
                    let most = others.iter().map(|other| counted(&shares, *other).0).max().unwrap_or(0);
                    let idle = shares.places.values().any(|place| place.standing == Standing::Idle);
                    let room = shares.len() < total;
                    let before: BTreeMap<PlaceId, (Holder, Standing)> =
                        shares.places.iter().map(|(id, place)| (*id, (place.holder, place.standing))).collect();
                    let proven_of = |who| counted(&shares, who).1;
                    let extents: Vec<usize> = others.iter().map(|other| proven_of(*other)).collect();
                    match shares.take(who, now) {
                        Ok(taken) => {
                            known.push(taken.place);
                            prop_assert_eq!(room, taken.gave_way.is_none());
                            if let Some((holder, standing)) = taken.gave_way.map(|place| before[&place]) {
                                // Nobody loses to somebody greedier.
                                match standing {
                                    Standing::Idle => {}
                                    Standing::Unproven if holder == who => prop_assert!(!idle),
                                    Standing::Unproven => {
                                        let count = counted(&shares, holder).0 + 1;
                                        let largest = extents.iter().any(|extent| *extent > total.div_ceil(2));
                                        prop_assert!(count == most && count >= own.0 + 2 || largest);
                                    }
                                    Standing::Proven => prop_assert!(
                                        holder != who && counted(&shares, holder).1 + 1 > total.div_ceil(2)
                                    ),
                                }
                            }
                        }
                        Err(Full) => {
                            prop_assert!(!room && !idle && most < own.0 + 2);
                            prop_assert!(extents.iter().all(|extent| *extent <= total.div_ceil(2)));
                        }
                    }
                }
            }
            prop_assert!(shares.len() <= total);
            for who in (0..6).map(holder) {
                let (unproven, all) = counted(&shares, who);
                prop_assert_eq!(shares.holders.contains_key(&who), all > 0);
                if all > 0 {
                    prop_assert!(shares.greed.contains(&(unproven, who)));
                    prop_assert!(shares.extent.contains(&(all, who)));
                }
            }
            prop_assert_eq!(shares.greed.len(), shares.holders.len());
            prop_assert_eq!(shares.extent.len(), shares.holders.len());
        }
    }
}
