//! When what a listener loses is mended, and how often, by repeats and by copies.

use std::time::Duration;

use super::*;

/// A listener of 50 packets a second that tells of each tenth of a second.
struct Listener {
    mending: Mending,
    told: Told,
    now: Instant,
    packet: u64,
}

impl Listener {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn new(how: How) -> Listener {
        let now = Instant::now();
        Listener { mending: Mending::new(how, now), told: Told::default(), now, packet: 0 }
    }

    /// So long with losses of `run` packets every so many; gives after how long each change came.
    fn tell(&mut self, seconds: u64, (run, every): (u64, u64)) -> Vec<(Times, u64)> {
        let (began, mut seen) = (self.now, Vec::new());
        for _ in 0..seconds * 10 {
            let before = self.mending.times();
            for _ in 0..5 {
                self.packet += 1;
                let at = self.packet % every.max(1);
                self.told.packets += 1;
                self.told.lost += u64::from(every > 0 && at < run);
                self.told.in_row += u64::from(every > 0 && at > 0 && at < run);
            }
            self.now += Duration::from_millis(100);
            self.mending.handle_told(self.told, self.now);
            if self.mending.times() != before {
                seen.push((self.mending.times(), self.now.duration_since(began).as_secs()));
            }
        }
        seen
    }

    /// Reports this each second; gives after how many it is so.
    fn report_until(&mut self, times: Times, share: f64) -> u64 {
        (1..1000)
            .find(|_| {
                self.now += Duration::from_secs(1);
                self.mending.handle_report(share, self.now);
                self.mending.times() == times
            })
            .expect("it comes to that")
    }
}

#[test]
fn what_is_lost_by_chance_is_not_repeated() {
    assert_eq!(Listener::new(How::Repeats).tell(600, (1, 0)), []);
    assert_eq!(Listener::new(How::Repeats).tell(600, (1, 150)), [], "two thirds of a percent");
    assert_eq!(
        Listener::new(How::Repeats).tell(30, (3, 1000)),
        [],
        "three at once, and then nothing for 20 s"
    );
}

#[test]
fn it_begins_as_soon_as_enough_is_lost_and_ends_when_nothing_was_for_long() {
    let mut listener = Listener::new(How::Repeats);
    let began = listener.tell(60, (1, 50));
    assert_eq!(began.len(), 1, "{began:?}");
    assert_eq!(began[0].0, Times::Once);
    assert!(began[0].1 <= 5, "2 % are seen in {began:?}");
    let ended = listener.tell(60, (1, 0));
    assert!(matches!(ended[..], [(Times::Never, 10..=20)]), "less than 0.5 % in 20 s: {ended:?}");
    assert!(listener.tell(60, (1, 20))[0].1 <= 2, "5 %");
}

#[test]
fn where_much_is_lost_or_in_bursts_it_is_repeated_twice() {
    let last = |losses| Listener::new(How::Repeats).tell(20, losses).last().map(|(times, _)| *times);
    assert_eq!(last((1, 20)), Some(Times::Once), "5 %");
    assert_eq!(last((1, 10)), Some(Times::Twice), "10 %");
    assert_eq!(last((3, 60)), Some(Times::Twice), "5 % in bursts of three");
    let mut listener = Listener::new(How::Repeats);
    listener.tell(20, (1, 10));
    assert_eq!(listener.tell(20, (1, 14)), [], "7 % are not yet less");
    assert_eq!(listener.tell(10, (1, 25)).last().map(|(times, _)| *times), Some(Times::Once));
}

#[test]
fn who_reports_only_shares_is_tried_ever_more_seldom() {
    let mut listener = Listener::new(How::Repeats);
    let mut held = Vec::new();
    for _ in 0..6 {
        listener.report_until(Times::Once, 0.05);
        // While it is repeated nothing is lost.
        held.push(listener.report_until(Times::Never, 0.0));
    }
    assert!(held.is_sorted() && held[0] <= 20 && held[5] >= 300, "{held:?}");
}

#[test]
fn what_only_loses_more_by_it_is_left_alone() {
    let mut listener = Listener::new(How::Repeats);
    listener.tell(4, (1, 20));
    assert_eq!(listener.mending.times(), Times::Once);
    // A policer drops what is too much.
    let ended = listener.tell(8, (2, 5));
    assert_eq!(ended.last().map(|(times, _)| *times), Some(Times::Never), "{ended:?}");
    assert_eq!(listener.tell(50, (1, 20)), []);
    assert_eq!(listener.tell(20, (1, 20)).len(), 1, "tried again after a minute");
    assert_eq!(listener.tell(8, (2, 5)).last().map(|(times, _)| *times), Some(Times::Never));
    assert_eq!(listener.tell(100, (1, 20)), [], "two minutes then");
}

#[test]
fn nonsense_changes_nothing() {
    let mut listener = Listener::new(How::Repeats);
    for share in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        listener.mending.handle_report(share, listener.now);
        assert_eq!((listener.mending.times(), listener.mending.sum(SECONDS).lost), (Times::Never, 0));
    }
}

/// What it comes to, each time that it is another.
fn turns(seen: &[(Times, u64)]) -> Vec<Times> {
    seen.iter().map(|(times, _)| *times).collect()
}

#[test]
fn copies_begin_above_two_percent_and_end_when_nothing_was_lost_for_long() {
    assert_eq!(Listener::new(How::Copies).tell(600, (1, 0)), []);
    assert_eq!(Listener::new(How::Copies).tell(600, (1, 80)), [], "1.25 %");
    let mut listener = Listener::new(How::Copies);
    assert_eq!(turns(&listener.tell(20, (1, 30))), [Times::Once], "3.3 %");
    assert_eq!(listener.tell(60, (1, 100)), [], "1 % is not nothing");
    assert_eq!(turns(&listener.tell(60, (1, 0))), [Times::Never]);
}

#[test]
fn where_much_is_lost_or_in_bursts_there_are_two_copies() {
    let last = |losses| Listener::new(How::Copies).tell(20, losses).last().map(|(times, _)| *times);
    assert_eq!(last((1, 20)), Some(Times::Once), "5 %");
    assert_eq!(last((1, 10)), Some(Times::Twice), "10 %");
    assert_eq!(last((3, 60)), Some(Times::Twice), "5 % in bursts of three");
}

#[test]
fn who_reports_only_shares_and_gets_copies_is_not_tried_ever_more_seldom() {
    let mut listener = Listener::new(How::Copies);
    for _ in 0..4 {
        assert!(listener.report_until(Times::Once, 0.05) <= 5);
        assert!(listener.report_until(Times::Never, 0.0) <= 20, "what is mended shows");
    }
}
