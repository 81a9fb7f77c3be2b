//! The driver of the media workers: a thread each, with a socket on the one media port.

pub mod channels;
mod metrics;
pub mod packet_rate;
pub mod thread;
pub mod udp;
