//! Who is in which room and what they say there, on its way to the rooms and to this relay's logs. Records that come
//! back from the disk are in `records.rs`.

use std::time::Instant;

use mesh_routing::{Counters, LogKey};
use protocol::{
    RoomName, Topic,
    api::{NewMessage, Saved},
};
use rooms::{Accepted, Known, NewFile, Output, ParticipantId, RoomsError, Source, WallTime};

use super::Node;

impl Node {
    /// Somebody enters a room.
    ///
    /// # Errors
    ///
    /// As [`Rooms::handle_enter`](rooms::Rooms::handle_enter).
    pub fn handle_enter(&mut self, room: &RoomName) -> Result<ParticipantId, RoomsError> {
        self.rooms.handle_enter(room)
    }

    /// Somebody leaves it.
    pub fn handle_leave(&mut self, room: &RoomName, participant: ParticipantId) {
        self.rooms.handle_leave(room, participant);
    }

    /// Somebody says something; what is accepted has to be appended.
    ///
    /// # Errors
    ///
    /// As [`Rooms::handle_post`](rooms::Rooms::handle_post).
    pub fn handle_post(
        &mut self,
        topic: &Topic,
        new: NewMessage,
        source: Source,
        wall: WallTime,
    ) -> Result<Accepted, RoomsError> {
        self.rooms.handle_post(topic, new, source, wall)
    }

    /// Somebody shares a file that is on disk here.
    ///
    /// # Errors
    ///
    /// As [`Rooms::handle_share`](rooms::Rooms::handle_share).
    pub fn handle_share(
        &mut self,
        room: &RoomName,
        new: NewFile,
        wall: WallTime,
    ) -> Result<Accepted, RoomsError> {
        self.rooms.handle_share(room, new, self.id, wall)
    }

    /// Whether anybody said something in a room before.
    pub fn was_spoken_in(&self, room: &RoomName) -> bool {
        self.rooms.was_spoken_in(room)
    }

    /// Where a message is on disk that was said before, as this record.
    pub fn saved(&self, topic: &Topic, known: Option<Known>) -> Saved {
        let is_saved = |Known { writer, incarnation, number }| {
            let key = LogKey { topic: topic.clone(), writer, incarnation };
            writer != self.id || self.mesh.is_saved(&key, number)
        };
        if known.is_some_and(is_saved) { Saved::Mesh } else { Saved::Here }
    }

    /// A message whose author was told otherwise is on a second disk.
    pub fn handle_saved(&mut self, topic: &Topic, id: String) {
        self.rooms.handle_saved(topic, id);
    }

    /// What the rooms tell participants; call it until there is nothing.
    pub fn poll_room_output(&mut self) -> Option<Output> {
        self.rooms.poll_output()
    }

    /// The time of day, for this relay's logs and rooms.
    pub fn handle_wall(&mut self, wall: WallTime, now: Instant) {
        self.wall = wall;
        self.mesh.handle_wall(wall, now);
    }

    /// What the mesh counted.
    pub fn mesh_counters(&self) -> Counters {
        self.mesh.counters()
    }

    /// The notes of others that came: from whom and how.
    #[cfg(feature = "next")]
    pub fn poll_note(&mut self) -> Option<(protocol::NodeId, mesh_routing::next::Way)> {
        self.mesh.poll_note()
    }
}
