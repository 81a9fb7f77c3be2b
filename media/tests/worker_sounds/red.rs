//! RED: what a listener hears of a path that loses, where each packet carries some of those before it, and what is left of
//! the losses of a publisher that sends it.

use std::collections::BTreeSet;

use media::{
    SoundWish, Worker,
    red::{self, Block, Red},
    rtp::opus::frames,
};
use protocol::Kind;

use super::{
    Hall, PUBLISHED, nothing,
    worker_sim::{Sim, TRACKS, ladder::TOCS, ms, peer::Got},
};

/// 20 ms of sound at 120 kbit/s, with its timestamp in it.
pub fn sound(timestamp: u32) -> Vec<u8> {
    let mut payload = vec![PUBLISHED; 300];
    payload[5..9].copy_from_slice(&timestamp.to_be_bytes());
    payload
}

/// The timestamps of the sound in a packet: its own, of each frame, and those of what it carries.
pub fn heard(got: &Got, payload_type: Option<u8>) -> Vec<u32> {
    let check = |timestamp: u32, payload: &[u8]| {
        let of = |frame: &[u8]| u32::from_be_bytes(frame[4..8].try_into().unwrap());
        let all: Vec<u32> = frames(payload).unwrap().iter().map(|frame| of(frame)).collect();
        assert_eq!(all[0], timestamp, "another packet's sound");
        all
    };
    if Some(got.payload_type) != payload_type {
        return check(got.timestamp, &got.payload);
    }
    let red = Red::parse(&got.payload).unwrap();
    assert_eq!(red.payload_type, 111);
    let copies = red.copies().inspect(|copy| assert_eq!(copy.payload_type, 111));
    let copies = copies.flat_map(|copy| check(got.timestamp.wrapping_sub(copy.offset.into()), copy.payload));
    copies.chain(check(got.timestamp, red.primary)).collect()
}

impl Hall {
    /// Somebody who takes RED apart, and asks for nothing.
    fn with_red(workers: u8, seed: u64, tells: bool) -> Hall {
        Hall::with_listener(offer!("chromium_recvonly"), workers, seed, tells)
    }

    fn red(&self) -> u64 {
        self.sim.workers.iter().map(|worker| worker.stats().red).sum()
    }

    /// The next 20 ms as a publisher sends them that puts what was before into each packet.
    fn say_red(&mut self, copies: u32) {
        let peer = &mut self.sim.peers[self.publisher];
        let red = peer.ingest(Kind::Audio).codecs[0].red.unwrap();
        let timestamp = peer.feed(Kind::Audio).timestamp;
        let before: Vec<_> =
            (1..=copies).rev().map(|back| (960 * back, sound(timestamp - 960 * back))).collect();
        let blocks = before.iter().map(|(offset, payload)| Block {
            payload_type: 111,
            offset: *offset as u16,
            payload,
        });
        let mut payload = vec![0; red::octets(blocks.clone())];
        red::write(blocks, 111, &mut payload);
        payload.extend(sound(timestamp));
        peer.feed(Kind::Audio).payload_type = red;
        peer.publish(Kind::Audio, &payload, false);
        peer.feed(Kind::Audio).timestamp += 960;
        self.sim.run(ms(20));
    }
}

#[test]
fn where_nothing_is_lost_nothing_is_red() {
    let mut hall = Hall::with_red(1, 1, true);
    let heard = hall.play(60, nothing);
    assert_eq!((heard.missing, heard.left, hall.red()), (0, 3000, 0));
    hall.sim.down.loss_percent = 5;
    hall.play(10, nothing);
    assert!(hall.red() > 100);
    hall.sim.down.loss_percent = 0;
    hall.play(40, nothing);
    let before = hall.red();
    hall.play(20, nothing);
    assert_eq!(hall.red(), before, "it is over");
}

#[test]
fn what_a_path_loses_is_hardly_heard_and_nothing_leaves_twice() {
    for (loss, most) in [(2, 2), (5, 5), (10, 15), (20, 40)] {
        for seed in 0..3 {
            let mut hall = Hall::with_red(1, 10 * loss + seed, true);
            hall.sim.down.loss_percent = loss;
            hall.play(10, nothing);
            let heard = hall.play(60, nothing);
            println!("{loss} %: {heard:?}, {} as RED", hall.red());
            assert!(heard.missing_per_mille() <= most, "{loss} %: {heard:?}");
            assert_eq!((heard.left, hall.sim.workers[0].stats().repeats), (heard.sent as u64, 0), "{loss} %");
        }
    }
}

