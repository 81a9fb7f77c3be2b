//! What the organizer of a festival signs: who is one of its relays, who is no longer, and with which key
//! it signs from now on. Owns the bytes, their text form and the check of the signature; what follows from them the relay decides.

use std::{collections::BTreeSet, fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{NodeId, ZoneName};

const VERSION: u8 = 1;
const SIGNATURE: usize = 64;

/// Why something that claims to be signed by an organizer is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Cut, too long, of another version, or something else altogether.
    #[error("is not {0}")]
    Malformed(&'static str),
    /// Another organizer's.
    #[error("belongs to another festival")]
    OtherFestival,
    /// Altered, or not signed with the key of the festival it names.
    #[error("is not signed by the organizer")]
    Signature,
    /// Signed with the organizer's key, and at odds with what was signed with it before.
    #[error("names another next key than the one known: ask the organizer which is right")]
    Forked,
}

/// A festival: the ed25519 public key of its organizer, shown as 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FestivalId(pub [u8; 32]);

impl FestivalId {
    /// The festival of the organizer who holds `key`.
    pub fn of(key: &Ed25519KeyPair) -> FestivalId {
        FestivalId(key.public_key().as_ref().try_into().expect("an ed25519 public key has 32 bytes"))
    }
}

impl fmt::Display for FestivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for FestivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

impl FromStr for FestivalId {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let NodeId(key) = text.parse().map_err(|_| TokenError::Malformed("a festival's id"))?;
        Ok(FestivalId(key))
    }
}

/// What an organizer can sign. Each kind has its own context, so that no signature serves for two.
pub trait Body: Serialize + DeserializeOwned {
    /// Goes before the signed bytes.
    const CONTEXT: &'static [u8];
    /// Goes before the text form.
    const PREFIX: &'static str;
    /// For people.
    const WHAT: &'static str;
    /// The longest encoding, signature included.
    const MAX: usize;
    /// The festival it names.
    fn festival(&self) -> FestivalId;
}

/// What a node may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Bridge with the other relays of the festival.
    Relay,
    /// That, and publish a name that is live from another zone. Releases before this role do not read its tokens.
    MayTakeOver,
}

/// This node is a relay of this festival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Of which festival.
    pub festival: FestivalId,
    /// The number to revoke it by.
    pub serial: u64,
    /// Whose it is.
    pub node: NodeId,
    /// Where that relay stands.
    pub zone: ZoneName,
    /// What it may be.
    pub role: Role,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub not_after: u64,
}

impl Body for Membership {
    const CONTEXT: &'static [u8] = b"peddlenet zone token\0";
    const PREFIX: &'static str = "pnz1.";
    const WHAT: &'static str = "a zone token";
    const MAX: usize = 512;
    fn festival(&self) -> FestivalId {
        self.festival
    }
}

/// Who is no longer a relay of a festival. Of two lists the one with the higher epoch holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Of which festival.
    pub festival: FestivalId,
    /// Counts the lists.
    pub epoch: u64,
    /// Relays, whatever token they show.
    pub nodes: BTreeSet<NodeId>,
    /// Single tokens.
    pub serials: BTreeSet<u64>,
}

impl Revoked {
    /// Whether the list names this token or its relay.
    pub fn names(&self, token: &Membership) -> bool {
        self.nodes.contains(&token.node) || self.serials.contains(&token.serial)
    }
}

impl Body for Revoked {
    const CONTEXT: &'static [u8] = b"peddlenet revocations\0";
    const PREFIX: &'static str = "pnr1.";
    const WHAT: &'static str = "a list of revocations";
    const MAX: usize = 32 * 1024;
    fn festival(&self) -> FestivalId {
        self.festival
    }
}

/// The organizer signs with another key from now on. Signed with the old key, and the new one consents:
/// so that who knows either of them knows both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The key until now.
    pub old: FestivalId,
    /// The key from now on.
    pub new: FestivalId,
    /// Counts the keys: the first one is 0, so the least is 1.
    pub epoch: u32,
    /// Unix seconds from which nothing counts that the old key signed. Not set: until it ends by itself.
    pub old_until: Option<u64>,
    /// The signature with the new key.
    consent: Vec<u8>,
}

impl Succession {
    fn consented(old: FestivalId, new: FestivalId, epoch: u32, old_until: Option<u64>) -> Vec<u8> {
        let text = postcard::to_stdvec(&(old, new, epoch, old_until)).expect("numbers always serialize");
        [&b"peddlenet organizer's next key\0"[..], &text].concat()
    }
}

