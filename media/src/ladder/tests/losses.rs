//! What the publisher loses, on the way to the relay.

use std::time::Duration;

use super::{Format, Ladder, MUSIC, channel, decibels, decode, encode, lag, number, power, signal, start};
use crate::{
    drop_reason::DropReason,
    rtp::{opus::Layout, packet::Packet},
};

const WAIT: Duration = Duration::from_millis(60);

fn without(packets: &[Packet], lost: &[usize]) -> Vec<Packet> {
    let kept = packets.iter().enumerate().filter(|(nth, _)| !lost.contains(nth));
    kept.map(|(_, packet)| packet.clone()).collect()
}

fn numbers(packets: &[Packet]) -> Vec<u16> {
    packets.iter().map(|packet| packet.sequence).collect()
}

#[test]
fn what_is_lost_is_concealed_once_and_its_rung_packet_exists() {
    let packets = number(&encode(&signal::noise(2000, 0.3, 0.5), MUSIC), 65_500, 1, 0, start());
    let lost = [10, 20, 21, 22, 40, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69];
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&without(&packets, &lost));
    ladder.finish();
    for (rung, out) in ladder.out.iter().enumerate() {
        assert_eq!(numbers(out), numbers(&packets), "no number is missing");
        let timestamps =
            |packets: &[Packet]| packets.iter().map(|packet| packet.timestamp).collect::<Vec<_>>();
        assert_eq!(timestamps(out), timestamps(&packets));
        let behind = packets[11].received;
        assert_eq!((out[10].received, ladder.at[rung][10]), (behind, behind + WAIT), "60 ms were waited");
        assert_eq!(out[10].audio_level, None);
        // What comes after the losses is where it was.
        let (whole, heard) = (super::middle(&decode(&packets)), super::middle(&decode(out)));
        assert_eq!(lag(&whole[72_000..], &heard[72_000..]), 0);
    }
    assert!(ladder.dropped.is_empty());
    let gone = packets[70].received + WAIT;
    assert_eq!(ladder.at[0][68], gone, "ten packets are 200 ms, which is made up");
}

#[test]
fn a_repair_in_time_is_as_if_nothing_was_lost() {
    let packets = number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let mut whole = Ladder::new([true, true]);
    whole.feed(&packets);
    let mut late: Vec<Packet> = packets.clone();
    late[10].received = packets[11].received + WAIT - Duration::from_millis(1);
    late[30].received = packets[31].received + Duration::from_millis(5);
    late.sort_by_key(|packet| packet.received);
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&late);
    for (out, expected) in ladder.out.iter().zip(&whole.out) {
        let payloads =
            |packets: &[Packet]| packets.iter().map(|packet| packet.payload().to_vec()).collect::<Vec<_>>();
        assert_eq!((numbers(out), payloads(out)), (numbers(expected), payloads(expected)));
    }
}

#[test]
fn what_comes_too_late_or_twice_is_dropped_and_counted() {
    let packets = number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let mut late: Vec<Packet> = packets.clone();
    late[10].received = packets[11].received + WAIT + Duration::from_millis(1);
    let twice = Packet { received: packets[21].received, ..packets[20].clone() };
    late.push(twice);
    late.sort_by_key(|packet| packet.received);
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&late);
    ladder.finish();
    assert_eq!(ladder.dropped, [DropReason::LadderLate; 2]);
    assert_eq!(numbers(&ladder.out[0]), numbers(&packets));
}

#[test]
fn more_than_a_fifth_of_a_second_is_not_made_up() {
    let packets = number(&encode(&signal::noise(2000, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    let lost: Vec<usize> = (30..41).collect();
    let kept = without(&packets, &lost);
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&kept);
    ladder.finish();
    for out in &ladder.out {
        assert_eq!(numbers(out), numbers(&kept), "the hole stays");
        // The first 5 ms behind it are faded in, so they are quieter than the sound is.
        let mut decoded = decode(&out[30..]);
        let begin = power(&decoded.drain(..240).collect::<Vec<_>>());
        let then = power(&decoded[4800..9600]);
        assert!(decibels(begin / then) < -4.0, "{begin} {then}");
        let reference = super::middle(&decode(&kept));
        let heard = super::middle(&decode(out));
        assert_eq!(lag(&reference[40_000..], &heard[40_000..]), 0);
    }
}

/// A second concealment would be heard as a hole.
#[test]
fn a_listener_of_a_rung_hears_what_the_decoder_concealed() {
    let packets = number(&encode(&signal::chords(1000), MUSIC), 0, 0, 0, start());
    let kept = without(&packets, &[30]);
    let mut ladder = Ladder::new([false, true]);
    ladder.feed(&kept);
    ladder.finish();
    let heard = decode(&ladder.out[1]);
    let frame = &heard[30 * 1920..31 * 1920];
    let before = &heard[28 * 1920..29 * 1920];
    assert!(decibels(power(frame) / power(before)).abs() < 3.0, "the chord goes on");
}

#[test]
fn speech_is_repaired_with_what_the_next_packet_says_of_it() {
    let format = Format { application: opus::Application::Voip, bitrate: 32_000, ..MUSIC };
    let mut encoder = opus::Encoder::new(48_000, format.channels, format.application).unwrap();
    encoder.set_bitrate(opus::Bitrate::Bits(format.bitrate)).unwrap();
    encoder.set_signal(opus::Signal::Voice).unwrap();
    encoder.set_inband_fec(true).unwrap();
    encoder.set_packet_loss_perc(20).unwrap();
    let payloads = super::encode_with(&mut encoder, &signal::voice(3000), format);
    assert!(
        payloads.iter().skip(5).all(|packet| Layout::read(packet).is_some_and(|layout| !layout.is_celt()))
    );
    let packets = number(&payloads, 0, 0, 0, start());
    let lost: Vec<usize> = (20..140).step_by(6).collect();
    let mut ladder = Ladder::new([false, true]);
    ladder.feed(&without(&packets, &lost));
    ladder.finish();
    let (whole, heard) = (channel(&decode(&packets), 0), channel(&decode(&ladder.out[1]), 0));
    let mut sums = [0.0; 2];
    for frame in lost {
        let range = frame * 960..(frame + 1) * 960;
        let error: Vec<f32> =
            whole[range.clone()].iter().zip(&heard[range.clone()]).map(|(one, other)| one - other).collect();
        sums = [sums[0] + power(&error), sums[1] + power(&whole[range])];
    }
    let noise = decibels(sums[0] / sums[1]);
    println!("lost frames of speech, error against the whole: {noise:.1} dB");
    assert!(noise < -5.0, "{noise:.1} dB: made up alone it is about 0");
}
