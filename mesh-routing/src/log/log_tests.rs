//! What one relay's table of logs takes, keeps and asks for.

use protocol::RoomName;

use super::*;
use crate::{
    sim::epoch,
    wire::{message::Head, signature::SimulatedKeys},
};

const LINK: LinkId = LinkId(1);
const OWN: NodeId = NodeId([1; 32]);
const WRITER: NodeId = NodeId([7; 32]);

fn room(name: &str) -> Topic {
    Topic::Room(RoomName::new(name).unwrap())
}

fn key(writer: NodeId) -> LogKey {
    LogKey { topic: room("lobby"), writer, incarnation: 1 }
}

fn logs() -> Logs {
    Logs::new(OWN, 1)
}

fn bytes(length: usize) -> Bytes {
    vec![0; length].into()
}

fn entries(key: &LogKey, first: u64, number: u64, length: usize) -> Vec<Entry> {
    let keys = SimulatedKeys(key.writer);
    let payload = bytes(length);
    let entry = |number| LogEntry::sign(&keys, key.clone(), number, Hlc(number), payload.clone()).entry;
    (first..first + number).map(entry).collect()
}

fn take(
    logs: &mut Logs,
    key: &LogKey,
    (first, entries): (u64, Vec<Entry>),
    pulled: Option<Pulled>,
    now: Instant,
) -> Result<Taken, MeshError> {
    let arrival = Arrival { link: LINK, neighbor: WRITER, key: key.clone(), first, entries, pulled };
    logs.take(arrival, &SimulatedKeys(OWN), &|_| false, now)
}

/// Gives a log records that are good.
fn give(logs: &mut Logs, key: &LogKey, first: u64, number: u64, length: usize, now: Instant) -> Taken {
    take(logs, key, (first, entries(key, first, number, length)), None, now).unwrap()
}

fn append(logs: &mut Logs, topic: Topic, length: usize, now: Instant) -> u64 {
    logs.append(topic, bytes(length), &SimulatedKeys(OWN), now).unwrap().number
}

fn pulls(logs: &mut Logs, now: Instant) -> Vec<(LogKey, u64)> {
    let asks = logs.poll_pulls(|_| Some(WRITER), now).into_iter();
    let ask = |(_, message)| match message {
        Message::Pull { key, after } => (key, after),
        other => panic!("{other:?}"),
    };
    asks.map(ask).collect()
}

#[test]
fn only_the_next_number_is_taken_and_a_gap_is_asked_for() {
    let (mut logs, now, key) = (logs(), epoch(), key(WRITER));
    assert_eq!(give(&mut logs, &key, 1, 2, 1, now).new.len(), 2);
    let taken = give(&mut logs, &key, 2, 1, 1, now);
    assert_eq!((taken.new.len(), taken.duplicates), (0, 1));
    assert_eq!(pulls(&mut logs, now), []);
    assert_eq!(give(&mut logs, &key, 9, 1, 1, now).new.len(), 0);
    assert_eq!(pulls(&mut logs, now), [(key.clone(), 2)]);
    // Not asked twice while the first answer may still come.
    assert_eq!(give(&mut logs, &key, 10, 1, 1, now).new.len(), 0);
    assert_eq!(pulls(&mut logs, now), []);
}

#[test]
fn a_record_its_writer_did_not_sign_is_refused_and_changes_nothing() {
    let (mut logs, now, key) = (logs(), epoch(), key(WRITER));
    let mut forged = entries(&key, 1, 2, 5);
    forged.iter_mut().for_each(|entry| entry.payload = bytes(6));
    let refused = take(&mut logs, &key, (1, forged), None, now).unwrap_err();
    assert_eq!((refused, logs.highest(&key)), (MeshError::Forged, 0));
    let other = LogKey { incarnation: 2, ..key.clone() };
    assert!(take(&mut logs, &other, (1, entries(&key, 1, 1, 5)), None, now).is_err());
    assert_eq!((logs.counters.forged, logs.logs.len()), (2, 0));
}

#[test]
fn an_answer_is_bounded_and_says_that_there_is_more() {
    let (mut logs, now) = (logs(), epoch());
    for _ in 0..100 {
        append(&mut logs, room("lobby"), PAYLOAD_MAX, now);
    }
    let Message::Append { entries, pulled, first, .. } = logs.answer(key(OWN), 50) else { panic!() };
    assert_eq!((first, entries.len()), (51, TURN / (PAYLOAD_MAX + OVERHEAD)));
    assert_eq!(pulled, Some(Pulled { floor: 0, more: true }));
}

