//! The test harness: real relays in real processes, wires between them that can be cut, and real peers.
//!
//! A test makes a [`Festival`] or a [`Relay`], talks to it through [`Api`], lets [`Publisher`] and
//! [`Listener`] send and hear, and waits with [`until`] instead of sleeping. Everything a test starts ends
//! with it; on a failure the logs of what it started are printed.
#![expect(clippy::missing_errors_doc, reason = "whatever fails here, a test fails by it")]

mod api;
mod child;
mod clock;
mod crowd;
mod festival;
pub mod film;
mod metrics;
pub mod netlab;
mod page;
mod peer;
mod relay;
mod sdp;
mod wire;

pub use api::{Answer, Api};
pub use child::{Child, program};
pub use clock::{now, pause, until};
pub use crowd::{Counted, Crowd};
pub use festival::Festival;
pub use metrics::Metrics;
pub use page::Page;
pub use peer::{Listener, Publisher, Report};
pub use relay::{Relay, Setup};
pub use sdp::{OFFER_AUDIO, Offer};
pub use wire::Wire;
