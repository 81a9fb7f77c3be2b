//! What a worker told of a listener, and whether somebody reads that.

/// What was told last.
#[derive(Debug)]
pub(crate) struct Told<S> {
    sight: Option<S>,
    watched: bool,
    /// It is of now: it was told since somebody reads it.
    fresh: bool,
}

impl<S> Default for Told<S> {
    fn default() -> Told<S> {
        Told { sight: None, watched: false, fresh: false }
    }
}

impl<S> Told<S> {
    /// It, if anything was told.
    pub(crate) fn sight(&self) -> Option<&S> {
        self.sight.as_ref()
    }

    /// A worker tells it.
    pub(crate) fn handle_sight(&mut self, sight: S) {
        self.sight = Some(sight);
        self.fresh = self.watched;
    }

    /// Somebody reads it. Says whether nobody did before, and whether it is of now.
    pub(crate) fn handle_watched(&mut self) -> (bool, bool) {
        let watched = std::mem::replace(&mut self.watched, true);
        self.fresh &= watched;
        (!watched, self.fresh)
    }

    /// Nobody reads it any more.
    pub(crate) fn handle_unwatched(&mut self) {
        self.watched = false;
    }
}
