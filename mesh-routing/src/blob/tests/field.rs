//! Whole relays with files, in virtual time: wires have a delay and a rate, the bytes of files queue behind
//! each other, disks are maps. Of that the rest of the simulation knows nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{BridgeVersion, FileId, ZoneName};

use super::{Chunk, FileMessage, FileOutput, Manifest};
use crate::{
    LinkId, Mesh, Output,
    sim::{config, epoch, node, random::Random},
    wire::{message::Message, metric::Underlay},
};

/// Chunks of 64 KiB: small files have several.
const CHUNK_BITS: u8 = 16;

pub(super) struct Wire {
    pub(super) ends: [usize; 2],
    pub(super) links: [LinkId; 2],
    pub(super) delay: Duration,
    /// Bytes per second, each way.
    pub(super) rate: u64,
    /// When the last byte of a file will be on the wire, toward each end.
    pub(super) free: [Instant; 2],
    pub(super) up: bool,
    pub(super) metered: bool,
    /// Bytes of chunks that went toward each end.
    pub(super) crossed: [u64; 2],
    /// The longest that a block waited for those before it.
    pub(super) queued: Duration,
}

pub(super) struct Relay {
    pub(super) mesh: Option<Mesh>,
    pub(super) disk: BTreeMap<(FileId, Chunk), Bytes>,
    pub(super) ready: BTreeSet<(FileId, Chunk)>,
    pub(super) missing: BTreeSet<(FileId, Chunk)>,
    pub(super) stored: u64,
    /// Gives neighbors other bytes than it has.
    pub(super) corrupts: bool,
    /// Its disk refuses.
    pub(super) full: bool,
}

pub(super) enum Happening {
    Message { wire: usize, end: usize, link: LinkId, bytes: Bytes },
    Due { relay: usize },
}

pub(super) struct Field {
    pub(super) now: Instant,
    pub(super) relays: Vec<Relay>,
    pub(super) wires: Vec<Wire>,
    pub(super) by_link: BTreeMap<LinkId, (usize, usize)>,
    pub(super) queue: BTreeMap<(Instant, u64), Happening>,
    pub(super) sequence: u64,
    pub(super) links: u32,
    pub(super) chunk_bits: u8,
}

impl Field {
    /// Relays that have found each other. Wires of 5 ms and 100 Mbit/s.
    pub(super) fn new(relays: usize, pairs: &[(usize, usize)]) -> Field {
        let now = epoch();
        let relay = |index: usize| {
            let zone = ZoneName::new(format!("zone-{index}")).unwrap();
            let mesh = Mesh::new(config(node(index), zone, 1, index as u64), now);
            Relay {
                mesh: Some(mesh),
                disk: BTreeMap::new(),
                ready: BTreeSet::new(),
                missing: BTreeSet::new(),
                stored: 0,
                corrupts: false,
                full: false,
            }
        };
        let mut field = Field {
            now,
            relays: (0..relays).map(relay).collect(),
            wires: Vec::new(),
            by_link: BTreeMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            links: 0,
            chunk_bits: CHUNK_BITS,
        };
        for (a, b) in pairs {
            field.lay(*a, *b);
        }
        field.run(Duration::from_secs(4));
        field
    }

    /// Another wire: 5 ms, 100 Mbit/s.
    pub(super) fn lay(&mut self, a: usize, b: usize) {
        self.wires.push(Wire {
            ends: [a, b],
            links: [LinkId(0); 2],
            delay: Duration::from_millis(5),
            rate: 12_500_000,
            free: [self.now; 2],
            up: false,
            metered: false,
            crossed: [0; 2],
            queued: Duration::ZERO,
        });
        self.plug(self.wires.len() - 1);
    }

    pub(super) fn plug(&mut self, wire: usize) {
        let now = self.now;
        self.wires[wire].up = true;
        for end in [0, 1] {
            self.links += 1;
            self.wires[wire].links[end] = LinkId(self.links);
            self.by_link.insert(LinkId(self.links), (wire, end));
        }
        let Wire { ends, links, delay, metered, .. } = self.wires[wire];
        let underlay = Underlay { metered, ..Underlay::default() };
        for end in [0, 1] {
            self.with(ends[end], |mesh| {
                mesh.handle_link_up_over(
                    links[end],
                    node(ends[1 - end]),
                    (underlay, BridgeVersion::FIRST),
                    now,
                );
                mesh.handle_measurement(links[end], delay * 2, 0.0, now);
            });
        }
    }

    pub(super) fn unplug(&mut self, wire: usize) {
        let now = self.now;
        self.wires[wire].up = false;
        let Wire { ends, links, .. } = self.wires[wire];
        for end in [0, 1] {
            self.by_link.remove(&links[end]);
            self.with(ends[end], |mesh| mesh.handle_link_down(links[end], now));
        }
    }

    /// A relay loses its power: its neighbors' drivers notice.
    pub(super) fn kill(&mut self, relay: usize) {
        self.relays[relay].mesh = None;
        for wire in 0..self.wires.len() {
            if self.wires[wire].up && self.wires[wire].ends.contains(&relay) {
                self.unplug(wire);
            }
        }
    }

