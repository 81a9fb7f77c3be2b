//! Data channels over one DTLS association (RFC 8831): dcsctp with bounds around it. Owns the association and
//! its channels; encryption, and what a message means, belong to others.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dcsctp::api::{
    DcSctpSocket, ErrorKind, LifecycleId, Message, Options, PpId, SendError, SendOptions, Socket,
    SocketEvent, SocketTime, StreamId,
};

use super::chunks::{CRUMB, DataChunk, Verdict, inspect};
use super::dcep::{self, Open, Reliability};
use crate::drop_reason::DropReason;

/// The data channels of one peer.
pub(super) struct Sctp {
    /// `None` once it is over for good.
    socket: Option<Socket>,
    /// Where the socket's clock begins.
    began: Instant,
    /// When we ask for an association ourselves, should the peer not have done so.
    connect_at: Option<Instant>,
    channels: BTreeMap<u16, Channel>,
    /// What came on each stream and has not become a message.
    unfinished: BTreeMap<u16, Unfinished>,
    /// What the peer has not acknowledged: channel and length of each message.
    unacknowledged: BTreeMap<u64, (u16, usize)>,
    /// Bytes of it, of all channels: what is on its way counts too, since how much that may be is for the peer to say.
    waiting: usize,
    messages_sent: u64,
    events: VecDeque<SctpEvent>,
    transmits: VecDeque<Vec<u8>>,
    refused: u64,
}

/// What the channels have to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SctpEvent {
    /// The peer opened a channel.
    Open { channel: u16, label: String },
    /// A message came.
    Message { channel: u16, data: Bytes, binary: bool },
    /// The peer has so many bytes of what was sent, or will never get them.
    Acknowledged { channel: u16, bytes: usize },
    /// The channel is gone, on whichever side's wish.
    Closed { channel: u16 },
}

/// Why a message was not taken. The channel stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Never opened, or closed by now.
    #[error("no such data channel")]
    NotOpen,
    /// Longer than [`MAX_MESSAGE`].
    #[error("message is longer than a data channel takes")]
    TooLarge,
    /// The peer does not read: its messages fill the buffer.
    #[error("data channel buffer is full")]
    Full,
}

/// The longest message, as the SDP announces it (`a=max-message-size`).
pub const MAX_MESSAGE: usize = 262_144;

/// How the messages of a channel are sent, as the peer asked for it.
struct Channel {
    unordered: bool,
    reliability: Reliability,
    /// Bytes that the peer has not acknowledged.
    waiting: usize,
}

/// Chunks of a stream since its last message. What is sent again counts again, hence the wide bounds.
#[derive(Default)]
struct Unfinished {
    bytes: usize,
    chunks: usize,
    /// The message is too long: the rest of it comes as crumbs, which are thrown away.
    overlong: bool,
}

impl Sctp {
    /// `connect_at`: when to ask for the association, if the peer has not by then. None leaves it to the peer.
    pub(super) fn new(connect_at: Option<Instant>, now: Instant) -> Sctp {
        Sctp {
            socket: Some(Socket::new("relay", &options())),
            began: now,
            connect_at,
            channels: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            waiting: 0,
            messages_sent: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            refused: 0,
        }
    }

