//! `relay-node doctor`: looks at the machine as a relay would find it and says how to mend what is
//! wrong. It changes nothing but a file it writes to the data directory and removes again.

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    path::Path,
    time::Duration,
};

use protocol::api;

use crate::{
    addresses::{self, Addresses},
    bridge::{Identity, SPOKEN},
    clock,
    config::{Config, Peer},
    ladder,
    membership::festival::{self, Festival},
    node::sessions::unreached,
    storage::{
        backup, door,
        records::{FILE, Store},
    },
};

/// What one look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// All is well.
    Good(String),
    /// The relay runs, but not as well as it could.
    Warning(String),
    /// The relay will not do its work.
    Bad(String),
}

use Finding::{Bad, Good, Warning};

/// The receive buffer the media port wants: 300 phones that join at once fit.
const RECEIVE_BUFFER: u64 = 8 * 1024 * 1024;
/// Sockets, files, 2000 HTTP connections and 4000 WebSockets.
const OPEN_FILES: u64 = 8192;
/// How long the relay that runs here may take to answer, and how much that may be.
const ANSWER: Duration = Duration::from_secs(2);
const ANSWER_MAX: u64 = 4 << 20;
/// How long a refusal of a peer's machine may take to come back.
const REFUSAL: Duration = Duration::from_millis(500);

/// Prints one line for each finding, and a sum; with `store` every record is read too. True if the relay will do its work.
pub fn run(config: &Config, store: bool) -> bool {
    let mut findings = look(config);
    findings.extend(store.then(|| records(&config.data)));
    let mut counts = [0; 3];
    for finding in &findings {
        let (index, word, text) = match finding {
            Good(text) => (0, "ok  ", text),
            Warning(text) => (1, "warn", text),
            Bad(text) => (2, "fail", text),
        };
        counts[index] += 1;
        println!("{word}  {text}");
    }
    println!("{} ok, {} to look at, {} to mend", counts[0], counts[1], counts[2]);
    counts[2] == 0
}

/// Every look, in the order in which a relay needs things.
pub fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![data(&config.data)];
    findings.extend(ports(config));
    findings.push(candidates(config));
    findings.extend(Addresses::running(&config.data).and_then(|relay| arrivals(config, &relay)));
    findings.extend(Addresses::running(&config.data).into_iter().flat_map(|relay| misfits(&relay)));
    findings.extend(Addresses::running(&config.data).and_then(|relay| ladder(&relay)));
    findings.push(receive_buffer(read_number("/proc/sys/net/core/rmem_max")));
    findings.push(open_files(open_files_limit()));
    findings.push(wall_clock(clock::wall().0));
    findings.push(openness(config));
    findings.extend(token(config, clock::wall().0 / 1000));
    findings.extend(config.peers.iter().map(peer));
    findings
}

fn data(directory: &Path) -> Finding {
    let probe = directory.join(".doctor");
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(&probe, "x"));
    let written = written.and_then(|()| fs::remove_file(&probe));
    let shown = directory.display();
    match written {
        Ok(()) => Good(format!("data directory {shown} is writable")),
        Err(error) => Bad(format!(
            "data directory {shown} is not writable ({error}): give it to this user, or choose another with --data"
        )),
    }
}

/// Every record in the data directory, read by the relay that runs on it or here.
fn records(data: &Path) -> Finding {
    let rows = match door::ask(data) {
        Ok(Some(rows)) => rows,
        Ok(None) if !data.join(FILE).exists() => return Good("there are no records yet".to_owned()),
        Ok(None) => match Store::check(data) {
            Ok(rows) => rows,
            Err(error) => {
                return Bad(format!(
                    "{error}. The next start sets it aside and keeps what can be read; other relays give the rest"
                ));
            }
        },
        Err(error) => return Bad(format!("the relay that runs here gives no records: {error}")),
    };
    match backup::counts(&rows) {
        (good, 0) => Good(format!("all {good} records on disk are as they were written")),
        (good, damaged) => Warning(format!(
            "{damaged} records on disk are not what was written there, {good} are: other relays are asked for them. The \
             disk may be about to fail, copy the data directory"
        )),
    }
}

