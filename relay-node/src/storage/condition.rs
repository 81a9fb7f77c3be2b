//! How the store of records is, for people: shown by `/readyz`, the pages and `doctor`. Written by the thread of the
//! store.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use protocol::api::MeshStore;

use super::store_error::StoreError;

/// What is wrong with the store, if anything is. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Condition(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Why it cannot be used now.
    without: Option<String>,
    /// What was read of a damaged file before it was set aside, and where that is.
    set_aside: Option<(usize, PathBuf)>,
}

impl Condition {
    /// It cannot be used. Says whether that is another reason than before, to be said in the log.
    pub(super) fn handle_trouble(&self, error: &StoreError) -> bool {
        let text = error.to_string();
        self.state().without.replace(text.clone()) != Some(text)
    }

    /// It is used. Says whether it was not.
    pub(super) fn handle_good(&self) -> bool {
        self.state().without.take().is_some()
    }

    /// A damaged file was set aside.
    pub(super) fn handle_set_aside(&self, records: usize, aside: PathBuf) {
        self.state().set_aside = Some((records, aside));
    }

    /// What is shown, if something is.
    pub fn shown(&self) -> Option<MeshStore> {
        let state = self.state();
        let without = state.without.as_ref().map(|words| {
            format!(
                "without history on disk: {words}. Sound, picture and chat go on, what is said is kept in memory until \
                 it can be written, and it is tried again"
            )
        });
        let aside = state.set_aside.as_ref().map(|(records, aside)| {
            format!(
                "the file of records was damaged and is set aside as {aside:?}: {records} records were saved from it, \
                 and the other relays are asked for the rest. The disk may be about to fail, copy the data directory"
            )
        });
        let history = without.is_none();
        let warning: Vec<String> = without.into_iter().chain(aside).collect();
        (!warning.is_empty()).then(|| MeshStore { history, warning: warning.join("; ") })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