impl Body for Succession {
    const CONTEXT: &'static [u8] = b"peddlenet organizer's rotation\0";
    const PREFIX: &'static str = "pnk1.";
    const WHAT: &'static str = "a change of the organizer's key";
    const MAX: usize = 512;
    fn festival(&self) -> FestivalId {
        self.old
    }
}

impl Signed<Succession> {
    /// The organizer's key number `epoch` is `new`, after `old`.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`] if it would be too long to be read again.
    pub fn rotate(
        old: &Ed25519KeyPair,
        new: &Ed25519KeyPair,
        epoch: u32,
        old_until: Option<u64>,
    ) -> Result<Rotation, TokenError> {
        let (from, to) = (FestivalId::of(old), FestivalId::of(new));
        let consent = new.sign(&Succession::consented(from, to, epoch, old_until)).as_ref().to_vec();
        Signed::sign(Succession { old: from, new: to, epoch, old_until, consent }, old)
    }

    /// The content, if both keys signed it. Whether either of them is the organizer's is asked elsewhere.
    ///
    /// # Errors
    ///
    /// [`TokenError::Signature`] if one of them did not, [`TokenError::Malformed`] if it names no change.
    pub fn verify_both(&self) -> Result<&Succession, TokenError> {
        let body = self.verify(&self.body.old)?;
        let text = Succession::consented(body.old, body.new, body.epoch, body.old_until);
        if body.epoch == 0 || body.old == body.new {
            return Err(TokenError::Malformed(Succession::WHAT));
        }
        UnparsedPublicKey::new(&ED25519, body.new.0)
            .verify(&text, &body.consent)
            .map_err(|_| TokenError::Signature)?;
        Ok(body)
    }
}

/// The proof that a relay belongs to a festival.
pub type ZoneToken = Signed<Membership>;
/// The list of those that no longer do.
pub type Revocations = Signed<Revoked>;
/// The change from one key of the organizer to the next.
pub type Rotation = Signed<Succession>;

/// A body and the organizer's signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    body: T,
    signature: [u8; SIGNATURE],
}

impl<T: Body> Signed<T> {
    /// Signs `body`, which names the festival of `key`. Refuses one that is too long to be read again.
    ///
    /// # Errors
    ///
    /// [`TokenError::OtherFestival`] if `key` is not that festival's, [`TokenError::Malformed`] if it would be too long.
    pub fn sign(body: T, key: &Ed25519KeyPair) -> Result<Signed<T>, TokenError> {
        if body.festival() != FestivalId::of(key) {
            return Err(TokenError::OtherFestival);
        }
        let signature = key.sign(&signed_text(&body)).as_ref().try_into();
        let signed = Signed { body, signature: signature.expect("an ed25519 signature has 64 bytes") };
        if signed.to_bytes().len() > T::MAX {
            return Err(TokenError::Malformed("short enough to be sent"));
        }
        Ok(signed)
    }

    /// The content, if the organizer of `festival` signed it.
    ///
    /// # Errors
    ///
    /// [`TokenError::OtherFestival`] if it names another one, [`TokenError::Signature`] if the signature is wrong.
    pub fn verify(&self, festival: &FestivalId) -> Result<&T, TokenError> {
        if self.body.festival() != *festival {
            return Err(TokenError::OtherFestival);
        }
        UnparsedPublicKey::new(&ED25519, festival.0)
            .verify(&signed_text(&self.body), &self.signature)
            .map_err(|_| TokenError::Signature)?;
        Ok(&self.body)
    }

    /// The content, whoever signed it: to be shown, not believed.
    pub fn unverified(&self) -> &T {
        &self.body
    }

    /// Version, body, signature.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = encode(&self.body);
        bytes.extend(self.signature);
        bytes
    }

    /// Reads exactly what [`Signed::to_bytes`] writes; no second encoding of the same body is taken.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`] if it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Signed<T>, TokenError> {
        let malformed = TokenError::Malformed(T::WHAT);
        if bytes.len() > T::MAX {
            return Err(malformed);
        }
        let (text, signature) = bytes.split_last_chunk().ok_or(malformed)?;
        let Some((&VERSION, body)) = text.split_first() else { return Err(malformed) };
        let signed =
            Signed { body: postcard::from_bytes(body).map_err(|_| malformed)?, signature: *signature };
        if encode(&signed.body) != text { Err(malformed) } else { Ok(signed) }
    }
}

fn encode<T: Body>(body: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(postcard::to_stdvec(body).expect("numbers, names and sets of them always serialize"));
    bytes
}

