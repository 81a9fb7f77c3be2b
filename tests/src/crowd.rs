//! Listeners on wires of some width: `signaling-client load`, as a process.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use crate::{
    child::{Child, program},
    relay::Relay,
};

/// Listeners of a stream, each behind a wire of its own.
#[derive(Debug)]
pub struct Crowd {
    child: Child,
    seconds: u64,
}

/// What they counted.
#[derive(Debug, Clone, Deserialize)]
pub struct Counted {
    /// Those that got media.
    pub joined: u32,
    /// Of each, sound and picture.
    pub kbit_per_second: f64,
    /// Media packets of all.
    pub packets: u64,
    /// Packets that did not come.
    pub lost: u64,
    /// Those of them that their wires did not let through.
    pub narrowed: u64,
    /// Messages of transport-wide feedback.
    pub feedbacks: u64,
}

impl Crowd {
    /// So many listeners of sound and picture, each behind a wire of `downlink` (`800kbit`), for some seconds.
    pub fn behind(relay: &Relay, stream: &str, count: u32, downlink: &str, seconds: u64) -> Result<Crowd> {
        let url = relay.api().url(&format!("/whep/{stream}"));
        let (count, length) = (count.to_string(), seconds.to_string());
        let arguments = [
            &["load", "listen", &url, "--video", "--json", "--count", &count][..],
            &["--seconds", &length, "--downlink", downlink],
        ]
        .concat();
        let name = format!("listeners of {stream} behind {downlink} at {}", relay.zone());
        let variables = [("RUST_LOG", "signaling_client=debug")];
        Ok(Crowd {
            child: Child::start(&name, &program("signaling-client")?, arguments, &variables)?,
            seconds,
        })
    }

    /// The path of the session of the first of them, once it is open.
    pub fn session(&self) -> Option<String> {
        let log = self.child.log();
        let (_, url) = log.split_once("session at http://")?;
        let path = url.split(|c: char| c.is_whitespace() || c == '\u{1b}').next()?;
        path.find('/').map(|at| path[at..].to_owned())
    }

    /// Waits for the end and reads what they counted.
    pub async fn counted(self) -> Result<Counted> {
        self.child.report(Duration::from_secs(self.seconds + 60)).await
    }
}
