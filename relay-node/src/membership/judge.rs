//! Judges who is of the same festival: the token a neighbor shows, against what the organizer signed for everybody and
//! the time. Pure; the files are `festival.rs`'s, the links the bridge's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use protocol::{
    NodeId, ZoneName,
    token::{FestivalId, Membership, Role, TokenError, ZoneToken},
};
use thiserror::Error;

use super::revocation_list::RevocationList;

/// Below this a relay speaks of its own token's end in the log.
const SOON: i64 = 7 * 86_400;
/// Outsiders that are remembered so as not to be named twice.
const NAMED_MAX: usize = 256;

/// Why a neighbor is not let in. Goes to its log as well as to ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MembershipError {
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

/// What is known of the festival, and what the operator said of it.
#[derive(Debug)]
pub struct Judge {
    node: NodeId,
    zone: ZoneName,
    token: ZoneToken,
    trusted: BTreeSet<NodeId>,
    grace: u64,
    revocations: RevocationList,
    named: BTreeMap<NodeId, MembershipError>,
}

impl Judge {
    /// For this relay with this token. An expired token counts for `grace` seconds more; those who are trusted need
    /// none.
    pub fn new(
        id: FestivalId,
        (node, zone): (NodeId, ZoneName),
        token: ZoneToken,
        trusted: BTreeSet<NodeId>,
        grace: u64,
    ) -> Judge {
        Judge {
            node,
            zone,
            token,
            trusted,
            grace,
            revocations: RevocationList::new(id),
            named: BTreeMap::new(),
        }
    }

    /// How this relay's own token stands.
    ///
    /// # Errors
    ///
    /// As [`Judge::believe`] and [`Judge::standing`].
    pub fn own(&self, now: u64) -> Result<Standing, MembershipError> {
        let text = self.token.to_string();
        let token = believe(&self.revocations, self.node, &self.zone, Some(&text))?;
        self.standing(self.node, token.as_ref(), now)
    }

    /// The token in what the relay that proved to be `node` shows; none is needed of one that is trusted.
    /// Whether it counts now is [`Festival::standing`]'s.
    ///
    /// # Errors
    ///
    /// [`MembershipError::NoToken`] if nothing is shown, [`MembershipError::NotBelieved`] for what the
    /// organizer did not sign, [`MembershipError::NotItsOwn`] or [`MembershipError::OtherZone`] for the token
    /// of another relay or zone. None for one that is trusted.
    pub fn believe(
        &self,
        node: NodeId,
        zone: &ZoneName,
        token: Option<&str>,
    ) -> Result<Option<Membership>, MembershipError> {
        if self.trusted.contains(&node) && token.is_none() {
            return Ok(None);
        }
        match believe(&self.revocations, node, zone, token) {
            Err(_) if self.trusted.contains(&node) => Ok(None),
            believed => believed,
        }
    }

    /// What a token says of a relay that shows it among its records, if the organizer signed it for that relay.
    pub fn member(&self, node: NodeId, token: &str) -> Option<Membership> {
        let zone = token.parse::<ZoneToken>().ok()?.unverified().zone.clone();
        let believed = believe(&self.revocations, node, &zone, Some(token)).ok()??;
        let revoked = self.revocations.revokes(&believed);
        (!revoked).then_some(believed)
    }

    /// Whether this relay may take over names that are live from other zones.
    pub fn may_take_over(&self) -> bool {
        self.member(self.node, &self.token.to_string()).is_some_and(|own| own.role == Role::MayTakeOver)
    }

    /// Whether a relay counts at `now`, in unix seconds. `token` is one that was believed.
    ///
    /// # Errors
    ///
    /// [`MembershipError::Revoked`] if the relay was taken back. Of one that is not trusted also if its token
    /// was, [`MembershipError::NoToken`] without a token, [`MembershipError::OldKey`] if the key that signed
    /// it is given up, [`MembershipError::Expired`] if even the grace time is over.
    pub fn standing(
        &self,
        node: NodeId,
        token: Option<&Membership>,
        now: u64,
    ) -> Result<Standing, MembershipError> {
        let revocations = &self.revocations;
        if revocations.revoked().is_some_and(|list| list.nodes.contains(&node)) {
            return Err(MembershipError::Revoked);
        }
        if self.trusted.contains(&node) {
            return Ok(Standing::Trusted);
        }
        let token = token.ok_or(MembershipError::NoToken)?;
        if revocations.revokes(token) {
            return Err(MembershipError::Revoked);
        }
        if revocations.organizer().until(&token.festival).is_some_and(|until| now >= until) {
            return Err(MembershipError::OldKey);
        }
        let seconds = now.saturating_sub(token.not_after);
        match seconds {
            0 if now < token.issued_at => Ok(Standing::NotYet),
            0 => Ok(Standing::Good),
            _ if seconds <= self.grace => Ok(Standing::Expired { seconds }),
            _ => Err(MembershipError::Expired { hours: seconds / 3600 }),
        }
    }

    /// Takes a list or a key rotation if it is the organizer's and newer; `true` if it was news.
    ///
    /// # Errors
    ///
    /// As [`RevocationList::adopt`].
    pub fn adopt(&mut self, line: &str) -> Result<bool, TokenError> {
        self.revocations.adopt(line)
    }

    /// Takes what is newer of these lines; how many were.
    ///
    /// # Errors
    ///
    /// As [`RevocationList::read`].
    pub fn read(&mut self, text: &str) -> Result<usize, TokenError> {
        self.revocations.read(text)
    }

    /// Takes another token of this relay.
    ///
    /// # Errors
    ///
    /// As [`Judge::believe`] of one that is not trusted; the old token holds then.
    pub fn renew(&mut self, token: ZoneToken) -> Result<(), MembershipError> {
        believe(&self.revocations, self.node, &self.zone, Some(&token.to_string()))?;
        self.token = token;
        Ok(())
    }

    /// This relay's token.
    pub fn token(&self) -> &ZoneToken {
        &self.token
    }

    /// What the organizer signed for everybody.
    pub fn revocations(&self) -> &RevocationList {
        &self.revocations
    }

    /// Until this relay's own token ends; negative afterwards.
    pub fn seconds_left(&self, now: u64) -> i64 {
        let ends = i64::try_from(self.token.unverified().not_after).unwrap_or(i64::MAX);
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
    pub fn status_line(&self, now: u64) -> String {
        let left = self.seconds_left(now);
        self.warning(now).unwrap_or_else(|| format!("zone token good for {} days", left / 86_400))
    }

    /// Whether this outsider was not yet named for this reason.
    pub fn names(&mut self, node: NodeId, outsider: &MembershipError) -> bool {
        let named = &mut self.named;
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
}

pub(crate) fn believe(
    revocations: &RevocationList,
    node: NodeId,
    zone: &ZoneName,
    token: Option<&str>,
) -> Result<Option<Membership>, MembershipError> {
    let token: ZoneToken = token.ok_or(MembershipError::NoToken)?.parse()?;
    let signer = token.unverified().festival;
    if revocations.organizer().epoch(&signer).is_none() {
        return Err(TokenError::OtherFestival.into());
    }
    let token = token.verify(&signer)?;
    if token.node != node {
        return Err(MembershipError::NotItsOwn);
    }
    if token.zone != *zone {
        return Err(MembershipError::OtherZone { says: zone.clone(), token: token.zone.clone() });
    }
    Ok(Some(token.clone()))
}
