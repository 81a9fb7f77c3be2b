//! Pictures for listeners whose paths have shown a limit: when what leaves, and in which order.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::stage::{Left, SOUND, Stage, VIDEO_EGRESS};
use crate::{
    drop_reason::DropReason,
    rtp::descriptor::{Extent, TemporalLayer},
    track::{Listener, id::TrackId},
};

const PICTURE: TrackId = TrackId(0);
const RUN: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(250);
const MBIT: u64 = 1_000_000;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A stage with one listener that has begun with the picture.
fn stage(limit: Option<u64>, rtx: bool) -> Stage {
    let mut stage = Stage::new();
    stage.viewer(limit, rtx);
    stage.bring_picture(PICTURE, 1000, true);
    stage.run(ms(100));
    stage.viewers.0[0].left.clear();
    stage
}

fn left(stage: &Stage) -> &[Left] {
    &stage.viewers.0[0].left
}

#[test]
fn a_keyframe_leaves_at_two_and_a_half_times_the_estimate() {
    let mut stage = stage(Some(2 * MBIT), true);
    let began = stage.elapsed();
    stage.bring_picture(PICTURE, 60_000, true);
    assert!(left(&stage).len() <= 3, "one run at once");
    stage.run(ms(300));
    let took = left(&stage).last().expect("some").at - began;
    assert!((ms(90)..ms(105)).contains(&took), "{took:?}");
    assert_eq!(left(&stage).len(), 50);
    let mut runs: BTreeMap<Duration, usize> = BTreeMap::new();
    left(&stage).iter().for_each(|left| *runs.entry(left.at).or_default() += left.len);
    assert!(runs.len() >= 18 && runs.values().all(|octets| *octets <= 3 * 1250), "{runs:?}");
    let sends = stage.sends.iter().filter(|(at, ..)| *at >= began).count();
    assert_eq!(sends, runs.len(), "each run is one segmented send");
    assert!(stage.fan_out.poll_timeout(&stage.tracks).is_none(), "nothing is left to wake up for");
    assert_eq!(stage.stats.paced[1], 0, "it was in time");
    assert!(stage.stats.paced[0] >= 47);
}

#[test]
fn a_packet_that_waited_is_recorded_when_it_leaves() {
    let mut stage = stage(Some(2 * MBIT), true);
    stage.bring_picture(PICTURE, 60_000, true);
    stage.run(ms(300));
    for left in left(&stage) {
        let number = left.transport.expect("its listener tells");
        assert_eq!(stage.viewers.0[0].path.left_at(number), Some(left.at));
    }
}

#[test]
fn who_has_no_known_limit_gets_frames_at_once_octet_for_octet() {
    let sends = |limits: &[Option<u64>]| {
        let mut stage = Stage::new();
        limits.iter().for_each(|limit| _ = stage.viewer(*limit, true));
        for picture in 0..20 {
            stage.bring_picture(PICTURE, 3000 + 4000 * (picture % 3), picture % 10 == 0);
            assert!(stage.fan_out.poll_timeout(&stage.tracks).is_none(), "nothing waits");
            stage.bring_sound();
            stage.nack(0, vec![1000 + 2 * picture as u16, 1001 + 2 * picture as u16]);
            stage.pump();
            stage.run(ms(33));
        }
        assert_eq!(stage.stats.paced, [0, 0]);
        stage.sends
    };
    let unknown = sends(&[None, None]);
    assert_eq!(unknown.len(), 103, "sends for each frame, sound and two repairs");
    assert_eq!(unknown, sends(&[Some(20 * MBIT), None]));
    assert_eq!(unknown, sends(&[Some(25 * MBIT), Some(20 * MBIT)]));
}

#[test]
fn one_listener_waits_and_the_other_does_not() {
    let mut stage = Stage::new();
    for limit in [Some(MBIT), None] {
        stage.viewer(limit, true);
    }
    stage.bring_picture(PICTURE, 60_000, true);
    assert_eq!(stage.viewers.0[1].left.len(), 50);
    assert!(stage.viewers.0[0].left.len() < 4);
    stage.run(ms(300));
    assert_eq!(stage.viewers.0[0].pictures(), stage.viewers.0[1].pictures());
}

#[test]
fn sound_and_repairs_pass_a_keyframe() {
    for rtx in [true, false] {
        let mut stage = stage(Some(2 * MBIT), rtx);
        stage.bring_picture(PICTURE, 2400, false);
        stage.run(ms(100));
        let missed = left(&stage).iter().rfind(|left| left.ssrc == 1).expect("some").sequence;
        let before = left(&stage).len();
        stage.bring_picture(PICTURE, 60_000, true);
        let sound = stage.bring_sound();
        stage.nack(0, vec![missed]);
        stage.pump();
        let at = stage.elapsed();
        let now: Vec<&Left> = left(&stage)[before..].iter().collect();
        assert!(now.iter().any(|left| left.ssrc == 3 && left.from == (SOUND.0 as u8, sound)));
        let again = |left: &Left| left.original == Some(missed) || left.ssrc == 1 && left.sequence == missed;
        assert!(now.iter().copied().any(again), "{now:?}");
        assert!(now.len() <= 5 && now.iter().all(|left| left.at == at), "the rest waits");
        stage.run(ms(300));
        assert_eq!(left(&stage).len(), before + 52);
    }
}

