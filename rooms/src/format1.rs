//! Payloads as they were written before each room had logs of its own: read once, when a relay takes over
//! what is on its disk.

use bytes::Bytes;
use protocol::{Hlc, RoomName, WallTime, ZoneName};
use serde::{Deserialize, Serialize};

use crate::{
    chat::Chat,
    limits::PAYLOAD_MAX,
    payload::{self, Beside},
};

#[derive(Serialize, Deserialize)]
enum Payload {
    Chat(Old),
}

#[derive(Serialize, Deserialize)]
struct Old {
    room: RoomName,
    author: String,
    text: String,
    nonce: String,
    zone: ZoneName,
    sent_at: WallTime,
    clock: Hlc,
}

/// The room, the clock and the payload of today, whose message has the same id; `None` if it is not such a
/// payload.
pub fn read(payload: &[u8]) -> Option<(RoomName, Hlc, Bytes)> {
    if payload.len() > PAYLOAD_MAX {
        return None;
    }
    let Payload::Chat(old) = postcard::from_bytes(payload).ok()?;
    let Old { room, author, text, nonce, zone, sent_at, clock } = old;
    Some((
        room,
        clock,
        payload::Payload::Chat(Chat { author, text, nonce, zone, sent_at }).encode(Beside::default()),
    ))
}

#[cfg(test)]
mod tests {
    use protocol::Topic;

    use super::*;

    #[test]
    fn an_old_message_keeps_its_room_its_clock_and_its_id() {
        let old = Payload::Chat(Old {
            room: RoomName::new("lobby").expect("a name"),
            author: "Ada".into(),
            text: "hello".into(),
            nonce: "n".into(),
            zone: ZoneName::new("stage").expect("a name"),
            sent_at: WallTime(5),
            clock: Hlc(9),
        });
        let (room, clock, payload) = read(&postcard::to_stdvec(&old).expect("serializes")).expect("is read");
        let (chat, _) = payload::Payload::decode_chat(&payload).expect("is readable");
        assert_eq!((room.as_str(), clock, chat.sent_at), ("lobby", Hlc(9), WallTime(5)));
        // As computed by the release that wrote it.
        assert_eq!(chat.id(&Topic::Room(room)).to_string(), "faa7d1cc33970c02a31c91b9fac7d6ca");
        assert!(read(&payload).is_none() && read(&[]).is_none());
    }
}
