//! An LSA: what one relay says to the whole mesh, signed, passed on byte for byte by all others.
//! What stands in the kinds of LSAs is in `lsa.rs` and `area.rs`; how they travel, in `linkstate/flood.rs`.

use bytes::Bytes;
use protocol::{NodeId, fields::Fields};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    error::MeshError,
    wire::{
        area::{Fragment, InterAreaLsa},
        hearing,
        incarnation::{self, Incarnation},
        label,
        lsa::{LinkState, Publication},
        rates::{self, StreamRates},
        rungs,
        signature::{Keys, LINK_STATE, Signature},
    },
};

/// No LSA is longer, in bytes.
pub const RECORD_MAX: usize = 64 * 1024;

/// Which LSA it is: a newer one takes the place of the older one of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// The neighbors of a relay.
    Links(NodeId),
    /// The streams published at a relay.
    Streams(NodeId),
    /// How a border relay reaches a fragment of another area.
    InterArea(NodeId, Fragment),
}

impl Key {
    /// Whether it stays in the area of its origin.
    pub fn local(&self) -> bool {
        !matches!(self, Key::Streams(_))
    }

    /// Whose it is.
    pub fn origin(&self) -> NodeId {
        match self {
            Key::Links(origin) | Key::Streams(origin) | Key::InterArea(origin, _) => *origin,
        }
    }
}

/// What a relay says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lsa {
    /// Who its neighbors are.
    Links(LinkState),
    /// What is published there.
    Streams(Publication),
    /// How it reaches a fragment of another area.
    InterArea(InterAreaLsa),
}

impl Lsa {
    /// Which one it is.
    pub fn key(&self) -> Key {
        match self {
            Lsa::Links(said) => Key::Links(said.origin),
            Lsa::Streams(said) => Key::Streams(said.origin),
            Lsa::InterArea(said) => Key::InterArea(said.origin, said.fragment),
        }
    }

    /// Orders the LSAs of one key.
    pub fn sequence(&self) -> u64 {
        match self {
            Lsa::Links(said) => said.sequence,
            Lsa::Streams(said) => said.sequence,
            Lsa::InterArea(said) => said.sequence,
        }
    }

    /// Refuses what no relay says.
    pub(crate) fn check(&self) -> Result<(), MeshError> {
        match self {
            Lsa::Links(said) => said.check(),
            Lsa::Streams(said) => said.check(),
            Lsa::InterArea(said) => said.check(),
        }
    }

    /// About the bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Lsa::Links(said) => said.weight(),
            Lsa::Streams(said) => said.weight(),
            Lsa::InterArea(said) => said.weight(),
        }
    }
}

/// An LSA and the bytes its origin signed. On the wire only the bytes and the signature: what is passed on
/// is what was signed, also where a later version of this protocol would write it otherwise. Behind the LSA there may
/// be [fields](Fields): those that are not known here are signed, held and passed on with the others.
#[derive(Debug, Clone)]
pub struct SignedLsa {
    lsa: Lsa,
    body: Bytes,
    /// Where in the body they begin.
    fields: usize,
    signature: Signature,
}

impl SignedLsa {
    /// Says it.
    pub fn new(lsa: Lsa, keys: &dyn Keys) -> SignedLsa {
        SignedLsa::with_fields(lsa, &[], keys)
    }

    /// Says it with these fields behind its own, as [`protocol::fields::write`] writes them.
    pub fn with_fields(lsa: Lsa, fields: &[u8], keys: &dyn Keys) -> SignedLsa {
        let mut body = postcard::to_stdvec(&lsa).expect("an LSA has no part that cannot be serialized");
        let behind = body.len();
        if let Lsa::Streams(said) = &lsa {
            let rates = || said.streams.iter().map(|advertised| &advertised.rates);
            rates::write(&mut body, rates());
            label::write(&mut body, rates());
            rungs::write(&mut body, rates());
        }
        if let Lsa::Links(LinkState { hearing: Some(hearing), .. }) = &lsa {
            hearing::write(&mut body, hearing);
        }
        body.extend_from_slice(fields);
        let signature = Signature::sign(keys, LINK_STATE, &body);
        SignedLsa { lsa, fields: behind, body: body.into(), signature }
    }

    /// With any signature.
    #[cfg(any(test, feature = "sim"))]
    pub fn forged(lsa: Lsa, signature: Signature) -> SignedLsa {
        let body = postcard::to_stdvec(&lsa).expect("an LSA has no part that cannot be serialized");
        SignedLsa { lsa, fields: body.len(), body: body.into(), signature }
    }

    /// What is said.
    pub fn lsa(&self) -> &Lsa {
        &self.lsa
    }

    /// What stands behind it.
    pub fn fields(&self) -> Fields<'_> {
        self.body.get(self.fields..).and_then(Fields::read).unwrap_or_default()
    }

    /// Fields that are not known here.
    pub fn unknown_fields(&self) -> usize {
        let known: &[u32] = match self.lsa {
            Lsa::Streams(_) => &[rates::FIELD, label::FIELD, rungs::FIELD],
            Lsa::Links(_) => &[hearing::FIELD, incarnation::FIELD],
            Lsa::InterArea(_) => &[],
        };
        self.fields().besides(known)
    }

    /// Which run of its origin said it, if it is of links and says so.
    pub fn incarnation(&self) -> Option<Incarnation> {
        let said = matches!(self.lsa, Lsa::Links(_)).then(|| self.fields().get(incarnation::FIELD))?;
        incarnation::read(said?)
    }

    /// Whether its origin said so.
    pub fn verify(&self, keys: &dyn Keys) -> bool {
        self.signature.verify(keys, &self.lsa.key().origin(), LINK_STATE, &self.body)
    }

    /// About the bytes it takes in memory.
    pub(crate) fn weight(&self) -> usize {
        self.lsa.weight() + self.body.len()
    }
}

