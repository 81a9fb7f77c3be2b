//! A publisher and a listener that are not browsers: the signaling-client, as processes.
//! What they send and measure is theirs; this starts them and reads their report.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::{
    child::{Child, program},
    relay::Relay,
};

/// Somebody publishing a stream.
#[derive(Debug)]
pub struct Publisher {
    child: Child,
}

impl Publisher {
    /// A tone of that many hertz, until stopped.
    pub fn tone(relay: &Relay, stream: &str, hertz: u32) -> Result<Publisher> {
        Publisher::start(relay, stream, &["--tone", &hertz.to_string()])
    }

    /// A tone and a picture that shows nothing, with a keyframe each 10 s and whenever one is asked for.
    pub fn picture(relay: &Relay, stream: &str) -> Result<Publisher> {
        Publisher::start(relay, stream, &["--tone", "440", "--video"])
    }

    /// A tone and a picture in encodings, each from a file.
    pub fn encodings(relay: &Relay, stream: &str, files: &[PathBuf]) -> Result<Publisher> {
        let files: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
        Publisher::start(relay, stream, &["--tone", "440", "--encodings", &files.join(",")])
    }

    fn start(relay: &Relay, stream: &str, what: &[&str]) -> Result<Publisher> {
        let url = relay.api().url(&format!("/whip/{stream}"));
        let arguments = [&["publish", &url], what].concat();
        let name = format!("publisher of {stream} at {}", relay.zone());
        Ok(Publisher { child: Child::start(&name, &program("signaling-client")?, arguments, &[])? })
    }

    /// Goes away without a word, as a laptop that is closed.
    pub fn vanish(mut self) -> Result<()> {
        self.child.kill()
    }

    /// Says goodbye (DELETE) and ends.
    pub async fn stop(mut self) -> Result<()> {
        self.child.terminate()?;
        self.child.wait(Duration::from_secs(10)).await?;
        Ok(())
    }
}

/// Somebody listening to a stream for some seconds.
#[derive(Debug)]
pub struct Listener {
    child: Child,
    seconds: u64,
}

/// What a listener measured.
#[derive(Debug, Clone, Deserialize)]
pub struct Report {
    /// RTP packets of the audio track.
    pub packets: u64,
    /// Sequence numbers that never came.
    pub lost: u64,
    /// Sequence numbers that came twice.
    pub duplicates: u64,
    /// RFC 3550 jitter.
    pub jitter_ms: f64,
    /// RMS level; absent if nothing was decoded.
    pub level_dbfs: Option<f64>,
    /// The strongest frequency.
    pub peak_hz: Option<f64>,
    /// Times of more than 60 ms without a packet.
    pub gaps_ms: Vec<f64>,
    /// From the POST to the first packet.
    pub first_packet_ms: Option<f64>,
}

impl Listener {
    /// Starts listening at `relay`, for `seconds` from the first packet on; waits while nobody publishes.
    pub fn start(relay: &Relay, stream: &str, seconds: u64) -> Result<Listener> {
        let url = relay.api().url(&format!("/whep/{stream}"));
        let arguments = ["listen", &url, "--seconds", &seconds.to_string(), "--wait"];
        let name = format!("listener of {stream} at {}", relay.zone());
        Ok(Listener { child: Child::start(&name, &program("signaling-client")?, arguments, &[])?, seconds })
    }

    /// Waits for its end and reads its report.
    pub async fn report(self) -> Result<Report> {
        self.child.report(Duration::from_secs(self.seconds + 30)).await
    }
}

impl Report {
    /// Fails unless it heard a tone of that many hertz, loud enough and without one packet twice.
    pub fn heard(&self, hertz: u32) -> Result<()> {
        let (Some(level), Some(peak)) = (self.level_dbfs, self.peak_hz) else {
            bail!("heard nothing: {self:?}")
        };
        if (peak - f64::from(hertz)).abs() > 3.0 || level < -40.0 {
            bail!("heard {peak} Hz at {level} dBFS instead of {hertz} Hz: {self:?}");
        }
        if self.duplicates > 0 {
            bail!("{} packets came twice: {self:?}", self.duplicates);
        }
        Ok(())
    }

    /// Fails unless this tone was heard without a loss and without an interruption. A moment without packets
    /// is none: the machine of the test may be busy, and a link that was lost is mended in no less than this.
    pub fn undisturbed(&self, hertz: u32) -> Result<()> {
        self.heard(hertz)?;
        if self.lost > 0 || self.longest_gap() > Duration::from_millis(600) {
            bail!("the listener noticed: {self:?}");
        }
        Ok(())
    }

    /// The longest time without a packet.
    pub fn longest_gap(&self) -> Duration {
        Duration::from_secs_f64(self.gaps_ms.iter().copied().fold(0.0, f64::max) / 1000.0)
    }
}
