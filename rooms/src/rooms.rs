//! The doors of the crate: posts and records in, events for this relay's participants out.
//! Keeps every room in memory; the log, its storage and its way through the mesh belong to the driver.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use protocol::{
    FileId, NodeId, RoomName, ZoneName,
    api::{self, NewMessage},
    signaling::FromRelay,
};

use crate::{
    chat::{Chat, HybridClock, Place, check_author, check_nonce, check_text},
    error::RoomsError,
    file::{File, NewFile, media_type, shown_name},
    room::{ParticipantId, Room},
    wall::WallTime,
};

/// Rooms kept in memory. Beyond it the room that was used longest ago and has nobody in it is dropped
/// from memory; its records stay in the log.
pub const ROOMS_MAX: usize = 1000;
/// Messages in [`Rooms::welcome`].
pub const WELCOME_MESSAGES: usize = 100;

/// All rooms of one relay.
///
/// A message's way: [`handle_post`](Rooms::handle_post) checks it and gives the payload of a log record;
/// the driver appends and stores that record and then hands it back, with its writer and number, to
/// [`handle_record`](Rooms::handle_record), like every record of another relay. After each `handle_…`
/// the driver calls [`poll_output`](Rooms::poll_output) until nothing is left.
#[derive(Debug)]
pub struct Rooms {
    zone: ZoneName,
    rooms: BTreeMap<RoomName, Room>,
    clock: HybridClock,
    participants: u64,
    uses: u64,
    /// At most one entry for each `handle_…` since the last poll.
    outputs: VecDeque<Output>,
}

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, the same in every zone.
    pub id: String,
    /// What to append to this relay's log; `None` if the message is known already.
    pub payload: Option<Bytes>,
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
}

