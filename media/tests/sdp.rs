//! Offers of real clients, answered: what is agreed, and that the answers are SDP with one m-line for
//! each of the offer's.

use std::io::Cursor;
use std::net::SocketAddr;

use media::sdp::{
    Direction, EgressPlan, EgressPolicy, Fragment, IngestPlan, IngestPolicy, Local, Offer, Reach, SdpError,
    Setup, answer_egress, answer_ingest,
};
use protocol::{Codec, Kind};
use rtc_sdp::{MediaDescription, SessionDescription};

macro_rules! offer {
    ($name:literal) => {
        include_str!(concat!("offers/", $name, ".sdp"))
    };
}

const PUBLISHERS: [(&str, &str); 10] = [
    ("chromium", offer!("chromium_publish")),
    ("chromium simulcast", offer!("chromium_publish_simulcast")),
    ("firefox", offer!("firefox_publish")),
    ("firefox simulcast", offer!("firefox_publish_simulcast")),
    ("safari", offer!("safari_sendrecv")),
    ("ffmpeg passive", offer!("ffmpeg_passive")),
    ("ffmpeg active", offer!("ffmpeg_active")),
    ("gstreamer", offer!("gstreamer_whipclientsink")),
    ("obs", offer!("obs")),
    ("aiortc", offer!("aiortc_publish")),
];

const LISTENERS: [(&str, &str); 4] = [
    ("chromium", offer!("chromium_recvonly")),
    ("firefox", offer!("firefox_recvonly")),
    ("safari", offer!("safari_sendrecv")),
    ("aiortc", offer!("aiortc_recvonly")),
];

fn local(candidates: &[SocketAddr]) -> Local<'_> {
    Local {
        ufrag: "relayufrag",
        pwd: "relaypasswordrelaypassword",
        fingerprint: "sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
        candidates,
        session_id: 42,
    }
}

fn addresses() -> Vec<SocketAddr> {
    vec![
        SocketAddr::from(([192, 0, 2, 1], 8080)),
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 8080)),
    ]
}

fn ingest(text: &str) -> Result<(String, IngestPlan), SdpError> {
    answer_ingest(&Offer::parse(text)?, &local(&addresses()), &IngestPolicy::default())
}

fn egress_with(text: &str, preferred: &[Codec]) -> Result<(String, EgressPlan), SdpError> {
    let policy = EgressPolicy::new("main-stage/commentary", preferred, 1000);
    answer_egress(&Offer::parse(text)?, &local(&addresses()), &policy)
}

fn egress(text: &str) -> Result<(String, EgressPlan), SdpError> {
    egress_with(text, &[])
}

fn parsed(text: &str) -> SessionDescription {
    SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes())).expect("a printed answer parses")
}

fn values<'m>(media: &'m MediaDescription, key: &str) -> Vec<&'m str> {
    media.attributes.iter().filter(|a| a.key == key).filter_map(|a| a.value.as_deref()).collect()
}

/// What RFC 8829 section 5.3 and RFC 9143 ask of any answer.
fn check_shape(who: &str, offer: &str, answer: &str) {
    let (offer, answer) = (parsed(offer), parsed(answer));
    assert_eq!(offer.media_descriptions.len(), answer.media_descriptions.len(), "{who}");
    assert!(answer.has_attribute("ice-lite"), "{who}");
    let mut accepted = Vec::new();
    for (asked, given) in offer.media_descriptions.iter().zip(&answer.media_descriptions) {
        assert_eq!(asked.media_name.media, given.media_name.media, "{who}");
        assert_eq!(asked.media_name.protos, given.media_name.protos, "{who}");
        assert_eq!(values(asked, "mid"), values(given, "mid"), "{who}");
        for format in &given.media_name.formats {
            assert!(asked.media_name.formats.contains(format), "{who}: {format} was not offered");
        }
        if given.media_name.port.value == 0 {
            continue;
        }
        for extension in values(given, "extmap") {
            let offered = values(asked, "extmap");
            assert!(
                offered.iter().any(|line| line.contains(extension.split(' ').nth(1).unwrap_or("?"))),
                "{who}"
            );
        }
        assert_eq!(values(given, "ice-ufrag"), ["relayufrag"], "{who}");
        assert_eq!(values(given, "fingerprint").len(), 1, "{who}");
        assert!(matches!(values(given, "setup")[..], ["active"] | ["passive"]), "{who}");
        let simulcast = usize::from(asked.has_attribute("simulcast") && given.has_attribute("recvonly"));
        let rids = values(given, "rid").len();
        assert_eq!((rids > 0, values(given, "simulcast").len()), (simulcast > 0, simulcast), "{who}");
        if accepted.is_empty() {
            assert_eq!(values(given, "candidate").len(), 2, "{who}");
            assert!(given.has_attribute("end-of-candidates"), "{who}");
        }
        accepted.extend(values(given, "mid"));
    }
    let group = answer.attribute("group").map(String::as_str).unwrap_or_default();
    assert_eq!(group, format!("BUNDLE {}", accepted.join(" ")), "{who}");
}