fn signed_text<T: Body>(body: &T) -> Vec<u8> {
    [T::CONTEXT, &encode(body)].concat()
}

impl<T: Body> fmt::Display for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", T::PREFIX, URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }
}

impl<T: Body> FromStr for Signed<T> {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let malformed = TokenError::Malformed(T::WHAT);
        let text = text.strip_prefix(T::PREFIX).filter(|text| text.len() <= 2 * T::MAX).ok_or(malformed)?;
        Signed::from_bytes(&URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(key: &Ed25519KeyPair) -> ZoneToken {
        let zone = ZoneName::new("camping").unwrap();
        let (festival, node) = (FestivalId::of(key), NodeId([7; 32]));
        let body = Membership {
            festival,
            serial: 9,
            node,
            zone,
            role: Role::Relay,
            issued_at: 1_000,
            not_after: 2_000,
        };
        Signed::sign(body, key).unwrap()
    }

    #[test]
    fn a_token_reads_back_and_only_its_festival_believes_it() {
        let (key, other) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
        let token = token(&key);
        let read: ZoneToken = token.to_string().parse().unwrap();
        assert_eq!(read, token);
        assert_eq!(read.verify(&FestivalId::of(&key)).unwrap().serial, 9);
        assert_eq!(read.verify(&FestivalId::of(&other)), Err(TokenError::OtherFestival));
        assert_eq!(Signed::sign(read.body, &other), Err(TokenError::OtherFestival));
    }

    #[test]
    fn a_token_of_before_there_were_rights_reads_as_it_did_and_has_none() {
        let key = Ed25519KeyPair::generate().unwrap();
        let plain = token(&key);
        // As it was written then: version, body and signature, the role as the first of its kind.
        let body = plain.unverified();
        let old = (body.festival, body.serial, body.node, &body.zone, 0u8, body.issued_at, body.not_after);
        let old = [&[VERSION][..], &postcard::to_stdvec(&old).unwrap()].concat();
        assert_eq!(plain.to_bytes()[..old.len()], old);
        let mut more = body.clone();
        more.role = Role::MayTakeOver;
        let more: ZoneToken = Signed::sign(more, &key).unwrap().to_string().parse().unwrap();
        assert_eq!(more.verify(&FestivalId::of(&key)).unwrap().role, Role::MayTakeOver);
    }

    #[test]
    fn a_list_is_no_token() {
        let key = Ed25519KeyPair::generate().unwrap();
        let festival = FestivalId::of(&key);
        let nodes = BTreeSet::from([NodeId([7; 32])]);
        let list =
            Signed::sign(Revoked { festival, epoch: 1, nodes, serials: BTreeSet::new() }, &key).unwrap();
        assert!(list.verify(&festival).unwrap().names(token(&key).unverified()));
        assert!(list.to_string().parse::<ZoneToken>().is_err());
    }

    #[test]
    fn both_keys_sign_a_rotation() {
        let (old, new) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
        let rotation = Rotation::rotate(&old, &new, 1, Some(7)).unwrap();
        let read: Rotation = rotation.to_string().parse().unwrap();
        let body = read.verify_both().unwrap();
        assert_eq!((body.old, body.new, body.epoch), (FestivalId::of(&old), FestivalId::of(&new), 1));
        // The old key alone cannot name a key whose holder does not know of it.
        let mut forged = read.body.clone();
        forged.new = FestivalId::of(&Ed25519KeyPair::generate().unwrap());
        assert_eq!(Signed::sign(forged, &old).unwrap().verify_both(), Err(TokenError::Signature));
        let mut later = read.body;
        later.old_until = None;
        assert_eq!(Signed::sign(later, &old).unwrap().verify_both(), Err(TokenError::Signature));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes: Vec<u8>, text: String) {
            let _ = ZoneToken::from_bytes(&bytes);
            let _ = Revocations::from_bytes(&bytes);
            if let Ok(rotation) = Rotation::from_bytes(&bytes) {
                let _ = rotation.verify_both();
            }
            let _ = format!("pnz1.{text}").parse::<ZoneToken>();
        }

        #[test]
        fn a_token_with_a_changed_bit_is_not_believed(at: prop::sample::Index, bit in 0..8_u8) {
            let key = Ed25519KeyPair::generate().unwrap();
            let mut bytes = token(&key).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(token) = ZoneToken::from_bytes(&bytes) {
                prop_assert!(token.verify(&FestivalId::of(&key)).is_err());
            }
        }
    }
}
