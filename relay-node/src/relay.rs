//! A relay from the configuration to the last goodbye: what is started in which order, and why.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use media::transport::Identity as DtlsIdentity;
use mesh_routing::{Config as MeshConfig, Keys, Mesh};
use protocol::NodeId;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot, watch},
};

use crate::{
    addresses::{Addresses, bridge_addresses, media_candidates},
    api::{
        self, ApiState, Ready,
        files::FilesState,
        origin::Welcome,
        server,
        whip::{self, WhipState},
    },
    bridge::{
        BridgeConfig, Bridges, Forwarding, Identity, Trust,
        mdns::{self, Seen},
        spoken,
    },
    channels::{self, ChannelsState},
    clock,
    config::{Config, PublicUrl},
    conversation, ladder,
    media::{channels::EVENTS_MAX as CHANNEL_EVENTS_MAX, packet_rate::PacketRate, thread, udp},
    membership::festival::{self, Festival},
    memory, metrics,
    node::{
        Node,
        allowance::Allowances,
        sessions::{Sessions, merging::Merging},
    },
    node_loop::{Inputs, NodeLoop, request},
    storage::{
        door,
        files::{Files, Found},
        migrate,
        records::{Opened, Store},
        rows::{self, Row},
        store_error::StoreError,
    },
    vitals::{Vitals, Work},
};

/// Why a relay stopped, other than being told to.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A port, or the data directory. Exit code 69.
    #[error("{0}")]
    Unavailable(String),
    /// What the organizer gave is not good. Exit code 64.
    #[error("{0}")]
    Refused(String),
    /// Anything else. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl RelayError {
    /// The exit code of the contract.
    pub fn exit_code(&self) -> u8 {
        match self {
            RelayError::Unavailable(_) => 69,
            RelayError::Refused(_) => 64,
            RelayError::Failed(_) => 1,
        }
    }
}

/// Events that may wait for the node loop.
const EVENTS_MAX: usize = 4096;
/// How long it is tried whether this machine is fast enough for a ladder.
const LADDER_TRIAL: Duration = Duration::from_millis(200);

