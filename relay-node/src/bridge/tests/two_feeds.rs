//! Tests: a track that comes over two links goes on once, to everybody but the one that brought it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    NodeId, ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind, SenderClock, Withheld},
};
use tokio::sync::mpsc;

use super::memory_net::Net;
use crate::bridge::{
    BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkId, LinkSender, LocalDelivery,
    Route, SPOKEN, Table, Trust,
};

/// What was delivered: kind, epoch and payload.
pub(crate) type Came = Arc<Mutex<Vec<(DatagramKind, u8, Bytes)>>>;

/// One relay of the test, and the packets that were delivered to it.
pub(crate) struct Relay {
    pub id: NodeId,
    pub bridges: Bridges,
    pub events: mpsc::Receiver<BridgeEvent>,
    pub forwarding: Arc<Forwarding>,
    pub came: Came,
}

impl Relay {
    pub async fn start(peers: &[&Relay]) -> Relay {
        Relay::dial(peers.iter().map(|peer| peer.bridges.local_addr().to_string()).collect()).await
    }

    pub async fn dial(peers: Vec<String>) -> Relay {
        let (config, came) = (config("127.0.0.1:0".parse().unwrap(), peers), Arc::default());
        let (id, forwarding, local) = (config.identity.node_id(), Arc::new(Forwarding::new()), keep(&came));
        let (sender, events) = mpsc::channel(1024);
        let pulse = crate::vitals::Pulse::unwatched();
        let bridges = Bridges::start(config, forwarding.clone(), local, sender, pulse).await.unwrap();
        Relay { id, bridges, events, forwarding, came }
    }

    /// A relay at this address of a network in memory.
    pub fn on(net: &Net, address: SocketAddr, peers: &[SocketAddr]) -> Relay {
        let peers = peers.iter().map(SocketAddr::to_string).collect();
        let (config, came) = (config(address, peers), Arc::default());
        let (id, forwarding, local) = (config.identity.node_id(), Arc::new(Forwarding::new()), keep(&came));
        let (sender, events) = mpsc::channel(1024);
        let outside = (forwarding.clone(), local, sender);
        let bridges = Bridges::start_on(net.socket(address), config, outside).unwrap();
        Relay { id, bridges, events, forwarding, came }
    }

    pub async fn up(&mut self) -> (LinkId, LinkSender) {
        loop {
            if let BridgeEvent::Up { link, sender, .. } = self.events.recv().await.unwrap() {
                return (link, sender);
            }
        }
    }

    pub fn takes(&self, feeds: &[(LinkId, u16)], children: &[(&LinkSender, u16)]) {
        let child = |(link, alias): &(&LinkSender, u16)| Child {
            link: (*link).clone(),
            alias: Alias(*alias),
            precedence: 0,
        };
        let route = Route {
            track: 7,
            local: Some(1),
            class: Class::Audio,
            children: children.iter().map(child).collect(),
        };
        let incoming = feeds.iter().map(|(link, alias)| ((*link, Alias(*alias)), route.clone()));
        self.forwarding.replace(Table { incoming: incoming.collect(), local: HashMap::new() });
    }

    pub async fn has(&self, count: usize) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while self.came.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{} of {count} packets came", self.came.lock().unwrap().len()));
    }
}

fn config(listen: SocketAddr, peers: Vec<String>) -> BridgeConfig {
    let data = tempfile::tempdir().unwrap();
    BridgeConfig {
        listen,
        peers,
        identity: Arc::new(Identity::load_or_create(data.path()).unwrap()),
        zone: ZoneName::new("zone").unwrap(),
        trust: Trust::Anyone,
        versions: SPOKEN,
    }
}

fn keep(came: &Came) -> LocalDelivery {
    let came = came.clone();
    Arc::new(move |_: u32, header: DatagramHeader, payload: Bytes| {
        came.lock().unwrap().push((header.kind, header.epoch, payload));
    })
}

pub(crate) fn packet(sequence: u16) -> Bytes {
    let [high, low] = sequence.to_be_bytes();
    Bytes::from(vec![0x80, 0x6f, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3])
}

