//! Which of a picture's encodings stands for the whole picture, for neighbors that know of no encodings: the best one
//! that lives. It changes at keyframes only, at once away from one that is dormant, and to a better one only after
//! that has proven itself. Whom the packets are for, and under which epoch, is the business of `ingest` and `worker`.

use std::time::{Duration, Instant};

use super::{
    encoding::{Encoding, EncodingView},
    source::Turn,
};
use crate::rtp::packet::Packet;

/// The encodings of a picture, and the one that stands for it.
#[derive(Debug)]
pub(super) struct Whole {
    encodings: Vec<Encoding>,
    chosen: Option<Chosen>,
    look_at: Instant,
    asked: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Chosen {
    encoding: usize,
    /// Of the encoding: another one is a new start of the whole too.
    epoch: u8,
}

/// A better encoding has to come for so long: one that a publisher has just begun it may stop again.
const PROVEN: Duration = Duration::from_secs(4);
/// How often is looked whether another one should be chosen.
const LOOK: Duration = Duration::from_millis(100);
/// Between two requests for the keyframe at which the choice changes.
const ASK: Duration = Duration::from_millis(500);

impl Whole {
    /// Nothing has come of so many encodings yet.
    pub(super) fn new(encodings: usize, now: Instant) -> Whole {
        let encodings = (0..encodings).map(|_| Encoding::new(now)).collect();
        Whole { encodings, chosen: None, look_at: now, asked: None }
    }

    /// A packet of an encoding came, behind one of our own with parameter sets where it lacked them. Says whether it
    /// is of the whole picture too, and whether that starts anew with it.
    pub(super) fn handle_packet(
        &mut self,
        encoding: usize,
        sets: Option<&Packet>,
        packet: &Packet,
        now: Instant,
    ) -> Turn {
        let before = self.chosen;
        // Before this packet, because a dormant one may come back with it.
        let lives = before.is_some_and(|chosen| self.encodings[chosen.encoding].is_alive(now));
        let may_begin = self.encodings[encoding].handle_packet(sets, packet, now);
        let now_it_is = match before {
            Some(chosen) if chosen.encoding == encoding => true,
            Some(chosen) if lives => may_begin && self.wins(encoding, chosen.encoding, now),
            _ => may_begin,
        };
        if !now_it_is {
            return Turn::Aside;
        }
        let chosen = Chosen { encoding, epoch: packet.epoch };
        self.chosen = Some(chosen);
        if before == Some(chosen) { Turn::Current } else { Turn::Anew }
    }

    /// The encoding that stands for the whole.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.chosen.map(|chosen| chosen.encoding)
    }