/// Records of a disk that could be read late that the node loop takes in one turn.
const LATE_AT_ONCE: usize = 256;

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`, which is the same by default.
/// Whoever finds no place there tries again after a second. `TcpListener::bind` asks for 128.
const BACKLOG: u32 = 4096;

/// Runs a relay until SIGINT or SIGTERM.
///
/// # Errors
///
/// [`RelayError::Unavailable`] for a port or the data directory, [`RelayError::Refused`] for what the
/// organizer gave, [`RelayError::Failed`] for anything else that a start needs.
pub fn run(config: Config) -> Result<(), RelayError> {
    let runtime = tokio::runtime::Runtime::new().map_err(failed)?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), RelayError> {
    allow_open_files();
    // The recorder first: counters that are made before it count into nothing.
    let recorder = metrics::install().map_err(failed)?;
    // A relay without one of its threads looks alive and serves nobody: it makes room for a whole one.
    let vitals = {
        let data = config.data.clone();
        Vitals::new(clock::now(), move |thread| {
            tracing::error!("the thread {thread} has died, and the relay with it: start it again");
            Addresses::remove(&data);
            std::process::exit(1);
        })
    };
    let pulse = |thread: &str, work| vitals.pulse(thread, work, clock::now());
    // Then what only this machine can refuse: the directory, and the ports in the order of their use.
    let open = || {
        Store::open(&config.data, pulse("store", Work::Disk))
            .map_err(|error| RelayError::Failed(format!("cannot start the thread of the store: {error}")))
    };
    let Opened { mut store, mut loaded, trouble } = open()?;
    if let Some(error @ StoreError::InUse { .. }) = &trouble
        && Addresses::running(&config.data).is_some()
    {
        // Two relays on one directory have one key: that is worse than one that does not run.
        return Err(unavailable(error));
    }
    let (file_events, file_inbox) = mpsc::channel(EVENTS_MAX);
    let (files, found) = Files::open(&config.data, config.files, file_events, pulse("files", Work::Disk))
        .map_err(|error| RelayError::Failed(format!("cannot start the thread of files: {error}")))?;
    let identity = Arc::new(Identity::load_or_create(&config.data).map_err(unavailable)?);
    if !loaded.old.is_empty() {
        let records = migrate::records(&loaded.old, rand::random(), &*identity.keys());
        tracing::info!(old = loaded.old.len(), taken_over = records.len(), "chat of format 1 is taken over");
        drop(store);
        if let Err(error) = Store::migrate(&config.data, &records) {
            tracing::error!(%error, "chat of format 1 is not taken over: the next start tries again");
        }
        Opened { store, loaded, .. } = open()?;
    }
    if loaded.boot == 0 {
        // The disk does not say: a number that it has hardly had.
        loaded.boot = 1 << 20 | u64::from(rand::random::<u16>());
    }
    let dtls = Arc::new(DtlsIdentity::generate().map_err(failed)?);
    let sockets =
        udp::bind(config.media, config.workers).map_err(|error| taken("media", config.media, &error))?;
    let media = sockets[0].local_addr().map_err(|error| taken("media", config.media, &error))?;
    if let Some(len) = udp::short_receive_buffer(&sockets[0]) {
        tracing::warn!(
            kib = len / 1024,
            "the kernel caps the receive buffer below 8 MiB: many joins at once may stall; \
             raise it with: sysctl -w net.core.rmem_max=8388608"
        );
    }
    let http = listen(config.http).map_err(|error| taken("http", config.http, &error))?;
    let http_address = http.local_addr().map_err(|error| taken("http", config.http, &error))?;
    let candidates = media_candidates(media, &config.public_ips).map_err(failed)?;
    // Media threads before the bridges: what a link brings must have somewhere to go.
    let forwarding = Arc::new(Forwarding::new());
    let (media_events, media_inbox) = mpsc::channel(EVENTS_MAX);
    let (channel_events, channel_inbox) = mpsc::channel(CHANNEL_EVENTS_MAX);
    let ladder_door = Arc::new(OnceLock::new());
    let rate = PacketRate::new(sockets.len());
    let (workers, mut threads) = thread::start(
        sockets,
        &forwarding,
        (&media_events, &channel_events),
        config.max_video_bitrate,
        &ladder_door,
        &rate,
        &vitals,
    )
    .map_err(|error| RelayError::Failed(format!("cannot start media threads: {error}")))?;
    let (ladder_events, ladder_inbox) = mpsc::channel(EVENTS_MAX);
    if ladder::is_wanted(config.ladder, LADDER_TRIAL) {
        let (workers, forwarding) = (workers.clone(), forwarding.clone());
        let deliver = move |track, packet| thread::bring(&workers, &forwarding, track, packet);
        // There are two for each stage at most, and the node loop takes them within milliseconds.
        let happened = move |event| {
            let _ = ladder_events.try_send(event);
        };
        let (door, thread) = ladder::start(deliver, happened, pulse("ladder", Work::Serve))
            .map_err(|error| RelayError::Failed(format!("cannot start the ladder: {error}")))?;
        threads.push(thread);
        let _ = ladder_door.set(door);
    }
    let (bridge_events, bridge_inbox) = mpsc::channel(EVENTS_MAX);
    let delivery = {
        let workers = workers.clone();
        Arc::new(move |track, header, payload| thread::deliver(&workers, track, header, payload))
    };
    let trust = trust(&config, &identity)?;
    let festival = match &trust {
        Trust::Festival(festival) => Some(festival.clone()),
        Trust::Anyone | Trust::Only(_) => None,
    };
    let bridge_config = BridgeConfig {
        listen: config.bridge,
        peers: config.peers.iter().map(ToString::to_string).collect(),
        identity: identity.clone(),
        versions: spoken(),
        zone: config.zone.clone(),
        trust,
    };
    let bridges = Bridges::start(
        bridge_config,
        forwarding.clone(),
        delivery,
        bridge_events,
        pulse("bridge", Work::Serve),
    )
    .await
    .map_err(|error| taken("bridge", config.bridge, &error))?;
    let bridge = bridges.local_addr();
    // The node with everything that survived the last stop, before anybody can ask it.
    let now = clock::now();
    let id = identity.node_id();
    let mesh_config = MeshConfig {
        area: config.area,
        versions: spoken(),
        ..MeshConfig::new(identity.keys(), config.zone.clone(), loaded.boot, bridges.incarnation())
    };
    let mut sessions = Sessions::new(dtls, candidates, config.ingest_policy());
    sessions.set_merging(Merging::new(config.merge_above, rate));
    let mut node = Node::new(
        id,
        config.zone.clone(),
        Mesh::new(mesh_config, now),
        sessions,
        (loaded.boot as u8).wrapping_mul(6),
        now,
        clock::wall(),
    );
    let ladder = ladder_door.get().cloned();
    if ladder.is_some() {
        node.set_ladder();
    }
    if let Some(festival) = &festival {
        node.set_festival(festival.clone(), now);
    }
    node.handle_wall(clock::wall(), now);
    rows::prove(&mut loaded.rows, &*identity.keys());
    let (sealed, damaged) = node.restore_rows(loaded.rows);
    store.seal(sealed);
    let condition = store.condition();
    let door = tokio::spawn(door::serve(config.data.clone(), store.snapshots()));
    let history = late_history(&mut store, identity.keys());
    if damaged > 0 {
        tracing::warn!(
            damaged,
            "records in the data directory are not what was written there: they are left out, and other relays are asked \
             for them. The disk may be about to fail"
        );
    }
    for Found { file, manifest, chunks, announced } in found {
        if !announced {
            // It came just before the last stop: without a record nobody knows of it.
            let known = node.is_announced(&file);
            files.settle(file, known);
            if !known {
                continue;
            }
        }
        // There are no more than there is room for.
        let _ = node.handle_file_here(file, manifest, &chunks);
    }
    node.show_zone_token(now);
    let discovered = discover(&config, id, bridge, &mut node);
    // HTTP last: whoever gets an answer gets it from a relay that is whole.
    let (requests, request_inbox) = request::queue();
    let auth = Arc::new(config.auth());
    let ready = Ready::default();
    let prefix: Arc<str> = config.public_url.as_ref().map_or("", PublicUrl::path).into();
    let participants = conversation::places();
    let state = ApiState {
        requests: requests.clone(),
        auth: auth.clone(),
        node: id,
        zone: config.zone.clone(),
        prefix: prefix.clone(),
        ready: ready.clone(),
        files: FilesState::new(files.clone()),
        participants: participants.clone(),
        festival,
        metrics: Some(recorder),
        vitals: vitals.clone(),
        store: condition,
    };
    let channels = tokio::spawn({
        // The media threads alone keep it going.
        drop(channel_events);
        let (uploads, downloads) = state.files.places();
        let serving = ChannelsState {
            requests: state.requests.clone(),
            workers: workers.clone(),
            participants: state.participants.clone(),
            files: files.clone(),
            uploads,
            downloads,
        };
        let serving = channels::run(serving, channel_inbox);
        let mut pulse = pulse("channels", Work::Unbeaten);
        async move {
            pulse.begin(clock::now());
            serving.await;
            pulse.finish();
        }
    });
    let sessions = WhipState::new(requests, auth, prefix);
    let readers = sessions.readers.clone();
    let router = api::router(state, whip::router(sessions), welcome(&config, id));
    let (stop, stopping) = watch::channel(false);
    let proxies = config.trusted_proxies.clone();
    let bounds = server::Bounds::default();
    let places = bounds.places();
    let crowd = tokio::spawn(memory::give_back(vec![places.clone(), participants, readers]));
    let serving = tokio::spawn({
        let mut pulse = pulse("http", Work::Unbeaten);
        let serving = server::serve(http, router, proxies, places, bounds, stopping.clone());
        async move {
            pulse.begin(clock::now());
            serving.await;
            pulse.finish();
        }
    });
    let addresses = Addresses {
        http: http_address,
        media,
        bridge,
        node: id,
        zone: config.zone.clone(),
        pid: std::process::id(),
    };
    if let Err(error) = addresses.write(&config.data) {
        tracing::error!(%error, "addresses.json cannot be written: scripts do not find this relay");
    }
    ready.set(true);
    tracing::info!(zone = %config.zone, node = %id.short(), %http_address, %media, %bridge, versions = %spoken(), "serving");
    if let Some(url) = &config.public_url {
        tracing::info!(%url, "a proxy shows the pages there");
    }
    let inputs = Inputs {
        requests: request_inbox,
        bridge: bridge_inbox,
        discovered,
        history,
        files: file_inbox,
        media: media_inbox,
        ladder: ladder_inbox,
        stop: stopping,
    };
    let allowances = Allowances::new(config.chat, rand::random());
    let node_loop = NodeLoop::new(node, (workers, ladder), bridges, forwarding, store, files, allowances);
    let node_loop = on_a_thread("node", node_loop.run(inputs, pulse("node", Work::Serve)))
        .map_err(|error| RelayError::Failed(format!("cannot start the node thread: {error}")))?;
    stop_signal().await;
    tracing::info!("stopping");
    ready.set(false);
    // Nobody is left behind: both tasks end by themselves once told.
    let _ = stop.send(true);
    let _ = tokio::join!(serving, node_loop);
    crowd.abort();
    door.abort();
    for thread in threads {
        let _ = thread.join();
    }
    let _ = channels.await;
    Addresses::remove(&config.data);
    Ok(())
}

/// Runs a task on a thread of its own: whatever it does, HTTP goes on answering.
fn on_a_thread(
    name: &str,
    task: impl Future<Output = ()> + Send + 'static,
) -> io::Result<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(task);
        // Who waits for it may have given up.
        let _ = done.send(());
    })?;
    Ok(ended)
}

/// A token closes the relay to strangers even with --dev: who gives one means it.
fn trust(config: &Config, identity: &Identity) -> Result<Trust, RelayError> {
    let Some(files) = &config.festival else {
        return Ok(if config.dev { Trust::Anyone } else { Trust::Only(config.trust.clone()) });
    };
    let (kept, own) = (config.data.join(festival::KEPT), (identity.node_id(), &config.zone));
    let now = clock::wall().0 / 1000;
    let festival = Festival::load(files, kept, own, now).map_err(RelayError::Refused)?;
    Ok(Trust::Festival(Arc::new(festival)))
}

/// What was on a disk that could not be read at the start, proven, and a few records at a time: the node loop has other
/// things to do.
fn late_history(store: &mut Store, keys: Arc<dyn Keys>) -> mpsc::Receiver<Vec<Row>> {
    let (proven, history) = mpsc::channel(1);
    if let Some(mut late) = store.take_late() {
        tokio::spawn(async move {
            let Some(mut rows) = late.recv().await else { return };
            let prove = move || {
                rows::prove(&mut rows, &*keys);
                rows
            };
            let rows = tokio::task::spawn_blocking(prove).await.unwrap_or_default();
            for rows in rows.chunks(LATE_AT_ONCE) {
                if proven.send(rows.to_vec()).await.is_err() {
                    return;
                }
            }
        });
    }
    history
}

/// Says where this relay is and looks for others, if the operator wants that. A network without multicast is
/// no reason to stop: addresses come with the records of neighbors too.
fn discover(config: &Config, id: NodeId, bridge: SocketAddr, node: &mut Node) -> mpsc::Receiver<Seen> {
    let (_, nobody) = mpsc::channel(1);
    if !config.discover {
        return nobody;
    }
    let addresses = bridge_addresses(bridge).unwrap_or_else(|error| {
        tracing::warn!("cannot tell where this relay is: {error}");
        Vec::new()
    });
    node.handle_addresses(addresses.clone(), clock::now());
    mdns::start(id, &config.zone, &addresses).unwrap_or_else(|error| {
        tracing::warn!("cannot look for relays on the local network: {error}");
        nobody
    })
}

/// The HTTP port, where a crowd that comes at once waits in the kernel until its connections are accepted.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A relay that is started anew takes its port while connections of the old one still end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// As many open files as the system lets this process have: each connection is one.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The names and origins the operator allows, and the name that multicast DNS has for this relay.
fn welcome(config: &Config, id: NodeId) -> Welcome {
    let public = config.public_url.iter();
    let hosts = config.allow_hosts.iter().cloned().chain([mdns::host_name(id)]);
    let origins = config.allow_origins.iter().cloned();
    Welcome::new(
        hosts.chain(public.clone().map(|url| url.host().to_owned())),
        origins.chain(public.map(|url| url.origin().to_owned())),
    )
}

async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
        // Without signals only SIGKILL can stop it, and that needs nobody who listens.
        _ => std::future::pending().await,
    }
}

fn failed(error: impl std::fmt::Display) -> RelayError {
    RelayError::Failed(error.to_string())
}

fn unavailable(error: impl std::fmt::Display) -> RelayError {
    RelayError::Unavailable(error.to_string())
}

fn taken(key: &str, address: SocketAddr, error: &io::Error) -> RelayError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "something else uses this port: stop it, or choose another port",
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "this machine does not have this address",
        _ => "the system refuses this address",
    };
    RelayError::Unavailable(format!("{key} = {address}: {error}; {hint}"))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpStream, time::Duration};

    use super::*;

    #[tokio::test]
    async fn a_crowd_that_comes_at_once_finds_the_door_open() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
        let most: usize = most.and_then(|most| most.trim().parse().ok()).unwrap_or(128);
        // Nobody is accepted meanwhile; half a second is less than the second after which a client tries again.
        let crowd: Vec<_> = (0..most.min(300))
            .map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(500)))
            .collect();
        assert!(crowd.iter().all(Result::is_ok));
    }
}
