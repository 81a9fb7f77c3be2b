//! Bridges: one QUIC connection per neighbor. Media crosses them as datagrams in class order, from one
//! link to the next through a table and never through the node loop; messages cross as streams.
//! What is forwarded where, and what messages mean, others decide.
//!
//! All of it runs on one thread of its own: a packet that is forwarded wakes no other thread, and
//! nothing else that the relay does makes it wait.

#[doc(hidden)]
pub mod bench;
pub(crate) mod forwarding;
pub(crate) mod link;
pub mod mdns;
#[cfg(feature = "next")]
pub(crate) mod next;
#[doc(hidden)]
pub mod outside;
pub(crate) mod quic;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use protocol::{BridgeVersion, BridgeVersions, NodeId, ZoneName};
use quinn::{AsyncUdpSocket, Endpoint};
use tokio::sync::{mpsc, oneshot};

pub use forwarding::table::{Child, Forwarding, LocalDelivery, Route, Table};
pub use link::handle::LinkSender;
pub use link::misfits::Misfit;
pub use link::stream::MESSAGE_MAX;
pub use mesh_routing::LinkId;
use mesh_routing::{Heard, Underlay};
pub use quic::node_key::{Identity, IdentityError};
pub use quic::tls::Trust;

use crate::{
    clock,
    drop_reason::DropReason,
    places::{
        Places,
        shares::{GivesWay, Policy},
    },
    vitals::{BEAT, Pulse},
};
use link::{admission, close::Close, dial, link_table::Neighbors, misfits::Misfits};
use quic::{endpoint, measure::Counters, socket::Socket, tls, transport};

/// Connections that are not yet links. Above half of it strangers must prove their address first.
const HANDSHAKES_MAX: usize = 64;
/// As many more for the addresses of relays that have been neighbors: strangers never keep those out.
const HANDSHAKES_OF_KNOWN_MAX: usize = 64;
/// A handshake takes a few round trips: where places run short, the one that got no further for longest gives
/// way, also to its own address.
const HANDSHAKE_POLICY: Policy =
    Policy { gives_way: GivesWay::Stalest, patience: Duration::from_millis(250) };
/// Dials that wait for the bridge thread.
const DIALS_MAX: usize = 16;
/// How long the neighbors' acknowledgement of our goodbye is waited for.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the bridges need to know.
#[derive(Debug, Clone)]
pub struct BridgeConfig {
    /// Where other relays reach this one.
    pub listen: SocketAddr,
    /// Relays to dial, as [`link::peer_address::Peer`] reads them.
    pub peers: Vec<String>,
    /// This relay's key.
    pub identity: Arc<Identity>,
    /// The zone it serves.
    pub zone: ZoneName,
    /// Who may be a neighbor.
    pub trust: Trust,
    /// The bridge versions it speaks: those of [`spoken`], unless for a test.
    pub versions: BridgeVersions,
}

/// What this build speaks.
#[cfg(not(feature = "next"))]
pub const SPOKEN: BridgeVersions = BridgeVersions::SPOKEN;
/// What this build speaks: one version more, for tests.
#[cfg(feature = "next")]
pub const SPOKEN: BridgeVersions = mesh_routing::next::VERSIONS;

/// What this relay speaks: a relay of the tests can be told to speak one version alone.
pub fn spoken() -> BridgeVersions {
    #[cfg(feature = "next")]
    if let Some(alone) = std::env::var("PEDDLENET_NEXT_ALONE").ok().and_then(|version| version.parse().ok())
        && let Some(alone) = BridgeVersions::new(BridgeVersion(alone), BridgeVersion(alone))
    {
        return alone;
    }
    SPOKEN
}

/// What happens on the links. Of one link: `Up` first, `Down` last; of one neighbor: the `Down` of an
/// old link before the `Up` of a new one.
#[derive(Debug)]
pub enum BridgeEvent {
    /// A neighbor is there.
    Up {
        /// The link's number.
        link: LinkId,
        /// The relay at the other end, proven by its key.
        neighbor: NodeId,
        /// Which run of it, if it says so.
        incarnation: Option<u64>,
        /// The zone it says it serves.
        zone: ZoneName,
        /// Its address.
        remote: SocketAddr,
        /// What the link runs over, as the operator of who dialed says.
        underlay: Underlay,
        /// The bridge version that both ends use.
        version: BridgeVersion,
        /// How to send over the link.
        sender: LinkSender,
    },
    /// A relay that would be a neighbor speaks no bridge version that this one speaks. No link comes of it.
    Misfit(Misfit),
    /// A neighbor refuses this relay: another one with its key was there before.
    Second {
        /// Who says so.
        by: NodeId,
        /// Its zone.
        zone: ZoneName,
    },
    /// The link is gone.
    Down {
        /// The link's number.
        link: LinkId,
        /// Why, for people.
        reason: String,
    },
    /// A message came.
    Message {
        /// The link it came over.
        link: LinkId,
        /// At most [`MESSAGE_MAX`] bytes.
        message: Bytes,
    },
    /// What the link is like, every 250 ms.
    Measured {
        /// The link's number.
        link: LinkId,
        /// The smoothed round trip.
        rtt: Duration,
        /// The share of packets sent that were lost, 0 to 1, over 2 s.
        loss: f32,
        /// Bits per second it is thought to carry, if there is a thought.
        capacity: Option<u64>,
        /// What sound and what pictures came so far, and what was lost.
        heard: [Heard; 2],
    },
}

