//! Media from link to link: in as datagrams, through the table, out in the order of classes, each packet once.
//! The node loop writes the table; which links there are is `link/`'s.

pub(crate) mod dedup;
pub(crate) mod fragments;
pub(crate) mod inbound;
pub(crate) mod packet;
pub(crate) mod parity;
pub(crate) mod probing;
pub(crate) mod queue;
pub(crate) mod repair;
pub(crate) mod scheduler;
pub(crate) mod sent;
pub(crate) mod shedding;
pub(crate) mod switch;
pub(crate) mod table;
pub(crate) mod withheld;
