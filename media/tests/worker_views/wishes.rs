//! What a listener wishes, and what it is told of what it sees.

use media::{Bound, Reason, Sight, Wish, rtp::descriptor::TemporalLayer};

use super::*;

const AUTO: Wish = Wish::UpTo(Bound { encoding: None, spatial: None, temporal: None });

fn up_to(place: u8) -> Wish {
    Wish::UpTo(Bound { encoding: Some(place), spatial: None, temporal: None })
}

impl View {
    fn wish(&mut self, wish: Wish) {
        let session = self.sim.peers[self.listener].session;
        self.sim.tell(&Command::Wish { session, wish });
    }

    fn watch(&mut self) {
        let session = self.sim.peers[self.listener].session;
        self.sim.tell(&Command::Watch { session, watched: true });
    }

    /// What it was told last, and what that says: the place of what is sent, and of the best, and why.
    fn told(&self) -> (Option<u8>, Option<u8>, Reason) {
        let sight = &self.sim.sights.last().expect("it was told").1;
        let place = |shown: &Option<media::Shown>| shown.as_ref().map(|shown| shown.place.unwrap_or(9));
        (place(&sight.sent), place(&sight.best), sight.reason)
    }

    fn sight(&self) -> &Sight {
        &self.sim.sights.last().expect("it was told").1
    }
}

#[test]
fn a_wish_is_a_bound_that_holds_until_the_next_and_what_there_is_room_for_comes_at_once() {
    let mut view = View::new(&RATES, 5_000_000);
    view.watch();
    assert_eq!(view.run(SECOND * 10).encoding(), Some(TOP));
    assert_eq!(view.told(), (Some(2), Some(2), Reason::Best));
    view.wish(up_to(0));
    let seen = view.run(SECOND * 5);
    assert!(seen.changes[1].1 == BASE && seen.changes[1].0 < ms(300), "{seen:?}");
    assert!(seen.changes.len() == 2 && seen.freeze < ms(200), "it went on until the base began: {seen:?}");
    assert_eq!(view.told(), (Some(0), Some(2), Reason::Wish));
    let probes = view.sim.workers[0].stats().probes;
    let seen = view.run(SECOND * 30);
    assert_eq!(seen.changes.len(), 1, "{seen:?}");
    assert_eq!(view.sim.workers[0].stats().probes, probes, "nothing is tried beyond the wish");
    view.wish(up_to(1));
    let seen = view.run(SECOND * 5);
    assert!(seen.encoding() == Some(MIDDLE) && seen.since() < ms(300), "{seen:?}");
    view.wish(AUTO);
    assert_eq!(view.run(SECOND * 10).encoding(), Some(TOP));
    assert_eq!(view.told(), (Some(2), Some(2), Reason::Best));
    let stats = view.sim.workers[0].stats();
    assert_eq!(stats.switches[1][Reason::Wish as usize], 1);
    assert_eq!((stats.thinned, stats.pauses), (0, [0; 5]));
}

#[test]
fn who_knows_its_path_gets_the_best_back_within_a_keyframe() {
    let mut view = View::new(&RATES, 5_000_000);
    view.run(SECOND * 10);
    view.wish(up_to(0));
    view.run(SECOND * 2);
    view.wish(AUTO);
    let seen = view.run(SECOND * 2);
    assert!(seen.changes[1].1 == TOP && seen.changes[1].0 < ms(300), "{seen:?}");
}

#[test]
fn who_wishes_no_picture_gets_none_and_has_it_back_within_a_keyframe() {
    for rates in [&RATES[..], &RATES[1..2]] {
        let mut view = View::new(rates, 5_000_000);
        view.watch();
        let best = view.run(SECOND * 10).encoding();
        view.wish(Wish::Sound);
        let seen = view.run(SECOND * 10);
        assert!(seen.last < ms(100) && seen.sound > 490, "{seen:?}");
        assert_eq!((view.told().0, view.told().2), (None, Reason::Wish));
        view.wish(AUTO);
        let seen = view.run(SECOND * 10);
        assert!(seen.changes[0].0 < ms(300) && seen.encoding() == best, "{seen:?}");
        assert_eq!(view.told().2, Reason::Best);
        assert_eq!(view.sim.workers[0].stats().pauses, [0, 0, 1, 0, 0]);
    }
}

#[test]
fn a_wish_before_the_session_is_connected_is_kept() {
    let mut sim = Sim::new(2, 1);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let now = sim.now;
    sim.narrow.insert(listener, Narrow::new(5_000_000, ms(200), now));
    let stage = Stage::new(&RATES, now);
    let mut view = View { sim, stage, listener };
    view.watch();
    view.wish(Wish::Sound);
    view.sim.connect();
    let seen = view.run(SECOND * 5);
    assert!(seen.changes.is_empty() && seen.sound > 200, "{seen:?}");
    assert_eq!(view.told(), (None, Some(2), Reason::Wish));
    view.wish(up_to(1));
    assert_eq!(view.run(SECOND * 5).encoding(), Some(MIDDLE));
}

#[test]
fn fewer_pictures_a_second_can_be_wished() {
    for rates in [&RATES[..], &RATES[1..2]] {
        let mut view = View::new(rates, 5_000_000);
        view.watch();
        view.run(SECOND * 10);
        let pictures = |view: &mut View| {
            let from = view.sim.now;
            view.run(SECOND * 5);
            let got = view.sim.peers[view.listener].got_media(Kind::Video);
            let times: std::collections::BTreeSet<u32> =
                got.iter().filter(|got| got.at >= from).map(|got| got.timestamp).collect();
            times.len()
        };
        let all = pictures(&mut view);
        view.wish(Wish::UpTo(Bound { encoding: None, spatial: None, temporal: Some(TemporalLayer(0)) }));
        view.run(SECOND);
        let half = pictures(&mut view);
        assert!(half * 2 < all + 20 && half > 50, "{half} of {all}");
        assert_eq!(view.told().2, Reason::Wish);
        let sent = view.sight().sent.clone().expect("a picture");
        assert!(sent.layers.len() == 1 && sent.rate < rates[rates.len() - 1] * 9 / 10, "{sent:?}");
        view.wish(AUTO);
        view.run(SECOND * 3);
        assert!(pictures(&mut view) > all - 10);
        assert_eq!(view.told().2, Reason::Best);
    }
}

