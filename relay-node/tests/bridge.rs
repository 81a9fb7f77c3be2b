//! Two and three bridges in one process over loopback: links come up, carry what they should, and a bad
//! neighbor hurts only itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    NodeId, ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use relay_node::bridge::{
    BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkId, LinkSender, MESSAGE_MAX, Route,
    SPOKEN, Table, Trust,
};
use relay_node::vitals::Pulse;
use tokio::{sync::mpsc, time::timeout};

const PATIENCE: Duration = Duration::from_secs(10);

/// What one local track received: count, bytes, and whether the payloads' numbers only grew.
#[derive(Default)]
struct Delivered {
    packets: AtomicU64,
    order: Mutex<Vec<u32>>,
}

struct Relay {
    identity: Arc<Identity>,
    bridges: Option<Bridges>,
    events: mpsc::Receiver<BridgeEvent>,
    forwarding: Arc<Forwarding>,
    delivered: Arc<Delivered>,
    address: SocketAddr,
    _data: Option<tempfile::TempDir>,
}

struct Up {
    link: LinkId,
    neighbor: NodeId,
    zone: ZoneName,
    sender: LinkSender,
}

fn identity() -> (Arc<Identity>, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    (Arc::new(Identity::load_or_create(data.path()).unwrap()), data)
}

impl Relay {
    async fn start(zone: &str, peers: &[SocketAddr]) -> Relay {
        let (identity, data) = identity();
        let mut relay = Relay::with(identity, zone, peers, Trust::Anyone, any_port()).await;
        relay._data = Some(data);
        relay
    }

    async fn with(
        identity: Arc<Identity>,
        zone: &str,
        peers: &[SocketAddr],
        trust: Trust,
        listen: SocketAddr,
    ) -> Relay {
        let peers = peers.iter().map(SocketAddr::to_string).collect();
        Relay::open(identity, zone, peers, trust, listen).await
    }

    async fn with_peers(identity: Arc<Identity>, zone: &str, peers: &[String], listen: SocketAddr) -> Relay {
        Relay::open(identity, zone, peers.to_vec(), Trust::Anyone, listen).await
    }

    async fn open(
        identity: Arc<Identity>,
        zone: &str,
        peers: Vec<String>,
        trust: Trust,
        listen: SocketAddr,
    ) -> Relay {
        let (sender, events) = mpsc::channel(1024);
        let forwarding = Arc::new(Forwarding::new());
        let delivered = Arc::new(Delivered::default());
        let config = BridgeConfig {
            listen,
            peers,
            identity: identity.clone(),
            zone: ZoneName::new(zone).unwrap(),
            trust,
            versions: SPOKEN,
        };
        let sink = delivered.clone();
        let local = Arc::new(move |_: u32, _: DatagramHeader, payload: Bytes| {
            sink.packets.fetch_add(1, Ordering::Relaxed);
            let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
            sink.order.lock().unwrap().push(number);
        });
        let bridges =
            Bridges::start(config, forwarding.clone(), local, sender, Pulse::unwatched()).await.unwrap();
        let address = bridges.local_addr();
        Relay { identity, bridges: Some(bridges), events, forwarding, delivered, address, _data: None }
    }

