//! Feed sources through a real relay: what GStreamer opens is heard by a listener, on the side and at the level where it
//! belongs. For a signaling-client with the feature `gstreamer`, which `script/test feeds` builds.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::f64::consts::TAU;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tests::{Child, Relay, Setup, program, until};

const SOON: Duration = Duration::from_secs(60);
const STREAM: &str = "main-stage";

/// A publisher of a feed source, and what its meter says.
fn publisher(relay: &Relay, what: &[&str]) -> Child {
    publisher_at(relay, what, &[])
}

fn publisher_at(relay: &Relay, what: &[&str], environment: &[(&str, &str)]) -> Child {
    let url = relay.api().url(&format!("/whip/{STREAM}"));
    let arguments = [&["publish", &url, "--json"], what].concat();
    Child::start("publisher", &program("signaling-client").unwrap(), arguments, environment).unwrap()
}

/// A listener until it is stopped.
fn listener(relay: &Relay) -> Child {
    let url = relay.api().url(&format!("/whep/{STREAM}"));
    let arguments = ["listen", &url, "--wait", "--audio-only", "--watch", "--json"];
    Child::start("listener", &program("signaling-client").unwrap(), arguments, &[]).unwrap()
}

/// The lines of JSON that a program has printed so far.
fn lines(child: &Child) -> Vec<Value> {
    child.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits until a line of so many or a later one is as wanted.
async fn line(child: &Child, from: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
    let found = until(what, SOON, || async {
        Ok(lines(child).iter().skip(from).position(&wanted).map(|at| at + from + 1))
    });
    found.await.unwrap_or_else(|error| panic!("{error}; it said {} {}", child.output(), child.log()))
}

/// Stops a listener and reads its report.
async fn report(mut listener: Child) -> Value {
    listener.terminate().unwrap();
    listener.wait(SOON).await.unwrap();
    lines(&listener).pop().unwrap()
}

/// Listens for three seconds of sound.
async fn hear(relay: &Relay) -> Value {
    let listener = listener(relay);
    line(&listener, 0, "three seconds are over", |line| line["second"] == 3).await;
    report(listener).await
}

fn assert_near(report: &Value, hertz: f64, levels: [f64; 2]) {
    let peak = report["peak_hz"].as_f64().unwrap_or_default();
    assert!((peak - hertz).abs() < 3.0, "{peak} Hz, not {hertz}: {report}");
    for (side, level) in levels.into_iter().enumerate() {
        let heard = report["levels_dbfs"][side].as_f64().unwrap();
        // What Opus leaks into a silent side is below -50; a machine that is busy leaves a frame out.
        let right = if level < -60.0 { heard < -45.0 } else { (heard - level).abs() < 1.5 };
        assert!(right, "{heard} dBFS on side {side}, not {level}: {report}");
    }
}

async fn relay() -> Relay {
    Setup::zone("stage").start().await.unwrap()
}

/// A WAV file of 16 bits with a tone of some hertz and amplitude on each channel.
fn wav(directory: &Path, seconds: u32, tones: &[(f64, f64)]) -> PathBuf {
    const RATE: u32 = 44_100;
    let channels = u16::try_from(tones.len()).unwrap();
    let mut samples = Vec::new();
    for n in 0..RATE * seconds {
        for (hertz, amplitude) in tones {
            let sample = amplitude * (TAU * hertz * f64::from(n) / f64::from(RATE)).sin();
            samples.extend_from_slice(&((sample * 32767.0) as i16).to_le_bytes());
        }
    }
    let mut file = b"RIFF".to_vec();
    let length = u32::try_from(samples.len()).unwrap();
    file.extend_from_slice(&(length + 36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0");
    file.extend_from_slice(&channels.to_le_bytes());
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2 * u32::from(channels)).to_le_bytes());
    file.extend_from_slice(&(2 * channels).to_le_bytes());
    file.extend_from_slice(b"\x10\0data");
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&samples);
    let path = directory.join("a tone.wav");
    std::fs::write(&path, file).unwrap();
    path
}

#[tokio::test]
async fn the_test_tones_are_heard_one_on_each_side() {
    let relay = relay().await;
    for (channels, hertz, levels) in [("1", 440.0, [-15.05; 2]), ("2", 660.0, [-15.05; 2])] {
        let mut publisher = publisher(&relay, &["--test", "--channels", channels]);
        assert_near(&hear(&relay).await, hertz, levels);
        publisher.terminate().unwrap();
        assert!(publisher.wait(SOON).await.unwrap().success());
    }
}

