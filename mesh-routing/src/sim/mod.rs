//! A seeded simulation of whole meshes in virtual time.

use std::time::Instant;

/// Where virtual time begins: the one reading of the clock, and nothing depends on its value.
#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made in any other way")]
pub fn epoch() -> Instant {
    Instant::now()
}
