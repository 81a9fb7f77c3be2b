//! A listener that is turned from encoding to encoding and from layer to layer at random, in all codecs: what it
//! gets has to look as if one source had sent it.

mod latecomers;
mod merged;
mod pacing;
mod red;
mod shallow;
mod spatial;
mod stage;

use std::{collections::BTreeMap, time::Duration};

use bytes::{BufMut, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{
    rtp::{
        Header as RtpHeader,
        descriptor::{Description, describe},
        packet::Canonical,
        srtp::{Opener, SrtpProfile},
    },
    sdp::{EgressTrack, ExtensionIds, Feedback, NegotiatedCodec},
    track::{Track, Tracks},
};

const MEDIA: u8 = 96;
const RTX: u8 = 97;
const TRANSPORT_CC: u8 = 3;

/// One encoding of a publisher, with or without two temporal layers.
struct Source {
    codec: Codec,
    track: TrackId,
    sequence: u16,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    key: bool,
    upper: bool,
    /// Every other picture may be left out.
    layered: bool,
}

impl Source {
    /// The packets of the next picture.
    fn picture(&mut self, packets: usize, now: Instant) -> Vec<Packet> {
        let key = std::mem::take(&mut self.key);
        self.upper = self.layered && !key && !self.upper && self.codec != Codec::H264;
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(u8::from(!self.upper));
        self.timestamp = self.timestamp.wrapping_add(3000);
        let layer = u8::from(self.upper);
        (0..packets)
            .map(|packet| {
                let (first, last) = (packet == 0, packet + 1 == packets);
                let canonical = Canonical {
                    codec: self.codec,
                    marker: last,
                    sequence: self.sequence,
                    timestamp: self.timestamp,
                    audio_level: None,
                    orientation: None,
                    dependency: None,
                };
                self.sequence = self.sequence.wrapping_add(1);
                let mut buffer = BytesMut::new();
                canonical.write(&mut buffer);
                match self.codec {
                    Codec::Vp8 => {
                        buffer.put_slice(&[0x80 | u8::from(first) << 4, 0xe0]);
                        buffer.put_u16(0x8000 | self.picture);
                        buffer.put_slice(&[self.tl0, layer << 6 | 0x20, u8::from(!key)]);
                    }
                    Codec::Vp9 => {
                        let head = 0xa0 | u8::from(!key) << 6 | u8::from(first) << 3 | u8::from(last) << 2;
                        buffer.put_u8(head);
                        buffer.put_u16(0x8000 | self.picture);
                        buffer.put_slice(&[layer << 5 | 0x10, self.tl0]);
                    }
                    _ => buffer.put_u8(if key { 0x65 } else { 0x41 }),
                }
                buffer.put_u8(self.track.0 as u8);
                buffer.put_u8(packet as u8);
                buffer.resize(buffer.len() + 40, 0x55);
                Packet::from_parts(canonical, buffer, 0, now)
            })
            .collect()
    }
}

/// What a listener opened.
#[derive(Debug, Clone, PartialEq)]
struct Got {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

struct Receiver {
    sealer: Sealer,
    key: [u8; 16],
    salt: [u8; 12],
    /// By SSRC and sequence number: no run here is so long that one comes again.
    sealed: BTreeMap<(u32, u16), Vec<u8>>,
}

impl Receiver {
    fn new() -> Receiver {
        let (key, salt) = ([7; 16], [9; 12]);
        let sealer = Sealer::new(SrtpProfile::AeadAes128Gcm, &key, &salt).expect("keys");
        Receiver { sealer, key, salt, sealed: BTreeMap::new() }
    }

    fn way<'a>(&'a self, path: &'a mut Estimator, batch: &'a mut Batch, now: Instant) -> Way<'a> {
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        Way { sealer: &self.sealer, to, path: Some(path), batch, now }
    }

    /// Opens what is in the batch.
    fn open(&mut self, batch: &mut Batch) -> Vec<Got> {
        let mut out = Vec::new();
        for run in batch.runs() {
            for datagram in batch.bytes(run).chunks(run.segment) {
                let header = RtpHeader::parse(datagram).expect("RTP");
                let before = self.sealed.insert((header.ssrc, header.sequence), datagram.to_vec());
                assert!(before.is_none_or(|before| before == datagram), "one number, two packets");
                let mut plain = BytesMut::new();
                Opener::new(SrtpProfile::AeadAes128Gcm, &self.key, &self.salt)
                    .expect("keys")
                    .open_rtp(datagram, &header, &mut plain)
                    .expect("authentic");
                let len = header.payload_len(&plain).expect("padding that fits");
                let payload = plain[..len].to_vec();
                let RtpHeader { ssrc, sequence, timestamp, marker, .. } = header;
                out.push(Got { ssrc, sequence, timestamp, marker, payload });
            }
        }
        batch.clear();
        out
    }
}

