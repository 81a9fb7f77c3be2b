//! What the benchmarks share: a stage with a real media worker, a crowd of real listeners, and the means
//! to measure. The figures themselves are printed by `benches/*.rs`.

pub mod crowd;
pub mod limit;
pub mod measure;
pub mod stage;

/// The ICE credentials of both ends of a session: the relay's and the listener's, ufrag and password.
///
/// Known to both sides by the listener's number, so that no offer has to travel.
pub fn credentials(number: usize) -> [(String, String); 2] {
    [
        (format!("relay{number:05}"), format!("password-of-the-relay-{number:05}")),
        (format!("phone{number:05}"), format!("password-of-the-phone-{number:05}")),
    ]
}