#[test]
fn every_publisher_gets_audio_and_video() {
    for (who, offer) in PUBLISHERS {
        let (answer, plan) = ingest(offer).unwrap_or_else(|error| panic!("{who}: {error}"));
        check_shape(who, offer, &answer);
        let kinds: Vec<Kind> = plan.tracks.iter().map(|track| track.kind).collect();
        assert_eq!(kinds, [Kind::Audio, Kind::Video], "{who}");
        assert_eq!(plan.tracks[0].codecs[0].codec, Codec::Opus, "{who}");
        assert!(answer.contains("stereo=1;sprop-stereo=1;maxaveragebitrate=256000"), "{who}");
        assert!(answer.contains("a=recvonly") && !answer.contains("a=sendrecv"), "{who}");
    }
}

#[test]
fn every_listener_may_get_audio_and_video() {
    for (who, offer) in LISTENERS {
        let (answer, plan) = egress(offer).unwrap_or_else(|error| panic!("{who}: {error}"));
        check_shape(who, offer, &answer);
        assert_eq!(plan.tracks.len(), 2, "{who}");
        let [audio, video] = &plan.tracks[..] else { unreachable!("two were counted") };
        assert!(audio.feedback.nack, "{who}");
        assert!(video.codecs.iter().any(|codec| codec.codec == Codec::Vp8 && codec.rtx.is_some()), "{who}");
        assert!(answer.contains(&format!("a=ssrc-group:FID {} {}\r\n", video.ssrc, video.rtx_ssrc)), "{who}");
        assert!(answer.contains("a=msid:main-stage.commentary audio\r\n"), "{who}");
        assert!(answer.contains("a=sendonly") && !answer.contains("a=recvonly"), "{who}");
    }
}

#[test]
fn setup_is_answered_for_every_role() {
    let offer = offer!("obs");
    for (role, ours) in [("actpass", Setup::Passive), ("active", Setup::Passive), ("passive", Setup::Active)]
    {
        let (answer, plan) = ingest(&offer.replace("setup:actpass", &format!("setup:{role}"))).unwrap();
        assert_eq!(plan.setup, ours);
        assert!(answer.contains(&format!("a=setup:{}\r\n", ours.name())));
    }
    assert_eq!(ingest(offer!("ffmpeg_passive")).unwrap().1.setup, Setup::Active);
    assert_eq!(ingest(offer!("ffmpeg_active")).unwrap().1.setup, Setup::Passive);
    assert_eq!(ingest(&offer.replace("setup:actpass", "setup:holdconn")).unwrap_err().status(), 422);
}

/// The simulcast offers of browsers, with other encodings in place of theirs.
fn simulcast(rids: &str, list: &str) -> Vec<String> {
    let lines: String = rids.split(' ').map(|rid| format!("a=rid:{rid} send\r\n")).collect();
    [offer!("chromium_publish_simulcast"), offer!("firefox_publish_simulcast")]
        .iter()
        .map(|text| {
            let others = ["a=rid:m send", "a=rid:l send"];
            let kept: Vec<&str> = text.lines().filter(|line| !others.contains(line)).collect();
            let text = kept.join("\r\n") + "\r\n";
            text.replace("a=rid:h send\r\n", &lines).replace("send h;m;l", &format!("send {list}"))
        })
        .collect()
}

