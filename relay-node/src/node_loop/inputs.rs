//! What the node loop listens to, and in which order: what is nearest to media first, but no input can keep the timer
//! from its turn.

use std::time::Instant;

use media::Event;
use mesh_routing::NotStored;
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, interval, sleep_until},
};

use super::{
    DiskAnswers,
    request::{NodeRequest, RequestQueue},
};
use crate::{
    bridge::{BridgeEvent, mdns::Seen},
    clock,
    storage::{files::FileEvent, rows::Row},
    vitals::BEAT,
};

/// What the loop listens to.
pub struct Inputs {
    /// From HTTP and WebSocket.
    pub requests: RequestQueue,
    /// From the bridges.
    pub bridge: mpsc::Receiver<BridgeEvent>,
    /// From the disk of files.
    pub files: mpsc::Receiver<FileEvent>,
    /// Relays on the local network.
    pub discovered: mpsc::Receiver<Seen>,
    /// Records of a disk that could not be read at the start, a few at a time.
    pub history: mpsc::Receiver<Vec<Row>>,
    /// From the media workers.
    pub media: mpsc::Receiver<Event>,
    /// From the ladder.
    pub ladder: mpsc::Receiver<media::ladder::Event>,
    /// Turns true when the relay stops.
    pub stop: watch::Receiver<bool>,
}

/// The next thing for the loop to do.
pub(super) enum Input {
    /// The relay stops.
    Stop,
    /// It is time to say that the loop is alive.
    Beat,
    /// The deadline is over.
    Due,
    Media(Event),
    Ladder(media::ladder::Event),
    Bridge(BridgeEvent),
    /// The record that the disk was asked for first is there, or cannot be.
    Stored(Result<(), NotStored>),
    File(FileEvent),
    Request(NodeRequest),
    Seen(Seen),
    History(Vec<Row>),
}

/// The inputs, and whose turn it is.
pub(super) struct Listening {
    inputs: Inputs,
    beats: Interval,
    /// The timer had its turn just now.
    was_due: bool,
}

impl Listening {
    pub fn new(inputs: Inputs) -> Listening {
        Listening { inputs, beats: interval(BEAT), was_due: false }
    }

    /// Waits for the next thing to do. Nothing is lost if this is dropped while it waits.
    pub async fn next(&mut self, disk: &mut DiskAnswers, deadline: Option<Instant>) -> Input {
        // Events may never end, so the deadline is looked at before them; but not twice in a row, so that a timer
        // that is always due keeps nothing else from its turn.
        let due = deadline.is_some_and(|at| at <= clock::now());
        self.was_due = due && !self.was_due;
        if self.was_due {
            return Input::Due;
        }
        let sleep = async {
            match deadline {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let inputs = &mut self.inputs;
        tokio::select! {
            biased;
            _ = inputs.stop.wait_for(|stop| *stop) => Input::Stop,
            // Before what may never end: a flood does not make the loop look dead.
            _ = self.beats.tick() => Input::Beat,
            Some(event) = inputs.media.recv() => Input::Media(event),
            Some(event) = inputs.ladder.recv() => Input::Ladder(event),
            Some(event) = inputs.bridge.recv() => Input::Bridge(event),
            stored = disk.next() => Input::Stored(stored),
            Some(event) = inputs.files.recv() => Input::File(event),
            Some(request) = inputs.requests.recv() => Input::Request(request),
            Some(seen) = inputs.discovered.recv() => Input::Seen(seen),
            Some(rows) = inputs.history.recv() => Input::History(rows),
            () = sleep => Input::Due,
        }
    }
}

#[cfg(test)]
mod tests {
    use media::TrackId;

    use super::*;
    use crate::node_loop::request;

    #[tokio::test]
    async fn a_flood_of_events_keeps_no_timer_from_its_turn_nor_the_timer_them() {
        let ((media, inbox), (_stop, stop)) = (mpsc::channel(8), watch::channel(false));
        for track in 0..8 {
            media.try_send(Event::KeyframeWanted { track: TrackId(track) }).expect("there is room");
        }
        let inputs = Inputs {
            requests: request::queue().1,
            bridge: mpsc::channel(1).1,
            files: mpsc::channel(1).1,
            discovered: mpsc::channel(1).1,
            history: mpsc::channel(1).1,
            media: inbox,
            ladder: mpsc::channel(1).1,
            stop,
        };
        let (mut inputs, mut disk) = (Listening::new(inputs), DiskAnswers::default());
        let over = Some(clock::now());
        let mut turns = Vec::new();
        while turns.len() < 6 {
            match inputs.next(&mut disk, over).await {
                Input::Due => turns.push("timer"),
                Input::Media(_) => turns.push("media"),
                // It comes at times of its own, and before events.
                Input::Beat => {}
                _ => turns.push("something else"),
            }
        }
        // A beat may stand between two turns of the timer.
        turns.dedup();
        assert_eq!(turns[..4], ["timer", "media", "timer", "media"]);
        // Before its deadline the timer takes no turn.
        let later = clock::now() + std::time::Duration::from_secs(60);
        for _ in 0..3 {
            let next = inputs.next(&mut disk, Some(later)).await;
            assert!(matches!(next, Input::Media(_) | Input::Beat));
        }
    }
}
