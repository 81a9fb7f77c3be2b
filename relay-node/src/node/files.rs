//! Files that rooms share, between what the rooms say of them and what the mesh fetches. Those on disk are in
//! `storage/files/`.

use std::time::Instant;

use bytes::Bytes;
use mesh_routing::{
    LinkId,
    blob::{Manifest, Part, Piece},
};
use protocol::{FileId, RoomName, api};

use super::Node;

impl Node {
    /// The files of a room, in display order, and how much of each is here.
    pub fn files(&self, room: &RoomName) -> Vec<api::SharedFile> {
        let shown = self.rooms.files(room).into_iter().map(|(file, mut shown)| {
            shown.here = self.mesh.file_bytes_here(&file);
            shown
        });
        shown.collect()
    }

    /// What a file is made of, if that is known here.
    pub fn file_manifest(&self, file: &FileId) -> Option<&Manifest> {
        self.mesh.file_manifest(file)
    }

    /// Whether a room announced such a file.
    pub fn is_announced(&self, file: &FileId) -> bool {
        self.rooms.file_origin(file).is_some()
    }

    /// A part is needed here.
    pub fn handle_file_want(&mut self, file: FileId, part: Part, now: Instant) {
        let holder = self.rooms.file_origin(&file).filter(|origin| *origin != self.id);
        self.mesh.handle_file_want(file, part, holder, now);
    }

    /// These chunks of a file are on disk here; `false` if there is no room for it.
    pub fn handle_file_here(&mut self, file: FileId, manifest: Manifest, chunks: &[bool]) -> bool {
        self.mesh.handle_file_here(file, manifest, chunks)
    }

    /// A part was kept, or could not be.
    pub fn handle_file_stored(&mut self, file: FileId, part: Part, kept: bool, now: Instant) {
        self.mesh.handle_file_stored(file, part, kept, now);
    }

    /// A piece was read for a neighbor, or is not there.
    pub fn handle_file_read(&mut self, link: LinkId, piece: Piece, bytes: Option<Bytes>, now: Instant) {
        self.mesh.handle_file_read(link, piece, bytes, now);
    }

    /// A part is not there any more; with `None` the whole file.
    pub fn handle_file_gone(&mut self, file: FileId, part: Option<Part>, now: Instant) {
        self.mesh.handle_file_gone(file, part, now);
    }
}
