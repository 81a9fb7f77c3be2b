//! What a relay that is a neighbor sends: datagrams on their way through a relay that stands between two neighbors,
//! and the frames of its streams.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mesh_routing::message::Message;
use protocol::{
    ZoneName,
    mesh::{Alias, Class, DatagramHeader, DatagramKind, Fragment, SenderClock, Withheld},
    parity::{Cover, Group, Parity, Protection},
};
use relay_node::{
    bridge::{
        BridgeConfig, BridgeEvent, Bridges, Child, Forwarding, Identity, LinkSender, LocalDelivery, Route,
        SPOKEN, Table, Trust,
        outside::{self, Crossing},
    },
    vitals::Pulse,
};
use tokio::sync::mpsc;

use crate::{
    sessions::{piece, pieces},
    targets::{self, mesh_message},
};

/// The longest packet that comes in fragments (docs/mesh.md).
const PACKET_MAX: usize = 2048;
/// Packets of a link that may be incomplete at a time.
const PARTIAL_MAX: usize = 64;
/// Parities of an alias that wait for more to come: each may bring a packet.
const PARITIES_MAX: usize = 8;
/// What is kept for parity of an alias: 32 datagrams and the parities that wait, of 1500 octets each.
const KEPT_MAX: usize = (32 + PARITIES_MAX) * 1500;
/// No relay answers one datagram with so many: an ask names 128, and a packet leaves in 15 fragments.
const ANSWERS_MAX: usize = 256;

/// Two links that were up once, to two neighbors.
static LINKS: LazyLock<[LinkSender; 2]> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (middle, mut events) = start("middle", Vec::new()).await;
        let peer = vec![middle.local_addr().to_string()];
        let ends = [start("one", peer.clone()).await, start("two", peer).await];
        let mut links = Vec::new();
        while links.len() < 2 {
            if let BridgeEvent::Up { sender, .. } = events.recv().await.expect("the bridges run") {
                links.push(sender);
            }
        }
        // What is left of them sends nothing and waits for nothing.
        for bridges in ends.into_iter().map(|(bridges, _)| bridges).chain([middle]) {
            bridges.shutdown().await;
        }
        links.try_into().expect("there are two")
    })
});

async fn start(zone: &str, peers: Vec<String>) -> (Bridges, mpsc::Receiver<BridgeEvent>) {
    let data = tempfile::tempdir().expect("a directory for the key");
    let (sender, events) = mpsc::channel(1024);
    let config = BridgeConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        peers,
        identity: Arc::new(Identity::load_or_create(data.path()).expect("a key")),
        zone: ZoneName::new(zone).expect("a good name"),
        trust: Trust::Anyone,
        versions: SPOKEN,
    };
    let local: LocalDelivery = Arc::new(|_, _, _| {});
    let bridges = Bridges::start(config, Arc::default(), local, sender, Pulse::unwatched()).await;
    (bridges.expect("a socket"), events)
}

/// Sound that comes from both neighbors as 1 and goes to both, a picture that comes from the first as 2.
fn table(links: &[LinkSender; 2]) -> Table {
    // Numbers of tracks are used once: nothing is known of them from the input before.
    static TRACKS: AtomicU64 = AtomicU64::new(0);
    let first = TRACKS.fetch_add(2, Ordering::Relaxed);
    let to = |link: usize, alias| Child { link: links[link].clone(), alias: Alias(alias), precedence: 0 };
    let sound =
        Route { track: first, local: Some(1), class: Class::Audio, children: vec![to(0, 11), to(1, 12)] };
    let picture = Route { track: first + 1, local: Some(2), class: Class::Video, children: vec![to(1, 13)] };
    let incoming = HashMap::from([
        ((links[0].link(), Alias(1)), sound.clone()),
        ((links[1].link(), Alias(1)), sound),
        ((links[0].link(), Alias(2)), picture),
    ]);
    Table { incoming, local: HashMap::new() }
}

fn written(kind: DatagramKind, alias: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    DatagramHeader { kind, epoch: 3, alias: Alias(alias), sequence }.write(&mut bytes);
    bytes.extend(payload);
    bytes
}

fn rtp(number: u16, length: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(number.to_be_bytes());
    packet.resize(length, number as u8);
    packet
}