/// The running bridges. Dropping it stops them.
pub struct Bridges {
    local_addr: SocketAddr,
    neighbors: Arc<Neighbors>,
    shared: Arc<Shared>,
    dials: mpsc::Sender<Dial>,
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// A relay to look for, and where.
type Dial = (NodeId, Vec<SocketAddr>);

/// What the tasks of the bridges share.
pub(crate) struct Shared {
    own: NodeId,
    zone: ZoneName,
    trust: Trust,
    versions: BridgeVersions,
    /// Which run of this relay it is.
    incarnation: u64,
    /// Another relay with this key was in the mesh before.
    second: AtomicBool,
    local_addr: SocketAddr,
    neighbors: Arc<Neighbors>,
    misfits: Misfits,
    counters: Arc<Counters>,
    forwarding: Arc<Forwarding>,
    local: LocalDelivery,
    events: mpsc::Sender<BridgeEvent>,
}

impl Shared {
    fn is_second(&self) -> bool {
        self.second.load(Ordering::Relaxed)
    }
}

impl Bridges {
    /// Binds the socket and starts dialing and accepting; the thread beats `pulse`. Install the metrics
    /// recorder before.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, the thread or its runtime cannot start, or TLS does not take the
    /// identity.
    pub async fn start(
        config: BridgeConfig,
        forwarding: Arc<Forwarding>,
        local: LocalDelivery,
        events: mpsc::Sender<BridgeEvent>,
        mut pulse: Pulse,
    ) -> io::Result<Bridges> {
        let socket = transport::bind(config.listen)?;
        let (bridges, serving, done) =
            Bridges::prepare(config, socket.local_addr()?, (forwarding, local, events));
        let (started, result) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("bridge".to_owned()).spawn(move || {
            runtime.block_on(async move {
                match Socket::new(socket).and_then(|socket| serving.endpoint(Arc::new(socket))) {
                    Ok(endpoint) => {
                        let _ = started.send(Ok(()));
                        pulse.begin(clock::now());
                        if serving.serve(endpoint, &pulse).await {
                            pulse.finish();
                        }
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
            drop(runtime);
            drop(done);
        })?;
        result.await.map_err(|_| io::Error::other("the bridge thread died"))??;
        Ok(bridges)
    }

    /// As [`Bridges::start`], on the runtime of the caller and over a socket that need not be one of the system.
    #[cfg(test)]
    pub(crate) fn start_on(
        socket: Arc<dyn AsyncUdpSocket>,
        config: BridgeConfig,
        outside: (Arc<Forwarding>, LocalDelivery, mpsc::Sender<BridgeEvent>),
    ) -> io::Result<Bridges> {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static RELAYS: AtomicU32 = AtomicU32::new(1);
        let (bridges, serving, done) = Bridges::prepare(config, socket.local_addr()?, outside);
        let number = RELAYS.fetch_add(1, Relaxed);
        bridges.neighbors.number_after(number * forwarding::switch::LINKS_OF_A_RELAY);
        let endpoint = serving.endpoint(socket)?;
        tokio::spawn(async move {
            serving.serve(endpoint, &Pulse::unwatched()).await;
            drop(done);
        });
        Ok(bridges)
    }

    /// The bridges, what serves them, and what is dropped when that has ended.
    fn prepare(
        config: BridgeConfig,
        local_addr: SocketAddr,
        (forwarding, local, events): (Arc<Forwarding>, LocalDelivery, mpsc::Sender<BridgeEvent>),
    ) -> (Bridges, Serving, oneshot::Sender<()>) {
        let own = config.identity.node_id();
        let neighbors = Neighbors::new(own);
        let shared = Arc::new(Shared {
            own,
            zone: config.zone,
            trust: config.trust,
            versions: config.versions,
            incarnation: rand::random(),
            second: AtomicBool::new(false),
            misfits: Misfits::default(),
            local_addr,
            neighbors: neighbors.clone(),
            counters: Arc::new(Counters::new()),
            forwarding,
            local,
            events,
        });
        let (stop, stopping) = oneshot::channel();
        let (dials, to_dial) = mpsc::channel(DIALS_MAX);
        let (done, stopped) = oneshot::channel();
        let bridges = Bridges { local_addr, neighbors, shared: shared.clone(), dials, stop, stopped };
        let serving = Serving { shared, identity: config.identity, peers: config.peers, to_dial, stopping };
        (bridges, serving, done)
    }

    /// The address of the socket, with the port the system chose if it was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Makes a link to this relay and no other, if it is at one of these addresses. Tried once; too many at
    /// a time are not tried at all.
    pub fn dial(&self, node: NodeId, addresses: Vec<SocketAddr>) {
        let _ = self.dials.try_send((node, addresses));
    }

    /// Whether the operator wants a link to this neighbor.
    pub fn configured(&self, node: &NodeId) -> bool {
        self.neighbors.configured(node)
    }

    /// Closes a link; its `Down` follows. A configured peer is dialed again.
    pub fn close_link(&self, link: LinkId, reason: &str) {
        if let Some(link) = self.neighbors.link(link) {
            link.close(Close::Asked, reason);
        }
    }

    /// Which run of this relay it is: drawn at random, and said to every neighbor.
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// Closes the link of a second relay with a key that another one has, which learns of it.
    pub fn refuse_second(&self, link: LinkId) {
        if let Some(link) = self.neighbors.link(link) {
            link.close(
                Close::Twin,
                "another relay with the key of this one is in the mesh: relay-node id --new",
            );
        }
    }

    /// Another relay with this key was in the mesh before: no relay is dialed and none is let in until the next start.
    pub fn stay_out(&self) {
        self.shared.second.store(true, Ordering::Relaxed);
    }

    /// Says goodbye to the neighbors and stops the thread.
    pub async fn shutdown(self) {
        let _ = self.stop.send(());
        let _ = self.stopped.await;
    }
}

/// What the thread of the bridges does.
struct Serving {
    shared: Arc<Shared>,
    identity: Arc<Identity>,
    peers: Vec<String>,
    to_dial: mpsc::Receiver<Dial>,
    stopping: oneshot::Receiver<()>,
}

impl Serving {
    fn endpoint(&self, socket: Arc<dyn AsyncUdpSocket>) -> io::Result<Endpoint> {
        let trust = (self.shared.trust.clone(), tls::ALPN);
        endpoint::on_socket(&self.identity, trust, socket, 2 * (HANDSHAKES_MAX + HANDSHAKES_OF_KNOWN_MAX))
    }

    /// Serves until it is told to stop; false if the endpoint stopped by itself: its driver has died.
    async fn serve(self, endpoint: Endpoint, pulse: &Pulse) -> bool {
        let Serving { shared, peers, mut to_dial, mut stopping, .. } = self;
        tokio::spawn(admission::watch(shared.clone()));
        for peer in peers {
            tokio::spawn(dial::keep(shared.clone(), endpoint.clone(), peer));
        }
        let places = |total| {
            Places::new(
                total,
                HANDSHAKE_POLICY,
                DropReason::BridgeHandshakeGaveWay,
                DropReason::BridgeHandshakeRefused,
            )
        };
        let (strangers, known) = (places(HANDSHAKES_MAX), places(HANDSHAKES_OF_KNOWN_MAX));
        let mut beats = tokio::time::interval(BEAT);
        loop {
            let incoming = tokio::select! {
                _ = &mut stopping => break,
                _ = beats.tick() => {
                    pulse.beat(clock::now());
                    continue;
                }
                Some((node, addresses)) = to_dial.recv() => {
                    tokio::spawn(dial::once(shared.clone(), endpoint.clone(), node, addresses));
                    continue;
                }
                incoming = endpoint.accept() => match incoming {
                    Some(incoming) => incoming,
                    None => return false,
                },
            };
            if shared.is_second() {
                incoming.refuse();
                continue;
            }
            let remote = incoming.remote_address();
            let places = if shared.neighbors.has_met(remote) { &known } else { &strangers };
            if places.taken() > HANDSHAKES_MAX / 2 && incoming.may_retry() {
                let _ = incoming.retry();
                continue;
            }
            let Ok(place) = places.take(remote.ip().into()) else {
                incoming.refuse();
                continue;
            };
            let shared = shared.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = dial::accept(shared, incoming) => {}
                    // Dropped half-way it closes.
                    () = place.lost() => {}
                }
            });
        }
        endpoint.close(Close::Stopping.code(), b"the relay is stopping");
        let _ = tokio::time::timeout(GOODBYE, endpoint.wait_idle()).await;
        true
    }
}
