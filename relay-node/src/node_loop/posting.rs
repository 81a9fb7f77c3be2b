//! The way of a post: accepted by its room, appended to the log, on disk, and only then answered and sent. Who waits
//! for which disk is in `node/posts.rs`.

use mesh_routing::{LogKey, MeshError, NotStored, blob::Manifest};
use protocol::{
    RoomName, Topic,
    api::{NewMessage, Posted},
};
use rooms::{Accepted, NewFile, RoomsError};

use super::NodeLoop;
use crate::{
    clock,
    drop_reason::{self, DropReason},
    node::{
        allowance::Speaker,
        posts::{self, PostError},
    },
};

impl NodeLoop {
    pub(super) fn post(&mut self, topic: Topic, new: NewMessage, speaker: Speaker, reply: posts::Reply) {
        let source = self.allowances.source(speaker);
        let accepted = self.node.handle_post(&topic, new, source, clock::wall());
        // What is known already is said again after a lost connection: that costs nothing.
        if let Topic::Room(room) = &topic
            && accepted.as_ref().is_ok_and(|accepted| accepted.payload.is_some())
        {
            let begins = !self.node.was_spoken_in(room);
            if let Err(error) = self.allowances.take(speaker, begins, clock::now()) {
                error.whose.reason().count();
                return drop(reply.send(Err(error.into())));
            }
        }
        self.append(topic, accepted, reply);
    }

    /// Appends what was accepted to the log; the reply comes when it is on disk, here and on another one.
    pub(super) fn append(
        &mut self,
        topic: Topic,
        accepted: Result<Accepted, RoomsError>,
        reply: posts::Reply,
    ) {
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => return drop(reply.send(Err(error.into()))),
        };
        let Some(payload) = accepted.payload else {
            let saved = self.node.saved(&topic, accepted.known);
            return drop(reply.send(Ok(Posted { id: accepted.id, saved })));
        };
        let now = clock::now();
        self.node.handle_wall(clock::wall(), now);
        match self.node.handle_append(topic, payload, now) {
            Ok(place) => self.posts.handle_appended(place, accepted.id, reply),
            Err(error) => {
                if error != MeshError::DiskTooSlow {
                    tracing::error!(%error, "a record could not be appended to the log");
                }
                drop_reason::count_message(&error);
                drop(reply.send(Err(PostError::NotStored)));
            }
        }
    }

    /// Announces a file that is on disk here.
    pub(super) fn share(
        &mut self,
        room: RoomName,
        (new, manifest): (NewFile, Manifest),
        reply: posts::Reply,
    ) {
        let all = vec![true; manifest.chunks.len()];
        if !self.node.handle_file_here(new.file, manifest, &all) {
            drop(reply.send(Err(PostError::NotStored)));
            return;
        }
        let accepted = self.node.handle_share(&room, new, clock::wall());
        self.append(Topic::Room(room), accepted, reply);
    }

    /// A record is on disk, or cannot be.
    pub(super) fn stored(&mut self, place: &(LogKey, u64), stored: Result<(), NotStored>) {
        self.posts.handle_stored(place, stored.is_ok(), self.node.has_neighbors(), clock::now());
        if let Err(error) = stored {
            if error == NotStored::Full {
                DropReason::StoreQueueFull.count();
            }
            tracing::error!(
                ?error,
                "a record could not be stored: chat of this moment will be missing after a restart"
            );
        }
    }
}
