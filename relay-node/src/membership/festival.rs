//! The festival of this relay as files have it: the token, the organizer's list, and what is kept of it. Who counts is
//! decided in `judge.rs`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use protocol::{
    NodeId, ZoneName,
    token::{Body, FestivalId, Membership, TokenError, ZoneToken},
};
use tokio::sync::watch;

use super::{
    judge::{Judge, MembershipError, Standing, believe},
    revocation_list::RevocationList,
};
use crate::storage::atomic_file;

/// How long an expired token still counts, in hours: the clock may be the liar.
pub const GRACE_HOURS: u64 = 48;
/// A zone token that came by pairing, in the data directory: it counts if no other one is configured.
pub const TOKEN: &str = "zone.token";
/// What is kept of the organizer's revocations and key rotations, in the data directory.
pub const KEPT: &str = "revocations.pnr";
/// The festival this relay belongs to.
#[derive(Debug)]
pub struct Festival {
    id: FestivalId,
    judge: Mutex<Judge>,
    files: Files,
    kept: PathBuf,
    /// Counts what was taken of the organizer.
    news: watch::Sender<u64>,
}

impl Festival {
    /// Reads the files named in the configuration. `node` and `zone` are this relay's; `now` is in unix
    /// seconds. What the organizer signs for everybody is kept at `kept`.
    ///
    /// # Errors
    ///
    /// Which key of the configuration is wrong, and why: a file cannot be read, or holds something else, or
    /// the token is none for this relay. That it expired or was taken back is no error.
    pub fn load(
        files: &Files,
        kept: PathBuf,
        (node, zone): (NodeId, &ZoneName),
        now: u64,
    ) -> Result<Festival, String> {
        let shown = files.token.display();
        let (token, beside) =
            read(&files.token).map_err(|error| format!("festival-token = {shown}: {error}"))?;
        let id = match &files.key {
            Some(text) => key(text).map_err(|error| format!("festival-key = {text:?}: {error}"))?,
            None => token.unverified().festival,
        };
        let (trusted, grace) = (files.trusted.clone(), files.grace_hours * 3600);
        let judge = Judge::new(id, (node, zone.clone()), token, trusted, grace);
        let festival = Festival {
            id,
            judge: Mutex::new(judge),
            files: files.clone(),
            kept,
            news: watch::Sender::new(0),
        };
        festival.read_kept();
        festival
            .read(&beside)
            .map_err(|error| format!("festival-token = {shown}: what the organizer signed in it {error}"))?;
        if let Some(path) = &files.revocations {
            let text = fs::read_to_string(path).map_err(|error| error.to_string());
            text.and_then(|text| festival.read(&text).map_err(|error| error.to_string()))
                .map_err(|error| format!("revocations = {}: {error}", path.display()))?;
        }
        match festival.own(now) {
            // A clock that is wrong or an organizer who changed his mind is no reason to leave the zone alone:
            // it is served, the bridges say loudly what is wrong, and no relay bridges with this one.
            Ok(_)
            | Err(MembershipError::Expired { .. } | MembershipError::Revoked | MembershipError::OldKey) => {}
            Err(error) => return Err(format!("festival-token = {shown}: this relay {error}")),
        }
        Ok(festival)
    }

    /// A kept file that is damaged is no reason not to start: what it held comes again.
    fn read_kept(&self) {
        let error = match fs::read_to_string(&self.kept) {
            Ok(text) => match self.read(&text) {
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => error.to_string(),
        };
        tracing::warn!("the revocations in {} are passed over: {error}", self.kept.display());
    }

    /// The festival's id: the key that the operator trusts.
    pub fn id(&self) -> FestivalId {
        self.id
    }

    /// How this relay's own token stands.
    ///
    /// # Errors
    ///
    /// As [`Judge::own`].
    pub fn own(&self, now: u64) -> Result<Standing, MembershipError> {
        self.judge().own(now)
    }

    /// The token in what the relay that proved to be `node` shows; none is needed of one that is trusted.
    /// Whether it counts now is [`Festival::standing`]'s.
    ///
    /// # Errors
    ///
    /// As [`Judge::believe`].
    pub fn believe(
        &self,
        node: NodeId,
        zone: &ZoneName,
        token: Option<&str>,
    ) -> Result<Option<Membership>, MembershipError> {
        self.judge().believe(node, zone, token)
    }

    /// What a token says of a relay that shows it among its records, if the organizer signed it for that relay.
    pub fn member(&self, node: NodeId, token: &str) -> Option<Membership> {
        self.judge().member(node, token)
    }

    /// Whether this relay may take over names that are live from other zones.
    pub fn may_take_over(&self) -> bool {
        self.judge().may_take_over()
    }

    /// Whether a relay counts at `now`, in unix seconds. `token` is one that was believed.
    ///
    /// # Errors
    ///
    /// As [`Judge::standing`].
    pub fn standing(
        &self,
        node: NodeId,
        token: Option<&Membership>,
        now: u64,
    ) -> Result<Standing, MembershipError> {
        self.judge().standing(node, token, now)
    }

    /// Takes a list or a key rotation if it is the organizer's and newer; `true` if it was news.
    ///
    /// # Errors
    ///
    /// As [`Judge::adopt`].
    pub fn adopt(&self, line: &str) -> Result<bool, TokenError> {
        let news = self.judge().adopt(line)?;
        if news {
            self.news.send_modify(|count| *count += 1);
        }
        Ok(news)
    }

    fn read(&self, text: &str) -> Result<usize, TokenError> {
        let news = self.judge().read(text)?;
        if news > 0 {
            self.news.send_modify(|count| *count += 1);
        }
        Ok(news)
    }

    /// What this relay shows to others: its token, and what the organizer signed for everybody.
    pub fn shown(&self) -> (String, Vec<String>) {
        let judge = self.judge();
        (judge.token().to_string(), judge.revocations().lines())
    }

    /// Changes with each list or key rotation that is taken.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Writes what the organizer signed to the data directory. Blocks.
    pub fn keep(&self) {
        let text = self.judge().revocations().text();
        if text.is_empty() {
            return;
        }
        if let Err(error) = atomic_file::write(&self.kept, text.as_bytes(), atomic_file::PUBLIC) {
            tracing::warn!("the revocations cannot be kept in {}: {error}", self.kept.display());
        }
    }

    /// Reads the operator's files again that changed since `seen`: a list that is newer, a token that was
    /// renewed. Blocks.
    pub fn read_given(&self, seen: Seen) -> Seen {
        let Files { token, revocations, .. } = &self.files;
        let found = Seen { token: changed(token), revocations: revocations.as_deref().and_then(changed) };
        if let Some(path) = revocations
            && found.revocations.is_some()
            && found.revocations != seen.revocations
        {
            let read = fs::read_to_string(path).map_err(|error| error.to_string());
            match read.and_then(|text| self.read(&text).map_err(|error| error.to_string())) {
                Ok(0) => {}
                Ok(_) => tracing::info!("newer revocations were read from {}", path.display()),
                Err(error) => {
                    tracing::warn!("revocations = {}: {error}; what was known holds", path.display());
                }
            }
        }
        if found.token.is_some() && found.token != seen.token {
            match self.renew() {
                Ok(true) => tracing::info!("another zone token was read from {}", token.display()),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!("festival-token = {}: {error}; the old one holds", token.display());
                }
            }
        }
        found
    }

