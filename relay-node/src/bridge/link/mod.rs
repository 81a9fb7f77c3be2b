//! One link while it is up: what runs until one of its tasks ends, and what is told of it. Its messages are carried in
//! `stream.rs`, its datagrams in `forwarding/`. Whether the link may be is decided in `link_table.rs`, what is said
//! first in `handshake.rs`.

pub(crate) mod admission;
pub(crate) mod close;
pub(crate) mod dial;
pub(crate) mod handle;
pub(crate) mod handshake;
pub(crate) mod hello;
pub(crate) mod link_table;
pub(crate) mod misfits;
pub(crate) mod peer_address;
pub(crate) mod stream;

use std::{net::SocketAddr, sync::Arc};

use mesh_routing::Underlay;
use metrics::gauge;
use protocol::ZoneName;
use quinn::Connection;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    BridgeEvent,
    forwarding::{
        inbound::{self, Inbound},
        switch,
        table::{Forwarding, LocalDelivery},
    },
    quic::{
        capacity::Estimate,
        measure::{self, Meter},
    },
};
use admission::MembershipUpdates;
use close::Close;
use handle::{LinkSender, LinkShared};
use handshake::Streams;
use stream::OutboxReader;

/// Everything a link needs while it is up.
pub(crate) struct Run {
    pub link: Arc<LinkShared>,
    pub outboxes: [OutboxReader; 3],
    pub streams: Streams,
    pub zone: ZoneName,
    pub underlay: Underlay,
    pub remote: SocketAddr,
    pub news: MembershipUpdates,
    pub forwarding: Arc<Forwarding>,
    pub local: LocalDelivery,
    pub events: mpsc::Sender<BridgeEvent>,
}

/// Carries the link until it ends: `Up`, messages and measurements, `Down`.
pub(crate) async fn run(run: Run) {
    let Run { link, outboxes, streams, zone, underlay, remote, news, forwarding, local, events } = run;
    let up = BridgeEvent::Up {
        link: link.id,
        neighbor: link.neighbor,
        incarnation: link.incarnation,
        zone: zone.clone(),
        remote,
        underlay,
        version: link.version,
        sender: LinkSender(link.clone()),
    };
    let neighbors_zone = zone.clone();
    let up_gauge = gauge!("relay_bridge_up", "zone" => zone.to_string());
    up_gauge.increment(1.0);
    if events.send(up).await.is_ok() {
        let connection = link.connection().clone();
        let mut tasks = JoinSet::new();
        for ((send, receive), outbox) in streams.into_iter().zip(outboxes) {
            tasks.spawn(stream::write(send, outbox));
            tasks.spawn(stream::read(receive, link.id, events.clone()));
        }
        let port = switch::open(&link);
        let receiver = Inbound::new(&link, forwarding, local);
        let (sending, receiving) = (connection.clone(), connection.clone());
        let shared = link.clone();
        tasks.spawn(async move { switch::send(sending, shared).await.to_string() });
        tasks.spawn(async move { inbound::receive(receiving, receiver).await.to_string() });
        tasks.spawn(news.listen(connection.clone(), link.neighbor));
        tasks.spawn(news.tell(connection.clone()));
        tasks.spawn(report(connection.clone(), link.clone(), zone, events.clone()));

        let reason = match tasks.join_next().await {
            Some(Ok(reason)) => reason,
            _ => "a task of the link failed".to_owned(),
        };
        let closed = connection.close_reason();
        if link.closed_for().is_none() && closed.as_ref().is_some_and(|closed| Close::Twin.is(closed)) {
            let _ = events.send(BridgeEvent::Second { by: link.neighbor, zone: neighbors_zone }).await;
        }
        let reason = match (link.closed_for(), closed) {
            (Some(own), _) => own.clone(),
            (None, Some(closed)) => closed.to_string(),
            (None, None) => reason,
        };
        link.go_down();
        link.close(Close::Protocol, &reason);
        tasks.shutdown().await;
        drop(port);
        let _ = events.send(BridgeEvent::Down { link: link.id, reason }).await;
    }
    link.go_down();
    up_gauge.decrement(1.0);
    link.end();
}

async fn report(
    connection: Connection,
    link: Arc<LinkShared>,
    zone: ZoneName,
    events: mpsc::Sender<BridgeEvent>,
) -> String {
    let (mut meter, mut estimate) = (Meter::default(), Estimate::default());
    let mut ticks = tokio::time::interval(measure::INTERVAL);
    let mut ticked = 0_u32;
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let stats = connection.stats();
        let measurement = meter.read(&stats);
        link.counters.bytes_in.increment(measurement.bytes_in);
        link.counters.bytes_out.increment(measurement.bytes_out);
        switch::with(link.id, |switch| {
            switch.handle_round_trip(&zone, link.id, stats.path.rtt);
            if ticked.is_multiple_of(SWEEP) {
                switch.handle_tick(link.id);
            }
        });
        ticked += 1;
        let now = crate::clock::now();
        let mut capacity = estimate.handle_look(link.budget().delivered(), now);
        switch::with(link.id, |switch| {
            if let Some(seen) = switch.take_seen(link.id) {
                capacity = estimate.handle_seen(seen, now);
            }
            switch.handle_believed(link.id, capacity, now);
        });
        link.look_for_budget();
        #[cfg(feature = "next")]
        super::next::say(&connection);
        // A report that finds no room is worthless by the time there is some.
        let _ = events.try_send(BridgeEvent::Measured {
            link: link.id,
            rtt: stats.path.rtt,
            loss: measurement.loss,
            capacity,
            heard: link.tally.read(),
        });
    }
}

/// Reports between two looks for packets that nobody will ask for any more: 2 s.
const SWEEP: u32 = 8;
