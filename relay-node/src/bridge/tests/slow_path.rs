//! Tests: a link over a path that is thin, far and loses packets. The path is a wire in memory, and time is virtual.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    Codec,
    mesh::{Alias, Class, DatagramKind, Withheld},
};
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig, congestion::CubicConfig};
use tokio::time::Instant;

use super::{
    memory_net::{Net, Path},
    two_feeds::{self, Relay},
};
use crate::bridge::{
    Child, Forwarding, Identity, LinkId, Route, Table, Trust,
    link::handle::budget_of,
    quic::{capacity::Estimate, measure, tls, transport},
};

pub(super) fn at(host: u8) -> SocketAddr {
    ([10, 0, 0, host], 8081).into()
}

fn identity() -> Identity {
    let data = tempfile::tempdir().unwrap();
    Identity::load_or_create(data.path()).unwrap()
}

fn share(queues: &mut [Duration], share: f64) -> Duration {
    queues.sort_unstable();
    queues.get((queues.len() as f64 * share) as usize).copied().unwrap_or_default()
}

/// What became of an offer, after its first 2 s.
struct Outcome {
    /// What arrived, in bits a second.
    rate: f64,
    /// Of the path: median and 95th percentile.
    queue: [Duration; 2],
    /// What the link was thought to carry in the end.
    capacity: Option<u64>,
}

/// Offers datagrams at `offered` bits a second for `length` over a connection with this transport.
async fn offer(path: Path, config: TransportConfig, offered: u64, length: Duration) -> Outcome {
    let config = Arc::new(config);
    let (_, server) = tls::configs(&identity(), Trust::Anyone, tls::ALPN).unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(config.clone());
    let net = Net::default();
    let queues = net.wire(at(1), at(2), path);
    let [near, far] = [1, 2].map(|host| net.socket(at(host)));
    let server = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        Some(server),
        far,
        Arc::new(TokioRuntime),
    )
    .unwrap();
    let (client, _) = tls::configs(&identity(), Trust::Anyone, tls::ALPN).unwrap();
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(config);
    let endpoint =
        Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, near, Arc::new(TokioRuntime))
            .unwrap();
    let (dialed, accepted) = tokio::join!(
        async { endpoint.connect_with(client, at(2), "relay").unwrap().await.unwrap() },
        async { server.accept().await.unwrap().await.unwrap() }
    );
    let begin = Instant::now();
    let settled = begin + Duration::from_secs(2);
    let end = begin + length;
    let taking = tokio::spawn(async move {
        let mut bytes = 0;
        while let Ok(datagram) = accepted.read_datagram().await {
            if Instant::now() >= settled {
                bytes += datagram.len();
            }
        }
        bytes
    });
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let per_tick = offered / 200 / 8 / 1200;
    let (mut estimate, mut capacity, mut look) = (Estimate::default(), None, begin);
    while Instant::now() < end {
        ticks.tick().await;
        for _ in 0..per_tick.max(1) {
            dialed.send_datagram(vec![0; 1200].into()).unwrap();
        }
        if Instant::now() >= look {
            capacity = estimate.handle_look(budget_of(&dialed).delivered(), Instant::now().into_std());
            look += measure::INTERVAL;
        }
        if Instant::now() < settled {
            queues.lock().unwrap().clear();
        }
    }
    dialed.close(0_u32.into(), b"");
    let bytes = taking.await.unwrap();
    let mut queues = queues.lock().unwrap();
    let rate = bytes as f64 * 8.0 / (length - Duration::from_secs(2)).as_secs_f64();
    Outcome { rate, queue: [share(&mut queues, 0.5), share(&mut queues, 0.95)], capacity }
}

fn cubic() -> TransportConfig {
    let mut transport = transport::transport();
    let mut cubic = CubicConfig::default();
    cubic.initial_window(256 * 1024);
    transport.congestion_controller_factory(Arc::new(cubic));
    transport
}

pub(super) const THIN: Path = Path {
    rate: 8_000_000,
    later: &[],
    buffer: Duration::from_millis(500),
    delay: Duration::from_millis(10),
    loss: 0,
    longest: 2048,
};

