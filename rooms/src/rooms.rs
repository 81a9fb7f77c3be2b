//! The doors of the crate: posts and records in, events for this relay's participants out.
//! Keeps every room in memory; the log, its storage and its way through the mesh belong to the driver.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use protocol::{
    FileId, Hlc, NodeId, RoomName, Topic, WallTime, ZoneName,
    api::{self, NewMessage},
    hlc::AHEAD_MAX_MS,
    signaling::FromRelay,
};

use crate::{
    chat::Chat,
    error::RoomsError,
    file::{File, NewFile, media_type, shown_name},
    limits::{PAYLOAD_MAX, RENEWED, VISITED_MAX},
    message::{Kept, Zones},
    payload::{Beside, Payload},
    place::{Known, Place, Source},
    room::{ParticipantId, Room},
    text::{check_author, check_nonce, check_text},
};

/// Rooms in which something was said, kept in memory. Beyond it one that has nobody in it, in which little was said
/// or for a long time nothing, is dropped from memory; its records stay in the log.
pub const ROOMS_MAX: usize = 1000;
/// Relays whose zone is kept in mind.
const ZONES_MAX: usize = 16_384;
/// A room in which so much was said does not give way to one in which less was.
const SPOKEN_IN: usize = 16;
/// Bytes that the messages of all rooms take in memory, about; the room with most gives way.
pub const TOTAL_MAX: usize = 32 << 20;
/// Messages in [`Rooms::welcome`].
pub const WELCOME_MESSAGES: usize = 100;
/// Announcements in [`Rooms::welcome`].
pub const WELCOME_ANNOUNCEMENTS: usize = 10;

/// All rooms of one relay.
///
/// A message's way: [`handle_post`](Rooms::handle_post) checks it and gives the payload of a log record;
/// the driver appends and stores that record and then hands it back to
/// [`handle_record`](Rooms::handle_record), like every record of another relay. After each `handle_…`
/// the driver calls [`poll_output`](Rooms::poll_output) until nothing is left.
#[derive(Debug)]
pub struct Rooms {
    zone: ZoneName,
    rooms: BTreeMap<RoomName, Room>,
    announcements: Room,
    zones: Zones,
    /// Of the messages in all rooms.
    bytes: usize,
    participants: u64,
    posts: u64,
    words: u64,
    /// Rooms in which something was said.
    spoken_in: usize,
    /// At most one entry for each `handle_…` since the last poll.
    outputs: VecDeque<Output>,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, the same in every zone.
    pub id: String,
    /// What to append to this relay's log about the topic; `None` if the message is known already.
    pub payload: Option<Bytes>,
    /// The record of a message that is known already.
    pub known: Option<Known>,
}

/// A record of a log, as it concerns rooms.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// What it is about.
    pub topic: &'a Topic,
    /// Who wrote it.
    pub writer: NodeId,
    /// Which incarnation of the writer its log is of.
    pub incarnation: u64,
    /// Its number in the writer's log about the topic.
    pub number: u64,
    /// When.
    pub hlc: Hlc,
    /// What it says.
    pub payload: &'a Bytes,
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send `event` to every participant of `room` at this relay.
    Tell {
        /// The room.
        room: RoomName,
        /// What to send.
        event: FromRelay,
    },
    /// Send `event` to every participant of every room at this relay.
    TellAll {
        /// What to send.
        event: FromRelay,
    },
}