fn plan(codec: Codec, rtx: bool) -> EgressTrack {
    EgressTrack {
        kind: Kind::Video,
        mid: "1".into(),
        codecs: vec![NegotiatedCodec {
            codec,
            payload_type: MEDIA,
            rtx: rtx.then_some(RTX),
            red: None,
            profile_level_id: None,
        }],
        ssrc: 1,
        rtx_ssrc: 2,
        extensions: ExtensionIds { transport_cc: Some(TRANSPORT_CC), ..ExtensionIds::default() },
        feedback: Feedback::default(),
    }
}

/// What happens between two pictures.
#[derive(Debug, Clone)]
enum Act {
    Turn(u8),
    Layers(u8),
    Pause,
    Key(u8),
    Nack(u8),
    Probe,
    Nothing,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => (0..3_u8).prop_map(Act::Turn),
        1 => (0..2_u8).prop_map(Act::Layers),
        1 => Just(Act::Pause),
        4 => (0..3_u8).prop_map(Act::Key),
        2 => (0..40_u8).prop_map(Act::Nack),
        1 => Just(Act::Probe),
        6 => Just(Act::Nothing),
    ]
}

/// Plays a run. Of the publisher's packets those that `late` says come behind the rest of their picture. Gives what the
/// listener got under the media's own SSRC, in the order of sending, and how often it changed sources.
fn play(codec: Codec, layered: bool, rtx: bool, acts: &[Act], late: &[bool]) -> (Vec<Got>, usize) {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    let mut now = Instant::now();
    let mut estimator = Estimator::new(true, now);
    let mut receiver = Receiver::new();
    let mut batch = Batch::default();
    let mut tracks = Tracks::new();
    let mut sources: Vec<Source> = (0..3)
        .map(|at: u16| Source {
            codec,
            layered,
            track: TrackId(u32::from(at)),
            sequence: 65_500_u16.wrapping_add(7 * at),
            timestamp: u32::MAX - 30_000 * u32::from(at),
            picture: 0x7ff0 + at,
            tl0: 250 + at as u8,
            key: true,
            upper: false,
        })
        .collect();
    // None of the encodings is the track as a whole.
    let mut egress = Egress::new(&plan(codec, rtx), TrackId(9));
    egress.turn_to(TrackId(0), Extent::ALL);
    let (mut out, mut turns) = (Vec::new(), 0);
    for (at, act) in acts.iter().enumerate() {
        match act {
            Act::Turn(to) => drop(egress.turn_to(TrackId((*to).into()), Extent::ALL)),
            Act::Layers(most) => egress.set_layers(Extent { temporal: TemporalLayer(*most), ..Extent::ALL }),
            Act::Pause => egress.handle_anew(TrackId(0)),
            Act::Key(of) => sources[usize::from(*of)].key = true,
            Act::Nack(_) | Act::Probe | Act::Nothing => {}
        }
        for source in &mut sources {
            let (id, mut packets) = (source.track, source.picture(1 + at % 3, now));
            if late.get(at).is_some_and(|late| *late) && !packets[0].description.keyframe {
                packets.sort_by_key(|packet| packet.sequence.is_multiple_of(2));
            }
            for packet in packets {
                let begins = packet.description.keyframe;
                let track = tracks.entry(id).or_insert_with(|| Track::new(Kind::Video));
                track.handle_packet(packet, now);
                let mut numbers = Vec::new();
                track.take_pending(&mut numbers, now + Duration::from_millis(2));
                for number in numbers {
                    track.ring_mut().fix_padding(number, 0);
                    let Some((packet, padding)) = track.ring().get(number) else { continue };
                    if egress.role(id) == Role::NextSource && begins {
                        egress.start((id, number), packet, [None, None], now);
                        turns += 1;
                    }
                    let mut way = receiver.way(&mut estimator, &mut batch, now);
                    egress.send((id, number), packet, padding, &mut way);
                }
            }
        }
        out.extend(receiver.open(&mut batch).into_iter().filter(|got| got.ssrc == 1));
        if let Act::Nack(back) = act
            && let Some(missed) = egress.missed_at((*back).into())
            && let Some(track) = tracks.get(&missed.track)
        {
            egress.repair(missed, track.ring(), &mut receiver.way(&mut estimator, &mut batch, now));
            for again in receiver.open(&mut batch) {
                let (sequence, payload) = match again.ssrc {
                    2 => (u16::from_be_bytes([again.payload[0], again.payload[1]]), &again.payload[2..]),
                    _ => (again.sequence, &again.payload[..]),
                };
                if let Some(first) = out.iter().rev().find(|got: &&Got| got.sequence == sequence) {
                    assert_eq!((&first.payload[..], first.timestamp), (payload, again.timestamp));
                }
            }
        }
        if matches!(act, Act::Probe) {
            let ring = tracks.get(&TrackId(0)).map(Track::ring);
            egress.probe(0, (1, 1500), ring, &mut receiver.way(&mut estimator, &mut batch, now));
            assert!(receiver.open(&mut batch).iter().all(|got| got.ssrc == 2));
        }
        now += Duration::from_millis(33);
    }
    (out, turns)
}

/// One picture as it was received.
#[derive(Debug)]
struct Picture {
    timestamp: u32,
    said: Description,
    source: u8,
}

