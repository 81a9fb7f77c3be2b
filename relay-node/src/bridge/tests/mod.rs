//! Bridges over real sockets of this machine: what one link or two do that are slow, hostile or of strangers.

mod bad_neighbor;
mod membership;
mod slow_path;
mod two_feeds;
mod versions;
