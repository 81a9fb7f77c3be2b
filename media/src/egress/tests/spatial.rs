//! Spatial and temporal layers of one encoding, thinned for one listener: what it gets looks like an encoding that has no
//! more than that.

use super::*;
use crate::rtp::descriptor::{SpatialLayer, summary::Summary};

/// One encoding of VP9 or AV1 in three spatial and three temporal layers.
struct Svc {
    codec: Codec,
    sequence: u16,
    timestamp: u32,
    picture: u16,
    tl0: u8,
    /// Of the picture within its group of four.
    at: usize,
    key: bool,
    /// Upper layers refer to lower ones in keyframes alone (L3T3_KEY).
    key_only: bool,
    /// Layer frames name what they refer to (F).
    flexible: bool,
}

const SPATIAL: u8 = 3;
const TEMPORAL: [u8; 4] = [0, 2, 1, 2];

impl Svc {
    fn new(codec: Codec, key_only: bool, flexible: bool) -> Svc {
        let (sequence, timestamp, picture) = (65_500, u32::MAX - 50_000, 0x7ff0);
        Svc { codec, sequence, timestamp, picture, tl0: 250, at: 0, key: true, key_only, flexible }
    }

    /// The packets of the next picture, up to three of each layer frame.
    fn picture(&mut self, packets: usize, now: Instant) -> Vec<Packet> {
        let key = std::mem::take(&mut self.key);
        self.at = if key { 0 } else { (self.at + 1) % 4 };
        let temporal = TEMPORAL[self.at];
        self.picture = self.picture.wrapping_add(1) & 0x7fff;
        self.tl0 = self.tl0.wrapping_add(u8::from(temporal == 0));
        self.timestamp = self.timestamp.wrapping_add(3000);
        let mut out = Vec::new();
        for spatial in 0..SPATIAL {
            for packet in 0..packets {
                let (first, last) = (packet == 0, packet + 1 == packets);
                let said = Description {
                    layer_begins: first,
                    layer_ends: last,
                    switch_up: true,
                    spatial: SpatialLayer(spatial),
                    temporal: TemporalLayer(temporal),
                    ..Description::default()
                };
                let canonical = Canonical {
                    codec: self.codec,
                    marker: last && spatial + 1 == SPATIAL,
                    sequence: self.sequence,
                    timestamp: self.timestamp,
                    audio_level: None,
                    orientation: None,
                    dependency: (self.codec == Codec::Av1).then(|| Summary::new(&said, None, None)),
                };
                self.sequence = self.sequence.wrapping_add(1);
                let mut buffer = BytesMut::new();
                canonical.write(&mut buffer);
                let flag = |is: bool, at: u8| u8::from(is) << at;
                let structure = key && first && spatial == 0;
                if self.codec == Codec::Av1 {
                    // Z, Y, W of 1, N; then a frame, of which these are some octets.
                    buffer.put_u8(flag(!first, 7) | flag(!last, 6) | 0x10 | flag(structure, 3));
                    buffer.put_slice(&[0x34, temporal << 5 | spatial << 3]);
                    buffer.resize(buffer.len() + 40, spatial);
                    out.push(Packet::from_parts(canonical, buffer, 0, now));
                    continue;
                }
                let head = 0xa0
                    | flag(!key, 6)
                    | flag(self.flexible, 4)
                    | flag(first, 3)
                    | flag(last, 2)
                    | flag(structure, 1);
                buffer.put_u8(head);
                buffer.put_u16(0x8000 | self.picture);
                let inter_layer = spatial > 0 && (key || !self.key_only);
                buffer.put_u8(temporal << 5 | 0x10 | spatial << 1 | u8::from(inter_layer));
                if !self.flexible {
                    buffer.put_u8(self.tl0);
                } else if !key {
                    buffer.put_u8([4, 1, 2, 1][self.at] << 1);
                }
                if structure {
                    buffer.put_u8((SPATIAL - 1) << 5 | 0x10);
                    for size in 0..SPATIAL {
                        buffer.put_u16(320 << size);
                        buffer.put_u16(180 << size);
                    }
                }
                buffer.resize(buffer.len() + 40, spatial);
                out.push(Packet::from_parts(canonical, buffer, 0, now));
            }
        }
        out
    }
}

