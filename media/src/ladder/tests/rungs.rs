//! What a rung packet is: number, time, rate, kind.

use opus::{Application, Channels};

use super::{super::RATES, Format, Ladder, MUSIC, decode, encode, lag, number, signal, start};
use crate::ladder::framing::Layout;

#[test]
fn a_rung_packet_has_all_of_the_packet_it_stands_for_but_the_payload() {
    let packets = number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 65_520, u32::MAX - 9600, 3, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    for out in &ladder.out {
        assert_eq!(out.len(), packets.len(), "one for each");
        for (one, rung) in packets.iter().zip(out) {
            assert_eq!((rung.sequence, rung.timestamp), (one.sequence, one.timestamp));
            assert_eq!((rung.marker, rung.audio_level), (one.marker, one.audio_level));
            assert_eq!((rung.epoch, rung.received, rung.codec), (one.epoch, one.received, one.codec));
            assert_ne!(rung.payload(), one.payload());
        }
    }
    assert!(ladder.dropped.is_empty());
    let next: Vec<_> = packets.iter().skip(1).map(|packet| packet.received).collect();
    assert_eq!(ladder.at[0][..next.len()], next, "each comes with the packet behind it");
}

/// Every length that a packet can have: single frames, and several of them.
#[test]
fn a_rung_holds_the_sound_of_its_timestamp_whatever_the_length() {
    let celt = [120, 240, 480, 960].map(|frame| (Application::LowDelay, frame));
    let long = [480, 960, 1920, 2880, 3840, 4800, 5760].map(|frame| (Application::Audio, frame));
    for (application, frame) in celt.into_iter().chain(long) {
        let sound = signal::noise(720, 0.3, 0.5);
        let format = Format { application, frame, ..MUSIC };
        let packets = number(&encode(&sound, format), 7, 7, 0, start());
        let mut ladder = Ladder::new([true, true]);
        ladder.feed(&packets);
        ladder.finish();
        let reference = decode(&packets);
        for (rung, out) in ladder.out.iter().enumerate() {
            assert_eq!(out.len(), packets.len());
            for packet in out {
                let layout = Layout::read(packet.payload()).unwrap();
                assert_eq!(
                    (layout.samples, layout.stereo),
                    (frame as u32, rung == 1),
                    "as long as its packet"
                );
            }
            let heard = decode(out);
            assert_eq!(heard.len(), reference.len());
            let (middle, rung_middle) = (super::middle(&reference), super::middle(&heard));
            assert_eq!(lag(&middle, &rung_middle), 0, "rung {rung}, {frame} samples");
        }
    }
}