fn ports(config: &Config) -> Vec<Finding> {
    if let Some(running) = Addresses::running(&config.data) {
        return vec![Good(format!(
            "a relay of zone {} runs on this data directory (process {}): http {}, media {}, bridge {}",
            running.zone, running.pid, running.http, running.media, running.bridge
        ))];
    }
    let tcp = |address: SocketAddr| TcpListener::bind(address).map(drop);
    let udp = |address: SocketAddr| UdpSocket::bind(address).map(drop);
    vec![
        port("http", "TCP", config.http, tcp(config.http)),
        port("media", "UDP", config.media, udp(config.media)),
        port("bridge", "UDP", config.bridge, udp(config.bridge)),
    ]
}

fn port(key: &str, transport: &str, address: SocketAddr, bound: io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Good(format!("{key} {address} ({transport}) is free")),
        Err(error) => Bad(format!(
            "{key} {address} ({transport}) cannot be bound ({error}): stop what uses it, or choose another with --{key}"
        )),
    }
}

fn candidates(config: &Config) -> Finding {
    match addresses::media_candidates(config.media, &config.public_ips) {
        Ok(all) if all.iter().all(|address| address.ip().is_loopback()) => Warning(
            "browsers are offered only this machine itself: connect a network, or name an address with --public-ip"
                .to_owned(),
        ),
        Ok(all) => Good(format!("browsers are offered UDP {}", unreached::ports(&all))),
        Err(error) => Bad(format!("the interfaces cannot be listed ({error}): name an address with --public-ip")),
    }
}

/// Whether those who get the pages of the relay that runs here get its media too, as it has counted.
fn arrivals(config: &Config, relay: &Addresses) -> Option<Finding> {
    let media = SocketAddr::new(config.media.ip(), relay.media.port());
    let ports = addresses::media_candidates(media, &config.public_ips).unwrap_or_default();
    let ports = unreached::ports(&ports);
    match metrics_of(relay.http) {
        Ok(text) => arrived(&text, &ports),
        Err(error) => Some(Warning(format!(
            "the relay that runs here does not answer at {} ({error}): its log says more",
            relay.http
        ))),
    }
}

fn arrived(metrics: &str, ports: &str) -> Option<Finding> {
    let sum = |name: &str| {
        let of = |line: &str| line.strip_prefix(name)?.split_whitespace().last()?.parse::<f64>().ok();
        metrics.lines().filter_map(of).sum::<f64>() as u64
    };
    let count = |kind: &str| sum(&format!("relay_unreached_total{{kind=\"{kind}\"}}"));
    let (listeners, publishers) = (count("egress"), count("ingest"));
    // Of publishers nobody counts how many came; a listener that connects is in the histogram of joins.
    let joined = sum("relay_join_duration_seconds_count");
    match (listeners + publishers, joined) {
        (0, 0) => None,
        (0, joined) => {
            Some(Good(format!("{joined} listeners had the page and the sound since the relay started")))
        }
        (some, joined) => {
            let text = unreached::sentence(listeners, publishers, ports);
            let text = format!("{text} (since the relay started; listeners that connected: {joined})");
            // One phone that left the field is no reason for an alarm.
            Some(if some > joined { Bad(text) } else { Warning(text) })
        }
    }
}

/// Whether the relay that runs here has closed rungs, as it has counted.
fn ladder(relay: &Addresses) -> Option<Finding> {
    // That it does not answer was said above.
    closed_rungs(&metrics_of(relay.http).ok()?)
}

fn closed_rungs(metrics: &str) -> Option<Finding> {
    let closed =
        |line: &str| line.strip_prefix("relay_ladder_stages{state=\"closed\"} ")?.parse::<f64>().ok();
    let sentence = ladder::sentence(metrics.lines().find_map(closed)? as usize)?;
    Some(Warning(format!(
        "{sentence}. Listeners with little room get less, or nothing: give the relay more cores, or fewer stages"
    )))
}

/// Relays that no link can be made to before one of the two is updated, what suffers from relays that are not, and what the
/// relay's own disk lacked.
fn misfits(relay: &Addresses) -> Vec<Finding> {
    // That it does not answer was said above.
    let Ok(text) = get(relay.http, "/api/v1/mesh") else { return Vec::new() };
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    match serde_json::from_str::<api::Mesh>(body) {
        Ok(mesh) => {
            let twice = mesh.key_twice.iter().map(|twice| Bad(twice.warning.clone()));
            let disk = twice.chain(older_disk_in(&mesh)).chain(store_in(&mesh));
            misfits_in(&mesh).into_iter().chain(held_up_in(&mesh)).chain(disk).collect()
        }
        Err(_) => Vec::new(),
    }
}