#[test]
fn who_reports_only_what_share_came_is_helped_too() {
    let mut hall = Hall::with_red(1, 7, false);
    hall.sim.down.loss_percent = 5;
    let mut report = super::reporter(&hall.sim);
    hall.play(10, &mut report);
    let heard = hall.play(30, &mut report);
    assert!(heard.missing_per_mille() <= 5 && hall.red() > 1000, "{heard:?}");
}

#[test]
fn three_in_a_row_are_carried_by_what_follows() {
    let mut hall = Hall::with_red(1, 3, true);
    let burst = |hall: &mut Hall, bursts: usize| {
        for _ in 0..bursts {
            (0..40).for_each(|_| hall.say());
            hall.sim.down.loss_percent = 100;
            (0..3).for_each(|_| hall.say());
            // What is on its way gets through.
            hall.sim.down.loss_percent = 0;
        }
    };
    burst(&mut hall, 12);
    (0..5).for_each(|_| hall.say());
    let before = hall.came().len();
    burst(&mut hall, 60);
    (0..5).for_each(|_| hall.say());
    let (came, sent) = (hall.came().len() - before, 60 * 43 + 5);
    assert!(sent - came <= 1 + 6, "{came} of {sent}, {} as RED", hall.red());
    assert_eq!(hall.sim.workers[0].stats().repeats, 0);
}

#[test]
fn who_asks_in_time_needs_neither() {
    let mut hall = Hall::with_red(1, 3, true);
    hall.sim.down.loss_percent = 5;
    for _ in 0..200 {
        (0..5).for_each(|_| hall.say());
        super::ask(&mut hall.sim, hall.listener);
    }
    let stats = hall.sim.workers[0].stats();
    assert!(stats.repairs > 20, "{}", stats.repairs);
    assert!(stats.red < 100 && stats.repeats == 0, "{} before the first question", stats.red);
}

#[test]
fn a_copy_is_of_the_lowest_rung_where_that_is_here() {
    let mut hall = Hall::with_red(2, 5, true);
    hall.open([true, true]);
    // Somebody at the lowest rung, who loses nothing.
    let other = hall.sim.listener(offer!("firefox_recvonly"));
    hall.sim.connect();
    let session = hall.sim.peers[other].session;
    hall.sim.tell(&media::Command::SoundWish { session, wish: SoundWish::Low });
    hall.sim.down.loss_percent = 10;
    hall.play(20, nothing);
    let got = hall.sim.peers[hall.listener].got_media(Kind::Audio);
    let red: Vec<Red<'_>> = got
        .iter()
        .rev()
        .take(100)
        .filter(|got| got.payload_type == 63)
        .map(|got| Red::parse(&got.payload).unwrap())
        .collect();
    assert!(red.len() > 80, "{}", red.len());
    assert!(red.iter().all(|red| red.primary[0] == PUBLISHED));
    // A rung is behind the publisher by a packet: of the one right before there is none yet.
    let cheap =
        red.iter().filter(|red| red.copies().next().is_some_and(|copy| copy.payload[0] == TOCS[0])).count();
    assert!(cheap * 10 >= red.len() * 9, "{cheap} of {}", red.len());
}

