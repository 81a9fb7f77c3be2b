use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{Hlc, NodeId, RoomName, Topic, ZoneName, api::NewMessage, signaling::FromRelay};

use crate::{
    Output, Rooms, RoomsError, Source, WallTime, Written,
    limits::{PAYLOAD_MAX, TEXT_MAX, VISITED_MAX},
    room::{BYTES_MAX, MESSAGES_MAX},
    rooms::{ROOMS_MAX, TOTAL_MAX, WELCOME_MESSAGES},
};

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

fn lobby() -> Topic {
    Topic::Room(room("lobby"))
}

/// Takes a record of a room, as the driver does.
fn record(
    rooms: &mut Rooms,
    (writer, number): (u8, u64),
    hlc: Hlc,
    payload: &Bytes,
    now: WallTime,
) -> Result<(), RoomsError> {
    let writer = NodeId([writer; 32]);
    rooms.handle_record(Written { topic: &lobby(), writer, incarnation: 1, number, hlc, payload }, true, now)
}

/// Posts and takes the record back.
fn say(rooms: &mut Rooms, writer: u8, number: u64, text: &str, now: WallTime) -> Bytes {
    let nonce = format!("{writer}-{number}");
    let accepted = rooms.handle_post(&lobby(), new(text, &nonce), Source::default(), now).expect("is good");
    let payload = accepted.payload.expect("is new");
    record(rooms, (writer, number), Hlc::at(now), &payload, now).expect("is readable");
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
    let first = a.handle_post(&lobby(), new("hi", "n"), Source::default(), NOW).expect("is good");
    let second =
        b.handle_post(&lobby(), new("hi", "n"), Source::default(), WallTime(NOW.0 + 500)).expect("is good");
    assert_eq!(first.id, second.id);
    let (first, second) = (first.payload.expect("is new"), second.payload.expect("is new"));
    record(&mut a, (1, 1), Hlc::at(NOW), &first, NOW).expect("is readable");
    record(&mut a, (2, 1), Hlc::at(NOW), &second, NOW).expect("is readable");
    assert_eq!((texts(&a).len(), told(&mut a)), (1, 1));
    let again = a.handle_post(&lobby(), new("hi", "n"), Source::default(), NOW).expect("is good");
    assert_eq!(again.payload, None);
}

#[test]
fn relays_show_the_same_order_whatever_the_order_of_arrival() {
    let mut c = rooms("parking");
    let mut payload = |text: &str| {
        let accepted = c.handle_post(&lobby(), new(text, "n"), Source::default(), NOW).expect("is good");
        accepted.payload.expect("is new")
    };
    let (one, two, three) = (payload("one"), payload("two"), payload("three"));
    for ((writer, number), hlc, payload) in [((1, 2), 9, &three), ((2, 1), 7, &two), ((1, 1), 7, &one)] {
        record(&mut c, (writer, number), Hlc(hlc), payload, NOW).expect("is readable");
    }
    assert_eq!(texts(&c), ["one", "two", "three"]);
}

#[test]
fn a_clock_far_ahead_is_marked_and_does_not_stay_last_for_ever() {
    let mut rooms = rooms("stage");
    let accepted =
        rooms.handle_post(&lobby(), new("from the future", "n"), Source::default(), NOW).expect("is good");
    let future = Hlc::at(WallTime(NOW.0 + 3_600_000));
    record(&mut rooms, (2, 1), future, &accepted.payload.expect("is new"), NOW).expect("is readable");
    say(&mut rooms, 1, 1, "later", WallTime(NOW.0 + 120_000));
    let history = rooms.history(&room("lobby"), None, 10).expect("is there");
    let marks: Vec<_> = history.iter().map(|message| (message.text.as_str(), message.clock_ahead)).collect();
    assert_eq!(marks, [("from the future", true), ("later", false)]);
}

#[test]
fn what_several_starts_of_a_writer_wrote_is_there_though_no_clock_of_it_is_believed() {
    let mut rooms = rooms("stage");
    for incarnation in 1..=3_u64 {
        let text = format!("start {incarnation}");
        let accepted = rooms.handle_post(&lobby(), new(&text, "n"), Source::default(), NOW).expect("is good");
        let hlc = Hlc::at(WallTime(NOW.0 + incarnation * 3_600_000));
        let (topic, writer) = (lobby(), NodeId([1; 32]));
        let payload = accepted.payload.expect("is new");
        let written = Written { topic: &topic, writer, incarnation, number: 1, hlc, payload: &payload };
        rooms.handle_record(written, false, NOW).expect("is readable");
    }
    assert_eq!(texts(&rooms), ["start 1", "start 2", "start 3"]);
}

