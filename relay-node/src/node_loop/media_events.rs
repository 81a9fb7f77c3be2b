//! What media workers say, as far as metrics and the log want it; what it comes to is decided in `node`.

use media::{Event, transport::CloseReason};

use super::NodeLoop;
use crate::{clock, node::sessions::Direction};

impl NodeLoop {
    pub(super) fn media(&mut self, event: Event) {
        let now = clock::now();
        if let Event::Connected { session } = &event
            && let Some(opened) = self.node.listener_opened_at(*session)
        {
            metrics::histogram!("relay_join_duration_seconds")
                .record(now.duration_since(opened).as_secs_f64());
        }
        if let Event::Closed { session, reason: CloseReason::Panicked, .. } = &event {
            tracing::error!(?session, "a defect ended a session; the message is above");
            metrics::counter!("relay_session_panics_total").increment(1);
        }
        if let Event::Health { session, health } = &event
            && health.too_large > 0
            && let Some((stream, _)) = self.node.stream_of(*session)
            && self.node.health(stream).is_none_or(|known| known.too_large == 0)
        {
            tracing::warn!(
                %stream,
                "the publisher sends RTP packets longer than 1500 octets: they are dropped, and nobody gets a \
                 whole picture; lower the MTU of its payloader (GStreamer: rtph264pay mtu=1200)"
            );
        }
        if let Event::Closed { session, reason, remote: Some(remote) } = &event
            && self.complaints.take(remote.ip(), *reason, now)
            && let Some((stream, direction)) = self.node.stream_of(*session)
        {
            let who = if direction == Direction::Ingest { "publisher" } else { "listener" };
            tracing::warn!(%stream, %remote, reason = reason.label(), "a {who}'s session ended: {reason}");
        }
        self.node.handle_media(event, now);
    }
}
