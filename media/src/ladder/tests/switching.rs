//! A listener who is switched among the rungs and the publisher's packets.

use super::{Format, Ladder, MUSIC, channel, decibels, decode, encode, number, power, signal, start};
use crate::rtp::packet::Packet;

/// What is above 8 kHz, by a filter of 255 taps (a windowed sinc).
fn high(samples: &[f32]) -> Vec<f32> {
    let cut = 8000.0 / 48_000.0;
    let tap = |nth: i32| {
        let x = f64::from(nth);
        let sinc = if nth == 0 {
            1.0 - 2.0 * cut
        } else {
            -(std::f64::consts::TAU * cut * x).sin() / (std::f64::consts::PI * x)
        };
        let turn = std::f64::consts::TAU * (x + 127.0) / 254.0;
        (sinc * (0.42 - 0.5 * turn.cos() + 0.08 * (2.0 * turn).cos())) as f32
    };
    let taps: Vec<f32> = (-127..=127).map(tap).collect();
    let padded = [vec![0.0; 127], samples.to_vec(), vec![0.0; 127]].concat();
    padded.windows(255).map(|window| window.iter().zip(&taps).map(|(one, other)| one * other).sum()).collect()
}

/// The three that a listener can get: both rungs, and the publisher's packets.
fn sources(sound: &[f32], format: Format) -> [Vec<Packet>; 3] {
    let packets = number(&encode(sound, format), 0, 0, 0, start());
    let mut ladder = Ladder::new([true, true]);
    ladder.feed(&packets);
    ladder.finish();
    let [mono, stereo] = ladder.out;
    assert_eq!((mono.len(), stereo.len()), (packets.len(), packets.len()));
    [mono, stereo, packets]
}

/// Decibels of each 2.5 ms of what is above 8 kHz on the left.
fn high_blocks(packets: &[&Packet]) -> Vec<f64> {
    let blocks = high(&channel(&decode(packets.iter().copied()), 0));
    blocks.chunks_exact(120).map(|block| decibels(power(block))).collect()
}

/// How much louder a listener hears what is above 8 kHz in the 25 ms around each of 200 switches than the louder of all
/// sources is there, sorted. A click is wide, so it would show.
fn clicks(sound: &[f32]) -> Vec<f64> {
    let sources = sources(sound, MUSIC);
    let floors = sources.each_ref().map(|source| high_blocks(&source.iter().collect::<Vec<_>>()));
    let mut noise = signal::Noise(4711);
    let mut chosen: Vec<&Packet> = sources[0][..30].iter().collect();
    let (mut source, mut switches) = (0, Vec::new());
    while switches.len() < 200 {
        source = (source + if noise.sample() < 0.0 { 1 } else { 2 }) % 3;
        switches.push(chosen.len());
        let stays = 2 + (noise.sample().abs() * 3.0) as usize;
        let from = chosen.len();
        chosen.extend(&sources[source][from..from + stays]);
    }
    chosen.extend(&sources[source][chosen.len()..chosen.len() + 4]);
    let heard = high_blocks(&chosen);
    let loudest = |blocks: &[f64], frame: usize| {
        blocks[frame * 8 - 2..frame * 8 + 8].iter().copied().fold(f64::MIN, f64::max)
    };
    let floor = |frame| floors.iter().map(|floor| loudest(floor, frame)).fold(f64::MIN, f64::max);
    let mut clicks: Vec<f64> = switches.iter().map(|frame| loudest(&heard, *frame) - floor(*frame)).collect();
    clicks.sort_by(f64::total_cmp);
    clicks
}

#[test]
fn two_hundred_switches_do_not_click() {
    let chords = clicks(&signal::chords(17_000));
    println!("chords: median {:.2} dB, most {:.2} dB", chords[100], chords[199]);
    assert!(chords[199] < 1.0, "above the floor of -128 dB there is nothing");
    let noise = clicks(&signal::noise(17_000, 0.5, 0.5));
    println!("noise: median {:.2} dB, 95 of 100 {:.2} dB, most {:.2} dB", noise[100], noise[190], noise[199]);
    assert!(noise[190] < 1.0 && noise[199] < 2.0, "noise differs by chance from block to block");
}

/// How far the tones of the other side are below those of this one, on the left, in decibels.
fn separation(interleaved: &[f32]) -> f64 {
    let left = channel(interleaved, 0);
    let tone = |hertz: f64| {
        let mut sums = [0.0; 2];
        for (at, sample) in left.iter().enumerate() {
            let turn = std::f64::consts::TAU * (at as f64 / left.len() as f64);
            let (sin, cos) = (std::f64::consts::TAU * hertz * at as f64 / 48_000.0).sin_cos();
            let window = (0.5 - 0.5 * turn.cos()) * f64::from(*sample);
            sums = [sums[0] + sin * window, sums[1] + cos * window];
        }
        sums[0] * sums[0] + sums[1] * sums[1]
    };
    let sum = |tones: &[f64]| tones.iter().map(|hertz| tone(*hertz)).sum::<f64>();
    decibels(sum(&signal::LEFT) / sum(&signal::RIGHT))
}

#[test]
fn stereo_is_back_within_a_fifth_of_a_second() {
    let sources = sources(&signal::chords(3000), MUSIC);
    for stereo in [1, 2] {
        let heard = decode(sources[0][..60].iter().chain(&sources[stereo][60..]));
        let at = |frame: usize| separation(&heard[frame * 1920..(frame + 5) * 1920]);
        println!("0 to {stereo}: {:.1} dB before, {:.1} dB after 200 ms", at(50), at(70));
        assert!(at(50) < 3.0, "mono");
        assert!(at(70) > 30.0, "after 200 ms");
    }
}

#[test]
fn a_switch_is_the_target_again_within_a_few_packets() {
    let sources = sources(&signal::noise(3000, 0.5, 0.5), MUSIC);
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let alone = decode(&sources[to]);
        let heard = decode(sources[from][..60].iter().chain(&sources[to][60..]));
        let error = |frame: usize| {
            let range = frame * 1920..(frame + 1) * 1920;
            let error: Vec<f32> = heard[range.clone()]
                .iter()
                .zip(&alone[range.clone()])
                .map(|(one, other)| one - other)
                .collect();
            decibels(power(&error) / power(&alone[range]))
        };
        assert!(
            error(60) < -6.0 && error(62) < -25.0,
            "{from} to {to}: {:.1} {:.1} dB",
            error(60),
            error(62)
        );
    }
}