    async fn next(&mut self) -> BridgeEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.expect("an event in time").unwrap();
            if !matches!(event, BridgeEvent::Measured { .. }) {
                return event;
            }
        }
    }

    async fn up(&mut self) -> Up {
        match self.next().await {
            BridgeEvent::Up { link, neighbor, zone, sender, .. } => Up { link, neighbor, zone, sender },
            other => panic!("expected a link to come up, got {other:?}"),
        }
    }

    async fn down(&mut self) -> (LinkId, String) {
        match self.next().await {
            BridgeEvent::Down { link, reason } => (link, reason),
            other => panic!("expected a link to go down, got {other:?}"),
        }
    }

    async fn message(&mut self) -> Bytes {
        match self.next().await {
            BridgeEvent::Message { message, .. } => message,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// Fails if a link comes or goes within `quiet`.
    async fn stays_as_it_is(&mut self, quiet: Duration) {
        let end = tokio::time::Instant::now() + quiet;
        while let Ok(event) = tokio::time::timeout_at(end, self.events.recv()).await {
            assert!(matches!(event, Some(BridgeEvent::Measured { .. })), "{event:?}");
        }
    }

    async fn stop(&mut self) {
        self.bridges.take().unwrap().shutdown().await;
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_comes_up_and_carries_messages_both_ways_in_order() {
    let mut b = Relay::start("camping", &[]).await;
    let mut a = Relay::start("stage", &[b.address]).await;
    let (to_b, to_a) = (a.up().await, b.up().await);
    assert_eq!((to_b.neighbor, to_b.zone.as_str()), (b.identity.node_id(), "camping"));
    assert_eq!((to_a.neighbor, to_a.zone.as_str()), (a.identity.node_id(), "stage"));

    for i in 0..500_u32 {
        assert!(to_b.sender.send_message(Class::Control, i.to_be_bytes().to_vec().into()));
        assert!(to_a.sender.send_message(Class::Chat, i.to_be_bytes().to_vec().into()));
    }
    for i in 0..500_u32 {
        assert_eq!(b.message().await[..], i.to_be_bytes());
        assert_eq!(a.message().await[..], i.to_be_bytes());
    }
    let longest = Bytes::from(vec![7; MESSAGE_MAX]);
    assert!(to_b.sender.send_message(Class::File, longest.clone()));
    assert!(!to_b.sender.send_message(Class::File, vec![7; MESSAGE_MAX + 1].into()));
    assert_eq!(b.message().await, longest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_measured() {
    let mut b = Relay::start("b", &[]).await;
    let mut a = Relay::start("a", &[b.address]).await;
    a.up().await;
    b.up().await;
    let measured = timeout(PATIENCE, async {
        let mut reports = 0;
        while reports < 3 {
            if let Some(BridgeEvent::Measured { rtt, loss, .. }) = a.events.recv().await {
                assert!(rtt > Duration::ZERO && rtt < Duration::from_millis(200), "{rtt:?}");
                assert!((0.0..0.5).contains(&loss), "{loss}");
                reports += 1;
            }
        }
    });
    measured.await.expect("three reports");
}

/// A → B → C by tables; returns A's table entry and the sending half.
async fn chain() -> (Relay, Relay, Relay, LinkSender) {
    let mut c = Relay::start("c", &[]).await;
    let mut b = Relay::start("b", &[c.address]).await;
    let (b_to_c, c_to_b) = (b.up().await, c.up().await);
    let mut a = Relay::start("a", &[b.address]).await;
    let (a_to_b, b_to_a) = (a.up().await, b.up().await);

    let route = |local, children| Route { track: 1, local, class: Class::Video, children };
    b.forwarding.replace(Table {
        incoming: HashMap::from([(
            (b_to_a.link, Alias(5)),
            route(Some(1), vec![Child { link: b_to_c.sender, alias: Alias(9), precedence: 0 }]),
        )]),
        local: HashMap::new(),
    });
    c.forwarding.replace(Table {
        incoming: HashMap::from([((c_to_b.link, Alias(9)), route(Some(1), vec![]))]),
        local: HashMap::new(),
    });
    (a, b, c, a_to_b.sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn media_crosses_two_links_whole_and_in_order() {
    let (_a, b, c, sender) = chain().await;
    // 20 Mbit/s of 1200-byte packets for 2 s, as video comes: in bursts of a frame.
    let (frames, per_frame) = (60_u32, 70_u32);
    let mut ticks = tokio::time::interval(Duration::from_millis(33));
    for frame in 0..frames {
        ticks.tick().await;
        for i in 0..per_frame {
            let mut payload = vec![0x55; 1200];
            payload[..4].copy_from_slice(&(frame * per_frame + i).to_be_bytes());
            sender.send_media(Class::Video, DatagramKind::Rtp, 2, Alias(5), &payload.into());
        }
    }
    let all = u64::from(frames * per_frame);
    let arrived = |relay: &Relay| relay.delivered.packets.load(Ordering::Relaxed);
    let _ = timeout(PATIENCE, async {
        while arrived(&c) < all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!((arrived(&b), arrived(&c)), (all, all));
    assert!(c.delivered.order.lock().unwrap().is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rtp_packet_of_1300_bytes_fits_from_the_first_moment() {
    let (_a, _b, c, sender) = chain().await;
    sender.send_media(Class::Video, DatagramKind::Rtp, 0, Alias(5), &vec![0; 1299].into());
    timeout(PATIENCE, async {
        while c.delivered.packets.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it arrives");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_nobody_joined_goes_nowhere() {
    let (_a, b, c, sender) = chain().await;
    sender.send_media(Class::Audio, DatagramKind::Rtp, 0, Alias(77), &vec![0; 100].into());
    sender.send_media(Class::Audio, DatagramKind::Rtp, 0, Alias(5), &vec![0; 100].into());
    timeout(PATIENCE, async {
        while c.delivered.packets.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the joined one arrives");
    assert_eq!(b.delivered.packets.load(Ordering::Relaxed), 1);
    assert_eq!(c.delivered.packets.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_dial_each_other_have_one_link() {
    for _ in 0..5 {
        let (x, y) = (std::net::UdpSocket::bind(any_port()), std::net::UdpSocket::bind(any_port()));
        let (x, y) = (x.unwrap().local_addr().unwrap(), y.unwrap().local_addr().unwrap());
        let ((ia, _da), (ib, _db)) = (identity(), identity());
        let (to_b, to_a) = ([y], [x]);
        let (mut a, mut b) = tokio::join!(
            Relay::with(ia, "a", &to_b, Trust::Anyone, x),
            Relay::with(ib, "b", &to_a, Trust::Anyone, y),
        );
        let (to_b, to_a) = (a.up().await, b.up().await);
        tokio::join!(
            a.stays_as_it_is(Duration::from_millis(700)),
            b.stays_as_it_is(Duration::from_millis(700))
        );
        assert!(to_b.sender.send_message(Class::Control, Bytes::from_static(b"over the one link")));
        assert_eq!(&b.message().await[..], b"over the one link");
        assert!(to_a.sender.send_message(Class::Control, Bytes::from_static(b"and back")));
        assert_eq!(&a.message().await[..], b"and back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_addresses_of_one_relay_make_one_link() {
    let mut b = Relay::start("b", &[]).await;
    let mut a = Relay::start("a", &[b.address, b.address]).await;
    a.up().await;
    b.up().await;
    tokio::join!(a.stays_as_it_is(Duration::from_secs(1)), b.stays_as_it_is(Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_underlays_make_two_links_whoever_dials() {
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let free_port = || std::net::UdpSocket::bind(everywhere).unwrap().local_addr().unwrap().port();
    let ((ia, _da), (ib, _db)) = (identity(), identity());
    let (port_a, port_b) = (free_port(), free_port());
    let listen = |port| SocketAddr::new(everywhere.ip(), port);
    let wifi = |port: u16| format!("127.0.0.1:{port},kind=wifi");
    let lte = |port: u16| format!("127.0.0.1:{port},kind=lte,metered,bias=20");
    let (to_b, to_a) = ([wifi(port_b), lte(port_b)], [lte(port_a), wifi(port_a)]);
    let (mut a, mut b) = tokio::join!(
        Relay::with_peers(ia, "a", &to_b, listen(port_a)),
        Relay::with_peers(ib, "b", &to_a, listen(port_b)),
    );
    let mut kinds = BTreeSet::new();
    for relay in [&mut a, &mut b] {
        for _ in 0..2 {
            match relay.next().await {
                BridgeEvent::Up { underlay, .. } => {
                    assert_eq!(underlay.metered, underlay.kind.word() == "lte");
                    kinds.insert((relay.address.port(), underlay.kind.word()));
                }
                other => panic!("expected a link to come up, got {other:?}"),
            }
        }
    }
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    tokio::join!(a.stays_as_it_is(Duration::from_secs(1)), b.stays_as_it_is(Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_of_a_relay_is_another_link() {
    let mut b = Relay::with_peers(identity().0, "b", &[], "0.0.0.0:0".parse().unwrap()).await;
    let port = b.address.port();
    let peers = [format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}"), format!("127.0.0.1:{port}")];
    let mut a = Relay::with_peers(identity().0, "a", &peers, "0.0.0.0:0".parse().unwrap()).await;
    let (first, second) = (a.up().await, a.up().await);
    assert_ne!(first.link, second.link);
    b.up().await;
    b.up().await;
    tokio::join!(a.stays_as_it_is(Duration::from_secs(1)), b.stays_as_it_is(Duration::from_secs(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_chosen_is_dialed_once_and_no_other_in_its_place() {
    let (mut a, mut b) = (Relay::start("a", &[]).await, Relay::start("b", &[]).await);
    let mut c = Relay::start("c", &[]).await;
    a.bridges.as_ref().unwrap().dial(b.identity.node_id(), vec![c.address]);
    tokio::join!(a.stays_as_it_is(Duration::from_millis(700)), c.stays_as_it_is(Duration::from_millis(700)));
    a.bridges.as_ref().unwrap().dial(b.identity.node_id(), vec![c.address, b.address]);
    assert_eq!(a.up().await.neighbor, b.identity.node_id());
    b.up().await;
    assert!(!a.bridges.as_ref().unwrap().configured(&b.identity.node_id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn media_is_heard_without_being_looked_at() {
    let mut b = Relay::start("b", &[]).await;
    let mut a = Relay::start("a", &[b.address]).await;
    let (to_b, to_a) = (a.up().await, b.up().await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = to_a.sender.heard();
    for _ in 0..50 {
        to_b.sender.send_media(Class::Audio, DatagramKind::Rtp, 0, Alias(5), &vec![0; 100].into());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(to_a.sender.heard() > before + 30, "{}", to_a.sender.heard() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_does_not_link_to_itself() {
    let port = std::net::UdpSocket::bind(any_port()).unwrap().local_addr().unwrap();
    let (identity, _data) = identity();
    let mut a = Relay::with(identity, "a", &[port], Trust::Anyone, port).await;
    a.stays_as_it_is(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_trusted_relays_become_neighbors_whoever_dials() {
    let ((ia, _da), (ib, _db), (ic, _dc)) = (identity(), identity(), identity());
    let only = |ids: &[&Arc<Identity>]| Trust::Only(ids.iter().map(|i| i.node_id()).collect::<BTreeSet<_>>());
    let mut a = Relay::with(ia.clone(), "a", &[], only(&[&ib]), any_port()).await;
    let mut stranger = Relay::with(ic.clone(), "c", &[a.address], Trust::Anyone, any_port()).await;
    tokio::join!(
        a.stays_as_it_is(Duration::from_millis(800)),
        stranger.stays_as_it_is(Duration::from_millis(800))
    );
    // The trusted one is let in, and in its turn does not trust the stranger it dials.
    let mut b = Relay::with(ib, "b", &[a.address, stranger.address], only(&[&ia]), any_port()).await;
    assert_eq!(a.up().await.neighbor, b.identity.node_id());
    assert_eq!(b.up().await.neighbor, ia.node_id());
    b.stays_as_it_is(Duration::from_millis(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_relay_is_linked_again() {
    let (ib, _db) = identity();
    let mut b = Relay::with(ib.clone(), "b", &[], Trust::Anyone, any_port()).await;
    let mut a = Relay::start("a", &[b.address]).await;
    let (first, _) = (a.up().await, b.up().await);
    b.stop().await;
    let (gone, reason) = a.down().await;
    assert_eq!(gone, first.link);
    assert!(reason.contains("stopping"), "{reason}");
    assert!(!first.sender.send_message(Class::Control, Bytes::from_static(b"too late")));

    let mut b = Relay::with(ib, "b", &[], Trust::Anyone, b.address).await;
    let again = a.up().await;
    b.up().await;
    assert_ne!(again.link, first.link);
    assert!(again.sender.send_message(Class::Control, Bytes::from_static(b"hello again")));
    assert_eq!(&b.message().await[..], b"hello again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_link_says_why_and_is_dialed_again() {
    let mut b = Relay::start("b", &[]).await;
    let mut a = Relay::start("a", &[b.address]).await;
    let link = a.up().await.link;
    b.up().await;
    a.bridges.as_ref().unwrap().close_link(link, "because the operator said so");
    assert!(b.down().await.1.contains("the operator said so"));
    assert_eq!(a.down().await.0, link);
    a.up().await;
    b.up().await;
}

/// A path of `bits_per_second` with a queue of `queue` bytes in front of `to`, and a free way back.
async fn thin_path(to: SocketAddr, bits_per_second: u64, queue: usize) -> SocketAddr {
    let front = Arc::new(tokio::net::UdpSocket::bind(any_port()).await.unwrap());
    let back = Arc::new(tokio::net::UdpSocket::bind(any_port()).await.unwrap());
    let address = front.local_addr().unwrap();
    let dialer = Arc::new(Mutex::new(None));
    let waiting = Arc::new(AtomicU64::new(0));
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<u8>>();
    let (socket, learn, depth) = (front.clone(), dialer.clone(), waiting.clone());
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            *learn.lock().unwrap() = Some(from);
            if depth.load(Ordering::Relaxed) as usize + length <= queue {
                depth.fetch_add(length as u64, Ordering::Relaxed);
                sender.send(buffer[..length].to_vec()).unwrap();
            }
        }
    });
    let socket = back.clone();
    tokio::spawn(async move {
        let mut free_at = tokio::time::Instant::now();
        while let Some(packet) = receiver.recv().await {
            let bits = packet.len() as u64 * 8;
            free_at = free_at.max(tokio::time::Instant::now())
                + Duration::from_nanos(bits * 1_000_000_000 / bits_per_second);
            tokio::time::sleep_until(free_at).await;
            waiting.fetch_sub(packet.len() as u64, Ordering::Relaxed);
            socket.send_to(&packet, to).await.unwrap();
        }
    });
    tokio::spawn(async move {
        let mut buffer = vec![0; 2048];
        while let Ok((length, _)) = back.recv_from(&mut buffer).await {
            let dialer = dialer.lock().unwrap().unwrap();
            front.send_to(&buffer[..length], dialer).await.unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_thin_path_video_gives_way_to_audio_and_both_to_control() {
    let mut b = Relay::start("b", &[]).await;
    let path = thin_path(b.address, 2_000_000, 40_000).await;
    let mut a = Relay::start("a", &[path]).await;
    let (to_b, to_a) = (a.up().await, b.up().await);
    let route = |track, class| Route { track, local: Some(0), class, children: vec![] };
    b.forwarding.replace(Table {
        incoming: HashMap::from([
            ((to_a.link, Alias(1)), route(1, Class::Audio)),
            ((to_a.link, Alias(2)), route(2, Class::Video)),
        ]),
        local: HashMap::new(),
    });

    // Four times what the path carries, for 4 s; payload numbers tell audio (under 1 million) from video.
    let start = tokio::time::Instant::now();
    let sender = to_b.sender.clone();
    let source = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        for tick in 0..200_u32 {
            ticks.tick().await;
            let payload = |number: u32, length| {
                let mut payload = vec![0; length];
                payload[..4].copy_from_slice(&number.to_be_bytes());
                Bytes::from(payload)
            };
            for i in 0..17 {
                let packet = payload(1_000_000 + tick * 17 + i, 1200);
                sender.send_media(Class::Video, DatagramKind::Rtp, 0, Alias(2), &packet);
            }
            sender.send_media(Class::Audio, DatagramKind::Rtp, 0, Alias(1), &payload(tick, 320));
            if tick % 4 == 0 {
                let now = start.elapsed().as_micros() as u64;
                let mut message = vec![0; 200];
                message[..8].copy_from_slice(&now.to_be_bytes());
                assert!(sender.send_message(Class::Control, message.into()));
            }
        }
    });
    let mut delays = Vec::new();
    while delays.len() < 50 {
        let message = b.message().await;
        let sent = Duration::from_micros(u64::from_be_bytes(message[..8].try_into().unwrap()));
        delays.push(start.elapsed() - sent);
    }
    source.await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    delays.sort_unstable();
    let order = b.delivered.order.lock().unwrap();
    let audio = order.iter().filter(|number| **number < 1_000_000).count();
    let video = order.len() - audio;
    println!(
        "audio {audio} of 200, video {video} of 3400, control p50 {:?} max {:?}",
        delays[25], delays[49]
    );
    assert!(audio >= 180, "{audio} of 200 audio packets");
    assert!((100..1700).contains(&video), "{video} of 3400 video packets");
    assert!(delays[25] < Duration::from_millis(400), "{delays:?}");
}