#[test]
fn why_it_is_not_the_best_is_told() {
    let mut view = View::new(&RATES, 5_000_000);
    view.watch();
    view.run(SECOND * 10);
    view.wire(1_900_000);
    view.run(SECOND * 10);
    assert_eq!(view.told(), (Some(1), Some(2), Reason::Link));
    view.wire(400_000);
    view.run(SECOND * 10);
    assert_eq!(view.told(), (Some(0), Some(2), Reason::Link));
    view.wire(100_000);
    view.run(SECOND * 10);
    assert_eq!((view.told().0, view.told().2), (None, Reason::Link), "{:?}", view.sight());
    view.wire(5_000_000);
    view.run(SECOND * 60);
    assert_eq!(view.told(), (Some(2), Some(2), Reason::Best));
    view.stage.encodings[TOP].lives = false;
    view.run(SECOND * 5);
    assert_eq!(view.told(), (Some(1), Some(2), Reason::Publisher));
    let inactive = |view: &View| view.sight().inactive.iter().map(|shown| shown.place).collect::<Vec<_>>();
    assert_eq!(inactive(&view), [Some(2)]);
    let active: Vec<_> = view.sight().active.iter().map(|shown| (shown.place, shown.resolution)).collect();
    assert_eq!(active.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [Some(1), Some(0)]);
    assert_eq!(active[0].1.expect("a size").width, 640);
    // What is wished is no better than what does not come.
    view.wish(up_to(2));
    view.run(SECOND * 3);
    assert_eq!(view.told().0, Some(1));
    view.wish(AUTO);
    view.stage.encodings[TOP].lives = true;
    view.run(SECOND * 10);
    assert_eq!(view.told(), (Some(2), Some(2), Reason::Best));
    view.stage.encodings.iter_mut().for_each(|encoding| encoding.lives = false);
    view.run(SECOND * 5);
    assert_eq!(view.told(), (None, Some(2), Reason::Publisher));
    let gaps = view.sim.sights.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(gaps.min() >= Some(SECOND), "at most one in a second");
    let stats = view.sim.workers[0].stats();
    assert!(stats.switches[1][Reason::Publisher as usize] >= 1, "{:?}", stats.switches);
    assert!(stats.pauses[Reason::Link as usize] >= 1, "{stats:?}");
    let counted: u64 = stats.estimates.buckets.iter().sum();
    assert!(counted > 100 && counted == stats.allocated.buckets.iter().sum::<u64>(), "once a second");
}

#[test]
fn what_does_not_come_from_elsewhere_is_told_and_what_nobody_wants_is_not_asked_for() {
    let mut view = View::elsewhere(5_000_000);
    view.watch();
    view.fetch(15, &[BASE, MIDDLE]);
    assert_eq!(view.told(), (Some(1), Some(2), Reason::Bridge));
    view.fetch(15, &[BASE, MIDDLE, TOP]);
    assert_eq!(view.told(), (Some(2), Some(2), Reason::Best));
    view.wish(up_to(0));
    view.fetch(3, &[BASE, MIDDLE, TOP]);
    assert_eq!((view.told(), view.sim.demands[&0]), ((Some(0), Some(2), Reason::Wish), [1, 0, 0, 0]));
    view.wish(Wish::Sound);
    view.run(ms(50));
    assert_eq!(view.sim.demands[&0], [0; 4], "at once");
    view.wish(AUTO);
    let seen = view.fetch(10, &[BASE, MIDDLE, TOP]);
    assert!(seen.encoding() == Some(TOP) && seen.changes[0].0 < SECOND, "{seen:?}");
    let switches = view.sim.workers[0].stats().switches;
    assert!(switches[0][Reason::Bridge as usize] >= 1, "{switches:?}");
}

#[test]
fn a_relay_may_give_each_listener_no_more_than_so_much() {
    let mut sim = Sim::new(1, 1);
    sim.workers[0].set_max_bitrate(900_000);
    let listener = sim.listener(offer!("chromium_recvonly"));
    let now = sim.now;
    sim.narrow.insert(listener, Narrow::new(10_000_000, ms(200), now));
    sim.connect();
    let stage = Stage::new(&RATES, sim.now);
    let mut view = View { sim, stage, listener };
    view.watch();
    assert_eq!(view.run(SECOND * 30).encoding(), Some(MIDDLE));
    assert_eq!(view.told(), (Some(1), Some(2), Reason::Link));
    let stats = view.sim.workers[0].stats();
    assert_eq!(stats.estimates.buckets[5..], [0; 5], "never thought to carry more");
    // One that tells a high estimate gets no more, and one picture that takes more does not come at all.
    view.sim.peers[view.listener].arrivals = None;
    let mut alone = View::new(&RATES[2..], 10_000_000);
    alone.sim.workers[0].set_max_bitrate(900_000);
    let listener = alone.sim.listener(offer!("chromium_recvonly"));
    alone.sim.connect();
    alone.listener = listener;
    let seen = alone.run(SECOND * 10);
    assert!(seen.last < SECOND * 3, "{seen:?}");
}
