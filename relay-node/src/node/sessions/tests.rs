//! Sessions inside a node: what listeners get, and what is said of those who get nothing.

use std::sync::Arc;

use media::{Event, sdp::Offer, transport::Identity};
use mesh_routing::{Config, Mesh};
use protocol::{
    Codec, NodeId, StreamName, ZoneName,
    api::{CannotPlay, Quality},
};
use rooms::WallTime;

use super::*;
use crate::node::{Effect, Node};
use crate::{bridge, clock, node_loop::random, places::shares::Holder};

/// An offer with m-lines of these codecs, each once; `sendrecv`, so that it serves for both.
fn offer(lines: &[&[&str]]) -> Offer {
    let mut text = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:abcd\r\n\
        a=ice-pwd:0123456789012345678901\r\na=setup:actpass\r\na=fingerprint:sha-256 "
        .to_owned();
    text += &["AB"; 32].join(":");
    let mids: Vec<_> = (0..lines.len()).map(|mid| mid.to_string()).collect();
    text += &format!("\r\na=group:BUNDLE {}\r\n", mids.join(" "));
    for (mid, codecs) in lines.iter().enumerate() {
        let kind = if codecs[0].starts_with("opus") { "audio" } else { "video" };
        let types: Vec<_> = (0..codecs.len()).map(|index| (100 + index).to_string()).collect();
        text += &format!("m={kind} 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:{mid}\r\na=rtcp-mux\r\n", types.join(" "));
        for (number, codec) in types.iter().zip(*codecs) {
            text += &format!("a=rtpmap:{number} {codec}\r\n");
        }
    }
    Offer::parse(&text).expect("an offer")
}

const OPUS: &[&str] = &["opus/48000/2"];
const VP8: &[&str] = &["VP8/90000"];
const H264: &[&str] = &["H264/90000"];
const H265: &[&str] = &["H265/90000"];
const ALL: &[&str] = &["VP8/90000", "VP9/90000", "H264/90000", "AV1/90000"];

struct Relay {
    node: Node,
    now: Instant,
    /// How often the pages were told of other streams.
    told: usize,
}

impl Relay {
    fn new() -> Relay {
        let now = clock::now();
        let data = tempfile::tempdir().expect("a directory");
        let identity = bridge::Identity::load_or_create(data.path()).expect("an identity");
        let zone = ZoneName::new("stage").expect("a name");
        let mesh = Mesh::new(Config::new(identity.keys(), zone.clone(), 1, 1), now);
        let dtls = Arc::new(Identity::generate().expect("a certificate"));
        let ports = vec!["192.0.2.1:8080".parse().expect("an address")];
        let sessions = Sessions::new(dtls, ports, IngestPolicy::default());
        let id: NodeId = identity.node_id();
        Relay { node: Node::new(id, zone, mesh, sessions, 0, now, WallTime(0)), now, told: 0 }
    }

    fn publish(&mut self, lines: &[&[&str]]) -> SessionId {
        let opened =
            self.node.handle_publish((stage(), somebody()), &offer(lines), random::session(), self.now);
        let session = opened.expect("is taken").id;
        self.node.handle_media(Event::Connected { session }, self.now);
        self.wait(Duration::from_secs(2));
        session
    }

    fn listen(&mut self, lines: &[&[&str]]) -> Result<SessionId, SessionError> {
        self.node
            .handle_listen((stage(), somebody()), (&offer(lines), None), random::session(), self.now)
            .map(|opened| opened.id)
    }

    fn connected(&mut self, lines: &[&[&str]]) -> SessionId {
        let session = self.listen(lines).expect("is served");
        self.node.handle_media(Event::Connected { session }, self.now);
        session
    }

    fn quality(&self, session: SessionId) -> (Quality, String) {
        let session = self.node.session(session, self.now).expect("a session");
        (session.quality, session.reason.unwrap_or_default())
    }

    fn cannot_play(&self) -> Vec<CannotPlay> {
        self.node.streams(self.now).remove(0).cannot_play
    }

    /// Lets time pass, timer by timer; gives how many sessions did not connect, and what was said of them.
    fn wait(&mut self, time: Duration) -> (usize, Vec<String>) {
        let until = self.now + time;
        let (mut count, mut said) = (0, Vec::new());
        loop {
            let next = self.node.poll_timeout().filter(|at| *at <= until);
            self.now = next.unwrap_or(until).max(self.now);
            self.node.handle_timeout(self.now);
            while let Some(effect) = self.node.poll_effect(self.now) {
                match effect {
                    Effect::Unreached(_) => count += 1,
                    Effect::Warn(text) => said.push(text),
                    Effect::Streams => self.told += 1,
                    _ => {}
                }
            }
            if next.is_none() {
                return (count, said);
            }
        }
    }
}

fn somebody() -> Holder {
    std::net::IpAddr::from([192, 0, 2, 7]).into()
}

fn stage() -> StreamName {
    StreamName::new("main-stage").expect("a name")
}

#[test]
fn who_can_play_nothing_of_a_stream_is_told_what_it_is() {
    let mut relay = Relay::new();
    assert!(matches!(relay.listen(&[OPUS]), Err(SessionError::NotLive { .. })));
    relay.publish(&[OPUS, H264]);
    for lines in [&[VP8] as &[&[&str]], &[H265], &[&["G722/8000"]], &[VP8, &["PCMU/8000"]]] {
        let Err(SessionError::Sdp(error)) = relay.listen(lines) else { panic!("{lines:?} is served") };
        assert_eq!(error.status(), 406, "{lines:?}: {error}");
        assert!(error.to_string().contains("opus and H264"), "{error}");
    }
    assert_eq!(relay.cannot_play(), []);
    for lines in [&[OPUS] as &[&[&str]], &[H264], &[OPUS, H264], &[OPUS, VP8], &[OPUS, H265], &[ALL]] {
        assert!(relay.listen(lines).is_ok(), "{lines:?}");
    }
}

