//! A source that is heard on its way: its levels go to whoever shows them, its troubles into the log.

use std::fmt;

use serde::Serialize;

use super::meter::{Levels, Meter, News, Reading};
use crate::error::Error;
use crate::source::{Frame, Source};

/// How a feed source is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Status {
    /// Whether it sounds now; while it is opened again there is silence.
    pub sounds: bool,
    /// How much of it waits here to be sent.
    pub waiting_ms: u64,
    /// Sound that was left out to be live again.
    pub skipped_ms: u64,
    /// Silence that was sent in place of sound that did not come.
    pub missing_ms: u64,
    /// How often it failed, stood still or ended, and was opened again.
    pub faults: u64,
    /// Where in a file it is; `null` where that means nothing.
    pub position_seconds: Option<u64>,
    /// How much of a file is left.
    pub left_seconds: Option<u64>,
}

/// One reading of the meter, and how the source is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Line {
    /// How loud.
    #[serde(flatten)]
    pub levels: Levels,
    /// How it is.
    #[serde(flatten)]
    pub status: Status,
}

/// A source with a meter.
pub struct Monitor<S> {
    source: S,
    meter: Meter,
    status: Box<dyn Fn() -> Status + Send>,
    /// Readings of half a second that are one line, and those that wait for the next line.
    readings: u32,
    waiting: (u32, Reading),
    show: Box<dyn FnMut(&Line) + Send>,
}

impl<S: Source> Monitor<S> {
    /// Listens in on a source, and shows a line after so many readings of half a second.
    pub fn new(
        source: S,
        status: Box<dyn Fn() -> Status + Send>,
        readings: u32,
        show: Box<dyn FnMut(&Line) + Send>,
    ) -> Self {
        Monitor { source, meter: Meter::default(), status, readings, waiting: (0, Reading::default()), show }
    }
}

impl<S: Source> Source for Monitor<S> {
    fn fill(&mut self, frame: &mut Frame) -> Result<(), Error> {
        self.source.fill(frame)?;
        for news in self.meter.handle_frame(frame) {
            match news {
                News::Began(trouble) => tracing::warn!("{trouble}"),
                News::Ended(trouble) => tracing::info!("over: {trouble}"),
                News::Reading(reading) => {
                    self.waiting = (self.waiting.0 + 1, self.waiting.1.and(&reading));
                    if self.waiting.0 >= self.readings {
                        let (_, reading) = std::mem::take(&mut self.waiting);
                        (self.show)(&Line { levels: reading.levels(), status: (self.status)() });
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.levels)?;
        let clock = |seconds: u64| format!("{}:{:02}", seconds / 60, seconds % 60);
        if let Some(position) = self.status.position_seconds {
            write!(f, "  {}", clock(position))?;
        }
        if let Some(left) = self.status.left_seconds {
            write!(f, ", {} left", clock(left))?;
        }
        f.write_str(if self.status.sounds { "" } else { "  NO SOURCE" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Tone;
    use std::sync::mpsc;

    #[test]
    fn a_line_comes_each_second_and_the_sound_goes_through() {
        let (lines, shown) = mpsc::channel();
        let show = Box::new(move |line: &Line| lines.send(*line).unwrap());
        let status = Status { sounds: true, left_seconds: Some(61), ..Status::default() };
        let mut heard = Monitor::new(Tone::new(440.0).unwrap(), Box::new(move || status), 2, show);
        let (mut frame, mut direct) = ([0.0; 1920], [0.0; 1920]);
        let mut tone = Tone::new(440.0).unwrap();
        for _ in 0..125 {
            heard.fill(&mut frame).unwrap();
            tone.fill(&mut direct).unwrap();
            assert_eq!(frame, direct);
        }
        let lines: Vec<Line> = shown.try_iter().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].to_string(), "L   -9.0 peak   -6.0  R   -9.0 peak   -6.0  dBFS, 1:01 left");
        let json = serde_json::to_value(lines[0]).unwrap();
        assert_eq!((&json["rms_dbfs"][1], &json["left_seconds"]), (&(-9.0).into(), &61.into()));
    }
}
