//! What the node loop answers to HTTP and WebSocket.

use media::sdp::Offer;
use protocol::{RoomName, StreamName, signaling::FromRelay};
use rooms::{ParticipantId, RoomsError};

use super::{
    NodeLoop,
    file_requests::FileRequest,
    random,
    request::{Entered, NodeRequest},
};
use crate::{
    clock,
    drop_reason::DropReason,
    node::sessions::{Direction, Opened, SessionError},
    places::shares::Holder,
};

impl NodeLoop {
    /// Answers a request; posts are answered once they are on disk.
    pub(super) fn answer(&mut self, request: NodeRequest) {
        let now = clock::now();
        // Who asked may have gone: a reply that nobody takes is no error.
        match request {
            NodeRequest::Streams { reply } => drop(reply.send(self.node.streams(now))),
            NodeRequest::Mesh { reply } => drop(reply.send(self.node.topology(now))),
            NodeRequest::Post { topic, new, speaker, reply } => self.post(topic, new, speaker, reply),
            NodeRequest::File(request) => {
                if let Some(FileRequest::Share { room, new, manifest, reply }) =
                    self.files.handle_request(request, &mut self.node)
                {
                    self.share(room, (new, manifest), reply);
                }
            }
            NodeRequest::History { topic, after, limit, reply } => {
                drop(reply.send(self.node.history(&topic, after.as_deref(), limit)));
            }
            NodeRequest::Enter { room, reply } => drop(reply.send(self.enter(room))),
            NodeRequest::Leave { room, participant } => self.leave(&room, participant),
            NodeRequest::Open { direction, stream, holder, offer, reply } => {
                let opened = self.open(direction, (stream, holder), &offer);
                // The workers have to know the session before its first check comes.
                self.carry_out();
                drop(reply.send(opened));
            }
            NodeRequest::Session { session, reply } => drop(reply.send(self.node.session(session, now))),
            NodeRequest::Patch { direction, stream, session, if_match, fragment, reply } => {
                let credentials = random::credentials();
                let patched =
                    self.node.handle_patch((direction, &stream, session), &if_match, &fragment, credentials);
                self.carry_out();
                drop(reply.send(patched));
            }
            NodeRequest::End { direction, stream, session, reply } => {
                drop(reply.send(self.node.handle_end(direction, &stream, session, now)));
            }
        }
    }

    fn open(
        &mut self,
        direction: Direction,
        whose: (StreamName, Holder),
        offer: &Offer,
    ) -> Result<Opened, SessionError> {
        let now = clock::now();
        let opened = match direction {
            Direction::Ingest => self.node.handle_publish(whose, offer, random::session(), now),
            Direction::Egress => self.node.handle_listen(whose, offer, random::session(), now),
        };
        if matches!(opened, Err(SessionError::Full)) {
            DropReason::SessionRefused.count();
        }
        opened
    }

    fn enter(&mut self, room: RoomName) -> Result<Entered, RoomsError> {
        let participant = self.node.handle_enter(&room)?;
        let streams = FromRelay::Streams { streams: self.node.streams(clock::now()) };
        let events = self.participants.enter((room.clone(), participant), &streams);
        Ok(Entered { participant, welcome: self.node.welcome(&room), events })
    }

    /// Participants that fall too far behind are cut off.
    pub(super) fn tell(&mut self, whom: impl Fn(&RoomName) -> bool, event: &FromRelay) {
        for (room, participant) in self.participants.tell(whom, event) {
            self.leave(&room, participant);
        }
    }

    fn leave(&mut self, room: &RoomName, participant: ParticipantId) {
        if self.participants.leave(&(room.clone(), participant)) {
            self.node.handle_leave(room, participant);
            self.allowances.forget(participant);
        }
    }
}
