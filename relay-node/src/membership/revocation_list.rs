//! What the organizer signed for everybody: the newest list of revocations and the changes of the key.
//! Judges what is newer, and reads and writes it as lines of text; which relay it concerns is for others.

use protocol::token::{Body, FestivalId, Membership, Revocations, Revoked, Rotation, Succession, TokenError};

use super::organizer::{Organizer, ROTATIONS_MAX};

/// Lines that are looked at of what somebody hands over at once.
pub const LINES_MAX: usize = ROTATIONS_MAX + 1;

/// What the organizer signed for everybody, each of it checked.
#[derive(Debug, Clone)]
pub struct RevocationList {
    organizer: Organizer,
    revocations: Option<Revocations>,
}

impl RevocationList {
    /// Knows nothing but the festival's id.
    pub fn new(festival: FestivalId) -> RevocationList {
        RevocationList { organizer: Organizer::new(festival), revocations: None }
    }

    /// The organizer's keys.
    pub fn organizer(&self) -> &Organizer {
        &self.organizer
    }

    /// Who is no longer of the festival.
    pub fn revoked(&self) -> Option<&Revoked> {
        self.revocations.as_ref().map(Revocations::unverified)
    }

    /// Whether the organizer took this token back.
    pub fn revokes(&self, token: &Membership) -> bool {
        self.revoked().is_some_and(|list| list.names(token))
    }

    /// Takes one update if it is the organizer's and newer; `true` if it was news.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`] if it is neither list nor change of the key, [`TokenError::OtherFestival`]
    /// for a list of no key of the organizer, [`TokenError::Signature`] if that key did not sign it, and
    /// those of [`Organizer::adopt`].
    pub fn adopt(&mut self, line: &str) -> Result<bool, TokenError> {
        let line = line.trim();
        if line.starts_with(Succession::PREFIX) {
            return self.organizer.adopt(line.parse::<Rotation>()?);
        }
        let list: Revocations = line.parse()?;
        if self.revocations.as_ref() == Some(&list) {
            return Ok(false);
        }
        let signer = list.unverified().festival;
        let key = self.organizer.epoch(&signer).ok_or(TokenError::OtherFestival)?;
        let age = (key, list.verify(&signer)?.epoch);
        let known =
            self.revoked().map(|known| (self.organizer.epoch(&known.festival).unwrap_or(0), known.epoch));
        if known.is_some_and(|known| known >= age) {
            return Ok(false);
        }
        self.revocations = Some(list);
        Ok(true)
    }

    /// Takes every update of a text: one in a line, changes of the key first; `#` begins a remark. How many
    /// were news.
    ///
    /// # Errors
    ///
    /// As [`RevocationList::adopt`], of the first update that is not good; those before it are taken.
    pub fn read(&mut self, text: &str) -> Result<usize, TokenError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut news = 0;
        for line in lines {
            news += usize::from(self.adopt(line)?);
        }
        Ok(news)
    }

    /// Revocations and key rotations in an order in which they can be adopted.
    pub fn lines(&self) -> Vec<String> {
        let rotations = self.organizer.rotations().map(ToString::to_string);
        rotations.chain(self.revocations.as_ref().map(ToString::to_string)).collect()
    }

    /// As [`RevocationList::read`] reads it.
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }
}
