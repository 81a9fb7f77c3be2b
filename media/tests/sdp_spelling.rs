//! One offer, written in many ways: what is agreed is the same. The ways are those of real clients and of
//! people who write offers by hand.

use media::sdp::{
    EgressPlan, EgressPolicy, IngestPlan, IngestPolicy, Local, Offer, SdpError, answer_egress, answer_ingest,
};
use protocol::{Codec, Kind};

/// `a=rtpmap` of every codec, H264 with its parameters; LF only, as this file is.
const OFFER: &str = "v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=msid-semantic: WMS *
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:Zq3x
a=ice-pwd:pY9mQ7cS1hT2vB4nK6jL8dFw
a=ice-options:trickle
a=fingerprint:sha-256 3A:8B:5C:11:0D:FE:92:44:7A:C0:19:E5:66:B7:2F:D8:93:01:5E:CA:48:F3:7D:26:B1:90:EE:34:0C:A7:58:6B
a=setup:actpass
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
m=video 9 UDP/TLS/RTP/SAVPF 96 102 103
c=IN IP4 0.0.0.0
a=ice-ufrag:Zq3x
a=ice-pwd:pY9mQ7cS1hT2vB4nK6jL8dFw
a=ice-options:trickle
a=fingerprint:sha-256 3A:8B:5C:11:0D:FE:92:44:7A:C0:19:E5:66:B7:2F:D8:93:01:5E:CA:48:F3:7D:26:B1:90:EE:34:0C:A7:58:6B
a=setup:actpass
a=mid:1
a=sendrecv
a=rtcp-mux
a=rtcp-rsize
a=rtpmap:96 VP8/90000
a=rtcp-fb:96 nack
a=rtcp-fb:96 nack pli
a=rtpmap:102 H264/90000
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:103 rtx/90000
a=fmtp:103 apt=102
a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid
";

fn local() -> Local<'static> {
    Local {
        ufrag: "relayufrag",
        pwd: "relaypasswordrelaypassword",
        fingerprint: "sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF",
        candidates: &[],
        session_id: 42,
    }
}

type Agreed = (Offer, IngestPlan, EgressPlan, [usize; 2]);

/// What comes of it for a publisher and for a listener, and how many m-lines live in the answers.
fn agree(text: &str) -> Result<Agreed, SdpError> {
    let offer = Offer::parse(text)?;
    let (publish, ingest) = answer_ingest(&offer, &local(), &IngestPolicy::default())?;
    let carried = [Codec::Opus, Codec::H264];
    let (listen, egress) = answer_egress(&offer, &local(), &EgressPolicy::new("s", &carried, 7))?;
    let live = [publish, listen].map(|answer| {
        answer.lines().filter(|line| line.starts_with("m=") && line.split(' ').nth(1) != Some("0")).count()
    });
    Ok((offer, ingest, egress, live))
}

fn every_line(text: &str, change: impl Fn(&str) -> String) -> String {
    text.lines().map(|line| change(line) + "\r\n").collect()
}

fn without(text: &str, prefixes: &[&str]) -> String {
    every_line(text, |line| {
        if prefixes.iter().any(|prefix| line.starts_with(prefix)) { String::new() } else { line.to_owned() }
    })
    .replace("\r\n\r\n", "\r\n")
}

