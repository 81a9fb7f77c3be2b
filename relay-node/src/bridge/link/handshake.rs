//! The first words on a link: its three streams are opened, and each side says its hello. Who may have the link is
//! decided in `link_table.rs` and `admission.rs`.

use std::time::Duration;

use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use super::{
    hello::Hello,
    stream::{self, Group, StreamError},
};

/// How long a stranger may take from the first packet to its hello.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(5);

/// The streams of a link in the order of [`Group::ALL`].
pub(crate) type Streams = [(SendStream, RecvStream); 3];

/// Opens the streams and exchanges hellos, as the side that dialed.
pub(crate) async fn dialed(connection: &Connection, own: &Hello) -> Result<(Hello, Streams), StreamError> {
    let mut streams = Vec::with_capacity(Group::ALL.len());
    for group in Group::ALL {
        let (mut send, receive) = connection.open_bi().await.map_err(WriteLost::from)?;
        send.set_priority(group.priority()).map_err(|_| StreamError::Ended)?;
        send.write_all(&[group.tag()]).await?;
        if group == Group::Control {
            stream::send_hello(&mut send, own).await?;
        }
        streams.push((send, receive));
    }
    let mut streams: Streams = streams.try_into().map_err(|_| StreamError::Ended)?;
    let hello = stream::receive_hello(&mut streams[Group::Control as usize].1).await?;
    Ok((hello, streams))
}

/// Accepts the streams and reads the dialer's hello. The answer is the caller's.
pub(crate) async fn accepted(connection: &Connection) -> Result<(Hello, Streams), StreamError> {
    let mut slots = [None, None, None];
    for _ in Group::ALL {
        let (send, mut receive) = connection.accept_bi().await.map_err(WriteLost::from)?;
        let mut tag = [0];
        receive.read_exact(&mut tag).await?;
        let group = Group::from_tag(tag[0]).ok_or(StreamError::NotHello)?;
        send.set_priority(group.priority()).map_err(|_| StreamError::Ended)?;
        if slots[group as usize].replace((send, receive)).is_some() {
            return Err(StreamError::NotHello);
        }
    }
    let [Some(mut control), Some(chat), Some(bulk)] = slots else { return Err(StreamError::NotHello) };
    let hello = stream::receive_hello(&mut control.1).await?;
    Ok((hello, [control, chat, bulk]))
}

struct WriteLost;

impl WriteLost {
    fn from(error: ConnectionError) -> StreamError {
        StreamError::Write(quinn::WriteError::ConnectionLost(error))
    }
}
