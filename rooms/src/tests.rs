use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{NodeId, RoomName, ZoneName, api::NewMessage, signaling::FromRelay};

use crate::{Output, Rooms, RoomsError, WallTime, room::MESSAGES_MAX, rooms::ROOMS_MAX};

const NOW: WallTime = WallTime(1_700_000_000_000);

fn room(name: &str) -> RoomName {
    RoomName::new(name).expect("a name")
}

fn rooms(zone: &str) -> Rooms {
    Rooms::new(ZoneName::new(zone).expect("a name"))
}

fn new(text: &str, nonce: &str) -> NewMessage {
    NewMessage { author: "Ada".into(), text: text.into(), nonce: Some(nonce.into()) }
}

/// Posts and takes the record back, as the driver does.
fn say(rooms: &mut Rooms, writer: u8, number: u64, text: &str, now: WallTime) -> Bytes {
    let nonce = format!("{writer}-{number}");
    let accepted = rooms.handle_post(room("lobby"), new(text, &nonce), now).expect("is good");
    let payload = accepted.payload.expect("is new");
    rooms.handle_record(NodeId([writer; 32]), number, &payload, true, now).expect("is readable");
    payload
}

fn texts(rooms: &Rooms) -> Vec<String> {
    let history = rooms.history(&room("lobby"), None, usize::MAX).expect("is there");
    history.into_iter().map(|message| message.text).collect()
}

fn told(rooms: &mut Rooms) -> usize {
    std::iter::from_fn(|| rooms.poll_output()).count()
}

#[test]
fn a_message_sent_again_to_another_relay_shows_once() {
    let (mut a, mut b) = (rooms("stage"), rooms("camping"));
    let first = a.handle_post(room("lobby"), new("hi", "n"), NOW).expect("is good");
    let second = b.handle_post(room("lobby"), new("hi", "n"), WallTime(NOW.0 + 500)).expect("is good");
    assert_eq!(first.id, second.id);
    let (first, second) = (first.payload.expect("is new"), second.payload.expect("is new"));
    a.handle_record(NodeId([1; 32]), 1, &first, true, NOW).expect("is readable");
    a.handle_record(NodeId([2; 32]), 1, &second, true, NOW).expect("is readable");
    assert_eq!((texts(&a).len(), told(&mut a)), (1, 1));
    let again = a.handle_post(room("lobby"), new("hi", "n"), NOW).expect("is good");
    assert_eq!(again.payload, None);
}

#[test]
fn relays_show_the_same_order_whatever_the_order_of_arrival() {
    let (mut a, mut b) = (rooms("stage"), rooms("camping"));
    let one = say(&mut a, 1, 1, "one", NOW);
    b.handle_record(NodeId([1; 32]), 1, &one, true, NOW).expect("is readable");
    // a clock that is behind: the answer still comes after what it answers
    let two = say(&mut b, 2, 1, "two", WallTime(NOW.0 - 30_000));
    let three = say(&mut a, 1, 2, "three", WallTime(NOW.0 + 5));
    let mut c = rooms("parking");
    for (writer, number, payload) in [(1, 2, &three), (2, 1, &two), (1, 1, &one)] {
        c.handle_record(NodeId([writer; 32]), number, payload, true, NOW).expect("is readable");
    }
    assert_eq!(texts(&c), ["one", "two", "three"]);
}

#[test]
fn nobody_is_told_while_the_log_is_read_back() {
    let mut before = rooms("stage");
    let payload = say(&mut before, 1, 1, "hello", NOW);
    let mut after = rooms("stage");
    after.handle_record(NodeId([1; 32]), 1, &payload, false, NOW).expect("is readable");
    assert_eq!((told(&mut after), texts(&after)), (0, vec!["hello".to_owned()]));
}

#[test]
fn a_room_keeps_its_newest_messages() {
    let mut rooms = rooms("stage");
    for number in 0..MESSAGES_MAX as u64 + 10 {
        say(&mut rooms, 1, number, &format!("m{number}"), WallTime(NOW.0 + number));
        told(&mut rooms);
    }
    let kept = texts(&rooms);
    assert_eq!((kept.len(), kept[0].as_str()), (MESSAGES_MAX, "m10"));
    let newest = rooms.history(&room("lobby"), None, 2).expect("is there");
    assert_eq!((newest[0].text.as_str(), newest[1].text.as_str()), ("m1008", "m1009"));
}

