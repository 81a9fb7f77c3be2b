//! What is said, on its way between mesh, rooms and disk: records of logs, what is written again before a log drops it,
//! and of which zone the relays are that signed it. Without I/O.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use mesh_routing::{LogEntry, LogKey, MeshError, NotStored};
use protocol::{Hlc, NodeId, RoomName, Topic, ZoneName, api, signaling::FromRelay, token::Role};
use rooms::{RoomsError, Written};

use crate::{membership::festival::Festival, node::Node, storage::rows::Row};

/// Records at the end of a log that are looked at for each one at its front. More than one, so that the end is
/// looked at before it is dropped, also where most of it is kept.
const RENEWED_AT_ONCE: usize = 4;
/// Announcements of former starts that are looked at at once: all that one log may have.
const RENEWED_ANNOUNCEMENTS: usize = 1000;

impl Node {
    /// This relay is of a festival: of which zone another one is, and whether it may take names over, has to be signed
    /// by the organizer. To be called before any record.
    pub fn set_festival(&mut self, festival: Arc<Festival>, now: Instant) {
        self.festival = Some(festival);
        self.mesh.handle_festival(now);
    }

    /// Shows this relay's token to all others, as a record, if the newest such record says another one.
    pub fn show_zone_token(&mut self, now: Instant) {
        let Some(festival) = &self.festival else { return };
        let (token, _) = festival.shown();
        let takes_over = Some(festival.may_take_over());
        self.mesh.handle_member(self.id, self.zone.clone(), takes_over, now);
        if self.zone_token.as_ref() != Some(&token) {
            match self.handle_append(Topic::Announcements, rooms::zone_token::encode(token.clone()), now) {
                Ok(_) => self.zone_token = Some(token),
                Err(error) => tracing::warn!(%error, "this relay's zone cannot be proved to others"),
            }
        }
    }

    /// A neighbor that was let in says of which zone it is: its token was looked at, or the operator trusts it.
    pub fn handle_neighbor(&mut self, neighbor: NodeId, zone: ZoneName, now: Instant) {
        if self.festival.is_some() {
            self.mesh.handle_member(neighbor, zone, None, now);
        }
    }

    /// A relay may prove something of itself.
    fn take_zone_token(&mut self, record: &LogEntry, now: Instant) {
        let Some(festival) = self.festival.as_ref().filter(|_| record.key.topic == Topic::Announcements)
        else {
            return;
        };
        let Some(token) = rooms::zone_token::decode(&record.entry.payload) else { return };
        let writer = record.key.writer;
        let Some(member) = festival.member(writer, &token) else { return };
        let takes_over = Some(member.role == Role::MayTakeOver);
        self.mesh.handle_member(writer, member.zone, takes_over, now);
        if writer == self.id {
            self.zone_token = Some(token);
        }
    }

    /// Messages about a topic, from the zones that their relays are known to be of.
    ///
    /// # Errors
    ///
    /// [`RoomsError::UnknownMessage`] if `after` is not there.
    pub fn history(
        &mut self,
        topic: &Topic,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<api::Message>, RoomsError> {
        self.learn_zones(topic);
        match topic {
            Topic::Room(room) => self.rooms.history(room, after, limit),
            Topic::Announcements => self.rooms.announcements(after, limit),
            // Nobody here could read it.
            Topic::Unknown(_) => Ok(Vec::new()),
        }
    }

    /// The first message for somebody who entered the room.
    pub fn welcome(&mut self, room: &RoomName) -> FromRelay {
        self.learn_zones(&Topic::Room(room.clone()));
        self.learn_zones(&Topic::Announcements);
        self.rooms.welcome(room)
    }

    fn learn_zones(&mut self, topic: &Topic) {
        for writer in self.rooms.writers(topic) {
            self.learn_zone(writer);
        }
    }

    fn learn_zone(&mut self, writer: NodeId) {
        if let Some(zone) = self.mesh.zone_of(&writer) {
            self.rooms.handle_zone(writer, zone.clone());
        }
    }

    /// Appends to this relay's own log about a topic. What is about to be dropped from the front of it, and is still
    /// kept in its room, is appended again: a few for each, so that a long log takes many turns.
    ///
    /// # Errors
    ///
    /// As [`Mesh::handle_append`](mesh_routing::Mesh::handle_append): nothing was appended.
    pub fn handle_append(
        &mut self,
        topic: Topic,
        payload: Bytes,
        now: Instant,
    ) -> Result<(LogKey, u64), MeshError> {
        let place = self.mesh.handle_append(topic.clone(), payload, now)?;
        // Announcements are few, and the log of a former start may give way at once.
        let at_once = if topic == Topic::Announcements { RENEWED_ANNOUNCEMENTS } else { RENEWED_AT_ONCE };
        for _ in 0..at_once {
            let Some((key, number, payload)) = self.mesh.poll_lapsing(&topic) else { break };
            let LogKey { topic, writer, incarnation } = &key;
            // The clock is in the payload, or in the room.
            let lapsing = Written {
                topic,
                writer: *writer,
                incarnation: *incarnation,
                number,
                hlc: Hlc(0),
                payload: &payload,
            };
            let shown = rooms::zone_token::decode(&payload);
            let own_token = shown.is_some() && shown == self.zone_token;
            let again = if own_token { Some(payload.clone()) } else { self.rooms.renewal(lapsing) };
            if let Some(again) = again {
                // There is a log, and the payload is as long as it was or a few bytes longer.
                let _ = self.mesh.handle_renewal(topic.clone(), again, now);
            }
        }
        Ok(place)
    }

    /// What was on disk, when the relay started or once the disk could be read: proven, and in the order of the table. Says
    /// which records have no sum yet, and how many are damaged.
    pub fn restore_rows(&mut self, rows: Vec<Row>) -> (Vec<LogEntry>, usize) {
        let (mut unsealed, mut damaged) = (Vec::new(), 0);
        for row in rows {
            match row {
                Row::Record(record) => self.restore(record),
                Row::Unproven(record) => {
                    unsealed.push(record.clone());
                    self.restore(record);
                }
                Row::Damaged(key, number) => {
                    damaged += 1;
                    self.handle_damaged((key, number));
                }
            }
        }
        (unsealed, damaged)
    }

    /// A record that was on disk when the relay started.
    pub fn restore(&mut self, record: LogEntry) {
        self.take_zone_token(&record, self.started);
        // As in `show`.
        let _ = self.rooms.handle_record(written(&record), false, self.started_wall);
        self.mesh.handle_restore(record);
    }

    /// A record that was on disk and is damaged: before those of its log that stand behind it.
    pub fn handle_damaged(&mut self, (key, number): (LogKey, u64)) {
        self.mesh.handle_damaged(key, number);
    }

    /// The disk has answered for the record that it was asked for first.
    pub fn handle_stored(&mut self, stored: Result<(), NotStored>, now: Instant) {
        self.mesh.handle_stored(stored, now);
    }

    /// A record is on disk, or cannot be: now it may be shown.
    pub(super) fn show(&mut self, record: &LogEntry, now: Instant) {
        self.take_zone_token(record, now);
        self.learn_zone(record.key.writer);
        // A payload that is not chat is another version's business: it travels on and is not shown.
        let _ = self.rooms.handle_record(written(record), true, self.wall);
    }
}

fn written(record: &LogEntry) -> Written<'_> {
    let (key, entry) = (&record.key, &record.entry);
    Written {
        topic: &key.topic,
        writer: key.writer,
        incarnation: key.incarnation,
        number: record.number,
        hlc: entry.hlc,
        payload: &entry.payload,
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
