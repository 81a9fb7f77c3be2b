//! Where this relay is: the addresses it bound, told to scripts in a file, and those that browsers are
//! offered.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use protocol::{NodeId, ZoneName};
use serde::{Deserialize, Serialize};

/// The file below `--data`.
pub const FILE: &str = "addresses.json";

/// What a running relay is and where it listens, with the ports the system gave for port 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// TCP.
    pub http: SocketAddr,
    /// UDP.
    pub media: SocketAddr,
    /// UDP, QUIC.
    pub bridge: SocketAddr,
    /// Its id.
    pub node: NodeId,
    /// Its zone.
    pub zone: ZoneName,
    /// Its process.
    pub pid: u32,
}

impl Addresses {
    /// Writes the file whole or not at all: a reader never sees half of it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written or put in its place.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let whole = serde_json::to_vec_pretty(self)?;
        let draft = directory.join(format!("{FILE}.new"));
        fs::write(&draft, whole)?;
        fs::rename(&draft, directory.join(FILE))
    }

    /// Removes the file of an earlier run, so that nobody takes it for this one's.
    pub fn remove(directory: &Path) {
        // Mostly it is not there.
        let _ = fs::remove_file(directory.join(FILE));
    }

    /// Reads the file of a relay, which may have stopped since.
    ///
    /// # Errors
    ///
    /// When the file is not there or cannot be read, or holds something else.
    pub fn read(directory: &Path) -> io::Result<Addresses> {
        Ok(serde_json::from_slice(&fs::read(directory.join(FILE))?)?)
    }

    /// The relay that wrote the file, if its process is still there.
    pub fn running(directory: &Path) -> Option<Addresses> {
        let addresses = Addresses::read(directory).ok()?;
        Path::new(&format!("/proc/{}", addresses.pid)).exists().then_some(addresses)
    }
}

/// The candidates for a media socket bound to `media`: `public` if the operator named any, the bound
/// address if it is one, else every usable address of this machine.
///
/// # Errors
///
/// When the system does not say what addresses this machine has; it is asked only if none is named or bound.
pub fn media_candidates(media: SocketAddr, public: &[IpAddr]) -> io::Result<Vec<SocketAddr>> {
    let ips = match (public, media.ip()) {
        ([], ip) if ip.is_unspecified() => {
            let all = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip());
            usable(all.filter(|ip| ip.is_ipv4() || media.is_ipv6()))
        }
        ([], ip) => vec![ip],
        (public, _) => public.to_vec(),
    };
    Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, media.port())).collect())
}

/// Where other relays reach a bridge bound to `bridge`: the bound address if it is one, else every usable
/// address of this machine.
///
/// # Errors
///
/// As [`media_candidates`].
pub fn bridge_addresses(bridge: SocketAddr) -> io::Result<Vec<SocketAddr>> {
    media_candidates(bridge, &[])
}

/// Addresses another machine can use, IPv4 first; loopback only if there is nothing else.
fn usable(ips: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut loopback, mut others): (Vec<_>, Vec<_>) =
        ips.filter(|ip| !ip.is_unspecified() && !is_link_local(*ip)).partition(|ip| ip.is_loopback());
    let chosen = if others.is_empty() { &mut loopback } else { &mut others };
    chosen.sort();
    chosen.dedup();
    std::mem::take(chosen)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => Ipv6Addr::is_unicast_link_local(&ip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn loopback_is_offered_only_if_there_is_nothing_else() {
        let all = ips(&["127.0.0.1", "fe80::1", "fd00::5", "10.0.0.1", "169.254.3.4", "::1"]);
        assert_eq!(usable(all.into_iter()), ips(&["10.0.0.1", "fd00::5"]));
        assert_eq!(usable(ips(&["fe80::1", "127.0.0.1"]).into_iter()), ips(&["127.0.0.1"]));
    }

    #[test]
    fn named_addresses_and_a_bound_address_are_offered_as_they_are() {
        let bound = "10.1.1.1:9000".parse().expect("an address");
        assert_eq!(media_candidates(bound, &[]).expect("no interface is asked"), [bound]);
        let named = media_candidates(bound, &ips(&["192.0.2.1"])).expect("no interface is asked");
        assert_eq!(named, ["192.0.2.1:9000".parse::<SocketAddr>().expect("an address")]);
    }

    #[test]
    fn the_file_reads_back_as_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let addresses = Addresses {
            http: address(1),
            media: address(2),
            bridge: address(3),
            node: NodeId([7; 32]),
            zone: ZoneName::new("stage").expect("a name"),
            pid: 42,
        };
        addresses.write(directory.path()).expect("writes");
        assert_eq!(Addresses::read(directory.path()).expect("reads"), addresses);
        Addresses::remove(directory.path());
        assert!(Addresses::read(directory.path()).is_err());
    }
}
