//! ICE candidates (RFC 8839 section 5.1): the peer's are read and counted, never used, because an
//! ICE-lite end answers only to addresses that checked in; ours are printed.

use std::net::{IpAddr, SocketAddr};

/// What a candidate of the peer would have reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A usable UDP address.
    Udp(SocketAddr),
    /// A TCP candidate.
    Tcp,
    /// A host name, `.local` or other: never resolved.
    Name,
    /// Link-local, broadcast, multicast, unspecified, or port 0.
    Nowhere,
}

/// One candidate of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Where it points. For counting only: nothing is sent there.
    pub reach: Reach,
}

impl Candidate {
    /// Reads the value of `a=candidate` with or without its name; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Candidate> {
        let text = text.strip_prefix("candidate:").unwrap_or(text);
        let mut words = text.split_ascii_whitespace();
        let _foundation = words.next()?;
        let _component: u16 = words.next()?.parse().ok()?;
        let transport = words.next()?;
        let _priority: u64 = words.next()?.parse().ok()?;
        let address = words.next()?;
        let port: u16 = words.next()?.parse().ok()?;
        if words.next()? != "typ" {
            return None;
        }
        let reach = match (transport.eq_ignore_ascii_case("udp"), address.parse::<IpAddr>()) {
            (false, _) => Reach::Tcp,
            (true, Err(_)) => Reach::Name,
            (true, Ok(ip)) if port == 0 || nowhere(ip) => Reach::Nowhere,
            (true, Ok(ip)) => Reach::Udp(SocketAddr::new(ip, port)),
        };
        Some(Candidate { reach })
    }
}

/// The values of our `a=candidate` lines, the first address preferred.
pub(super) fn print(addresses: &[SocketAddr]) -> impl Iterator<Item = String> + '_ {
    addresses.iter().enumerate().map(|(index, address)| {
        let preference = u32::from(u16::MAX).saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
        // RFC 8445 section 5.1.2.1, type preference of a host, component 1
        let priority = (126 << 24) + (preference << 8) + 255;
        format!("{} 1 udp {priority} {} {} typ host", index + 1, address.ip(), address.port())
    })
}

fn nowhere(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.is_multicast() || ip.is_unspecified(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(text: &str) -> Option<Reach> {
        Candidate::parse(text).map(|candidate| candidate.reach)
    }

    #[test]
    fn candidates_that_lead_nowhere_are_known_as_such() {
        let end = "typ host generation 0 network-cost 999";
        assert_eq!(reach(&format!("1 1 udp 1 0c5ae7ae.local 5000 {end}")), Some(Reach::Name));
        assert_eq!(reach(&format!("1 1 UDP 1 fe80::1 5000 {end}")), Some(Reach::Nowhere));
        assert_eq!(reach(&format!("1 1 udp 1 255.255.255.255 5000 {end}")), Some(Reach::Nowhere));
        assert_eq!(reach(&format!("1 1 udp 1 192.0.2.1 0 {end}")), Some(Reach::Nowhere));
        assert_eq!(reach(&format!("1 1 tcp 1 192.0.2.1 9 {end} tcptype active")), Some(Reach::Tcp));
        let there = "[2001:db8::1]:5000".parse().unwrap();
        assert_eq!(reach(&format!("1 1 udp 1 2001:db8::1 5000 {end}")), Some(Reach::Udp(there)));
        assert_eq!(reach("candidate:1 1 udp 1 192.0.2.1"), None);
        assert_eq!(reach(""), None);
    }

    #[test]
    fn our_first_address_has_the_highest_priority() {
        let ours = ["192.0.2.1:8080".parse().unwrap(), "[2001:db8::1]:8080".parse().unwrap()];
        let lines: Vec<String> = print(&ours).collect();
        assert_eq!(lines[0], "1 1 udp 2130706431 192.0.2.1 8080 typ host");
        assert_eq!(lines[1], "2 1 udp 2130706175 2001:db8::1 8080 typ host");
        assert!(matches!(reach(&lines[0]), Some(Reach::Udp(_))));
    }
}
