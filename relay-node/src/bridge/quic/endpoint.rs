//! What a bridge is made of, for who connects to a relay for something else: an endpoint whose other side
//! proves its key, whoever it is, and frames on a stream.

use std::{io, net::SocketAddr, sync::Arc};

use quinn::{AsyncUdpSocket, Endpoint, TokioRuntime};

use super::{socket::Socket, tls, transport};
use crate::bridge::{Identity, Trust};

pub(crate) use super::tls::neighbor_of;
pub(crate) use crate::bridge::link::stream::{Frames, StreamError, read_frame, write_frame};

/// Dials and is dialed with the relay's key; `alpn` keeps it apart from bridges.
pub(crate) fn endpoint(identity: &Identity, alpn: &'static [u8], listen: SocketAddr) -> io::Result<Endpoint> {
    let socket = Arc::new(Socket::new(transport::bind(listen)?)?);
    on_socket(identity, (Trust::Anyone, alpn), socket, 2)
}

/// The endpoint over a socket, for so many connections that are not yet accepted.
pub(crate) fn on_socket(
    identity: &Identity,
    (trust, alpn): (Trust, &'static [u8]),
    socket: Arc<dyn AsyncUdpSocket>,
    incoming_max: usize,
) -> io::Result<Endpoint> {
    let (client, server) = tls::configs(identity, trust, alpn).map_err(io::Error::other)?;
    let transport = Arc::new(transport::transport());
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport.clone());
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport).max_incoming(incoming_max);
    let config = transport::endpoint(identity);
    let mut endpoint =
        Endpoint::new_with_abstract_socket(config, Some(server), socket, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}
