//! The data channels of a worker's sessions: what is wanted of them, and what is told of them. How a message is carried is
//! for `transport`.

use std::time::Instant;

use protocol::SessionId;

use super::{
    Worker,
    channel::{ChannelEvent, ChannelId, ChannelWish},
    plan::Event,
};
use crate::transport::TransportOutput;

impl Worker {
    /// Something is wanted of a data channel of a session here. What cannot be said is answered with
    /// [`ChannelEvent::Refused`].
    pub fn handle_channel(&mut self, channel: ChannelId, wish: &ChannelWish, now: Instant) {
        let ChannelId { session: id, number, key } = channel;
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.plan.id == id) else {
            return; // it is over, and that was told
        };
        let said = match wish {
            ChannelWish::Say { data, binary } => session.transport.send_message(number, data, *binary, now),
            ChannelWish::Close => {
                session.transport.close_channel(Some(number), now);
                Ok(())
            }
            ChannelWish::CloseAll => {
                session.transport.close_channel(None, now);
                Ok(())
            }
        };
        if said.is_err() {
            self.events.push_back(Event::Channel(channel, ChannelEvent::Refused));
        }
        self.pump(key, now);
    }

    /// What a transport says of its channels.
    pub(super) fn tell_of_channel(&mut self, (session, key): (SessionId, usize), output: TransportOutput) {
        let (number, event) = match output {
            TransportOutput::ChannelOpen { channel, label } => (channel, ChannelEvent::Open { label }),
            TransportOutput::Message { channel, data, binary } => {
                (channel, ChannelEvent::Message { data, binary })
            }
            TransportOutput::Acknowledged { channel, bytes } => {
                (channel, ChannelEvent::Acknowledged { bytes })
            }
            TransportOutput::ChannelClosed { channel } => (channel, ChannelEvent::Closed),
            _ => return,
        };
        self.events.push_back(Event::Channel(ChannelId { session, number, key }, event));
    }
}
