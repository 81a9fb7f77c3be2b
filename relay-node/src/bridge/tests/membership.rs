//! Tests: which relays bridge with each other when the organizer of a festival says who is one of its.

use std::{collections::BTreeSet, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::signature::Ed25519KeyPair;
use protocol::{
    NodeId, ZoneName,
    token::{FestivalId, Membership, Revoked, Role, Rotation, Signed},
};
use quinn::{Connection, Endpoint};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    bridge::{
        BridgeConfig, BridgeEvent, Bridges, Identity, SPOKEN, Trust,
        link::{handshake, hello::Hello, stream},
        quic::{tls, transport},
    },
    clock,
    membership::{
        festival::{Festival, Files},
        judge::Standing,
    },
    vitals::Pulse,
};

/// Longer than the idle timeout of a connection and two looks at the links.
const PATIENCE: Duration = Duration::from_secs(30);
const ZONE: &str = "zone";

fn now() -> u64 {
    clock::wall().0 / 1000
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::generate().unwrap()
}

fn token(key: &Ed25519KeyPair, node: NodeId, not_after: u64) -> String {
    let body = Membership {
        festival: FestivalId::of(key),
        serial: 1,
        node,
        zone: ZoneName::new(ZONE).unwrap(),
        role: Role::Relay,
        issued_at: now() - 60,
        not_after,
    };
    Signed::sign(body, key).unwrap().to_string()
}

fn revocations(key: &Ed25519KeyPair, epoch: u64, node: NodeId) -> String {
    let (festival, nodes) = (FestivalId::of(key), BTreeSet::from([node]));
    Signed::sign(Revoked { festival, epoch, nodes, serials: BTreeSet::new() }, key).unwrap().to_string()
}

/// A relay of a festival.
struct Relay {
    data: TempDir,
    identity: Arc<Identity>,
    festival: Arc<Festival>,
    bridges: Bridges,
    events: mpsc::Receiver<BridgeEvent>,
}

impl Relay {
    async fn start(key: &Ed25519KeyPair, peers: &[&Relay]) -> Relay {
        Relay::until(key, peers, now() + 3600, 48).await
    }