/// The pictures in what was got; of each the first packet speaks.
fn pictures(codec: Codec, got: &[Got]) -> Vec<Picture> {
    let mut pictures: Vec<Picture> = Vec::new();
    for packet in got.iter().filter(|packet| !packet.payload.is_empty()) {
        if pictures.last().is_some_and(|last| last.timestamp == packet.timestamp) {
            continue;
        }
        let said = describe(codec, &packet.payload, packet.marker).expect("readable");
        let source = packet.payload[packet.payload.len() - 42];
        pictures.push(Picture { timestamp: packet.timestamp, said, source });
    }
    pictures
}

fn check(codec: Codec, got: &[Got]) {
    for pair in got.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1), "no hole");
        assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 1 << 31, "time does not step back");
    }
    let pictures = pictures(codec, got);
    for pair in pictures.windows(2) {
        let [before, after] = pair else { continue };
        assert!(before.source == after.source || after.said.keyframe, "{codec:?} begins with a keyframe");
        let (Some(id), Some(last)) = (after.said.numbered.picture_id, before.said.numbered.picture_id) else {
            continue;
        };
        let step = id.value.wrapping_sub(last.value) & 0x7fff;
        match codec {
            Codec::Vp8 => assert_eq!(step, 1, "{before:?} {after:?}"),
            _ => assert!((1..100).contains(&step), "{before:?} {after:?}"),
        }
        let tl0 = |picture: &Picture| picture.said.numbered.tl0.expect("there").value;
        let up = u8::from(after.said.temporal == TemporalLayer(0));
        assert_eq!(tl0(after), tl0(before).wrapping_add(up), "{before:?} {after:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_comes_of_changes_looks_like_one_source(
        acts in proptest::collection::vec(act(), 1..200),
        (layered, rtx) in any::<(bool, bool)>(),
    ) {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
            let (got, _) = play(codec, layered, rtx, &acts, &[]);
            check(codec, &got);
        }
    }

    #[test]
    fn packets_that_come_late_fill_the_holes_that_were_left_for_them(
        acts in proptest::collection::vec(act(), 1..100),
        late in proptest::collection::vec(any::<bool>(), 100),
    ) {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
            let (got, _) = play(codec, true, true, &acts, &late);
            let mut sequences: Vec<u16> = got.iter().map(|got| got.sequence).collect();
            sequences.sort_unstable();
            sequences.dedup();
            prop_assert_eq!(sequences.len(), got.len(), "no number twice");
        }
    }
}

#[test]
fn a_thousand_changes_of_encoding() {
    let acts: Vec<Act> = (0..3000_u32)
        .map(|at| match at % 3 {
            0 => Act::Turn((at / 3 % 3) as u8),
            1 => Act::Key((at / 3 % 3) as u8),
            _ => Act::Layers((at / 7 % 2) as u8),
        })
        .collect();
    for codec in [Codec::Vp8, Codec::Vp9, Codec::H264] {
        for layered in [true, false] {
            let (got, turns) = play(codec, layered, true, &acts, &[]);
            check(codec, &got);
            assert!(turns >= 1000, "{turns}");
        }
    }
}

#[test]
fn pictures_that_a_link_withheld_leave_no_gap_and_what_comes_all_the_same_is_late() {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    let now = Instant::now();
    let (mut estimator, mut receiver) = (Estimator::new(true, now), Receiver::new());
    let (mut batch, mut track, id) = (Batch::default(), Track::new(Kind::Video), TrackId(0));
    let mut source = Source {
        codec: Codec::H264,
        layered: false,
        track: id,
        sequence: 65_530,
        timestamp: 0,
        picture: 0,
        tl0: 0,
        key: true,
        upper: false,
    };
    let mut egress = Egress::new(&plan(Codec::H264, true), id);
    let mut late = Vec::new();
    for at in 0..12 {
        let packets = source.picture(3, now);
        if at % 4 == 2 {
            let withheld = protocol::mesh::Withheld { first: packets[0].sequence, count: 3 };
            assert_eq!(track.handle_withheld(1, withheld), None, "of another epoch");
            let numbers = track.handle_withheld(0, withheld).expect("it has begun");
            egress.handle_withheld(TrackId(7), numbers.clone());
            egress.handle_withheld(id, numbers);
            late = packets;
            continue;
        }
        for packet in packets.into_iter().chain(late.drain(..).take(1)) {
            assert_ne!(track.handle_packet(packet, now), crate::track::Taken::Stale);
        }
        let mut numbers = Vec::new();
        track.take_pending(&mut numbers, now);
        numbers.sort_unstable();
        for number in numbers {
            let (packet, padding) = track.ring().get(number).expect("it has come");
            if at == 0 && packet.description.keyframe {
                egress.start((id, number), packet, [None, None], now);
            }
            egress.send((id, number), packet, padding, &mut receiver.way(&mut estimator, &mut batch, now));
        }
    }
    let sequences: Vec<u16> = receiver.open(&mut batch).iter().map(|got| got.sequence).collect();
    assert_eq!(sequences.len(), 27);
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
}