    pub(super) fn push(&mut self, at: Instant, what: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), what);
    }

    pub(super) fn with(&mut self, relay: usize, what: impl FnOnce(&mut Mesh)) {
        let Some(mut mesh) = self.relays[relay].mesh.take() else { return };
        what(&mut mesh);
        let now = self.now;
        while let Some(output) = mesh.poll_output() {
            match output {
                Output::Send { link, message, .. } => self.send(link, message),
                Output::DropLink { reason, .. } => panic!("{relay} drops a link: {reason}"),
                Output::File(FileOutput::Store { file, chunk, bytes }) => {
                    let state = &mut self.relays[relay];
                    let again = state.disk.insert((file, chunk), bytes);
                    assert!(again.is_none(), "{relay} stores {chunk:?} twice");
                    state.stored += 1;
                    mesh.handle_file_stored(file, chunk, !state.full, now);
                }
                Output::File(FileOutput::Read { link, block }) => {
                    let state = &self.relays[relay];
                    let bytes = state.disk.get(&(block.file, block.chunk)).map(|whole| {
                        let from = block.offset as usize;
                        let bytes = whole.slice(from..from + block.length as usize);
                        let other = bytes.iter().map(|byte| byte ^ 1).collect();
                        if state.corrupts { other } else { bytes }
                    });
                    mesh.handle_file_read(link, block, bytes, now);
                }
                Output::File(FileOutput::Ready { file, chunk }) => {
                    self.relays[relay].ready.insert((file, chunk));
                }
                Output::File(FileOutput::Missing { file, chunk }) => {
                    self.relays[relay].missing.insert((file, chunk));
                }
                _ => {}
            }
        }
        if let Some(at) = mesh.poll_timeout() {
            self.push(at.max(now), Happening::Due { relay });
        }
        self.relays[relay].mesh = Some(mesh);
    }

    pub(super) fn send(&mut self, link: LinkId, bytes: Bytes) {
        let Some(&(wire, end)) = self.by_link.get(&link) else { return };
        let to = 1 - end;
        let mut at = self.now;
        let state = &mut self.wires[wire];
        if let Ok(Message::File(FileMessage::Block { chunk, bytes, .. })) = Message::decode(&bytes) {
            state.queued = state.queued.max(state.free[to].saturating_duration_since(self.now));
            let takes = Duration::from_micros(bytes.len() as u64 * 1_000_000 / state.rate);
            state.free[to] = state.free[to].max(self.now) + takes;
            at = state.free[to];
            if chunk != Chunk::Manifest {
                state.crossed[to] += bytes.len() as u64;
            }
        }
        let (at, link) = (at + state.delay, state.links[to]);
        self.push(at, Happening::Message { wire, end: to, link, bytes });
    }

    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        self.run_until(until, |_| false);
    }

    /// Runs until something is so, at most to `until`; says when.
    pub(super) fn run_until(&mut self, until: Instant, so: impl Fn(&Field) -> bool) -> Option<Instant> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((at, _), happening) = entry.remove_entry();
            self.now = at;
            match happening {
                Happening::Due { relay } => {
                    let due = self.relays[relay].mesh.as_ref().and_then(Mesh::poll_timeout);
                    if due.is_some_and(|due| due <= at) {
                        self.with(relay, |mesh| mesh.handle_timeout(at));
                    }
                }
                Happening::Message { wire, end, link, bytes } => {
                    if self.wires[wire].up && self.wires[wire].links[end] == link {
                        // What is wrong with it the test sees in what becomes of the file.
                        let relay = self.wires[wire].ends[end];
                        self.with(relay, |mesh| drop(mesh.handle_message(link, &bytes, at)));
                    }
                }
            }
            if so(self) {
                return Some(at);
            }
        }
        self.now = until;
        None
    }

    /// A file of so many bytes at a relay.
    pub(super) fn publish(&mut self, relay: usize, length: usize) -> FileId {
        let mut random = Random::new(length as u64);
        let bytes: Bytes = (0..length).map(|_| random.word() as u8).collect();
        let chunks: Vec<Bytes> = bytes.chunks(1 << self.chunk_bits).map(Bytes::copy_from_slice).collect();
        let manifest = Manifest {
            name: "a file".into(),
            media_type: "text/plain".into(),
            length: length as u64,
            chunk_bits: self.chunk_bits,
            chunks: chunks.iter().map(|chunk| *blake3::hash(chunk).as_bytes()).collect(),
        };
        let file = manifest.id();
        let disk = &mut self.relays[relay].disk;
        disk.insert((file, Chunk::Manifest), manifest.encode());
        for (number, chunk) in (0u32..).zip(chunks) {
            disk.insert((file, Chunk::Data(number)), chunk);
        }
        let here = vec![true; manifest.chunks.len()];
        self.with(relay, |mesh| assert!(mesh.handle_file_here(file, manifest, &here)));
        file
    }

    /// Somebody at a relay wants all chunks of a file that was announced by another.
    pub(super) fn want(&mut self, relay: usize, file: FileId, chunks: u32, holder: usize) {
        let now = self.now;
        self.with(relay, |mesh| {
            for number in 0..chunks {
                mesh.handle_file_want(file, Chunk::Data(number), Some(node(holder)), now);
            }
        });
    }

    /// Runs until a relay has all of a file; the time it took.
    pub(super) fn arrives(&mut self, relay: usize, file: FileId, length: usize, most: u64) -> Duration {
        let start = self.now;
        let whole = |field: &Field| {
            field.relays[relay].mesh.as_ref().unwrap().file_bytes_here(&file) == length as u64
        };
        let at = self.run_until(start + Duration::from_secs(most), whole);
        let here = self.relays[relay].mesh.as_ref().unwrap().file_bytes_here(&file);
        at.unwrap_or_else(|| panic!("after {most} s {here} of {length} bytes are at {relay}")) - start
    }

    pub(super) fn crossed(&self, wire: usize) -> u64 {
        self.wires[wire].crossed.iter().sum()
    }
}

/// How many a file of this length has.
pub(super) fn chunks(length: usize) -> u32 {
    length.div_ceil(1 << CHUNK_BITS) as u32
}