/// The first octet says how long a datagram may be that leaves; then pieces, each a datagram. The word of one says
/// over which link it comes, and how many tenths of a second before the next.
pub fn datagrams() -> Vec<Vec<u8>> {
    // Now: it takes longer than an input may.
    LazyLock::force(&LINKS);
    let one = |alias, sequence, payload: &[u8]| written(DatagramKind::Rtp, alias, sequence, payload);
    let mut parts = Vec::new();
    for (at, content) in rtp(700, 1300).chunks(500).enumerate() {
        let mut part = Vec::new();
        Fragment { number: at as u8, of: 3, packet: 700 }.write(&mut part);
        part.extend(content);
        parts.push(piece(0, &written(DatagramKind::Fragment, 2, 40 + at as u16, &part)));
    }
    let mut clock = Vec::new();
    SenderClock { ntp: 1 << 40, rtp: 7 }.write(&mut clock);
    let ask = |alias, first| piece(1, &written(DatagramKind::Nack, alias, first, &[0xff, 1]));
    let sound: Vec<u8> = (0..6)
        .filter(|n| *n != 3)
        .flat_map(|n| {
            [piece(0, &one(1, n, &rtp(n + 9, 90))), piece(1, &one(1, n + 50, &rtp(n + 9, 90)))].concat()
        })
        .collect();
    // Kinds of a later version, in the sequence of the sound and not.
    let later = |kind, sequence| written(DatagramKind::Unknown(kind), 1, sequence, b"a note");
    let withheld = |sequence, first, count| {
        let mut run = Vec::new();
        Withheld { first, count }.write(&mut run);
        piece(0, &written(DatagramKind::Withheld, 2, sequence, &run))
    };
    let tick = piece(0, &written(DatagramKind::SenderClock, 1, 6, &clock));
    // Four packets in a row, of which one does not come, and the parity of them.
    let four: Vec<Vec<u8>> = (0..4_u16).map(|n| rtp(n + 30, 70 + usize::from(n))).collect();
    let parity = |bits: u16, flags: u8, length: u16, first| {
        let mut out = Vec::new();
        Parity { group: Group { first, bits }, flags, length }.write(&mut out);
        let body = (0..73).map(|at| four.iter().fold(0, |sum, one| sum ^ one.get(at).unwrap_or(&0)));
        out.extend(body);
        piece(0, &written(DatagramKind::Parity, 1, first, &out))
    };
    let come = |number: u16| piece(0, &one(1, number, &four[usize::from(number)]));
    let length = four.iter().fold(0, |sum, one| sum ^ one.len() as u16);
    let first = parity(0b1111, 0, length, 0);
    let lossy = [&come(0)[..], &first, &come(1), &come(3), &parity(0b1111, 0, length, 0)].concat();
    let lies = [parity(0b1111, 0, 9999, 0), parity(0b1111, 7, length, 0), parity(3, 0, 3, 40_000)].concat();
    let repeated = [&first[..], &first, &parity(0b1001, 0, 1, 65_534), &come(2)].concat();
    let picture: Vec<u8> = (0..4).flat_map(|n| piece(0, &one(2, n, &rtp(n, 1100)))).collect();
    vec![
        [&[150], &sound[..], &tick, &ask(12, 0)].concat(),
        [&[60], &picture[..], &ask(13, 0), &parts.concat(), &tick].concat(),
        [&[20], &parts[2][..], &piece(2, &one(2, 39, &rtp(699, 60))), &parts[0], &parts[1]].concat(),
        [&[1], &picture[..], &piece(4, &[]), &ask(13, 65_535)].concat(),
        [&[150], &piece(0, &later(5, 0))[..], &sound, &piece(0, &later(9, 3)), &tick].concat(),
        [&[150], &picture[..], &withheld(4, 4, 9), &piece(0, &one(2, 5, &rtp(13, 900))), &withheld(6, 20, 0)]
            .concat(),
        [&[150], &lossy[..], &repeated].concat(),
        [&[150], &come(0)[..], &first, &come(1), &come(3), &lies, &repeated].concat(),
    ]
}

/// What became of the datagrams of one input.
#[derive(Default)]
struct Passed {
    /// What was heard here, and over which link it had come.
    heard: Vec<(usize, Bytes)>,
    /// What left in fragments: by link, alias and the sequence of its first fragment.
    parts: BTreeMap<(usize, u16, u16), BTreeMap<u8, Bytes>>,
}

