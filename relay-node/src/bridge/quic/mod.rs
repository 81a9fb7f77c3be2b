//! QUIC as the bridges want it: the relay's key and who may be at the other end, quinn's settings and its congestion
//! controller, and what a connection is found to carry. What crosses it is `link/`'s and `forwarding/`'s.

pub(crate) mod capacity;
pub(crate) mod congestion;
pub(crate) mod endpoint;
pub(crate) mod measure;
pub(crate) mod node_key;
pub(crate) mod probe;
pub(crate) mod send_budget;
mod shortest;
pub(crate) mod socket;
pub(crate) mod tls;
pub(crate) mod transport;
