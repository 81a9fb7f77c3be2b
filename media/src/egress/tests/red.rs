//! Packets that carry those before them: what they carry, and that none ever goes again in other octets.

use super::*;
use crate::{mending::Times, rtp::red::Red};

const SOUND: TrackId = TrackId(0);
const LOW: TrackId = TrackId(6);
const RED: u8 = 63;
const OPUS: u8 = 111;

/// A stage and one listener.
struct Hall {
    egress: Egress,
    tracks: Tracks,
    receiver: Receiver,
    path: Estimator,
    batch: Batch,
    now: Instant,
    sequence: u16,
    timestamp: u32,
    epoch: u8,
    /// How often a packet of the lowest rung was made: each is another.
    made: u8,
    lost: Vec<Packet>,
}

impl Hall {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from")]
    fn new() -> Hall {
        let now = Instant::now();
        let codecs = vec![NegotiatedCodec {
            codec: Codec::Opus,
            payload_type: OPUS,
            rtx: None,
            red: Some(RED),
            profile_level_id: None,
        }];
        let plan = EgressTrack { kind: Kind::Audio, codecs, ..plan(Codec::Opus, false) };
        Hall {
            egress: Egress::new(&plan, SOUND),
            tracks: Tracks::new(),
            receiver: Receiver::new(),
            path: Estimator::new(false, now),
            batch: Batch::default(),
            now,
            sequence: 65_500,
            timestamp: u32::MAX - 9600,
            epoch: 0,
            made: 0,
            lost: Vec::new(),
        }
    }

    fn packet(&self, first: u8, len: usize) -> Packet {
        let canonical = Canonical {
            codec: Codec::Opus,
            marker: false,
            sequence: self.sequence,
            timestamp: self.timestamp,
            audio_level: None,
            orientation: None,
            dependency: None,
        };
        let mut buffer = BytesMut::new();
        canonical.write(&mut buffer);
        let head = buffer.len();
        buffer.resize(head + len, self.made);
        buffer[head] = first;
        Packet::from_parts(canonical, buffer, self.epoch, self.now)
    }

    /// The next packet of the publisher, so long.
    fn say(&mut self, len: usize) -> Vec<Got> {
        let packet = self.packet(9, len);
        self.step(960);
        self.bring(packet)
    }

    fn step(&mut self, ticks: u32) {
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.now += Duration::from_millis(20);
    }

    fn bring(&mut self, packet: Packet) -> Vec<Got> {
        let now = self.now;
        let track = self.tracks.entry(SOUND).or_insert_with(|| Track::new(Kind::Audio));
        if track.handle_packet(packet, now) == crate::track::Taken::Anew {
            self.egress.handle_anew(SOUND);
        }
        let mut numbers = Vec::new();
        track.take_pending(&mut numbers, now);
        numbers.iter().for_each(|number| track.ring_mut().fix_padding(*number, 0));
        for number in numbers {
            let Some((packet, padding)) = self.tracks[&SOUND].ring().get(number) else { continue };
            if self.egress.role(SOUND) == Role::NextSource {
                self.egress.start((SOUND, number), packet, [None, None], now);
            }
            let copies = self.egress.copies((SOUND, number), packet, &self.tracks);
            let mut way = self.receiver.way(&mut self.path, &mut self.batch, now);
            self.egress.send_with((SOUND, number), packet, padding, copies, &mut way);
            self.egress.repeat(&self.tracks, &mut way);
        }
        self.receiver.open(&mut self.batch)
    }

    /// The lowest rung of the packet before the next comes.
    fn low(&mut self) {
        self.made = self.made.wrapping_add(1);
        let (sequence, timestamp) = (self.sequence, self.timestamp);
        self.sequence = sequence.wrapping_sub(1);
        self.timestamp = timestamp.wrapping_sub(960);
        let packet = self.packet(0, 30);
        (self.sequence, self.timestamp) = (sequence, timestamp);
        let track = self.tracks.entry(LOW).or_insert_with(|| Track::new(Kind::Audio));
        track.handle_packet(packet, self.now);
    }

    fn nack(&mut self, back: u64) -> Vec<Got> {
        if let Some(missed) = self.egress.missed_at(back)
            && let Some(track) = self.tracks.get(&missed.track)
        {
            let mut way = self.receiver.way(&mut self.path, &mut self.batch, self.now);
            self.egress.repair(missed, track.ring(), &mut way);
        }
        self.receiver.open(&mut self.batch)
    }
}

/// What the newest packet carries: how much earlier, and octets.
fn carried(got: &[Got], primary: usize) -> Vec<(u16, usize)> {
    let red = Red::parse(&got.last().expect("one left").payload).expect("RED");
    assert_eq!((red.payload_type, red.primary.len()), (OPUS, primary));
    red.copies().map(|copy| (copy.offset, copy.payload.len())).collect()
}

