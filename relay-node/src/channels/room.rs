//! A room over a data channel: what the WebSocket of the room carries, message for message. What is said and told is
//! `conversation`'s.

use bytes::Bytes;
use protocol::{RoomName, signaling::FromRelay};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    ChannelsState,
    way::{Gone, Message, Out, Way},
};
use crate::{
    conversation::{Conversation, End, Heard, MESSAGE_MAX},
    drop_reason::DropReason,
    node::sessions::Whose,
    node_loop::outbox::words,
};

/// Bytes of an event: what every client takes in one message (RFC 8841 section 6).
const EVENT_MAX: usize = 64 * 1024;

/// Serves a channel until it is gone, or its participant has to go.
pub(super) async fn serve(state: ChannelsState, (room, whose): (RoomName, Whose), mut way: Way) {
    let entered = Conversation::enter(state.requests, &state.participants, room, whose.client).await;
    let last = match entered {
        Ok((talk, welcome)) => visit(&mut way, talk, welcome).await.err(),
        Err(error) => {
            DropReason::ChannelRefused.count();
            Some(Leave(error.to_string()))
        }
    };
    if let Some(Leave(reason)) = last.filter(|Leave(reason)| !reason.is_empty()) {
        let refused = FromRelay::Refused { nonce: None, reason, retry_after_ms: None };
        if say(&way.out, words(&refused)).await.is_ok() {
            way.out.settle().await;
        }
    }
}

/// Why the channel is closed, in words for the participant; empty if it is gone.
struct Leave(String);

impl From<End> for Leave {
    fn from(end: End) -> Leave {
        Leave(end.to_string())
    }
}

impl From<Gone> for Leave {
    fn from(Gone: Gone) -> Leave {
        Leave(String::new())
    }
}

async fn visit(
    way: &mut Way,
    mut talk: Conversation,
    welcome: FromRelay,
) -> Result<std::convert::Infallible, Leave> {
    let place = talk.place();
    // Its session is connected: that is sign of life enough.
    talk.prove();
    tokio::select! {
        end = converse(way, &mut talk, welcome) => end,
        () = place.lost() => Err(End::GaveWay.into()),
    }
}

async fn converse(
    way: &mut Way,
    talk: &mut Conversation,
    welcome: FromRelay,
) -> Result<std::convert::Infallible, Leave> {
    say(&way.out, fitting(welcome)).await?;
    loop {
        tokio::select! {
            text = talk.next() => say(&way.out, text?).await?,
            message = way.inbox.recv() => {
                let Heard { tell, end } = handle(talk, message.ok_or(Gone)?)?;
                if let Some(event) = tell {
                    say(&way.out, words(&event)).await?;
                }
                if let Some(end) = end {
                    return Err(end.into());
                }
            }
        }
    }
}

fn handle(talk: &mut Conversation, Message { data, binary }: Message) -> Result<Heard, Leave> {
    if binary {
        return Ok(talk.handle_binary());
    }
    match std::str::from_utf8(&data) {
        Ok(text) if text.len() <= MESSAGE_MAX => Ok(talk.handle_text(text)),
        _ => {
            DropReason::ChannelTooLong.count();
            Err(Leave("not a valid message, or too long".to_owned()))
        }
    }
}

/// What is longer than every client takes is left out.
async fn say(way: &Out, text: Utf8Bytes) -> Result<(), Gone> {
    if text.len() > EVENT_MAX {
        DropReason::ChannelTooLong.count();
        return Ok(());
    }
    way.say(Bytes::from(text), false).await
}

/// The welcome with as much of its history as fits into a message: the newest.
fn fitting(welcome: FromRelay) -> Utf8Bytes {
    let mut welcome = welcome;
    loop {
        let text = words(&welcome);
        match &mut welcome {
            FromRelay::Welcome { history, .. } if text.len() > EVENT_MAX && !history.is_empty() => {
                history.drain(..history.len().div_ceil(4));
            }
            _ => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::api::Message;

    use super::*;

    #[test]
    fn a_long_history_is_cut_at_its_old_end_until_the_welcome_is_one_message() {
        let message = |number: usize| Message {
            id: number.to_string(),
            text: "🎪".repeat(4000),
            ..serde_json::from_value(serde_json::json!({
                "id": "", "author": "Ada", "text": "", "zone": "stage", "relay": "a7c1f004",
                "sent_at": "2026-07-03T18:04:05.123Z"
            }))
            .expect("a message")
        };
        let history: Vec<Message> = (0..100).map(message).collect();
        let welcome =
            FromRelay::Welcome { zone: "stage".into(), history, present: 1, announcements: Vec::new() };
        assert!(words(&welcome).len() > EVENT_MAX);
        let text = fitting(welcome);
        assert!(text.len() <= EVENT_MAX && text.len() > EVENT_MAX / 2, "{}", text.len());
        let Ok(FromRelay::Welcome { history, .. }) = serde_json::from_str(&text) else { panic!("a welcome") };
        assert_eq!(history.last().map(|message| &*message.id), Some("99"));
    }
}
