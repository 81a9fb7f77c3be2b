//! Sound from a mixing desk, a file or an encoder, opened by GStreamer (docs/feeds.md). [`input`], [`mix`], [`queue`],
//! [`supervision`] and [`meter`] are without it, without I/O, and always there. What calls GStreamer is there with the
//! cargo feature `gstreamer`; without it [`open`] says what is missing.

#[cfg(not(feature = "gstreamer"))]
mod absent;
pub mod arguments;
#[cfg(feature = "gstreamer")]
mod devices;
pub mod input;
pub mod meter;
pub mod mix;
pub mod monitor;
#[cfg(feature = "gstreamer")]
mod pipeline;
#[cfg(feature = "gstreamer")]
mod player;
pub mod queue;
pub mod supervision;

#[cfg(not(feature = "gstreamer"))]
pub use absent::{Feed, devices, open};
#[cfg(feature = "gstreamer")]
pub use devices::devices;
#[cfg(feature = "gstreamer")]
pub use player::{Feed, open};