fn misfits_in(mesh: &api::Mesh) -> Vec<Finding> {
    if mesh.misfits.is_empty() {
        return vec![Good(format!("every relay that was met speaks one of the bridge versions {SPOKEN}"))];
    }
    mesh.misfits.iter().map(|misfit| Bad(misfit.warning.clone())).collect()
}

/// Pictures that come worse than they could, because of relays that are not updated.
fn held_up_in(mesh: &api::Mesh) -> impl Iterator<Item = Finding> {
    mesh.held_up.iter().map(|held_up| Warning(held_up.warning.clone()))
}

/// What its disk was found to lack.
fn older_disk_in(mesh: &api::Mesh) -> Option<Finding> {
    mesh.older_disk.as_ref().map(|older| Warning(older.warning.clone()))
}

/// What is wrong with its file of records.
fn store_in(mesh: &api::Mesh) -> Option<Finding> {
    let store = mesh.store.as_ref()?;
    let warning = store.warning.clone();
    Some(if store.history { Warning(warning) } else { Bad(warning) })
}

/// `GET /metrics` of a relay on this machine.
fn metrics_of(http: SocketAddr) -> io::Result<String> {
    get(http, "/metrics")
}

/// What a relay on this machine answers, its head included.
fn get(http: SocketAddr, path: &str) -> io::Result<String> {
    let local: IpAddr = if http.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let address = SocketAddr::new(if http.ip().is_unspecified() { local } else { http.ip() }, http.port());
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut text = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut text)?;
    if !text.starts_with("HTTP/1.0 200") && !text.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(text.lines().next().unwrap_or("no answer").to_owned()));
    }
    Ok(text)
}

fn receive_buffer(maximum: Option<u64>) -> Finding {
    match maximum {
        Some(maximum) if maximum < RECEIVE_BUFFER => Warning(format!(
            "the kernel caps receive buffers at {maximum} bytes, and a crowd that joins at once needs {RECEIVE_BUFFER}: \
             `sysctl -w net.core.rmem_max={RECEIVE_BUFFER}`, and the same line in /etc/sysctl.d/ to keep it"
        )),
        Some(maximum) => Good(format!("the kernel allows receive buffers of {maximum} bytes")),
        None => Warning("the kernel does not say how large receive buffers may be".to_owned()),
    }
}

fn open_files(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < OPEN_FILES => Warning(format!(
            "only {limit} files may be open, and 4000 browsers need {OPEN_FILES}: `ulimit -n {OPEN_FILES}`, or \
             LimitNOFILE={OPEN_FILES} in the systemd unit"
        )),
        Some(limit) => Good(format!("{limit} files may be open")),
        None => Warning("the kernel does not say how many files may be open".to_owned()),
    }
}

fn wall_clock(now_ms: u64) -> Finding {
    let shown = rooms::WallTime(now_ms);
    if now_ms < clock::EARLIEST.0 {
        return Warning(format!(
            "the clock says {shown}: set it (`date -s …` or a time server); chat is shown with wrong times otherwise"
        ));
    }
    Good(format!("the clock says {shown}"))
}

fn openness(config: &Config) -> Finding {
    if config.dev {
        return Warning("--dev: anybody can publish and any relay can bridge; not for a festival".to_owned());
    }
    let trusted = config.trust.len();
    match (config.publish_token.is_some(), trusted) {
        (false, _) => Warning("nobody can publish here: set --publish-token if somebody shall".to_owned()),
        (true, _) if config.festival.is_some() => Good(format!(
            "publishing needs the token, relays of the festival and {trusted} others may bridge"
        )),
        (true, 0) => Warning(
            "no relay may bridge to this one: name those that shall with --trust, or give it a zone token"
                .to_owned(),
        ),
        (true, trusted) => Good(format!("publishing needs the token, {trusted} relays may bridge")),
    }
}