#[test]
fn repairs_and_probes_count_against_the_budget() {
    let took = |act: &dyn Fn(&mut Stage)| {
        let mut stage = stage(Some(2 * MBIT), true);
        stage.bring_picture(PICTURE, 12_000, false);
        stage.run(ms(100));
        let began = stage.elapsed();
        stage.bring_picture(PICTURE, 60_000, true);
        act(&mut stage);
        stage.pump();
        stage.run(ms(400));
        let last = left(&stage).iter().rfind(|left| left.ssrc == 1).expect("some").at;
        last - began
    };
    let alone = took(&|_| {});
    let repairs = took(&|stage| stage.nack(0, (1001..1011).collect()));
    assert!((ms(15)..ms(30)).contains(&(repairs - alone)), "{repairs:?} {alone:?}");
    let probe = took(&|stage| {
        stage.viewers.0[0].path.set_wanted(Some(4 * MBIT));
        stage.run(ms(10));
        let now = stage.now + Duration::from_secs(2);
        let probe = stage.viewers.0[0].path.poll_probe(now).expect("room is wanted");
        let listener = Listener { session: 0, egress: VIDEO_EGRESS };
        stage.fan_out.handle_probe(listener, probe, stage.now);
    });
    assert!(probe > alone + ms(5), "{probe:?} {alone:?}");
}

#[test]
fn a_storm_of_repairs_does_not_keep_a_picture_longer() {
    let mut stage = stage(Some(MBIT / 2), true);
    stage.bring_picture(PICTURE, 48_000, false);
    stage.run(ms(400));
    let began = stage.elapsed();
    stage.bring_picture(PICTURE, 36_000, true);
    for _ in 0..10 {
        stage.nack(0, (1001..1041).collect());
        stage.pump();
        stage.run(ms(20));
    }
    stage.run(ms(100));
    let pictures: Vec<&Left> = left(&stage).iter().filter(|left| left.ssrc == 1).collect();
    assert_eq!(pictures.len(), 70);
    let took = pictures[69].at - began;
    assert!((ms(240)..=LONGEST + RUN).contains(&took), "{took:?}");
}

#[test]
fn what_the_ring_has_lost_meanwhile_is_counted() {
    let mut stage = stage(Some(MBIT), true);
    for packet in stage.picture(PICTURE, &[10; 10_000], false) {
        stage.bring(PICTURE, packet);
        stage.pump();
    }
    stage.run(LONGEST + RUN);
    let stale = stage.stats.drops.get(&DropReason::Stale).copied().unwrap_or_default();
    assert!(stale > 1000 && left(&stage).len() == 10_000 - stale as usize, "{stale}");
    assert_eq!(left(&stage).last().map(|left| left.from.1), Some(10_000));
}

#[test]
fn a_source_that_begins_does_not_wait_for_what_is_left_of_the_one_before() {
    let mut stage = stage(Some(MBIT), true);
    stage.bring_picture(TrackId(1), 1000, true);
    stage.bring_picture(PICTURE, 24_000, false);
    stage.turn(0, TrackId(1));
    stage.run(ms(10));
    stage.bring_picture(TrackId(1), 12_000, true);
    stage.run(ms(300));
    let of = |track| left(&stage).iter().filter(|left| left.from.0 == track).count();
    assert!(of(0) < 8, "{}", of(0));
    assert_eq!(of(1), 10);
    let sequences: Vec<u16> = left(&stage).iter().map(|left| left.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "no hole: {sequences:?}");
    // Nor is what was never sent repaired.
    stage.nack(0, vec![sequences[sequences.len() - 1] + 1]);
    stage.pump();
    assert_eq!(left(&stage).len(), sequences.len());
}

#[test]
fn nothing_leaves_of_a_picture_that_was_stopped() {
    let mut stage = stage(Some(MBIT), true);
    stage.bring_picture(PICTURE, 60_000, true);
    stage.stop(0);
    let before = left(&stage).len();
    stage.run(ms(300));
    assert_eq!(left(&stage).len(), before);
    assert!(stage.fan_out.poll_timeout(&stage.tracks).is_none());
    stage.bring_picture(PICTURE, 60_000, true);
    stage.turn(0, PICTURE);
    assert!(stage.catch_up(0, PICTURE));
    stage.run(Duration::from_secs(1));
    assert_eq!(left(&stage).len(), before + 50);
}

