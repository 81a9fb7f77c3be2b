//! Data channels over one DTLS association (RFC 8831, RFC 8832): rtc-sctp with bounds around it. Owns the
//! association and its channels; encryption, and what a message means, belong to others.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc_datachannel::data_channel::{DataChannel, DataChannelConfig};
use rtc_sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppi, ServerConfig, StreamEvent, TransportConfig,
};
use rtc_shared::TransportProtocol;
use sansio::Protocol;

/// The data channels of one peer.
pub(super) struct Sctp {
    endpoint: Endpoint,
    /// Until one is connected, every association that the peer may believe in: when our INIT ACK is lost,
    /// its repeated INIT makes a second one here, and any of them may be the one it goes on with.
    associations: Vec<(AssociationHandle, Association)>,
    offers_left: u8,
    connected: bool,
    /// When we ask for an association ourselves, should the peer not have done so.
    connect_at: Option<Instant>,
    channels: BTreeMap<u16, Channel>,
    /// The receive window that we last announced.
    window: u32,
    /// Bytes that came although the window was closed.
    over_window: usize,
    events: VecDeque<SctpEvent>,
    refused: u64,
}

/// What the channels have to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SctpEvent {
    /// The peer opened a channel.
    Open { channel: u16, label: String },
    /// A message came.
    Message { channel: u16, data: Bytes, binary: bool },
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

#[derive(Default)]
struct Channel {
    /// Bytes of a message that is still incomplete.
    partial: usize,
}

impl Sctp {
    /// `connect_at`: when to ask for the association, if the peer has not by then. None leaves it to the peer.
    pub(super) fn new(connect_at: Option<Instant>) -> Sctp {
        Sctp {
            endpoint: Endpoint::new(
                PEER,
                TransportProtocol::UDP,
                Arc::new(EndpointConfig::default()),
                Some(Arc::new(ServerConfig::new(transport_config()))),
            ),
            associations: Vec::new(),
            offers_left: MAX_OFFERS,
            connected: false,
            connect_at,
            channels: BTreeMap::new(),
            window: RECEIVE_BUFFER,
            over_window: 0,
            events: VecDeque::new(),
            refused: 0,
        }
    }