#[test]
fn several_short_frames_in_a_packet_become_longer_ones() {
    let format = Format { application: Application::LowDelay, frame: 240, ..MUSIC };
    let payloads = encode(&signal::noise(720, 0.3, 0.5), format);
    // Six frames of 5 ms are 30 ms, which no frame has.
    let merge = |frames: &[Vec<u8>]| {
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        let mut merged = vec![0; 2000];
        let len = opus::Repacketizer::new().unwrap().combine(&frames, &mut merged).unwrap();
        merged[..len].to_vec()
    };
    let merged: Vec<_> = payloads.chunks_exact(6).map(merge).collect();
    let packets = number(&merged, 7, 7, 0, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    let reference = super::middle(&decode(&packets));
    for out in &ladder.out {
        let layouts = out.iter().filter_map(|packet| Layout::read(packet.payload()));
        assert!(layouts.into_iter().all(|layout| (layout.samples, layout.frames) == (1440, 3)));
        assert_eq!(lag(&reference, &super::middle(&decode(out))), 0);
    }
}

#[test]
fn a_packet_is_never_much_longer_than_its_rate() {
    for (sound, frame) in [(signal::noise(3000, 0.0, 0.9), 960), (signal::chords(2000), 480)] {
        let packets = number(&encode(&sound, Format { frame, ..MUSIC }), 0, 0, 0, start());
        let mut ladder = Ladder::new([true, true]);
        ladder.feed(&packets);
        for (out, rate) in ladder.out.iter().zip(RATES) {
            let octets = rate as usize * frame / 48_000 / 8;
            let longest = out.iter().map(|packet| packet.payload().len()).max().unwrap();
            let mean = out.iter().map(|packet| packet.payload().len()).sum::<usize>() / out.len();
            assert!(longest * 100 <= octets * 130, "{longest} octets, {octets} by the rate");
            assert!(mean * 100 <= octets * 105, "{mean} octets on average, {octets} by the rate");
        }
    }
}

#[test]
fn a_publisher_who_is_mono_for_a_second_gets_a_mono_rung_and_stereo_comes_back_at_once() {
    let mono = Format { channels: Channels::Mono, bitrate: 64_000, ..MUSIC };
    let mut payloads = encode(&signal::noise(1500, 1.0, 0.5), mono);
    payloads.extend(encode(&signal::noise(1000, 0.3, 0.5), MUSIC));
    let packets = number(&payloads, 0, 0, 0, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    let stereo: Vec<bool> =
        ladder.out[1].iter().map(|packet| Layout::read(packet.payload()).unwrap().stereo).collect();
    let expected: Vec<bool> = (0..125).map(|nth| !(49..75).contains(&nth)).collect();
    assert_eq!(stereo, expected);
    let (reference, heard) =
        (super::channel(&decode(&packets), 1), super::channel(&decode(&ladder.out[1]), 1));
    assert_eq!(lag(&reference, &heard), 0);
    assert_eq!(lag(&reference[72_000..], &heard[72_000..]), 0);
}

#[test]
fn a_stage_that_changes_its_frame_length_stays_aligned() {
    let sound = signal::noise(600, 0.3, 0.5);
    let mut payloads = Vec::new();
    for frame in [960, 2880, 480, 1920, 960] {
        payloads.extend(encode(&sound, Format { frame, ..MUSIC }));
    }
    let packets = number(&payloads, 0, 0, 0, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    let reference = super::middle(&decode(&packets));
    for out in &ladder.out {
        assert_eq!(out.len(), packets.len());
        let heard = super::middle(&decode(out));
        for part in 0..5 {
            let range = part * 28_800..(part + 1) * 28_800;
            assert_eq!(lag(&reference[range.clone()], &heard[range]), 0, "part {part}");
        }
    }
}

#[test]
fn nothing_is_made_that_nobody_wants_and_what_is_wanted_starts_with_the_next_packet() {
    let packets = number(&encode(&signal::noise(800, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let mut ladder = Ladder::new([false, false]);
    ladder.feed(&packets[..10]);
    assert_eq!(ladder.stage.poll_timeout(), None);
    ladder.stage.set_wanted([true, false]);
    ladder.feed(&packets[10..20]);
    ladder.stage.set_wanted([true, true]);
    ladder.feed(&packets[20..30]);
    ladder.stage.set_wanted([false, true]);
    ladder.feed(&packets[30..35]);
    ladder.stage.set_wanted([false, false]);
    ladder.feed(&packets[35..38]);
    ladder.stage.set_wanted([true, false]);
    ladder.feed(&packets[38..]);
    let numbers = |rung: usize| ladder.out[rung].iter().map(|packet| packet.sequence).collect::<Vec<_>>();
    assert_eq!(numbers(0), (10..29).chain(38..39).collect::<Vec<_>>());
    assert_eq!(numbers(1), (19..34).collect::<Vec<_>>(), "the one that waited, and those behind it");
    assert!(ladder.dropped.is_empty());
}

#[test]
fn a_rung_that_starts_late_is_warm() {
    let packets = number(&encode(&signal::chords(800), MUSIC), 0, 0, 0, start());
    let mut ladder = Ladder::new([false, false]);
    ladder.feed(&packets[..20]);
    ladder.stage.set_wanted([true, true]);
    ladder.feed(&packets[20..]);
    let reference = decode(&packets);
    // A listener who has heard the publisher's packets goes on with the rung.
    let switched = decode(packets[..20].iter().chain(&ladder.out[1]));
    let at = |frame: usize| frame * 1920..(frame + 1) * 1920;
    let error: Vec<f32> = reference.iter().zip(&switched).map(|(one, other)| one - other).collect();
    for frame in 20..39 {
        let noise = super::decibels(super::power(&error[at(frame)]) / super::power(&reference[at(frame)]));
        // Where it has settled it is 15.3 to 19 dB.
        assert!(noise < -12.5, "frame {frame}: {noise:.1} dB");
    }
}
