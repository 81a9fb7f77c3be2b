//! The files of a room, by their place among what was said.

use std::collections::BTreeMap;

use protocol::{FileId, NodeId, api};

use crate::{
    file::File,
    place::{Known, Newest, Place},
};

/// Files of a room kept in the list; older ones stay in the log.
pub const FILES_MAX: usize = 500;

/// A file in the list, and its newest record.
#[derive(Debug)]
struct Listed {
    file: File,
    newest: Newest,
}

/// The files of a room, by their place among what was said.
#[derive(Debug, Default)]
pub(crate) struct Files(BTreeMap<Place, Listed>);

impl Files {
    /// Adds a file. `None` if it is there already, from whomever.
    pub(crate) fn insert(&mut self, place: Place, file: File, newest: Newest) -> Option<api::SharedFile> {
        let known = self.0.iter_mut().find(|(_, known)| known.file.file == file.file);
        if let Some((at, known)) = known {
            if at.writer == place.writer {
                known.newest = newest;
            }
            return None;
        }
        if self.0.contains_key(&place) {
            return None;
        }
        let shown = file.to_api();
        self.0.insert(place, Listed { file, newest });
        if self.0.len() > FILES_MAX {
            self.0.pop_first();
        }
        Some(shown)
    }

    pub(crate) fn find(&self, file: &FileId) -> Option<&File> {
        self.iter().find(|known| known.file == *file)
    }

    pub(crate) fn place(&self, file: &FileId) -> Option<Place> {
        self.0.iter().find(|(_, known)| known.file.file == *file).map(|(place, _)| *place)
    }

    /// The newest record of a file by whoever shared it first.
    pub(crate) fn known(&self, file: &FileId) -> Option<Known> {
        let (place, listed) = self.0.iter().find(|(_, known)| known.file.file == *file)?;
        let (incarnation, number) = listed.newest;
        Some(Known { writer: place.writer, incarnation, number })
    }

    /// Since when it is known, if this record is its newest.
    pub(crate) fn newest(&self, file: &FileId, writer: &NodeId, newest: Newest) -> Option<Place> {
        let place = self.place(file).filter(|place| place.writer == *writer)?;
        self.0.get(&place).is_some_and(|known| known.newest == newest).then_some(place)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &File> {
        self.0.values().map(|listed| &listed.file)
    }
}