#[tokio::test(flavor = "multi_thread")]
async fn two_feeds_of_a_track_are_heard_once_and_return_to_nobody_who_sent_them() {
    let mut middle = Relay::start(&[]).await;
    let (mut left, mut right, mut below) =
        (Relay::start(&[&middle]).await, Relay::start(&[&middle]).await, Relay::start(&[&middle]).await);
    let ((left_link, to_left), (right_link, to_right), (_, to_below)) =
        (middle.up().await, middle.up().await, middle.up().await);
    let mut ends = Vec::new();
    for relay in [&mut left, &mut right, &mut below] {
        ends.push(relay.up().await);
    }
    // Whoever came up first is `left` to the middle: the names follow the keys.
    let by_key =
        |to: &LinkSender| [&left, &right, &below].iter().position(|relay| relay.id == to.neighbor()).unwrap();
    let relays = [&left, &right, &below];
    let [from_left, from_right, from_below] = [&to_left, &to_right, &to_below].map(by_key);
    middle.takes(&[(left_link, 1), (right_link, 2)], &[(&to_left, 11), (&to_right, 12), (&to_below, 13)]);
    relays[from_left].takes(&[(ends[from_left].0, 11)], &[]);
    relays[from_right].takes(&[(ends[from_right].0, 12)], &[]);
    relays[from_below].takes(&[(ends[from_below].0, 13)], &[]);

    let clock = |ntp| {
        let mut bytes = Vec::new();
        SenderClock { ntp, rtp: 5 }.write(&mut bytes);
        Bytes::from(bytes)
    };
    let send = |relay: usize, alias, kind, epoch, payload: &Bytes| {
        ends[relay].1.send_media(Class::Audio, kind, epoch, Alias(alias), payload);
    };
    for sequence in 0..100_u16 {
        // Each feed lacks some; both together lack none.
        if sequence % 5 != 1 {
            send(from_left, 1, DatagramKind::Rtp, 2, &packet(sequence.wrapping_sub(50)));
        }
        if sequence % 5 != 2 {
            send(from_right, 2, DatagramKind::Rtp, 2, &packet(sequence.wrapping_sub(50)));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for (relay, alias) in [(from_left, 1), (from_right, 2)] {
        send(relay, alias, DatagramKind::SenderClock, 2, &clock(9));
    }
    middle.has(101).await;
    relays[from_below].has(101).await;
    // A packet that comes after everything else shows that nothing else was on its way.
    send(from_left, 1, DatagramKind::Rtp, 4, &packet(1));
    relays[from_below].has(102).await;

    let expected: Vec<u16> = (0..100_u16).map(|n| n.wrapping_sub(50)).collect();
    let below = relays[from_below].came.lock().unwrap();
    assert_eq!(below.len(), 102);
    let mut numbers: Vec<u16> = below
        .iter()
        .filter(|(kind, epoch, _)| (*kind, *epoch) == (DatagramKind::Rtp, 2))
        .map(|(_, _, payload)| u16::from_be_bytes([payload[2], payload[3]]))
        .collect();
    numbers.sort_by_key(|n| n.wrapping_add(50));
    assert_eq!(numbers, expected);
    // A packet returns only to the feed that was not the first to bring it.
    let back = relays[from_left].came.lock().unwrap().len() + relays[from_right].came.lock().unwrap().len();
    assert!((100..=103).contains(&back), "{back} came back to two feeds that sent 100 different packets");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_feed_withholds_goes_on_to_all_unless_another_may_bring_it() {
    let mut middle = Relay::start(&[]).await;
    let mut below = Relay::start(&[&middle]).await;
    let ((_, to_below), (from_middle, _)) = (middle.up().await, below.up().await);
    let mut above = Relay::start(&[&middle]).await;
    let ((from_above, _), (_, to_middle)) = (middle.up().await, above.up().await);
    below.takes(&[(from_middle, 13)], &[]);
    let withheld = |first, count| {
        let mut bytes = Vec::new();
        Withheld { first, count }.write(&mut bytes);
        Bytes::from(bytes)
    };
    let send = |kind, payload: &Bytes| to_middle.send_media(Class::Audio, kind, 2, Alias(1), payload);
    middle.takes(&[(from_above, 1)], &[(&to_below, 13)]);
    send(DatagramKind::Rtp, &packet(65_530));
    send(DatagramKind::Withheld, &withheld(65_531, 9));
    // Nobody could say such a thing.
    send(DatagramKind::Withheld, &withheld(9, 0));
    send(DatagramKind::Rtp, &packet(4));
    below.has(3).await;
    middle.takes(&[(from_above, 1), (from_above, 2)], &[(&to_below, 13)]);
    send(DatagramKind::Withheld, &withheld(5, 2));
    send(DatagramKind::Rtp, &packet(7));
    below.has(4).await;
    let expected = [
        (DatagramKind::Rtp, 2, packet(65_530)),
        (DatagramKind::Withheld, 2, withheld(65_531, 9)),
        (DatagramKind::Rtp, 2, packet(4)),
        (DatagramKind::Rtp, 2, packet(7)),
    ];
    for relay in [&middle, &below] {
        assert_eq!(*relay.came.lock().unwrap(), expected);
    }
}