#[tokio::test]
async fn a_file_is_heard_with_left_on_the_left_and_the_channels_that_are_wanted() {
    let (relay, directory) = (relay().await, TempDir::new().unwrap());
    let stereo = wav(directory.path(), 2, &[(440.0, 0.5), (880.0, 0.1)]);
    let file = stereo.to_str().unwrap();
    let publisher = publisher(&relay, &["--file", file, "--loop"]);
    assert_near(&hear(&relay).await, 440.0, [-9.03, -23.0]);
    let said = lines(&publisher);
    assert!(said.iter().all(|line| line["faults"] == 0 && line["skipped_ms"] == 0), "{said:?}");
    drop(publisher);
    let four = wav(directory.path(), 2, &[(440.0, 0.5), (880.0, 0.5), (300.0, 0.0), (1500.0, 0.2)]);
    let _publisher = self::publisher(
        &relay,
        &["--file", four.to_str().unwrap(), "--loop", "--channels", "3,4", "--gain", "+6dB"],
    );
    assert_near(&hear(&relay).await, 1500.0, [-120.0, -10.99]);
}

#[tokio::test]
async fn a_file_ends_its_publication() {
    let (relay, directory) = (relay().await, TempDir::new().unwrap());
    let file = wav(directory.path(), 3, &[(440.0, 0.5), (440.0, 0.5)]);
    let mut publisher = publisher(&relay, &["--file", file.to_str().unwrap()]);
    assert!(publisher.wait(SOON).await.unwrap().success(), "{}", publisher.log());
    // Three seconds but for what resampling keeps: no beginning is cut off.
    let sent = publisher
        .log()
        .lines()
        .find_map(|line| line.split("sent ").nth(1)?.split(' ').next()?.parse::<u32>().ok());
    assert!(sent.is_some_and(|sent| sent >= 148), "{sent:?}: {}", publisher.log());
    until("nobody publishes", SOON, || async {
        Ok(relay.api().stream(STREAM).await?.is_none().then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_pipeline_of_ones_own_is_heard_by_its_end_or_by_name() {
    let relay = relay().await;
    for text in [
        "audiotestsrc is-live=true freq=1000 volume=0.5",
        "audiotestsrc is-live=true freq=1000 volume=0.5 ! tee name=audio audio. ! queue ! fakesink",
    ] {
        let _publisher = publisher(&relay, &["--pipeline", text]);
        assert_near(&hear(&relay).await, 1000.0, [-9.03; 2]);
    }
}

#[tokio::test]
async fn a_device_of_a_sound_server_is_heard() {
    if Command::new("pulseaudio").arg("--version").output().is_err() {
        println!("skipped: pulseaudio is not there (script/setup browser)");
        return;
    }
    let (relay, directory) = (relay().await, TempDir::new().unwrap());
    let socket = directory.path().join("native");
    let home = directory.path().to_str().unwrap();
    let protocol = format!("module-native-protocol-unix socket={} auth-anonymous=1", socket.display());
    let sine = "module-sine-source source_name=desk frequency=440 rate=48000";
    let arguments =
        ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-L", &protocol, "-L", sine];
    let _server = Child::start(
        "pulseaudio",
        Path::new("pulseaudio"),
        arguments,
        &[("HOME", home), ("XDG_RUNTIME_DIR", home)],
    )
    .unwrap();
    until("the sound server is there", SOON, || async { Ok(socket.exists().then_some(())) }).await.unwrap();
    let server = format!("unix:{}", socket.display());
    let environment = [("PULSE_SERVER", &*server), ("HOME", home)];
    let list = ["publish", "--list-devices"];
    let mut devices =
        Child::start("list", &program("signaling-client").unwrap(), list, &environment).unwrap();
    assert!(devices.wait(SOON).await.unwrap().success(), "{}", devices.log());
    assert!(devices.output().contains("--device pulse:desk\t"), "{}", devices.output());
    let _publisher = publisher_at(&relay, &["--device", "pulse:desk"], &environment);
    let report = hear(&relay).await;
    let peak = report["peak_hz"].as_f64().unwrap();
    assert!((peak - 440.0).abs() < 3.0, "{report}");
}

/// An encoder that waits to be called, with a tone.
fn encoder(port: u16, hertz: u32, volume: f64) -> Child {
    let text = format!(
        "audiotestsrc is-live=true freq={hertz} volume={volume} ! audioconvert ! audioresample \
         ! audio/x-raw,rate=48000,channels=2 ! opusenc ! mpegtsmux ! srtsink uri=srt://127.0.0.1:{port}?mode=listener"
    );
    let arguments: Vec<&str> = std::iter::once("-q").chain(text.split_whitespace()).collect();
    Child::start("encoder", Path::new("gst-launch-1.0"), arguments, &[]).unwrap()
}

#[tokio::test]
async fn an_encoder_that_is_killed_and_comes_back_is_heard_in_the_same_sessions() {
    let there = Command::new("gst-inspect-1.0").args(["--exists", "srtsink"]).status();
    if !there.is_ok_and(|status| status.success()) {
        println!("skipped: GStreamer has no srtsink here");
        return;
    }
    let relay = relay().await;
    // A port that was free a moment ago; SRT is over UDP, so that nothing else of this test takes it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut first = encoder(port, 700, 0.05);
    let publisher = publisher(&relay, &["--srt", &format!("srt://127.0.0.1:{port}"), "--reconnect"]);
    let listener = listener(&relay);
    let sounds = |line: &Value| line["sounds"] == true && line["rms_dbfs"][0].as_f64() > Some(-40.0);
    let said = line(&publisher, 0, "the encoder is heard", sounds).await;
    let heard = line(&listener, 0, "the listener is there", |line| line["second"] == 2).await;
    first.kill().unwrap();
    let silent = |line: &Value| line["sounds"] == false && line["rms_dbfs"][0].as_f64() < Some(-60.0);
    let said = line(&publisher, said, "the encoder is missed", silent).await;
    let _second = encoder(port, 1900, 0.5);
    let said = line(&publisher, said, "the encoder is heard again", sounds).await;
    line(&publisher, said + 2, "for some seconds", sounds).await;
    line(&listener, heard + 3, "and listened to", |line| line["second"].is_number()).await;
    let report = report(listener).await;
    let peak = report["peak_hz"].as_f64().unwrap();
    assert!((peak - 1900.0).abs() < 3.0, "{report}");
    assert_eq!((&report["ended"], &report["duplicates"]), (&"stopped".into(), &0.into()), "{report}");
    assert_eq!(publisher.log().matches("publishing at").count(), 1, "{}", publisher.log());
    assert!(lines(&publisher).last().unwrap()["faults"].as_u64() > Some(0));
}

#[tokio::test]
async fn what_is_wrong_is_one_line_and_an_exit_code() {
    let directory = TempDir::new().unwrap();
    let stereo = wav(directory.path(), 1, &[(440.0, 0.5), (880.0, 0.5)]);
    let text = directory.path().join("text.wav");
    std::fs::write(&text, "no sound").unwrap();
    let (stereo, text) = (stereo.to_str().unwrap(), text.to_str().unwrap());
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--file", stereo, "--channels", "9"], 64, "2 channels"),
        (&["--file", text], 64, "text.wav"),
        (&["--device", "alsa:nothere"], 64, "--list-devices"),
        (&["--pipeline", "audiotestsrc ! nonsense"], 64, "no element"),
        (&["--pipeline", "fakesink"], 64, "does not understand"),
        (&["--rtmp", "rtmp://127.0.0.1:9/x"], 64, "not an address"),
        (&["--rtmp", "rtmp://127.0.0.1:9/live/x"], 69, "cannot reach"),
        (&["--rtsp", "rtsp://user:secret@127.0.0.1:9/x"], 69, "cannot reach rtsp://127.0.0.1:9/x"),
    ];
    for (what, code, words) in cases {
        let arguments = [&["publish", "http://127.0.0.1:9/whip/x"], what].concat();
        let mut child =
            Child::start("publisher", &program("signaling-client").unwrap(), arguments, &[]).unwrap();
        let status = child.wait(SOON).await.unwrap();
        let log = child.log();
        assert_eq!(status.code(), Some(code), "{what:?}: {log}");
        assert!(
            log.lines().count() == 1 && log.contains(words) && !log.contains("secret"),
            "{what:?}: {log}"
        );
    }
}