#[test]
fn a_latecomer_with_a_known_limit_catches_up_at_its_pace() {
    for (limit, most) in [(None, ms(10)), (Some(2 * MBIT), ms(400))] {
        let mut stage = Stage::new();
        stage.bring_picture(PICTURE, 120_000, true);
        let viewer = stage.viewer(limit, true);
        let began = stage.elapsed();
        assert!(stage.catch_up(viewer, PICTURE));
        for _ in 0..30 {
            stage.run(ms(33));
            stage.bring_picture(PICTURE, 6000, false);
        }
        stage.run(ms(300));
        let left = &stage.viewers.0[viewer].left;
        assert_eq!(left.len(), 100 + 30 * 5, "all, and nothing twice");
        let of_keyframe = left[99].at - began;
        assert!(
            of_keyframe < most && (limit.is_none() || of_keyframe > ms(185)),
            "{limit:?}: {of_keyframe:?}"
        );
    }
}

#[test]
fn a_source_that_starts_anew_leaves_nothing_of_before() {
    let mut stage = stage(Some(MBIT), true);
    stage.bring_picture(PICTURE, 60_000, true);
    let before = left(&stage).len();
    for mut packet in stage.picture(PICTURE, &[1000, 1000], true) {
        packet.epoch = 1;
        stage.bring(PICTURE, packet);
    }
    stage.pump();
    stage.run(ms(300));
    assert_eq!(left(&stage).len(), before + 2);
}

