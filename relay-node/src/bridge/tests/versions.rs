//! Tests: two relays use the highest bridge version that both speak, and where there is none both say which one to update.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    BridgeVersion, BridgeVersions, NodeId, ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    bridge::{
        BridgeConfig, BridgeEvent, Bridges, Forwarding, Identity, LinkSender, LocalDelivery, Misfit, Route,
        Table, Trust, outside::Crossing,
    },
    vitals::Pulse,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn versions(lowest: u16, highest: u16) -> BridgeVersions {
    BridgeVersions::new(BridgeVersion(lowest), BridgeVersion(highest)).unwrap()
}

struct Relay {
    id: NodeId,
    bridges: Bridges,
    events: mpsc::Receiver<BridgeEvent>,
}

impl Relay {
    async fn start(zone: &str, versions: BridgeVersions, peers: &[SocketAddr]) -> Relay {
        let data = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::load_or_create(data.path()).unwrap());
        let id = identity.node_id();
        let config = BridgeConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            peers: peers.iter().map(SocketAddr::to_string).collect(),
            identity,
            zone: ZoneName::new(zone).unwrap(),
            trust: Trust::Anyone,
            versions,
        };
        let (sender, events) = mpsc::channel(1024);
        let local = Arc::new(|_, _, _| {});
        let bridges =
            Bridges::start(config, Arc::default(), local, sender, Pulse::unwatched()).await.unwrap();
        Relay { id, bridges, events }
    }

    async fn event<T>(&mut self, what: impl Fn(BridgeEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = what(self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("an event in time")
    }

    async fn up(&mut self) -> (BridgeVersion, LinkSender) {
        self.event(|event| match event {
            BridgeEvent::Up { version, sender, .. } => Some((version, sender)),
            BridgeEvent::Misfit(misfit) => panic!("{misfit}"),
            _ => None,
        })
        .await
    }

    async fn misfit(&mut self) -> Misfit {
        self.event(|event| match event {
            BridgeEvent::Misfit(misfit) => Some(misfit),
            BridgeEvent::Up { .. } => panic!("a link without a version"),
            _ => None,
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_common_version_is_used_whoever_dials() {
    for (one, two, used) in [((4, 6), (5, 9), 6), ((5, 9), (4, 6), 6), ((1, 65_535), (4, 4), 4)] {
        let mut a = Relay::start("a", versions(one.0, one.1), &[]).await;
        let mut b = Relay::start("b", versions(two.0, two.1), &[a.bridges.local_addr()]).await;
        let ((version, to_b), (same, _)) = (a.up().await, b.up().await);
        assert_eq!((version, same), (BridgeVersion(used), BridgeVersion(used)), "{one:?} and {two:?}");
        assert_eq!(to_b.version(), version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_none_both_sides_name_the_relay_to_update() {
    for (one, two) in [((3, 3), (1, 2)), ((1, 2), (3, 3))] {
        let mut accepts = Relay::start("accepts", versions(one.0, one.1), &[]).await;
        let mut dials = Relay::start("dials", versions(two.0, two.1), &[accepts.bridges.local_addr()]).await;
        let (here, there) = (accepts.misfit().await, dials.misfit().await);
        assert_eq!((here.neighbor, there.neighbor), (dials.id, accepts.id));
        assert_eq!((here.zone.as_str(), there.zone.as_str()), ("dials", "accepts"));
        let (here, there) = (here.to_string(), there.to_string());
        let (newer, older) = if one < two { (&there, &here) } else { (&here, &there) };
        assert!(newer.contains("speaks bridge versions 1 to 2, this one 3 to 3"), "{newer}");
        assert!(newer.ends_with("update that relay"), "{newer}");
        assert!(older.contains("speaks bridge versions 3 to 3, this one 1 to 2"), "{older}");
        assert!(older.ends_with("update this relay"), "{older}");
        // It is tried again, so that an updated relay finds its neighbors by itself.
        assert_eq!(dials.misfit().await.neighbor, accepts.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_of_an_unknown_kind_are_passed_over_and_the_link_stays() {
    let mut a = Relay::start("a", BridgeVersions::SPOKEN, &[]).await;
    let mut b = Relay::start("b", BridgeVersions::SPOKEN, &[a.bridges.local_addr()]).await;
    let ((_, to_b), (_, to_a)) = (a.up().await, b.up().await);
    let connection = to_b.0.connection().clone();
    for number in 4..16 {
        for sequence in 0..100 {
            let mut bytes = Vec::new();
            let kind = DatagramKind::Unknown(number);
            DatagramHeader { kind, epoch: 1, alias: Alias(7), sequence }.write(&mut bytes);
            connection.send_datagram_wait(bytes.into()).await.unwrap();
        }
    }
    assert!(to_b.send_message(Class::Control, Bytes::from_static(b"after them")));
    let heard = b.event(|event| match event {
        BridgeEvent::Message { message, .. } => Some(message),
        BridgeEvent::Down { reason, .. } => panic!("{reason}"),
        _ => None,
    });
    assert_eq!(heard.await, "after them");
    assert!(to_a.send_message(Class::Control, Bytes::from_static(b"it is up")));
}

/// Kinds from 8 on have a place in the sequence of their alias: passing over one leaves no gap.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_again_for_what_was_passed_over() {
    let mut a = Relay::start("a", BridgeVersions::SPOKEN, &[]).await;
    let mut b = Relay::start("b", BridgeVersions::SPOKEN, &[a.bridges.local_addr()]).await;
    let links = [a.up().await.1, b.up().await.1];
    let asked = |number: u8| {
        let (now, alias) = (crate::clock::now(), Alias(u16::from(number)));
        let route = Route { track: number.into(), local: Some(1), class: Class::Audio, children: vec![] };
        let forwarding = Arc::new(Forwarding::new());
        let incoming = HashMap::from([((links[0].link(), alias), route)]);
        forwarding.replace(Table { incoming, local: HashMap::new() });
        let local: LocalDelivery = Arc::new(|_, header, _| assert_eq!(header.kind, DatagramKind::Rtp));
        let mut crossing = Crossing::new(links.clone(), &forwarding, &local);
        for (kind, sequence) in
            [(DatagramKind::Rtp, 0), (DatagramKind::Unknown(number), 1), (DatagramKind::Rtp, 2)]
        {
            let mut bytes = Vec::new();
            DatagramHeader { kind, epoch: 1, alias, sequence }.write(&mut bytes);
            bytes.extend([0x80, 0x6f, 0, sequence as u8, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
            crossing.handle(0, bytes.into(), now);
        }
        // Late enough that it may have been overtaken, early enough for a repair.
        crossing.handle_timeout(now + Duration::from_millis(20));
        crossing.pop(0, 1200).and_then(|asked| DatagramHeader::read(&asked)).map(|header| header.kind)
    };
    for number in 8..16 {
        assert_eq!(asked(number), None, "kind {number}");
    }
    for number in 5..7 {
        assert_eq!(asked(number), Some(DatagramKind::Nack), "kind {number} says something else there");
    }
}
