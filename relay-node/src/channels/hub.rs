//! Who serves which data channel: hears of all of them from the media threads and never waits, so that no channel keeps
//! another from being heard.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicUsize},
};

use media::{ChannelEvent, ChannelId};
use protocol::SessionId;
use tokio::sync::mpsc;

use super::{
    ChannelsState, files,
    label::Label,
    room,
    way::{self, Handle, Message, Way},
};
use crate::{drop_reason::DropReason, media::channels::Happened, node_loop::request::NodeRequest};

/// Channels of one session that are served at a time; others are closed.
const SERVED_MAX: usize = 8;

/// Runs until the media threads have ended.
pub async fn run(state: ChannelsState, mut happened: mpsc::Receiver<Happened>) {
    let workers = state.workers.clone();
    let serve = move |label, way| drop(tokio::spawn(serve(state.clone(), label, way)));
    let mut hub = Hub { sessions: BTreeMap::new() };
    while let Some(happened) = happened.recv().await {
        let asked = hub.handle(happened, |worker, channel, of_session, label| {
            let (way, handle) = way::pair((worker, workers.clone()), channel, of_session);
            serve(label, way);
            handle
        });
        if let Some((worker, channel)) = asked {
            way::close(&workers, worker, channel);
        }
    }
}

async fn serve(state: ChannelsState, label: Label, way: Way) {
    let session = way.out.channel.session;
    // It may be over already.
    let Ok(Some(whose)) = state.requests.ask(|reply| NodeRequest::Whose { session, reply }).await else {
        return;
    };
    match label {
        Label::Room(room) => room::serve(state, (room, whose), way).await,
        Label::Files => files::serve(state, whose, way).await,
    }
}

struct Hub {
    sessions: BTreeMap<SessionId, Session>,
}

/// The channels of a session that are served.
#[derive(Default)]
struct Session {
    unsent: Arc<AtomicUsize>,
    channels: BTreeMap<u16, Handle>,
}

impl Hub {
    /// Something happened. `serve` starts the task of a channel. Gives a channel that has to be closed, with its worker.
    fn handle(
        &mut self,
        happened: Happened,
        serve: impl FnOnce(usize, ChannelId, Arc<AtomicUsize>, Label) -> Handle,
    ) -> Option<(usize, ChannelId)> {
        let (worker, channel, event) = match happened {
            Happened::Over(session) => {
                let session = self.sessions.remove(&session)?;
                session.channels.into_values().for_each(Handle::gone);
                return None;
            }
            Happened::TooLong { worker, channel } => {
                DropReason::ChannelTooLong.count();
                return self.give_up(worker, channel);
            }
            Happened::Channel { worker, channel, event } => (worker, channel, event),
        };
        match event {
            ChannelEvent::Open { label } => {
                // Its number may have been another's.
                self.closed(channel);
                let label = Label::read(&label)?;
                let session = self.sessions.entry(channel.session).or_default();
                if session.channels.len() >= SERVED_MAX {
                    DropReason::ChannelRefused.count();
                    return Some((worker, channel));
                }
                let handle = serve(worker, channel, session.unsent.clone(), label);
                session.channels.insert(channel.number, handle);
            }
            ChannelEvent::Message { data, binary } => {
                let Some(handle) = self.find(channel) else {
                    DropReason::ChannelUnknown.count();
                    return None;
                };
                if !handle.hear(Message { data, binary }) {
                    DropReason::ChannelTooFast.count();
                    return self.give_up(worker, channel);
                }
            }
            ChannelEvent::Acknowledged { bytes } => {
                let session = self.sessions.get(&channel.session)?;
                session.channels.get(&channel.number)?.acknowledge(bytes);
                session.channels.values().for_each(Handle::look);
            }
            ChannelEvent::Refused => {
                let gives_up = self.give_up(worker, channel)?;
                DropReason::ChannelUnsent.count();
                return Some(gives_up);
            }
            ChannelEvent::Closed => {
                self.closed(channel);
            }
        }
        None
    }

    fn find(&self, channel: ChannelId) -> Option<&Handle> {
        self.sessions.get(&channel.session)?.channels.get(&channel.number)
    }

    /// The channel is gone. Says whether it was served.
    fn closed(&mut self, channel: ChannelId) -> bool {
        self.forget(channel).map(Handle::gone).is_some()
    }

    /// A channel that is open has to be closed: here and not by its task, which may take its time.
    fn give_up(&mut self, worker: usize, channel: ChannelId) -> Option<(usize, ChannelId)> {
        self.closed(channel).then_some((worker, channel))
    }

    fn forget(&mut self, channel: ChannelId) -> Option<Handle> {
        let session = self.sessions.get_mut(&channel.session)?;
        let handle = session.channels.remove(&channel.number);
        if session.channels.is_empty() {
            self.sessions.remove(&channel.session);
        }
        handle
    }
}
