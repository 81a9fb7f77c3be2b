//! Tests: a neighbor that holds a trusted key and misbehaves anyway loses its own link and nothing else.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::{sync::mpsc, time::timeout};

use crate::bridge::{
    BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkId, LinkSender, Route, SPOKEN,
    Table, Trust,
    link::{handshake, hello::Hello},
    quic::{tls, transport},
};

/// Longer than the idle timeout of a connection, which is the last resort of its ends.
const PATIENCE: Duration = Duration::from_secs(30);

fn identity() -> Arc<Identity> {
    let data = tempfile::tempdir().unwrap();
    Arc::new(Identity::load_or_create(data.path()).unwrap())
}

fn config(peers: &[SocketAddr]) -> BridgeConfig {
    BridgeConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        peers: peers.iter().map(SocketAddr::to_string).collect(),
        identity: identity(),
        zone: ZoneName::new("zone").unwrap(),
        trust: Trust::Anyone,
        versions: SPOKEN,
    }
}

fn hello() -> Hello {
    Hello {
        versions: SPOKEN,
        zone: ZoneName::new("bad").unwrap(),
        festival: None,
        updates: vec![],
        underlay: Default::default(),
        incarnation: None,
    }
}

/// A relay under attack and a good neighbor of it.
struct Victim {
    bridges: Bridges,
    events: mpsc::Receiver<BridgeEvent>,
    forwarding: Arc<Forwarding>,
    delivered: Arc<AtomicU64>,
    to_good: LinkSender,
    good_events: mpsc::Receiver<BridgeEvent>,
    _good: Bridges,
}

impl Victim {
    async fn start() -> Victim {
        let (sender, mut events) = mpsc::channel(64);
        let forwarding = Arc::new(Forwarding::new());
        let delivered = Arc::new(AtomicU64::new(0));
        let count = delivered.clone();
        let local = Arc::new(move |_: u32, _: DatagramHeader, _: Bytes| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let bridges =
            Bridges::start(config(&[]), forwarding.clone(), local, sender, crate::vitals::Pulse::unwatched())
                .await
                .unwrap();
        let (sender, good_events) = mpsc::channel(64);
        let good = Bridges::start(
            config(&[bridges.local_addr()]),
            Arc::default(),
            Arc::new(|_, _, _| {}),
            sender,
            crate::vitals::Pulse::unwatched(),
        )
        .await
        .unwrap();
        let (_, to_good) = up(&mut events).await;
        Victim { bridges, events, forwarding, delivered, to_good, good_events, _good: good }
    }

    /// The good neighbor's link is as it was.
    async fn check_unhurt(mut self) {
        assert!(self.to_good.send_message(Class::Control, Bytes::from_static(b"still there?")));
        loop {
            match next(&mut self.good_events).await {
                BridgeEvent::Message { message, .. } => break assert_eq!(&message[..], b"still there?"),
                BridgeEvent::Down { reason, .. } => panic!("the good link went down: {reason}"),
                _ => {}
            }
        }
    }
}

async fn next(events: &mut mpsc::Receiver<BridgeEvent>) -> BridgeEvent {
    timeout(PATIENCE, events.recv()).await.expect("an event in time").unwrap()
}

async fn up(events: &mut mpsc::Receiver<BridgeEvent>) -> (LinkId, LinkSender) {
    loop {
        if let BridgeEvent::Up { link, sender, .. } = next(events).await {
            return (link, sender);
        }
    }
}

async fn down(events: &mut mpsc::Receiver<BridgeEvent>) -> (LinkId, String) {
    loop {
        if let BridgeEvent::Down { link, reason } = next(events).await {
            return (link, reason);
        }
    }
}

/// The attacker: the right key exchange, then whatever the test does.
async fn connect(address: SocketAddr) -> (Endpoint, Connection) {
    let identity = identity();
    let (client, _) = tls::configs(&identity, Trust::Anyone, tls::ALPN).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(client));
    config.transport_config(Arc::new(transport::transport()));
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, address, "relay").unwrap().await.unwrap();
    (endpoint, connection)
}

async fn closed(connection: &Connection) -> String {
    timeout(PATIENCE, connection.closed()).await.expect("closed in time").to_string()
}