#[test]
fn a_latecomer_starts_at_the_floor() {
    let (mut old, mut new, now) = (logs(), Logs::new(NodeId([3; 32]), 9), epoch());
    let most = Retention::of(&room("lobby")).records as u64;
    for _ in 0..most + 10 {
        append(&mut old, room("lobby"), 10, now);
    }
    for message in old.compare() {
        let Message::Heads { entries, .. } = message else { panic!() };
        assert_eq!(entries[0].floor, 10);
        new.handle_heads(LINK, &entries, now);
    }
    let mut number = 10;
    while let Some((key, after)) = pulls(&mut new, now).pop() {
        let Message::Append { key, first, entries, pulled, .. } = old.answer(key, after) else { panic!() };
        for record in take(&mut new, &key, (first, entries), pulled, now).unwrap().new {
            number += 1;
            assert_eq!(record.number, number);
        }
    }
    assert_eq!((number, new.hash()), (most + 10, old.hash()));
}

#[test]
fn all_logs_together_are_bounded_and_the_largest_gives_way() {
    let (mut logs, start) = (logs(), epoch());
    for _ in 0..100 {
        append(&mut logs, room("lobby"), 100, start);
    }
    append(&mut logs, Topic::Announcements, 100, start);
    for number in 1..=600u64 {
        for writer in 2..14 {
            let key = key(NodeId([writer; 32]));
            let now = start + Duration::from_secs(number);
            assert_eq!(give(&mut logs, &key, number, 1, PAYLOAD_MAX, now).new.len(), 1);
        }
    }
    let counted = |log: &Log| log.payloads().map(|payload| payload.len() + OVERHEAD).sum::<usize>();
    let most = Retention::of(&room("lobby")).bytes;
    assert!(logs.logs.values().all(|log| counted(log) == log.bytes && log.bytes <= most));
    assert_eq!(logs.logs.values().map(counted).sum::<usize>(), logs.bytes);
    assert!((TOTAL_MAX - 3 * GIVE_WAY..=TOTAL_MAX).contains(&logs.bytes), "{}", logs.bytes);
    assert_eq!(logs.logs[&key(OWN)].floor, 0, "the small log is whole");
    assert!(logs.logs.values().filter(|log| log.len() > 1).all(|log| log.highest() >= 100));
    let floors = logs.poll_floors();
    assert_eq!(floors.len(), 12);
    assert!(floors.iter().all(|(writer, floor)| logs.logs[writer].floor == *floor));
    assert!(logs.poll_floors().is_empty());
}

#[test]
fn the_last_record_of_each_log_stays() {
    let (mut logs, now) = (logs(), epoch());
    for room_number in 0..500 {
        append(&mut logs, room(&format!("room-{room_number}")), PAYLOAD_MAX, now);
    }
    logs.handle_wall(WallTime(1_800_000_000_000), now);
    let later = now + Duration::from_secs(90 * 24 * 3600);
    logs.expire(later);
    assert!(logs.logs.values().all(|log| log.len() == 1 && log.highest() == 1));
}

#[test]
fn old_records_expire_but_not_because_of_a_wrong_clock() {
    let (mut logs, now, key) = (logs(), epoch(), key(WRITER));
    logs.handle_wall(WallTime(1_800_000_000_000), now);
    // The writer's clock is in 1970.
    give(&mut logs, &key, 1, 10, 10, now);
    let hour = Duration::from_secs(3600);
    logs.expire(now + hour * 23);
    assert_eq!(logs.logs[&key].len(), 10);
    logs.expire(now + hour * 25);
    assert_eq!((logs.logs[&key].len(), logs.logs[&key].floor), (1, 9));
}

#[test]
fn empty_records_count_too() {
    let (mut logs, start) = (logs(), epoch());
    for writer in 0..100u64 {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(writer + 100).to_be_bytes());
        let now = start + Duration::from_secs(writer * 3);
        give(&mut logs, &key(NodeId(id)), 1, 5000, 0, now);
    }
    let records: usize = logs.logs.values().map(Log::len).sum();
    assert!(records <= TOTAL_MAX / OVERHEAD, "{records}");
}

#[test]
fn a_log_nothing_is_taken_of_gets_no_place() {
    let (mut logs, now) = (logs(), epoch());
    assert_eq!(give(&mut logs, &key(WRITER), 5, 1, 1, now).new.len(), 0);
    assert_eq!(pulls(&mut logs, now), [(key(WRITER), 0)]);
    assert!(logs.logs.is_empty());
}

