//! How quinn is set up for media over thin links: sizes, timers, windows, and why.

use std::{io, net::SocketAddr, net::UdpSocket, sync::Arc, time::Duration};

use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};

use super::congestion::DelayConfig;
use crate::bridge::{Identity, link::stream::Group};

/// The payload of the first UDP datagrams of a connection. A media datagram may have
/// `max_datagram_size` bytes, 46 less than this: 1304, enough for a 1200-byte RTP packet with header
/// extensions. 1350 fits Ethernet, Wi-Fi, LTE and a VPN over each; discovery goes up to 1452 from here.
const INITIAL_MTU: u16 = 1350;
/// What remains when packets of that size vanish. 1254 still carries a 1200-byte RTP packet with the
/// five bytes of the media header, on any path with an MTU of 1302 or more.
const MIN_MTU: u16 = 1254;
/// quinn drops the oldest datagram whatever its class, so what waits, waits in ours: how much quinn gets at most, `SendBudget`
/// says.
pub(crate) const DATAGRAM_SEND_BUFFER: usize = 32 * 1024;
/// 40 ms at 100 Mbit/s before a stalled reader loses packets.
const DATAGRAM_RECEIVE_BUFFER: usize = 512 * 1024;
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// One configuration for dialing and being dialed.
pub(crate) fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(Group::ALL.len() as u32))
        // Revocations and key rotations, one set after the other.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        // Two of the largest frames per stream, and all three streams at once.
        .stream_receive_window(VarInt::from_u32(512 * 1024))
        .receive_window(VarInt::from_u32(1536 * 1024))
        .send_window(1024 * 1024)
        .initial_mtu(INITIAL_MTU)
        .min_mtu(MIN_MTU)
        .mtu_discovery_config(Some(mtu_discovery()))
        .ack_frequency_config(Some(ack_frequency()))
        .initial_rtt(Duration::from_millis(100))
        .keep_alive_interval(Some(Duration::from_secs(1)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(10_000))))
        .datagram_send_buffer_size(DATAGRAM_SEND_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BUFFER))
        .congestion_controller_factory(Arc::new(DelayConfig { initial_window: INITIAL_WINDOW }))
        .enable_segmentation_offload(true);
    transport
}

/// Media is paced by its source and does not probe: the window only has to be out of its way, and to close when
/// the path is full so that what waits is in our queues, in class order. Cubic fills a modem's buffer first, and
/// closes at a radio's loss. The first window carries 100 Mbit/s over 20 ms, because a stream joins at its full
/// rate.
const INITIAL_WINDOW: u64 = 256 * 1024;

fn mtu_discovery() -> MtuDiscoveryConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.black_hole_cooldown(Duration::from_secs(10));
    discovery
}

/// An acknowledgement for every 32 packets or 10 ms instead of every second packet: few returning packets, which on a
/// half-duplex radio cost airtime, and each of which wakes both ends. Below 30 Mbit/s it is the 10 ms that count.
fn ack_frequency() -> AckFrequencyConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(31)).max_ack_delay(Some(Duration::from_millis(10)));
    acks
}

/// The endpoint's own settings: resets that survive a restart of this relay. For that it has to know
/// the connection ids of its former life as its own, or it would not even answer with a reset.
pub(crate) fn endpoint(identity: &Identity) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(identity.reset_key()));
    let key = identity.connection_id_key();
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    config
}

/// The one UDP socket of all bridges. IPv6 sockets take IPv4 too.
pub(crate) fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // The kernel may cap both; a bridge works with less, so that is no reason to stop.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&listen.into())?;
    Ok(socket.into())
}
