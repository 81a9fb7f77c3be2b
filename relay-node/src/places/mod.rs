//! Places that are held while something runs: a connection, an upload, a participant. Who gets one and who gives
//! way is decided in `shares.rs`; here those who lose their place are told.

pub mod shares;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{clock, drop_reason::DropReason};
use shares::{Full, Holder, PlaceId, Policy, Shares, Standing};

/// Places of one kind.
#[derive(Clone)]
pub struct Places(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    gave_way: DropReason,
    refused: DropReason,
}

struct State {
    shares: Shares,
    holding: HashMap<PlaceId, Arc<Notify>>,
}

/// One place; free again when it is dropped.
pub struct Held {
    places: Places,
    place: PlaceId,
    lost: Arc<Notify>,
}

impl Places {
    /// `total` places. What gives way and who is refused is counted under these reasons.
    pub fn new(total: usize, policy: Policy, gave_way: DropReason, refused: DropReason) -> Places {
        let state = State { shares: Shares::new(total, policy), holding: HashMap::new() };
        Places(Arc::new(Inner { state: Mutex::new(state), gave_way, refused }))
    }

    /// A place for `holder`; whoever gives way for it is told.
    ///
    /// # Errors
    ///
    /// [`Full`] if all places are taken and nobody gives way; it is counted.
    pub fn take(&self, holder: Holder) -> Result<Held, Full> {
        self.take_beside(holder, Arc::new(Notify::new()))
    }

    /// A place for `holder` that is lost together with another one: `lost` is that one's [`Held::notice`].
    ///
    /// # Errors
    ///
    /// As [`Places::take`].
    pub fn take_beside(&self, holder: Holder, lost: Arc<Notify>) -> Result<Held, Full> {
        let mut state = self.state();
        let taken = state.shares.take(holder, clock::now()).inspect_err(|_| self.0.refused.count())?;
        if let Some(place) = taken.gave_way {
            self.tell(&mut state, place);
        }
        state.holding.insert(taken.place, lost.clone());
        Ok(Held { places: self.clone(), place: taken.place, lost })
    }

    /// Something else has run out, open files for example: one gives way.
    pub fn make_room(&self) {
        let mut state = self.state();
        if let Some(place) = state.shares.make_room() {
            self.tell(&mut state, place);
        }
    }

    /// Places that are taken.
    pub fn taken(&self) -> usize {
        self.state().shares.len()
    }

    fn tell(&self, state: &mut State, place: PlaceId) {
        self.0.gave_way.count();
        if let Some(lost) = state.holding.remove(&place) {
            lost.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Resolves when the place was given to somebody else: what was done there has to end. For one waiter.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    /// What [`Held::lost`] waits for.
    pub fn notice(&self) -> Arc<Notify> {
        self.lost.clone()
    }

    /// There was progress.
    pub fn progress(&self) {
        self.places.state().shares.progress(self.place, clock::now());
    }

    /// More is known of whoever sits here.
    pub fn stand(&self, standing: Standing) {
        self.places.state().shares.stand(self.place, standing, clock::now());
    }

    /// It is free again before it is dropped: what it was held for goes on at another place.
    pub fn leave(&self) {
        let mut state = self.places.state();
        state.shares.release(self.place);
        state.holding.remove(&self.place);
    }

    /// It is somebody else's.
    pub fn hand_over(&self, holder: Holder) {
        self.places.state().shares.hand_over(self.place, holder);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.place).finish()
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Places").field(&self.taken()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use super::*;
    use crate::places::shares::GivesWay;

    #[tokio::test]
    async fn who_loses_a_place_is_told_and_who_leaves_frees_one() {
        let policy = Policy { gives_way: GivesWay::Youngest, patience: Duration::from_secs(5) };
        let places = Places::new(2, policy, DropReason::UploadGaveWay, DropReason::UploadRefused);
        let holder = |number| Holder::from(IpAddr::from([10, 0, 0, number]));
        let (old, young) = (places.take(holder(1)).expect("free"), places.take(holder(1)).expect("free"));
        assert!(places.take(holder(1)).is_err());
        let other = places.take(holder(2)).expect("the first is greedier");
        young.lost().await;
        drop(young);
        assert_eq!(places.taken(), 2);
        drop(old);
        assert_eq!(places.taken(), 1);
        drop(other);
        assert_eq!(places.taken(), 0);
    }
}
