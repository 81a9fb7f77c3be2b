//! Making connections: `--peer` addresses are dialed for ever, those the mesh chose once, others are
//! accepted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesh_routing::Underlay;
use protocol::{BridgeVersion, NodeId, ZoneName};
use quinn::{Connection, ConnectionError, Endpoint, Incoming};
use tokio::{net::lookup_host, time::timeout};

use super::{
    Run,
    admission::{self, MembershipUpdates, Shown},
    close::Close,
    handle::LinkShared,
    handshake::{self, HANDSHAKE, Streams},
    hello::Hello,
    link_table::{Claim, Path, Refused},
    misfits::Misfit,
    peer_address::Peer,
    stream::{StreamError, send_hello},
};
use crate::{
    bridge::{BridgeEvent, Shared, link, quic::tls},
    clock,
    membership::judge::MembershipError,
};

const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// A link that lived this long was a good one: the next dial follows at once.
const GOOD: Duration = Duration::from_secs(2);
/// How long a relay that was told that no version fits may take to hang up.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a dial made no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the name does not resolve: {0}")]
    Resolve(std::io::Error),
    #[error("the name has no address this relay's bridge socket can reach")]
    NoAddress,
    #[error("{0}")]
    Connect(#[from] quinn::ConnectError),
    #[error("{0}")]
    Connection(#[from] ConnectionError),
    #[error("no answer within {} s", HANDSHAKE.as_secs())]
    TimedOut,
    #[error("the neighbor showed no key")]
    NoKey,
    #[error("{refused}")]
    Refused { refused: Refused, node: NodeId, path: Path },
    #[error("another relay is there: {found}")]
    Another { found: NodeId },
    #[error("the relay there does not trust this one; start it with --trust {own}")]
    NotTrusted { own: NodeId },
    #[error("the relay there {0}")]
    Outsider(MembershipError),
    #[error("{0}")]
    Misfit(Misfit),
    #[error("{0}")]
    Stream(StreamError),
}

/// Keeps a link to `peer` for as long as the relay runs.
pub(crate) async fn keep(shared: Arc<Shared>, endpoint: Endpoint, peer: String) {
    let Some(Peer { address: peer, underlay }) = Peer::parse(&peer) else {
        tracing::error!("cannot bridge to {peer}: no HOST:PORT");
        return;
    };
    let mut back_off = BACK_OFF_MIN;
    let mut said = String::new();
    loop {
        if shared.is_second() {
            // Until the next start.
            return;
        }
        let link = match dial(&shared, &endpoint, &peer, underlay).await {
            Ok(link) => {
                shared.neighbors.configure(link.neighbor);
                Some(link)
            }
            Err(DialError::Refused { refused: Refused::Duplicate, node, path }) => {
                shared.neighbors.configure(node);
                shared.neighbors.link_to(&node, &path)
            }
            // Said already.
            Err(DialError::Misfit(_)) => None,
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    tracing::warn!("cannot bridge to {peer}: {error}; trying on");
                    said = error;
                }
                None
            }
        };
        if let Some(link) = link {
            said.clear();
            if timeout(GOOD, link.ended()).await.is_err() {
                link.ended().await;
                back_off = BACK_OFF_MIN;
                continue;
            }
        }
        tokio::time::sleep(back_off.mul_f32(rand::random_range(0.5..1.0))).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}

/// Makes a link to a relay that the mesh chose, if it is at one of these addresses.
pub(crate) async fn once(shared: Arc<Shared>, endpoint: Endpoint, node: NodeId, addresses: Vec<SocketAddr>) {
    if shared.is_second() {
        return;
    }
    let own_v6 = shared.local_addr.is_ipv6();
    for address in addresses.into_iter().filter(|address| own_v6 || address.is_ipv4()) {
        let sought = (Some(node), Underlay::default());
        match timeout(HANDSHAKE, dial_address(&shared, &endpoint, address, sought)).await {
            Ok(Ok(_)) | Ok(Err(DialError::Refused { .. } | DialError::Misfit(_))) => return,
            Ok(Err(error)) => tracing::debug!(%address, "no link to {}: {error}", node.short()),
            Err(_) => tracing::debug!(%address, "no link to {}: no answer", node.short()),
        }
    }
}

