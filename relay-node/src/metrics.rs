//! The Prometheus recorder: every metric of the relay is described here, with its unit and buckets.
//! Counting happens where things happen, with the macros of the `metrics` crate.

use std::fs;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds a packet stays in this relay.
const FORWARD_DELAY: [f64; 12] =
    [50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3];
/// Seconds from the offer to the first media.
const JOIN_DURATION: [f64; 11] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Bits per second of a listener; the first is no picture at all.
const LISTENER_RATE: [f64; 9] = media::stats::Bitrates::BOUNDS;

/// Makes the recorder that the macros write to: once in a process.
///
/// # Errors
///
/// When there is a recorder already, or a histogram has no buckets.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let delay = Matcher::Full("relay_forward_delay_seconds".to_owned());
    let join = Matcher::Full("relay_join_duration_seconds".to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(delay, &FORWARD_DELAY)?
        .set_buckets_for_metric(join, &JOIN_DURATION)?
        .set_buckets_for_metric(Matcher::Prefix("relay_listener_".to_owned()), &LISTENER_RATE)
}

fn describe() {
    describe_gauge!("relay_sessions", Unit::Count, "WebRTC sessions now, by kind (ingest, egress)");
    describe_gauge!(
        "relay_audio_listeners",
        Unit::Count,
        "listeners by what they get of the sound (low, mid, high)"
    );
    describe_gauge!(
        "relay_audio_mended_listeners",
        Unit::Count,
        "listeners of a sound by how what they lose is mended (none, answers, copies, repeats)"
    );
    for (name, unit, text) in COUNTERS {
        describe_counter!(name, unit, text);
    }
    // Present from the start: a rate needs a first value. The others get theirs with their labels.
    counter!("relay_reroute_total").increment(0);
    for kind in ["ingest", "egress"] {
        counter!("relay_unreached_total", "kind" => kind).increment(0);
    }
    describe_histogram!(
        "relay_forward_delay_seconds",
        Unit::Seconds,
        "from receiving a packet to sending it on"
    );
    describe_histogram!(
        "relay_join_duration_seconds",
        Unit::Seconds,
        "from a listener's offer to the end of its DTLS handshake"
    );
    describe_histogram!(
        "relay_listener_estimate_bits_per_second",
        Unit::Count,
        "what the paths of listeners are thought to carry, each once a second"
    );
    describe_histogram!(
        "relay_listener_allocated_bits_per_second",
        Unit::Count,
        "what the pictures of listeners take, each once a second; 0 is no picture"
    );
    describe_gauge!("relay_ladder_seconds", Unit::Seconds, "time that the ladder has spent; it only grows");
    describe_gauge!(
        "relay_ladder_stages",
        Unit::Count,
        "stages whose rungs are wanted, by state (open, closed: the machine is short of CPU)"
    );
    describe_gauge!("relay_bridge_up", Unit::Count, "links to other relays that are up, by their zone");
    describe_gauge!("relay_bridge_rtt_seconds", Unit::Seconds, "round trip to a neighbor, by its zone");
    describe_gauge!(
        "relay_token_seconds_left",
        Unit::Seconds,
        "until this relay's zone token ends, negative afterwards; absent without a token"
    );
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "resident memory");
    describe_gauge!("process_virtual_memory_bytes", Unit::Bytes, "virtual memory");
    describe_gauge!("process_open_fds", Unit::Count, "open file descriptors");
    describe_gauge!("process_max_fds", Unit::Count, "file descriptors that may be open");
    describe_gauge!("process_threads", Unit::Count, "threads");
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "start of the process since 1970");
}

