//! Bridges over real sockets of this machine, or over wires in memory where rates and delays count: what
//! one link or two do that are slow, hostile or of strangers.

mod bad_neighbor;
mod changing_path;
mod membership;
mod memory_net;
mod slow_path;
mod two_feeds;
mod versions;
