//! The messages between neighbors: one postcard enum; `docs/mesh.md` is the manual. What stands around it, and what becomes
//! of what is not one of these, is in `envelope.rs`. What a message means belongs to the file that handles it.

use bytes::Bytes;
use protocol::{
    BridgeVersion, NodeId, Topic,
    fields::{self, Fields},
    mesh::{Alias, Class, StreamTrack, TrackKey},
    parity::Protection,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::MeshError,
    wire::{
        area::{AreaId, AreaPath, Fragment},
        envelope::{Opaque, Received, Scope},
        file::FileMessage,
        log_entry::{Entry, LogKey, PAYLOAD_MAX},
        metric::Rate,
        signed_lsa::{Key, SignedLsa},
    },
};

/// No message is longer, in bytes.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Entries in one [`Message::Digest`] or [`Message::Request`]; a longer list is sent in parts.
pub const ENTRIES_MAX: usize = 2048;
/// Parts of the database that are compared by a hash each.
pub const BUCKETS: usize = 64;
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
        /// The LSA.
        lsa: SignedLsa,
    },
    /// The LSAs the sender has, by key and sequence.
    Digest {
        /// At most [`ENTRIES_MAX`].
        entries: Vec<(Key, u64)>,
    },
    /// Asks for these LSAs.
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
        ask: JoinParams,
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
    Announce {
        /// At most [`ENTRIES_MAX`].
        entries: Vec<(Key, u64)>,
    },
    /// The first message on a link: which area the sender is in.
    Area {
        /// Its number.
        area: AreaId,
    },
    /// To a neighbor in another area: how the sender reaches a fragment, or that it does not any more.
    AreaPath {
        /// Where to.
        fragment: Fragment,
        /// From the sender on.
        area_path: Option<AreaPath>,
    },
    /// Hashes of the parts of the sender's database; a [`Message::Digest`] of those that differ follows.
    Buckets {
        /// One for each part.
        hashes: Vec<u32>,
    },
    /// Something about a file.
    File(FileMessage),
    /// How much parity the sender wants of the media that comes to it over this link.
    Protect {
        /// Of sound and of pictures.
        protection: Protection,
    },
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
pub struct JoinParams {
    /// A relay that only serves the secondaries of others needs no secondary of its own.
    pub role: Role,
    /// Packets are to be sent; else it is only agreed that they could be.
    pub active: bool,
    /// Relays that the path should not contain, if there is another one. At most [`PATH_MAX`].
    pub avoid: Vec<NodeId>,
    /// How many listeners at the child and behind it gain by the track; 0 if that is not said. Stands in a field behind
    /// the message, so that relays that do not know it pass over it.
    #[serde(skip)]
    pub behind: u16,
    /// Nothing less will do: a relay behind the child knows of no rungs. Stands in a field behind the message.
    #[serde(skip)]
    pub needed: bool,
}

/// The number of the field behind a join that says how many listeners are behind the child: 16 bits, big-endian.
const BEHIND: u32 = 0;
/// The number of the field behind a join that says that nothing less will do: it is empty.
const NEEDED: u32 = 1;

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
    pub has_disjoint_backup: bool,
    /// An edge on the path from which nothing was heard for a moment.
    pub suspect_edge: Option<(NodeId, NodeId)>,
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
    /// How many kinds there are. Those from here on are not known.
    pub const KINDS: u32 = 23;
    /// The kind of those about files, and how many kinds of them there are.
    pub(crate) const FILE: u32 = 21;
    pub(crate) const FILE_KINDS: u32 = 6;

    /// The bridge version it came with: it is sent only where that one or a later one is spoken.
    pub fn since(&self) -> BridgeVersion {
        match self {
            Message::Join { track, .. }
            | Message::Joined { track, .. }
            | Message::Refused { track, .. }
            | Message::Leave { track, .. }
            | Message::Lost { track, .. }
            | Message::Keyframe { track } => since(track.track),
            Message::Protect { .. } => BridgeVersion::PARITY,
            _ => BridgeVersion::FIRST,
        }
    }

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
        let mut bytes = postcard::to_extend(self, vec![Scope::Link.octet()])
            .expect("a message has no part that cannot be serialized");
        if let Message::Join { ask: JoinParams { behind, needed, .. }, .. } = self {
            if *behind > 0 {
                fields::write(&mut bytes, BEHIND, &behind.to_be_bytes());
            }
            if *needed {
                fields::write(&mut bytes, NEEDED, &[]);
            }
        }
        bytes.into()
    }

    /// From bytes. Total: whatever they are, an error at worst. [`Received::decode`] tells more of what is not known.
    ///
    /// # Errors
    ///
    /// Which kind of bytes they are instead: too long, malformed, absurd, or a message that is not known.
    pub fn decode(bytes: &[u8]) -> Result<Message, MeshError> {
        match Received::decode(bytes)? {
            Received::Known { message, .. } => Ok(message),
            Received::PassedOver { .. } | Received::PassedOn(_) => Err(MeshError::Unknown),
        }
    }

    /// Takes what is said in fields behind it. Gives how many of them are not known.
    pub(super) fn take_fields(&mut self, said: Fields<'_>) -> usize {
        let Message::Join { ask, .. } = self else { return said.besides(&[]) };
        if let Some(&[high, low]) = said.get(BEHIND) {
            ask.behind = u16::from_be_bytes([high, low]);
        }
        ask.needed = said.get(NEEDED).is_some();
        said.besides(&[BEHIND, NEEDED])
    }

    /// Refuses what no relay says.
    pub(super) fn check(&self) -> Result<(), MeshError> {
        let absurd = |what| Err(MeshError::Absurd { what });
        match self {
            Message::LinkState { lsa, .. } => lsa.lsa().check()?,
            Message::Digest { entries } if entries.len() > ENTRIES_MAX => {
                return absurd("a digest this long");
            }
            Message::Request { keys } if keys.len() > ENTRIES_MAX => {
                return absurd("a request this long");
            }
            Message::AreaPath { fragment, area_path } => {
                area_path.iter().try_for_each(|area_path| area_path.check(fragment))?;
            }
            Message::Announce { entries } if entries.len() > ENTRIES_MAX => return absurd("news this long"),
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
        Ok(())
    }
}

/// The bridge version that such a track came with.
pub(crate) fn since(track: StreamTrack) -> BridgeVersion {
    match track {
        StreamTrack::Audio | StreamTrack::Video => BridgeVersion::FIRST,
        StreamTrack::Encoding(_) => BridgeVersion::ENCODINGS,
        StreamTrack::Rung(_) => BridgeVersion::RUNGS,
    }
}

/// A message as it leaves: its bytes, made once for all links, and what a link has to know of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub class: Class,
    pub of_use: bool,
    /// Where an earlier version is spoken it does not leave.
    pub since: BridgeVersion,
    pub bytes: Bytes,
}

impl From<&Message> for Encoded {
    fn from(message: &Message) -> Encoded {
        Encoded {
            class: message.class(),
            of_use: message.of_use(),
            since: message.since(),
            bytes: message.encode(),
        }
    }
}

impl From<&Opaque> for Encoded {
    fn from(message: &Opaque) -> Encoded {
        Encoded { class: Class::Control, of_use: true, since: BridgeVersion::FIRST, bytes: message.encode() }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
