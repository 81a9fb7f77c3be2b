//! What a build without GStreamer says instead of opening a source.

use super::input::Input;
use super::mix::Mix;
use super::monitor::Status;
use crate::error::Error;
use crate::source::{Frame, Source};

/// A source that this build cannot open: there is none.
#[derive(Debug)]
pub enum Feed {}

/// Opens nothing.
///
/// # Errors
/// [`Error::Usage`], always.
pub async fn open(_input: Input, _mix: Mix, _patient: bool) -> Result<Feed, Error> {
    Err(absent())
}

/// Knows no devices.
///
/// # Errors
/// [`Error::Usage`], always.
pub fn devices() -> Result<Vec<String>, Error> {
    Err(absent())
}

impl Feed {
    /// How it is.
    pub fn status(&self) -> Box<dyn Fn() -> Status + Send> {
        match *self {}
    }
}

impl Source for Feed {
    fn fill(&mut self, _frame: &mut Frame) -> Result<(), Error> {
        match *self {}
    }
}

fn absent() -> Error {
    Error::Usage(
        "this build has no GStreamer: install libgstreamer1.0-dev, libgstreamer-plugins-base1.0-dev and the plugins \
         (script/setup feeds), build with cargo build -p signaling-client --features gstreamer"
            .to_owned(),
    )
}
