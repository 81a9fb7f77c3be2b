//! Which encoding of a picture a listener gets, over wires of all widths, in virtual time: the worker, a listener that
//! tells what came, and a wire with a queue of 200 ms. Everything is decided by what the wire did.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[macro_use]
mod worker_sim;
#[path = "worker_views/liar.rs"]
mod liar;
#[path = "worker_views/spatial.rs"]
mod spatial;
#[path = "worker_views/thin.rs"]
mod thin;
#[path = "worker_views/wishes.rs"]
mod wishes;

use std::time::{Duration, Instant};

use media::{AdvertisedEncoding, Command, rtcp};
use protocol::Kind;
use worker_sim::{
    Impairment, SECOND, Sim, TRACKS,
    encodings::{MARK, RATES, Stage},
    ms,
    narrow::Narrow,
    peer::Got,
};

/// Each of them fills one of the wires of RFC 8867, 5.1, to 83 %, with the sound.
const FOUR: [u64; 4] = [120_000, 380_000, 710_000, 1_950_000];
const TOP: usize = 2;
const MIDDLE: usize = 1;
const BASE: usize = 0;

/// What a listener got of a picture in some time.
#[derive(Debug, Default)]
struct Seen {
    /// Each change of encoding, since the beginning of the time.
    changes: Vec<(Duration, usize)>,
    /// When the last packet came.
    last: Duration,
    /// The longest time without a packet, between two that came.
    freeze: Duration,
    /// Packets of sound.
    sound: usize,
}

impl Seen {
    /// What is seen at the end.
    fn encoding(&self) -> Option<usize> {
        self.changes.last().map(|(_, encoding)| *encoding)
    }

    /// Since when.
    fn since(&self) -> Duration {
        self.changes.last().map_or(Duration::ZERO, |(since, _)| *since)
    }
}

struct View {
    sim: Sim,
    stage: Stage,
    listener: usize,
}

impl View {
    /// A listener on a wire, with a stage that publishes these encodings.
    fn new(rates: &[u64], wire: u64) -> View {
        let mut sim = Sim::new(1, 1);
        let listener = sim.listener(offer!("chromium_recvonly"));
        let address = sim.now;
        sim.narrow.insert(listener, Narrow::new(wire, ms(200), address));
        sim.connect();
        let stage = Stage::new(rates, sim.now);
        View { sim, stage, listener }
    }

    fn wire(&mut self, rate: u64) {
        self.sim.narrow.get_mut(&self.listener).expect("a wire").rate = rate;
    }

    fn run(&mut self, time: Duration) -> Seen {
        let from = self.sim.now;
        self.stage.run(&mut self.sim, time);
        self.seen(self.listener, from)
    }

    /// What a listener got since.
    fn seen(&self, listener: usize, from: Instant) -> Seen {
        let peer = &self.sim.peers[listener];
        let within = |got: &&&Got| got.at >= from;
        let mut seen =
            Seen { sound: peer.got_media(Kind::Audio).iter().filter(within).count(), ..Seen::default() };
        let pictures = peer.got_media(Kind::Video);
        for got in pictures.iter().filter(within).filter(|got| !got.payload.is_empty()) {
            let (at, encoding) = (got.at - from, usize::from(got.payload[MARK]));
            if seen.encoding() != Some(encoding) {
                seen.changes.push((at, encoding));
            } else if seen.last > Duration::ZERO {
                seen.freeze = seen.freeze.max(at - seen.last);
            }
            seen.last = at;
        }
        seen
    }

    fn queue(&self, time: Duration) -> Duration {
        self.sim.narrow[&self.listener].p95(self.sim.now - time, self.sim.now)
    }
}

#[test]
fn a_listener_follows_its_wire_down_and_up_again() {
    let mut view = View::new(&RATES, 3_000_000);
    let first = view.run(SECOND * 20);
    assert!(first.changes[0].0 < SECOND && first.changes[0].1 == BASE, "{first:?}");
    assert!(first.encoding() == Some(TOP) && first.since() < SECOND * 6, "{first:?}");
    for (wire, expected, within) in [
        (1_100_000, Some(MIDDLE), SECOND * 10),
        (400_000, Some(BASE), SECOND * 2),
        (200_000, None, SECOND * 2),
        (400_000, Some(BASE), SECOND * 10),
        (1_100_000, Some(MIDDLE), SECOND * 10),
        (3_000_000, Some(TOP), SECOND * 10),
    ] {
        view.wire(wire);
        let seen = view.run(SECOND * 20);
        match expected {
            Some(_) => {
                assert_eq!(seen.encoding(), expected, "{wire}: {seen:?}");
                assert!(seen.since() <= within, "{wire}: {seen:?}");
            }
            None => assert!(seen.last <= within, "{wire}: {seen:?}"),
        }
        assert!(seen.changes.len() <= 4 && seen.freeze < ms(800), "{wire}: {seen:?}");
        assert!(seen.sound >= 970, "{wire}: {seen:?}");
        let queue = view.queue(SECOND * 10);
        println!("{wire}: {seen:?}, queue {queue:?}");
        assert!(queue < ms(80), "{wire}: {queue:?}");
    }
    let paced = view.sim.workers[0].stats().paced;
    assert!(
        paced[0] > 1000 && paced[1] == 0,
        "frames wait once the limit is known, and not too long: {paced:?}"
    );
}

