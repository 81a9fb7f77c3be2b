//! Which run of a relay said something, and for how long it has been in the mesh: a field behind the LSA of its links.

use std::time::Duration;

use protocol::fields;

/// Its number among the fields of an LSA of links.
pub(crate) const FIELD: u32 = 1;

/// One run of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation {
    /// Drawn at random at its start.
    pub number: u64,
    /// For how long it had been in the mesh when it said so, in steps of 100 ms.
    pub joined: Duration,
}

/// Adds the field: the number, then the time (32 bits), both big-endian.
pub(crate) fn write(out: &mut Vec<u8>, incarnation: Incarnation) {
    let joined = u32::try_from(incarnation.joined.as_millis() / 100).unwrap_or(u32::MAX);
    let value = [&incarnation.number.to_be_bytes()[..], &joined.to_be_bytes()].concat();
    fields::write(out, FIELD, &value);
}

/// Reads it. A later version may say more behind it.
pub(crate) fn read(value: &[u8]) -> Option<Incarnation> {
    let (number, rest) = value.split_first_chunk()?;
    let (joined, _) = rest.split_first_chunk()?;
    let joined = Duration::from_millis(100) * u32::from_be_bytes(*joined);
    Some(Incarnation { number: u64::from_be_bytes(*number), joined })
}
