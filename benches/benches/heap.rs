//! Heap of a relay's media worker per connected listener, with and without a data channel. The listeners
//! run in a process of their own, so that what this process holds is the relay's.
//!
//! `cargo bench -p benches --bench heap [-- LISTENERS]`

use std::{
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use benches::{crowd::Crowd, measure::heap_in_use, stage::Stage};
use media::transport::Fingerprint;
use protocol::Codec;
use relay_node::clock;

const LISTENERS: usize = 1000;
const CROWD: &str = "--crowd";
/// After the last handshake: retransmissions are over, the crowd has opened its channels.
const SETTLE: Duration = Duration::from_secs(3);
/// The last flight of a handshake is kept this long for a peer that asks again, and a little more.
const LAST_FLIGHT: Duration = Duration::from_secs(32);

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CROWD) {
        return be_the_crowd(&arguments[at + 1..]);
    }
    let count = arguments.iter().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(LISTENERS);
    println!("heap of {count} connected listeners, each with one audio and one video track (KiB each):");
    println!("                              just joined   after 32 s");
    for data_channels in [false, true] {
        let what = if data_channels { "with an open data channel" } else { "without data channels" };
        let [joined, later] = measure(count, data_channels);
        println!("  {what:<26} {joined:11.1} {later:12.1}");
    }
}

/// KiB for each listener: when all have joined, and when handshakes are forgotten.
fn measure(count: usize, data_channels: bool) -> [f64; 2] {
    let mut stage = Stage::new();
    // What the stream itself needs is there before the first listener comes.
    stage.forward(Codec::Opus, 160, 1);
    stage.forward(Codec::Vp8, 1200, 1);
    let (mut crowd, fingerprint) = start_crowd(&stage, count, data_channels);
    let before = heap_in_use();
    (0..count).for_each(|number| stage.open(number, &fingerprint, data_channels, false));
    let begin = clock::now();
    while stage.connected < count {
        stage.turn();
        assert!(begin.elapsed() < Duration::from_secs(120), "{} of {count} joined", stage.connected);
    }
    run(&mut stage, SETTLE);
    assert_eq!(stage.closed, 0, "all are still there");
    let each = || heap_in_use().saturating_sub(before) as f64 / count as f64 / 1024.0;
    let joined = each();
    run(&mut stage, LAST_FLIGHT);
    assert_eq!(stage.closed, 0, "all are still there");
    let later = each();
    let joined_all = crowd.stdout.take().map(|mut out| {
        let mut said = [0; 2];
        out.read_exact(&mut said).map(|()| said)
    });
    assert!(matches!(joined_all, Some(Ok([b'o', b'k']))), "the crowd has joined, channels included");
    // It has nothing left to do; an error would only say that it is gone.
    let _ = crowd.kill();
    let _ = crowd.wait();
    [joined, later]
}

/// A second as a listener of the stream would see it: the worker has time, and media flows.
fn run(stage: &mut Stage, time: Duration) {
    let begin = clock::now();
    while begin.elapsed() < time {
        stage.turn();
        stage.forward(Codec::Opus, 160, 1);
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a packet each 20 ms, without spinning")]
fn pause() {
    thread::sleep(Duration::from_millis(20));
}

fn start_crowd(stage: &Stage, count: usize, data_channels: bool) -> (Child, Fingerprint) {
    let mut crowd = Command::new(env::current_exe().expect("it runs"))
        .args([CROWD, &stage.address().to_string(), &count.to_string(), &data_channels.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can run twice");
    let mut line = String::new();
    // One octet at a time, so that nothing behind the line is swallowed.
    let out = crowd.stdout.as_mut().expect("it is piped");
    BufReader::with_capacity(1, out).read_line(&mut line).expect("the crowd says its fingerprint");
    (crowd, line.trim().parse().expect("a fingerprint"))
}

fn be_the_crowd(arguments: &[String]) {
    let [relay, count, data_channels] = arguments else { panic!("address, count, data channels") };
    let count = count.parse().expect("a number");
    let relay = relay.parse().expect("an address");
    let data_channels = data_channels == "true";
    let mut crowd = Crowd::new(relay, count, data_channels, clock::now());
    println!("{}", crowd.fingerprint());
    let (mut joined, mut said) = (0, false);
    loop {
        joined = crowd.turn(joined, clock::now());
        if joined == count && !said {
            println!("ok");
            said = true;
        }
        if joined == count {
            pause();
        }
    }
}
