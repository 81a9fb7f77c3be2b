//! Who belongs to the same festival: judges the token a neighbor shows against the organizer's papers
//! and the time. The links are the bridge's, what the organizer types is in `cli/festival.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use protocol::{
    NodeId, ZoneName,
    token::{Body, FestivalId, Membership, Role, TokenError, ZoneToken},
};
use thiserror::Error;
use tokio::sync::watch;

use super::revocation_list::Papers;
use crate::storage::atomic_file;

/// How long an expired token still counts, in hours: the clock may be the liar.
pub const GRACE_HOURS: u64 = 48;
/// A zone token that came by pairing, in the data directory: it counts if no other one is configured.
pub const TOKEN: &str = "zone.token";
/// What is kept of the organizer's papers, in the data directory.
pub const KEPT: &str = "revocations.pnr";
/// Below this a relay speaks of its own token's end in the log.
const SOON: i64 = 7 * 86_400;
/// Outsiders that are remembered so as not to be named twice.
const NAMED_MAX: usize = 256;

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
    /// The organizer's key that signed it is of no use any more.
    #[error("shows a zone token signed with a key the organizer has given up: it needs a new token")]
    OldKey,
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

impl Standing {
    /// Whether somebody should look at it.
    pub fn flagged(self) -> bool {
        matches!(self, Standing::Expired { .. } | Standing::NotYet)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Good => f.write_str("good"),
            Standing::Trusted => f.write_str("named with --trust"),
            Standing::Expired { seconds } => {
                write!(f, "ended {} h ago and counts for a grace time only; renew it", seconds / 3600)
            }
            Standing::NotYet => {
                f.write_str("begins in the future: a clock is wrong, here or at the organizer")
            }
        }
    }
}

/// The festival this relay belongs to.
#[derive(Debug)]
pub struct Festival {
    id: FestivalId,
    node: NodeId,
    zone: ZoneName,
    token: Mutex<ZoneToken>,
    trusted: BTreeSet<NodeId>,
    grace: u64,
    files: Files,
    kept: PathBuf,
    papers: Mutex<Papers>,
    /// Counts the papers taken.
    news: watch::Sender<u64>,
    named: Mutex<BTreeMap<NodeId, Outsider>>,
}