/// That nothing leaves in other octets under a number is checked where it leaves.
#[test]
fn whatever_is_asked_for_again_is_the_same_octets() {
    let (mut red, mut repairs) = (0, 0);
    for seed in 0..20 {
        let mut hall = Hall::with_red(2, seed, true);
        hall.open([true, true]);
        hall.sim.handover = ms(4);
        let ssrc = hall.sim.peers[hall.listener].egress(Kind::Audio).ssrc;
        for _ in 0..400 {
            let below = |sim: &mut Sim, most| sim.rng.below(most);
            match below(&mut hall.sim, 24) {
                0 => hall.sim.down.loss_percent = [0, 5, 20, 40][below(&mut hall.sim, 4) as usize],
                1 => hall.sim.up = worker_sim_up(&mut hall.sim),
                2 => {
                    let wish = [SoundWish::Low, SoundWish::Middle, SoundWish::High];
                    let wish = wish[below(&mut hall.sim, 3) as usize];
                    hall.wish(wish);
                }
                3 if below(&mut hall.sim, 4) == 0 => {
                    let (ssrc, at) =
                        (below(&mut hall.sim, 1 << 30) as u32, below(&mut hall.sim, 65_536) as u16);
                    hall.sim.peers[hall.publisher].feed(Kind::Audio).reload(ssrc, at, 77 * u32::from(at));
                }
                4 => (0..300).for_each(|_| hall.say()),
                5..8 => {
                    let newest =
                        hall.sim.peers[hall.listener].got_media(Kind::Audio).last().map(|got| got.sequence);
                    let back = below(&mut hall.sim, 60) as u16;
                    let asked = (0..20).map(|more| newest.unwrap_or_default().wrapping_sub(back + more));
                    hall.sim.peers[hall.listener].nack(ssrc, asked);
                }
                _ => (0..below(&mut hall.sim, 8)).for_each(|_| hall.say()),
            }
        }
        red += hall.red();
        repairs += hall.sim.workers.iter().map(|worker: &Worker| worker.stats().repairs).sum::<u64>();
    }
    assert!(red > 2000 && repairs > 200, "{red} as RED, {repairs} repairs");
}

fn worker_sim_up(sim: &mut Sim) -> super::worker_sim::Impairment {
    let jitter = ms(sim.rng.below(3) * 20);
    super::worker_sim::Impairment { loss_percent: 0, jitter }
}

#[test]
fn what_a_publisher_loses_is_in_what_follows() {
    for (copies, most) in [(1, 12), (2, 2)] {
        let mut hall = Hall::with_red(1, 2, true);
        hall.say();
        (0..3).for_each(|_| hall.say());
        hall.sim.up.loss_percent = 5;
        let first = hall.sim.peers[hall.publisher].feed(Kind::Audio).timestamp;
        (0..3000).for_each(|_| hall.say_red(copies));
        hall.sim.up.loss_percent = 0;
        (0..3).for_each(|_| hall.say_red(copies));
        let taken = hall.sim.to_links(TRACKS.audio);
        let mut came = BTreeSet::new();
        for (_, packet) in &taken {
            // What was put into one before says nothing of its number.
            assert_eq!(
                packet.payload()[5..],
                sound(packet.timestamp)[5..],
                "plain Opus, and that of its time"
            );
            assert!(came.insert((packet.sequence, packet.timestamp)), "each once");
        }
        let steps =
            |(sequence, timestamp): &(u16, u32)| (u32::from(*sequence) * 960).wrapping_sub(*timestamp);
        let place = came.first().map(steps);
        assert!(came.iter().all(|packet| Some(steps(packet)) == place), "each under its number");
        let missing = 3003 - came.range((0, 0)..).filter(|(_, timestamp)| *timestamp >= first).count();
        assert!(hall.sim.lost_up > 100 && missing <= most, "{missing} of {} lost", hall.sim.lost_up);
        let asked = hall.sim.workers[0].stats();
        assert!(asked.mended + missing as u64 >= hall.sim.lost_up as u64, "{} mended", asked.mended);
    }
}

#[test]
fn red_that_makes_no_sense_is_dropped_and_the_rest_goes_on() {
    let mut hall = Hall::with_red(1, 2, true);
    (0..3).for_each(|_| hall.say());
    hall.say_red(1);
    let junk: [&[u8]; 4] = [&[0xff; 600], &[0x6f], &[0xef, 0x0f, 0x03, 0xff, 0x6f, 1, 2], &[0x60, 1, 2, 3]];
    for payload in junk {
        hall.sim.peers[hall.publisher].publish(Kind::Audio, payload, false);
        hall.sim.run(ms(20));
    }
    assert_eq!(hall.sim.drops("red_malformed"), 4);
    // It carries copies of what these would have been, but with timestamps at which there was something else.
    hall.say_red(2);
    assert_eq!(hall.sim.to_links(TRACKS.audio).len(), 5);
    let before = hall.sim.to_links(TRACKS.audio).len();
    hall.sim.up.loss_percent = 100;
    hall.say_red(0);
    hall.sim.up.loss_percent = 0;
    hall.say_red(2);
    assert_eq!(hall.sim.to_links(TRACKS.audio).len(), before + 2, "one was mended");
}