impl Rooms {
    /// No rooms yet; `zone` is written on the messages posted here.
    pub fn new(zone: ZoneName) -> Rooms {
        Rooms {
            zone,
            rooms: BTreeMap::new(),
            clock: HybridClock::default(),
            participants: 0,
            uses: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Checks a message posted at this relay. It shows only once its record came back through
    /// [`handle_record`](Rooms::handle_record).
    ///
    /// Without a nonce the message is one of its own, told apart from its equals by this relay's clock;
    /// a caller that has randomness passes a random nonce instead.
    pub fn handle_post(
        &mut self,
        room: RoomName,
        new: NewMessage,
        now: WallTime,
    ) -> Result<Accepted, RoomsError> {
        let author = check_author(&new.author)?;
        check_text(&new.text)?;
        if let Some(nonce) = &new.nonce {
            check_nonce(nonce)?;
        }
        self.use_room(&room)?;
        let clock = self.clock.tick(now);
        let nonce = new.nonce.unwrap_or_else(|| hash_nonce(&self.zone, clock));
        let zone = self.zone.clone();
        let chat = Chat { room, author, text: new.text, nonce, zone, sent_at: now, clock };
        let id = chat.id();
        let known = self.rooms.get(&chat.room).is_some_and(|room| room.contains(&id));
        Ok(Accepted { id, payload: (!known).then(|| chat.encode()) })
    }

    /// Takes a record of the log, this relay's own included; each (writer, number) once. `live` is false
    /// while the log is read back at start: nobody is told then. A message that is known already under
    /// another record is ignored.
    pub fn handle_record(
        &mut self,
        writer: NodeId,
        number: u64,
        payload: &Bytes,
        live: bool,
        now: WallTime,
    ) -> Result<(), RoomsError> {
        if let Some(file) = File::decode(payload) {
            return self.take_file(file?, (writer, number), live, now);
        }
        let mut chat = Chat::decode(payload)?;
        chat.clock = chat.clock.clamped(now);
        chat.sent_at = chat.sent_at.min(WallTime(now.0.saturating_add(crate::chat::AHEAD_MAX_MS)));
        self.clock.observe(chat.clock);
        let id = chat.id();
        let room_name = chat.room.clone();
        let place = Place { clock: chat.clock, writer, number };
        let room = self.use_room(&room_name)?;
        let message = room.insert(place, id, chat).map(|kept| kept.to_api());
        if live && let Some(message) = message {
            self.outputs.push_back(Output::Tell { room: room_name, event: FromRelay::Message { message } });
        }
        Ok(())
    }

    /// Announces in a room a file that is on this relay's disk; like a message it shows once its record came
    /// back. The id is the file's.
    pub fn handle_share(
        &mut self,
        room: RoomName,
        new: NewFile,
        origin: NodeId,
        now: WallTime,
    ) -> Result<Accepted, RoomsError> {
        let author = check_author(&new.author)?;
        self.use_room(&room)?;
        let known = self.rooms.get(&room).is_some_and(|room| room.files.find(&new.file).is_some());
        let clock = self.clock.tick(now);
        let file = File {
            room,
            file: new.file,
            name: shown_name(&new.name),
            length: new.length,
            media_type: media_type(&new.media_type),
            author,
            origin,
            zone: self.zone.clone(),
            sent_at: now,
            clock,
        };
        Ok(Accepted { id: new.file.to_string(), payload: (!known).then(|| file.encode()) })
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
        mut file: File,
        (writer, number): (NodeId, u64),
        live: bool,
        now: WallTime,
    ) -> Result<(), RoomsError> {
        file.clock = file.clock.clamped(now);
        file.sent_at = file.sent_at.min(WallTime(now.0.saturating_add(crate::chat::AHEAD_MAX_MS)));
        self.clock.observe(file.clock);
        let name = file.room.clone();
        let place = Place { clock: file.clock, writer, number };
        let shared = self.use_room(&name)?.files.insert(place, file);
        if live && let Some(file) = shared {
            self.outputs.push_back(Output::Tell { room: name, event: FromRelay::File { file } });
        }
        Ok(())
    }

    /// Somebody enters the room at this relay; everybody in it, the newcomer included, is told how many
    /// there are.
    pub fn handle_enter(&mut self, room: &RoomName) -> Result<ParticipantId, RoomsError> {
        let participant = ParticipantId(self.participants);
        self.use_room(room)?.enter(participant)?;
        self.participants += 1;
        self.tell_presence(room);
        Ok(participant)
    }

    /// Somebody left the room; nothing happens if the participant was not in it.
    pub fn handle_leave(&mut self, room: &RoomName, participant: ParticipantId) {
        if self.rooms.get_mut(room).is_some_and(|room| room.leave(participant)) {
            self.tell_presence(room);
        }
    }

    /// What there is to do; call until `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The newest `limit` messages of a room in display order, or the first `limit` after the message
    /// with id `after`. A room nobody has spoken in is empty, not an error.
    pub fn history(
        &self,
        room: &RoomName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<api::Message>, RoomsError> {
        match self.rooms.get(room) {
            Some(room) => room.history(after, limit),
            None => Room::default().history(after, limit),
        }
    }

    /// How many are in the room at this relay.
    pub fn present(&self, room: &RoomName) -> u32 {
        self.rooms.get(room).map_or(0, Room::present)
    }

    /// The first message for somebody who entered the room.
    pub fn welcome(&self, room: &RoomName) -> FromRelay {
        FromRelay::Welcome {
            zone: self.zone.to_string(),
            history: self.history(room, None, WELCOME_MESSAGES).unwrap_or_default(),
            present: self.present(room),
        }
    }

    fn tell_presence(&mut self, room: &RoomName) {
        let event = FromRelay::Presence { present: self.present(room) };
        self.outputs.push_back(Output::Tell { room: room.clone(), event });
    }

    /// The room, made if need be, in place of the one that has been idle longest if there are too many.
    fn use_room(&mut self, name: &RoomName) -> Result<&mut Room, RoomsError> {
        self.uses += 1;
        if self.rooms.len() >= ROOMS_MAX && !self.rooms.contains_key(name) {
            let idle = self.rooms.iter().filter(|(_, room)| room.present() == 0);
            let idle = idle.min_by_key(|(_, room)| room.last_use).map(|(name, _)| name.clone());
            self.rooms.remove(&idle.ok_or(RoomsError::TooManyRooms)?);
        }
        let room = self.rooms.entry(name.clone()).or_default();
        room.last_use = self.uses;
        Ok(room)
    }
}

/// The clock never gives the same reading twice, so neither does this.
fn hash_nonce(zone: &ZoneName, clock: HybridClock) -> String {
    let text = format!("{zone} {clock:?}");
    hex::encode(&blake3::hash(text.as_bytes()).as_bytes()[..16])
}