#[test]
fn a_packet_carries_the_one_before_and_the_third_before() {
    let mut hall = Hall::new();
    hall.say(100);
    hall.egress.set_copies(1, None);
    assert_eq!(carried(&hall.say(101), 101), [(960, 100)]);
    hall.egress.set_copies(2, None);
    assert_eq!(carried(&hall.say(102), 102), [(960, 101)]);
    assert_eq!(carried(&hall.say(103), 103), [(2880, 100), (960, 102)]);
    hall.egress.set_copies(0, None);
    assert_eq!(hall.say(104)[0].payload.len(), 104, "plain");
}

#[test]
fn what_cannot_be_carried_is_left_out() {
    let mut hall = Hall::new();
    hall.egress.set_copies(2, None);
    assert_eq!(hall.say(100)[0].payload.len(), 100, "the first of a run");
    assert_eq!(hall.say(1100)[0].payload.len(), 1100, "it would become too long");
    assert_eq!(hall.say(10)[0].payload.len(), 10, "1100 octets are no block");
    assert_eq!(carried(&hall.say(11), 11), [(2880, 100), (960, 10)]);
    hall.say(500);
    hall.say(600);
    assert_eq!(carried(&hall.say(500), 500), [(2880, 11), (960, 600)]);
    assert_eq!(carried(&hall.say(501), 501), [(960, 500)], "together they would be too long");
    // A pause of the publisher.
    hall.timestamp = hall.timestamp.wrapping_add(48_000);
    assert_eq!(hall.say(20)[0].payload.len(), 20);
    assert_eq!(carried(&hall.say(21), 21), [(960, 20)]);
    // One is lost on its way here.
    hall.step(960);
    assert_eq!(carried(&hall.say(22), 22), [(2880, 20)], "the one before is not here");
    assert_eq!(carried(&hall.say(23), 23), [(2880, 21), (960, 22)]);
}

#[test]
fn a_copy_is_of_the_lowest_rung_where_that_is_here_and_shorter() {
    let mut hall = Hall::new();
    hall.egress.set_copies(1, Some(LOW));
    hall.say(100);
    hall.low();
    assert_eq!(carried(&hall.say(101), 101), [(960, 30)]);
    assert_eq!(carried(&hall.say(20), 20), [(960, 101)], "it is not here");
    hall.low();
    assert_eq!(carried(&hall.say(21), 21), [(960, 20)], "it is longer");
}

#[test]
fn what_left_as_red_goes_again_as_it_was() {
    let mut hall = Hall::new();
    hall.egress.set_copies(1, Some(LOW));
    (0..60).for_each(|_| drop(hall.say(100)));
    hall.low();
    let first = hall.say(101);
    // What it carried is made anew, and nothing leaves as RED any more.
    hall.tracks.remove(&LOW);
    hall.low();
    hall.egress.set_copies(0, None);
    assert_eq!(hall.nack(0), first);
    let known = |index| hall.egress.redundancy.left_with(FIRST_INDEX + index).is_some();
    assert_eq!([10, 20, 21, 60].map(known), [false, false, true, true], "nobody knows what it left with");
}

#[derive(Debug, Clone)]
enum Act {
    Say(usize),
    Lose,
    Late,
    Low,
    ForgetLow,
    Most(usize),
    Times(u8),
    Nack(u64),
    Anew,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (1..500_usize).prop_map(Act::Say),
        2 => Just(Act::Lose),
        2 => Just(Act::Late),
        4 => Just(Act::Low),
        1 => Just(Act::ForgetLow),
        3 => (0..3_usize).prop_map(Act::Most),
        1 => (0..3_u8).prop_map(Act::Times),
        8 => (0..60_u64).prop_map(Act::Nack),
        1 => Just(Act::Anew),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// [`Receiver::open`] compares each with what left under its number before.
    #[test]
    fn no_number_is_ever_sealed_into_different_octets(acts in proptest::collection::vec(act(), 1..200)) {
        let mut hall = Hall::new();
        for act in acts {
            match act {
                Act::Say(len) => drop(hall.say(len)),
                Act::Lose => {
                    hall.lost.push(hall.packet(9, 50));
                    hall.step(960);
                }
                Act::Late => {
                    if let Some(late) = hall.lost.pop() {
                        hall.bring(late);
                    }
                }
                Act::Low => hall.low(),
                Act::ForgetLow => drop(hall.tracks.remove(&LOW)),
                Act::Most(most) => hall.egress.set_copies(most, Some(LOW)),
                Act::Times(times) => {
                    let times = [Times::Never, Times::Once, Times::Twice][usize::from(times)];
                    hall.egress.set_repeats(times);
                }
                Act::Nack(back) => drop(hall.nack(back)),
                Act::Anew => {
                    hall.epoch = (hall.epoch + 1) % 16;
                    hall.lost.clear();
                }
            }
        }
    }
}
