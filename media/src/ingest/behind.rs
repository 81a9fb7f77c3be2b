//! Numbers that jumped back, under the same SSRC and keys. One packet from behind the replay window cannot be
//! told from a replay; what is watched here is whether they go on while nothing else comes.

use std::time::{Duration, Instant};

use crate::rtp::{header::Header, sequence::is_newer};

/// Authentic packets older than the replay window, since the last new one on the track.
#[derive(Debug, Default)]
pub(super) struct Behind {
    run: Option<Run>,
}

/// Of one SSRC, in rising order.
#[derive(Debug)]
struct Run {
    ssrc: u32,
    newest: u16,
    packets: u32,
    since: Instant,
}

/// So many and for so long mean that the numbers jumped back. A replay looks the same, but whoever replays what
/// he captured does not get there while the track goes on.
const PACKETS: u32 = 16;
const LENGTH: Duration = Duration::from_secs(1);

impl Behind {
    /// An authentic packet came from behind the window: true once they have gone on for a while.
    pub(super) fn handle_behind(&mut self, header: &Header, now: Instant) -> bool {
        let run = self.run.get_or_insert(Run {
            ssrc: header.ssrc,
            newest: header.sequence,
            packets: 0,
            since: now,
        });
        if run.ssrc != header.ssrc || !is_newer(header.sequence, run.newest) {
            if run.ssrc != header.ssrc {
                self.run = None;
            }
            return false;
        }
        run.newest = header.sequence;
        run.packets += 1;
        run.packets >= PACKETS && now.saturating_duration_since(run.since) >= LENGTH
    }

    /// A new packet came on the track: it goes on.
    pub(super) fn handle_new(&mut self) {
        self.run = None;
    }
}