/// The zone token as the relay would read it. The log says the same louder, once the relay runs.
fn token(config: &Config, now: u64) -> Option<Finding> {
    let files = config.festival.as_ref()?;
    let id = match config.data.join("node.key").exists().then(|| Identity::load_or_create(&config.data)) {
        Some(Ok(identity)) => identity.node_id(),
        Some(Err(error)) => return Some(Bad(error.to_string())),
        None => return Some(Warning("the zone token cannot be looked at before `relay-node id`".to_owned())),
    };
    let kept = config.data.join(festival::KEPT);
    let loaded = Festival::load(files, kept, (id, &config.zone), now);
    Some(match loaded.map(|festival| (festival.own(now), festival)) {
        Err(error) => Bad(format!("{error}: ask the organizer for another (`relay-node festival issue`)")),
        Ok((Err(_), festival)) => Bad(festival.status_line(now)),
        Ok((Ok(_), festival)) => match festival.warning(now) {
            Some(warning) => Warning(warning),
            None => Good(festival.status_line(now)),
        },
    })
}

/// Resolves the name and sends one byte: where nothing listens, the machine says so. Silence proves
/// nothing, and is reported as what it is.
fn peer(peer: &Peer) -> Finding {
    let resolved = peer.address().to_socket_addrs().map(|mut addresses| addresses.next());
    let address = match resolved {
        Ok(Some(address)) => address,
        Ok(None) => return Bad(format!("peer {peer} has no address: mend the name or give an IP address")),
        Err(error) => {
            return Bad(format!("peer {peer} is not found ({error}): mend the name or give an IP address"));
        }
    };
    match refusal(address) {
        Ok(()) => {
            Good(format!("peer {peer} is {address} and did not refuse (only a bridge proves it is a relay)"))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Bad(format!("peer {peer} ({address}): nothing listens there; start that relay or mend the port"))
        }
        Err(error) => {
            Bad(format!("peer {peer} ({address}) cannot be reached ({error}): look at routes and cables"))
        }
    }
}

