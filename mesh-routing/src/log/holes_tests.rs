//! What one damaged record costs: itself.

use bytes::Bytes;
use protocol::{Hlc, NodeId, RoomName, Topic};

use super::*;
use crate::{
    MeshError,
    log::{Arrival, Taken},
    sim::epoch,
    wire::{
        message::{Message, Pulled},
        signature::SimulatedKeys,
    },
};

const LINK: LinkId = LinkId(1);
const OTHER: LinkId = LinkId(2);
const OWN: NodeId = NodeId([1; 32]);
const WRITER: NodeId = NodeId([7; 32]);

fn key() -> LogKey {
    LogKey { topic: Topic::Room(RoomName::new("lobby").unwrap()), writer: WRITER, incarnation: 1 }
}

fn record(number: u64) -> LogEntry {
    LogEntry::sign(&SimulatedKeys(WRITER), key(), number, Hlc(number), Bytes::from_static(b"hello"))
}

/// Records up to `last`, of which those are not what the writer signed.
fn entries(first: u64, last: u64, bad: &[u64]) -> Vec<Entry> {
    let entry = |number| match bad.contains(&number) {
        true => Entry { payload: Bytes::from_static(b"hullo"), ..record(number).entry },
        false => record(number).entry,
    };
    (first..=last).map(entry).collect()
}

fn take(
    logs: &mut Logs,
    link: LinkId,
    (first, entries): (u64, Vec<Entry>),
    pulled: Option<Pulled>,
    now: Instant,
) -> Result<Taken, MeshError> {
    let arrival = Arrival { link, neighbor: WRITER, key: key(), first, entries, pulled };
    logs.take(arrival, &SimulatedKeys(OWN), &|_| true, now)
}

fn head(highest: u64) -> Head {
    Head { key: key(), floor: 0, highest }
}

/// What is asked for now: where, and after which record.
fn pulls(logs: &mut Logs, now: Instant) -> Vec<(LinkId, u64)> {
    let after = |(link, message)| match message {
        Message::Pull { after, .. } => (link, after),
        other => panic!("{other:?}"),
    };
    logs.poll_pulls(|_| Some(WRITER), now).into_iter().map(after).collect()
}

fn answer(logs: &Logs, after: u64) -> (u64, usize, Pulled) {
    let Message::Append { first, entries, pulled: Some(pulled), .. } = logs.answer(key(), after) else {
        panic!()
    };
    (first, entries.len(), pulled)
}

#[test]
fn the_good_records_around_a_bad_one_are_taken_and_others_are_asked_for_it() {
    let (mut logs, now) = (Logs::new(OWN, 9), epoch());
    let taken = take(&mut logs, LINK, (1, entries(1, 10, &[4, 7])), None, now).unwrap();
    assert_eq!((taken.new.len(), &taken.bad[..], logs.counters.bad), (8, &[4, 7][..], 2));
    assert_eq!((logs.highest(&key()), logs.counters.forged), (10, 0));
    // What is behind a hole is passed on, and the hole is passed over.
    assert_eq!(answer(&logs, 0), (1, 3, Pulled { floor: 0, more: true }));
    assert_eq!(answer(&logs, 3), (5, 2, Pulled { floor: 4, more: true }));
    assert_eq!(answer(&logs, 6), (8, 3, Pulled { floor: 7, more: false }));
    logs.ask_others(&key(), [OTHER].into_iter(), now);
    assert_eq!(pulls(&mut logs, now), [(OTHER, 3)]);
    let pulled = Some(Pulled { floor: 0, more: false });
    let taken = take(&mut logs, OTHER, (4, entries(4, 10, &[7])), pulled, now).unwrap();
    assert_eq!((&taken.filled[..], taken.new.len(), &taken.bad[..]), (&[record(4)][..], 0, &[7][..]));
    // It helped, so it is asked once more, and then not again.
    assert_eq!(pulls(&mut logs, now), [(OTHER, 6)]);
    let taken = take(&mut logs, OTHER, (7, entries(7, 10, &[7])), pulled, now).unwrap();
    assert_eq!((taken.filled.len(), &taken.bad[..]), (0, &[7][..]));
    logs.handle_heads(OTHER, &[head(10)], now);
    assert_eq!(pulls(&mut logs, now), []);
    // A push brings it too.
    assert_eq!(take(&mut logs, OTHER, (7, entries(7, 7, &[])), None, now).unwrap().filled, [record(7)]);
    assert_eq!(answer(&logs, 0), (1, 10, Pulled { floor: 0, more: false }));
}