    /// An SCTP packet.
    ///
    /// # Errors
    ///
    /// The reason, for the drop counter. The association lives on unless the peer made it end.
    pub(super) fn handle_packet(&mut self, packet: Bytes, now: Instant) -> Result<(), DropReason> {
        let mut packet = Vec::from(packet);
        let mut overlong = Vec::new();
        let verdict = inspect(&mut packet, MAX_STREAMS, |chunk| self.weigh(chunk, &mut overlong));
        if verdict == Verdict::Drop {
            return Err(DropReason::SctpStream); // not negotiated, and each would make a stream here
        }
        let (bytes, chunks) = self
            .unfinished
            .values()
            .fold((0, 0), |(bytes, chunks), one| (bytes + one.bytes, chunks + one.chunks));
        if bytes > MAX_UNFINISHED || chunks > MAX_UNFINISHED_CHUNKS {
            // A sender that obeys the window never gets here. dcsctp counts payload only: a million chunks
            // of one byte would take a hundred times the window.
            self.stop();
            return Err(DropReason::SctpUnfinished);
        }
        let Some(socket) = self.at(now) else { return Ok(()) };
        socket.handle_input(&packet);
        let understood = self.work();
        for channel in overlong {
            self.close_channel(channel);
        }
        self.work();
        if understood { Ok(()) } else { Err(DropReason::SctpMalformed) }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let connect = self.connect_at.is_some_and(|at| at <= now);
        if connect {
            self.connect_at = None;
        }
        let Some(socket) = self.at(now) else { return };
        if connect {
            socket.connect();
        }
        self.work();
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.socket.as_ref().and_then(|socket| {
            // "Never" is a time beyond all clocks.
            self.began.checked_add(socket.poll_timeout() - SocketTime::zero())
        });
        timer.into_iter().chain(self.connect_at).min()
    }

    pub(super) fn poll_event(&mut self) -> Option<SctpEvent> {
        self.events.pop_front()
    }

