//! The messages between neighbors: one postcard enum behind a version byte; `docs/mesh.md` is the manual.
//! What a message means belongs to the file that handles it.

use bytes::Bytes;
use protocol::{
    NodeId, Topic,
    mesh::{Alias, Class, TrackKey},
};
use serde::{Deserialize, Serialize};

use crate::{
    area::{AreaId, Fragment, Reach},
    blob::FileMessage,
    database::BUCKETS,
    detector::Rate,
    error::MeshError,
    log::{Entry, LogKey, PAYLOAD_MAX},
    record::{Key, Signed},
};

/// The first byte of every message.
pub const VERSION: u8 = 2;
/// No message is longer, in bytes.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Entries in one [`Message::Digest`] or [`Message::Request`]; a longer list is sent in parts.
pub const ENTRIES_MAX: usize = 2048;
/// Relays on a path; a longer one is refused.
pub const PATH_MAX: usize = 64;

/// What a relay says to its neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "Are you there?"
    Probe {
        /// Comes back in the answer.
        nonce: u32,
        /// How soon the sender wants to know that the link is gone.
        rate: Rate,
    },
    /// The answer to a probe.
    ProbeAck {
        /// The probe's.
        nonce: u32,
        /// As in the probe, of whoever answers.
        rate: Rate,
    },
    /// What a relay says of itself, passed on by every relay that did not know it yet.
    LinkState {
        /// How old it is, in milliseconds, as counted by the relays it passed.
        age_ms: u32,
        /// The record.
        record: Signed,
    },
    /// The records the sender has, by key and sequence.
    Digest {
        /// At most [`ENTRIES_MAX`].
        entries: Vec<(Key, u64)>,
    },
    /// Asks for these records.
    Request {
        /// At most [`ENTRIES_MAX`].
        keys: Vec<Key>,
    },
    /// Hashes of what should be equal everywhere; if not, [`Message::Buckets`], [`Message::Heads`] or
    /// [`Message::Topics`] follow.
    Summary {
        /// Of the link-state database.
        database: u64,
        /// Of the heads of the logs.
        logs: u64,
    },
    /// The child wants a track from the parent, each packet under this alias. Repeated as a refresh.
    Join {
        /// Which track.
        track: TrackKey,
        /// Chosen by the child, not used again soon.
        alias: Alias,
        /// What for. Another than before changes it.
        ask: Ask,
    },
    /// The parent has the track, and sends it if the child asked for that. Repeated when the offer changes and as
    /// the answer to a refresh.
    Joined {
        /// Which track.
        track: TrackKey,
        /// As in the join.
        alias: Alias,
        /// What the parent offers.
        offer: Offer,
    },
    /// The parent does not take the child.
    Refused {
        /// Which track.
        track: TrackKey,
        /// As in the join.
        alias: Alias,
        /// Why.
        reason: Refusal,
    },
    /// The child does not want the track any more.
    Leave {
        /// Which track.
        track: TrackKey,
        /// As in the join.
        alias: Alias,
    },
    /// The parent has no track to send any more, and has forgotten the child.
    Lost {
        /// Which track.
        track: TrackKey,
        /// As in the join.
        alias: Alias,
        /// The edge that broke, where the parent knows it: others stay away from it for a moment.
        broken: Option<(NodeId, NodeId)>,
    },
    /// Somebody below needs a keyframe.
    Keyframe {
        /// Which track.
        track: TrackKey,
    },
    /// Records of one log, contiguous.
    Append {
        /// Which log.
        key: LogKey,
        /// The number of the first.
        first: u64,
        /// In order.
        entries: Vec<Entry>,
        /// The relays it was pushed by, the sender last; empty in an answer.
        path: Vec<NodeId>,
        /// Set in the answer to a [`Message::Pull`], also when there is nothing.
        pulled: Option<Pulled>,
    },
    /// How far the sender's logs go.
    Heads {
        /// At most [`Message::HEADS_MAX`]; the first one says in which class they travel.
        entries: Vec<Head>,
        /// It was written just now and may come by another way.
        fresh: bool,
    },
    /// A hash of the heads of each topic, for the topics after one and until one.
    Topics {
        /// None: from the first topic on.
        after: Option<Topic>,
        /// None: to the last one.
        until: Option<Topic>,
        /// At most [`Message::TOPICS_MAX`].
        entries: Vec<(Topic, u64)>,
    },
    /// Asks for records of a log above a number.
    Pull {
        /// Which log.
        key: LogKey,
        /// The highest number the sender has.
        after: u64,
    },
    /// Logs and numbers up to which they are on a disk, the sender's or one beyond it.
    Stored {
        /// At most [`Message::HEADS_MAX`].
        entries: Vec<(LogKey, u64)>,
    },
    /// Records that have just come to the sender, for whoever does not get them by itself.
    News {
        /// At most [`ENTRIES_MAX`].
        entries: Vec<(Key, u64)>,
    },
    /// The first message on a link: which area the sender is in.
    Area {
        /// Its number.
        area: AreaId,
    },
    /// To a neighbor in another area: how the sender reaches a fragment, or that it does not any more.
    Reach {
        /// Where to.
        fragment: Fragment,
        /// From the sender on.
        reach: Option<Reach>,
    },
    /// Hashes of the parts of the sender's database; a [`Message::Digest`] of those that differ follows.
    Buckets {
        /// One for each part.
        hashes: Vec<u32>,
    },
    /// Something about a file.
    File(FileMessage),
}

