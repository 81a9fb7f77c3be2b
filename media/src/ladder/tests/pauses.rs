//! Timestamps that jump, and packets without sound.

use std::time::Duration;

use opus::Application;

use super::{Format, Ladder, MUSIC, decode, encode, lag, number, packet, signal, start};
use crate::rtp::packet::Packet;

/// Two pieces of sound with a pause between them in timestamps, none in numbers.
fn with_pause(pause: Duration) -> Vec<Packet> {
    let payloads = encode(&signal::noise(1200, 0.3, 0.5), MUSIC);
    let mut packets = number(&payloads, 0, 0, 0, start());
    for packet in &mut packets[30..] {
        packet.timestamp += pause.as_millis() as u32 * 48;
        packet.received += pause;
    }
    packets
}

#[test]
fn in_a_pause_nothing_is_made_and_behind_it_the_sound_is_aligned() {
    for pause in [Duration::from_millis(20), Duration::from_millis(400), Duration::from_secs(100)] {
        let packets = with_pause(pause);
        let mut ladder = Ladder::new([true, true]);
        ladder.feed(&packets);
        ladder.finish();
        let reference = super::middle(&decode(&packets));
        for (rung, out) in ladder.out.iter().enumerate() {
            let stamps = |packets: &[Packet]| {
                packets.iter().map(|packet| (packet.sequence, packet.timestamp)).collect::<Vec<_>>()
            };
            assert_eq!(stamps(out), stamps(&packets), "one for each, and no more");
            let heard = super::middle(&decode(out));
            assert_eq!(lag(&reference[..28_800], &heard[..28_800]), 0);
            assert_eq!(lag(&reference[28_800..], &heard[28_800..]), 0);
            let waited = ladder.at[rung][29] - packets[29].received;
            assert!(
                waited <= Duration::from_millis(120),
                "the last one does not wait for the end of the pause"
            );
        }
        assert!(ladder.dropped.is_empty());
    }
}

/// The last frame before a pause and the first one behind it have their whole sound: no click, no hole.
#[test]
fn the_edges_of_a_pause_are_whole() {
    let packets = with_pause(Duration::from_secs(1));
    let mut ladder = Ladder::new([false, true]);
    ladder.feed(&packets);
    ladder.finish();
    let (reference, heard) = (decode(&packets), decode(&ladder.out[1]));
    let error: Vec<f32> = reference.iter().zip(&heard).map(|(one, other)| one - other).collect();
    let noise = |frame: usize| super::power(&error[frame * 1920..(frame + 1) * 1920]);
    let usual = (10..28).map(noise).sum::<f64>() / 18.0;
    for frame in [29, 30, 31] {
        let more = super::decibels(noise(frame) / usual);
        println!("frame {frame}: {more:+.1} dB of noise");
        assert!(more < 3.0, "frame {frame}: {more:.1} dB more noise than usual");
    }
}

#[test]
fn a_publisher_with_dtx_is_followed() {
    let format = Format { application: Application::Voip, bitrate: 32_000, ..MUSIC };
    let mut encoder = opus::Encoder::new(48_000, format.channels, format.application).unwrap();
    encoder.set_signal(opus::Signal::Voice).unwrap();
    encoder.set_dtx(true).unwrap();
    let sound = [signal::voice(600), vec![0.0; 96 * 1500], signal::voice(600)].concat();
    let payloads = super::encode_with(&mut encoder, &sound, format);
    let short = payloads.iter().filter(|payload| payload.len() <= 2).count();
    assert!(short > 30, "{short} packets of one or two octets");
    // A sender leaves them out, all but the first and each twentieth.
    let mut sequence = 0;
    let mut run = 0;
    let mut packets = Vec::new();
    for numbered in number(&payloads, 0, 0, 0, start()) {
        run = if numbered.payload().len() <= 2 { run + 1 } else { 0 };
        if run == 0 || run % 20 == 1 {
            packets.push(packet(sequence, numbered.timestamp, 0, numbered.payload(), numbered.received));
            sequence += 1;
        }
    }
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    for out in &ladder.out {
        assert_eq!(out.len(), packets.len());
        let (reference, heard) = (super::middle(&decode(&packets)), super::middle(&decode(out)));
        let end = reference.len() - 25_000;
        assert!(lag(&reference[end..], &heard[end..]).abs() <= 2);
    }
    assert!(ladder.dropped.is_empty());
}

#[test]
fn a_packet_without_sound_keeps_its_number() {
    let mut packets = number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    for later in &mut packets[20..] {
        later.sequence += 1;
    }
    let padding = packet(20, packets[19].timestamp, 0, &[], packets[19].received);
    packets.insert(20, padding);
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    for out in &ladder.out {
        let lens: Vec<(u16, bool)> =
            out.iter().map(|packet| (packet.sequence, packet.payload().is_empty())).collect();
        assert_eq!(lens, (0..51).map(|number| (number, number == 20)).collect::<Vec<_>>());
    }
}

#[test]
fn clocks_that_round_are_no_pauses() {
    let mut packets = number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 0, 0, 0, start());
    for (nth, packet) in packets.iter_mut().enumerate() {
        packet.timestamp += [0, 30, 100, 7, 60][nth % 5];
    }
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    let reference = super::middle(&decode(&packets));
    for out in &ladder.out {
        assert_eq!(lag(&reference, &super::middle(&decode(out))), 0);
    }
    // The same rung packets as with exact timestamps: no encoder began anew.
    let mut exact = Ladder::new([true, true]);
    exact.feed(&number(&encode(&signal::noise(1000, 0.3, 0.5), MUSIC), 0, 0, 0, start()));
    exact.finish();
    let payloads =
        |ladder: &Ladder| ladder.out[1].iter().map(|packet| packet.payload().to_vec()).collect::<Vec<_>>();
    assert_eq!(payloads(&ladder), payloads(&exact));
}
