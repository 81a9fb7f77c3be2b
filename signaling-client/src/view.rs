//! What somebody who watches would see, second by second: the rate, the size of the picture and its changes, temporal
//! layers, freezes, and what is strange about numbers and timestamps. Decodes nothing, and has no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use rtc::rtp::Packet;
use serde::Serialize;

use crate::descriptor::Descriptor;
use crate::histogram::round;
use crate::video::VideoCodec;

/// Without a new complete picture for so long it stutters.
const STUTTER: Duration = Duration::from_millis(200);
/// And for so long it stands.
const STANDSTILL: Duration = Duration::from_millis(500);
/// Packets whose picture may still become complete.
const REMEMBERED: i64 = 2048;
/// Pictures that are known to be complete.
const COMPLETE: usize = 64;
/// Changes of size that are remembered.
const MOST_SIZES: usize = 10_000;
/// Numbers that jump further begin anew (RFC 3550 appendix A.1).
const JUMP: i64 = 3000;

/// What was seen in one second, or in all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Second {
    /// Which, from 1; of all of them how many.
    pub second: u32,
    /// Of RTP with its headers: sound and picture.
    pub kbit_per_second: f64,
    /// Of these, the picture.
    pub picture_kbit_per_second: f64,
    /// Width and height of the picture at the end; unknown before a keyframe, and for AV1.
    pub size: Option<(u16, u16)>,
    /// How often the size changed.
    pub switches: u32,
    /// The temporal layers that were there.
    pub temporal_layers: BTreeSet<u8>,
    /// Pictures of which everything came.
    pub pictures: u32,
    /// Times of more than 200 ms without a new complete picture; each counts in the second in which it became that long.
    pub freezes_200_ms: u32,
    /// The same with 500 ms; they count above as well.
    pub freezes_500_ms: u32,
    /// Keyframes that were asked for.
    pub keyframe_requests: u32,
    /// Times that a number of the picture was left out when the next one came.
    pub gaps: u32,
    /// Packets of the picture with a later number and an earlier timestamp than the one before.
    pub steps_back: u32,
}

/// The picture and the sound of one stream.
#[derive(Debug)]
pub struct View {
    codec: Option<VideoCodec>,
    /// The source, and its highest number without wrap.
    highest: Option<(u32, i64, u32)>,
    packets: BTreeMap<i64, Piece>,
    /// Timestamps of pictures that were complete.
    complete: VecDeque<u32>,
    last_complete: Option<Instant>,
    /// Whether the freeze that goes on was counted, with 200 and with 500 ms.
    frozen: (bool, bool),
    octets: (u64, u64),
    since: Instant,
    begun: Instant,
    now: Second,
    /// When the picture became another size.
    sizes: Vec<(Instant, (u16, u16))>,
    total: Second,
    total_octets: (u64, u64),
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    timestamp: u32,
    begins: bool,
    ends: bool,
}

impl View {
    /// Nothing seen yet.
    pub fn new(now: Instant) -> Self {
        View {
            codec: None,
            highest: None,
            packets: BTreeMap::new(),
            complete: VecDeque::with_capacity(COMPLETE),
            last_complete: None,
            frozen: (false, false),
            octets: (0, 0),
            since: now,
            begun: now,
            now: Second::default(),
            sizes: Vec::new(),
            total: Second::default(),
            total_octets: (0, 0),
        }
    }

    /// The codec of the picture is known.
    pub fn set_codec(&mut self, codec: Option<VideoCodec>) {
        self.codec = codec;
    }

    /// A packet of sound of so many bytes came.
    pub fn handle_sound(&mut self, octets: usize) {
        self.octets.0 += octets as u64;
    }

    /// A packet of the picture came that was not there before, repaired or not.
    pub fn handle_picture(&mut self, packet: &Packet, octets: usize, now: Instant) {
        self.octets.1 += octets as u64;
        let header = &packet.header;
        let descriptor = self.codec.map(|codec| Descriptor::read(codec, &packet.payload)).unwrap_or_default();
        self.now.temporal_layers.extend(descriptor.temporal);
        if let Some(size) = descriptor.size
            && self.now.size != Some(size)
        {
            self.now.switches += u32::from(self.now.size.is_some());
            self.now.size = Some(size);
            if self.sizes.len() < MOST_SIZES {
                self.sizes.push((now, size));
            }
        }
        let number = self.number(header.ssrc, header.sequence_number, header.timestamp);
        let piece = Piece { timestamp: header.timestamp, begins: descriptor.begins, ends: header.marker };
        self.packets.insert(number, piece);
        while self.packets.len() as i64 > REMEMBERED {
            self.packets.pop_first();
        }
        self.handle_time(now);
        if self.is_complete(number) && !self.complete.contains(&header.timestamp) {
            if self.complete.len() == COMPLETE {
                self.complete.pop_front();
            }
            self.complete.push_back(header.timestamp);
            self.now.pictures += 1;
            self.last_complete = Some(now);
            self.frozen = (false, false);
        }
    }

