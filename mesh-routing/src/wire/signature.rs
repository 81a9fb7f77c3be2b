//! Who said it: signatures under what a relay says of itself, made and checked by [`Keys`] that the driver
//! brings. Which bytes are signed belongs to the file of what is signed; what a bad one costs, to who took it.

use std::fmt;

use protocol::NodeId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeTuple};

/// The context of LSAs.
pub const LINK_STATE: &[u8] = b"peddlenet link-state 2";
/// The context of log records.
pub const LOG: &[u8] = b"peddlenet log 2";

/// Signs for one relay and checks what others signed. A relay's id is its public key, so nothing else is
/// needed to check.
pub trait Keys: fmt::Debug + Send + Sync {
    /// The relay these keys sign for.
    fn node_id(&self) -> NodeId;
    /// Signs as this relay.
    fn sign(&self, message: &[u8]) -> [u8; 64];
    /// Whether `signer` signed this message.
    fn verify(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool;
}

/// An ed25519 signature (RFC 8032), 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Of the context, a zero byte and the body: what was signed for one purpose is nothing for another.
    pub fn sign(keys: &dyn Keys, context: &[u8], body: &[u8]) -> Signature {
        Signature(keys.sign(&message(context, body)))
    }

    /// Whether `signer` signed this body in this context.
    pub fn verify(&self, keys: &dyn Keys, signer: &NodeId, context: &[u8], body: &[u8]) -> bool {
        keys.verify(signer, &message(context, body), &self.0)
    }
}

fn message(context: &[u8], body: &[u8]) -> Vec<u8> {
    [context, &[0], body].concat()
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Signature({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(64)?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signature, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Signature;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 bytes")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Signature, A::Error> {
                let mut bytes = [0; 64];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &self))?;
                }
                Ok(Signature(bytes))
            }
        }
        deserializer.deserialize_tuple(64, Bytes)
    }
}

/// The first eight bytes of a hash, to compare large states by.
pub(crate) fn first_word(hasher: &blake3::Hasher) -> u64 {
    let hash = hasher.finalize();
    let (word, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(*word)
}

/// Keys of the simulation: a keyed hash that is cheap enough for thousands of relays in one process. A relay
/// cannot sign for another with them, but whoever reads this code can.
#[cfg(any(test, feature = "sim"))]
#[derive(Debug, Clone, Copy)]
pub struct SimulatedKeys(pub NodeId);

#[cfg(any(test, feature = "sim"))]
impl SimulatedKeys {
    fn tag(signer: &NodeId, message: &[u8]) -> [u8; 64] {
        let secret = signer.0.map(|byte| byte ^ 0xa5);
        let hash = *blake3::keyed_hash(&secret, message).as_bytes();
        std::array::from_fn(|at| hash[at % 32])
    }
}

#[cfg(any(test, feature = "sim"))]
impl Keys for SimulatedKeys {
    fn node_id(&self) -> NodeId {
        self.0
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        SimulatedKeys::tag(&self.0, message)
    }

    fn verify(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
        SimulatedKeys::tag(signer, message) == *signature
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::node;

    #[test]
    fn a_signature_holds_for_its_signer_its_context_and_its_body() {
        let keys = SimulatedKeys(node(1));
        let signature = Signature::sign(&keys, LOG, b"hello");
        assert!(signature.verify(&keys, &node(1), LOG, b"hello"));
        assert!(!signature.verify(&keys, &node(2), LOG, b"hello"));
        assert!(!signature.verify(&keys, &node(1), LINK_STATE, b"hello"));
        assert!(!signature.verify(&keys, &node(1), LOG, b"hullo"));
    }

    #[test]
    fn it_is_64_bytes_on_the_wire() {
        let signature = Signature(std::array::from_fn(|at| at as u8));
        let bytes = postcard::to_stdvec(&signature).unwrap();
        assert_eq!(bytes.len(), 64);
        assert_eq!(postcard::from_bytes::<Signature>(&bytes).unwrap(), signature);
        assert!(postcard::from_bytes::<Signature>(&bytes[1..]).is_err());
    }
}