#[test]
fn the_room_idle_longest_makes_place_but_not_one_with_somebody_in_it() {
    let mut rooms = rooms("stage");
    let first = room("room-0");
    rooms.handle_enter(&first).expect("there is room");
    for number in 1..ROOMS_MAX {
        rooms.handle_enter(&room(&format!("room-{number}"))).expect("there is room");
    }
    assert_eq!(rooms.handle_enter(&room("one-more")), Err(RoomsError::TooManyRooms));
    rooms.handle_leave(&first, crate::ParticipantId(0));
    assert!(rooms.handle_enter(&room("one-more")).is_ok());
}

#[test]
fn presence_is_told_when_somebody_comes_or_goes() {
    let mut rooms = rooms("stage");
    let ada = rooms.handle_enter(&room("lobby")).expect("there is room");
    let bob = rooms.handle_enter(&room("lobby")).expect("there is room");
    rooms.handle_leave(&room("lobby"), ada);
    rooms.handle_leave(&room("lobby"), ada);
    rooms.handle_leave(&room("lobby"), bob);
    let mut counts = Vec::new();
    while let Some(Output::Tell { event: FromRelay::Presence { present }, .. }) = rooms.poll_output() {
        counts.push(present);
    }
    assert_eq!(counts, [1, 2, 1, 0]);
}

proptest! {
    #[test]
    fn a_record_of_any_bytes_is_read_or_refused(payload in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut rooms = rooms("stage");
        let _ = rooms.handle_record(NodeId([1; 32]), 1, &payload.into(), true, NOW);
    }

    #[test]
    fn a_changed_record_is_read_or_refused(at in 0usize..80, byte in any::<u8>(), cut in 0usize..80) {
        let mut payload = say(&mut rooms("stage"), 1, 1, "hello there", NOW).to_vec();
        let length = payload.len();
        payload[at % length] = byte;
        payload.truncate(length - cut % length);
        let mut rooms = rooms("stage");
        let _ = rooms.handle_record(NodeId([1; 32]), 1, &payload.into(), true, NOW);
    }

    #[test]
    fn any_post_is_accepted_within_bounds_or_refused(author in ".{0,80}", text in "(?s).{0,200}") {
        let mut rooms = rooms("stage");
        let new = NewMessage { author, text, nonce: None };
        if let Ok(accepted) = rooms.handle_post(room("lobby"), new, NOW) {
            let payload = accepted.payload.expect("is new");
            prop_assert_eq!(rooms.handle_record(NodeId([1; 32]), 1, &payload, true, NOW), Ok(()));
        }
    }

    #[test]
    fn any_order_of_arrival_gives_the_same_history(order in Just((0..12u64).collect::<Vec<_>>()).prop_shuffle()) {
        let mut writer = rooms("stage");
        let payloads: Vec<_> =
            (0..12).map(|number| say(&mut writer, 1, number, &format!("m{number}"), NOW)).collect();
        let mut reader = rooms("camping");
        for number in order {
            let payload = &payloads[number as usize];
            reader.handle_record(NodeId([1; 32]), number, payload, true, NOW).expect("is readable");
        }
        prop_assert_eq!(texts(&reader), texts(&writer));
        let history = reader.history(&room("lobby"), None, 100).expect("is there");
        let ids: BTreeSet<_> = history.into_iter().map(|message| message.id).collect();
        prop_assert_eq!(ids.len(), 12);
    }
}

#[test]
fn a_file_is_announced_once_in_every_zone() {
    let file = crate::NewFile {
        file: protocol::FileId([3; 32]),
        name: "../../plan\u{202e}.pdf".into(),
        length: 12,
        media_type: "application/pdf".into(),
        author: "Ada".into(),
    };
    let lobby = RoomName::new("lobby").expect("a name");
    let zone = |name: &str| ZoneName::new(name).expect("a name");
    let (mut here, mut there) = (Rooms::new(zone("stage")), Rooms::new(zone("camping")));
    let origin = NodeId([1; 32]);
    let accepted = here.handle_share(lobby.clone(), file.clone(), origin, WallTime(5)).expect("is fine");
    let payload = accepted.payload.expect("it is new");
    for rooms in [&mut here, &mut there] {
        for number in [1, 2] {
            rooms.handle_record(origin, number, &payload, true, WallTime(9)).expect("is readable");
        }
        let told: Vec<_> = std::iter::from_fn(|| rooms.poll_output()).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let [(id, shown)] = &rooms.files(&lobby)[..] else { panic!("there is one") };
        assert_eq!((*id, shown.name.as_str(), shown.zone.as_str()), (file.file, "plan.pdf", "stage"));
        assert_eq!(rooms.file_origin(&file.file), Some(origin));
    }
    let again = here.handle_share(lobby, file, origin, WallTime(10)).expect("is fine");
    assert_eq!(again.payload, None);
}