#[test]
fn a_session_says_what_it_cannot_play() {
    let mut relay = Relay::new();
    relay.publish(&[OPUS, H264]);
    let (whole, sound) = (relay.connected(&[OPUS, ALL]), relay.connected(&[OPUS]));
    let (other, unknown) = (relay.connected(&[OPUS, VP8]), relay.connected(&[OPUS, H265]));
    for good in [whole, sound] {
        assert_eq!(relay.quality(good), (Quality::Good, String::new()));
    }
    for partly in [other, unknown] {
        let (quality, reason) = relay.quality(partly);
        assert_eq!(quality, Quality::Partly);
        assert!(reason.contains("main-stage is H264 now"), "{reason}");
    }
    assert_eq!(relay.cannot_play(), [CannotPlay { codec: Codec::H264, listeners: 2 }]);
    relay.node.handle_end(Direction::Egress, &stage(), other, relay.now).expect("ends");
    assert_eq!(relay.cannot_play(), [CannotPlay { codec: Codec::H264, listeners: 1 }]);
    relay.node.handle_stop(relay.now);
    assert_eq!(relay.cannot_play(), []);
}

#[test]
fn a_publisher_that_comes_back_with_another_codec_is_told_to_those_who_lack_it() {
    let mut relay = Relay::new();
    relay.publish(&[OPUS, VP8]);
    let (all, one) = (relay.connected(&[OPUS, ALL]), relay.connected(&[OPUS, VP8]));
    let picture = relay.connected(&[VP8]);
    relay.publish(&[OPUS, H264]);
    assert_eq!(relay.quality(all).0, Quality::Good);
    assert_eq!(relay.quality(one).0, Quality::Partly);
    assert_eq!(relay.quality(picture).0, Quality::Nothing);
    assert_eq!(relay.cannot_play(), [CannotPlay { codec: Codec::H264, listeners: 2 }]);
    relay.publish(&[OPUS, VP8]);
    assert_eq!(relay.quality(picture).0, Quality::Good);
    assert_eq!(relay.cannot_play(), []);
}

#[test]
fn of_several_codecs_the_one_that_flows_is_told() {
    let mut relay = Relay::new();
    let publisher = relay.publish(&[OPUS, ALL]);
    let listener = relay.connected(&[OPUS, VP8]);
    let codec = |relay: &Relay| relay.node.streams(relay.now)[0].tracks[1].codec;
    assert_eq!(codec(&relay), Codec::Vp8);
    let told = relay.told;
    relay.node.handle_media(Event::Codec { session: publisher, codec: Codec::Av1 }, relay.now);
    relay.wait(Duration::from_secs(2));
    assert!(relay.told > told, "no page learns of it");
    assert_eq!(codec(&relay), Codec::Av1);
    assert_eq!(relay.quality(listener).0, Quality::Partly);
    // what comes from one who was replaced says nothing
    relay.publish(&[OPUS, H264]);
    relay.node.handle_media(Event::Codec { session: publisher, codec: Codec::Vp8 }, relay.now);
    relay.wait(Duration::from_secs(2));
    assert_eq!(codec(&relay), Codec::H264);
}

#[test]
fn sessions_that_do_not_connect_are_counted_each_once_and_said_once_a_minute() {
    let mut relay = Relay::new();
    relay.publish(&[OPUS]);
    relay.connected(&[OPUS]);
    let stuck = relay.listen(&[OPUS]).expect("is served");
    assert_eq!(relay.wait(Duration::from_millis(7_999)), (0, Vec::new()));
    assert_eq!(relay.quality(stuck), (Quality::Nothing, "connecting".to_owned()));
    let (1, said) = relay.wait(Duration::from_millis(1)) else { panic!("not counted") };
    let [text] = &said[..] else { panic!("{said:?}") };
    assert!(text.contains("the page arrives, the sound does not: 1 listener had"), "{text}");
    assert!(text.contains("UDP to 192.0.2.1:8080"), "{text}");
    assert!(relay.quality(stuck).1.contains("does not reach UDP 192.0.2.1:8080"));
    for _ in 0..5 {
        relay.listen(&[OPUS]).expect("is served");
    }
    let publish = |relay: &mut Relay| {
        relay
            .node
            .handle_publish((stage(), somebody()), &offer(&[OPUS]), random::session(), relay.now)
            .expect("is served")
    };
    publish(&mut relay);
    assert_eq!(relay.wait(Duration::from_millis(59_999)), (6, Vec::new()));
    // of those that follow when a minute is over, without another one
    let (0, said) = relay.wait(Duration::from_millis(1)) else { panic!("counted twice") };
    let [text] = &said[..] else { panic!("{said:?}") };
    assert!(text.contains("5 listeners and 1 publisher had"), "{text}");
    assert_eq!(relay.wait(Duration::from_secs(3_600)), (0, Vec::new()));
    assert!(relay.node.session(stuck, relay.now).is_none(), "it is over after 30 s");
    // after a quiet hour the next one is said at once
    publish(&mut relay);
    let (1, said) = relay.wait(Duration::from_secs(8)) else { panic!("not counted") };
    assert!(matches!(&said[..], [text] if text.contains(": 1 publisher had")), "{said:?}");
}