    async fn until(key: &Ed25519KeyPair, peers: &[&Relay], not_after: u64, grace_hours: u64) -> Relay {
        let data = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::load_or_create(data.path()).unwrap());
        let file = data.path().join("zone.token");
        fs::write(&file, token(key, identity.node_id(), not_after)).unwrap();
        let files =
            Files { token: file, key: None, revocations: None, grace_hours, trusted: BTreeSet::new() };
        let zone = ZoneName::new(ZONE).unwrap();
        let kept = data.path().join("revocations.pnr");
        let festival = Arc::new(Festival::load(&files, kept, (identity.node_id(), &zone), now()).unwrap());
        let config = BridgeConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            peers: peers.iter().map(|peer| peer.bridges.local_addr().to_string()).collect(),
            identity: identity.clone(),
            zone,
            trust: Trust::Festival(festival.clone()),
            versions: SPOKEN,
        };
        let (sender, events) = mpsc::channel(1024);
        let bridges =
            Bridges::start(config, Arc::default(), Arc::new(|_, _, _| {}), sender, Pulse::unwatched())
                .await
                .unwrap();
        Relay { data, identity, festival, bridges, events }
    }

    fn id(&self) -> NodeId {
        self.identity.node_id()
    }

    fn kept(&self) -> PathBuf {
        self.data.path().join("revocations.pnr")
    }

    async fn event<T>(&mut self, what: impl Fn(BridgeEvent) -> Option<T>) -> T {
        timeout(PATIENCE, async {
            loop {
                if let Some(found) = what(self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
        .expect("an event in time")
    }

    async fn up(&mut self) -> NodeId {
        self.event(|event| match event {
            BridgeEvent::Up { neighbor, .. } => Some(neighbor),
            BridgeEvent::Down { reason, .. } => panic!("down: {reason}"),
            _ => None,
        })
        .await
    }

    async fn down(&mut self) -> String {
        self.event(|event| match event {
            BridgeEvent::Down { reason, .. } => Some(reason),
            _ => None,
        })
        .await
    }

    /// Until it knows and keeps exactly these updates.
    async fn knows(&self, updates: &[&str]) {
        timeout(PATIENCE, async {
            let mut news = self.festival.news();
            while self.festival.shown().1 != updates {
                news.changed().await.unwrap();
            }
            while fs::read_to_string(self.kept()).unwrap_or_default().lines().collect::<Vec<_>>() != updates {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the updates in time");
    }
}

/// A relay that says what the test wants.
struct Stranger {
    identity: Identity,
    endpoint: Endpoint,
}

impl Stranger {
    fn new() -> Stranger {
        let data = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(data.path()).unwrap();
        let (client, server) = tls::configs(&identity, Trust::Anyone, tls::ALPN).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(server));
        config.transport_config(Arc::new(transport::transport()));
        let mut endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(client));
        config.transport_config(Arc::new(transport::transport()));
        endpoint.set_default_client_config(config);
        Stranger { identity, endpoint }
    }

    async fn dial(&self, address: SocketAddr) -> Connection {
        self.endpoint.connect(address, "relay").unwrap().await.unwrap()
    }
}

fn hello(token: Option<String>) -> Hello {
    Hello {
        versions: SPOKEN,
        zone: ZoneName::new(ZONE).unwrap(),
        festival: token,
        updates: vec![],
        underlay: Default::default(),
        incarnation: None,
    }
}

async fn closed(connection: &Connection) -> String {
    timeout(PATIENCE, connection.closed()).await.expect("closed in time").to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_of_one_festival_bridge_without_knowing_each_other() {
    let key = pair();
    let mut a = Relay::start(&key, &[]).await;
    let mut b = Relay::start(&key, &[&a]).await;
    assert_eq!((a.up().await, b.up().await), (b.id(), a.id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_of_another_festival_or_of_none_is_told_why_it_is_refused() {
    let (key, other) = (pair(), pair());
    let relay = Relay::start(&key, &[]).await;
    let stranger = Stranger::new();
    let own = stranger.identity.node_id();
    let borrowed = token(&key, relay.id(), now() + 60);
    for (token, expected) in [
        (Some(token(&other, own, now() + 60)), "belongs to another festival"),
        (None, "shows no zone token"),
        (Some("pnz1.junk".to_owned()), "is not a zone token"),
        (Some(borrowed), "the zone token of another relay"),
        (Some(token(&key, own, now() - 49 * 3600)), "ended 49 h ago"),
    ] {
        let connection = stranger.dial(relay.bridges.local_addr()).await;
        let answer = handshake::dialed(&connection, &hello(token)).await;
        assert!(answer.is_err(), "an outsider gets no hello");
        let reason = closed(&connection).await;
        assert!(reason.contains(expected) && reason.contains(&own.short().to_string()), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dialed_relay_of_another_festival_is_told_why_it_is_refused() {
    let key = pair();
    let stranger = Stranger::new();
    let at = stranger.endpoint.local_addr().unwrap();
    let mut relay = Relay::start(&key, &[]).await;
    relay.bridges.dial(stranger.identity.node_id(), vec![at]);
    let connection = stranger.endpoint.accept().await.unwrap().await.unwrap();
    let (_, mut streams) = handshake::accepted(&connection).await.unwrap();
    let foreign = token(&pair(), stranger.identity.node_id(), now() + 60);
    stream::send_hello(&mut streams[0].0, &hello(Some(foreign))).await.unwrap();
    let reason = closed(&connection).await;
    assert!(reason.contains("belongs to another festival"), "{reason}");
    assert!(relay.events.try_recv().is_err(), "no link came of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_counts_within_the_grace_time_and_is_flagged() {
    let key = pair();
    let mut a = Relay::start(&key, &[]).await;
    let mut b = Relay::until(&key, &[&a], now() - 3600, 48).await;
    assert_eq!((a.up().await, b.up().await), (b.id(), a.id()));
    let standing = b.festival.own(now()).unwrap();
    assert!(matches!(standing, Standing::Expired { .. }) && standing.flagged(), "{standing:?}");
    assert!(b.festival.seconds_left(now()) < 0);
    let told = b.festival.status_line(now());
    assert!(told.contains("ended 1 h ago; in 4"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_ends_with_the_grace_time() {
    let key = pair();
    let mut a = Relay::until(&key, &[], now() + 3600, 0).await;
    let mut b = Relay::until(&key, &[&a], now() + 2, 0).await;
    assert_eq!((a.up().await, b.up().await), (b.id(), a.id()));
    for reason in [a.down().await, b.down().await] {
        assert!(reason.contains("ended 0 h ago"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbor_that_is_revoked_while_the_link_is_up_loses_it_and_hears_why() {
    let key = pair();
    let mut a = Relay::start(&key, &[]).await;
    let mut b = Relay::start(&key, &[&a]).await;
    assert_eq!((a.up().await, b.up().await), (b.id(), a.id()));
    assert_eq!(a.festival.adopt(&revocations(&key, 1, b.id())), Ok(true));
    for reason in [a.down().await, b.down().await] {
        assert!(reason.contains("was revoked by the organizer"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_given_to_one_relay_goes_to_all_and_the_newest_holds() {
    let key = pair();
    let thief = NodeId([7; 32]);
    let mut a = Relay::start(&key, &[]).await;
    let mut b = Relay::start(&key, &[&a]).await;
    let mut c = Relay::start(&key, &[&b]).await;
    a.up().await;
    b.up().await;
    b.up().await;
    c.up().await;
    let second = revocations(&key, 2, thief);
    a.festival.adopt(&second).unwrap();
    c.knows(&[&second]).await;
    // An older one goes nowhere, and one who comes later has it from the hello.
    assert_eq!(c.festival.adopt(&revocations(&key, 1, thief)), Ok(false));
    let d = Relay::start(&key, &[&c]).await;
    d.knows(&[&second]).await;
    // A newer one takes its place.
    let third = revocations(&key, 3, thief);
    d.festival.adopt(&third).unwrap();
    a.knows(&[&third]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_key_given_to_one_relay_lets_tokens_of_the_new_key_in_everywhere() {
    let (old, new) = (pair(), pair());
    let mut a = Relay::start(&old, &[]).await;
    let mut b = Relay::start(&old, &[&a]).await;
    assert_eq!((a.up().await, b.up().await), (b.id(), a.id()));
    let rotation = Rotation::rotate(&old, &new, 1, None).unwrap().to_string();
    a.festival.adopt(&rotation).unwrap();
    b.knows(&[&rotation]).await;
    // It knows the new key alone, learns of the old one from the hello, and is believed.
    let mut c = Relay::start(&new, &[&b]).await;
    assert_eq!((b.up().await, c.up().await), (c.id(), b.id()));
    c.knows(&[&rotation]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_instead_of_updates_costs_the_link_and_updates_of_others_nothing() {
    let key = pair();
    let mut relay = Relay::start(&key, &[]).await;
    let stranger = Stranger::new();
    let own = token(&key, stranger.identity.node_id(), now() + 60);
    let connection = stranger.dial(relay.bridges.local_addr()).await;
    let (_, _streams) = handshake::dialed(&connection, &hello(Some(own))).await.unwrap();
    relay.up().await;
    let foreign = vec![revocations(&pair(), 9, relay.id()), "pnr1.junk".to_owned()];
    for updates in [postcard::to_stdvec(&foreign).unwrap(), vec![0xff; 64]] {
        let mut stream = connection.open_uni().await.unwrap();
        stream::write_frame(&mut stream, updates.into()).await.unwrap();
    }
    let reason = relay.down().await;
    assert!(reason.contains("something else than updates of membership"), "{reason}");
    assert!(relay.festival.shown().1.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_never_end_keep_no_relay_out() {
    let key = pair();
    let mut relay = Relay::start(&key, &[]).await;
    let at = relay.bridges.local_addr();
    // They say nothing once they are connected, and others come for those that are cut: all places are always
    // taken.
    let (full, mut filled) = tokio::sync::watch::channel(0);
    let crowd = tokio::spawn(async move {
        let stranger = Stranger::new();
        let mut held = std::collections::VecDeque::new();
        loop {
            if let Ok(connecting) = stranger.endpoint.connect(at, "relay")
                && let Ok(Ok(connection)) = timeout(Duration::from_secs(1), connecting).await
            {
                held.push_back(connection);
                full.send_modify(|count| *count += 1);
            }
            if held.len() > 4 * crate::bridge::HANDSHAKES_MAX {
                held.pop_front();
            }
        }
    });
    filled.wait_for(|count| *count > crate::bridge::HANDSHAKES_MAX).await.unwrap();
    let mut other = Relay::start(&key, &[&relay]).await;
    assert_eq!((relay.up().await, other.up().await), (other.id(), relay.id()));
    crowd.abort();
}