async fn dial(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    peer: &str,
    underlay: Underlay,
) -> Result<Arc<LinkShared>, DialError> {
    let own_v6 = shared.local_addr.is_ipv6();
    let addresses = lookup_host(peer).await.map_err(DialError::Resolve)?;
    let mut last = DialError::NoAddress;
    for address in addresses.filter(|address| own_v6 || address.is_ipv4()) {
        match timeout(HANDSHAKE, dial_address(shared, endpoint, address, (None, underlay))).await {
            Ok(Ok(link)) => return Ok(link),
            Ok(Err(error @ (DialError::Refused { .. } | DialError::Misfit(_)))) => return Err(error),
            Ok(Err(error)) => last = error,
            Err(_) => last = DialError::TimedOut,
        }
    }
    Err(last)
}

async fn dial_address(
    shared: &Arc<Shared>,
    endpoint: &Endpoint,
    address: SocketAddr,
    (sought, underlay): (Option<NodeId>, Underlay),
) -> Result<Arc<LinkShared>, DialError> {
    let connection = endpoint.connect(address, "relay")?.await?;
    let node = tls::neighbor_of(&connection).ok_or(DialError::NoKey)?;
    if sought.is_some_and(|sought| sought != node) {
        connection.close(Close::Itself.code(), b"another relay was sought here");
        return Err(DialError::Another { found: node });
    }
    let path = Path::of(&connection, underlay.kind);
    let claim = shared.neighbors.claim(node, path).map_err(|refused| {
        refuse(&connection, refused);
        DialError::Refused { refused, node, path }
    })?;
    let (own, news) = admission::hello(shared, underlay);
    match handshake::dialed(&connection, &own).await {
        Ok((hello, streams)) => {
            let shown = admission::admit(shared, &connection, node, &hello).map_err(DialError::Outsider)?;
            let version = agree(shared, node, &hello).map_err(|misfit| {
                refuse_misfit(shared, &connection, &misfit);
                DialError::Misfit(misfit)
            })?;
            let incarnation = hello.incarnation;
            let agreed = Agreed { node, incarnation, version, zone: hello.zone, underlay, path, shown, news };
            Ok(start(shared, connection, agreed, streams, Some(claim)))
        }
        Err(error) => Err(dial_error(shared, &connection, (node, path), error)),
    }
}

/// What a failed hello means: the neighbor's own words, if it gave any, are better than ours.
fn dial_error(
    shared: &Shared,
    connection: &Connection,
    (node, path): (NodeId, Path),
    error: StreamError,
) -> DialError {
    let Some(closed) = connection.close_reason() else {
        close_badly(connection, &error);
        return DialError::Stream(error);
    };
    if Close::Duplicate.is(&closed) {
        return DialError::Refused { refused: Refused::Duplicate, node, path };
    }
    match &closed {
        // RFC 9001 section 4.8: a TLS alert is a crypto error, 0x100 and the alert.
        ConnectionError::ConnectionClosed(close) if (0x100..0x200).contains(&u64::from(close.error_code)) => {
            DialError::NotTrusted { own: shared.own }
        }
        _ => DialError::Connection(closed),
    }
}

/// Takes a connection that another relay opened.
pub(crate) async fn accept(shared: Arc<Shared>, incoming: Incoming) {
    let remote = incoming.remote_address();
    match timeout(HANDSHAKE, accept_connection(&shared, incoming)).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => tracing::debug!("a connection from {remote} became no link: {reason}"),
        Err(_) => tracing::debug!("a connection from {remote} became no link: no hello in time"),
    }
}