/// What a decoder has got.
struct Decoder {
    codec: Codec,
    /// The highest spatial layer of the picture before.
    top: Option<u8>,
    pictures: usize,
    tops: BTreeMap<u8, usize>,
}

impl Decoder {
    fn new(codec: Codec) -> Decoder {
        Decoder { codec, top: None, pictures: 0, tops: BTreeMap::new() }
    }

    fn describe(&self, got: &Got) -> Description {
        if self.codec != Codec::Av1 {
            return describe(self.codec, &got.payload, got.marker).expect("readable");
        }
        // A seam is an OBU of no length before the one that begins.
        let seam = got.payload[0] & 0xb0 == 0xa0 && got.payload[1] == 0;
        let obu = &got.payload[if seam { 2 } else { 1 }..];
        Description {
            keyframe: got.payload[0] & 0x08 != 0,
            layer_begins: seam || got.payload[0] & 0x80 == 0,
            layer_ends: true,
            spatial: SpatialLayer(obu[1] >> 3 & 0x03),
            temporal: TemporalLayer(obu[1] >> 5),
            ..Description::default()
        }
    }

    /// The packets of one picture, as they were received. Gives its highest layers.
    fn decode(&mut self, packets: &[Got]) -> (u8, u8) {
        let said: Vec<Description> = packets.iter().map(|got| self.describe(got)).collect();
        let top = said.iter().map(|said| said.spatial.0).max().expect("a packet");
        for spatial in 0..=top {
            let of: Vec<&Description> = said.iter().filter(|said| said.spatial.0 == spatial).collect();
            assert!(of.first().is_some_and(|said| said.layer_begins), "layer {spatial} of {said:?}");
            assert!(of.last().is_some_and(|said| said.layer_ends), "layer {spatial} of {said:?}");
        }
        let markers: Vec<bool> = packets.iter().map(|got| got.marker).collect();
        let (last, before) = markers.split_last().expect("a packet");
        assert!(
            *last && before.iter().all(|marker| !marker),
            "the marker is on the last packet: {markers:?}"
        );
        if self.codec == Codec::Av1 {
            let unfinished = |got: &Got| got.payload[0] & 0x40 != 0;
            let goes_on = |got: &Got| got.payload[0] & 0x80 != 0;
            assert!(packets.windows(2).all(|pair| unfinished(&pair[0]) && goes_on(&pair[1])), "one frame");
            assert!(!goes_on(&packets[0]) && !unfinished(&packets[packets.len() - 1]));
        }
        assert!(said[0].keyframe || self.top.is_some_and(|before| top <= before), "up at a keyframe alone");
        self.top = Some(top);
        self.pictures += 1;
        *self.tops.entry(top).or_default() += 1;
        (top, said[0].temporal.0)
    }
}

/// A number below `end`, of a seeded generator (xorshift).
fn random(seed: &mut u64, end: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % end
}

/// What the packets of a picture become in the ring, ready to be sent.
fn taken(track: &mut Track, packets: Vec<Packet>, now: Instant) -> Vec<u64> {
    for packet in packets {
        track.handle_packet(packet, now);
    }
    let mut numbers = Vec::new();
    track.take_pending(&mut numbers, now + Duration::from_millis(2));
    numbers.iter().for_each(|number| track.ring_mut().fix_padding(*number, 0));
    numbers
}