#[test]
fn all_encodings_of_a_simulcast_offer_are_taken_in_its_order() {
    for (rids, list, taken) in [
        ("h m l", "h;m;l", "h m l"),
        ("l h m", "m;l;h", "m l h"),
        ("0 1", "1;0", "1 0"),
        ("a-b c_d 3 x", "x;3;c_d;a-b", "x 3 c_d a-b"),
        ("a b c", "~a,b;unknown,~c", "a c"),
        ("a b", "a;b recv z", "a b"),
        ("one", "one", "one"),
    ] {
        for offer in simulcast(rids, list) {
            let (answer, plan) = ingest(&offer).unwrap();
            check_shape(rids, &offer, &answer);
            let track = &plan.tracks[1];
            assert_eq!(track.rids.join(" "), taken, "{list}");
            assert!(track.extensions.rid.is_some() && track.extensions.repaired_rid.is_some(), "{list}");
            let list = taken.replace(' ', ";");
            assert!(answer.contains(&format!("a=simulcast:recv {list}\r\n")), "{answer}");
            assert_eq!(answer.matches("a=rid:").count(), track.rids.len());
            assert!(
                track.rids.iter().all(|rid| answer.contains(&format!("a=rid:{rid} recv\r\n"))),
                "{answer}"
            );
        }
    }
    assert!(ingest(offer!("chromium_publish")).unwrap().1.tracks[1].rids.is_empty());
}

#[test]
fn a_simulcast_offer_that_names_no_encoding_in_its_packets_is_one_track() {
    for offer in simulcast("h m l", "h;m;l") {
        let offers =
            [offer.replace("sdes:rtp-stream-id", "sdes:other"), offer.replace("send h;m;l", "send x;y")];
        for offer in offers.iter().chain(&[offer.replace("a=simulcast", "a=other")]) {
            let (answer, plan) = ingest(offer).unwrap();
            assert!(plan.tracks[1].rids.is_empty());
            assert_eq!((plan.tracks[1].extensions.rid, plan.tracks[1].extensions.repaired_rid), (None, None));
            assert!(!answer.contains("simulcast") && !answer.contains("a=rid"), "{answer}");
        }
    }
}