    /// The next SCTP packet to be sent.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let packet = self.transmits.pop_front();
        if packet.is_none() {
            // An idle association keeps no room for its bursts.
            self.transmits.shrink_to_fit();
        }
        packet
    }

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// See [`ChannelError`]; nothing of the message is sent then.
    pub(super) fn send(
        &mut self,
        channel: u16,
        data: &[u8],
        binary: bool,
        now: Instant,
    ) -> Result<(), ChannelError> {
        if data.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLarge);
        }
        let Some(how) = self.channels.get_mut(&channel) else { return Err(ChannelError::NotOpen) };
        if how.waiting + data.len() > MAX_WAITING || self.waiting + data.len() > MAX_WAITING_ALL {
            self.refused += 1;
            return Err(ChannelError::Full);
        }
        // SCTP has no empty messages: one zero byte and a type of its own stand for them (RFC 8831, 6.6).
        let (data, kind) = match (data.is_empty(), binary) {
            (true, true) => (&[0][..], BINARY_EMPTY),
            (true, false) => (&[0][..], STRING_EMPTY),
            (false, true) => (data, BINARY),
            (false, false) => (data, STRING),
        };
        self.messages_sent += 1;
        let number = self.messages_sent;
        how.waiting += data.len();
        self.waiting += data.len();
        let how = SendOptions { lifecycle_id: LifecycleId::new(number), ..how.options() };
        self.unacknowledged.insert(number, (channel, data.len()));
        let socket = self.at(now).ok_or(ChannelError::NotOpen)?;
        let sent = socket.send(Message::new(StreamId(channel), kind, data.to_vec()), &how);
        self.work();
        sent.map_err(|error| match error {
            SendError::ResourceExhaustion => ChannelError::Full,
            SendError::MessageTooLarge { .. } => ChannelError::TooLarge,
            SendError::EmptyPayload | SendError::ShuttingDown => ChannelError::NotOpen,
        })
    }

    /// Closes a channel, or all of them.
    pub(super) fn close(&mut self, channel: Option<u16>, now: Instant) {
        if self.at(now).is_none() {
            return;
        }
        let open: Vec<u16> = match channel {
            Some(channel) => self.channels.contains_key(&channel).then_some(channel).into_iter().collect(),
            None => self.channels.keys().copied().collect(),
        };
        open.into_iter().for_each(|channel| self.close_channel(channel));
        self.work();
    }

    /// Messages that found a full buffer.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Nothing can be sent any more: all channels are gone, and so are the timers.
    pub(super) fn stop(&mut self) {
        self.socket = None;
        self.connect_at = None;
        self.transmits = VecDeque::new();
        self.all_closed();
    }

    /// The socket, with its clock at `now`: its timers may have run out.
    fn at(&mut self, now: Instant) -> Option<&mut Socket> {
        let socket = self.socket.as_mut()?;
        socket.advance_time(SocketTime::zero() + now.saturating_duration_since(self.began));
        Some(socket)
    }

    /// Counts a DATA chunk, before the socket sees it. One that belongs to a message that grew past all
    /// bounds becomes a crumb, a message of its own: kept, the message would fill the receive window for good
    /// and stop the other channels too.
    fn weigh(&mut self, chunk: DataChunk, overlong: &mut Vec<u16>) -> Verdict {
        let unfinished = self.unfinished.entry(chunk.stream).or_default();
        if unfinished.overlong {
            unfinished.overlong = !chunk.ends_message;
            return Verdict::Crumb;
        }
        unfinished.bytes += chunk.length;
        unfinished.chunks += 1;
        if unfinished.bytes > MAX_MESSAGE_BYTES && !chunk.ends_message {
            *unfinished = Unfinished { overlong: true, ..Unfinished::default() };
            overlong.push(chunk.stream);
            return Verdict::Crumb;
        }
        Verdict::Pass
    }

    /// Takes what the socket has to say; false if a packet was not understood.
    fn work(&mut self) -> bool {
        let mut understood = true;
        while let Some(message) = self.socket.as_mut().and_then(DcSctpSocket::get_next_message) {
            self.handle_message(message);
        }
        while let Some(event) = self.socket.as_mut().and_then(DcSctpSocket::poll_event) {
            match event {
                SocketEvent::SendPacket(packet) => self.transmits.push_back(packet),
                SocketEvent::OnConnected() => self.connect_at = None,
                SocketEvent::OnIncomingStreamReset(streams) => self.handle_reset(&streams),
                // The peer forgot everything and began again with the same socket.
                SocketEvent::OnConnectionRestarted() | SocketEvent::OnClosed() => self.all_closed(),
                // The session goes on: whether the peer is there is for ICE to say.
                SocketEvent::OnAborted(..) => self.all_closed(),
                SocketEvent::OnLifecycleEnd(message) => self.handle_acknowledged(message.value()),
                SocketEvent::OnError(ErrorKind::ParseFailed | ErrorKind::ProtocolViolation, _) => {
                    understood = false;
                }
                _ => {}
            }
        }
        understood
    }

    fn handle_message(&mut self, Message { stream_id: StreamId(channel), ppid, payload }: Message) {
        if ppid.0 == CRUMB {
            return;
        }
        self.unfinished.remove(&channel);
        let is_open = self.channels.contains_key(&channel);
        let (data, binary) = match ppid {
            DCEP if is_open => return, // an ACK, or an OPEN said twice
            DCEP => return self.accept(channel, &payload),
            _ if !is_open || payload.len() > MAX_MESSAGE => return self.close_channel(channel),
            STRING => (payload.into(), false),
            BINARY => (payload.into(), true),
            STRING_EMPTY => (Bytes::new(), false),
            BINARY_EMPTY => (Bytes::new(), true),
            _ => return,
        };
        self.events.push_back(SctpEvent::Message { channel, data, binary });
    }

    /// A DATA_CHANNEL_OPEN, or what should be one.
    fn accept(&mut self, channel: u16, message: &[u8]) {
        let opened = (self.channels.len() < MAX_CHANNELS).then(|| Open::read(message)).flatten();
        let (Some(opened), Some(socket)) = (opened, &mut self.socket) else {
            return self.close_channel(channel);
        };
        let answer = Message::new(StreamId(channel), DCEP, dcep::ACK.to_vec());
        if socket.send(answer, &SendOptions::default()).is_err() {
            return self.close_channel(channel);
        }
        let Open { unordered, reliability, label } = opened;
        self.channels.insert(channel, Channel { unordered, reliability, waiting: 0 });
        self.events.push_back(SctpEvent::Open { channel, label });
    }

    /// The peer closed these channels; with none named, all (RFC 6525 section 4.1). Our half follows.
    fn handle_reset(&mut self, streams: &[StreamId]) {
        let named: Vec<u16> = match streams {
            [] => self.channels.keys().copied().collect(),
            streams => streams.iter().map(|stream| stream.0).collect(),
        };
        for channel in named {
            self.unfinished.remove(&channel);
            if self.channels.contains_key(&channel) {
                self.close_channel(channel);
            }
        }
    }

    /// A message has arrived, or is given up. Many that did so at once are told as one.
    fn handle_acknowledged(&mut self, message: u64) {
        let Some((on, bytes)) = self.unacknowledged.remove(&message) else { return };
        self.waiting -= bytes;
        let Some(known) = self.channels.get_mut(&on) else { return };
        // The channel may be another of the same number by now.
        known.waiting = known.waiting.saturating_sub(bytes);
        match self.events.back_mut() {
            Some(SctpEvent::Acknowledged { channel, bytes: told }) if *channel == on => *told += bytes,
            _ => self.events.push_back(SctpEvent::Acknowledged { channel: on, bytes }),
        }
    }

    fn close_channel(&mut self, channel: u16) {
        if let Some(socket) = &mut self.socket {
            // Fails when nothing is connected: then there is no channel either.
            let _ = socket.reset_streams(&[StreamId(channel)]);
        }
        if self.channels.remove(&channel).is_some() {
            self.events.push_back(SctpEvent::Closed { channel });
        }
    }

    fn all_closed(&mut self) {
        while let Some((channel, _)) = self.channels.pop_first() {
            self.events.push_back(SctpEvent::Closed { channel });
        }
        self.unfinished.clear();
        self.unacknowledged.clear();
        self.waiting = 0;
    }
}