const COUNTERS: [(&str, Unit, &str); 20] = [
    ("relay_rtp_packets_total", Unit::Count, "RTP packets, by kind and direction"),
    ("relay_rtp_bytes_total", Unit::Bytes, "bytes of RTP packets, by kind and direction"),
    (
        "relay_rtp_lost_total",
        Unit::Count,
        "packets missing when the next one came, by direction (in: from publishers, bridge: from neighbors)",
    ),
    ("relay_nack_total", Unit::Count, "packets asked for again, by direction"),
    ("relay_repair_total", Unit::Count, "packets sent to listeners once more because they asked"),
    ("relay_repeat_total", Unit::Count, "packets of sound sent once more before the listener asked"),
    ("relay_pli_total", Unit::Count, "keyframes asked for, by direction"),
    ("relay_probe_total", Unit::Count, "bursts that tried whether the path to a listener carries more"),
    ("relay_paced_packets_total", Unit::Count, "packets of pictures that waited for their run, by speed"),
    (
        "relay_video_switch_total",
        Unit::Count,
        "listeners that got another encoding of a picture, by direction (up, down) and reason",
    ),
    (
        "relay_video_pause_total",
        Unit::Count,
        "pictures that stopped, by reason: so that the sound goes on, or wished",
    ),
    (
        "relay_video_thinned_total",
        Unit::Count,
        "pictures that went on with fewer frames until a worse encoding began, and did not stop",
    ),
    (
        "relay_wish_total",
        Unit::Count,
        "wishes of listeners: auto, encoding, sound, sound_low, sound_mid, sound_high",
    ),
    ("relay_drop_total", Unit::Count, "what was dropped, by reason"),
    (
        "relay_fec_total",
        Unit::Count,
        "parity on bridges, by kind and outcome: sent, useless (parities), recovered, late (packets)",
    ),
    ("relay_fec_bytes_total", Unit::Bytes, "bytes of parity to neighbors, by kind"),
    ("relay_bridge_bytes_total", Unit::Bytes, "bytes over bridges, by direction"),
    (
        "relay_unreached_total",
        Unit::Count,
        "sessions that were answered and not connected 8 s later, by kind (ingest, egress): UDP does not get through",
    ),
    ("relay_reroute_total", Unit::Count, "tracks that moved to another parent"),
    ("relay_http_requests_total", Unit::Count, "HTTP requests, by route and class of status"),
];

/// The text of `GET /metrics`, with the process's own figures read now.
pub fn render(handle: &PrometheusHandle) -> String {
    measure_process();
    handle.run_upkeep();
    let text = handle.render();
    // Processor time has to be a counter with a fraction, and the recorder's counters are whole numbers.
    match cpu_seconds() {
        Some(seconds) => format!(
            "{text}# HELP process_cpu_seconds_total processor time, user and system\n\
             # TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds:.2}\n"
        ),
        None => text,
    }
}

/// Reads `/proc`; on a system without it these metrics are absent.
fn measure_process() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = |key| status_field(&status, key).map(|kib: f64| kib * 1024.0);
    let values = [
        ("process_resident_memory_bytes", kibibytes("VmRSS:")),
        ("process_virtual_memory_bytes", kibibytes("VmSize:")),
        ("process_threads", status_field(&status, "Threads:")),
        ("process_open_fds", fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64)),
        ("process_max_fds", max_fds()),
        ("process_start_time_seconds", start_time()),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            gauge!(name).set(value);
        }
    }
}

fn status_field(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

fn max_fds() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Linux counts in `/proc` in hundredths of a second, whatever the machine (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Field `index` of `/proc/self/stat` counted from the one after the name, which may contain spaces.
fn stat_field(index: usize) -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    Some((stat_field(11)? + stat_field(12)?) / TICKS_PER_SECOND)
}

fn start_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(19)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured_and_histograms_have_buckets() {
        let recorder = builder().expect("buckets").build_recorder();
        let handle = recorder.handle();
        let text = metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::histogram!("relay_forward_delay_seconds").record(0.000_25);
            render(&handle)
        });
        assert!(text.contains("relay_forward_delay_seconds_bucket{le=\"0.0003\"} 1"), "{text}");
        assert!(text.contains("# TYPE process_cpu_seconds_total counter"), "{text}");
        for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in {text}");
        }
    }
}