/// RFC 8867, 5.1, with encodings of which one fills each wire to 83 %, with the sound. A scene takes a sixth more and less.
#[test]
fn the_best_that_fits_is_found_though_it_leaves_little_to_spare() {
    let mut view = View::new(&FOUR, 1_000_000);
    view.stage.swing = 0.12;
    for (wire, expected, time) in
        [(1_000_000, 2, 40), (2_500_000, 3, 20), (600_000, 1, 20), (1_000_000, 2, 20)]
    {
        view.wire(wire);
        let seen = view.run(SECOND * time);
        let best = time_of(&seen, expected, SECOND * time);
        let queue = view.queue(SECOND * (time - 10));
        println!("{wire}: {expected} for {best:?}, queue {queue:?}, {seen:?}");
        assert!(seen.sound >= time as usize * 49, "{wire}: {seen:?}");
        // After many steps the waits differ from run to run: a few seconds more than the wished ten are forgiven.
        assert!(best > SECOND * (time - 16), "{wire}: {seen:?}");
    }
}

/// RFC 8867, 5.4.
#[test]
fn two_on_one_wire_both_see_something_and_none_takes_it_all() {
    for later in [0, 1, 5, 13] {
        let mut sim = Sim::new(1, 1);
        let one = sim.listener(offer!("chromium_recvonly"));
        let now = sim.now;
        sim.narrow.insert(one, Narrow::new(3_000_000, ms(200), now));
        sim.connect();
        let mut stage = Stage::new(&FOUR, sim.now);
        stage.swing = 0.12;
        let mut view = View { sim, stage, listener: one };
        view.run(SECOND * later);
        let other = view.sim.listener(offer!("chromium_recvonly"));
        view.sim.beside.insert(other, one);
        view.sim.connect();
        view.run(SECOND * 30);
        let from = view.sim.now;
        view.run(SECOND * 60);
        let rates = [one, other].map(|one| {
            let (seen, pictures) = (view.seen(one, from), view.sim.peers[one].got_media(Kind::Video));
            let pictures: Vec<_> = pictures.iter().filter(|got| got.at >= from).collect();
            let octets: usize = pictures.iter().map(|got| got.payload.len()).sum();
            let gap = pictures.windows(2).map(|pair| pair[1].at - pair[0].at).max().expect("some");
            println!("{later} s later: {} kbit/s, {gap:?}, {seen:?}", octets * 8 / 60_000);
            assert!(gap < SECOND * 2 && seen.sound > 2900, "{later}: {gap:?}, {seen:?}");
            octets as f64
        });
        let factor = (rates[0] / rates[1]).max(rates[1] / rates[0]);
        assert!(factor < 5.0, "{later}: {factor}");
    }
}

#[test]
fn who_joins_on_a_wire_for_sound_alone_soon_hears_only_that() {
    let mut view = View::new(&RATES, 200_000);
    let seen = view.run(SECOND * 10);
    assert!(seen.last < SECOND * 4, "{seen:?}");
    let seen = view.run(SECOND * 20);
    assert!(seen.changes.is_empty() && seen.sound >= 995, "{seen:?}");
    assert!(view.queue(SECOND * 10) < ms(60));
}

#[test]
fn what_a_radio_loses_costs_no_picture() {
    for percent in [2, 5] {
        let mut view = View::new(&RATES, 3_000_000);
        view.run(SECOND * 10);
        view.sim.down = Impairment { loss_percent: percent, jitter: ms(4) };
        let seen = view.run(SECOND * 40);
        let top: Duration = time_of(&seen, TOP, SECOND * 40);
        assert!(top > SECOND * 36, "{percent} %: {top:?} {seen:?}");
    }
}

fn time_of(seen: &Seen, encoding: usize, end: Duration) -> Duration {
    let ends = seen.changes.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let times = seen.changes.iter().zip(ends).filter(|((_, of), _)| *of == encoding);
    times.map(|((from, _), to)| to - *from).sum()
}

/// A picture from elsewhere, of which nothing comes that nobody wants.
impl View {
    fn elsewhere(wire: u64) -> View {
        let mut view = View::new(&RATES, wire);
        let encodings = (0..).zip(RATES);
        let encodings = encodings
            .map(|(place, rate)| AdvertisedEncoding { place, rate, rid: None, resolution: None })
            .collect();
        view.sim.tell(&Command::Advertised { tracks: TRACKS, encodings });
        view.stage.encodings.iter_mut().for_each(|encoding| encoding.lives = false);
        view
    }