#[test]
fn a_floor_is_reported_now_and_then() {
    let (mut logs, now) = (logs(), epoch());
    let mut reported = Vec::new();
    for _ in 0..Retention::of(&room("lobby")).records + 200 {
        append(&mut logs, room("lobby"), 1, now);
        reported.extend(logs.poll_floors().into_iter().map(|(_, floor)| floor));
    }
    assert_eq!(reported, [64, 128, 192]);
}

#[test]
fn what_was_on_disk_is_not_new() {
    let (mut logs, now) = (logs(), epoch());
    for (number, entry) in (4..9).zip(entries(&key(OWN), 4, 5, 1)) {
        logs.restore(LogEntry { key: key(OWN), number, entry }, now);
    }
    logs.handle_heads(LINK, &[Head { key: key(OWN), floor: 0, highest: 8 }], now);
    assert_eq!(pulls(&mut logs, now), []);
}

#[test]
fn a_start_writes_in_a_log_of_its_own_whatever_its_disk_has_and_lacks() {
    let (mut logs, now) = (Logs::new(OWN, 1 << 40), epoch());
    let written = entries(&key(OWN), 1, 6, 1);
    for (number, entry) in (1..4).zip(written.clone()) {
        logs.restore(LogEntry { key: key(OWN), number, entry }, now);
    }
    let say = |logs: &mut Logs| {
        let record = logs.append(room("lobby"), bytes(1), &SimulatedKeys(OWN), now).unwrap();
        (record.number, record.key.incarnation)
    };
    assert_eq!(say(&mut logs), (1, 1 << 40));
    // Records that this relay wrote and its disk does not have: they change nothing, and people are told.
    let taken = take(&mut logs, &key(OWN), (4, written[3..].to_vec()), None, now).unwrap();
    assert_eq!((taken.new.len(), taken.returned(&OWN).count(), logs.counters.returned), (3, 3, 3));
    assert_eq!(say(&mut logs), (2, 1 << 40));
    assert_eq!(give(&mut logs, &key(WRITER), 1, 1, 1, now).returned(&OWN).count(), 0);
}

#[test]
fn two_runs_with_one_seed_write_in_two_logs() {
    let (now, mut before) = (epoch(), logs());
    let written = append_at(&mut before, "lobby", 1, now);
    // The disk has it, or a neighbor brings it, in a log that this run has begun already.
    let mut logs = logs();
    logs.restore(written.clone(), now);
    let first = append_at(&mut logs, "lobby", 2, now);
    assert_ne!(first.key, written.key);
    let other = LogEntry::sign(&SimulatedKeys(OWN), first.key.clone(), 2, Hlc(7), bytes(2));
    take(&mut logs, &other.key, (2, vec![other.entry.clone()]), None, now).unwrap();
    let second = append_at(&mut logs, "lobby", 3, now);
    assert!(second.key != first.key && second.key != written.key && second.number == 1);
}

#[test]
fn one_neighbors_flood_is_held_back_and_asked_for_later() {
    let (mut logs, now, flooded) = (logs(), epoch(), key(WRITER));
    let mut next = 1;
    while give(&mut logs, &flooded, next, 100, 1, now).new.len() == 100 {
        next += 100;
    }
    assert_eq!((next, logs.counters.log_quota), (10_001, 100));
    // Others are not held back by it.
    let (other, arrival) = (NodeId([9; 32]), key(NodeId([9; 32])));
    let entries = entries(&arrival, 1, 1, 1);
    let arrival = Arrival { link: LinkId(2), neighbor: other, key: arrival, first: 1, entries, pulled: None };
    assert_eq!(logs.take(arrival, &SimulatedKeys(OWN), &|_| false, now).unwrap().new.len(), 1);
    assert_eq!(pulls(&mut logs, now), []);
    let later = logs.poll_timeout().unwrap();
    assert_eq!(pulls(&mut logs, later), [(flooded, 10_000)]);
}

/// Appends to an own log at a time of the wall clock, in seconds.
fn append_at(logs: &mut Logs, name: &str, second: u64, now: Instant) -> LogEntry {
    logs.handle_wall(WallTime(1_800_000_000_000 + second * 1000), now);
    logs.append(room(name), bytes(1), &SimulatedKeys(OWN), now).unwrap()
}

/// As many own logs as there may be, of one record each.
fn filled(now: Instant) -> Logs {
    let mut logs = logs();
    for number in 0..LOGS_OF_WRITER_MAX as u64 {
        append_at(&mut logs, &format!("room-{number}"), number, now);
    }
    logs
}

fn has(logs: &Logs, name: &str) -> bool {
    logs.own_log(&room(name)).is_some()
}

