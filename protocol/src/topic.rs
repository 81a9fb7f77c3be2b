//! What a log is about. Routing sees no more of a room than its name, and of a topic that it does not know no more than
//! how its records travel.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeTuple};

use crate::{id::RoomName, mesh::Class};

/// A subject that relays write logs about. Announcements come first, in every order and every queue.
///
/// On the wire and on disk: its kind, then what tells it from others of that kind. Whoever knows a kind and whoever does
/// not have to sort alike, because neighbors compare their topics in this order: by the kind, then part by part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// What the organizer tells everybody.
    Announcements,
    /// Chat in a room.
    Room(RoomName),
    /// Something that this relay does not know: kept and passed on like the others, and not shown.
    Unknown(UnknownTopic),
}

const ANNOUNCEMENTS: u32 = 0;
const ROOM: u32 = 1;

/// A topic of a later version. Kinds above those that are known are written so that every relay can read them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownTopic {
    kind: u32,
    carriage: Carriage,
    name: Box<[u8]>,
}

/// How the records of a topic travel, as one octet: the class in the lower two bits, the audience in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Carriage(pub u8);

impl Carriage {
    /// Like chat, to every relay.
    pub const CHAT: Carriage = Carriage(0);
    /// Like announcements, to every relay.
    pub const ANNOUNCEMENT: Carriage = Carriage(1);

    /// The class. What is not known yet goes as chat, behind everything that cannot wait.
    pub fn class(self) -> Class {
        if self.0 & 3 == Carriage::ANNOUNCEMENT.0 { Class::Announcement } else { Class::Chat }
    }

    /// For whom the records are: 0 for every relay. Others are not known yet, and their records go to every relay too.
    pub fn audience(self) -> u8 {
        self.0 >> 2
    }
}

impl UnknownTopic {
    /// The longest name, in octets.
    pub const NAME_MAX: usize = 128;

    /// A topic of a kind that is not known here; `None` if it is, or if the name is too long.
    pub fn new(kind: u32, carriage: Carriage, name: &[u8]) -> Option<UnknownTopic> {
        (kind > ROOM && name.len() <= UnknownTopic::NAME_MAX).then(|| UnknownTopic {
            kind,
            carriage,
            name: name.into(),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> u32 {
        self.kind
    }

    /// How its records travel.
    pub fn carriage(&self) -> Carriage {
        self.carriage
    }

    /// What tells it from others of its kind.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Topic {
    /// The class its records travel in.
    pub fn class(&self) -> Class {
        match self {
            Topic::Announcements => Class::Announcement,
            Topic::Room(_) => Class::Chat,
            Topic::Unknown(topic) => topic.carriage.class(),
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Announcements => f.write_str("announcements"),
            Topic::Room(room) => write!(f, "room {room}"),
            Topic::Unknown(topic) => write!(f, "topic of kind {}", topic.kind),
        }
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Topic::Announcements => {
                let mut parts = serializer.serialize_tuple(1)?;
                parts.serialize_element(&ANNOUNCEMENTS)?;
                parts.end()
            }
            Topic::Room(room) => (ROOM, room.as_str()).serialize(serializer),
            Topic::Unknown(topic) => (topic.kind, topic.carriage.0, &*topic.name).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Topic, D::Error> {
        struct Parts;
        impl<'de> de::Visitor<'de> for Parts {
            type Value = Topic;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a kind of topic and what is behind it")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Topic, A::Error> {
                let missing = |at| move || de::Error::invalid_length(at, &Parts);
                let kind: u32 = seq.next_element()?.ok_or_else(missing(0))?;
                match kind {
                    ANNOUNCEMENTS => Ok(Topic::Announcements),
                    ROOM => Ok(Topic::Room(seq.next_element()?.ok_or_else(missing(1))?)),
                    _ => {
                        let carriage = Carriage(seq.next_element()?.ok_or_else(missing(1))?);
                        let name: &[u8] = seq.next_element()?.ok_or_else(missing(2))?;
                        let topic = UnknownTopic::new(kind, carriage, name);
                        topic.map(Topic::Unknown).ok_or_else(|| de::Error::custom("a name this long"))
                    }
                }
            }
        }
        // Of the longest one: how many there are is said by the kind.
        deserializer.deserialize_tuple(3, Parts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unknown(kind: u32, carriage: Carriage, name: &[u8]) -> Topic {
        Topic::Unknown(UnknownTopic::new(kind, carriage, name).expect("a topic"))
    }

    #[test]
    fn announcements_sort_before_every_room_and_what_is_unknown_behind() {
        let room = Topic::Room(RoomName::new("0").expect("a name"));
        assert!(Topic::Announcements < room && Topic::Announcements.class() < room.class());
        assert!(room < unknown(2, Carriage::ANNOUNCEMENT, b""));
    }

    #[test]
    fn what_lies_on_disks_is_written_as_ever() {
        let room = Topic::Room(RoomName::new("bar").expect("a name"));
        for (topic, bytes) in [(Topic::Announcements, &[0][..]), (room, &[1, 3, b'b', b'a', b'r'])] {
            assert_eq!(postcard::to_stdvec(&topic).expect("serializes"), bytes);
            assert_eq!(postcard::from_bytes::<Topic>(bytes), Ok(topic));
        }
    }

    #[test]
    fn an_unknown_topic_says_how_it_travels_and_is_kept_as_it_came() {
        let bytes = [200, 1, 0x81, 2, b'a', 0xff, 9];
        let (topic, rest): (Topic, &[u8]) = postcard::take_from_bytes(&bytes).expect("a topic");
        assert_eq!(rest, [9], "what follows is not its own");
        let Topic::Unknown(parts) = &topic else { panic!("{topic:?}") };
        assert_eq!((parts.kind(), parts.carriage().audience(), parts.name()), (200, 0x20, &b"a\xff"[..]));
        assert_eq!(topic.class(), Class::Announcement);
        assert_eq!(postcard::to_stdvec(&topic).expect("serializes"), bytes[..6]);
        assert_eq!(unknown(7, Carriage(2), b"").class(), Class::Chat);
    }

    #[test]
    fn a_name_that_is_too_long_and_a_known_kind_are_refused() {
        assert_eq!(UnknownTopic::new(1, Carriage::CHAT, b"bar"), None);
        let mut bytes = vec![9, 0, 129, 1];
        bytes.resize(4 + 129, 0);
        assert!(postcard::from_bytes::<Topic>(&bytes).is_err());
        bytes.truncate(4 + 128);
        (bytes[2], bytes[3]) = (128, 1);
        assert!(postcard::from_bytes::<Topic>(&bytes).is_ok());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok((topic, _)) = postcard::take_from_bytes::<Topic>(&bytes) {
                let again = postcard::to_stdvec(&topic).expect("serializes");
                prop_assert_eq!(postcard::from_bytes::<Topic>(&again), Ok(topic));
            }
        }
    }
}
