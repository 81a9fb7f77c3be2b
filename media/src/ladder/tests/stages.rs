//! Many stages at once.

use std::time::{Duration, Instant};

use super::{
    super::{Event, Stages},
    MUSIC, encode, number, signal, start,
};
use crate::{
    rtp::packet::Packet,
    track::id::{StreamTracks, TrackId},
};

fn tracks(nth: u32) -> StreamTracks {
    StreamTracks::from_first(nth * StreamTracks::COUNT)
}

fn events(stages: &mut Stages) -> Vec<Event> {
    std::iter::from_fn(|| stages.poll_event()).collect()
}

/// Each packet at each of these stages, so much later than it came.
fn feed(stages: &mut Stages, many: u32, packets: &[Packet], late: Duration) -> Vec<TrackId> {
    let mut out = Vec::new();
    for packet in packets {
        let now = packet.received + late;
        run_until(stages, now, &mut out);
        for nth in 0..many {
            stages.handle_packet(tracks(nth).audio, packet, now);
        }
        out.extend(std::iter::from_fn(|| stages.poll_packet()).map(|(track, _)| track));
    }
    out
}

fn run_until(stages: &mut Stages, now: Instant, out: &mut Vec<TrackId>) {
    while let Some(at) = stages.poll_timeout().filter(|at| *at <= now) {
        stages.handle_timeout(at);
        out.extend(std::iter::from_fn(|| stages.poll_packet()).map(|(track, _)| track));
        assert_ne!(stages.poll_timeout(), Some(at), "a timer that does nothing");
    }
}

#[test]
fn rung_packets_are_of_the_rungs_tracks_and_what_nobody_wants_is_forgotten() {
    let packets = number(&encode(&signal::noise(400, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let mut stages = Stages::default();
    assert!(feed(&mut stages, 2, &packets[..10], Duration::ZERO).is_empty());
    stages.handle_wanted(tracks(1), [true, true], packets[10].received);
    let out = feed(&mut stages, 2, &packets[10..12], Duration::ZERO);
    assert_eq!(out, tracks(1).rungs);
    assert_eq!((stages.open(), stages.closed()), (1, 0));
    stages.handle_wanted(tracks(1), [false, false], packets[12].received);
    assert_eq!(stages.open(), 0);
    let mut out = Vec::new();
    run_until(&mut stages, packets[12].received + Duration::from_secs(11), &mut out);
    assert_eq!((stages.poll_timeout(), out.len()), (None, 0), "no stage is left");
    stages.handle_wanted(tracks(1), [false, false], packets[12].received);
    assert_eq!(stages.poll_timeout(), None, "nothing is wanted of what is not known");
}

#[test]
fn a_thread_that_is_behind_closes_the_highest_stages_until_it_keeps_up() {
    let packets = number(&encode(&signal::noise(1200, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let mut stages = Stages::default();
    (0..3).for_each(|nth| stages.handle_wanted(tracks(nth), [true, false], packets[0].received));
    feed(&mut stages, 3, &packets[..20], Duration::from_millis(39));
    assert!(events(&mut stages).is_empty());
    // 440 ms: two looks.
    feed(&mut stages, 3, &packets[20..42], Duration::from_millis(40));
    let closed = |nth: u32| Event::Closed { audio: tracks(nth).audio };
    assert_eq!(events(&mut stages), [closed(2), closed(1)]);
    let out = feed(&mut stages, 3, &packets[42..43], Duration::ZERO);
    // Those that are closed go on as their publishers sent them.
    let low = [0, 1, 2].map(|nth| tracks(nth).rungs[0]);
    assert_eq!((&out[..], stages.open(), stages.closed()), (&low[..], 1, 2));
    // A stage that goes is not opened; the next one is closed in its place.
    stages.handle_wanted(tracks(2), [false, false], packets[43].received);
    assert_eq!(events(&mut stages), [closed(0)]);
    let mut out = Vec::new();
    run_until(&mut stages, packets[43].received + Duration::from_secs(21), &mut out);
    let opened = |nth: u32| Event::Opened { audio: tracks(nth).audio };
    assert_eq!(events(&mut stages), [opened(0), opened(1)], "one by one, 10 s apart");
}

#[test]
fn rungs_that_close_go_on_with_the_publishers_packets_and_open_again_without_a_hole() {
    let payloads = encode(&signal::noise(400, 0.3, 0.5), MUSIC);
    let payloads: Vec<Vec<u8>> = payloads.iter().cycle().take(640).cloned().collect();
    let packets = number(&payloads, 65_500, 0, 0, start());
    let mut stages = Stages::default();
    (0..2).for_each(|nth| stages.handle_wanted(tracks(nth), [true, true], packets[0].received));
    let mut out: [Vec<Packet>; 2] = Default::default();
    let (mut happened, mut now) = (Vec::new(), start());
    for (nth, packet) in packets.iter().enumerate() {
        // Behind for two looks, and then not any more.
        let late = Duration::from_millis(if (40..64).contains(&nth) { 40 } else { 0 });
        now = now.max(packet.received + late);
        while let Some(at) = stages.poll_timeout().filter(|at| *at <= now) {
            stages.handle_timeout(at);
        }
        (0..2).for_each(|nth| stages.handle_packet(tracks(nth).audio, packet, now));
        while let Some((track, packet)) = stages.poll_packet() {
            let rung = tracks(0).rungs.iter().position(|rung| *rung == track);
            rung.into_iter().for_each(|rung| out[rung].push(packet.clone()));
        }
        happened.extend(events(&mut stages));
    }
    let [first, second] = [tracks(0), tracks(1)].map(|tracks| tracks.audio);
    let closed = [second, first].map(|audio| Event::Closed { audio });
    assert_eq!(happened, [closed[0], closed[1], Event::Opened { audio: first }]);
    for out in &out {
        let passed: Vec<bool> = out
            .iter()
            .map(|packet| {
                packets.iter().any(|own| own.sequence == packet.sequence && own.bytes == packet.bytes)
            })
            .collect();
        assert!(
            !passed[0] && passed[100] && !passed[out.len() - 1],
            "only while it is closed as it was sent"
        );
        assert!(out.len() > 630, "{}", out.len());
        for pair in out.windows(2) {
            let step = (
                pair[1].sequence.wrapping_sub(pair[0].sequence),
                pair[1].timestamp.wrapping_sub(pair[0].timestamp),
            );
            assert_eq!(step, (1, 960), "behind {}", pair[0].sequence);
        }
    }
}

#[test]
fn there_is_an_end_of_stages() {
    let mut stages = Stages::default();
    let now = start();
    (0..300).for_each(|nth| stages.handle_wanted(tracks(nth), [true, false], now));
    assert_eq!(
        (stages.open(), events(&mut stages).len()),
        (256, 44),
        "the others are told that they are closed"
    );
}