/// ICE and DTLS once, above the m-lines: libdatachannel, OBS 30.1.
fn at_session_level(text: &str, keys: &[&str]) -> String {
    let prefixes: Vec<String> = keys.iter().map(|key| format!("a={key}")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let first = text.split("m=video").next().unwrap_or_default();
    let moved: String = first
        .lines()
        .filter(|line| prefixes.iter().any(|prefix| line.starts_with(prefix)))
        .map(|line| format!("{line}\r\n"))
        .collect();
    without(text, &prefixes).replacen("m=audio", &format!("{moved}m=audio"), 1)
}

#[test]
fn an_offer_means_the_same_however_it_is_written() {
    let (offer, ingest, egress, live) = agree(OFFER).expect("the plain one");
    assert_eq!((ingest.tracks.len(), egress.tracks.len(), live), (2, 2, [2, 2]));
    let crlf = OFFER.replace('\n', "\r\n");
    let same: Vec<(&str, String)> = vec![
        ("CRLF", crlf.clone()),
        ("both ends of lines", crlf.replacen("\r\n", "\n", 9)),
        ("no end of the last line", OFFER.trim_end().to_owned()),
        ("empty lines at the end", format!("{crlf}\r\n\r\n")),
        ("empty lines inside", crlf.replace("m=video", "\r\n\r\nm=video")),
        ("blanks at the ends", every_line(OFFER, |line| format!("{line} \t"))),
        ("blanks at the starts", every_line(OFFER, |line| format!("    {line}"))),
        ("blanks around the colon", OFFER.replace("a=setup:", "a=setup: ").replace("a=mid:", "a=mid : ")),
        ("tabs and two blanks", OFFER.replace("m=audio 9 ", "m=audio  9\t").replace("map:96 ", "map:96 \t ")),
        ("two blanks in feedback", OFFER.replace("96 nack pli", "96  nack  pli")),
        ("two blanks in a group", OFFER.replace("BUNDLE 0 1", "BUNDLE  0  1 ")),
        ("a byte order mark", format!("\u{feff}{OFFER}")),
        ("the end of a C string", format!("{crlf}\0")),
        ("names in capitals", OFFER.replace("opus", "OPUS").replace("H264", "h264").replace("rtx", "RTX")),
        ("hashes in lower case", OFFER.replace("3A:8B:5C", "3a:8b:5c").replace("sha-256", "SHA-256")),
        ("the role in capitals", OFFER.replace("actpass", "ActPass")),
        ("parameters with blanks", OFFER.replace(";p", "; p").replace("mode=1", "mode = 1")),
        ("a profile in capitals", OFFER.replace("42e01f", "42E01F")),
        ("video of one channel", OFFER.replace("VP8/90000", "VP8/90000/1")),
        ("Opus without channels", OFFER.replace("opus/48000/2", "opus/48000")),
        ("Opus of one channel", OFFER.replace("opus/48000/2", "opus/48000/1")),
        ("GStreamer's caps", OFFER.replace("opus/48000/2", "OPUS/48000")),
        ("a blank behind the clock", OFFER.replace("opus/48000/2", "opus/48000/2 ")),
        ("Opus without parameters", without(OFFER, &["a=fmtp:111"])),
        ("no session name", without(OFFER, &["s="])),
        ("no time", without(OFFER, &["t="])),
        ("no origin", without(OFFER, &["o="])),
        ("a name of one blank", OFFER.replace("s=-", "s= ")),
        ("an empty name", OFFER.replace("s=-", "s=")),
        ("a number of 21 digits", OFFER.replace("4611731400430051336", "184467440737095516150")),
        ("Firefox's origin", OFFER.replace("o=- ", "o=mozilla...THIS_IS_SDPARTA-99.0 ")),
        ("no connection", without(OFFER, &["c="])),
        ("a connection of IPv6", OFFER.replace("c=IN IP4 0.0.0.0", "c=IN IP6 ::")),
        ("bandwidths", OFFER.replace("a=mid:1", "b=AS:4000\nb=TIAS:4000000\na=mid:1")),
        (
            "lines of other kinds",
            OFFER.replace("t=0 0", "i=x\nu=http://x\ne=x@y\np=1\nt=0 0\nz=0 0\nk=prompt"),
        ),
        ("time behind attributes", OFFER.replacen("t=0 0\n", "", 1).replacen("m=audio", "t=0 0\nm=audio", 1)),
        ("unknown attributes", OFFER.replace("a=mid", "a=x-google-flag:conference\na=bandwidth:off\na=mid")),
        ("an empty attribute", OFFER.replace("a=mid", "a=\na=:\na=mid")),
        (
            "hints that cannot be read",
            OFFER.replace("a=mid", "a=ssrc:x cname:y\na=ssrc:-1\na=ssrc-group:FID\na=mid"),
        ),
        ("a codec without clock", OFFER.replace("a=rtpmap:96", "a=rtpmap:101 telephone-event\na=rtpmap:96")),
        (
            "codecs nobody knows",
            OFFER.replace("SAVPF 111", "SAVPF 111 9 0").replace("a=mid:0", "a=rtpmap:9 G722/8000\na=mid:0"),
        ),
        ("ICE and DTLS at session level", at_session_level(OFFER, &["ice-", "fingerprint", "setup"])),
        (
            "all that can be at session level",
            at_session_level(
                OFFER,
                &["ice-", "fingerprint", "setup", "sendrecv", "rtcp-mux", "rtcp-rsize", "extmap"],
            ),
        ),
        ("a fingerprint twice", OFFER.replace("a=group", "a=fingerprint:sha-1 00:11\na=group")),
        (
            "ICE and DTLS only at the second line",
            OFFER.replacen("a=ice-ufrag:Zq3x\na=ice-pwd:pY9mQ7cS1hT2vB4nK6jL8dFw\n", "", 1),
        ),
        (
            "a bundled line with port 0",
            OFFER.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=bundle-only\na=mid:1"),
        ),
        ("a port that is a real one", OFFER.replace("m=audio 9", "m=audio 50123")),
        ("RTP over DTLS under its old name", OFFER.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF")),
        ("over TCP, as RFC 8829 allows to say", OFFER.replace("UDP/TLS", "TCP/TLS")),
        ("a group before BUNDLE", OFFER.replace("a=group", "a=group:LS 0 1\na=group")),
        ("a line that the client rejected", format!("{OFFER}m=video 0 UDP/TLS/RTP/SAVPF 96\na=mid:2\n")),
    ];
    for (how, text) in same {
        let (other, other_ingest, other_egress, other_live) =
            agree(&text).unwrap_or_else(|error| panic!("{how}: {error}\n{text}"));
        assert_eq!((other.ufrag(), other.pwd()), (offer.ufrag(), offer.pwd()), "{how}");
        assert_eq!(other.fingerprint(), offer.fingerprint(), "{how}");
        assert_eq!(other_ingest, ingest, "{how}");
        assert_eq!(other_egress, egress, "{how}");
        assert_eq!(other_live, live, "{how}");
    }
}

#[test]
fn what_was_meant_for_us_is_repeated_as_it_was_written() {
    for name in ["opus/48000/2", "OPUS/48000", "Opus/48000/1"] {
        let offer = Offer::parse(&OFFER.replace("opus/48000/2", name)).expect("reads");
        let (answer, _) = answer_ingest(&offer, &local(), &IngestPolicy::default()).expect("is served");
        assert!(answer.contains(&format!("a=rtpmap:111 {name}\r\n")), "{name}: {answer}");
    }
}

#[test]
fn stereo_is_taken_where_it_is_offered_beside_another_form() {
    let both = OFFER
        .replace("SAVPF 111", "SAVPF 63 111 64")
        .replace("a=rtpmap:111", "a=rtpmap:63 opus/48000\na=rtpmap:64 opus/48000/1\na=rtpmap:111");
    let (_, ingest, egress, _) = agree(&both).expect("is served");
    assert_eq!(ingest.tracks[0].codecs[0].payload_type, 111);
    assert_eq!(egress.tracks[0].codecs[0].payload_type, 111);
}

#[test]
fn what_means_something_else_is_not_taken_for_a_spelling() {
    let refused = [
        ("six channels", OFFER.replace("opus/48000/2", "opus/48000/6")),
        ("another clock", OFFER.replace("opus/48000/2", "opus/16000/2")),
        ("several Opus in one", OFFER.replace("opus/48000/2", "multiopus/48000/2")),
    ];
    for (what, text) in refused {
        assert!(matches!(agree(&text), Err(SdpError::NoCodec { kind: Kind::Audio })), "{what}");
    }
    for (what, text) in [
        ("JSON around it", format!("{{\"type\": \"offer\", \"sdp\": {OFFER:?}}}")),
        ("nothing", String::new()),
        ("blanks", " \r\n\r\n ".to_owned()),
        ("another version", OFFER.replace("v=0", "v=1")),
        ("no version", OFFER.replace("v=0\n", "")),
        ("a page", "<!doctype html>".to_owned()),
        ("words", OFFER.replace("a=setup", "hello\na=setup")),
        ("carriage returns alone", OFFER.replace('\n', "\r")),
    ] {
        let error = Offer::parse(&text).expect_err(what);
        assert_eq!(error.status(), 400, "{what}: {error}");
    }
    let json = Offer::parse("{\"sdp\": \"v=0\"}").expect_err("JSON").to_string();
    assert!(json.contains("send the SDP alone"), "{json}");
}
