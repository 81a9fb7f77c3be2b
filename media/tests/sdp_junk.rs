//! Junk in place of SDP: every parser returns, quickly, and what it accepts can be answered.

use std::time::{Duration, Instant};

use media::sdp::{EgressPolicy, Fragment, IngestPolicy, Local, Offer, answer_egress, answer_ingest};
use proptest::prelude::*;

const OFFERS: [&str; 5] = [
    include_str!("offers/chromium_publish_simulcast.sdp"),
    include_str!("offers/firefox_recvonly.sdp"),
    include_str!("offers/gstreamer_whipclientsink.sdp"),
    include_str!("offers/ffmpeg_passive.sdp"),
    include_str!("offers/aiortc_recvonly.sdp"),
];

const LOCAL: Local<'static> = Local {
    ufrag: "relayufrag",
    pwd: "relaypasswordrelaypassword",
    fingerprint: "sha-256 00",
    candidates: &[],
    session_id: 1,
};

fn serve(text: &str) {
    if let Ok(offer) = Offer::parse(text) {
        let answers = [
            answer_ingest(&offer, &LOCAL, &IngestPolicy::default()).map(|(text, _)| text),
            answer_egress(&offer, &LOCAL, &EgressPolicy::new("main-stage", &[], u32::MAX))
                .map(|(text, _)| text),
        ];
        for answer in answers {
            match answer {
                Ok(answer) => assert!(answer.starts_with("v=0\r\n")),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
    if let Err(error) = Fragment::parse(text) {
        assert!(error.to_string().len() < 400);
    }
}

/// A real offer with a few of its lines cut, doubled, swapped or overwritten.
fn broken_offer() -> impl Strategy<Value = String> {
    let damage = (0u8..5, any::<prop::sample::Index>(), any::<prop::sample::Index>(), "[ -~\\t\\r]{0,40}");
    (prop::sample::select(&OFFERS[..]), prop::collection::vec(damage, 1..6)).prop_map(|(offer, damages)| {
        let mut lines: Vec<String> = offer.lines().map(str::to_owned).collect();
        for (kind, first, second, junk) in damages {
            let (a, b) = (first.index(lines.len()), second.index(lines.len()));
            match kind {
                0 if lines.len() > 1 => drop(lines.remove(a)),
                1 => lines.insert(b, lines[a].clone()),
                2 => lines.swap(a, b),
                3 => lines[a] = format!("{}{junk}", lines[a].split(' ').next().unwrap_or_default()),
                _ => {
                    lines[a] =
                        lines[a].split_once(':').map_or(junk.clone(), |(key, _)| format!("{key}:{junk}"))
                }
            }
        }
        lines.join("\r\n") + "\r\n"
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,400}") {
        serve(&text);
    }

    #[test]
    fn any_lines_are_survived(
        lines in prop::collection::vec("[voscbtamuriezkp]=[a-z:/=]{0,12}[ -~]{0,30}", 0..40),
    ) {
        serve(&format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{}", lines.join("\r\n")));
        serve(&lines.join("\n"));
    }

    #[test]
    fn any_broken_offer_is_survived(text in broken_offer()) {
        serve(&text);
    }
}

/// Prints the time of the worst texts we know, each of 64 KiB; a wall clock is not asserted on.
#[test]
fn the_worst_64_kib_are_bounded() {
    let head = OFFERS[0];
    let fill = |line: &str| {
        let room = 64 * 1024 - head.len();
        head.to_owned() + &line.repeat((room / line.len()).min(1700))
    };
    let texts = [
        ("candidates", fill("a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n")),
        ("rtcp-fb", fill("a=rtcp-fb:* nack pli\r\n")),
        ("rtpmaps", fill("a=rtpmap:96 VP8/90000\r\n")),
        ("flags", fill("a=x\r\n")),
        ("one line", "a".repeat(64 * 1024)),
        ("newlines", "\n".repeat(64 * 1024)),
        ("m-lines", fill("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n")),
        ("formats", format!("{head}m=video 9 UDP/TLS/RTP/SAVPF{}\r\n", " 96".repeat(1300))),
        ("offer", head.to_owned()),
    ];
    for (name, text) in texts {
        let took = time(|| serve(&text));
        println!("{name}: {} bytes in {took:?}", text.len());
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures how long parsing takes")]
fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