impl Channel {
    fn options(&self) -> SendOptions {
        let (max_retransmissions, lifetime) = match self.reliability {
            Reliability::Full => (None, None),
            Reliability::Retransmissions(times) => (Some(times.min(u32::from(u16::MAX)) as u16), None),
            Reliability::Lifetime(ms) => (None, Some(Duration::from_millis(u64::from(ms)))),
        };
        SendOptions { unordered: self.unordered, lifetime, max_retransmissions, lifecycle_id: None }
    }
}

fn options() -> Options {
    Options {
        announced_maximum_incoming_streams: MAX_STREAMS,
        announced_maximum_outgoing_streams: MAX_STREAMS,
        max_message_size: MAX_MESSAGE,
        max_receiver_window_buffer_size: RECEIVE_BUFFER,
        max_send_buffer_size: 2 * MAX_WAITING_ALL,
        per_stream_send_queue_limit: 2 * MAX_WAITING,
        // Whether the peer is still there is for ICE to find out, for thousands of listeners at once.
        heartbeat_interval: Duration::ZERO,
        // DTLS has authenticated every octet: a checksum finds nothing more (RFC 9653 section 1).
        disable_checksum_verification: true,
        ..Options::default()
    }
}

/// How long a DTLS client waits for the peer to ask first: browsers always do.
pub(super) const CONNECT_DELAY: Duration = Duration::from_millis(300);

/// More than an overlong message needs before it is noticed.
const RECEIVE_BUFFER: usize = 1024 * 1024;
/// Chromium and Firefox never use more.
pub(super) const MAX_STREAMS: u16 = 1024;
const MAX_CHANNELS: usize = 64;
/// A message that has not ended by then is too long, even if all of it came twice.
const MAX_MESSAGE_BYTES: usize = 2 * MAX_MESSAGE;
/// Bytes of all messages that have not ended: the window, all of it twice.
const MAX_UNFINISHED: usize = 2 * RECEIVE_BUFFER;
/// Chunks of them: what a full window of small messages behind a lost one may be.
const MAX_UNFINISHED_CHUNKS: usize = 16_384;
/// Bytes not acknowledged on one channel: two messages of the greatest length.
const MAX_WAITING: usize = 2 * MAX_MESSAGE;
/// Bytes not acknowledged on all channels of a peer.
const MAX_WAITING_ALL: usize = 4 * MAX_MESSAGE;

// RFC 8831 section 8.
const DCEP: PpId = PpId(50);
const STRING: PpId = PpId(51);
const BINARY: PpId = PpId(53);
const STRING_EMPTY: PpId = PpId(56);
const BINARY_EMPTY: PpId = PpId(57);

#[cfg(test)]
#[path = "sctp_tests.rs"]
mod tests;