    /// When [`Whole::poll_keyframe`] wants to be asked; never if there is no choice.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (self.encodings.len() > 1).then_some(self.look_at)
    }

    /// The encoding that should be chosen and cannot before its next keyframe, if that is to be asked for now.
    pub(super) fn poll_keyframe(&mut self, now: Instant) -> Option<usize> {
        if self.encodings.len() < 2 || self.look_at > now {
            return None;
        }
        self.look_at = now + LOOK;
        let waits = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < ASK);
        let better = self.better(now).filter(|_| !waits)?;
        self.asked = Some(now);
        Some(better)
    }

    /// How the encodings are, each under its name.
    pub(super) fn poll_views<'r>(
        &mut self,
        rids: impl Iterator<Item = Option<&'r str>>,
        now: Instant,
    ) -> Vec<EncodingView> {
        self.encodings.iter_mut().zip(rids).map(|(encoding, rid)| encoding.poll_view(rid, now)).collect()
    }

    /// The encoding that should stand for the whole instead of the one that does.
    fn better(&mut self, now: Instant) -> Option<usize> {
        let chosen = self.chosen().filter(|chosen| self.encodings[*chosen].is_alive(now));
        let least = if chosen.is_some() { PROVEN } else { Duration::ZERO };
        let mut best = None;
        for encoding in 0..self.encodings.len() {
            if self.encodings[encoding].age(now).is_some_and(|age| age >= least) {
                best = best.max(Some((self.rank(encoding, now), encoding)));
            }
        }
        let (_, best) = best?;
        match chosen {
            Some(chosen) => self.wins(best, chosen, now).then_some(best),
            None => Some(best),
        }
    }

    /// Whether an encoding should take the place of another one that lives: it has proven itself and shows more. Where
    /// sizes do not tell, it has to bring half as much again, because rates go up and down.
    fn wins(&mut self, encoding: usize, chosen: usize, now: Instant) -> bool {
        if self.encodings[encoding].age(now).is_none_or(|age| age < PROVEN) {
            return false;
        }
        let ((size, rate), (chosen_size, chosen_rate)) = (self.rank(encoding, now), self.rank(chosen, now));
        if size == chosen_size { rate > chosen_rate + chosen_rate / 2 } else { size > chosen_size }
    }

    /// By size, and by rate where that is the same or that of one is not known.
    fn rank(&mut self, encoding: usize, now: Instant) -> (u32, u64) {
        let mut live = self.encodings.iter().filter(|encoding| encoding.is_alive(now));
        let sizes_are_known = live.all(|encoding| encoding.pixels().is_some());
        let encoding = &mut self.encodings[encoding];
        let size = encoding.pixels().filter(|_| sizes_are_known).unwrap_or_default();
        (size, encoding.bits_per_second(now))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use protocol::Codec;

    use super::*;
    use crate::rtp::packet::Canonical;

    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A stage of encodings that send 25 pictures a second.
    struct Stage {
        whole: Whole,
        now: Instant,
        timestamp: u32,
        /// Which encodings send, with how many octets in a picture.
        sends: [Option<usize>; 3],
        /// Whether pictures say their size: that of the last one is the largest.
        sizes: bool,
        /// Whether keyframe requests are answered.
        answers: bool,
        keyframe_of: Option<usize>,
        asked: Vec<(usize, Instant)>,
        starts: Vec<(usize, Instant)>,
    }

    impl Stage {
        fn new(sizes: bool) -> Stage {
            let now = start();
            Stage {
                whole: Whole::new(3, now),
                now,
                timestamp: 0,
                sends: [Some(100), Some(400), Some(1100)],
                sizes,
                answers: true,
                keyframe_of: None,
                asked: Vec::new(),
                starts: Vec::new(),
            }
        }

        fn packet(&self, encoding: usize, keyframe: bool) -> Packet {
            let codec = Codec::Vp8;
            let canonical = Canonical {
                codec,
                marker: true,
                sequence: (self.timestamp / 3600) as u16,
                timestamp: self.timestamp,
                audio_level: None,
                orientation: None,
                dependency: None,
            };
            let mut buffer = BytesMut::new();
            canonical.write(&mut buffer);
            buffer.extend_from_slice(&[0x10, u8::from(!keyframe), 0, 0]);
            let width = if self.sizes && keyframe { 160_u16 << encoding } else { 0 };
            let [low, high] = width.to_le_bytes();
            let start = if width > 0 { [0x9d, 0x01, 0x2a] } else { [0; 3] };
            buffer.extend_from_slice(&start);
            buffer.extend_from_slice(&[low, high, low, high]);
            buffer.resize(buffer.len() + self.sends[encoding].unwrap_or_default(), 0);
            Packet::from_parts(canonical, buffer, 0, self.now)
        }

        fn play(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                let keyframe_of = self.keyframe_of.take();
                for encoding in (0..3).filter(|encoding| self.sends[*encoding].is_some()).collect::<Vec<_>>()
                {
                    let packet = self.packet(encoding, self.timestamp == 0 || keyframe_of == Some(encoding));
                    if self.whole.handle_packet(encoding, None, &packet, self.now) == Turn::Anew {
                        self.starts.push((encoding, self.now));
                    }
                }
                if let Some(asked) = self.whole.poll_keyframe(self.now) {
                    self.asked.push((asked, self.now));
                    self.keyframe_of = Some(asked).filter(|_| self.answers);
                }
                self.now += Duration::from_millis(40);
                self.timestamp += 3600;
            }
        }
    }

    #[test]
    fn the_first_that_can_be_decoded_is_taken_at_once_and_the_best_after_four_seconds() {
        for sizes in [true, false] {
            let mut stage = Stage::new(sizes);
            let began = stage.now;
            stage.play(Duration::from_secs(20));
            let starts: Vec<_> =
                stage.starts.iter().map(|(encoding, at)| (*encoding, (*at - began).as_secs())).collect();
            assert_eq!(starts, [(0, 0), (2, 4)], "sizes: {sizes}");
            assert_eq!(stage.asked.len(), 1);
        }
    }

    #[test]
    fn a_dormant_one_is_left_at_the_next_keyframe_of_the_best_that_lives() {
        let mut stage = Stage::new(true);
        stage.play(Duration::from_secs(6));
        stage.sends[2] = None;
        let ended = stage.now;
        stage.play(Duration::from_secs(10));
        let (encoding, at) = *stage.starts.last().expect("a start");
        assert_eq!(encoding, 1);
        assert!(at - ended < Duration::from_millis(1300), "{:?}", at - ended);
        stage.sends[2] = Some(1100);
        let back = stage.now;
        stage.play(Duration::from_secs(10));
        let (encoding, at) = *stage.starts.last().expect("a start");
        assert_eq!((encoding, (at - back).as_secs()), (2, 4));
        assert_eq!(stage.starts.len(), 4);
    }

    #[test]
    fn one_that_comes_and_goes_is_not_chosen() {
        let mut stage = Stage::new(true);
        stage.sends[2] = None;
        stage.play(Duration::from_secs(6));
        let starts = stage.starts.len();
        for _ in 0..10 {
            stage.sends[2] = Some(1100);
            stage.play(Duration::from_secs(3));
            stage.sends[2] = None;
            stage.play(Duration::from_secs(2));
        }
        assert_eq!((stage.starts.len(), stage.whole.chosen()), (starts, Some(1)));
    }

    #[test]
    fn rates_that_go_up_and_down_change_nothing() {
        let mut stage = Stage::new(false);
        stage.sends = [None, Some(500), Some(600)];
        stage.play(Duration::from_secs(6));
        let starts = stage.starts.len();
        for round in 0..20 {
            stage.sends =
                if round % 2 == 0 { [None, Some(600), Some(500)] } else { [None, Some(500), Some(600)] };
            stage.keyframe_of = Some(1 + round % 2);
            stage.play(Duration::from_secs(5));
        }
        assert_eq!(stage.starts.len(), starts);
    }

    #[test]
    fn a_publisher_that_ignores_requests_is_asked_twice_a_second_at_most() {
        let mut stage = Stage::new(true);
        stage.answers = false;
        stage.play(Duration::from_secs(14));
        assert!((15..=20).contains(&stage.asked.len()), "{}", stage.asked.len());
        assert!(stage.asked.windows(2).all(|pair| pair[1].1 - pair[0].1 >= ASK));
        assert_eq!(stage.starts.len(), 1);
        stage.keyframe_of = Some(2);
        stage.play(Duration::from_secs(1));
        assert_eq!(stage.whole.chosen(), Some(2), "its own keyframe does as well");
    }

    #[test]
    fn a_picture_is_not_begun_in_its_middle() {
        let mut stage = Stage::new(true);
        stage.play(Duration::from_millis(40));
        let mut encoding = Encoding::new(stage.now);
        let packet = stage.packet(0, true);
        assert!(encoding.handle_packet(None, &packet, stage.now));
        let behind = |sequence: u16, timestamp| Packet { sequence, timestamp, ..packet.clone() };
        let more = behind(packet.sequence + 1, packet.timestamp);
        assert!(!encoding.handle_packet(None, &more, stage.now), "another packet of the same picture");
        let next = behind(packet.sequence + 4, packet.timestamp + 9000);
        assert!(encoding.handle_packet(None, &next, stage.now));
        let late = behind(packet.sequence + 3, packet.timestamp + 6000);
        assert!(!encoding.handle_packet(None, &late, stage.now), "what follows was before");
    }

    #[test]
    fn a_new_start_of_the_chosen_one_is_one_of_the_whole() {
        let mut stage = Stage::new(true);
        stage.play(Duration::from_secs(1));
        let packet = Packet { epoch: 1, ..stage.packet(0, false) };
        assert_eq!(stage.whole.handle_packet(0, None, &packet, stage.now), Turn::Anew);
        assert_eq!(stage.whole.handle_packet(0, None, &packet, stage.now), Turn::Current);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_of_the_whole_only_if_it_is_of_the_chosen_one(
            packets in proptest::collection::vec((0usize..3, any::<bool>(), 0u64..2000, 0usize..3), 0..200),
        ) {
            let mut stage = Stage::new(true);
            for (encoding, keyframe, pause, epoch) in packets {
                stage.now += Duration::from_millis(pause);
                stage.timestamp += 3600;
                let packet = Packet { epoch: epoch as u8, ..stage.packet(encoding, keyframe) };
                let before = stage.whole.chosen();
                let turn = stage.whole.handle_packet(encoding, None, &packet, stage.now);
                prop_assert_eq!(turn != Turn::Aside, stage.whole.chosen() == Some(encoding));
                prop_assert!(stage.whole.chosen() == before || (keyframe && turn == Turn::Anew));
                let asked = stage.whole.poll_keyframe(stage.now);
                prop_assert!(asked.is_none_or(|asked| Some(asked) != stage.whole.chosen()
                    && stage.whole.encodings[asked].is_alive(stage.now)));
            }
        }
    }
}