fn refusal(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(REFUSAL))?;
    socket.send(&[0])?;
    match socket.recv(&mut [0; 1]) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn open_files_limit() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    // The second figure: the relay raises its own limit as far as that.
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_that_closed_are_a_warning() {
        let told = |closed: usize| {
            closed_rungs(&format!(
                "relay_ladder_stages{{state=\"open\"}} 7\nrelay_ladder_stages{{state=\"closed\"}} {closed}\n"
            ))
        };
        assert_eq!((told(0), closed_rungs("")), (None, None));
        let Some(Warning(text)) = told(2) else { panic!("a warning") };
        assert!(text.starts_with("the ladder is closed for 2 stages: the machine is short of CPU"), "{text}");
    }

    #[test]
    fn what_is_wrong_comes_with_its_mending() {
        assert!(
            matches!(receive_buffer(Some(212_992)), Warning(text) if text.contains("sysctl -w net.core.rmem_max=8388608"))
        );
        assert!(matches!(receive_buffer(Some(RECEIVE_BUFFER)), Good(_)));
        assert!(matches!(open_files(Some(1024)), Warning(text) if text.contains("LimitNOFILE")));
        assert!(matches!(wall_clock(0), Warning(text) if text.contains("1970")));
        let taken = Err(io::ErrorKind::AddrInUse.into());
        let address = ([127, 0, 0, 1], 80).into();
        assert!(matches!(port("http", "TCP", address, taken), Bad(text) if text.contains("--http")));
    }

    #[test]
    fn a_relay_that_does_not_fit_is_named_with_the_one_to_update() {
        let range = |version| api::VersionRange { lowest: version, highest: version };
        let mut mesh = api::Mesh {
            own: String::new(),
            nodes: vec![],
            links: vec![],
            articulation_points: vec![],
            bridges: vec![],
            cut_links: vec![],
            areas: vec![],
            versions: range(4),
            misfits: vec![],
            held_up: vec![],
            older_disk: None,
            key_twice: None,
            store: None,
        };
        assert!(matches!(&misfits_in(&mesh)[..], [Good(_)]));
        let warning =
            "relay 07070707 of gate speaks bridge versions 5 to 5, this one 4 to 4: update this relay";
        let (node, zone) = ("07".repeat(32), "gate".to_owned());
        mesh.misfits.push(api::MeshMisfit { node, zone, versions: range(5), warning: warning.to_owned() });
        assert_eq!(misfits_in(&mesh), [Bad(warning.to_owned())]);
        let warning = "the picture of main comes in one encoding: relay 07070707 of gate speaks bridge version 4, \
                       update it";
        let held_up = api::MeshHeldUp { stream: "main".to_owned(), node: None, warning: warning.to_owned() };
        mesh.held_up.push(held_up);
        assert!(held_up_in(&mesh).eq([Warning(warning.to_owned())]));
        assert_eq!(older_disk_in(&mesh), None);
        let (node, zone, since) = ("07".repeat(32), Some("gate".to_owned()), String::new());
        let warning = "relay 07070707 of gate gave back 3 records".to_owned();
        let older = api::MeshOlderDisk { records: 3, node, zone, since, warning: warning.clone() };
        mesh.older_disk = Some(older);
        assert_eq!(older_disk_in(&mesh), Some(Warning(warning)));
        assert_eq!(store_in(&mesh), None);
        for (history, finding) in [(true, Warning("words".to_owned())), (false, Bad("words".to_owned()))] {
            mesh.store = Some(api::MeshStore { history, warning: "words".to_owned() });
            assert_eq!(store_in(&mesh), Some(finding));
        }
    }

    #[test]
    fn those_who_get_the_page_and_no_sound_are_told_of_with_the_port() {
        let metrics = |listeners: u32, publishers: u32, joined: u32| {
            format!(
                "# TYPE relay_unreached_total counter\nrelay_unreached_total{{kind=\"egress\"}} {listeners}\n\
                 relay_unreached_total{{kind=\"ingest\"}} {publishers}\n\
                 relay_join_duration_seconds_bucket{{le=\"30\"}} 77\nrelay_join_duration_seconds_count {joined}\n"
            )
        };
        let find = |listeners, publishers, joined| {
            arrived(&metrics(listeners, publishers, joined), "192.0.2.1:8080 or [2001:db8::1]:8080")
        };
        assert_eq!(find(0, 0, 0), None);
        assert!(matches!(find(0, 0, 12), Some(Good(text)) if text.contains("12 listeners")));
        let Some(Bad(text)) = find(5, 1, 0) else { panic!("all is well?") };
        assert!(text.contains("the page arrives, the sound does not: 5 listeners and 1 publisher"), "{text}");
        assert!(text.contains("UDP to 192.0.2.1:8080 or [2001:db8::1]:8080"), "{text}");
        assert!(matches!(find(1, 0, 200), Some(Warning(text)) if text.contains("1 listener had")));
    }

    #[test]
    fn the_zone_token_is_looked_at_as_the_relay_will() {
        let data = tempfile::tempdir().expect("a directory");
        let path = data.path().join("zone.token");
        let key = crate::membership::key_file::OrganizerKey::create("Field").expect("a key");
        let at = 1_800_000_000;
        let flags = ["relay-node", "--data", &data.path().display().to_string(), "--festival-token"]
            .map(std::ffi::OsString::from);
        let flags = flags.into_iter().chain([path.clone().into_os_string()]);
        let (_, config) = crate::config::read(flags, []).expect("is good");
        assert!(matches!(token(&config, at), Some(Warning(text)) if text.contains("relay-node id")));
        let identity = Identity::load_or_create(data.path()).expect("an identity");
        let zone = config.zone.clone();
        let issue = |node| crate::cli::festival::issue(&key, node, &zone, 30, at).expect("a token").0;
        fs::write(&path, issue(protocol::NodeId([3; 32]))).expect("writes");
        assert!(matches!(token(&config, at), Some(Bad(text)) if text.contains("another relay")));
        fs::write(&path, issue(identity.node_id())).expect("writes");
        assert!(matches!(token(&config, at), Some(Good(text)) if text.contains("30 days")));
        assert!(matches!(token(&config, at + 31 * 86_400), Some(Warning(text)) if text.contains("24 h ago")));
        assert!(
            matches!(token(&config, at + 33 * 86_400), Some(Bad(text)) if text.contains("no relay bridges"))
        );
    }

    #[test]
    fn a_peer_that_is_not_there_is_found_out() {
        let port = {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            socket.local_addr().expect("an address").port()
        };
        let finding = peer(&Peer { host: "127.0.0.1".into(), port, underlay: Default::default() });
        assert!(matches!(&finding, Bad(text) if text.contains("nothing listens")), "{finding:?}");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("an address").port();
        assert!(matches!(
            peer(&Peer { host: "127.0.0.1".into(), port, underlay: Default::default() }),
            Good(_)
        ));
    }
}