    /// An SCTP packet.
    pub(super) fn handle_packet(&mut self, packet: Bytes, now: Instant) {
        if data_chunks(&packet).any(|(channel, ..)| channel >= MAX_STREAMS) {
            return; // not what was negotiated, and each would make a stream here
        }
        if self.window == 0 {
            // rtc-sctp takes chunks beyond its window while nothing is readable; a sender that obeys the
            // window probes with a few, one that does not would fill the memory.
            self.over_window += data_chunks(&packet).map(|(_, _, length)| length).sum::<usize>();
            if self.over_window > MAX_OVER_WINDOW {
                return self.stop();
            }
        }
        let overlong = self.overlong_channels(&packet);
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => self.offer(handle, association),
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = self.associations.iter_mut().find(|(h, _)| *h == handle) {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
        self.work(now);
        for channel in overlong {
            self.close_channel(channel, now);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.connect_at.is_some_and(|at| at <= now) {
            self.connect_at = None;
            if self.associations.is_empty()
                && let Ok(ours) = self.endpoint.connect(now, ClientConfig::new(transport_config()), PEER)
            {
                self.associations.push(ours);
            }
        }
        for (_, association) in &mut self.associations {
            if association.poll_timeout().is_some_and(|at| at <= now) {
                association.handle_timeout(now);
            }
        }
        self.work(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.associations
            .iter()
            .filter_map(|(_, association)| association.poll_timeout())
            .chain(self.connect_at)
            .min()
    }

    pub(super) fn poll_event(&mut self) -> Option<SctpEvent> {
        self.events.pop_front()
    }

    /// The SCTP packets to be sent now.
    pub(super) fn poll_transmit(&mut self, now: Instant) -> Option<Vec<Bytes>> {
        let packets = self.associations.iter_mut().find_map(|(_, association)| {
            association.poll_transmit(now).and_then(|transmit| match transmit.message {
                Payload::RawEncode(packets) => Some(packets),
                _ => None,
            })
        })?;
        if let Some(window) = packets.iter().filter_map(|packet| announced_window(packet)).last() {
            self.window = window;
            if window > 0 {
                self.over_window = 0;
            }
        }
        Some(packets)
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
        if !self.channels.contains_key(&channel) {
            return Err(ChannelError::NotOpen);
        }
        let (here, all) = self.waiting(channel);
        if here + data.len() > MAX_WAITING || all + data.len() > MAX_WAITING_ALL {
            self.refused += 1;
            return Err(ChannelError::Full);
        }
        // SCTP has no empty messages: one zero byte and a type of its own stand for them (RFC 8831, 6.6).
        let (data, ppi) = match (data.is_empty(), binary) {
            (true, true) => (&[0][..], Ppi::BinaryEmpty),
            (true, false) => (&[0][..], Ppi::StringEmpty),
            (false, true) => (data, Ppi::Binary),
            (false, false) => (data, Ppi::String),
        };
        let stream = self.association().and_then(|association| association.stream(channel).ok());
        stream
            .and_then(|mut stream| stream.write_with_ppi(now, data, ppi).ok())
            .map(|_| ())
            .ok_or(ChannelError::NotOpen)
    }

    /// Messages that found a full buffer.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Nothing can be sent any more: all channels are gone, and so are the timers.
    pub(super) fn stop(&mut self) {
        self.associations.clear();
        self.connect_at = None;
        self.offers_left = 0;
        while let Some((channel, _)) = self.channels.pop_first() {
            self.events.push_back(SctpEvent::Closed { channel });
        }
    }

    fn offer(&mut self, handle: AssociationHandle, association: Association) {
        if self.connected || self.offers_left == 0 {
            self.endpoint.reject_new_associations();
            return;
        }
        self.offers_left -= 1;
        if self.associations.len() >= MAX_ASSOCIATIONS {
            self.associations.remove(0);
        }
        self.associations.push((handle, association));
    }

    /// Takes what the associations have to say.
    fn work(&mut self, now: Instant) {
        let mut readable = Vec::new();
        let mut lost = Vec::new();
        let mut chosen = None;
        for (index, (handle, association)) in self.associations.iter_mut().enumerate() {
            while let Some(event) = association.poll() {
                match event {
                    Event::Connected => chosen = Some(index),
                    Event::Stream(StreamEvent::Readable { id }) => readable.push(id),
                    Event::AssociationLost { id, .. } => lost.push(id),
                    _ => {}
                }
            }
            while let Some(event) = association.poll_endpoint_event() {
                self.endpoint.handle_event(*handle, event);
            }
        }
        if let Some(index) = chosen
            && !self.connected
        {
            self.connected = true;
            self.connect_at = None;
            self.associations.swap(0, index);
            self.associations.truncate(1);
            self.endpoint.reject_new_associations();
        }
        for channel in readable {
            self.read(channel, now);
        }
        for channel in lost {
            if self.channels.remove(&channel).is_some() {
                self.events.push_back(SctpEvent::Closed { channel });
            }
        }
    }

    fn read(&mut self, channel: u16, now: Instant) {
        loop {
            let Some(mut stream) = self.association().and_then(|a| a.stream(channel).ok()) else { return };
            let Ok(Some(message)) = stream.read_sctp() else { return };
            let ppi = message.ppi;
            match message.to_payload(MAX_MESSAGE) {
                Ok(payload) => self.handle_message(channel, ppi, payload.freeze(), now),
                Err(_) => self.close_channel(channel, now),
            }
        }
    }

    fn handle_message(&mut self, channel: u16, ppi: Ppi, data: Bytes, now: Instant) {
        let is_open = self.channels.contains_key(&channel);
        let (data, binary) = match ppi {
            Ppi::Dcep if is_open => return, // an ACK, or an OPEN said twice
            Ppi::Dcep => return self.accept(channel, &data, now),
            _ if !is_open => return self.close_channel(channel, now),
            Ppi::String => (data, false),
            Ppi::Binary => (data, true),
            Ppi::StringEmpty => (Bytes::new(), false),
            Ppi::BinaryEmpty => (Bytes::new(), true),
            _ => return,
        };
        self.events.push_back(SctpEvent::Message { channel, data, binary });
    }

    /// A DATA_CHANNEL_OPEN (RFC 8832 section 5.1).
    fn accept(&mut self, channel: u16, open: &[u8], now: Instant) {
        let opened = (self.channels.len() < MAX_CHANNELS)
            .then(|| DataChannel::accept(DataChannelConfig::default(), 0, channel, Ppi::Dcep, open).ok())
            .flatten()
            .filter(|opened| opened.config().label.len() <= MAX_LABEL);
        let Some(mut opened) = opened else { return self.close_channel(channel, now) };
        let config = opened.config().clone();
        let Some(mut stream) = self.association().and_then(|a| a.stream(channel).ok()) else { return };
        let (unordered, reliability) = DataChannel::get_reliability_params(config.channel_type);
        let mut accepted =
            stream.set_reliability_params(unordered, reliability, config.reliability_parameter).is_ok();
        while let Some(answer) = opened.poll_write() {
            accepted &= stream.write_with_ppi(now, &answer.payload, answer.ppi).is_ok();
        }
        if accepted {
            self.channels.insert(channel, Channel::default());
            self.events.push_back(SctpEvent::Open { channel, label: config.label });
        }
    }

    fn close_channel(&mut self, channel: u16, now: Instant) {
        if let Some(mut stream) = self.association().and_then(|a| a.stream(channel).ok()) {
            // Fails when it is closed already.
            let _ = stream.close(now);
        }
        if self.channels.remove(&channel).is_some() {
            self.events.push_back(SctpEvent::Closed { channel });
        }
    }

    /// Channels on which a message grows past all bounds without an end: it would fill the receive window
    /// for good and stop the other channels too. Repeats are counted twice, hence the margin.
    fn overlong_channels(&mut self, packet: &[u8]) -> Vec<u16> {
        let mut overlong = Vec::new();
        for (channel, is_end, length) in data_chunks(packet) {
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            state.partial = if is_end { 0 } else { state.partial + length };
            if state.partial > 2 * MAX_MESSAGE {
                state.partial = 0;
                overlong.push(channel);
            }
        }
        overlong
    }

    /// Bytes not yet acknowledged: on this channel, on all.
    fn waiting(&mut self, channel: u16) -> (usize, usize) {
        let Some((_, association)) = self.associations.first_mut() else { return (0, 0) };
        self.channels.keys().fold((0, 0), |(here, all), id| {
            let waiting = association.stream(*id).and_then(|stream| stream.buffered_amount()).unwrap_or(0);
            (if *id == channel { waiting } else { here }, all + waiting)
        })
    }

    /// The one that is connected.
    fn association(&mut self) -> Option<&mut Association> {
        self.associations.first_mut().filter(|_| self.connected).map(|(_, association)| association)
    }
}

/// The DATA chunks of a packet: stream, whether a message ends, length (RFC 9260 section 3.3.1).
fn data_chunks(packet: &[u8]) -> impl Iterator<Item = (u16, bool, usize)> + '_ {
    chunks(packet).filter(|chunk| chunk[0] == DATA && chunk.len() >= DATA_HEADER).map(|chunk| {
        let stream = u16::from_be_bytes([chunk[8], chunk[9]]);
        (stream, chunk[1] & ENDING != 0, chunk.len() - DATA_HEADER)
    })
}

/// The receive window that a packet of ours announces (RFC 9260 section 3.3.4).
fn announced_window(packet: &[u8]) -> Option<u32> {
    chunks(packet)
        .filter(|chunk| chunk[0] == SACK && chunk.len() >= 12)
        .map(|chunk| u32::from_be_bytes([chunk[8], chunk[9], chunk[10], chunk[11]]))
        .last()
}

/// The chunks of a packet, each with its header of four bytes.
fn chunks(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = packet.get(COMMON_HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let chunk = rest.get(..length).filter(|chunk| chunk.len() >= 4)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(chunk)
    })
}

fn transport_config() -> TransportConfig {
    TransportConfig::default()
        .with_sctp_port(5000)
        .with_max_message_size(MAX_MESSAGE as u32)
        .with_max_receive_buffer_size(RECEIVE_BUFFER)
        .with_max_num_inbound_streams(MAX_STREAMS)
        .with_max_num_outbound_streams(MAX_STREAMS)
}

/// How long a DTLS client waits for the peer to ask first: browsers always do.
pub(super) const CONNECT_DELAY: Duration = Duration::from_millis(300);

/// More than an overlong message needs before it is noticed.
const RECEIVE_BUFFER: u32 = 1024 * 1024;
/// Chromium and Firefox never use more.
const MAX_STREAMS: u16 = 1024;
/// What may come although the window is closed.
const MAX_OVER_WINDOW: usize = 1024 * 1024;
const MAX_CHANNELS: usize = 64;
const MAX_LABEL: usize = 256;
const MAX_ASSOCIATIONS: usize = 8;
const MAX_OFFERS: u8 = 64;
/// Bytes unsent on one channel: two messages of the greatest length.
const MAX_WAITING: usize = 2 * MAX_MESSAGE;
/// Bytes unsent on all channels of a peer.
const MAX_WAITING_ALL: usize = 4 * MAX_MESSAGE;

const COMMON_HEADER: usize = 12;
const DATA: u8 = 0;
const SACK: u8 = 3;
const DATA_HEADER: usize = 16;
const ENDING: u8 = 1;
/// rtc-sctp tells associations apart by address; ours has one peer, wherever it moves.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 9));

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A peer that writes its own DATA chunks, whatever the window says.
    struct Rogue {
        tag: [u8; 4],
        tsn: u32,
    }