fn switches(mut source: Svc, rtx: bool, mut seed: u64) {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    let mut now = Instant::now();
    let (mut estimator, mut receiver) = (Estimator::new(true, now), Receiver::new());
    let (mut batch, mut track, id) = (Batch::default(), Track::new(Kind::Video), TrackId(0));
    let mut egress = Egress::new(&plan(source.codec, rtx), id);
    let (mut decoder, mut most) = (Decoder::new(source.codec), Extent::ALL);
    let (mut last, mut switches, mut waited): (Option<Got>, u32, u32) = (None, 0, 0);
    while switches < 1000 {
        if random(&mut seed, 4) == 0 {
            let layer = |seed: &mut u64| [0, 1, 2, u8::MAX][random(seed, 4) as usize];
            most =
                Extent { spatial: SpatialLayer(layer(&mut seed)), temporal: TemporalLayer(layer(&mut seed)) };
            egress.set_layers(most);
            switches += 1;
        }
        // As where a keyframe is asked for.
        waited = if egress.waits_for_layer(SpatialLayer(SPATIAL - 1)) { waited + 1 } else { 0 };
        source.key |= waited == 3;
        let mut before = egress.extent();
        let packets = source.picture(1 + random(&mut seed, 3) as usize, now);
        let key = packets[0].description.keyframe;
        for number in taken(&mut track, packets, now) {
            let (packet, padding) = track.ring().get(number).expect("it has come");
            if last.is_none() && packet.description.keyframe {
                egress.start((id, number), packet, [None, None], now);
                before = egress.extent();
            }
            egress.send((id, number), packet, padding, &mut receiver.way(&mut estimator, &mut batch, now));
        }
        let got = receiver.open(&mut batch);
        for got in &got {
            if let Some(last) = &last {
                assert_eq!(got.sequence, last.sequence.wrapping_add(1), "no hole");
                assert!(got.timestamp.wrapping_sub(last.timestamp) < 1 << 31, "time does not step back");
            }
            last = Some(got.clone());
        }
        if !got.is_empty() {
            let (top, temporal) = decoder.decode(&got);
            let sent = egress.extent();
            assert!(top <= sent.spatial.0 && temporal <= sent.temporal.0, "{top} {temporal} of {sent:?}");
            assert!(top <= most.spatial.0 && temporal <= most.temporal.0, "{top} {temporal} of {most:?}");
            assert!(key || top == sent.spatial.0.min(SPATIAL - 1), "all that is sent: {before:?}");
        }
        if let Some(missed) = egress.missed_at(random(&mut seed, 30)) {
            // What is sealed twice under one number is compared by the receiver.
            let ring = track.ring();
            egress.repair(missed, ring, &mut receiver.way(&mut estimator, &mut batch, now));
            receiver.open(&mut batch);
        }
        now += Duration::from_millis(33);
    }
    let Decoder { pictures, tops, .. } = decoder;
    assert!(pictures > 2000 && tops.len() == 3, "{tops:?} of {pictures}");
    assert!(tops.values().all(|pictures| *pictures > 200), "{tops:?}");
}

#[test]
fn a_thousand_switches_among_the_layers_of_vp9() {
    for (at, key_only) in [false, true].into_iter().enumerate() {
        for flexible in [false, true] {
            for rtx in [false, true] {
                switches(Svc::new(Codec::Vp9, key_only, flexible), rtx, 0x9e37_79b9_7f4a_7c15 + at as u64);
            }
        }
    }
}

#[test]
fn a_thousand_switches_among_the_layers_of_av1() {
    for rtx in [false, true] {
        switches(Svc::new(Codec::Av1, false, false), rtx, 0x2545_f491_4f6c_dd1d);
    }
}

#[test]
fn a_repair_has_the_marker_that_was_sent() {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    let now = Instant::now();
    let (mut estimator, mut receiver) = (Estimator::new(true, now), Receiver::new());
    let (mut batch, mut track, id) = (Batch::default(), Track::new(Kind::Video), TrackId(0));
    let mut egress = Egress::new(&plan(Codec::Vp9, true), id);
    let mut source = Svc::new(Codec::Vp9, false, true);
    let mut sent = Vec::new();
    for picture in 0..30_u8 {
        egress.set_layers(Extent { spatial: SpatialLayer(2 - picture / 10), ..Extent::ALL });
        for number in taken(&mut track, source.picture(2, now), now) {
            let (packet, padding) = track.ring().get(number).expect("it has come");
            if picture == 0 && packet.description.keyframe {
                egress.start((id, number), packet, [None, None], now);
            }
            egress.send((id, number), packet, padding, &mut receiver.way(&mut estimator, &mut batch, now));
        }
        sent.extend(receiver.open(&mut batch));
    }
    assert_eq!(sent.len(), 10 * (6 + 4 + 2));
    assert_eq!(sent.iter().filter(|got| got.marker).count(), 30);
    for (back, first) in sent.iter().rev().enumerate() {
        let missed = egress.missed_at(back as u64).expect("it is known");
        egress.repair(missed, track.ring(), &mut receiver.way(&mut estimator, &mut batch, now));
        for again in receiver.open(&mut batch) {
            assert_eq!((again.marker, again.timestamp), (first.marker, first.timestamp));
            assert_eq!(again.payload[..2], first.sequence.to_be_bytes());
            assert_eq!(again.payload[2..], first.payload);
        }
    }
}