/// What happens between two looks.
#[derive(Debug, Clone)]
enum Act {
    /// A picture of an encoding comes, so many packets of so many octets; a keyframe; its packets in disorder.
    Picture(u8, u8, u16, bool, bool),
    Turn(u8),
    Stop,
    Estimate(u64),
    Nack(Vec<u16>),
    Probe,
    Sound,
    Time(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let picture = (0..2_u8, 1..60_u8, 10..1300_u16, any::<bool>(), any::<bool>());
    prop_oneof![
        8 => picture.prop_map(|(of, packets, len, key, late)| Act::Picture(of, packets, len, key, late)),
        1 => (0..2_u8).prop_map(Act::Turn),
        1 => Just(Act::Stop),
        2 => prop_oneof![50_000..1_000_000_u64, MBIT..25 * MBIT].prop_map(Act::Estimate),
        3 => proptest::collection::vec(0..200_u16, 1..40).prop_map(Act::Nack),
        1 => Just(Act::Probe),
        2 => Just(Act::Sound),
        6 => (0..120_000_u32).prop_map(Act::Time),
    ]
}

/// Plays a run for a listener whose limit changes, and beside it for one who gets everything at once; this one is what
/// the other has to come to. `latecomers` begin with what there is.
fn play(acts: &[Act], rtx: bool, latecomers: bool) {
    let mut stage = Stage::new();
    stage.viewer(Some(MBIT), rtx);
    stage.viewer(None, rtx);
    let mut expected: Vec<(u8, u16)> = Vec::new();
    let (mut seen, mut source) = (0, None);
    // What waits for its frame has left by then.
    for act in acts.iter().chain(&[Act::Time(2000)]) {
        let had = first_times(left(&stage)).len();
        match act {
            Act::Picture(of, packets, len, key, late) => {
                let lens = vec![usize::from(*len); usize::from(*packets)];
                let mut packets = stage.picture(TrackId((*of).into()), &lens, *key);
                if *late && !latecomers {
                    packets.sort_by_key(|packet| packet.sequence % 3);
                }
                packets.into_iter().for_each(|packet| stage.bring(TrackId((*of).into()), packet));
                stage.pump();
            }
            Act::Turn(to) => {
                for viewer in [0, 1] {
                    let blank = stage.viewers.0[viewer].video.source().is_none();
                    stage.turn(viewer, TrackId((*to).into()));
                    if latecomers && blank {
                        stage.catch_up(viewer, TrackId((*to).into()));
                    }
                }
            }
            Act::Stop => {
                [0, 1].into_iter().for_each(|viewer| stage.stop(viewer));
                expected.truncate(had);
                source = None;
            }
            Act::Estimate(estimate) => {
                let least = if latecomers { MBIT } else { 0 };
                let now = stage.now;
                stage.viewers.0[0].path.limit_to((*estimate).max(least), now);
            }
            Act::Nack(back) => {
                let newest =
                    left(&stage).iter().filter(|left| left.ssrc == 1).map(|left| left.sequence).max();
                let missed = |back: &u16| newest.unwrap_or(1000).wrapping_add(20).wrapping_sub(*back);
                stage.nack(0, back.iter().map(missed).collect());
                let first = left(&stage).len();
                stage.pump();
                let got = first_times(&left(&stage)[..first]);
                // Without RTX repairs go under their own numbers. What a source left out of order when it was over
                // may come this way for the first time.
                let repairs = stage.viewers.0[0].left.split_off(first);
                let waits = |left: &Left| expected.contains(&left.from) && !got.contains(&left.from);
                assert!(!repairs.iter().any(waits), "what waits is not repaired");
            }
            Act::Probe => {
                let listener = Listener { session: 0, egress: VIDEO_EGRESS };
                let now = stage.now + Duration::from_secs(3600);
                stage.viewers.0[0].path.set_wanted(Some(25 * MBIT));
                let probe = stage.viewers.0[0].path.poll_probe(now);
                let now = stage.now;
                probe.into_iter().for_each(|probe| stage.fan_out.handle_probe(listener, probe, now));
                stage.pump();
            }
            Act::Sound => {
                stage.bring_sound();
                let last = stage.sends.iter().rev().take(2).map(|(at, ..)| *at);
                assert!(last.min() == Some(stage.elapsed()), "it never waits");
            }
            Act::Time(micros) => stage.run(Duration::from_micros(u64::from(*micros))),
        }
        let offered = first_times(&stage.viewers.0[1].left);
        let got = first_times(left(&stage));
        for (track, number) in &offered[seen..] {
            if source.is_some_and(|source| source != *track) {
                // What waited of the source before is dropped.
                let begins = got[had..].iter().position(|(other, _)| other == track);
                expected.truncate(begins.map_or(got.len(), |at| had + at));
            }
            source = Some(*track);
            expected.push((*track, *number));
        }
        seen = offered.len();
        assert!(expected.starts_with(&got), "in order, and nothing twice: {act:?}");
    }
    stage.run(if latecomers { Duration::from_secs(60) } else { LONGEST + RUN });
    let offered = first_times(&stage.viewers.0[1].left);
    expected.extend(&offered[seen..]);
    assert!(first_times(left(&stage)) == expected, "all of it");
    assert!(stage.fan_out.poll_timeout(&stage.tracks).is_none(), "nothing is left to wake up for");
}

/// Where packets came from that left for the first time, in order.
fn first_times(left: &[Left]) -> Vec<(u8, u16)> {
    let mut known = BTreeSet::new();
    let pictures = left.iter().filter(|left| left.ssrc == 1);
    pictures.filter(|left| known.insert(left.sequence)).map(|left| left.from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_paced_comes_to_what_leaves_at_once(
        acts in proptest::collection::vec(act(), 1..60),
        (rtx, latecomers) in any::<(bool, bool)>(),
    ) {
        play(&acts, rtx, latecomers);
    }

    #[test]
    fn nothing_waits_longer_than_a_quarter_of_a_second(
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let mut stage = Stage::new();
        stage.viewer(Some(MBIT), true);
        stage.viewer(None, true);
        for act in acts {
            match act {
                Act::Picture(_, packets, len, key, _) => {
                    stage.bring_picture(PICTURE, usize::from(packets) * usize::from(len), key);
                }
                Act::Estimate(estimate) => {
                    let now = stage.now;
                    stage.viewers.0[0].path.limit_to(estimate, now);
                }
                Act::Time(micros) => stage.run(Duration::from_micros(u64::from(micros))),
                _ => {}
            }
        }
        stage.run(LONGEST + RUN);
        let [paced, at_once] = [0, 1].map(|viewer| &stage.viewers.0[viewer].left);
        prop_assert_eq!(paced.len(), at_once.len());
        for (paced, at_once) in paced.iter().zip(at_once) {
            prop_assert_eq!(paced.from, at_once.from);
            prop_assert!(paced.at - at_once.at <= LONGEST + RUN, "{:?} {:?}", paced.at, at_once.at);
        }
    }
}

#[test]
fn a_layer_that_is_given_up_leaves_no_more_of_what_waits() {
    let mut stage = stage(Some(MBIT), true);
    for picture in 0..6_u8 {
        for mut packet in stage.picture(PICTURE, &[1200; 5], false) {
            packet.description.temporal = TemporalLayer(picture % 2);
            packet.description.picture_begins = packet.sequence % 5 == 1;
            stage.bring(PICTURE, packet);
        }
    }
    stage.pump();
    stage.viewers.0[0].video.set_layers(Extent { temporal: TemporalLayer(0), ..Extent::ALL });
    stage.run(ms(300));
    let numbers: Vec<u16> = left(&stage).iter().map(|left| left.from.1).collect();
    let lower: Vec<u16> = (1..=30).filter(|number| (number - 1) / 5 % 2 == 0).collect();
    assert_eq!(numbers, lower);
    let sequences = left(&stage).iter().map(|left| left.sequence);
    assert!(sequences.eq(1001..1016), "no hole");
}