#[test]
fn a_hole_of_a_neighbor_is_a_hole_here_and_what_is_before_it_stays() {
    let (mut logs, now) = (Logs::new(OWN, 9), epoch());
    take(&mut logs, LINK, (1, entries(1, 3, &[])), None, now).unwrap();
    logs.handle_heads(LINK, &[head(9)], now);
    assert_eq!(pulls(&mut logs, now), [(LINK, 3)]);
    let pulled = Some(Pulled { floor: 4, more: false });
    assert_eq!(take(&mut logs, LINK, (5, entries(5, 9, &[])), pulled, now).unwrap().new.len(), 5);
    assert_eq!((answer(&logs, 0).1, answer(&logs, 3).0), (3, 5));
    // Somebody who has it comes.
    logs.handle_heads(OTHER, &[head(9)], now);
    assert_eq!(pulls(&mut logs, now), [(OTHER, 3)]);
    let pulled = Some(Pulled { floor: 0, more: false });
    assert_eq!(take(&mut logs, OTHER, (4, entries(4, 9, &[])), pulled, now).unwrap().filled, [record(4)]);
}

#[test]
fn what_a_disk_damaged_is_asked_for_and_the_rest_of_the_log_is_there() {
    let (mut logs, now) = (Logs::new(OWN, 9), epoch());
    // The first, one in the middle, and the last.
    logs.handle_damaged(key(), 1);
    [2, 3, 5, 6].into_iter().for_each(|number| logs.restore(record(number), now));
    logs.handle_damaged(key(), 7);
    assert_eq!(logs.highest(&key()), 6);
    assert_eq!(answer(&logs, 0), (2, 2, Pulled { floor: 1, more: true }));
    logs.handle_heads(LINK, &[head(7)], now);
    assert_eq!(pulls(&mut logs, now), [(LINK, 0)]);
    let pulled = Some(Pulled { floor: 0, more: false });
    let taken = take(&mut logs, LINK, (1, entries(1, 7, &[])), pulled, now).unwrap();
    assert_eq!((taken.filled, taken.new), (vec![record(1), record(4)], vec![record(7)]));
    assert_eq!(answer(&logs, 0), (1, 7, Pulled { floor: 0, more: false }));
}

#[test]
fn holes_are_bounded_whatever_a_disk_and_a_neighbor_say() {
    let (mut logs, now) = (Logs::new(OWN, 9), epoch());
    logs.handle_damaged(key(), 1);
    logs.restore(record(1 << 40), now);
    logs.restore(record((1 << 40) + HOLES_MAX + 2), now);
    assert_eq!((logs.highest(&key()), answer(&logs, 0).0), (1 << 40, 1 << 40));
    let (mut logs, bad) = (Logs::new(OWN, 9), |first| (first..first + 40).collect::<Vec<_>>());
    assert_eq!(take(&mut logs, LINK, (1, entries(1, 41, &bad(1))), None, now).unwrap().new, [record(41)]);
    // Another forty would be too many.
    let refused = take(&mut logs, LINK, (42, entries(42, 82, &bad(42))), None, now);
    assert_eq!((refused.unwrap_err(), logs.highest(&key())), (MeshError::Forged, 41));
}

#[test]
fn a_link_that_brings_nothing_good_is_not_asked_again_for_the_same() {
    let (mut logs, now) = (Logs::new(OWN, 9), epoch());
    logs.handle_heads(LINK, &[head(2)], now);
    assert_eq!(pulls(&mut logs, now), [(LINK, 0)]);
    let pulled = Some(Pulled { floor: 0, more: false });
    assert_eq!(
        take(&mut logs, LINK, (1, entries(1, 2, &[1, 2])), pulled, now).unwrap_err(),
        MeshError::Forged
    );
    logs.handle_heads(LINK, &[head(2)], now);
    assert_eq!(pulls(&mut logs, now), []);
    logs.handle_heads(LINK, &[head(3)], now);
    assert_eq!(pulls(&mut logs, now), [(LINK, 0)]);
}