    /// Runs for some seconds, in which the mesh brings the base, and what is wanted of `can`.
    fn fetch(&mut self, seconds: u32, can: &[usize]) -> Seen {
        let mut seen = Seen::default();
        for tenth in 0..10 * seconds {
            let wanted = self.sim.demands.get(&0).copied().unwrap_or_default();
            for (at, encoding) in self.stage.encodings.iter_mut().enumerate() {
                // Who wants a better one gets this one if that cannot be had.
                let of_use = wanted[at..].iter().any(|count| *count > 0);
                encoding.lives = can.contains(&at) && (at == BASE || of_use);
            }
            let now = self.run(ms(100));
            let changes = now.changes.into_iter().map(|(since, to)| (since + ms(100) * tenth, to));
            for change in changes {
                if seen.encoding() != Some(change.1) {
                    seen.changes.push(change);
                }
            }
        }
        seen
    }
}

#[test]
fn what_is_wanted_of_a_picture_from_elsewhere_is_asked_for() {
    let mut view = View::elsewhere(3_000_000);
    let seen = view.fetch(15, &[BASE, MIDDLE, TOP]);
    assert!(seen.changes[0].1 == BASE && seen.changes[0].0 < SECOND, "{seen:?}");
    assert_eq!((seen.encoding(), view.sim.demands[&0]), (Some(TOP), [0, 0, 1, 0]), "{seen:?}");
    view.wire(1_000_000);
    let seen = view.fetch(15, &[BASE, MIDDLE, TOP]);
    assert_eq!((seen.encoding(), view.sim.demands[&0]), (Some(MIDDLE), [0, 1, 0, 0]), "{seen:?}");
    view.sim.close(view.listener);
    view.run(SECOND);
    assert_eq!(view.sim.demands[&0], [0; 4], "nobody is left");
}

#[test]
fn who_wants_what_does_not_come_sees_the_next_lower() {
    let mut view = View::elsewhere(5_000_000);
    let seen = view.fetch(15, &[BASE, MIDDLE]);
    assert_eq!((seen.encoding(), view.sim.demands[&0]), (Some(MIDDLE), [0, 0, 1, 0]), "{seen:?}");
    // Two at once: the mesh brings only one above the base.
    view.stage.encodings[MIDDLE].lives = false;
    let seen = view.fetch(5, &[BASE]);
    assert_eq!(seen.encoding(), Some(BASE), "{seen:?}");
    let seen = view.fetch(5, &[BASE, TOP]);
    assert!(seen.encoding() == Some(TOP) && seen.since() < SECOND * 2, "{seen:?}");
    assert_eq!(view.sim.demands[&0], [0, 0, 1, 0], "it was wanted all the time");
}

#[test]
fn past_relays_that_know_of_no_encodings_a_picture_from_elsewhere_comes_as_a_whole() {
    let mut view = View::elsewhere(5_000_000);
    view.stage.encodings[TOP].whole = true;
    view.stage.encodings[TOP].lives = true;
    let seen = view.run(SECOND * 5);
    assert!(seen.encoding() == Some(TOP) && seen.changes[0].0 < SECOND, "{seen:?}");
    // They are updated. The whole goes on until an encoding has begun.
    view.stage.encodings[BASE].lives = true;
    let seen = view.run(SECOND * 3);
    assert!(seen.encoding() == Some(BASE) && seen.freeze < ms(300), "{seen:?}");
    view.stage.encodings[TOP].lives = false;
    assert_eq!(view.run(SECOND * 3).encoding(), Some(BASE));
    // And one of them goes back to what it was.
    view.stage.encodings[BASE].lives = false;
    view.stage.encodings[TOP].lives = true;
    let seen = view.run(SECOND * 5);
    assert!(seen.encoding() == Some(TOP) && seen.changes[0].0 < SECOND * 2, "{seen:?}");
}

#[test]
fn a_publisher_elsewhere_that_goes_on_with_one_encoding_is_seen() {
    let mut view = View::elsewhere(5_000_000);
    assert_eq!(view.fetch(5, &[BASE]).encoding(), Some(BASE));
    view.stage.encodings[BASE].lives = false;
    view.stage.encodings[TOP].whole = true;
    view.stage.encodings[TOP].lives = true;
    // The word that there are no others comes later than the picture.
    view.run(ms(200));
    view.sim.tell(&Command::Advertised { tracks: TRACKS, encodings: Vec::new() });
    let seen = view.run(SECOND * 5);
    assert!(seen.encoding() == Some(TOP) && seen.changes[0].0 < SECOND * 2, "{seen:?}");
}