impl PartialEq for SignedLsa {
    fn eq(&self, other: &SignedLsa) -> bool {
        self.body == other.body && self.signature == other.signature
    }
}

impl Eq for SignedLsa {}

impl Serialize for SignedLsa {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.body, &self.signature).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SignedLsa {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SignedLsa, D::Error> {
        let (body, signature) = <(Bytes, Signature)>::deserialize(deserializer)?;
        if body.len() > RECORD_MAX {
            return Err(de::Error::custom("an LSA this long"));
        }
        let not_one = || de::Error::custom("not an LSA");
        let (mut lsa, behind) = postcard::take_from_bytes(&body).map_err(|_| not_one())?;
        let said = Fields::read(behind).ok_or_else(not_one)?;
        match &mut lsa {
            Lsa::Streams(publication) => take_rates(publication, said),
            Lsa::Links(links) => {
                links.hearing = said.get(hearing::FIELD).and_then(hearing::read).map(Box::new)
            }
            Lsa::InterArea(_) => {}
        }
        let fields = body.len() - behind.len();
        Ok(SignedLsa { lsa, fields, body, signature })
    }
}

/// A field that makes no sense says nothing: relays that know of none pass it on, and are not to blame for it.
fn take_rates(publication: &mut Publication, said: Fields<'_>) {
    let read = said.get(rates::FIELD).and_then(|value| rates::read(value, publication.streams.len()));
    let known = read.unwrap_or_default().into_iter().chain(std::iter::repeat(StreamRates::default()));
    for (advertised, rates) in publication.streams.iter_mut().zip(known) {
        advertised.rates = rates;
    }
    if let Some(labels) = said.get(label::FIELD) {
        label::read(labels, publication.streams.iter_mut().map(|advertised| &mut advertised.rates));
    }
    if let Some(value) = said.get(rungs::FIELD) {
        rungs::read(value, publication.streams.iter_mut().map(|advertised| &mut advertised.rates));
    }
}

#[cfg(test)]
mod tests {
    use protocol::ZoneName;

    use super::*;
    use crate::{sim::node, wire::signature::SimulatedKeys};

    fn said(origin: usize) -> Lsa {
        let zone = ZoneName::new("stage").unwrap();
        Lsa::Streams(Publication { origin: node(origin), zone, sequence: 3, streams: Vec::new() })
    }

    #[test]
    fn an_lsa_is_passed_on_as_it_was_signed() {
        let keys = SimulatedKeys(node(1));
        let signed = SignedLsa::new(said(1), &keys);
        let bytes = postcard::to_stdvec(&signed).unwrap();
        let read: SignedLsa = postcard::from_bytes(&bytes).unwrap();
        assert_eq!((&read, read.lsa()), (&signed, signed.lsa()));
        assert!(read.verify(&SimulatedKeys(node(2))));
        assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes);
    }

    #[test]
    fn what_another_signed_is_not_ones_own() {
        let forged = SignedLsa::new(said(1), &SimulatedKeys(node(2)));
        assert!(!forged.verify(&SimulatedKeys(node(3))));
    }

    #[test]
    fn fields_of_a_later_version_are_signed_kept_and_passed_on() {
        let mut fields = Vec::new();
        protocol::fields::write(&mut fields, 40, b"what is it?");
        let signed = SignedLsa::with_fields(said(1), &fields, &SimulatedKeys(node(1)));
        let bytes = postcard::to_stdvec(&signed).unwrap();
        let read: SignedLsa = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read.lsa(), &said(1));
        assert_eq!(read.fields().get(40), Some(&b"what is it?"[..]));
        assert!(read.verify(&SimulatedKeys(node(2))));
        assert_eq!(postcard::to_stdvec(&read).unwrap(), bytes, "octet for octet");
        let without = SignedLsa::new(said(1), &SimulatedKeys(node(1)));
        assert_eq!(without.fields(), Fields::default());
        let stripped = SignedLsa { signature: signed.signature, ..without };
        assert!(!stripped.verify(&SimulatedKeys(node(2))), "nobody can take a field away");
        let mut other = signed.body.to_vec();
        *other.last_mut().unwrap() ^= 1;
        assert!(!SignedLsa { body: other.into(), ..signed }.verify(&SimulatedKeys(node(2))));
    }

    #[test]
    fn bytes_behind_an_lsa_that_are_no_fields_are_refused() {
        let signed = SignedLsa::new(said(1), &SimulatedKeys(node(1)));
        let body: Bytes = [&signed.body[..], &[0]].concat().into();
        let bytes = postcard::to_stdvec(&SignedLsa { body, ..signed }).unwrap();
        assert!(postcard::from_bytes::<SignedLsa>(&bytes).is_err());
    }
}
