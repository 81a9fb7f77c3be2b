//! Whether a publisher sends speech: SILK or hybrid packets, which CELT does not follow without a glitch.

use super::framing::Layout;

/// CELT has to come for so long before it counts: 2 s. An encoder that chooses by itself goes back and forth.
const CALM: u32 = 96_000;

/// What came lately.
#[derive(Debug, Default)]
pub struct Speech {
    /// Samples of CELT since the last packet of speech; `None` if there was none.
    since: Option<u32>,
}

impl Speech {
    /// A packet came.
    pub fn handle_packet(&mut self, layout: &Layout) {
        self.since = match self.since {
            _ if !layout.is_celt() => Some(0),
            Some(since) if since + layout.samples < CALM => Some(since + layout.samples),
            _ => None,
        };
    }

    /// It is speech.
    pub fn is_speech(&self) -> bool {
        self.since.is_some()
    }
}
