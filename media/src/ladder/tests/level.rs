//! How loud the rungs are.

use opus::{Channels, Decoder};

use super::{
    super::mono::{BLOCK, Mono},
    Ladder, MUSIC, decibels, decode, encode, lag, middle, number, power, signal, start,
};
use crate::rtp::packet::Packet;

/// How much louder a listener hears each rung than the publisher's packets, in decibels.
fn louder(sound: &[f32]) -> [f64; 2] {
    let packets = number(&encode(sound, MUSIC), 0, 0, 0, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    let settled = |samples: &[f32]| power(&samples[24_000..]);
    let reference = settled(&decode(&packets));
    ladder.out.map(|out| decibels(settled(&decode(&out)) / reference))
}

#[test]
fn a_rung_is_as_loud_as_its_stage() {
    for alike in [-0.4, 0.0, 0.5, 1.0] {
        let [mono, stereo] = louder(&signal::noise(3000, alike, 0.5));
        println!("alike {alike}: mono {mono:+.2} dB, stereo {stereo:+.2} dB");
        assert!(mono.abs() < 0.5 && stereo.abs() < 0.5, "{alike}: {mono:.2} {stereo:.2}");
    }
    let one_side: Vec<f32> =
        signal::noise(3000, 0.0, 0.5).chunks_exact(2).flat_map(|pair| [pair[0], 0.0]).collect();
    for [mono, stereo] in [louder(&signal::chords(3000)), louder(&one_side)] {
        assert!(mono.abs() < 0.5 && stereo.abs() < 0.5, "{mono:.2} {stereo:.2}");
    }
}

/// The mono of this sound, in one piece.
fn mixed(sound: &[f32]) -> Vec<f32> {
    let mut out = Vec::new();
    Mono::default().mix(sound, &mut out);
    out
}

#[test]
fn mono_is_the_same_in_one_piece_and_in_many() {
    let sound = signal::noise(500, 0.2, 0.9);
    let (mut mono, mut out) = (Mono::default(), Vec::new());
    mono.mix(&sound[..4 * BLOCK], &mut out);
    let first = mixed(&sound[..4 * BLOCK]);
    assert_eq!(out, first, "two blocks, of which one shows what comes");
    let mut whole = Mono::default();
    let mut pieces = Mono::default();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    // Both have heard the same at the start.
    whole.mix(&sound[..8 * BLOCK], &mut one);
    pieces.mix(&sound[..8 * BLOCK], &mut other);
    whole.mix(&sound[6 * BLOCK..], &mut one);
    for start in (6 * BLOCK..sound.len() - 2 * BLOCK).step_by(2 * BLOCK) {
        pieces.mix(&sound[start..(start + 4 * BLOCK).min(sound.len())], &mut other);
    }
    assert_eq!(one, other);
}

#[test]
fn mono_does_not_clip_and_its_gain_has_no_steps() {
    // Nothing in common: it would want 3 dB more than there is room for.
    let mut loud: Vec<f32> = signal::noise(2000, 0.0, 1.0);
    let peak = loud.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    loud.iter_mut().for_each(|sample| *sample /= peak);
    // A quiet start, and a blow.
    loud[..48_000].iter_mut().for_each(|sample| *sample *= 0.05);
    let mono = mixed(&loud);
    let highest = mono.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    assert!(highest <= 0.9995, "{highest}");
    let middle = super::middle(&loud);
    let gains: Vec<f32> = middle
        .iter()
        .zip(&mono)
        .filter(|(middle, _)| middle.abs() > 0.01)
        .map(|(middle, mono)| mono / middle)
        .collect();
    let steepest = gains.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
    assert!(gains.iter().all(|gain| (0.5..2.0).contains(gain)));
    assert!(steepest < 0.2, "{steepest} between two samples that are loud enough to tell");
}

#[test]
fn opposite_channels_and_silence_are_bounded() {
    let opposite: Vec<f32> =
        signal::noise(500, 0.0, 0.9).chunks_exact(2).flat_map(|pair| [pair[0], -0.9 * pair[0]]).collect();
    let mono = mixed(&opposite);
    let most = super::middle(&opposite).iter().map(|middle| 2.0 * middle.abs() + 1e-6).collect::<Vec<_>>();
    assert!(mono.iter().zip(most).all(|(mono, most)| mono.abs() <= most));
    assert!(mixed(&[0.0; 9600]).iter().all(|mono| *mono == 0.0));
}

/// How far the error lies below the sound, in decibels, where this is decoded in mono.
fn mono_error<'a>(packets: impl IntoIterator<Item = &'a Packet>, source: &[f32]) -> f64 {
    let mut decoder = Decoder::new(48_000, Channels::Mono).unwrap();
    let (mut heard, mut decoded) = (Vec::new(), [0.0; 5760]);
    for packet in packets {
        let samples = decoder.decode_float(packet.payload(), &mut decoded, false).unwrap();
        heard.extend_from_slice(&decoded[..samples]);
    }
    let behind = lag(source, &heard);
    let reference = &source[4800..40_000];
    let heard = &heard[(4800 + behind) as usize..][..reference.len()];
    // The lower rung is scaled: the power stays.
    let scale = (power(reference) / power(heard)).sqrt() as f32;
    let error: Vec<f32> = reference.iter().zip(heard).map(|(one, other)| one - other * scale).collect();
    decibels(power(reference) / power(&error))
}

#[test]
fn decoded_in_mono_no_rung_is_as_good_as_what_the_publisher_sends() {
    for (name, samples) in [("chords", signal::chords(1000)), ("noise", signal::noise(1000, 0.3, 0.5))] {
        let packets = number(&encode(&samples, MUSIC), 0, 0, 0, start());
        let mut ladder = Ladder::new([true, true]);
        ladder.feed(&packets);
        ladder.finish();
        let source = middle(&samples);
        let [whole, low, upper] =
            [&packets, &ladder.out[0], &ladder.out[1]].map(|packets| mono_error(packets, &source));
        println!(
            "{name}, error below the sound: publisher {whole:.1} dB, 64k {upper:.1} dB, 24k {low:.1} dB"
        );
        assert!(whole > upper + 3.0 && upper > low, "{name}: {whole} {upper} {low}");
    }
}
