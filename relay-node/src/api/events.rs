//! What a listener sees, as server-sent events (HTML, section 9.2): an answer that does not end. Each event has the newest
//! state, so a client that reads slowly misses only what is over; one that reads nothing is cut by its connection
//! (`pace.rs`).

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use tokio::{sync::watch, time::Instant as TokioInstant};

use super::server::Endless;
use crate::{
    clock,
    drop_reason::DropReason,
    node::viewers::Seen,
    node_loop::request::Watching,
    places::{
        Places,
        shares::{GivesWay, Policy},
    },
};

/// Those who read events, at a time: as many as there are WebSockets.
const READERS_MAX: usize = 4000;
/// Who came less than this ago gives way to nobody of its own address.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two events of one kind.
const EVERY: Duration = Duration::from_secs(1);
/// A line that says nothing, so that proxies and phones keep the connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// For so long the first state is waited for, where a newer one than is known comes in a moment.
const FIRST: Duration = Duration::from_millis(500);

/// The events there are.
pub const NAMES: [&str; 2] = ["layers", "quality"];

/// Places of those who read, shared between their addresses.
pub fn places() -> Places {
    let policy = Policy { gives_way: GivesWay::Youngest, patience: PATIENCE };
    Places::new(READERS_MAX, policy, DropReason::EventsGaveWay, DropReason::EventsRefused)
}

/// Which of [`NAMES`] are read.
pub type Only = [bool; NAMES.len()];

/// The answer to somebody who reads these events from now on.
pub fn answer(watching: Watching, only: Only, readers: Places) -> Response {
    let feed = Feed::new(watching, only);
    let events = stream::unfold(feed, async |mut feed| {
        let text = feed.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(text)), feed))
    });
    let headers: [(HeaderName, HeaderValue); 3] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would wait for more.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut response = (headers, Body::from_stream(events)).into_response();
    response.extensions_mut().insert(Endless(readers));
    response
}

/// What one reader has been told, and will be.
struct Feed {
    events: watch::Receiver<Seen>,
    fresh: bool,
    told: [Told; NAMES.len()],
    silent_since: Instant,
}

/// One kind of event.
#[derive(Default)]
struct Told {
    wanted: bool,
    last: Option<(String, Instant)>,
}

impl Feed {
    fn new(watching: Watching, only: Only) -> Feed {
        let Watching { fresh, events } = watching;
        let told = only.map(|wanted| Told { wanted, last: None });
        Feed { events, fresh, told, silent_since: clock::now() }
    }

    /// What is sent next. It ends when the session does.
    async fn next(&mut self) -> Option<String> {
        if !self.fresh {
            self.fresh = true;
            // Whatever comes of it: what is known then is told.
            let _ = tokio::time::timeout(FIRST, self.events.changed()).await;
        }
        loop {
            let texts = words(&self.events.borrow_and_update());
            let now = clock::now();
            let mut out = String::new();
            let mut due = self.silent_since + SIGN_OF_LIFE;
            for ((told, text), name) in self.told.iter_mut().zip(texts).zip(NAMES) {
                match told.poll(text, now) {
                    Poll::Tell(text) => {
                        // Writing to a string does not fail.
                        let _ = write!(out, "event: {name}\ndata: {text}\n\n");
                    }
                    Poll::At(at) => due = due.min(at),
                    Poll::Nothing => {}
                }
            }
            if out.is_empty() && now >= due {
                out.push_str(":\n\n");
            }
            if !out.is_empty() {
                self.silent_since = now;
                return Some(out);
            }
            tokio::select! {
                changed = self.events.changed() => changed.ok()?,
                () = tokio::time::sleep_until(TokioInstant::from_std(due)) => {}
            }
        }
    }
}

enum Poll {
    Tell(String),
    At(Instant),
    Nothing,
}

impl Told {
    fn poll(&mut self, text: String, now: Instant) -> Poll {
        let news = self.last.as_ref().is_none_or(|(last, _)| *last != text);
        let at = self.last.as_ref().map_or(now, |(_, at)| *at + EVERY);
        match self.wanted && news {
            true if now >= at => {
                self.last = Some((text.clone(), now));
                Poll::Tell(text)
            }
            true => Poll::At(at),
            false => Poll::Nothing,
        }
    }
}

/// The data of each event, in the order of [`NAMES`].
fn words(seen: &Seen) -> [String; NAMES.len()] {
    let mut layers = serde_json::Map::new();
    if let Some((mid, of)) = &seen.layers {
        layers.insert(mid.clone(), serde_json::to_value(of).unwrap_or_default());
    }
    [json(&layers), json(&seen.quality)]
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("strings and numbers always serialize")
}

#[cfg(test)]
mod tests {
    use protocol::api::{Picture, PictureLayers, PictureReason};

    use super::*;

    fn seen(reason: PictureReason) -> Seen {
        let quality = Picture { video: None, best: None, reason, audio: None };
        Seen { layers: Some(("1".into(), PictureLayers::default())), quality }
    }

    const LAYERS: &str = "event: layers\ndata: {\"1\":{\"active\":[],\"inactive\":[],\"layers\":[]}}\n\n";

    fn quality(reason: &str) -> String {
        format!("event: quality\ndata: {{\"video\":null,\"best\":null,\"reason\":\"{reason}\"}}\n\n")
    }

    #[tokio::test]
    async fn both_are_told_at_once_and_the_last_state_after_a_second() {
        let (sender, events) = watch::channel(seen(PictureReason::Link));
        let mut feed = Feed::new(Watching { fresh: true, events }, [true, true]);
        let first = feed.next().await.expect("at once");
        assert_eq!(first, LAYERS.to_owned() + &quality("link"));
        let began = clock::now();
        for reason in [PictureReason::Wish, PictureReason::Bridge, PictureReason::Best] {
            sender.send_replace(seen(reason));
            tokio::task::yield_now().await;
        }
        assert_eq!(feed.next().await, Some(quality("best")));
        assert!(clock::now() - began >= EVERY - Duration::from_millis(50), "one in a second");
        drop(sender);
        assert_eq!(feed.next().await, None, "the session is over");
    }

    #[tokio::test]
    async fn what_a_worker_says_in_a_moment_is_waited_for_and_only_what_is_wanted_is_told() {
        let (sender, events) = watch::channel(seen(PictureReason::Publisher));
        let mut feed = Feed::new(Watching { fresh: false, events }, [false, true]);
        sender.send_replace(seen(PictureReason::Best));
        assert_eq!(feed.next().await, Some(quality("best")));
        sender.send_replace(seen(PictureReason::Best));
        feed.silent_since = clock::now() - SIGN_OF_LIFE;
        assert_eq!(feed.next().await.as_deref(), Some(":\n\n"), "nothing new");
    }
}
