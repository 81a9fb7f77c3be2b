//! Relays on the local network find each other by multicast DNS, without any server: this relay announces
//! itself and says who else does. Whether a link is made others decide; who may be a neighbor, TLS.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mdns_sd::{IfKind, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use protocol::{NodeId, ZoneName};
use tokio::sync::mpsc;

/// RFC 6763: the service and how it is carried.
const SERVICE: &str = "_peddlenet-relay._udp.local.";
/// What is still there is said again.
const AGAIN: Duration = Duration::from_secs(60);
/// Relays on one local network.
const SEEN_MAX: usize = 256;
const SEEN_QUEUE: usize = 64;

/// A relay that says it is here: unproven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who it says it is.
    pub node: NodeId,
    /// Where it says its bridge listens.
    pub addresses: Vec<SocketAddr>,
}

/// What a relay is called in multicast DNS.
pub fn host_name(id: NodeId) -> String {
    format!("{}.local", instance(id))
}

fn instance(id: NodeId) -> String {
    id.to_string().chars().take(16).collect()
}

/// Announces this relay at `addresses` and looks for others, for as long as the receiver lives.
///
/// # Errors
///
/// What the library says if it cannot open its sockets or start its thread, or if a name or an address does
/// not fit it.
pub fn start(
    id: NodeId,
    zone: &ZoneName,
    addresses: &[SocketAddr],
) -> Result<mpsc::Receiver<Seen>, mdns_sd::Error> {
    let daemon = ServiceDaemon::new()?;
    let port = addresses.first().map_or(0, SocketAddr::port);
    let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    if ips.iter().all(IpAddr::is_loopback) {
        daemon.enable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    }
    let (name, whole) = (&*instance(id), id.to_string());
    let properties = [("id", whole.as_str()), ("zone", zone.as_str())];
    let info =
        ServiceInfo::new(SERVICE, name, &format!("{}.", host_name(id)), &ips[..], port, &properties[..])?;
    daemon.register(info)?;
    let events = daemon.browse(SERVICE)?;
    let (sender, receiver) = mpsc::channel(SEEN_QUEUE);
    tokio::spawn(async move {
        let mut known: BTreeMap<String, Seen> = BTreeMap::new();
        let mut again = tokio::time::interval(AGAIN);
        loop {
            tokio::select! {
                () = sender.closed() => break,
                event = events.recv_async() => match event {
                    Ok(ServiceEvent::ServiceResolved(service)) => {
                        let Some(seen) = seen(&service).filter(|seen| seen.node != id) else { continue };
                        if known.len() < SEEN_MAX || known.contains_key(&service.fullname) {
                            known.insert(service.fullname.clone(), seen.clone());
                            // One that finds no room comes again.
                            let _ = sender.try_send(seen);
                        }
                    }
                    Ok(ServiceEvent::ServiceRemoved(_, name)) => drop(known.remove(&name)),
                    Ok(_) => {}
                    Err(_) => break,
                },
                _ = again.tick() => {
                    for seen in known.values() {
                        let _ = sender.try_send(seen.clone());
                    }
                }
            }
        }
        // Others are told at once that this relay is gone.
        if let Ok(gone) = daemon.shutdown() {
            let _ = gone.recv_async().await;
        }
    });
    Ok(receiver)
}

fn seen(service: &ResolvedService) -> Option<Seen> {
    let node = service.get_property_val_str("id")?.parse().ok()?;
    let mut ips: Vec<IpAddr> = service.get_addresses().iter().map(|ip| ip.to_ip_addr()).collect();
    // IPv4 first; link-local IPv6 would need to know the interface.
    ips.retain(|ip| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
    ips.sort();
    let addresses = ips.into_iter().map(|ip| SocketAddr::new(ip, service.get_port())).collect();
    Some(Seen { node, addresses })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sees(receiver: &mut mpsc::Receiver<Seen>, sought: NodeId) -> Seen {
        loop {
            let seen = receiver.recv().await.expect("it runs");
            if seen.node == sought {
                return seen;
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_relays_on_one_network_find_each_other() {
        let zone = ZoneName::new("stage").expect("a name");
        let (a, b) = (NodeId([0xa1; 32]), NodeId([0xb2; 32]));
        let at = |port| [SocketAddr::from(([127, 0, 0, 1], port))];
        let mut of_a = start(a, &zone, &at(8081)).expect("starts");
        let mut of_b = start(b, &zone, &at(8082)).expect("starts");
        let both = async { (sees(&mut of_a, b).await, sees(&mut of_b, a).await) };
        match tokio::time::timeout(Duration::from_secs(20), both).await {
            Ok((by_a, by_b)) => {
                assert_eq!(by_a.addresses, at(8082));
                assert_eq!(by_b.addresses, at(8081));
            }
            Err(_) => panic!("no multicast on loopback, or no answer"),
        }
    }
}