#[test]
fn an_own_log_that_was_quiet_longest_gives_way_and_the_announcements_have_a_place_of_their_own() {
    let now = epoch();
    let mut logs = filled(now);
    assert_eq!(append(&mut logs, Topic::Announcements, 1, now), 1);
    append_at(&mut logs, "room-0", 2000, now);
    append_at(&mut logs, "one-more", 2001, now);
    assert_eq!(logs.written_by(&OWN).len(), LOGS_OF_WRITER_MAX + 1);
    assert!(has(&logs, "room-0") && !has(&logs, "room-1") && has(&logs, "one-more"));
    assert_eq!(logs.counters.gave_way, 1);
    let forgotten: Vec<_> = logs.poll_floors().into_iter().map(|(key, below)| (key.topic, below)).collect();
    assert_eq!(forgotten, [(room("room-1"), NUMBER_MAX)]);
}

#[test]
fn one_line_in_each_of_many_rooms_takes_no_place_from_a_room_that_people_spoke_in() {
    let (mut logs, now) = (logs(), epoch());
    for second in 0..16 {
        append_at(&mut logs, "lobby", second, now);
    }
    for number in 0..LOGS_OF_WRITER_MAX as u64 + 500 {
        append_at(&mut logs, &format!("junk-{number}"), 20 + number, now);
    }
    assert!(has(&logs, "lobby") && !has(&logs, "junk-0") && has(&logs, "junk-1523"));
    // But not for ever.
    for number in 0..LOGS_OF_WRITER_MAX as u64 {
        append_at(&mut logs, &format!("later-{number}"), 3 * 3600 + number, now);
    }
    assert!(!has(&logs, "lobby"));
}

#[test]
fn a_room_whose_log_gave_way_goes_on_in_another_incarnation_of_it() {
    let now = epoch();
    let mut logs = filled(now);
    let incarnation = logs.incarnation;
    append_at(&mut logs, "one-more", 5000, now);
    assert_eq!(logs.incarnation, incarnation + 1);
    let again = append_at(&mut logs, "room-0", 5001, now);
    assert_eq!((again.number, again.key.incarnation), (1, incarnation + 1));
    // A log that stayed goes on where it was.
    let on = append_at(&mut logs, "room-900", 5002, now);
    assert_eq!((on.number, on.key.incarnation), (2, incarnation));
    // Room-1 gave way to room-0: it was of the former incarnation, so no other one has to begin.
    assert_eq!((has(&logs, "room-1"), logs.incarnation), (false, incarnation + 1));
}

#[test]
fn what_gave_way_is_not_taken_back_and_tears_nothing() {
    let now = epoch();
    let mut logs = filled(now);
    let gone = LogKey { topic: room("room-0"), writer: OWN, incarnation: 1 };
    append_at(&mut logs, "one-more", 5000, now);
    let incarnation = logs.incarnation;
    let head = Head { key: gone.clone(), floor: 0, highest: 1 };
    logs.handle_heads(LINK, &[head], now);
    assert_eq!(pulls(&mut logs, now), []);
    let taken = give(&mut logs, &gone, 1, 1, 1, now);
    assert_eq!((taken.new.len(), logs.incarnation), (0, incarnation));
    // A copy of this run is known by what this one has not written.
    let newer = LogKey { topic: room("unseen"), writer: OWN, incarnation };
    assert_eq!(give(&mut logs, &newer, 1, 1, 1, now).new.len(), 1);
    assert!(logs.incarnation.abs_diff(incarnation) > 1000);
}

#[test]
fn every_relay_lets_the_same_logs_of_a_writer_go_and_asks_for_none_again() {
    let now = epoch();
    let (mut writer, mut reader) = (logs(), Logs::new(NodeId([3; 32]), 9));
    let give_on = |reader: &mut Logs, record: LogEntry| {
        let LogEntry { key, number, entry } = record;
        let arrival =
            Arrival { link: LINK, neighbor: OWN, key, first: number, entries: vec![entry], pulled: None };
        reader.take(arrival, &SimulatedKeys(OWN), &|_| true, now)
    };
    let mut first = None;
    for number in 0..LOGS_OF_WRITER_MAX as u64 + 40 {
        let record = append_at(&mut writer, &format!("room-{number}"), number, now);
        first = first.or_else(|| Some(record.clone()));
        give_on(&mut reader, record).unwrap();
    }
    assert_eq!((writer.hash(), writer.bytes()), (reader.hash(), reader.bytes()));
    // A relay that still has one offers it in vain.
    let first = first.unwrap();
    let head = Head { key: first.key.clone(), floor: 0, highest: 1 };
    reader.handle_heads(LINK, std::slice::from_ref(&head), now);
    assert_eq!(pulls(&mut reader, now), []);
    assert!(matches!(give_on(&mut reader, first), Err(MeshError::Full { .. })));
    // Until there is more of it.
    reader.handle_heads(LINK, &[Head { highest: 2, ..head.clone() }], now);
    assert_eq!(pulls(&mut reader, now), [(head.key, 0)]);
}