impl Rooms {
    /// No rooms yet; `zone` is written on the messages posted here.
    pub fn new(zone: ZoneName) -> Rooms {
        Rooms {
            zone,
            rooms: BTreeMap::new(),
            announcements: Room::default(),
            zones: Zones::new(),
            bytes: 0,
            participants: 0,
            posts: 0,
            words: 0,
            spoken_in: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Checks a message posted at this relay, or an announcement. It shows only once its record came back
    /// through [`handle_record`](Rooms::handle_record).
    ///
    /// `source` says which messages came from one place: by it a full room keeps something of everybody.
    /// Without a nonce the message is one of its own, told apart from its equals by when and where it was
    /// posted; a caller that has randomness passes a random nonce instead.
    ///
    /// # Errors
    ///
    /// [`RoomsError::Empty`], [`RoomsError::TooLong`] or [`RoomsError::Control`] names the field that is wrong;
    /// [`RoomsError::TooLarge`] if no record can carry it all.
    pub fn handle_post(
        &mut self,
        topic: &Topic,
        new: NewMessage,
        source: Source,
        now: WallTime,
    ) -> Result<Accepted, RoomsError> {
        let author = check_author(&new.author)?;
        check_text(&new.text)?;
        if let Some(nonce) = &new.nonce {
            check_nonce(nonce)?;
        }
        self.posts += 1;
        let nonce = new.nonce.unwrap_or_else(|| hash_nonce(&self.zone, now, self.posts));
        let zone = self.zone.clone();
        let chat = Chat { author, text: new.text, nonce, zone, sent_at: now };
        let id = chat.id(topic);
        let known = self.room(topic).and_then(|room| room.known(id));
        let payload = known.is_none().then(|| Payload::Chat(chat).encode(Beside { source, first: None }));
        let most = PAYLOAD_MAX - RENEWED;
        if let Some(length) = payload.as_ref().map(Bytes::len).filter(|length| *length > most) {
            return Err(RoomsError::TooLarge { length, most });
        }
        Ok(Accepted { id: id.to_string(), payload, known })
    }

    /// Whether something was said in the room, as far as is known here.
    pub fn was_spoken_in(&self, room: &RoomName) -> bool {
        self.rooms.get(room).is_some_and(|room| room.spoken)
    }

    /// A record is about to be dropped from its log. If a room keeps what it says, and no later record of that
    /// writer says it, this is what to append in its place: so a log loses what its room has lost, and not what
    /// was said before a flood.
    pub fn renewal(&self, written: Written<'_>) -> Option<Bytes> {
        let (room, newest) = (self.room(written.topic)?, (written.incarnation, written.number));
        if let Some(file) = Payload::decode_file(written.payload) {
            let (file, beside) = file.ok()?;
            let place = room.files.newest(&file.file, &written.writer, newest)?;
            return Some(Payload::File(file).encode(Beside { first: Some(place.clock), ..beside }));
        }
        let (chat, beside) = Payload::decode_chat(written.payload).ok()?;
        let (place, _) = room.newest(chat.id(written.topic), &written.writer, newest)?;
        Some(Payload::Chat(chat).encode(Beside { first: Some(place.clock), ..beside }))
    }

    /// A relay is known to be of a zone: messages that it signed are shown to be from there.
    pub fn handle_zone(&mut self, relay: NodeId, zone: ZoneName) {
        if self.zones.len() < ZONES_MAX || self.zones.contains_key(&relay) {
            self.zones.insert(relay, zone);
        }
    }

    /// The relays that wrote what is kept about a topic.
    pub fn writers(&self, topic: &Topic) -> BTreeSet<NodeId> {
        self.room(topic).map(Room::writers).unwrap_or_default()
    }

    /// Takes a record of a log, this relay's own included, each once. `live` is false while the logs are
    /// read back at start: nobody is told then. A message that is known already under another record is
    /// ignored. A clock that is more than a minute ahead of this relay's is marked, and its message stands
    /// where the latest believed one would.
    ///
    /// # Errors
    ///
    /// [`RoomsError::Unreadable`] and those of [`handle_post`](Rooms::handle_post), if this version would not have written it.
    /// It stays in the log and is not shown.
    pub fn handle_record(
        &mut self,
        written: Written<'_>,
        live: bool,
        now: WallTime,
    ) -> Result<(), RoomsError> {
        let Written { topic, writer, incarnation, number, payload, .. } = written;
        if let Some(file) = Payload::decode_file(payload) {
            return self.take_file(file?, written, live, now);
        }
        let (chat, beside) = Payload::decode_chat(payload)?;
        let hlc = beside.first.map_or(written.hlc, |first| first.min(written.hlc));
        let sent = (chat.sent_at.min(WallTime(now.0.saturating_add(AHEAD_MAX_MS))), hlc.ahead(now));
        let place = Place { clock: hlc.clamped(now), writer, number, incarnation };
        let kept = Kept::new(topic, (&chat, beside), payload.clone(), sent, (incarnation, number));
        let zone = self.zones.get(&writer).cloned();
        let room = match topic {
            Topic::Room(room) => self.speak_in(room),
            Topic::Announcements => &mut self.announcements,
            // Of a later version, whatever the payload looks like: kept in its log, shown by who knows it.
            Topic::Unknown(_) => return Err(RoomsError::Unreadable),
        };
        let before = room.bytes();
        let message = room.insert(place, kept).map(|kept| kept.to_api(&writer, zone.as_ref()));
        let after = room.bytes();
        self.bytes = self.bytes + after - before;
        self.give_way();
        let Some(message) = message.filter(|_| live) else { return Ok(()) };
        self.outputs.push_back(match topic {
            Topic::Room(room) => Output::Tell { room: room.clone(), event: FromRelay::Message { message } },
            Topic::Announcements => Output::TellAll { event: FromRelay::Announcement { message } },
            Topic::Unknown(_) => return Ok(()),
        });
        Ok(())
    }

    /// A message that was said to be on this relay's disk only is on another one too.
    pub fn handle_saved(&mut self, topic: &Topic, id: String) {
        let event = FromRelay::Saved { id };
        self.outputs.push_back(match topic {
            Topic::Room(room) => Output::Tell { room: room.clone(), event },
            Topic::Announcements => Output::TellAll { event },
            Topic::Unknown(_) => return,
        });
    }

    /// Announces in a room a file that is on this relay's disk; like a message it shows once its record came
    /// back. The id is the file's.
    ///
    /// # Errors
    ///
    /// [`RoomsError::Empty`], [`RoomsError::TooLong`] or [`RoomsError::Control`], of the field `author`.
    pub fn handle_share(
        &mut self,
        room: &RoomName,
        new: NewFile,
        origin: NodeId,
        now: WallTime,
    ) -> Result<Accepted, RoomsError> {
        let author = check_author(&new.author)?;
        let known = self.rooms.get(room).and_then(|room| room.files.known(&new.file));
        let file = File {
            file: new.file,
            name: shown_name(&new.name),
            length: new.length,
            media_type: media_type(&new.media_type),
            author,
            origin,
            zone: self.zone.clone(),
            sent_at: now,
        };
        Ok(Accepted {
            id: new.file.to_string(),
            payload: known.is_none().then(|| Payload::File(file).encode(Beside::default())),
            known,
        })
    }

    /// The files of a room in display order, and the id of each.
    pub fn files(&self, room: &RoomName) -> Vec<(FileId, api::SharedFile)> {
        let files = self.rooms.get(room).into_iter().flat_map(|room| room.files.iter());
        files.map(|file| (file.file, file.to_api())).collect()
    }

    /// The relay that announced a file in any room.
    pub fn file_origin(&self, file: &FileId) -> Option<NodeId> {
        self.rooms.values().find_map(|room| room.files.find(file)).map(|file| file.origin)
    }

    fn take_file(
        &mut self,
        (mut file, beside): (File, Beside),
        written: Written<'_>,
        live: bool,
        now: WallTime,
    ) -> Result<(), RoomsError> {
        // Files belong to rooms: an announcement has nowhere to show one.
        let Topic::Room(room) = written.topic else { return Err(RoomsError::Unreadable) };
        file.sent_at = file.sent_at.min(WallTime(now.0.saturating_add(AHEAD_MAX_MS)));
        let hlc = beside.first.map_or(written.hlc, |first| first.min(written.hlc));
        let Written { writer, number, incarnation, .. } = written;
        let place = Place { clock: hlc.clamped(now), writer, number, incarnation };
        let shared = self.speak_in(room).files.insert(place, file, (written.incarnation, written.number));
        if live && let Some(file) = shared {
            self.outputs.push_back(Output::Tell { room: room.clone(), event: FromRelay::File { file } });
        }
        Ok(())
    }

    /// Somebody enters the room at this relay; everybody in it, the newcomer included, is told how many
    /// there are.
    ///
    /// # Errors
    ///
    /// [`RoomsError::Full`] if the room has no place, [`RoomsError::TooManyRooms`] if there is none for another room.
    pub fn handle_enter(&mut self, room: &RoomName) -> Result<ParticipantId, RoomsError> {
        let participant = ParticipantId(self.participants);
        if !self.rooms.contains_key(room) && self.rooms.len() - self.spoken_in >= VISITED_MAX {
            return Err(RoomsError::TooManyRooms);
        }
        self.rooms.entry(room.clone()).or_default().enter(participant)?;
        self.participants += 1;
        self.tell_presence(room);
        Ok(participant)
    }

    /// Somebody left the room; nothing happens if the participant was not in it.
    pub fn handle_leave(&mut self, room: &RoomName, participant: ParticipantId) {
        let Some(left) = self.rooms.get_mut(room) else { return };
        if left.leave(participant) {
            if left.present() == 0 && !left.spoken {
                self.rooms.remove(room);
            }
            self.tell_presence(room);
        }
    }

    /// What there is to do; call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The newest `limit` messages of a room in display order, or the first `limit` after the message
    /// with id `after`. A room nobody has spoken in is empty, not an error.
    ///
    /// # Errors
    ///
    /// [`RoomsError::UnknownMessage`] if `after` is not there.
    pub fn history(
        &self,
        room: &RoomName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<api::Message>, RoomsError> {
        match self.rooms.get(room) {
            Some(room) => room.history(after, limit, &self.zones),
            None => Room::default().history(after, limit, &self.zones),
        }
    }

    /// The newest `limit` announcements in display order, or the first `limit` after the one with id
    /// `after`.
    ///
    /// # Errors
    ///
    /// [`RoomsError::UnknownMessage`] if `after` is not there.
    pub fn announcements(&self, after: Option<&str>, limit: usize) -> Result<Vec<api::Message>, RoomsError> {
        self.announcements.history(after, limit, &self.zones)
    }

    /// How many are in the room at this relay.
    pub fn present(&self, room: &RoomName) -> u32 {
        self.rooms.get(room).map_or(0, Room::present)
    }

    /// The first message for somebody who entered the room.
    pub fn welcome(&self, room: &RoomName) -> FromRelay {
        FromRelay::Welcome {
            zone: self.zone.to_string(),
            history: self.newest_of_all(room),
            present: self.present(room),
            announcements: self.announcements(None, WELCOME_ANNOUNCEMENTS).unwrap_or_default(),
        }
    }

    fn newest_of_all(&self, room: &RoomName) -> Vec<api::Message> {
        let room = self.rooms.get(room);
        room.map(|room| room.newest_of_all(WELCOME_MESSAGES, &self.zones)).unwrap_or_default()
    }

    fn room(&self, topic: &Topic) -> Option<&Room> {
        match topic {
            Topic::Room(room) => self.rooms.get(room),
            Topic::Announcements => Some(&self.announcements),
            Topic::Unknown(_) => None,
        }
    }

    /// Keeps the bound of all rooms together.
    fn give_way(&mut self) {
        while self.bytes > TOTAL_MAX {
            let Some(room) = self.rooms.values_mut().max_by_key(|room| room.bytes()) else { return };
            let before = room.bytes();
            // A piece at once: the rooms are searched for each.
            while room.bytes() > 0 && room.bytes() >= before - before / 8 {
                room.give_way();
            }
            self.bytes -= before - room.bytes();
        }
    }

    fn tell_presence(&mut self, room: &RoomName) {
        let event = FromRelay::Presence { present: self.present(room) };
        self.outputs.push_back(Output::Tell { room: room.clone(), event });
    }

    /// The room in which something is said, made if need be. If there are too many, another one gives way: one
    /// without people before one with people, one in which little was said before one in which more was, then
    /// the one that was silent longest. Only what was said gives way: people stay.
    fn speak_in(&mut self, name: &RoomName) -> &mut Room {
        self.words += 1;
        if !self.was_spoken_in(name) {
            if self.spoken_in >= ROOMS_MAX {
                self.drop_one();
            }
            self.spoken_in += 1;
        }
        let room = self.rooms.entry(name.clone()).or_default();
        (room.spoken, room.last_word) = (true, self.words);
        room
    }

    fn drop_one(&mut self) {
        let spoken_in = self.rooms.iter().filter(|(_, room)| room.spoken);
        let worth = |room: &Room| (room.present() > 0, room.len().min(SPOKEN_IN), room.last_word);
        let Some(name) = spoken_in.min_by_key(|(_, room)| worth(room)).map(|(name, _)| name.clone()) else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&name) else { return };
        self.bytes -= room.bytes();
        self.spoken_in -= 1;
        room.forget_words();
        if room.present() == 0 {
            self.rooms.remove(&name);
        }
    }
}

/// No two posts of one relay have the same.
fn hash_nonce(zone: &ZoneName, now: WallTime, posts: u64) -> String {
    let text = format!("{zone} {} {posts}", now.0);
    hex::encode(&blake3::hash(text.as_bytes()).as_bytes()[..16])
}
