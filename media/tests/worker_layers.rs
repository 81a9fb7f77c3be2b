//! A publisher that sends AV1 in two spatial layers, with dependency descriptors: what a listener gets, which is sent
//! none.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]
#![allow(clippy::unusual_byte_groupings, reason = "bits are grouped as fields are")]

#[macro_use]
mod worker_sim;

use media::{Bound, Command, Wish, rtp::descriptor::SpatialLayer};
use protocol::Kind;
use worker_sim::*;

/// Bits as octets, the highest first.
fn octets(fields: &[(usize, u32)]) -> Vec<u8> {
    let bits: Vec<bool> = fields
        .iter()
        .flat_map(|(count, value)| (0..*count).rev().map(move |bit| value >> bit & 1 != 0))
        .collect();
    let octet =
        |bits: &[bool]| (0..8).fold(0, |octet, at| octet << 1 | u8::from(bits.get(at) == Some(&true)));
    bits.chunks(8).map(octet).collect()
}

/// With a keyframe: the frames of two sizes. Templates are called 5 and 6 (the base), 7 and 8 (above it), of which the
/// first of each are those of a keyframe.
fn structure(frame: u16) -> Vec<u8> {
    octets(&[
        (2, 0b11),
        (6, 5),
        (16, frame.into()),
        (5, 0b10000),
        (6, 5),
        (5, 1),
        // Layers, then what each template is to the two targets.
        (8, 0b00_10_00_11),
        (16, 0b1010_1011_0010_0011),
        // What it refers to: nothing; two back; one back; one and two back.
        (1, 0),
        (6, 0b1_0001_0),
        (6, 0b1_0000_0),
        (11, 0b1_0000_1_0001_0),
        // No chains. 640 by 360 and 1280 by 720.
        (1, 0),
        (1, 1),
        (16, 639),
        (16, 359),
        (16, 1279),
        (16, 719),
    ])
}

fn descriptor(template: u8, frame: u16) -> Vec<u8> {
    octets(&[(2, 0b11), (6, template.into()), (16, frame.into())])
}

/// Chromium's offer, with AV1 first.
fn offer() -> String {
    let uri = media::rtp::descriptor::dependency::URI;
    offer!("chromium_publish")
        .replace("SAVPF 96 97", "SAVPF 45 46 96 97")
        .replace(" 40 45 46 98", " 40 98")
        .replacen("a=mid:1", &format!("a=extmap:12 {uri}\na=mid:1"), 1)
}

struct Field {
    sim: Sim,
    publisher: usize,
    listener: usize,
    frame: u16,
    seen: usize,
}

impl Field {
    fn new() -> Field {
        let mut sim = Sim::new(1, 1);
        let publisher = sim.publisher(&offer(), 0);
        let listener = sim.listener(offer!("chromium_recvonly"));
        sim.connect();
        sim.peers[publisher].feed(Kind::Video).two_byte = true;
        Field { sim, publisher, listener, frame: 0, seen: 0 }
    }

    /// Publishes a picture of two layer frames of a packet each. Gives what the listener gets: markers and payloads.
    fn picture(&mut self, keyframe: bool) -> Vec<(bool, Vec<u8>)> {
        let publisher = &mut self.sim.peers[self.publisher];
        publisher.feed(Kind::Video).timestamp += 3000;
        for spatial in 0..2_u8 {
            self.frame += 1;
            let template = 5 + 2 * spatial + u8::from(!keyframe);
            let begins = keyframe && spatial == 0;
            let said = if begins { structure(self.frame) } else { descriptor(template, self.frame) };
            publisher.feed(Kind::Video).dependency = Some(said);
            let payload = [0x10 | u8::from(begins) << 3, 0x34, spatial << 3, 0xab];
            publisher.publish(Kind::Video, &payload, spatial == 1);
        }
        self.sim.run(ms(33));
        let got = self.sim.peers[self.listener].got_media(Kind::Video);
        let new = got[self.seen..].iter().map(|got| (got.marker, got.payload.clone())).collect();
        self.seen = got.len();
        new
    }
}

#[test]
fn layers_of_av1_are_known_by_the_descriptor_and_joined_for_who_gets_none() {
    let mut field = Field::new();
    let joined = |head: u8| {
        let base = (false, vec![head | 0x40, 0x34, 0, 0xab]);
        vec![base, (true, vec![0xa0, 0, 0x34, 8, 0xab])]
    };
    assert_eq!(field.picture(true), joined(0x18));
    // What flows has to be known.
    for _ in 0..40 {
        assert_eq!(field.picture(false), joined(0x10));
    }
    let session = field.sim.peers[field.listener].session;
    let spatial = Some(SpatialLayer(0));
    field.sim.tell(&Command::Wish { session, wish: Wish::UpTo(Bound { spatial, ..Bound::default() }) });
    for _ in 0..10 {
        let got = field.picture(false);
        assert_eq!(got, [(true, vec![0x10, 0x34, 0, 0xab])], "the base alone is a picture");
    }
    field.sim.tell(&Command::Wish { session, wish: Wish::default() });
    assert_eq!(field.picture(false).len(), 1, "not before a keyframe");
    assert_eq!(field.picture(true), joined(0x18));
    assert!(is_continuous(&field.sim, field.listener, Kind::Video));
    let got = field.sim.peers[field.listener].got_media(Kind::Video);
    assert!(got.iter().flat_map(|got| &got.extensions).all(|(_, value)| value.len() <= 3), "no descriptor");
}

#[test]
fn a_descriptor_that_names_what_never_came_is_of_the_base() {
    let mut field = Field::new();
    field.picture(true);
    field.sim.peers[field.publisher].feed(Kind::Video).timestamp += 3000;
    for value in [vec![], vec![0xff], descriptor(60, 9), vec![0xff; 40]] {
        field.sim.peers[field.publisher].feed(Kind::Video).dependency = Some(value);
        field.sim.peers[field.publisher].publish(Kind::Video, &[0x10, 0x34, 0, 7], false);
    }
    field.sim.run(ms(33));
    let got = field.sim.peers[field.listener].got_media(Kind::Video);
    let last: Vec<&[u8]> = got[field.seen..].iter().map(|got| &got.payload[..]).collect();
    assert_eq!(last, [[0x10, 0x34, 0, 7]; 4]);
}