    /// A keyframe was asked for.
    pub fn handle_keyframe_request(&mut self) {
        self.now.keyframe_requests += 1;
    }

    /// When the picture became which size.
    pub fn sizes(&self) -> &[(Instant, (u16, u16))] {
        &self.sizes
    }

    /// What was seen since the last time this was asked, which is meant to be a second ago.
    pub fn second(&mut self, now: Instant) -> Second {
        self.handle_time(now);
        let next = Second { size: self.now.size, ..Second::default() };
        let mut second = std::mem::replace(&mut self.now, next);
        self.total.add(&second);
        let octets = std::mem::take(&mut self.octets);
        self.total_octets.0 += octets.0;
        self.total_octets.1 += octets.1;
        second.second = self.total.second;
        second.set_rates(octets, now.saturating_duration_since(self.since));
        self.since = now;
        second
    }

    /// What was seen in all.
    pub fn total(&mut self, now: Instant) -> Second {
        let seconds = self.total.second;
        self.second(now);
        let mut total = self.total.clone();
        total.second = seconds;
        total.set_rates(self.total_octets, now.saturating_duration_since(self.begun));
        total
    }

    /// Time passes: a freeze may have become long enough to count.
    fn handle_time(&mut self, now: Instant) {
        let Some(last) = self.last_complete else { return };
        let frozen = now.saturating_duration_since(last);
        if frozen > STUTTER && !self.frozen.0 {
            self.frozen.0 = true;
            self.now.freezes_200_ms += 1;
        }
        if frozen > STANDSTILL && !self.frozen.1 {
            self.frozen.1 = true;
            self.now.freezes_500_ms += 1;
        }
    }

    /// A number without wrap; counts what is strange about it.
    fn number(&mut self, ssrc: u32, number: u16, timestamp: u32) -> i64 {
        let known = self.highest.filter(|(source, _, _)| *source == ssrc);
        let ahead = known.map(|(_, highest, _)| i64::from(number.wrapping_sub(highest as u16) as i16));
        let (Some((_, highest, before)), Some(ahead)) = (known, ahead.filter(|ahead| ahead.abs() <= JUMP))
        else {
            // Another source, or one that begins anew: what was there before is of no use.
            self.packets.clear();
            self.highest = Some((ssrc, i64::from(number), timestamp));
            return i64::from(number);
        };
        if ahead > 0 {
            self.now.gaps += u32::from(ahead > 1);
            self.now.steps_back += u32::from((timestamp.wrapping_sub(before) as i32) < 0);
            self.highest = Some((ssrc, highest + ahead, timestamp));
        }
        highest + ahead
    }

    /// Whether everything of the picture of this packet is there: from its first packet, which is known as such or follows
    /// another picture, to the one with the marker.
    fn is_complete(&self, number: i64) -> bool {
        let Some(of) = self.packets.get(&number).map(|piece| piece.timestamp) else { return false };
        let piece = |at: i64| self.packets.get(&at).filter(|piece| piece.timestamp == of);
        let ends = (number..).map_while(piece).any(|piece| piece.ends);
        let first = (0..).map(|back| number - back).take_while(|at| piece(*at).is_some()).last();
        let begins = first.is_some_and(|first| {
            piece(first).is_some_and(|piece| piece.begins) || self.packets.contains_key(&(first - 1))
        });
        ends && begins
    }
}

impl Second {
    fn add(&mut self, other: &Second) {
        self.second += 1;
        self.size = other.size;
        self.switches += other.switches;
        self.temporal_layers.extend(&other.temporal_layers);
        self.pictures += other.pictures;
        self.freezes_200_ms += other.freezes_200_ms;
        self.freezes_500_ms += other.freezes_500_ms;
        self.keyframe_requests += other.keyframe_requests;
        self.gaps += other.gaps;
        self.steps_back += other.steps_back;
    }