    impl Rogue {
        /// Connects to `sctp` by means of a well-behaved association.
        fn connect(sctp: &mut Sctp, now: Instant) -> Rogue {
            let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Default::default(), None);
            let config = ClientConfig::new(transport_config());
            let (_, mut peer) = endpoint.connect(now, config, PEER).unwrap();
            let mut rogue = Rogue { tag: [0; 4], tsn: 0 };
            for _ in 0..10 {
                while let Some(transmit) = peer.poll_transmit(now) {
                    let Payload::RawEncode(packets) = transmit.message else { panic!() };
                    for packet in packets {
                        if let Some(init) = chunks(&packet).find(|chunk| chunk[0] == 1) {
                            rogue.tsn = u32::from_be_bytes(init[16..20].try_into().unwrap());
                        }
                        rogue.tag.copy_from_slice(&packet[4..8]);
                        sctp.handle_packet(packet, now);
                    }
                }
                while let Some(packets) = sctp.poll_transmit(now) {
                    for packet in packets {
                        if let Some((_, DatagramEvent::AssociationEvent(event))) =
                            endpoint.handle(now, PEER, None, packet)
                        {
                            peer.handle_event(event);
                        }
                    }
                }
            }
            assert!(sctp.connected);
            rogue
        }

        fn data(&mut self, stream: u16, flags: u8, number: u16, length: u16) -> Bytes {
            let mut packet = vec![0x13, 0x88, 0x13, 0x88];
            packet.extend(self.tag);
            packet.extend([0; 4]);
            packet.extend([DATA, flags]);
            packet.extend((16 + length).to_be_bytes());
            packet.extend(self.tsn.to_be_bytes());
            packet.extend(stream.to_be_bytes());
            packet.extend(number.to_be_bytes());
            packet.extend(53u32.to_be_bytes());
            packet.resize(packet.len() + usize::from(length), 7);
            let crc = crc32c(&packet).to_le_bytes();
            packet[8..12].copy_from_slice(&crc);
            self.tsn = self.tsn.wrapping_add(1);
            packet.into()
        }
    }

    fn crc32c(data: &[u8]) -> u32 {
        !data.iter().fold(!0u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 }
            })
        })
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
    fn a_peer_that_ignores_the_window_is_cut_off() {
        // An endless message, and messages behind one that never comes: neither ever becomes readable.
        type Next = fn(&mut Rogue, u16) -> Bytes;
        let endless: Next = |rogue, n| rogue.data(7, if n == 0 { 2 } else { 0 }, 0, 1000);
        let out_of_order: Next = |rogue, n| rogue.data(7, 3, 1 + n, 1000);
        for next in [endless, out_of_order] {
            let now = Instant::now();
            let mut sctp = Sctp::new(None);
            let mut rogue = Rogue::connect(&mut sctp, now);
            let mut taken = 0;
            while !sctp.associations.is_empty() {
                sctp.handle_packet(next(&mut rogue, taken), now);
                while sctp.poll_transmit(now).is_some() {}
                taken += 1;
                assert!(taken < 5000, "{taken} KB and no end");
            }
            assert!(taken > 1000, "cut off within its window after {taken} KB");
            assert_eq!(sctp.poll_timeout(), None);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
    fn streams_that_were_not_negotiated_make_nothing() {
        let now = Instant::now();
        let mut sctp = Sctp::new(None);
        let mut rogue = Rogue::connect(&mut sctp, now);
        for stream in MAX_STREAMS..u16::MAX {
            let packet = rogue.data(stream, 2, 0, 10);
            sctp.handle_packet(packet, now);
        }
        assert!(sctp.associations[0].1.stream_ids().is_empty());
    }

    proptest! {
        #[test]
        fn junk_chunks_never_panic(packet in proptest::collection::vec(any::<u8>(), 0..200)) {
            assert!(data_chunks(&packet).count() <= packet.len());
            announced_window(&packet);
        }
    }
}
