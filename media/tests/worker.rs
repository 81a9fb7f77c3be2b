//! A worker and its peers: what is published arrives, in order, once, and goes on through reloads.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

#[allow(dead_code, reason = "shared by several tests")]
mod transport_sim;
#[allow(dead_code, reason = "shared by several tests")]
mod worker_sim;

use protocol::Kind;
use worker_sim::*;

macro_rules! offer {
    ($name:literal) => {
        include_str!(concat!("offers/", $name, ".sdp"))
    };
}

#[test]
fn a_packet_arrives_once_at_every_listener_under_its_own_numbers() {
    let mut sim = Sim::new(2, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    let listeners: Vec<usize> = [
        offer!("chromium_recvonly"),
        offer!("firefox_recvonly"),
        offer!("aiortc_recvonly"),
        offer!("chromium_recvonly"),
    ]
    .map(|offer| sim.listener(offer))
    .to_vec();
    let last = sim.peers[listeners[3]].browser.address;
    sim.lands.insert(last, 1);
    sim.connect();
    sim.peers[publisher].feed(Kind::Audio).audio_level = Some(0x85);
    sim.peers[publisher].publish(Kind::Audio, b"sound", false);
    sim.peers[publisher].publish(Kind::Video, &[0x10, 0, 1, 2, 3], true);
    sim.run(ms(100));
    for listener in listeners {
        let peer = &sim.peers[listener];
        for (kind, payload) in [(Kind::Audio, &b"sound"[..]), (Kind::Video, &[0x10, 0, 1, 2, 3][..])] {
            let got = peer.got_media(kind);
            let [got] = got[..] else { panic!("{kind:?} {got:?}") };
            assert_eq!(got.payload_type, peer.egress(kind).codecs[0].payload_type);
            assert_eq!(got.payload, payload);
            assert_eq!(got.marker, kind == Kind::Video);
            let level = peer.egress(Kind::Audio).extensions.audio_level.unwrap();
            assert_eq!(got.extensions.contains(&(level, vec![0x85])), kind == Kind::Audio);
        }
        assert_eq!(peer.got.len(), 2);
    }
}

#[test]
fn a_listener_who_waits_for_a_picture_that_has_not_begun_stops_nobody() {
    let mut sim = Sim::new(1, 1);
    let publisher = sim.publisher(offer!("chromium_publish"), 0);
    sim.connect();
    let listener = sim.listener(offer!("chromium_recvonly"));
    sim.connect();
    sim.sound(publisher, 5);
    assert_eq!(sim.peers[listener].got_media(Kind::Audio).len(), 5);
    sim.frame(publisher, true, 3, 500);
    sim.run(ms(100));
    assert_eq!(sim.peers[listener].got_media(Kind::Video).len(), 3);
}