#[test]
fn many_relays_logs_are_bounded_and_own_ones_stay() {
    let (mut logs, start) = (logs(), epoch());
    for number in 0..10 {
        append(&mut logs, room(&format!("room-{number}")), 1, start);
    }
    for writer in 0..LOGS_MAX as u64 {
        let mut id = [2; 32];
        id[..8].copy_from_slice(&writer.to_be_bytes());
        let now = start + Duration::from_millis(writer);
        let _ = take(&mut logs, &key(NodeId(id)), (1, entries(&key(NodeId(id)), 1, 1, 1)), None, now);
    }
    assert_eq!((logs.logs.len(), logs.written_by(&OWN).len()), (LOGS_MAX, 10));
    // Announcements come all the same.
    let announcements = LogKey { topic: Topic::Announcements, ..key(WRITER) };
    assert_eq!(give(&mut logs, &announcements, 1, 1, 1, start).new.len(), 1);
    assert_eq!(append(&mut logs, Topic::Announcements, 1, start), 1);
}

#[test]
fn each_record_that_is_about_to_be_dropped_is_given_once_before() {
    let (mut logs, now, lobby) = (logs(), epoch(), room("lobby"));
    let most = Retention::of(&lobby).records as u64;
    let mut given = Vec::new();
    for _ in 0..most + 300 {
        append(&mut logs, lobby.clone(), 1, now);
        while let Some((_, number, _)) = logs.poll_lapsing(&lobby) {
            given.push(number);
        }
    }
    assert_eq!(given, (1..=300 + most / 10).collect::<Vec<_>>());
    // And so it is where bytes are the bound.
    let wide = room("wide");
    for _ in 0..400 {
        append(&mut logs, wide.clone(), PAYLOAD_MAX, now);
    }
    assert_eq!(logs.poll_lapsing(&wide), None);
    for _ in 0..90 {
        append(&mut logs, wide.clone(), PAYLOAD_MAX, now);
    }
    assert_eq!(logs.poll_lapsing(&wide).map(|(_, number, _)| number), Some(1));
}

#[test]
fn logs_by_topic_are_compared_by_their_hashes() {
    let (mut here, mut there, now) = (logs(), Logs::new(NodeId([3; 32]), 9), epoch());
    for number in 0..100u64 {
        let key = LogKey { topic: room(&format!("room-{number}")), ..key(WRITER) };
        give(&mut here, &key, 1, 1, 1, now);
        if number != 42 {
            give(&mut there, &key, 1, 1 + u64::from(number == 7), 1, now);
        }
    }
    let compare = |asks: &Logs, tells: &Logs| {
        let mut topics = Vec::new();
        for message in asks.compare() {
            let Message::Topics { after, until, entries } = message else { panic!() };
            for heads in tells.differing((after.as_ref(), until.as_ref()), &entries) {
                let Message::Heads { entries, .. } = heads else { panic!() };
                topics.extend(entries.into_iter().map(|head| head.key.topic.to_string()));
            }
        }
        topics
    };
    assert_eq!(compare(&there, &here), ["room room-42", "room room-7"]);
    assert_eq!(compare(&here, &there), ["room room-7"]);
}

#[test]
fn a_clock_far_ahead_is_kept_and_not_followed() {
    let (mut logs, now, key) = (logs(), epoch(), key(WRITER));
    logs.handle_wall(WallTime(1_800_000_000_000), now);
    let keys = SimulatedKeys(WRITER);
    let hlc = Hlc::at(WallTime(1_900_000_000_000));
    let entry = LogEntry::sign(&keys, key.clone(), 1, hlc, bytes(1)).entry;
    assert_eq!(take(&mut logs, &key, (1, vec![entry]), None, now).unwrap().new.len(), 1);
    assert_eq!(logs.counters.ahead, 1);
    let record = logs.append(room("lobby"), bytes(1), &SimulatedKeys(OWN), now).unwrap();
    assert_eq!(record.entry.hlc, Hlc::at(WallTime(1_800_000_000_000)));
}