pub fn datagram(bytes: &[u8]) {
    let Some((&longest, bytes)) = bytes.split_first() else { return };
    let longest = 40 + 10 * usize::from(longest);
    let links = &*LINKS;
    let forwarding = Arc::new(Forwarding::new());
    forwarding.replace(table(links));
    let delivered: Arc<Mutex<Vec<(DatagramHeader, Bytes)>>> = Arc::default();
    let local: LocalDelivery = {
        let delivered = delivered.clone();
        Arc::new(move |_, header, payload| delivered.lock().expect("one thread").push((header, payload)))
    };
    // Both want parity of all that goes to them.
    let protection = Protection { audio: Cover::Twice, video: Cover::Once };
    links.iter().for_each(|link| link.protect(protection));
    let mut crossing = Crossing::new(links.clone(), &forwarding, &local);
    let (mut passed, mut now) = (Passed::default(), tests::now());
    for (word, datagram) in pieces(bytes).take(256) {
        let from = usize::from(word & 1);
        crossing.handle(from, Bytes::copy_from_slice(datagram), now);
        now += Duration::from_millis(100) * u32::from(word >> 1);
        crossing.handle_timeout(now);
        let whole = std::mem::take(&mut *delivered.lock().expect("one thread"));
        assert!(whole.len() <= 1 + PARITIES_MAX, "a datagram is one packet, and what parity brings by it");
        for (header, payload) in whole {
            let came = DatagramHeader::read(datagram).map(|came| came.kind);
            let is_as_it_came = came == Some(DatagramKind::Rtp) && datagram.ends_with(&payload);
            assert!(is_as_it_came || payload.len() <= PACKET_MAX, "{} bytes put together", payload.len());
            match header.kind {
                DatagramKind::Rtp => assert!(payload.len() >= 12, "no packet"),
                DatagramKind::SenderClock => assert!(SenderClock::read(&payload).is_some(), "no clock"),
                DatagramKind::Withheld => assert!(Withheld::read(&payload).is_some(), "nothing was withheld"),
                DatagramKind::Nack
                | DatagramKind::Fragment
                | DatagramKind::Probe
                | DatagramKind::Parity
                | DatagramKind::Unknown(_) => {
                    panic!("{header:?} is for nobody here")
                }
            }
            passed.heard.push((from, payload));
        }
        assert!(crossing.held() <= 2 * PARTIAL_MAX * PACKET_MAX, "{} bytes are held", crossing.held());
        let kept = crossing.held_for_parity();
        assert!(kept <= 3 * KEPT_MAX, "{kept} bytes are kept for parity of three tracks");
        for to in [0, 1] {
            let mut left = 0;
            while let Some(datagram) = crossing.pop(to, longest) {
                left += 1;
                assert!(left <= ANSWERS_MAX, "a datagram that is answered without end");
                passed.leave(to, datagram, longest);
            }
        }
    }
}

impl Passed {
    /// What leaves was heard here too, from the other neighbor, and is as it came.
    fn leave(&mut self, to: usize, datagram: Bytes, longest: usize) {
        let length = datagram.len();
        let (header, payload) = DatagramHeader::split(datagram).expect("it was written here");
        let whole = match header.kind {
            // What a neighbor asked about what it sent.
            DatagramKind::Probe => return assert!(payload.len() <= 16, "an answer is short"),
            DatagramKind::Nack => return assert!((1..=16).contains(&payload.len()), "an ask for nothing"),
            DatagramKind::Fragment => {
                assert!(length <= longest, "a fragment of {length} where {longest} is the most");
                let (fragment, content) = Fragment::split(payload).expect("it was written here");
                let place = (to, header.alias.0, header.sequence.wrapping_sub(fragment.number.into()));
                let parts = self.parts.entry(place).or_default();
                parts.insert(fragment.number, content);
                if parts.len() < usize::from(fragment.of) {
                    return;
                }
                parts.values().flatten().copied().collect()
            }
            // Of this relay itself too, and not as it came: what follows each other is told at once.
            DatagramKind::Withheld => {
                return assert!(Withheld::read(&payload).is_some(), "it was written here");
            }
            DatagramKind::Rtp | DatagramKind::SenderClock => payload,
            DatagramKind::Parity => {
                let (parity, body) = Parity::split(header.sequence, &payload).expect("it was written here");
                let octets = usize::from(parity.length);
                let most = body.len().next_power_of_two();
                return assert!(length <= longest && octets <= 2 * most, "{parity:?} of {length} octets");
            }
            DatagramKind::Unknown(_) => panic!("{header:?} was passed on"),
        };
        assert!(self.heard.contains(&(1 - to, whole)), "{header:?} is not as it came, or goes back");
    }
}

/// The first octet says how many bytes come at a time.
pub fn streams() -> Vec<Vec<u8>> {
    let frame = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
    let said: Vec<Vec<u8>> = targets::messages().iter().map(|message| frame(message)).collect();
    let updates = vec![targets::festival().1.to_string()];
    let updates = postcard::to_stdvec(&updates).expect("texts always serialize");
    let mut streams: Vec<Vec<u8>> =
        targets::hellos().iter().map(|hello| [&[7, 0], &frame(hello)[..], &said.concat()].concat()).collect();
    streams.extend([[&[0, 1], &said.concat()[..]].concat(), [&[3, 9], &frame(&updates)[..]].concat()]);
    // Each message by itself, so that few bytes are enough to change one.
    streams.extend(said.iter().take(64).map(|message| [&[200, 2], &message[..]].concat()));
    streams
}

pub fn stream(bytes: &[u8]) {
    let Some((&most, bytes)) = bytes.split_first() else { return };
    let heard = outside::stream(bytes, usize::MAX);
    assert_eq!(
        outside::stream(bytes, usize::from(most) + 1),
        heard,
        "frames are cut by how their bytes come"
    );
    let mut rest = bytes.get(1..).unwrap_or_default();
    for frame in &heard {
        let (length, behind) = rest.split_at(4);
        assert_eq!(length, (frame.len() as u32).to_be_bytes());
        assert_eq!(&behind[..frame.len()], frame);
        rest = &behind[frame.len()..];
        if Message::decode(frame).is_ok() {
            mesh_message(frame);
        }
    }
}
