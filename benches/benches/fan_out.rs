//! Packets forwarded per second and core, to listeners with real sessions on one port, beside the bare
//! limit of the machine: seal + `sendmmsg`, and seal + GSO. Round by round in turn, same socket, same
//! addresses, same sizes.
//!
//! `cargo bench -p benches --bench fan_out [-- LISTENERS…]`

use std::time::Duration;

use benches::{
    crowd::Crowd,
    limit::Limit,
    measure::{load_average, median, thread_cpu_ns},
    stage::Stage,
};
use protocol::Codec;
use relay_node::clock;

/// Size of an RTP packet before sealing, packets in a burst, and what they are: audio leaves packet by
/// packet, so a burst of small packets is one of video.
const ROWS: [(usize, usize, Codec); 6] = [
    (1200, 1, Codec::Vp8),
    (1200, 4, Codec::Vp8),
    (1200, 8, Codec::Vp8),
    (160, 1, Codec::Opus),
    (160, 4, Codec::Vp8),
    (160, 8, Codec::Vp8),
];
const ROUNDS: usize = 11;
/// Datagrams of one measurement: 50 to 150 ms.
const DATAGRAMS: usize = 48_000;
/// A listener of one audio stream: a packet each 20 ms.
const AUDIO_RATE: f64 = 50.0;

/// Nanoseconds for each datagram, round by round; `sending` is the part of the system calls.
#[derive(Default)]
struct Row {
    limit: Vec<f64>,
    limit_sending: Vec<f64>,
    ours: Vec<f64>,
    ours_sending: Vec<f64>,
}

fn main() {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let counts = if asked.is_empty() { vec![300, 1000] } else { asked };
    println!(
        "fan-out: thread-CPU time per datagram, medians of {ROUNDS} rounds, load average {}",
        load_average()
    );
    for count in counts {
        let (mut stage, mut crowd) = join(count, false);
        let mut limit = Limit::new(&crowd.addresses());
        println!(
            "\n{count:5} sessions     limit ns (range), send part   ours ns (range), send part   limit/ours  ours Mpkt/s"
        );
        for (len, burst, codec) in ROWS {
            let row = measure(&mut stage, &mut crowd, &mut limit, (len, burst, codec), count);
            print(len, burst, codec, &row);
        }
        println!(
            "      load average {}, sessions closed {}, datagrams refused by the kernel {}, drops {}",
            load_average(),
            stage.closed,
            stage.dropped,
            stage.drops()
        );
        print_merged(&mut stage, &mut crowd, count);
    }
}

/// What a listener of sound takes for each second of it, with each packet on its own and with merged ones, in turn.
fn print_merged(stage: &mut Stage, crowd: &mut Crowd, count: usize) {
    let (mut merged_stage, mut merged_crowd) = join(count, true);
    // So many packets of the publisher: a multiple of those that go as one.
    let packets = DATAGRAMS.div_ceil(count * 3) * 3;
    let seconds = packets as f64 / AUDIO_RATE;
    let mut costs = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (stage, crowd) in [(&mut *stage, &mut *crowd), (&mut merged_stage, &mut merged_crowd)] {
            crowd.keep_alive(clock::now());
            stage.turn();
        }
        for turn in [round % 2, (round + 1) % 2] {
            let (stage, one) = if turn == 0 { (&mut *stage, 1) } else { (&mut merged_stage, 3) };
            let sent = stage.sent();
            let begin = thread_cpu_ns();
            for _ in 0..packets {
                stage.forward(Codec::Opus, 160, 1);
            }
            let cost = (thread_cpu_ns() - begin) as f64 / (count as f64 * seconds);
            let expected = (packets / one * count) as u64;
            // A group may have waited from before, or wait now.
            assert!(
                (stage.sent() - sent).abs_diff(expected) <= 2 * count as u64,
                "everybody gets everything"
            );
            if round > 0 {
                costs[turn].push(cost / 1e3);
            }
        }
    }
    let ratios: Vec<f64> = costs[0].iter().zip(&costs[1]).map(|(single, merged)| merged / single).collect();
    let ([single, merged], ratio) = (costs.each_ref().map(|costs| median(costs)), median(&ratios));
    println!(
        "      a second of sound for a listener: {:.2} µs ({:.2} to {:.2}), merged {:.2} µs ({:.2} to {:.2}), \
         {:.2} of it ({:.2} to {:.2})",
        single.0, single.1, single.2, merged.0, merged.1, merged.2, ratio.0, ratio.1, ratio.2
    );
}