#[test]
fn an_encoding_that_dies_is_left_and_taken_again() {
    let mut view = View::new(&RATES, 10_000_000);
    assert_eq!(view.run(SECOND * 10).encoding(), Some(TOP));
    view.stage.encodings[TOP].lives = false;
    let seen = view.run(SECOND * 5);
    assert!(seen.encoding() == Some(MIDDLE) && seen.since() < SECOND * 2, "{seen:?}");
    view.stage.encodings[BASE].lives = false;
    view.run(SECOND * 5);
    view.stage.encodings[MIDDLE].lives = false;
    view.run(SECOND * 3);
    view.stage.encodings[BASE].lives = true;
    let seen = view.run(SECOND * 5);
    assert!(seen.encoding() == Some(BASE) && seen.changes[0].0 < SECOND * 2, "{seen:?}");
    view.stage.encodings[MIDDLE].lives = true;
    view.stage.encodings[TOP].lives = true;
    let seen = view.run(SECOND * 10);
    assert_eq!(seen.encoding(), Some(TOP), "{seen:?}");
    assert!(seen.freeze < ms(500), "{seen:?}");
}

#[test]
fn a_picture_that_is_all_there_is_goes_on_through_a_hiccup_and_stops_where_it_does_not_fit() {
    let mut view = View::new(&[2_000_000], 3_000_000);
    let seen = view.run(SECOND * 10);
    assert!(seen.changes[0].0 < ms(500), "nobody waits for an estimate: {seen:?}");
    view.wire(1_800_000);
    view.run(ms(400));
    view.wire(3_000_000);
    let seen = view.run(SECOND * 20);
    assert!(seen.freeze < ms(300), "{seen:?}");
    view.wire(1_000_000);
    let seen = view.run(SECOND * 20);
    assert!(seen.last < SECOND * 4, "{seen:?}");
    assert!(view.queue(SECOND * 10) < ms(60));
    view.wire(3_000_000);
    let seen = view.run(SECOND * 20);
    assert!(seen.changes.first().is_some_and(|(at, _)| *at < SECOND * 10), "{seen:?}");
}

#[test]
fn who_tells_nothing_sees_the_base_and_a_picture_that_is_all_there_is() {
    for (rates, expected) in [(&RATES[..], BASE), (&RATES[2..], BASE)] {
        let mut view = View::new(rates, 10_000_000);
        view.sim.peers[view.listener].arrivals = None;
        let seen = view.run(SECOND * 10);
        assert!(seen.changes[0].0 < SECOND && seen.encoding() == Some(expected), "{seen:?}");
        assert_eq!(seen.changes.len(), 1);
    }
}

#[test]
fn who_reports_once_a_second_gets_the_best_after_a_while_and_always_the_base() {
    let mut view = View::new(&RATES, 10_000_000);
    view.sim.peers[view.listener].arrivals = None;
    let ssrc = view.sim.peers[view.listener].egress(Kind::Video).ssrc;
    let report = |view: &mut View, fraction_lost| {
        let mut compound = rtcp::Compound::default();
        compound.receiver_report(7, &[rtcp::Reception { ssrc, fraction_lost, ..rtcp::Reception::default() }]);
        view.sim.peers[view.listener].send_rtcp(compound.bytes());
        view.run(SECOND)
    };
    let top = (0..60).find(|_| report(&mut view, 0).encoding() == Some(TOP));
    assert!(top.is_some_and(|second| second < 45), "{top:?}");
    // a quarter is lost, whatever is sent
    let last = (0..30).map(|_| report(&mut view, 64)).last().expect("some");
    assert_eq!(last.encoding(), Some(BASE));
}

#[test]
fn numbers_and_times_go_on_through_all_changes() {
    let mut view = View::new(&RATES, 3_000_000);
    for wire in [3_000_000, 700_000, 3_000_000, 350_000, 3_000_000] {
        view.wire(wire);
        view.run(SECOND * 12);
    }
    assert!(view.sim.workers[0].stats().switches.iter().flatten().sum::<u64>() >= 6);
    let mut got = view.sim.peers[view.listener].got_media(Kind::Video);
    got.sort_by_key(|got| got.timestamp);
    let highest = got.iter().map(|got| got.sequence).max().expect("some");
    let (first, last) = (got[0].sequence, got[got.len() - 1].sequence);
    assert!(first < last && last == highest, "numbers rise with time");
    let span = f64::from(got[got.len() - 1].timestamp.wrapping_sub(got[0].timestamp)) / 90_000.0;
    let took = (got[got.len() - 1].at - got[0].at).as_secs_f64();
    assert!((span - took).abs() < 0.25, "{span} s of timestamps in {took} s");
    for pair in got.windows(2) {
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!(step == 0 || step >= 900, "a picture is a frame behind another: {step}");
    }
}