    /// Takes the token in the file, if it is another one of this relay: new links show it.
    fn renew(&self) -> Result<bool, String> {
        let (token, beside) = read(&self.files.token)?;
        if *self.judge().token() == token {
            return Ok(false);
        }
        self.read(&beside).map_err(|error| format!("what the organizer signed in it {error}"))?;
        self.judge().renew(token).map_err(|error| format!("this relay {error}"))?;
        Ok(true)
    }

    /// Until this relay's own token ends; negative afterwards.
    pub fn seconds_left(&self, now: u64) -> i64 {
        self.judge().seconds_left(now)
    }

    /// What there is to say about this relay's own token, if there is: for people.
    pub fn warning(&self, now: u64) -> Option<String> {
        self.judge().warning(now)
    }

    /// In a word, for people.
    pub fn status_line(&self, now: u64) -> String {
        self.judge().status_line(now)
    }

    /// Whether this outsider was not yet named for this reason.
    pub fn names(&self, node: NodeId, outsider: &MembershipError) -> bool {
        self.judge().names(node, outsider)
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the operator's files were changed last, as far as that was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    token: Option<SystemTime>,
    revocations: Option<SystemTime>,
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// Where the operator keeps what the organizer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// This relay's zone token.
    pub token: PathBuf,
    /// The festival's id, or a file that holds it. Without: the one that the token names.
    pub key: Option<String>,
    /// What the organizer signed for everybody, if there is such a file.
    pub revocations: Option<PathBuf>,
    /// How long an expired token still counts.
    pub grace_hours: u64,
    /// Relays that need no token.
    pub trusted: BTreeSet<NodeId>,
}

/// A festival's id: itself, or in a file.
pub(crate) fn key(text: &str) -> Result<FestivalId, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let text = fs::read_to_string(text).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error: TokenError| error.to_string())
}

/// The festival of the token in `text`, if it is one for this relay.
///
/// # Errors
///
/// What is wrong, as a clause: not one token in it, one that is not signed by its festival or not for this
/// relay and zone, or something beside it that is not the organizer's.
pub fn token_for(text: &str, node: NodeId, zone: &ZoneName) -> Result<FestivalId, String> {
    let (token, beside) = split(text)?;
    let festival = token.unverified().festival;
    let mut revocations = RevocationList::new(festival);
    revocations.read(&beside).map_err(|error| format!("what the organizer signed beside it {error}"))?;
    believe(&revocations, node, zone, Some(&token.to_string()))
        .map_err(|error| format!("this relay {error}"))?;
    Ok(festival)
}

fn read(path: &Path) -> Result<(ZoneToken, String), String> {
    split(&fs::read_to_string(path).map_err(|error| error.to_string())?)
}

/// A token, and the revocations and key rotations that stand beside it.
fn split(text: &str) -> Result<(ZoneToken, String), String> {
    let (tokens, revocations): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.trim().starts_with(Membership::PREFIX));
    let [token] = tokens[..] else { return Err(format!("holds {} zone tokens, not one", tokens.len())) };
    let token = token.trim().parse().map_err(|error: TokenError| error.to_string())?;
    Ok((token, revocations.join("\n")))
}

#[cfg(test)]
#[path = "festival_tests.rs"]
mod tests;
