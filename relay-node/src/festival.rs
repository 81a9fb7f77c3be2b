//! Who belongs to the same festival: judges the token a neighbor shows against the organizer's key, the
//! revocations known so far and the time. Reads its files at the start; the links are the bridge's.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use protocol::{
    NodeId, ZoneName,
    token::{FestivalId, Membership, Revocations, TokenError, ZoneToken},
};
use thiserror::Error;

/// How long an expired token still counts, in hours: the clock may be the liar.
pub const GRACE_HOURS: u64 = 48;

/// Why a neighbor is not let in. Goes to its log as well as to ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Outsider {
    /// It has no token.
    #[error("shows no zone token of this festival and is not named with --trust")]
    NoToken,
    /// It has something else.
    #[error("shows a zone token that {0}")]
    NotBelieved(#[from] TokenError),
    /// The token of another relay.
    #[error("shows the zone token of another relay")]
    NotItsOwn,
    /// The token of another zone.
    #[error("says it serves {says} and shows a zone token for {token}")]
    OtherZone {
        /// In its hello.
        says: ZoneName,
        /// In its token.
        token: ZoneName,
    },
    /// Even the grace time is over.
    #[error("shows a zone token that ended {hours} h ago")]
    Expired {
        /// Since it ended.
        hours: u64,
    },
    /// The organizer took it back.
    #[error("was revoked by the organizer")]
    Revoked,
}

/// What there is to say about a token that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Good,
    /// Named with `--trust`: no token was asked for.
    Trusted,
    /// It ended, or the clock here is ahead.
    Expired {
        /// Since it ended.
        seconds: u64,
    },
    /// It was issued in the future, or the clock here is behind.
    NotYet,
}

/// The festival this relay belongs to.
#[derive(Debug)]
pub struct Festival {
    id: FestivalId,
    token: ZoneToken,
    trusted: BTreeSet<NodeId>,
    grace: u64,
    kept: PathBuf,
    revocations: Mutex<Option<Revocations>>,
}

impl Festival {
    /// Reads the files named in the configuration. `node` and `zone` are this relay's; `now` is in unix
    /// seconds. The newest list of revocations is kept at `kept`.
    pub fn load(
        files: &Files,
        kept: PathBuf,
        own: (NodeId, &ZoneName),
        now: u64,
    ) -> Result<Festival, String> {
        let id = key(&files.key).map_err(|error| format!("festival-key = {:?}: {error}", files.key))?;
        let shown = files.token.display();
        let token: ZoneToken =
            read(&files.token).map_err(|error| format!("festival-token = {shown}: {error}"))?;
        let festival = Festival {
            id,
            token,
            trusted: files.trusted.clone(),
            grace: files.grace_hours * 3600,
            kept,
            revocations: Mutex::default(),
        };
        for path in files.revocations.iter().chain([&festival.kept]) {
            match fs::read_to_string(path) {
                Ok(text) => festival.adopt(&text).map(drop).map_err(|error| error.to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound && *path == festival.kept => Ok(()),
                Err(error) => Err(error.to_string()),
            }
            .map_err(|error| format!("revocations = {}: {error}", path.display()))?;
        }
        let text = festival.token.to_string();
        match festival.judge(own.0, own.1, Some(&text), now) {
            Ok(Standing::Good | Standing::Trusted) => {}
            Ok(standing) => {
                tracing::warn!(
                    "the zone token of this relay: {standing:?}; look at the clock, then renew it"
                );
            }
            // A relay that trusts itself is still no relay of the festival.
            Err(error) => return Err(format!("festival-token = {shown}: this relay {error}")),
        }
        Ok(festival)
    }

    /// Whether the relay that proved to be `node` is one of this festival. `now` in unix seconds.
    pub fn judge(
        &self,
        node: NodeId,
        zone: &ZoneName,
        token: Option<&str>,
        now: u64,
    ) -> Result<Standing, Outsider> {
        let revocations = self.revocations();
        let revoked = revocations.as_ref().map(Revocations::unverified);
        if revoked.is_some_and(|list| list.nodes.contains(&node)) {
            return Err(Outsider::Revoked);
        }
        if self.trusted.contains(&node) {
            return Ok(Standing::Trusted);
        }
        let token: ZoneToken = token.ok_or(Outsider::NoToken)?.parse()?;
        let token = token.verify(&self.id)?;
        if token.node != node {
            return Err(Outsider::NotItsOwn);
        }
        if token.zone != *zone {
            return Err(Outsider::OtherZone { says: zone.clone(), token: token.zone.clone() });
        }
        if revoked.is_some_and(|list| list.names(token)) {
            return Err(Outsider::Revoked);
        }
        self.time(token, now)
    }

    fn time(&self, token: &Membership, now: u64) -> Result<Standing, Outsider> {
        let seconds = now.saturating_sub(token.not_after);
        match seconds {
            0 if now < token.issued_at => Ok(Standing::NotYet),
            0 => Ok(Standing::Good),
            _ if seconds <= self.grace => Ok(Standing::Expired { seconds }),
            _ => Err(Outsider::Expired { hours: seconds / 3600 }),
        }
    }

    /// Takes a list of revocations if it is the organizer's and newer; `true` if it was news.
    pub fn adopt(&self, text: &str) -> Result<bool, TokenError> {
        let list: Revocations = text.trim().parse()?;
        let epoch = list.verify(&self.id)?.epoch;
        let mut known = self.revocations();
        if known.as_ref().is_some_and(|known| known.unverified().epoch >= epoch) {
            return Ok(false);
        }
        let new = self.kept.with_extension("new");
        if let Err(error) = fs::write(&new, list.to_string()).and_then(|()| fs::rename(&new, &self.kept)) {
            tracing::warn!("the revocations cannot be kept in {}: {error}", self.kept.display());
        }
        *known = Some(list);
        Ok(true)
    }

    /// Whether the organizer took this relay out.
    pub fn revoked(&self, node: &NodeId, token: Option<&str>) -> bool {
        let token = token.and_then(|token| token.parse::<ZoneToken>().ok());
        self.revocations().as_ref().map(Revocations::unverified).is_some_and(|list| {
            list.nodes.contains(node) || token.is_some_and(|token| list.names(token.unverified()))
        })
    }

    /// What this relay shows to others: its token and the newest list.
    pub fn shown(&self) -> (String, Option<String>) {
        (self.token.to_string(), self.revocations().as_ref().map(ToString::to_string))
    }

    /// Until this relay's own token ends; negative afterwards.
    pub fn seconds_left(&self, now: u64) -> i64 {
        let ends = i64::try_from(self.token.unverified().not_after).unwrap_or(i64::MAX);
        ends.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX))
    }

    fn revocations(&self) -> MutexGuard<'_, Option<Revocations>> {
        self.revocations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the operator keeps what the organizer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// This relay's zone token.
    pub token: PathBuf,
    /// The festival's id, or a file that holds it.
    pub key: String,
    /// A list of revocations, if there is one.
    pub revocations: Option<PathBuf>,
    /// How long an expired token still counts.
    pub grace_hours: u64,
    /// Relays that need no token.
    pub trusted: BTreeSet<NodeId>,
}

fn key(text: &str) -> Result<FestivalId, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let text = fs::read_to_string(text).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error: TokenError| error.to_string())
}

fn read(path: &Path) -> Result<ZoneToken, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error: TokenError| error.to_string())
}

#[cfg(test)]
#[path = "festival_tests.rs"]
mod tests;
