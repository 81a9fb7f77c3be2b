//! Link-state: what all relays say of themselves (`lsdb`), how it gets around (`flood`, `announce`, `pace`), and which
//! publication of a name is listed (`claim`). Knows no routes: whoever floods is told where a neighbor's way begins.

pub(crate) mod announce;
pub(crate) mod claim;
pub mod flood;
pub mod lsdb;
pub mod pace;
