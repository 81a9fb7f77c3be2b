//! Bounds that errors name, and those of what a record carries.

/// Characters of an author.
pub const AUTHOR_MAX: usize = 64;
/// Characters of a text.
pub const TEXT_MAX: usize = 4000;
/// Characters of a nonce.
pub const NONCE_MAX: usize = 64;
/// The largest payload of a record, in bytes: no log takes a longer one.
pub const PAYLOAD_MAX: usize = 16 * 1024;
/// So much longer a payload may become when it is written again: the clock of the first record is in it then.
pub(crate) const RENEWED: usize = 10;
/// Participants of a room at one relay.
pub const PARTICIPANTS_MAX: usize = 10_000;
/// Rooms in which somebody is and nothing was said: such a room takes next to nothing, and goes with whoever is in it.
pub const VISITED_MAX: usize = 16_384;