/// How far a log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Which log.
    pub key: LogKey,
    /// Numbers up to this one are gone.
    pub floor: u64,
    /// The last number.
    pub highest: u64,
}

/// What the answer to a pull says besides the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled {
    /// Numbers up to this one are gone.
    pub floor: u64,
    /// There are more than fit in one answer.
    pub more: bool,
}

/// What a child wants a track for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// A relay that only serves the secondaries of others needs no secondary of its own.
    pub role: Role,
    /// Packets are to be sent; else it is only agreed that they could be.
    pub active: bool,
    /// Relays that the path should not contain, if there is another one. At most [`PATH_MAX`].
    pub avoid: Vec<NodeId>,
}

/// Which of its two feeds of a track a child wants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// The shortest way.
    #[default]
    Primary,
    /// Another way.
    Secondary,
}

/// What a parent offers a child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Relays from the origin to the parent, both included; never the child.
    pub path: Vec<NodeId>,
    /// The parent has a second way, without the child and apart from this one.
    pub guarded: bool,
    /// An edge on the path from which nothing was heard for a moment.
    pub doubt: Option<(NodeId, NodeId)>,
}

/// Why a parent refuses a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// All the parent's ways lead through the child.
    Loop,
    /// The parent does not know the stream.
    Unknown,
    /// The parent finds no way to the origin.
    NoRoute,
    /// The parent's tables are full, or the link is.
    Full,
    /// The parent takes the link for dead.
    LinkDown,
}

impl Message {
    /// Entries in one [`Message::Heads`] or [`Message::Stored`]; a longer list is sent in parts.
    pub const HEADS_MAX: usize = 1024;
    /// Entries in one [`Message::Topics`]; a longer list is sent in parts.
    pub const TOPICS_MAX: usize = 2048;
    /// Relays that push a record on, one after another; those beyond pull it.
    pub const HOPS_MAX: usize = 16;

    /// The class its bytes travel in.
    pub fn class(&self) -> Class {
        match self {
            Message::Append { key, .. } | Message::Pull { key, .. } => key.topic.class(),
            Message::Heads { entries, .. } => {
                entries.first().map_or(Class::Chat, |head| head.key.topic.class())
            }
            Message::Topics { .. } => Class::Chat,
            Message::File(message) => message.class(),
            _ => Class::Control,
        }
    }

    /// Whether it says that the link is of use, rather than keeping it alive.
    pub(crate) fn of_use(&self) -> bool {
        !matches!(self, Message::Probe { .. } | Message::ProbeAck { .. } | Message::Summary { .. })
    }

    /// As bytes.
    pub fn encode(&self) -> Bytes {
        let bytes = postcard::to_extend(self, vec![VERSION])
            .expect("a message has no part that cannot be serialized");
        bytes.into()
    }