#[test]
fn nobody_is_told_while_the_log_is_read_back() {
    let mut before = rooms("stage");
    let payload = say(&mut before, 1, 1, "hello", NOW);
    let mut after = rooms("stage");
    let (writer, hlc) = (NodeId([1; 32]), Hlc::at(NOW));
    let written = Written { topic: &lobby(), writer, incarnation: 1, number: 1, hlc, payload: &payload };
    after.handle_record(written, false, NOW).expect("is readable");
    assert_eq!((told(&mut after), texts(&after)), (0, vec!["hello".to_owned()]));
}

#[test]
fn an_announcement_is_told_in_every_room_and_welcomes_whoever_comes() {
    let mut rooms = rooms("stage");
    let accepted =
        rooms.handle_post(&Topic::Announcements, new("storm", "n"), Source::default(), NOW).expect("is good");
    let payload = accepted.payload.expect("is new");
    let (writer, hlc) = (NodeId([1; 32]), Hlc::at(NOW));
    let written =
        Written { topic: &Topic::Announcements, writer, incarnation: 1, number: 1, hlc, payload: &payload };
    rooms.handle_record(written, true, NOW).expect("is readable");
    assert!(matches!(rooms.poll_output(), Some(Output::TellAll { event: FromRelay::Announcement { .. } })));
    let FromRelay::Welcome { announcements, history, .. } = rooms.welcome(&room("lobby")) else { panic!() };
    assert_eq!((announcements.len(), announcements[0].text.as_str(), history.len()), (1, "storm", 0));
}

#[test]
fn long_messages_are_bounded_by_their_bytes() {
    let mut rooms = rooms("stage");
    for number in 0..500 {
        let text = format!("{number:04}{}", "\u{1f3b5}".repeat(3990));
        say(&mut rooms, 1, number, &text, WallTime(NOW.0 + number));
    }
    let kept = texts(&rooms);
    assert!((BYTES_MAX / 17_000..=BYTES_MAX / 15_960).contains(&kept.len()), "{}", kept.len());
    assert!(kept.last().is_some_and(|text| text.starts_with("0499")));
}

