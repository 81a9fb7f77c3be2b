//! What is known of how a listener hears a sound: what it wished, and what a worker told of it.

use std::time::{Duration, Instant};

use media::{Mended, SoundSight, SoundWish};
use protocol::api::{LayerWish, Mending, SoundSent};

use super::{
    told::Told,
    viewer::{WISHES, WishError, reason},
};

/// A listener that gets a sound.
#[derive(Debug)]
pub(crate) struct Hearer {
    /// Of its m-line.
    pub(crate) mid: String,
    /// What it hears.
    pub(crate) told: Told<SoundSight>,
    pace: WishPace,
}

/// Keeps the wishes of one session to what is allowed in a second.
#[derive(Debug, Default)]
pub(super) struct WishPace {
    /// When its wishes are as few as if it had none.
    full_at: Option<Instant>,
}

/// What the rungs of a sound are called, by rising quality.
const NAMES: [(&str, SoundWish); 3] =
    [("low", SoundWish::Low), ("mid", SoundWish::Middle), ("high", SoundWish::High)];

impl Hearer {
    pub(crate) fn new(mid: String) -> Hearer {
        Hearer { mid, told: Told::default(), pace: WishPace::default() }
    }

    /// What it hears, if that was told.
    pub(crate) fn sound(&self) -> Option<SoundSent> {
        let SoundSight { rung, reason: why, mended } = *self.told.sight()?;
        let (name, _) = NAMES.get(usize::from(rung)).or(NAMES.last())?;
        let mending = match mended {
            Mended::Not => Mending::None,
            Mended::Answers => Mending::Answers,
            Mended::Copies => Mending::Copies,
            Mended::Repeats => Mending::Repeats,
        };
        Some(SoundSent { encoding_id: (*name).to_owned(), reason: reason(why), mending })
    }

    /// What is wished, if that can be understood and does not come too often.
    pub(crate) fn handle_wish(&mut self, wish: &LayerWish, now: Instant) -> Result<SoundWish, WishError> {
        self.pace.take(now)?;
        let Some(id) = &wish.encoding_id else { return Ok(SoundWish::default()) };
        let named = NAMES.iter().find(|(name, _)| name == id);
        let ids = || NAMES.iter().map(|(name, _)| (*name).to_owned()).collect();
        named.map(|(_, wish)| *wish).ok_or_else(|| WishError::Encoding { ids: ids() })
    }
}

impl WishPace {
    /// One more.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), WishError> {
        let each = Duration::from_secs(1) / WISHES;
        let next = self.full_at.unwrap_or(now).max(now) + each;
        if next > now + each * WISHES {
            return Err(WishError::TooFast);
        }
        self.full_at = Some(next);
        Ok(())
    }
}
