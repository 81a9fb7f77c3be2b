//! What is on disk: records of logs, files that people gave, and how a small file is written whole or not at all.
//! What any of it means, others know.

pub mod atomic_file;
pub mod backup;
pub mod condition;
mod database;
pub mod door;
pub mod files;
pub mod migrate;
#[doc(hidden)]
pub mod pages;
pub mod records;
#[doc(hidden)]
pub mod rows;
mod salvage;
pub mod store_error;
