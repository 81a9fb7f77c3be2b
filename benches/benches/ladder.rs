//! What the ladder of a stage costs: its sound decoded once, and encoded again as one rung and as both.
//!
//! Figures are CPU time of this thread, as parts of the time that the sound plays.

use std::time::{Duration, Instant};

use benches::measure::{load_average, median, thread_cpu_ns};
use bytes::BytesMut;
use media::{
    Packet,
    ladder::{RUNGS, Stage},
    packet::Canonical,
};
use opus::{Application, Bitrate, Channels, Encoder};
use protocol::Codec;

const SECONDS: usize = 20;
const RUNS: usize = 5;

/// Chords, noise that is coloured, and a beat: an encoder has work with it.
fn sound() -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut low = [0.0f32; 2];
    let mut samples = Vec::with_capacity(SECONDS * 96_000);
    for at in 0..SECONDS * 48_000 {
        let seconds = at as f32 / 48_000.0;
        let beat = (-(seconds * 2.0).fract() * 20.0).exp();
        for (side, low) in low.iter_mut().enumerate() {
            *low += 0.1 * (noise() - *low);
            let chord: f32 = [[220.0, 277.0, 330.0], [233.0, 440.0, 659.0]][side]
                .iter()
                .map(|hertz| (std::f32::consts::TAU * hertz * seconds).sin())
                .sum();
            samples.push(0.12 * chord + 0.5 * *low + 0.3 * beat * noise());
        }
    }
    samples
}

#[expect(clippy::disallowed_methods, reason = "an instant to count virtual time from")]
fn packets(sound: &[f32], frame: usize) -> Vec<Packet> {
    let start = Instant::now();
    let mut encoder = Encoder::new(48_000, Channels::Stereo, Application::Audio).expect("libopus");
    encoder.set_bitrate(Bitrate::Bits(128_000)).expect("a bit rate");
    let payloads = sound.chunks_exact(frame * 2).map(|samples| encoder.encode_vec_float(samples, 1500));
    let packet = |(nth, payload): (usize, Result<Vec<u8>, opus::Error>)| {
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: false,
            sequence: nth as u16,
            timestamp: (nth * frame) as u32,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        buffer.extend_from_slice(&payload.expect("it is encoded"));
        let received = start + Duration::from_micros((nth * frame * 1000 / 48) as u64);
        Packet::from_parts(canonical, buffer, 0, received)
    };
    payloads.enumerate().map(packet).collect()
}

/// Nanoseconds of CPU for all packets, and kbit/s of each rung.
fn run(packets: &[Packet], wanted: [bool; RUNGS]) -> (u64, [f64; RUNGS]) {
    let mut stage = Stage::new();
    stage.set_wanted(wanted);
    let mut octets = [0; RUNGS];
    let began = thread_cpu_ns();
    for packet in packets {
        stage.handle_packet(packet, packet.received);
        while let Some((rung, packet)) = stage.poll_packet() {
            octets[rung] += packet.payload().len();
        }
    }
    (thread_cpu_ns() - began, octets.map(|octets| octets as f64 * 8.0 / SECONDS as f64 / 1000.0))
}

fn main() {
    println!("{}, load of the machine {}", opus::version(), load_average());
    println!("\n| packets | rungs | of a core per stage | per packet | lowest to highest | kbit/s |");
    println!("|---|---|---|---|---|---|");
    let sound = sound();
    for frame in [480, 960, 2880] {
        let packets = packets(&sound, frame);
        let cases = [
            ("none", [false; RUNGS]),
            ("24k", [true, false]),
            ("64k", [false, true]),
            ("both", [true; RUNGS]),
        ];
        for (name, wanted) in cases {
            let runs: Vec<_> = (0..RUNS).map(|_| run(&packets, wanted)).collect();
            let percent = |ns: u64| ns as f64 / 1e9 / SECONDS as f64 * 100.0;
            let (middle, lowest, highest) =
                median(&runs.iter().map(|(ns, _)| percent(*ns)).collect::<Vec<_>>());
            let each = middle / 100.0 * SECONDS as f64 * 1e6 / packets.len() as f64;
            let [low, high] = runs[0].1;
            println!(
                "| {} ms | {name} | {middle:.2} % | {each:.0} µs | {lowest:.2} to {highest:.2} % | {low:.1}, {high:.1} |",
                frame / 48
            );
        }
    }
}