    fn set_rates(&mut self, (sound, picture): (u64, u64), time: Duration) {
        let rate = |octets: u64| {
            let seconds = time.as_secs_f64();
            if seconds > 0.0 { round(octets as f64 * 8.0 / 1e3 / seconds) } else { 0.0 }
        };
        self.kbit_per_second = rate(sound + picture);
        self.picture_kbit_per_second = rate(picture);
    }
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4} s  {:>6.0} kbit/s", self.second, self.kbit_per_second)?;
        match self.size {
            Some((width, height)) => write!(f, "  {width}x{height}")?,
            None => write!(f, "  -")?,
        }
        write!(f, "  {} pictures", self.pictures)?;
        if !self.temporal_layers.is_empty() {
            let layers: Vec<String> = self.temporal_layers.iter().map(u8::to_string).collect();
            write!(f, "  layers {}", layers.join(","))?;
        }
        for (count, what) in [
            (self.switches, "switches"),
            (self.freezes_200_ms, "freezes over 200 ms"),
            (self.freezes_500_ms, "over 500 ms"),
            (self.keyframe_requests, "keyframes asked for"),
            (self.gaps, "gaps"),
            (self.steps_back, "steps back"),
        ] {
            if count > 0 {
                write!(f, "  {count} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc::rtp::header::Header;

    use super::*;
    use crate::clock;

    /// Packet `number` of VP8: a picture at so many ticks; of a keyframe with its size.
    fn packet(number: u16, timestamp: u32, begins: bool, ends: bool, keyframe: Option<(u16, u16)>) -> Packet {
        let mut payload = vec![0x80 | u8::from(begins) << 4, 0xa0, 1, 0x40];
        match keyframe {
            Some((width, height)) => {
                payload.extend([0x10, 0, 0, 0x9d, 0x01, 0x2a]);
                payload.extend(width.to_le_bytes());
                payload.extend(height.to_le_bytes());
            }
            None => payload.extend([0x11, 0, 0]),
        }
        let header = Header {
            version: 2,
            marker: ends,
            sequence_number: number,
            timestamp,
            ssrc: 1,
            ..Header::default()
        };
        Packet { header, payload: payload.into() }
    }

    fn view(start: Instant) -> View {
        let mut view = View::new(start);
        view.set_codec(Some(VideoCodec::Vp8));
        view
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_picture_is_complete_with_its_last_packet_whichever_that_is() {
        let start = clock::now();
        let mut view = view(start);
        view.handle_picture(&packet(65_535, 0, true, false, Some((640, 360))), 100, start);
        view.handle_picture(&packet(1, 0, false, true, None), 100, start);
        assert_eq!(view.now.pictures, 0);
        view.handle_picture(&packet(0, 0, false, false, None), 100, start);
        view.handle_picture(&packet(2, 3000, true, true, None), 100, start);
        let second = view.second(start + ms(1000));
        assert_eq!((second.pictures, second.size, second.switches), (2, Some((640, 360)), 0));
        assert_eq!((second.gaps, second.steps_back), (1, 0));
        assert_eq!((second.kbit_per_second, second.temporal_layers), (3.2, BTreeSet::from([1])));
    }

    #[test]
    fn a_change_of_size_is_a_switch() {
        let start = clock::now();
        let mut view = view(start);
        for (number, size) in [(1, (640, 360)), (2, (640, 360)), (3, (320, 180)), (4, (640, 360))] {
            view.handle_picture(
                &packet(number, u32::from(number) * 3000, true, true, Some(size)),
                100,
                start,
            );
        }
        assert_eq!(view.second(start).switches, 2);
        assert_eq!(view.second(start).switches, 0);
        assert_eq!(view.total(start).switches, 2);
    }

    #[test]
    fn a_freeze_counts_once_and_when_it_became_long_enough() {
        let start = clock::now();
        let mut view = view(start);
        view.handle_picture(&packet(1, 0, true, true, Some((640, 360))), 100, start);
        assert_eq!(view.second(start + ms(200)).freezes_200_ms, 0);
        let second = view.second(start + ms(450));
        assert_eq!((second.freezes_200_ms, second.freezes_500_ms), (1, 0));
        // A packet that completes nothing ends nothing.
        view.handle_picture(&packet(3, 9000, false, true, None), 100, start + ms(600));
        let second = view.second(start + ms(700));
        assert_eq!((second.freezes_200_ms, second.freezes_500_ms), (0, 1));
        view.handle_picture(&packet(4, 12_000, true, true, None), 100, start + ms(800));
        view.handle_picture(&packet(5, 15_000, true, true, None), 100, start + ms(1050));
        let total = view.total(start + ms(1100));
        assert_eq!((total.freezes_200_ms, total.freezes_500_ms, total.second), (2, 1, 3));
    }

    #[test]
    fn a_timestamp_that_steps_back_is_seen_and_a_late_packet_is_none() {
        let start = clock::now();
        let mut view = view(start);
        for (number, timestamp) in [(1, 3000), (3, 9000), (2, 6000), (4, 8000)] {
            view.handle_picture(&packet(number, timestamp, true, true, None), 100, start);
        }
        let second = view.second(start);
        assert_eq!((second.steps_back, second.gaps, second.pictures), (1, 1, 4));
    }

    #[test]
    fn a_line_says_what_there_is_to_say() {
        let second = Second {
            second: 3,
            kbit_per_second: 812.4,
            size: Some((640, 360)),
            pictures: 30,
            temporal_layers: BTreeSet::from([0, 1]),
            switches: 1,
            ..Second::default()
        };
        assert_eq!(second.to_string(), "   3 s     812 kbit/s  640x360  30 pictures  layers 0,1  1 switches");
    }

    proptest! {
        #[test]
        fn any_packets_are_seen_without_panic_and_no_picture_twice(
            packets in proptest::collection::vec((any::<u16>(), 0_u32..5, any::<bool>(), any::<bool>()), 0..100)
        ) {
            let start = clock::now();
            let mut view = view(start);
            for (number, timestamp, begins, ends) in packets {
                view.handle_picture(&packet(number, timestamp, begins, ends, None), 100, start);
            }
            prop_assert!(view.second(start).pictures <= 5);
        }
    }
}