impl Festival {
    /// Reads the files named in the configuration. `node` and `zone` are this relay's; `now` is in unix
    /// seconds. What the organizer signs for everybody is kept at `kept`.
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
        let festival = Festival {
            id,
            node,
            zone: zone.clone(),
            token: Mutex::new(token),
            trusted: files.trusted.clone(),
            grace: files.grace_hours * 3600,
            files: files.clone(),
            kept,
            papers: Mutex::new(Papers::new(id)),
            news: watch::Sender::new(0),
            named: Mutex::default(),
        };
        festival.read_kept();
        festival.read(&beside).map_err(|error| format!("festival-token = {shown}: a paper in it {error}"))?;
        if let Some(path) = &files.revocations {
            let text = fs::read_to_string(path).map_err(|error| error.to_string());
            text.and_then(|text| festival.read(&text).map_err(|error| error.to_string()))
                .map_err(|error| format!("revocations = {}: {error}", path.display()))?;
        }
        match festival.own(now) {
            // A clock that is wrong or an organizer who changed his mind is no reason to leave the zone alone:
            // it is served, the bridges say loudly what is wrong, and no relay bridges with this one.
            Ok(_) | Err(Outsider::Expired { .. } | Outsider::Revoked | Outsider::OldKey) => {}
            Err(error) => return Err(format!("festival-token = {shown}: this relay {error}")),
        }
        Ok(festival)
    }

    /// A kept file that is damaged is no reason not to start: the papers come again.
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
    pub fn own(&self, now: u64) -> Result<Standing, Outsider> {
        let text = self.token().to_string();
        let token = believe(&self.papers(), self.node, &self.zone, Some(&text))?;
        self.standing(self.node, token.as_ref(), now)
    }

    /// The token in what the relay that proved to be `node` shows; none is needed of one that is trusted.
    /// Whether it counts now is [`Festival::standing`]'s.
    pub fn believe(
        &self,
        node: NodeId,
        zone: &ZoneName,
        token: Option<&str>,
    ) -> Result<Option<Membership>, Outsider> {
        if self.trusted.contains(&node) && token.is_none() {
            return Ok(None);
        }
        match believe(&self.papers(), node, zone, token) {
            Err(_) if self.trusted.contains(&node) => Ok(None),
            believed => believed,
        }
    }

    /// What a token says of a relay that shows it among its records, if the organizer signed it for that relay.
    pub fn member(&self, node: NodeId, token: &str) -> Option<Membership> {
        let zone = token.parse::<ZoneToken>().ok()?.unverified().zone.clone();
        let believed = believe(&self.papers(), node, &zone, Some(token)).ok()??;
        let revoked = self.papers().revokes(&believed);
        (!revoked).then_some(believed)
    }

    /// Whether this relay may take over names that are live from other zones.
    pub fn may_take_over(&self) -> bool {
        self.member(self.node, &self.token().to_string()).is_some_and(|own| own.role == Role::MayTakeOver)
    }

    /// Whether a relay counts at `now`, in unix seconds. `token` is one that was believed.
    pub fn standing(&self, node: NodeId, token: Option<&Membership>, now: u64) -> Result<Standing, Outsider> {
        let papers = self.papers();
        if papers.revoked().is_some_and(|list| list.nodes.contains(&node)) {
            return Err(Outsider::Revoked);
        }
        if self.trusted.contains(&node) {
            return Ok(Standing::Trusted);
        }
        let token = token.ok_or(Outsider::NoToken)?;
        if papers.revokes(token) {
            return Err(Outsider::Revoked);
        }
        if papers.organizer().until(&token.festival).is_some_and(|until| now >= until) {
            return Err(Outsider::OldKey);
        }
        let seconds = now.saturating_sub(token.not_after);
        match seconds {
            0 if now < token.issued_at => Ok(Standing::NotYet),
            0 => Ok(Standing::Good),
            _ if seconds <= self.grace => Ok(Standing::Expired { seconds }),
            _ => Err(Outsider::Expired { hours: seconds / 3600 }),
        }
    }

    /// Takes a paper if it is the organizer's and newer; `true` if it was news.
    pub fn adopt(&self, line: &str) -> Result<bool, TokenError> {
        let news = self.papers().adopt(line)?;
        if news {
            self.news.send_modify(|count| *count += 1);
        }
        Ok(news)
    }

    fn read(&self, text: &str) -> Result<usize, TokenError> {
        let news = self.papers().read(text)?;
        if news > 0 {
            self.news.send_modify(|count| *count += 1);
        }
        Ok(news)
    }

    /// What this relay shows to others: its token, and what the organizer signed for everybody.
    pub fn shown(&self) -> (String, Vec<String>) {
        (self.token().to_string(), self.papers().lines())
    }

    /// Changes with each paper that is taken.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Writes the papers to the data directory. Blocks.
    pub fn keep(&self) {
        let text = self.papers().text();
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
        let found = Seen { token: changed(token), papers: revocations.as_deref().and_then(changed) };
        if let Some(path) = revocations
            && found.papers.is_some()
            && found.papers != seen.papers
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
        if *self.token() == token {
            return Ok(false);
        }
        self.read(&beside).map_err(|error| format!("a paper in it {error}"))?;
        believe(&self.papers(), self.node, &self.zone, Some(&token.to_string()))
            .map_err(|error| format!("this relay {error}"))?;
        *self.token() = token;
        Ok(true)
    }

    /// Until this relay's own token ends; negative afterwards.
    pub fn seconds_left(&self, now: u64) -> i64 {
        let ends = i64::try_from(self.token().unverified().not_after).unwrap_or(i64::MAX);
        ends.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX))
    }

    /// What there is to say about this relay's own token, if there is: for people.
    pub fn warning(&self, now: u64) -> Option<String> {
        let left = self.seconds_left(now);
        match self.own(now) {
            Ok(Standing::Expired { seconds }) => Some(format!(
                "this relay's zone token ended {} h ago; in {} h no relay will bridge with it: renew it",
                seconds / 3600,
                self.grace.saturating_sub(seconds) / 3600
            )),
            Ok(Standing::NotYet) => Some(format!("this relay's zone token {}", Standing::NotYet)),
            Ok(_) if left < SOON => {
                Some(format!("this relay's zone token ends in {} h: renew it", left / 3600))
            }
            Ok(_) => None,
            Err(outsider) => Some(format!("this relay {outsider}: no relay bridges with it")),
        }
    }

    /// In a word, for people.
    pub fn told(&self, now: u64) -> String {
        let left = self.seconds_left(now);
        self.warning(now).unwrap_or_else(|| format!("zone token good for {} days", left / 86_400))
    }

    /// Whether this outsider was not yet named for this reason.
    pub fn names(&self, node: NodeId, outsider: &Outsider) -> bool {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let known = named.get(&node).map(std::mem::discriminant);
        if known == Some(std::mem::discriminant(outsider)) {
            return false;
        }
        if named.len() >= NAMED_MAX && known.is_none() {
            return false;
        }
        named.insert(node, outsider.clone());
        true
    }

    fn token(&self) -> MutexGuard<'_, ZoneToken> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn believe(
    papers: &Papers,
    node: NodeId,
    zone: &ZoneName,
    token: Option<&str>,
) -> Result<Option<Membership>, Outsider> {
    let token: ZoneToken = token.ok_or(Outsider::NoToken)?.parse()?;
    let signer = token.unverified().festival;
    if papers.organizer().epoch(&signer).is_none() {
        return Err(TokenError::OtherFestival.into());
    }
    let token = token.verify(&signer)?;
    if token.node != node {
        return Err(Outsider::NotItsOwn);
    }
    if token.zone != *zone {
        return Err(Outsider::OtherZone { says: zone.clone(), token: token.zone.clone() });
    }
    Ok(Some(token.clone()))
}

/// When the operator's files were changed last, as far as that was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    token: Option<SystemTime>,
    papers: Option<SystemTime>,
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
pub fn token_for(text: &str, node: NodeId, zone: &ZoneName) -> Result<FestivalId, String> {
    let (token, beside) = split(text)?;
    let festival = token.unverified().festival;
    let mut papers = Papers::new(festival);
    papers.read(&beside).map_err(|error| format!("a paper beside it {error}"))?;
    believe(&papers, node, zone, Some(&token.to_string())).map_err(|error| format!("this relay {error}"))?;
    Ok(festival)
}

fn read(path: &Path) -> Result<(ZoneToken, String), String> {
    split(&fs::read_to_string(path).map_err(|error| error.to_string())?)
}

/// A token, and the papers that stand beside it.
fn split(text: &str) -> Result<(ZoneToken, String), String> {
    let (tokens, papers): (Vec<_>, Vec<_>) =
        text.lines().partition(|line| line.trim().starts_with(Membership::PREFIX));
    let [token] = tokens[..] else { return Err(format!("holds {} zone tokens, not one", tokens.len())) };
    let token = token.trim().parse().map_err(|error: TokenError| error.to_string())?;
    Ok((token, papers.join("\n")))
}

#[cfg(test)]
#[path = "festival_tests.rs"]
mod tests;