/// A stream that says this; `None` where the victim had seen enough and closed before.
async fn open(connection: &Connection, tag: u8, rest: &[u8]) -> Option<(SendStream, RecvStream)> {
    let (mut send, receive) = connection.open_bi().await.ok()?;
    send.write_all(&[tag]).await.ok()?;
    send.write_all(rest).await.ok()?;
    Some((send, receive))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_frame_closes_only_that_link() {
    let mut victim = Victim::start().await;
    for (stream, junk) in [(0, &[0xff; 64][..]), (1, &[0, 4, 0, 1]), (2, &[0x80, 0, 0, 0])] {
        let (_endpoint, connection) = connect(victim.bridges.local_addr()).await;
        let (_, mut streams) = handshake::dialed(&connection, &hello()).await.unwrap();
        let (bad, _) = up(&mut victim.events).await;
        streams[stream].0.write_all(junk).await.unwrap();
        let (gone, reason) = down(&mut victim.events).await;
        assert_eq!(gone, bad);
        assert!(reason.contains("limit is 262144"), "{reason}");
        assert!(closed(&connection).await.contains("limit is 262144"));
    }
    victim.check_unhurt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_instead_of_a_hello_makes_no_link() {
    let victim = Victim::start().await;
    for tags in [[0, 0, 0], [0, 1, 9], [2, 1, 0]] {
        let (_endpoint, connection) = connect(victim.bridges.local_addr()).await;
        let mut streams = Vec::new();
        for tag in tags {
            streams.push(open(&connection, tag, b"\0\0\0\x08junkjunk").await);
        }
        let _ = closed(&connection).await;
    }
    victim.check_unhurt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_says_nothing_is_closed() {
    let victim = Victim::start().await;
    let (_endpoint, connection) = connect(victim.bridges.local_addr()).await;
    let _ = closed(&connection).await;
    victim.check_unhurt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_and_repeated_datagrams_are_dropped_and_the_link_stays() {
    let mut victim = Victim::start().await;
    let (_endpoint, connection) = connect(victim.bridges.local_addr()).await;
    let (_, mut streams) = handshake::dialed(&connection, &hello()).await.unwrap();
    let (bad, _) = up(&mut victim.events).await;
    let children = vec![Child { link: victim.to_good.clone(), alias: Alias(4), precedence: 0 }];
    victim.forwarding.replace(Table {
        incoming: HashMap::from([(
            (bad, Alias(3)),
            Route { track: 1, local: Some(0), class: Class::Audio, children },
        )]),
        local: HashMap::new(),
    });
    let datagram = |alias, sequence| {
        let mut bytes = Vec::new();
        DatagramHeader { kind: DatagramKind::Rtp, epoch: 0, alias: Alias(alias), sequence }.write(&mut bytes);
        bytes.extend_from_slice(&[0x80, 0x6f]);
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(b"the rest of it");
        Bytes::from(bytes)
    };
    for junk in [&b""[..], b"x", b"1234", b"12345", b"\xff\xff\xff\xff\xff\xff\xff"] {
        connection.send_datagram_wait(Bytes::from_static(junk)).await.unwrap();
    }
    for (alias, sequence) in [(3, 7), (3, 7), (3, 8), (8, 1), (3, 7), (3, 8), (3, 10), (3, 9), (3, 9)] {
        connection.send_datagram_wait(datagram(alias, sequence)).await.unwrap();
    }
    // A message after them shows that the link lives; datagrams leave before streams.
    streams[0].0.write_all(b"\0\0\0\x02ok").await.unwrap();
    loop {
        match next(&mut victim.events).await {
            BridgeEvent::Message { link, .. } if link == bad => break,
            BridgeEvent::Down { reason, .. } => panic!("{reason}"),
            _ => {}
        }
    }
    timeout(PATIENCE, async {
        while victim.delivered.load(Ordering::Relaxed) < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("four different packets");
    assert_eq!(victim.delivered.load(Ordering::Relaxed), 4);
    victim.check_unhurt().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbor_that_never_reads_is_cut_off_and_its_queue_was_bounded() {
    let mut victim = Victim::start().await;
    let (_endpoint, connection) = connect(victim.bridges.local_addr()).await;
    let (_, _streams) = handshake::dialed(&connection, &hello()).await.unwrap();
    let (bad, sender) = up(&mut victim.events).await;
    let message = Bytes::from(vec![0; 64 * 1024]);
    // Chat that finds no room is refused and costs nothing else.
    let chat = (0..1000).filter(|_| sender.send_message(Class::Chat, message.clone())).count();
    assert!(chat < 64, "{chat}");
    // Control that finds no room ends the link: its neighbor does not follow the mesh any more.
    let control = (0..1000).take_while(|_| sender.send_message(Class::Control, message.clone())).count();
    assert!(control < 64, "{control}");
    let (gone, reason) = down(&mut victim.events).await;
    assert_eq!(gone, bad);
    assert!(reason.contains("not read fast enough"), "{reason}");
    // The megabyte sent to a neighbor that does not read may drown the one packet that says so in the
    // kernel's buffer: then it hears of the end by a reset or by the idle timeout.
    let _ = closed(&connection).await;
    victim.check_unhurt().await;
}
