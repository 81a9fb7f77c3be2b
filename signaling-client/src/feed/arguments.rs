//! The options of `publish` that name a feed source. Says what is wrong with them before anything is opened.

use std::path::PathBuf;

use clap::Args;

use super::input::{Device, Input};
use super::mix::{Gain, Mix, Picked};
use crate::error::Error;

/// A source that GStreamer opens (docs/feeds.md).
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Sources that GStreamer opens")]
pub struct Arguments {
    /// A tone of 440 Hz on the left and one of 660 Hz on the right
    #[arg(long)]
    pub test: bool,
    /// The sound of a file, of whatever kind
    #[arg(long, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// With --file: over and over
    #[arg(long = "loop")]
    pub again: bool,
    /// A sound card or a desk on USB: alsa:hw:1, pulse:NAME, jack:NAME
    #[arg(long, value_name = "SYSTEM:NAME")]
    pub device: Option<Device>,
    /// A pipeline of your own, as for gst-launch-1.0, that ends in raw audio or has an element with name=audio
    #[arg(long, value_name = "TEXT")]
    pub pipeline: Option<String>,
    /// A camera or an encoder: rtsp://…
    #[arg(long, value_name = "URL")]
    pub rtsp: Option<String>,
    /// An encoder: srt://HOST:PORT calls it, srt://:PORT?mode=listener waits for it to call
    #[arg(long, value_name = "URL")]
    pub srt: Option<String>,
    /// A playlist: https://…/index.m3u8
    #[arg(long, value_name = "URL")]
    pub hls: Option<String>,
    /// A stream of an RTMP server: rtmp://…
    #[arg(long, value_name = "URL")]
    pub rtmp: Option<String>,
    /// Which channels of the source are left and right, counted from 1: 3,4; one alone is heard on both sides
    #[arg(long, value_name = "L,R", requires = "source_opened")]
    pub channels: Option<Picked>,
    /// Louder or softer: -6dB
    #[arg(long, value_name = "DB", allow_hyphen_values = true, requires = "source_opened")]
    pub gain: Option<Gain>,
    /// Print the levels each second as a line of JSON, instead of showing them on a terminal
    #[arg(long, requires = "source_opened")]
    pub json: bool,
}

impl Arguments {
    /// What is to be opened; `None` where no option names it. That there is one at most is for the command line.
    ///
    /// # Errors
    /// [`Error::Usage`] for an address that is none of its kind, a file that cannot be read, an empty pipeline, `--loop`
    /// without a file.
    pub fn input(&self) -> Result<Option<Input>, Error> {
        if self.again && self.file.is_none() {
            return Err(Error::Usage("--loop goes with --file only".to_owned()));
        }
        let urls: [(&Option<String>, &str, &[&str]); 4] = [
            (&self.rtsp, "--rtsp", &["rtsp", "rtsps", "rtspt"]),
            (&self.srt, "--srt", &["srt"]),
            (&self.hls, "--hls", &["http", "https", "file"]),
            (&self.rtmp, "--rtmp", &["rtmp", "rtmps"]),
        ];
        for (url, option, schemes) in urls {
            if let Some(url) = url {
                let input = Input::url(url, schemes);
                return input.map(Some).map_err(|reason| Error::Usage(format!("{option}: {reason}")));
            }
        }
        if let Some(path) = &self.file {
            let path = std::fs::File::open(path)
                .and_then(|file| match file.metadata()?.is_dir() {
                    true => Err(std::io::ErrorKind::IsADirectory.into()),
                    false => path.canonicalize(),
                })
                .map_err(|error| Error::Usage(format!("--file {}: {error}", path.display())))?;
            return Ok(Some(Input::File { path, again: self.again }));
        }
        if let Some(text) = &self.pipeline {
            if text.trim().is_empty() {
                return Err(Error::Usage("--pipeline: the text is empty".to_owned()));
            }
            return Ok(Some(Input::Pipeline(text.clone())));
        }
        Ok(self.device.clone().map(Input::Device).or(self.test.then_some(Input::Test)))
    }

    /// What is made of its channels.
    pub fn mix(&self) -> Mix {
        Mix { picked: self.channels, gain: self.gain.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(arguments: &Arguments) -> String {
        let error = arguments.input().unwrap_err();
        assert_eq!(error.exit_code(), 64);
        error.to_string()
    }

    #[test]
    fn each_option_is_its_source() {
        assert_eq!(Arguments::default().input().unwrap(), None);
        assert_eq!(Arguments { test: true, ..Arguments::default() }.input().unwrap(), Some(Input::Test));
        let url = "rtsp://10.0.0.9/live".to_owned();
        let camera = Arguments { rtsp: Some(url.clone()), ..Arguments::default() };
        assert_eq!(camera.input().unwrap(), Some(Input::Url(url)));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_option_and_what_to_change() {
        let file = Arguments { file: Some("/nowhere/x.wav".into()), ..Arguments::default() };
        assert!(wrong(&file).starts_with("--file /nowhere/x.wav: No such file"), "{}", wrong(&file));
        let directory = Arguments { file: Some("/".into()), ..Arguments::default() };
        assert!(wrong(&directory).contains("directory"), "{}", wrong(&directory));
        let srt = Arguments { srt: Some("rtmp://x".to_owned()), ..Arguments::default() };
        assert_eq!(wrong(&srt), "--srt: use an address such as srt://…");
        let endless = Arguments { test: true, again: true, ..Arguments::default() };
        assert_eq!(wrong(&endless), "--loop goes with --file only");
        let pipeline = Arguments { pipeline: Some(" ".to_owned()), ..Arguments::default() };
        assert!(wrong(&pipeline).starts_with("--pipeline"));
    }
}
