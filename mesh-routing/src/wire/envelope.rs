//! What stands around a message: an octet that says what becomes of it where it is not known, and its kind. What the known
//! kinds say is in `message.rs`; how what is passed on gets around, in `opaque.rs`.

use bytes::Bytes;
use protocol::{NodeId, fields::Fields};
use serde::{Deserialize, Serialize};

use crate::{
    error::MeshError,
    wire::{
        message::{MESSAGE_MAX, Message},
        signature::{Keys, Signature},
    },
};

/// The context of messages that are passed on.
const OPAQUE: &[u8] = b"peddlenet opaque message 4";
/// Octets before what is signed of a message that is passed on: scope and hops.
const HEAD: usize = 2;
/// What a message that is passed on says is no longer, in bytes.
pub const OPAQUE_MAX: usize = 1024;

/// How far a message goes, whether or not the relays on the way know it (the scopes of RFC 5250, section 3).
///
/// On the wire it is the lower two bits of the first octet; the others are 0 and not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To the neighbor and no further: who does not know it passes over it.
    Link,
    /// To every relay of the area: who does not know it passes it on.
    Area,
    /// To every relay.
    Mesh,
}

impl Scope {
    const BITS: u8 = 3;

    /// Of the first octet of a message. The fourth value has no meaning yet; such a message stays where it is.
    fn of(octet: u8) -> Scope {
        match octet & Scope::BITS {
            1 => Scope::Area,
            2 => Scope::Mesh,
            _ => Scope::Link,
        }
    }

    /// As the first octet of a message.
    pub(crate) const fn octet(self) -> u8 {
        self as u8
    }
}

/// What came: something that is known here, or as much as can be read of what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message of this version or one before it.
    Known {
        /// The message.
        message: Message,
        /// Fields behind it that are not known here.
        unknown_fields: usize,
    },
    /// Of a kind that is not known here, and for nobody else.
    PassedOver {
        /// Its kind.
        kind: u32,
    },
    /// For every relay, whoever knows it.
    PassedOn(Opaque),
}

impl Received {
    /// Reads a message. Total: whatever the bytes are, an error at worst.
    ///
    /// # Errors
    ///
    /// Which kind of bytes they are instead: too long, malformed, or absurd.
    pub fn decode(bytes: &[u8]) -> Result<Received, MeshError> {
        if bytes.len() > MESSAGE_MAX {
            return Err(MeshError::TooLong { length: bytes.len() });
        }
        let (&octet, rest) = bytes.split_first().ok_or(MeshError::Malformed)?;
        if Scope::of(octet) != Scope::Link {
            return Opaque::read(bytes).map(Received::PassedOn);
        }
        if let Some(kind) = unknown_kind(rest)? {
            return Ok(Received::PassedOver { kind });
        }
        let (mut message, behind): (Message, &[u8]) =
            postcard::take_from_bytes(rest).map_err(|_| MeshError::Malformed)?;
        message.check()?;
        let fields = Fields::read(behind).ok_or(MeshError::Malformed)?;
        let unknown_fields = message.take_fields(fields);
        Ok(Received::Known { message, unknown_fields })
    }
}

/// The kind of a message that is not known here. Messages about files have kinds of their own, behind that of them all.
fn unknown_kind(bytes: &[u8]) -> Result<Option<u32>, MeshError> {
    let (kind, rest): (u32, &[u8]) = postcard::take_from_bytes(bytes).map_err(|_| MeshError::Malformed)?;
    if kind != Message::FILE {
        return Ok((kind >= Message::KINDS).then_some(kind));
    }
    let (about, _): (u32, &[u8]) = postcard::take_from_bytes(rest).map_err(|_| MeshError::Malformed)?;
    Ok((about >= Message::FILE_KINDS).then_some(kind))
}

/// A message that goes from relay to relay, signed by the one that said it. Its octets are passed on as they came.
///
/// On the wire: scope, hops, kind, origin, number, what it says, signature. Scope and all from the kind on are signed, the
/// hops are not: they grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opaque {
    /// Links it has passed.
    pub hops: u8,
    /// How far it goes.
    pub scope: Scope,
    /// What is said.
    pub said: Said,
    signature: Signature,
    /// All of it, as it came.
    bytes: Bytes,
}

/// What is said in an [`Opaque`] message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Which kind of message it is.
    pub kind: u32,
    /// Who says it.
    pub origin: NodeId,
    /// Tells one message of the origin from another: boot counter in the high 32 bits, messages since in the low 32.
    pub number: u64,
    /// At most [`OPAQUE_MAX`] bytes.
    pub payload: Bytes,
}

impl Opaque {
    /// Says it.
    pub fn sign(scope: Scope, said: Said, keys: &dyn Keys) -> Opaque {
        let mut bytes = postcard::to_extend(&said, vec![scope.octet(), 0])
            .expect("a message has no part that cannot be serialized");
        let signature = Signature::sign(keys, OPAQUE, &signed(scope, &bytes[HEAD..]));
        bytes.extend(signature.0);
        Opaque { hops: 0, scope, said, signature, bytes: bytes.into() }
    }

    fn read(bytes: &[u8]) -> Result<Opaque, MeshError> {
        let [octet, hops, rest @ ..] = bytes else { return Err(MeshError::Malformed) };
        let read = postcard::take_from_bytes::<(Said, Signature)>(rest);
        let Ok(((said, signature), [])) = read else { return Err(MeshError::Malformed) };
        if said.payload.len() > OPAQUE_MAX {
            return Err(MeshError::Absurd { what: "a message for everybody this long" });
        }
        let bytes = Bytes::copy_from_slice(bytes);
        Ok(Opaque { hops: *hops, scope: Scope::of(*octet), said, signature, bytes })
    }

    /// Whether its origin said so.
    pub fn verify(&self, keys: &dyn Keys) -> bool {
        let end = self.bytes.len() - self.signature.0.len();
        self.signature.verify(keys, &self.said.origin, OPAQUE, &signed(self.scope, &self.bytes[HEAD..end]))
    }

    /// One hop further.
    pub(crate) fn passed(self) -> Opaque {
        Opaque { hops: self.hops.saturating_add(1), ..self }
    }

    /// As bytes: the same octets but for the hops.
    pub fn encode(&self) -> Bytes {
        let mut bytes = self.bytes.to_vec();
        bytes[1] = self.hops;
        bytes.into()
    }
}

/// The octets under the signature, as they stand in the message.
fn signed(scope: Scope, said: &[u8]) -> Vec<u8> {
    [&[scope.octet()], said].concat()
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
