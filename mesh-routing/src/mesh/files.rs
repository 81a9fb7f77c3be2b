//! The doors of [`Mesh`] for files, and what files see of the rest of a relay. What becomes of a file is decided in `blob/`.

use std::time::Instant;

use bytes::Bytes;
use protocol::{FileId, NodeId};

use crate::{
    blob::{self, Blobs, Block, Chunk, Event, FileCounters, FileMessage, Manifest, Open, Way},
    error::MeshError,
    link::{Link, detector::State},
    mesh::{Mesh, output::Output},
    route::graph::Candidate,
    wire::{message::Message, metric::LinkId},
};

impl Mesh {
    /// A file that is on disk, with the chunks of it that are: at boot, or when it was made here. `false`
    /// if there is no room for another.
    pub fn handle_file_here(&mut self, file: FileId, manifest: Manifest, chunks: &[bool]) -> bool {
        self.blobs.restore(file, manifest, chunks)
    }

    /// Somebody here wants a chunk of a file, which `holder` should have. [`crate::blob::FileOutput::Ready`] or
    /// [`crate::blob::FileOutput::Missing`] follows.
    pub fn handle_file_want(&mut self, file: FileId, chunk: Chunk, holder: Option<NodeId>, now: Instant) {
        self.touch(now);
        self.blobs.handle_want_here((file, chunk), holder, now);
    }

    /// The driver has kept a chunk, or could not.
    pub fn handle_file_stored(&mut self, file: FileId, chunk: Chunk, kept: bool, now: Instant) {
        self.touch(now);
        self.blobs.handle_stored((file, chunk), kept, now);
    }

    /// The driver has read a block for a neighbor; `None` if it is not there any more.
    pub fn handle_file_read(&mut self, link: LinkId, block: Block, bytes: Option<Bytes>, now: Instant) {
        self.touch(now);
        self.blobs.handle_read(link, block, bytes);
    }

    /// A chunk is not on disk any more; with `None` the whole file.
    pub fn handle_file_gone(&mut self, file: FileId, chunk: Option<Chunk>, now: Instant) {
        self.touch(now);
        self.blobs.handle_gone(file, chunk);
    }

    /// What a file is made of, if that is known here.
    pub fn file_manifest(&self, file: &FileId) -> Option<&Manifest> {
        self.blobs.manifest(file)
    }

    /// Bytes of a file that are here.
    pub fn file_bytes_here(&self, file: &FileId) -> u64 {
        self.blobs.here(file)
    }

    /// What was counted.
    pub fn file_counters(&self) -> FileCounters {
        self.blobs.counters
    }

    /// A message about a file came from a neighbor.
    pub(super) fn handle_file(
        &mut self,
        link: LinkId,
        neighbor: NodeId,
        message: FileMessage,
        now: Instant,
    ) -> Result<(), MeshError> {
        match message {
            FileMessage::Want { file, chunk, holder, path } => {
                self.blobs.handle_want(link, (file, chunk), holder, path, self.config.id, now)
            }
            FileMessage::Answer { file, chunk, answer } => {
                self.blobs.handle_answer((link, neighbor), (file, chunk), answer, now);
                Ok(())
            }
            FileMessage::Pull { file, chunk, offset, length } => {
                self.blobs.handle_pull(link, Block { file, chunk, offset, length })
            }
            FileMessage::Block { file, chunk, offset, bytes } => {
                self.blobs.handle_block(link, (file, chunk), offset, bytes, now)
            }
            FileMessage::Seek { file, asker, nonce, hops } => self
                .with_files(|blobs, around| blobs.handle_seek(link, file, (asker, nonce, hops), around, now)),
            FileMessage::Have { file, holder, asker, hops } => {
                self.with_files(|blobs, around| {
                    blobs.handle_have(file, holder, (asker, hops), around, now);
                });
                Ok(())
            }
        }
    }

    pub(super) fn settle_files(&mut self, now: Instant) {
        if self.blobs.rest(now) {
            return;
        }
        for event in self.with_files(|blobs, around| blobs.settle(around, now)) {
            match event {
                Event::Send(link, message) => self.send(link, &Message::File(message)),
                Event::SendAll(except, message) => self.send_all(except, &Message::File(message)),
                Event::Output(output) => self.outputs.push_back(Output::File(output)),
            }
        }
    }

    /// Lets files do something, with what they may look at. What they want done is carried out when everything comes to
    /// rest.
    fn with_files<T>(&mut self, what: impl FnOnce(&mut Blobs, &mut blob::RoutingView<'_>) -> T) -> T {
        let links = self.links.iter().filter(|(_, link)| link.state() == State::Up);
        let open =
            |(id, l): (&LinkId, &Link)| Open { link: *id, neighbor: l.neighbor, metered: l.underlay.metered };
        let links = links.map(open).collect();
        let (own, costs, routes) = (self.config.id, &self.costs, &mut self.routes);
        let mut ways = |holder: &NodeId| {
            let found = routes.candidates(&own, holder, costs).iter();
            let way = |c: &Candidate| {
                let link = costs.get(&c.neighbor).copied().unwrap_or_default();
                Way { neighbor: c.neighbor, cost: c.cost, beyond: c.cost.saturating_sub(link) }
            };
            found.map(way).collect()
        };
        what(&mut self.blobs, &mut blob::RoutingView { own, links, ways: &mut ways })
    }
}