async fn accept_connection(shared: &Arc<Shared>, incoming: Incoming) -> Result<(), String> {
    let connection = incoming.await.map_err(|error| error.to_string())?;
    let node = tls::neighbor_of(&connection).ok_or("the neighbor showed no key")?;
    let (hello, mut streams) = match handshake::accepted(&connection).await {
        Ok(accepted) => accepted,
        Err(error) => {
            close_badly(&connection, &error);
            return Err(error.to_string());
        }
    };
    let shown =
        admission::admit(shared, &connection, node, &hello).map_err(|outsider| outsider.to_string())?;
    let version = match agree(shared, node, &hello) {
        Ok(version) => version,
        Err(misfit) => {
            // Whoever reads this hello finds out the same, names the same relay in its log, and hangs up.
            let (own, _) = admission::hello(shared, Underlay::default());
            if send_hello(&mut streams[0].0, &own).await.is_ok() {
                let _ = timeout(FAREWELL, connection.closed()).await;
            }
            refuse_misfit(shared, &connection, &misfit);
            return Err(misfit.to_string());
        }
    };
    let path = Path::of(&connection, hello.underlay.kind);
    shared.neighbors.admit(node, &path, clock::now()).map_err(|refused| {
        refuse(&connection, refused);
        refused.to_string()
    })?;
    let (own, news) = admission::hello(shared, Underlay::default());
    send_hello(&mut streams[0].0, &own).await.map_err(|error| error.to_string())?;
    // The bias is that of the other operator, and the higher cost of the two counts anyway.
    let underlay = Underlay { bias: 0, ..hello.underlay };
    let incarnation = hello.incarnation;
    let agreed = Agreed { node, incarnation, version, zone: hello.zone, underlay, path, shown, news };
    start(shared, connection, agreed, streams, None);
    Ok(())
}

fn refuse(connection: &Connection, refused: Refused) {
    let why = match refused {
        Refused::Duplicate => Close::Duplicate,
        Refused::Itself => Close::Itself,
        Refused::Full => Close::Full,
    };
    connection.close(why.code(), refused.to_string().as_bytes());
}

fn close_badly(connection: &Connection, error: &StreamError) {
    connection.close(Close::Protocol.code(), error.to_string().as_bytes());
}

/// The version that both speak. Only of those that were let in: a stranger says what it likes.
fn agree(shared: &Shared, node: NodeId, hello: &Hello) -> Result<BridgeVersion, Misfit> {
    let (ours, theirs) = (shared.versions, hello.versions);
    ours.common(theirs).ok_or_else(|| Misfit { neighbor: node, zone: hello.zone.clone(), theirs, ours })
}

fn refuse_misfit(shared: &Shared, connection: &Connection, misfit: &Misfit) {
    connection.close(Close::Version.code(), misfit.to_other(shared.own).as_bytes());
    if shared.misfits.names(misfit) {
        tracing::warn!("no bridge: {misfit}");
    }
    // It is dialed again, so one that finds no room is told of later.
    let _ = shared.events.try_send(BridgeEvent::Misfit(misfit.clone()));
}

/// What both hellos came to.
struct Agreed {
    node: NodeId,
    incarnation: Option<u64>,
    version: BridgeVersion,
    zone: ZoneName,
    underlay: Underlay,
    path: Path,
    shown: Shown,
    news: MembershipUpdates,
}

/// Both sides said hello: the link is up.
fn start(
    shared: &Arc<Shared>,
    connection: Connection,
    Agreed { node, incarnation, version, zone, underlay, path, shown, news }: Agreed,
    streams: Streams,
    claim: Option<Claim>,
) -> Arc<LinkShared> {
    let remote = connection.remote_address();
    shared.neighbors.meet(remote);
    shared.misfits.forget(&node);
    let id = shared.neighbors.next_id();
    let (link, outboxes) =
        LinkShared::new(id, (node, incarnation, version), shown, connection, shared.counters.clone());
    let replaced = shared.neighbors.insert(link.clone(), path, claim.is_some().then(clock::now));
    drop(claim);
    let run = Run {
        link: link.clone(),
        outboxes,
        streams,
        zone,
        underlay,
        remote,
        news,
        forwarding: shared.forwarding.clone(),
        local: shared.local.clone(),
        events: shared.events.clone(),
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        if let Some(old) = replaced {
            // The old link says Down before the new one says Up.
            old.close(Close::Duplicate, "a newer connection took its place");
            old.ended().await;
        }
        let link = run.link.clone();
        link::run(run).await;
        shared.neighbors.remove(&link);
    });
    link
}