#[test]
fn five_encodings_and_two_of_one_name_are_refused_with_what_to_change() {
    for (rids, list, says) in [
        ("a b c d e", "a;b;c;d;e", "at most 4"),
        ("a b a", "a;b", "a name (rid) of its own"),
        ("a b", "a;b;a", "a name (rid) of its own"),
    ] {
        for offer in simulcast(rids, list) {
            let error = ingest(&offer).unwrap_err();
            assert_eq!(error.status(), 422, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

#[test]
fn without_simulcast_the_best_encoding_is_taken_wherever_it_stands() {
    let policy = IngestPolicy { simulcast: false, ..IngestPolicy::default() };
    for (rids, list) in [("h m l", "h;m;l"), ("l m h", "l;m;h"), ("h m l a b c", "a;b;c;h;m;l")] {
        for offer in simulcast(rids, list) {
            let (answer, plan) =
                answer_ingest(&Offer::parse(&offer).unwrap(), &local(&addresses()), &policy).unwrap();
            check_shape(rids, &offer, &answer);
            assert_eq!(plan.tracks[1].rids, ["h"], "{list}");
            assert!(answer.contains("a=rid:h recv\r\n") && answer.contains("a=simulcast:recv h\r\n"));
        }
    }
}

#[test]
fn a_publisher_is_given_no_extension_that_some_listeners_lack() {
    let hints = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    let hop = ["sdes:mid", "rtp-stream-id", "transport-wide-cc", "abs-send-time"];
    let mut orientation = 0;
    for (who, offer) in PUBLISHERS {
        let offer = offer.replacen(
            "a=mid:1",
            "a=extmap:13 urn:3gpp:video-orientation\na=extmap:14 \
             http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\na=mid:1",
            1,
        );
        orientation += offer.matches("video-orientation").count();
        let (answer, plan) = ingest(&offer).unwrap_or_else(|error| panic!("{who}: {error}"));
        for line in answer.lines().filter(|line| line.starts_with("a=extmap:")) {
            assert!(line.contains(hints) || hop.iter().any(|kind| line.contains(kind)), "{who}: {line}");
        }
        assert!(plan.tracks.iter().all(|track| track.extensions.video_orientation.is_none()), "{who}");
    }
    assert!(orientation > 0, "none offered it");
}

#[test]
fn who_sends_av1_is_given_the_dependency_descriptor_and_nobody_else() {
    let uri = media::rtp::descriptor::dependency::URI;
    let mut offered = 0;
    for (who, offer) in PUBLISHERS {
        offered += offer.matches(uri).count();
        let (answer, _) = ingest(offer).unwrap_or_else(|error| panic!("{who}: {error}"));
        assert!(!answer.contains(uri), "{who} sends something else first");
    }
    assert!(offered > 0, "none offered it");
    let offer = offer!("chromium_publish_simulcast").replace("SAVPF 96 97", "SAVPF 45 46 96 97");
    let (answer, plan) = ingest(&offer.replace(" 40 45 46 98", " 40 98")).unwrap();
    assert!(answer.contains(&format!("a=extmap:12 {uri}")) && answer.contains("a=extmap-allow-mixed"));
    assert_eq!(plan.tracks[1].extensions.dependency, Some(12));
}

#[test]
fn ssrcs_come_with_their_retransmissions() {
    let (_, plan) = ingest(offer!("ffmpeg_passive")).unwrap();
    let [(video, Some(rtx))] = plan.tracks[1].ssrcs[..] else { panic!("{:?}", plan.tracks[1].ssrcs) };
    assert_eq!(rtx, video + 1);
    assert_eq!(plan.tracks[0].ssrcs.len(), 1);
    assert!(plan.tracks[1].feedback.nack && !plan.tracks[1].feedback.pli);
}

#[test]
fn constrained_baseline_is_taken_from_several_h264() {
    let (answer, plan) = ingest(offer!("safari_sendrecv")).unwrap();
    let h264 = &plan.tracks[1].codecs[0];
    assert_eq!((h264.codec, h264.payload_type, h264.rtx), (Codec::H264, 98, Some(99)));
    assert_eq!(h264.profile_level_id, Some([0x42, 0xe0, 0x1f]));
    assert!(!answer.contains("640c1f"));
    assert!(!answer.to_lowercase().contains("red/90000") && !answer.contains("fec/"));
}

#[test]
fn red_is_taken_behind_the_opus_that_it_wraps() {
    let chromium = (offer!("chromium_recvonly"), offer!("chromium_publish"));
    for (listens, publishes) in [chromium, (offer!("safari_sendrecv"), offer!("safari_sendrecv"))] {
        let listener = egress(listens).map(|(answer, plan)| (answer, plan.tracks[0].codecs[0].clone()));
        let publisher = ingest(publishes).map(|(answer, plan)| (answer, plan.tracks[0].codecs[0].clone()));
        for (answer, opus) in [listener.unwrap(), publisher.unwrap()] {
            assert_eq!((opus.codec, opus.payload_type, opus.red), (Codec::Opus, 111, Some(63)));
            assert!(answer.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"), "{answer}");
            assert!(answer.contains(" UDP/TLS/RTP/SAVPF 111 63\r\n"), "a sender takes the first: {answer}");
            assert!(!answer.contains("a=rtcp-fb:63"), "it is asked for under its number: {answer}");
        }
    }
    for offer in [offer!("firefox_recvonly"), offer!("aiortc_recvonly")] {
        assert!(egress(offer).unwrap().1.tracks[0].codecs.iter().all(|codec| codec.red.is_none()));
    }
}

#[test]
fn red_of_anything_else_is_not_taken() {
    let offer = offer!("chromium_recvonly");
    let red = |fmtp: &str| {
        let (answer, plan) = egress(&offer.replace("a=fmtp:63 111/111", fmtp)).unwrap();
        let red = plan.tracks[0].codecs[0].red;
        assert_eq!(answer.contains("red/48000"), red.is_some(), "{fmtp}");
        red
    };
    assert_eq!(red("a=fmtp:63 111/111/111"), Some(63));
    assert_eq!(red("a=fmtp:63  111 / 111 "), Some(63));
    for other in
        ["", "a=fmtp:63 ", "a=fmtp:63 111", "a=fmtp:63 111/0", "a=fmtp:63 0/111", "a=fmtp:63 111/111/x"]
    {
        assert_eq!(red(other), None, "{other}");
    }
    let first = offer.replace(" 111 63 ", " 63 111 ");
    assert!(first.contains(" 63 111 "), "the offer has both");
    let (answer, plan) = egress(&first).unwrap();
    assert_eq!(plan.tracks[0].codecs[0].red, Some(63));
    assert!(answer.contains(" UDP/TLS/RTP/SAVPF 111 63\r\n"), "behind all the same: {answer}");
    assert_eq!(egress(&offer.replace("red/48000/2", "red/8000")).unwrap().1.tracks[0].codecs[0].red, None);
}

#[test]
fn capital_opus_and_a_bundle_only_line_are_served() {
    let offer = offer!("gstreamer_whipclientsink");
    let parsed_offer = Offer::parse(offer).unwrap();
    assert_eq!(parsed_offer.ufrag().len(), 32);
    assert!(parsed_offer.lines()[1].live);
    let (answer, plan) = ingest(offer).unwrap();
    assert!(answer.contains("a=rtpmap:96 OPUS/48000/2"));
    assert_eq!(plan.tracks[1].mid, "video1");
    assert_eq!(plan.tracks[1].codecs[0].profile_level_id, Some([0x42, 0xc0, 0x1f]));
    assert!(plan.tracks[0].feedback.nack && !plan.tracks[0].feedback.pli);
    assert!(!answer.contains("96 nack pli") && answer.contains("97 nack pli"));
}

#[test]
fn what_the_stream_carries_stands_first() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1] {
        let (answer, plan) = egress_with(offer!("chromium_recvonly"), &[Codec::Opus, codec]).unwrap();
        let video = &plan.tracks[1];
        assert_eq!(video.codecs[0].codec, codec);
        assert_eq!(video.codecs.len(), 4);
        let first = parsed(&answer).media_descriptions[1].media_name.formats[0].clone();
        assert_eq!(first, video.codecs[0].payload_type.to_string());
    }
}

#[test]
fn unknown_and_second_lines_of_a_listener_are_rejected_alone() {
    let offer = offer!("chromium_recvonly");
    let (start, data) = offer.split_once("m=application").unwrap();
    let offer =
        format!("{start}m=text 9 UDP/TLS/RTP/SAVPF 98\r\nc=IN IP4 0.0.0.0\r\na=mid:t\r\nm=application{data}")
            .replace("BUNDLE 0 1 2", "BUNDLE 0 1 t 2");
    let (answer, plan) = egress(&offer).unwrap();
    check_shape("text", &offer, &answer);
    assert!(answer.contains("m=text 0 UDP/TLS/RTP/SAVPF 98"));
    assert!(answer.contains("BUNDLE 0 1 2\r\n"));
    assert!(plan.data_channel);
    assert_eq!(ingest(&offer.replace("recvonly", "sendonly")).unwrap_err().status(), 422);
}

#[test]
fn our_ssrcs_avoid_those_of_the_peer() {
    let offer = offer!("obs").replace("a=sendonly", "a=sendrecv").replace("1326154372", "1001");
    let (_, plan) = egress(&offer).unwrap();
    let ours = [plan.tracks[0].ssrc, plan.tracks[0].rtx_ssrc, plan.tracks[1].ssrc, plan.tracks[1].rtx_ssrc];
    assert_eq!(ours, [1000, 1002, 1003, 1004]);
}

#[test]
fn one_line_needs_no_bundle_but_two_do() {
    let offer = offer!("obs").replace("a=group:BUNDLE 0 1\r\n", "").replace("a=group:BUNDLE 0 1\n", "");
    assert_eq!(ingest(&offer).unwrap_err(), SdpError::NoBundle);
    let (alone, _) = offer.split_once("m=video").unwrap();
    let (answer, plan) = ingest(&alone.replace("a=mid:0\n", "")).unwrap();
    assert_eq!(plan.tracks[0].mid, "");
    assert!(!answer.contains("BUNDLE") && !answer.contains("a=mid"));
}

#[test]
fn an_offer_without_credentials_or_fingerprint_is_refused() {
    for (who, offer) in PUBLISHERS {
        for attribute in ["fingerprint", "ice-ufrag", "ice-pwd"] {
            let without: String = offer
                .lines()
                .filter(|line| !line.starts_with(&format!("a={attribute}")))
                .fold(String::new(), |text, line| text + line + "\r\n");
            let error = Offer::parse(&without).unwrap_err();
            assert_eq!(error, SdpError::Missing { attribute }, "{who}");
            assert_eq!(error.status(), 400);
        }
        let without = offer.replace("a=rtcp-mux", "a=x-mux");
        assert_eq!(Offer::parse(&without).unwrap_err().status(), 422, "{who}");
    }
}

#[test]
fn two_hundred_m_lines_are_refused() {
    let mut offer = offer!("obs").to_owned();
    for mid in 2..200 {
        offer += &format!("m=video 9 UDP/TLS/RTP/SAVPF 96\nc=IN IP4 0.0.0.0\na=mid:{mid}\n");
    }
    assert_eq!(Offer::parse(&offer).unwrap_err(), SdpError::TooMany { what: "m-lines", most: 16 });
}

#[test]
fn two_audio_tracks_are_refused_in_whip() {
    let (start, video) = offer!("obs").split_once("m=video").unwrap();
    let (_, audio) = start.split_once("m=audio").unwrap();
    let offer = format!("{start}m=audio{}m=video{video}", audio.replace("a=mid:0", "a=mid:2"))
        .replace("BUNDLE 0 1", "BUNDLE 0 2 1");
    let error = ingest(&offer).unwrap_err();
    assert_eq!((error.status(), &error), (422, &SdpError::ManyTracks { kind: Kind::Audio }));
    assert!(error.to_string().contains("more than one audio track"));
    // a second line that the client itself has rejected does not count
    let (first, rest) = offer.split_once("m=audio 9").unwrap();
    let (middle, last) = rest.split_once("m=audio 9").unwrap();
    let (answer, plan) = ingest(&format!("{first}m=audio 9{middle}m=audio 0{last}")).unwrap();
    assert_eq!(plan.tracks.len(), 2);
    assert!(answer.contains("m=audio 0 "));
}

#[test]
fn directions_that_do_not_fit_are_refused() {
    let (publish, play) = (offer!("aiortc_publish"), offer!("aiortc_recvonly"));
    for direction in ["recvonly", "inactive"] {
        let offer = publish.replace("a=sendrecv", &format!("a={direction}"));
        assert_eq!(ingest(&offer).unwrap_err().status(), 422, "{direction}");
    }
    for direction in ["sendonly", "inactive"] {
        let offer = play.replace("a=recvonly", &format!("a={direction}"));
        assert_eq!(egress(&offer).unwrap_err().status(), 422, "{direction}");
    }
    assert_eq!(Offer::parse(play).unwrap().lines()[0].direction, Direction::RecvOnly);
}

#[test]
fn strange_candidates_are_read_and_never_repeated() {
    let strange = "a=candidate:1 1 udp 1 host.local 5000 typ host\n\
                   a=candidate:2 1 udp 1 fe80::1 5000 typ host\n\
                   a=candidate:3 1 udp 1 2001:db8::77 5000 typ host\n\
                   a=candidate:4 1 tcp 1 192.0.2.77 9 typ host tcptype active\n\
                   a=candidate:5 1 udp 1 255.255.255.255 5000 typ host\n\
                   a=candidate:6 1 udp 1 192.0.2.77 0 typ host\n\
                   a=candidate:\na=candidate:x y z\n";
    let offer = offer!("obs").replacen("a=mid:0\n", &format!("a=mid:0\n{strange}"), 1);
    let reach: Vec<Reach> = Offer::parse(&offer).unwrap().lines()[0]
        .candidates()
        .iter()
        .map(|candidate| candidate.reach)
        .collect();
    let there = "[2001:db8::77]:5000".parse().unwrap();
    assert_eq!(
        reach,
        [Reach::Name, Reach::Nowhere, Reach::Udp(there), Reach::Tcp, Reach::Nowhere, Reach::Nowhere]
    );
    let (answer, _) = ingest(&offer).unwrap();
    assert!(
        !answer.contains("192.0.2.77")
            && !answer.contains("::77")
            && !answer.contains(".local")
            && !answer.contains("255.255")
    );
    let many = strange.repeat(50);
    let offer = offer!("obs").replacen("a=mid:0\n", &format!("a=mid:0\n{many}"), 1);
    assert_eq!(Offer::parse(&offer).unwrap_err().status(), 400);
}

#[test]
fn no_line_can_be_smuggled_into_an_answer() {
    let offer = offer!("obs").replace("a=fmtp:96 ", "a=fmtp:96 x=1\ra=candidate:evil;");
    assert_eq!(Offer::parse(&offer).unwrap_err().status(), 400);
    let offer = offer!("obs").replace("a=mid:1", "a=mid:1 2");
    assert_eq!(Offer::parse(&offer).unwrap_err().status(), 400);
}

#[test]
fn an_ice_lite_peer_is_told_that_nobody_would_check() {
    let offer = offer!("obs").replace("a=setup", "a=ice-lite\na=setup");
    assert_eq!(Offer::parse(&offer).unwrap_err(), SdpError::BothIceLite);
}

#[test]
fn trickled_candidates_are_counted() {
    let text = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
                a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw\r\n\
                a=candidate:3471623853 1 udp 2122194687 abc.local 61765 typ host\r\na=end-of-candidates\r\n";
    let fragment = Fragment::parse(text).unwrap();
    assert_eq!(fragment.candidates.len(), 2);
    assert_eq!(fragment.mids, ["0"]);
    assert!(fragment.end_of_candidates);
    assert!(!fragment.restarts("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1"));
    assert!(fragment.restarts("other", "P2uYro0UCOQ4zxjKXaWCBui1"));
}

#[test]
fn a_restart_is_answered_with_all_candidates() {
    let text = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\na=group:BUNDLE 0 1\r\n\
                m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
    let addresses = addresses();
    let answer = Fragment::parse(text).unwrap().answer(&local(&addresses));
    let back = Fragment::parse(&answer).unwrap();
    assert_eq!(back.ufrag.as_deref(), Some("relayufrag"));
    assert_eq!((back.candidates.len(), back.end_of_candidates), (2, true));
    assert!(answer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"));
}

#[test]
fn half_a_fragment_is_refused() {
    for text in ["a=ice-ufrag:abcd", "a=ice-pwd:0123456789012345678901", "hello", "m=audio", "a=mid:"] {
        assert_eq!(Fragment::parse(text).unwrap_err().status(), 400, "{text}");
    }
    assert_eq!(
        Fragment::parse(&"a=candidate:1 1 udp 1 192.0.2.1 5 typ host\n".repeat(300)).unwrap_err().status(),
        400
    );
    assert_eq!(Fragment::parse(&"a".repeat(70_000)).unwrap_err().status(), 400);
}