#[test]
fn all_rooms_together_are_bounded_and_the_largest_gives_way() {
    let mut rooms = rooms("stage");
    let mut number = 0;
    let text = "x".repeat(4000);
    for _ in 0..1000 {
        for name in 0..10 {
            number += 1;
            let topic = Topic::Room(room(&format!("room-{name}")));
            let text = if name == 0 { "small" } else { &text };
            let accepted = rooms
                .handle_post(&topic, new(text, &number.to_string()), Source::default(), NOW)
                .expect("is good");
            let (payload, hlc) = (accepted.payload.expect("is new"), Hlc(number));
            let writer = NodeId([1; 32]);
            let written = Written { topic: &topic, writer, incarnation: 1, number, hlc, payload: &payload };
            rooms.handle_record(written, false, NOW).expect("is readable");
        }
    }
    let length = |name: u64| rooms.history(&room(&format!("room-{name}")), None, 2000).map(|h| h.len());
    assert_eq!(length(0), Ok(1000), "the small one is whole");
    let texts: usize = (1..10).map(|name| length(name).expect("is there") * 4000).sum();
    assert!((TOTAL_MAX * 3 / 4..TOTAL_MAX).contains(&texts), "{texts}");
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

/// Says something in a room, from a place, at a second.
fn say_in(rooms: &mut Rooms, name: &str, (source, author): (Source, &str), number: u64) {
    let topic = Topic::Room(room(name));
    let new = NewMessage { author: author.into(), text: "hello".into(), nonce: Some(number.to_string()) };
    let accepted = rooms.handle_post(&topic, new, source, NOW).expect("is good");
    let (writer, hlc) = (NodeId([1; 32]), Hlc::at(WallTime(NOW.0 + number)));
    let payload = accepted.payload.expect("is new");
    let written = Written { topic: &topic, writer, incarnation: 1, number, hlc, payload: &payload };
    rooms.handle_record(written, true, NOW).expect("is readable");
    told(rooms);
}

fn length(rooms: &Rooms, name: &str) -> usize {
    rooms.history(&room(name), None, usize::MAX).expect("is there").len()
}

const SOMEWHERE: Source = Source { address: 3, participant: 0 };

#[test]
fn rooms_without_history_take_no_place_and_are_forgotten_when_the_last_one_goes() {
    let mut rooms = rooms("stage");
    say_in(&mut rooms, "lobby", (SOMEWHERE, "Ada"), 1);
    for number in 0..2 * ROOMS_MAX {
        let visited = room(&format!("room-{number}"));
        let participant = rooms.handle_enter(&visited).expect("there is room");
        told(&mut rooms);
        if number % 2 == 0 {
            rooms.handle_leave(&visited, participant);
        }
    }
    // A thousand held ones keep nobody out, neither people nor words.
    assert!(rooms.handle_enter(&room("one-more")).is_ok());
    say_in(&mut rooms, "one-more", (SOMEWHERE, "Ada"), 2);
    assert_eq!((length(&rooms, "lobby"), length(&rooms, "one-more")), (1, 1));
    for number in 0..VISITED_MAX {
        let _ = rooms.handle_enter(&room(&format!("held-{number}")));
    }
    assert_eq!(rooms.handle_enter(&room("too-many")), Err(RoomsError::TooManyRooms));
    assert!(rooms.handle_enter(&room("lobby")).is_ok());
}

#[test]
fn of_rooms_with_history_those_with_people_and_those_in_which_more_was_said_stay() {
    let mut rooms = rooms("stage");
    for number in 0..20 {
        say_in(&mut rooms, "talked-in", (SOMEWHERE, "Ada"), number);
    }
    say_in(&mut rooms, "visited", (SOMEWHERE, "Ada"), 20);
    rooms.handle_enter(&room("visited")).expect("there is room");
    for number in 0..ROOMS_MAX + 50 {
        say_in(&mut rooms, &format!("junk-{number}"), (SOMEWHERE, "x"), 100 + number as u64);
    }
    assert_eq!((length(&rooms, "talked-in"), length(&rooms, "visited")), (20, 1));
    assert_eq!((length(&rooms, "junk-0"), length(&rooms, "junk-1049")), (0, 1));
    // Who writes again stays before who was silent.
    say_in(&mut rooms, "junk-60", (SOMEWHERE, "x"), 5000);
    for number in 0..100 {
        say_in(&mut rooms, &format!("later-{number}"), (SOMEWHERE, "x"), 6000 + number);
    }
    assert_eq!((length(&rooms, "junk-60"), length(&rooms, "junk-61")), (2, 0));
}

#[test]
fn where_all_rooms_have_people_words_give_way_and_people_stay() {
    let mut rooms = rooms("stage");
    for number in 0..=ROOMS_MAX {
        let name = format!("room-{number}");
        rooms.handle_enter(&room(&name)).expect("there is room");
        say_in(&mut rooms, &name, (SOMEWHERE, "Ada"), number as u64);
    }
    assert_eq!((length(&rooms, "room-0"), rooms.present(&room("room-0"))), (0, 1));
    assert_eq!(length(&rooms, &format!("room-{ROOMS_MAX}")), 1);
}

#[test]
fn a_flood_washes_nothing_away_that_others_said() {
    let flood = |from: &dyn Fn(u64) -> (Source, String)| {
        let mut rooms = rooms("stage");
        for number in 0..200 {
            say_in(&mut rooms, "lobby", (SOMEWHERE, "Ada"), number);
        }
        for number in 0..3 * MESSAGES_MAX as u64 {
            let (source, author) = from(number);
            say_in(&mut rooms, "lobby", (source, &author), 1000 + number);
        }
        let history = rooms.history(&room("lobby"), None, usize::MAX).expect("is there");
        assert_eq!(history.len(), MESSAGES_MAX);
        history.iter().filter(|message| message.author == "Ada").count()
    };
    let elsewhere = Source { address: 4, participant: 0 };
    assert_eq!(flood(&|_| (SOMEWHERE, "Bob".into())), 200);
    assert_eq!(flood(&|number| (elsewhere, format!("name {number}"))), 200);
    assert_eq!(flood(&|number| (Source { participant: number as u32 / 10, ..elsewhere }, "Bob".into())), 200);
}

#[test]
fn who_comes_reads_what_others_said_beside_a_flood_and_otherwise_the_newest() {
    let welcomed = |rooms: &Rooms| match rooms.welcome(&room("lobby")) {
        FromRelay::Welcome { history, .. } => history,
        other => panic!("{other:?}"),
    };
    let authors = |history: &[protocol::api::Message], author: &str| {
        history.iter().filter(|message| message.author == author).count()
    };
    let mut rooms = rooms("stage");
    for number in 0..300 {
        say_in(&mut rooms, "lobby", (SOMEWHERE, "Ada"), number);
    }
    let newest = rooms.history(&room("lobby"), None, WELCOME_MESSAGES).expect("is there");
    assert_eq!(welcomed(&rooms), newest, "one who is alone is heard whole");
    let elsewhere = Source { address: 4, participant: 0 };
    for number in 300..500 {
        say_in(&mut rooms, "lobby", (elsewhere, &format!("name {number}")), number);
    }
    let history = welcomed(&rooms);
    assert_eq!((history.len(), authors(&history, "Ada")), (WELCOME_MESSAGES, WELCOME_MESSAGES / 2));
    assert!(history.is_sorted_by_key(|message| message.sent_at.clone()));
    assert_eq!(history.last().map(|message| message.author.as_str()), Some("name 499"));
}

#[test]
fn what_a_room_keeps_is_written_again_once_before_its_log_drops_it() {
    let (mut here, topic, writer) = (rooms("stage"), lobby(), NodeId([1; 32]));
    let source = Source { address: 9, participant: 8 };
    let accepted = here.handle_post(&topic, new("hello", "n"), source, NOW).expect("is good");
    let payload = accepted.payload.expect("is new");
    let written =
        |number, hlc, payload| Written { topic: &topic, writer, incarnation: 1, number, hlc, payload };
    let first = written(1, Hlc::at(NOW), &payload);
    here.handle_record(first, true, NOW).expect("is readable");
    let other = Written { writer: NodeId([2; 32]), ..first };
    assert_eq!((here.renewal(other), here.renewal(written(2, Hlc(0), &payload))), (None, None));
    let again = here.renewal(first).expect("is kept");
    let later = Hlc::at(WallTime(NOW.0 + 60_000));
    let second = written(5001, later, &again);
    here.handle_record(second, true, NOW).expect("is readable");
    assert_eq!((here.renewal(first), here.renewal(second)), (None, Some(again.clone())));
    // Whoever reads the later one alone shows it where it was said, and once.
    let (_, now) = (told(&mut here), WallTime(NOW.0 + 70_000));
    let mut there = rooms("camping");
    say(&mut there, 3, 1, "an answer", WallTime(NOW.0 + 1000));
    there.handle_record(second, true, now).expect("is readable");
    assert_eq!(texts(&there), ["hello", "an answer"]);
    assert_eq!((texts(&here).len(), told(&mut here)), (1, 0));
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
        let _ = record(&mut rooms, (1, 1), Hlc(1), &payload.into(), NOW);
    }

    #[test]
    fn a_changed_record_is_read_or_refused(at in 0usize..80, byte in any::<u8>(), cut in 0usize..80) {
        let mut payload = say(&mut rooms("stage"), 1, 1, "hello there", NOW).to_vec();
        let length = payload.len();
        payload[at % length] = byte;
        payload.truncate(length - cut % length);
        let mut rooms = rooms("stage");
        let _ = record(&mut rooms, (1, 1), Hlc(1), &payload.into(), NOW);
    }

    #[test]
    fn any_post_is_accepted_within_bounds_or_refused(author in ".{0,80}", text in "(?s).{0,200}") {
        let mut rooms = rooms("stage");
        let new = NewMessage { author, text, nonce: None };
        if let Ok(accepted) = rooms.handle_post(&lobby(), new, Source::default(), NOW) {
            let payload = accepted.payload.expect("is new");
            prop_assert_eq!(record(&mut rooms, (1, 1), Hlc(1), &payload, NOW), Ok(()));
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
            record(&mut reader, (1, number), Hlc::at(NOW), payload, NOW).expect("is readable");
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
    let accepted = here.handle_share(&lobby, file.clone(), origin, WallTime(5)).expect("is fine");
    let payload = accepted.payload.expect("it is new");
    for rooms in [&mut here, &mut there] {
        for number in [1, 2] {
            let (topic, hlc) = (Topic::Room(lobby.clone()), Hlc(number));
            let written =
                Written { topic: &topic, writer: origin, incarnation: 1, number, hlc, payload: &payload };
            rooms.handle_record(written, true, WallTime(9)).expect("is readable");
        }
        let told: Vec<_> = std::iter::from_fn(|| rooms.poll_output()).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        let [(id, shown)] = &rooms.files(&lobby)[..] else { panic!("there is one") };
        assert_eq!((*id, shown.name.as_str(), shown.zone.as_str()), (file.file, "plan.pdf", "stage"));
        assert_eq!(rooms.file_origin(&file.file), Some(origin));
    }
    let again = here.handle_share(&lobby, file, origin, WallTime(10)).expect("is fine");
    assert_eq!(again.payload, None);
}

#[test]
fn a_message_is_from_the_zone_of_the_relay_that_signed_it_whatever_it_says() {
    let (mut camping, mut stage) = (rooms("stage"), rooms("stage"));
    // A relay that writes another zone into its messages than it is of.
    let new = NewMessage { author: "Safety (stage)".into(), text: "leave".into(), nonce: Some("n".into()) };
    let topic = Topic::Announcements;
    let accepted = camping.handle_post(&topic, new, Source::default(), NOW).expect("is good");
    let (writer, hlc, payload) = (NodeId([0xab; 32]), Hlc::at(NOW), accepted.payload.expect("is new"));
    let written = Written { topic: &topic, writer, incarnation: 1, number: 1, hlc, payload: &payload };
    stage.handle_record(written, false, NOW).expect("is readable");
    let shown = |rooms: &Rooms| {
        let shown = rooms.announcements(None, 1).expect("is there").remove(0);
        (shown.zone, shown.zone_unproven, shown.relay)
    };
    assert_eq!(shown(&stage), ("stage".into(), true, "abababab".into()));
    assert_eq!(stage.writers(&topic), BTreeSet::from([writer]));
    stage.handle_zone(writer, ZoneName::new("camping").expect("a name"));
    assert_eq!(shown(&stage), ("camping".into(), false, "abababab".into()));
    // Live ones too, in rooms as well.
    let say = |stage: &mut Rooms, topic: &Topic| {
        let written = Written { topic, number: 2, ..written };
        let accepted = rooms("stage").handle_post(topic, self::new("x", "y"), Source::default(), NOW);
        let payload = accepted.expect("is good").payload.expect("is new");
        stage.handle_record(Written { payload: &payload, ..written }, true, NOW).expect("is readable");
        match stage.poll_output() {
            Some(Output::TellAll { event: FromRelay::Announcement { message } }) => message.zone,
            Some(Output::Tell { event: FromRelay::Message { message }, .. }) => message.zone,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(say(&mut stage, &topic), "camping");
    assert_eq!(say(&mut stage, &lobby()), "camping");
}

#[test]
fn a_zone_token_is_shown_to_nobody() {
    let payload = crate::zone_token::encode("pnz1.abc".into());
    assert_eq!(crate::zone_token::decode(&payload).as_deref(), Some("pnz1.abc"));
    let mut rooms = rooms("stage");
    assert!(record(&mut rooms, (1, 1), Hlc(1), &payload, NOW).is_err());
    assert_eq!((told(&mut rooms), texts(&rooms).len()), (0, 0));
    assert_eq!(crate::zone_token::decode(&say(&mut rooms, 1, 2, "pnz1.abc", NOW)), None);
}

#[test]
fn a_message_fits_a_record_also_when_it_is_written_again() {
    let mut rooms = Rooms::new(ZoneName::new("z".repeat(64)).expect("a name"));
    let source = Source { address: u32::MAX, participant: u32::MAX };
    let wide = |author: usize, nonce: &str| NewMessage {
        author: "🎪".repeat(author),
        text: "🎪".repeat(TEXT_MAX),
        nonce: Some(nonce.to_owned()),
    };
    let accepted = rooms.handle_post(&lobby(), wide(30, "0123456789abcdef0123456789abcdef"), source, NOW);
    let payload = accepted.expect("is short enough").payload.expect("is new");
    record(&mut rooms, (1, 1), Hlc(u64::MAX), &payload, NOW).expect("is readable");
    let (topic, writer) = (lobby(), NodeId([1; 32]));
    let written =
        Written { topic: &topic, writer, incarnation: 1, number: 1, hlc: Hlc(0), payload: &payload };
    let again = rooms.renewal(written).expect("is kept");
    assert!(payload.len() < again.len() && again.len() <= PAYLOAD_MAX, "{} {}", payload.len(), again.len());
    // Each field is short enough, and all of them together are not.
    let refused = rooms.handle_post(&lobby(), wide(64, &"🎪".repeat(64)), source, NOW);
    assert!(matches!(refused, Err(RoomsError::TooLarge { .. })), "{refused:?}");
}
