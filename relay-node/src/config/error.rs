//! Why the process ends before it served anything, said in the words of the command line.

use std::path::PathBuf;

use thiserror::Error;

use super::layers::known_keys;

/// Why the process ends before it served anything.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A value that is not allowed.
    #[error("{key} = {value:?} ({source_name}): {allowed}")]
    Value {
        /// The key, as in the file.
        key: &'static str,
        /// What was given.
        value: String,
        /// Where it was given.
        source_name: String,
        /// What is allowed.
        allowed: String,
    },
    /// A key nobody knows.
    #[error("{key} ({source_name}) is not a key of this relay: the keys are {}", known_keys())]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was given.
        source_name: String,
    },
    /// The configuration file cannot be read or is not TOML.
    #[error("config = {path:?}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The command line: text for the terminal, help and version included.
    #[error("{}", .0.render())]
    Usage(clap::Error),
}

impl ConfigError {
    /// Prints it where it belongs: help on standard output, errors on standard error.
    pub fn print(&self) {
        match self {
            // Nobody is left to be told if the terminal is gone.
            ConfigError::Usage(error) => drop(error.print()),
            error => eprintln!("relay-node: {error}"),
        }
    }

    /// The exit code: 0 for help and version, else 64.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Usage(error) if !error.use_stderr() => 0,
            _ => 64,
        }
    }
}