/// `cargo test -p relay-node --lib side_by_side -- --ignored --nocapture` prints the table of docs/performance.md.
#[tokio::test(start_paused = true)]
#[ignore = "prints figures"]
async fn cubic_and_delay_side_by_side() {
    for loss in [0, 50, 80] {
        for (name, config) in [("cubic", cubic()), ("delay", transport::transport())] {
            let Outcome { rate, queue: [median, most], .. } =
                offer(Path { loss, ..THIN }, config, 12_000_000, Duration::from_secs(10)).await;
            println!(
                "{name}, loss {:.1} %: {:.2} Mbit/s, queue {:.0} ms (95 %: {:.0} ms)",
                loss as f64 / 10.0,
                rate / 1e6,
                median.as_secs_f64() * 1e3,
                most.as_secs_f64() * 1e3
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_radio_that_loses_5_percent_keeps_its_rate_and_no_queue() {
    let path = Path { loss: 50, ..THIN };
    let Outcome { rate, queue: [median, _], .. } =
        offer(path, transport::transport(), 12_000_000, Duration::from_secs(6)).await;
    println!("{:.2} Mbit/s, queue {median:?}", rate / 1e6);
    assert!(rate > 5e6, "{rate}");
    assert!(median < Duration::from_millis(60), "{median:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_link_is_known_for_what_it_carries_and_an_easy_one_is_not() {
    let full = offer(THIN, transport::transport(), 12_000_000, Duration::from_secs(5));
    let easy = offer(THIN, transport::transport(), 3_000_000, Duration::from_secs(5));
    let (full, easy) = tokio::join!(full, easy);
    println!("full: {:?}, of which {:.0} arrived; easy: {:?}", full.capacity, full.rate, easy.capacity);
    let capacity = full.capacity.expect("it was full for seconds") as f64;
    assert!((0.7..1.3).contains(&(capacity / full.rate)), "{capacity} {}", full.rate);
    assert_eq!(easy.capacity, None);
}

#[tokio::test(start_paused = true)]
async fn of_5_percent_loss_each_way_next_to_nothing_is_left() {
    let net = Net::default();
    net.wire(at(1), at(2), Path { rate: 50_000_000, delay: Duration::from_millis(5), loss: 50, ..THIN });
    let (mut parent, mut child) = (Relay::on(&net, at(1), &[at(2)]), Relay::on(&net, at(2), &[]));
    let ((_, sender), (from, _)) = (parent.up().await, child.up().await);
    let route = |track, class| Route { track, local: Some(track as u32), class, children: vec![] };
    table(&child.forwarding, from, [(1, route(1, Class::Audio)), (2, route(2, Class::Video))]);
    let (audio, video) = (1500_u16, 6000_u16);
    let mut ticks = tokio::time::interval(Duration::from_millis(4));
    for i in 0..audio {
        ticks.tick().await;
        sender.send_media(Class::Audio, DatagramKind::Rtp, 2, Alias(1), &two_feeds::packet(i));
        for j in 0..4 {
            let mut payload = two_feeds::packet(i * 4 + j).to_vec();
            payload.resize(1000, 0);
            sender.send_media(Class::Video, DatagramKind::Rtp, 4, Alias(2), &Bytes::from(payload));
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let came = child.came.lock().unwrap();
    let lost = |epoch, all: u16| {
        let came = came.iter().filter(|(_, of, _)| *of == epoch).count();
        100.0 - came as f64 * 100.0 / f64::from(all)
    };
    let (audio, video) = (lost(2, audio), lost(4, video));
    println!("5 % lost each way; left: {audio:.2} % of the audio, {video:.2} % of the video");
    assert!(audio < 1.5 && video < 1.5, "{audio} {video}");
}

pub(super) fn table(forwarding: &Forwarding, from: LinkId, routes: impl IntoIterator<Item = (u16, Route)>) {
    let incoming = routes.into_iter().map(|(alias, route)| ((from, Alias(alias)), route));
    forwarding.replace(Table { incoming: incoming.collect(), local: Default::default() });
}

/// Packets of 1000 to 1508 octets arrive whole and once, over two links, of which the second takes datagrams of
/// less than 1300 and loses some.
#[tokio::test(start_paused = true)]
async fn packets_longer_than_a_datagram_arrive_whole_over_two_links() {
    let net = Net::default();
    net.wire(at(3), at(2), Path { rate: 100_000_000, loss: 20, longest: 1360, ..THIN });
    let mut middle = Relay::on(&net, at(2), &[]);
    let mut below = Relay::on(&net, at(3), &[at(2)]);
    let ((_, to_below), (from_middle, _)) = (middle.up().await, below.up().await);
    let mut above = Relay::on(&net, at(1), &[at(2)]);
    let ((from_above, _), (_, to_middle)) = (middle.up().await, above.up().await);
    middle.takes(&[(from_above, 1)], &[(&to_below, 2)]);
    below.takes(&[(from_middle, 2)], &[]);
    let packet = |n: u16| {
        let mut bytes = two_feeds::packet(n).to_vec();
        bytes.resize(1000 + usize::from(n) * 37 % 509, n as u8);
        Bytes::from(bytes)
    };
    for n in 0..400 {
        to_middle.send_media(Class::Video, DatagramKind::Rtp, 3, Alias(1), &packet(n));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    middle.has(400).await;
    tokio::time::sleep(Duration::from_millis(300)).await; // what a repair may take
    for relay in [&middle, &below] {
        let came = relay.came.lock().unwrap();
        let mut numbers = std::collections::BTreeSet::new();
        for (kind, epoch, payload) in came.iter() {
            let n = u16::from_be_bytes([payload[2], payload[3]]);
            assert_eq!((*kind, *epoch, payload), (DatagramKind::Rtp, 3, &packet(n)));
            assert!(numbers.insert(n), "{n} came twice");
        }
        // With 2 % lost a few repairs are lost as well.
        assert!(numbers.len() >= 392, "{} of 400", numbers.len());
    }
}

/// A picture of one packet in VP8.
pub(super) fn picture(number: u16, keyframe: bool) -> Bytes {
    let mut bytes = vec![0x80, Codec::Vp8.canonical_payload_type()];
    bytes.extend(number.to_be_bytes());
    bytes.extend((u32::from(number) * 3000).to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x10, u8::from(!keyframe)]);
    bytes.resize(1000, 0);
    Bytes::from(bytes)
}

/// Of two encodings, together half as much again as the link carries, the better one is shed, and said to be.
#[tokio::test(start_paused = true)]
async fn on_a_thin_link_the_base_of_a_picture_arrives_and_the_rest_is_withheld() {
    let net = Net::default();
    net.wire(at(1), at(2), THIN);
    let (mut above, mut below) = (Relay::on(&net, at(1), &[at(2)]), Relay::on(&net, at(2), &[]));
    let ((_, link), (from, _)) = (above.up().await, below.up().await);
    let route = |track| Route { track, local: Some(1), class: Class::Video, children: vec![] };
    table(&below.forwarding, from, [(1, route(1)), (2, route(2))]);
    let [base, top] = [0, 1].map(|precedence| Child {
        link: link.clone(),
        alias: Alias(1 + u16::from(precedence)),
        precedence,
    });
    // Which one it is the epoch says.
    let send = |child: &Child, number, keyframe| {
        let epoch = 1 + child.precedence;
        child.send_media(Class::Video, DatagramKind::Rtp, epoch, &picture(number, keyframe));
    };
    let (mut ticks, mut number) = (tokio::time::interval(Duration::from_millis(10)), 0_u16);
    for at in 0..300 {
        ticks.tick().await;
        (0..3).for_each(|part| send(&base, 3 * at + part, (at, part) == (0, 0)));
        for part in 0..12 {
            send(&top, number, at % 50 == 0 && part == 0);
            number += 1;
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    send(&top, number, true);
    let is_last = |(kind, epoch, payload): &(DatagramKind, u8, Bytes)| {
        (*kind, *epoch) == (DatagramKind::Rtp, 2) && payload[2..4] == number.to_be_bytes()
    };
    tokio::time::timeout(Duration::from_secs(20), async {
        while !below.came.lock().unwrap().iter().any(is_last) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("when the lane has drained a keyframe passes");
    let came = below.came.lock().unwrap();
    let count = |kind, epoch| came.iter().filter(|(k, e, _)| (*k, *e) == (kind, epoch)).count();
    let told: usize = came
        .iter()
        .filter(|(kind, ..)| *kind == DatagramKind::Withheld)
        .filter_map(|(_, _, payload)| Withheld::read(payload))
        .map(|withheld| usize::from(withheld.count))
        .sum();
    let (base, top) = (count(DatagramKind::Rtp, 1), count(DatagramKind::Rtp, 2));
    println!("{base} of 900 of the base, {top} of {} of the top, {told} withheld", number + 1);
    assert!(base >= 890, "{base} of 900");
    assert!(told > 0 && top + told >= usize::from(number), "{top} and {told} of {}", number + 1);
}