/// A stage and a crowd in which everybody has joined and has opened what came.
fn join(count: usize, merged: bool) -> (Stage, Crowd) {
    let begin = clock::now();
    let mut stage = Stage::new();
    let mut crowd = Crowd::new(stage.address(), count, false, begin);
    let fingerprint = crowd.fingerprint();
    (0..count).for_each(|number| stage.open(number, &fingerprint, false, merged));
    let mut joined = 0;
    while joined < count || stage.connected < count {
        joined = crowd.turn(joined, clock::now());
        stage.turn();
        assert!(begin.elapsed() < Duration::from_secs(120), "{joined} of {count} joined");
    }
    let joined = begin.elapsed();
    stage.forward(Codec::Vp8, 1200, 1);
    stage.forward(Codec::Opus, 160, 1);
    crowd.turn(count, clock::now());
    assert_eq!(crowd.heard(), count, "everybody opens a packet with the keys of the handshake");
    crowd.stop_reading();
    println!("{count} listeners joined in {:.2} s, both sides on one thread", joined.as_secs_f64());
    (stage, crowd)
}

fn measure(
    stage: &mut Stage,
    crowd: &mut Crowd,
    limit: &mut Limit,
    (len, burst, codec): (usize, usize, Codec),
    count: usize,
) -> Row {
    let bursts = DATAGRAMS.div_ceil(count * burst);
    let datagrams = (bursts * burst * count) as f64;
    let packet = vec![0x80; len];
    let mut row = Row::default();
    // The first round warms up caches and is not counted.
    for round in 0..=ROUNDS {
        crowd.keep_alive(clock::now());
        stage.turn();
        let (mut figures, mut sending) = ([0.0; 2], [0.0; 2]);
        for turn in [round % 2, (round + 1) % 2] {
            let sent = stage.sent();
            (limit.sending_ns, stage.sending_ns) = (0, 0);
            let begin = thread_cpu_ns();
            for _ in 0..bursts {
                match turn {
                    0 => limit.forward(stage.socket(), &packet, burst),
                    _ => stage.forward(codec, len, burst),
                }
            }
            figures[turn] = (thread_cpu_ns() - begin) as f64 / datagrams;
            sending[turn] = (limit.sending_ns + stage.sending_ns) as f64 / datagrams;
            let expected = if turn == 0 { 0 } else { datagrams as u64 };
            assert_eq!(stage.sent() - sent, expected, "everybody gets everything");
        }
        if round > 0 {
            row.limit.push(figures[0]);
            row.ours.push(figures[1]);
            row.limit_sending.push(sending[0]);
            row.ours_sending.push(sending[1]);
        }
    }
    row
}

fn print(len: usize, burst: usize, codec: Codec, row: &Row) {
    let ratios: Vec<f64> = row.limit.iter().zip(&row.ours).map(|(limit, ours)| limit / ours).collect();
    let (limit, ours, ratio) = (median(&row.limit), median(&row.ours), median(&ratios));
    println!(
        "{len:5} B, burst of {burst}   {:6.0} ({:4.0} to {:4.0}), {:4.0}      {:6.0} ({:4.0} to {:4.0}), {:4.0}       {:5.2}        {:5.3}",
        limit.0,
        limit.1,
        limit.2,
        median(&row.limit_sending).0,
        ours.0,
        ours.1,
        ours.2,
        median(&row.ours_sending).0,
        ratio.0,
        1e3 / ours.0
    );
    if codec == Codec::Opus {
        println!(
            "        = {:.4} % of a core for a listener of one audio stream ({AUDIO_RATE} packets/s)",
            ours.0 * AUDIO_RATE / 1e9 * 100.0
        );
    }
}
