//! Every shape that crosses a link, with total parsers, and nothing else. What a shape means belongs to the folder that
//! takes it.

pub mod area;
pub mod envelope;
pub mod file;
pub mod hearing;
pub mod incarnation;
pub mod label;
pub mod log_entry;
pub mod lsa;
pub mod manifest;
pub mod message;
pub mod metric;
pub mod rates;
pub(crate) mod rungs;
pub mod signature;
pub mod signed_lsa;