    /// From bytes. Total: whatever they are, an error at worst.
    pub fn decode(bytes: &[u8]) -> Result<Message, MeshError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(MeshError::TooLong { length: bytes.len() });
        }
        let (&version, rest) = bytes.split_first().ok_or(MeshError::Malformed)?;
        if version != VERSION {
            return Err(MeshError::Version { found: version });
        }
        match postcard::take_from_bytes(rest) {
            Ok((message, [])) => Message::check(message),
            _ => Err(MeshError::Malformed),
        }
    }

    fn check(self) -> Result<Message, MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        match &self {
            Message::LinkState { record, .. } => record.record().check()?,
            Message::Digest { entries } if entries.len() > ENTRIES_MAX => {
                return absurd("a digest this long");
            }
            Message::Request { keys } if keys.len() > ENTRIES_MAX => {
                return absurd("a request this long");
            }
            Message::Reach { fragment, reach } => {
                reach.iter().try_for_each(|reach| reach.check(fragment))?;
            }
            Message::News { entries } if entries.len() > ENTRIES_MAX => return absurd("news this long"),
            Message::Buckets { hashes } if hashes.len() != BUCKETS => {
                return absurd("another number of parts");
            }
            Message::Joined { offer: Offer { path, .. }, .. } if path.is_empty() || path.len() > PATH_MAX => {
                return absurd("a path of no or too many relays");
            }
            Message::Join { ask, .. } if ask.avoid.len() > PATH_MAX => {
                return absurd("too many relays to avoid");
            }
            Message::Heads { entries, .. } if entries.len() > Message::HEADS_MAX => {
                return absurd("heads this long");
            }
            Message::Heads { entries, .. } if entries.iter().any(|head| head.floor > head.highest) => {
                return absurd("a floor above the highest number");
            }
            Message::Topics { entries, .. } if entries.len() > Message::TOPICS_MAX => {
                return absurd("topics this many");
            }
            Message::Stored { entries } if entries.len() > Message::HEADS_MAX => {
                return absurd("stored logs this many");
            }
            Message::Append { path, .. } if path.len() > Message::HOPS_MAX => {
                return absurd("a record that was pushed so far");
            }
            Message::Append { entries, .. } if entries.iter().any(|e| e.payload.len() > PAYLOAD_MAX) => {
                return absurd("a record this long");
            }
            Message::File(message) => message.check()?,
            _ => {}
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use protocol::{Hlc, Kind, RoomName, StreamName, ZoneName};

    use super::*;
    use crate::{
        LinkId, Mesh,
        area::Way,
        link::Capacity,
        link_state::{Edge, LinkState},
        record::Record,
        signature::SimulatedKeys,
        sim::{config, epoch, node},
    };

    fn track() -> TrackKey {
        TrackKey { origin: node(2), stream: StreamName::new("main-stage").unwrap(), kind: Kind::Audio }
    }

    /// One of each.
    fn samples() -> Vec<Message> {
        let (track, alias) = (track(), Alias(7));
        let key = LogKey { topic: Topic::Room(RoomName::new("lobby").unwrap()), writer: node(1), life: 3 };
        let hello = Bytes::from_static(b"hello");
        let written = crate::log::Record::sign(&SimulatedKeys(node(1)), key.clone(), 1, Hlc(7), hello);
        let links = vec![Edge { neighbor: node(0), cost: 9, rtt_us: 1000, loss: 0, capacity: Capacity(7) }];
        let zone = ZoneName::new("camping").unwrap();
        let said = LinkState::new(node(1), zone, 5, links);
        let record = Signed::new(Record::Links(said), &SimulatedKeys(node(1)));
        let fragment = Fragment { area: AreaId(3), lowest: (&node(4)).into() };
        let (path, publishers) = (vec![fragment], vec![(&node(5)).into()]);
        let reach = Reach { cost: 7, hops: 2, relays: 30, path, publishers };
        let way = Way { origin: node(1), fragment, sequence: 4, reach: Some(reach.clone()) };
        let ask = Ask { role: Role::Secondary, active: true, avoid: vec![node(3)] };
        let doubt = Some((node(2), node(1)));
        let offer = Offer { path: vec![node(2), node(1)], guarded: true, doubt };
        vec![
            Message::Probe { nonce: 1, rate: Rate::Busy },
            Message::ProbeAck { nonce: 1, rate: Rate::Quiet },
            Message::LinkState { age_ms: 10, record },
            Message::Digest { entries: vec![(Key::Links(node(1)), 9), (Key::Streams(node(3)), 1)] },
            Message::Request { keys: vec![Key::Links(node(0)), Key::Streams(node(1))] },
            Message::Summary { database: 1, logs: 2 },
            Message::Join { track: track.clone(), alias, ask },
            Message::Joined { track: track.clone(), alias, offer },
            Message::Refused { track: track.clone(), alias, reason: Refusal::Loop },
            Message::Leave { track: track.clone(), alias },
            Message::Lost { track: track.clone(), alias, broken: Some((node(2), node(1))) },
            Message::Keyframe { track },
            Message::Append {
                key: key.clone(),
                first: 1,
                entries: vec![written.entry],
                path: vec![node(1)],
                pulled: None,
            },
            Message::Append {
                key: key.clone(),
                first: 9,
                entries: Vec::new(),
                path: Vec::new(),
                pulled: Some(Pulled { floor: 0, more: false }),
            },
            Message::Heads { entries: vec![Head { key: key.clone(), floor: 0, highest: 4 }], fresh: true },
            Message::Topics {
                after: None,
                until: Some(key.topic.clone()),
                entries: vec![(Topic::Announcements, 5), (key.topic.clone(), 6)],
            },
            Message::Pull { key: LogKey { writer: node(0), ..key.clone() }, after: 0 },
            Message::Stored { entries: vec![(key, 3)] },
            Message::News { entries: vec![(Key::Links(node(1)), 9)] },
            Message::Buckets { hashes: vec![7; BUCKETS] },
            Message::Area { area: AreaId(3) },
            Message::Reach { fragment, reach: Some(reach.clone()) },
            Message::LinkState { age_ms: 10, record: Signed::new(Record::Way(way), &SimulatedKeys(node(1))) },
        ]
    }

    /// Gives a relay with a neighbor these messages, and everything that follows from them.
    fn feed(messages: &[Vec<u8>]) {
        let mut now = epoch();
        let zone = ZoneName::new("stage").unwrap();
        let mut mesh = Mesh::new(config(node(0), zone, 1, 1), now);
        mesh.handle_link_up(LinkId(1), node(1), now);
        mesh.handle_interest(track(), true, now);
        mesh.handle_append(Topic::Announcements, Bytes::from_static(b"own"), now).unwrap();
        for bytes in messages {
            let _ = mesh.handle_message(LinkId(1), bytes, now);
            while mesh.poll_output().is_some() {}
            now += Duration::from_millis(70);
            mesh.handle_timeout(now);
            while mesh.poll_output().is_some() {}
            let _ = (mesh.topology(), mesh.poll_timeout());
        }
    }

    #[test]
    fn every_message_reads_back_as_written() {
        for message in samples() {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn another_version_is_told_apart() {
        assert_eq!(Message::decode(&[VERSION + 1, 0]), Err(MeshError::Version { found: VERSION + 1 }));
        assert_eq!(Message::decode(&[]), Err(MeshError::Malformed));
    }

    #[test]
    fn a_count_without_the_entries_is_refused_at_once() {
        // A digest of 2^32 entries in ten bytes.
        let bytes = [VERSION, 3, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
        assert_eq!(Message::decode(&bytes), Err(MeshError::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            feed(&[bytes.clone(), [&[VERSION], &bytes[..]].concat()]);
        }

        #[test]
        fn mutated_messages_are_survived(
            picks in proptest::collection::vec((0..23usize, any::<u16>(), any::<u8>(), any::<bool>()), 1..12),
        ) {
            let messages: Vec<Vec<u8>> = picks
                .into_iter()
                .map(|(pick, at, value, mutate)| {
                    let mut bytes = samples()[pick].encode().to_vec();
                    let at = usize::from(at) % bytes.len();
                    if mutate {
                        bytes[at] = value;
                    }
                    bytes
                })
                .collect();
            feed(&messages);
        }
    }
}
