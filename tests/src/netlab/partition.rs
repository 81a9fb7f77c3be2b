//! Two halves of a festival that lose sight of each other for a while: what is said on either side is
//! everywhere exactly once afterwards, and whoever listens meanwhile does not notice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use futures_util::future::try_join_all;
use protocol::{api::Message, signaling::FromRelay};
use rand::RngExt;
use tokio::task::JoinHandle;

use super::{
    Conditions, Netlab, Topology,
    race::WIRE_DELAY,
    relays::{Heard, Relays, longest},
};
use crate::{
    api::Api,
    clock::{now, pause, unix_ms, until},
    page::Page,
};

const ROOM: &str = "camping";
/// What is said on each side, spread over the time of the cut.
const MESSAGES: usize = 100;
/// Of those the organizer says so many to everybody.
const ANNOUNCEMENTS: usize = 5;
/// What each side gives the room meanwhile, in bytes.
const FILE: usize = 8 << 20;
/// What the wire between the halves carries, in bits per second: a file needs 3.4 s of it.
const BETWEEN: u64 = 20_000_000;
/// For how long the listeners are watched before the cut and after the heal.
const WATCHED: Duration = Duration::from_secs(10);
/// Of audio packets, in milliseconds.
const SPACING: f64 = 20.0;
/// Everything has to be everywhere after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// From the heal until every relay knew all wires.
    pub linked: Duration,
    /// From the heal until every relay had everything that was said.
    pub complete: Duration,
    /// From the heal until both files were had whole at every relay.
    pub files: Duration,
    /// Messages that each relay has in the end, by relay.
    pub messages: BTreeMap<String, usize>,
    /// Messages and announcements that some relay has twice, or some page was told twice.
    pub twice: usize,
    /// When the pages of each host heard of the other half.
    pub pages: BTreeMap<String, Told>,
    /// Listeners, by host and stream.
    pub listeners: BTreeMap<String, Listened>,
}

/// When a page was told what was said in the other half, from the heal.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    /// All that was announced there.
    pub announced: Duration,
    /// The first of the other messages, and the last.
    pub said: [Duration; 2],
}

/// How a listener fared: longest silence beyond the spacing of packets, and what is missing in silences.
#[derive(Debug, Clone, Copy)]
pub struct Listened {
    /// Before the cut.
    pub before: (Duration, u64),
    /// While the wire is cut.
    pub cut: (Duration, u64),
    /// While the halves catch up.
    pub after: (Duration, u64),
    /// Packets lost over the whole time.
    pub lost: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Publisher to listener, in milliseconds: median, 99th percentile, worst, over the whole time.
    pub delay_ms: [f64; 3],
}

/// Two triangles joined by the wire `c-d`, which is cut for so long.
pub async fn partition(cut: Duration) -> Result<Outcome> {
    let pairs = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)];
    let lab = Netlab::new(&Topology::of(6, pairs, Conditions::delay(WIRE_DELAY)), 1).await?;
    let between = lab.wire("c", "d");
    between.set(Conditions { rate_bps: BETWEEN, queue_ms: 200.0, ..Conditions::delay(WIRE_DELAY) });
    let relays = Relays::start(&lab).await?;
    let all: Vec<&str> = lab.hosts().map(|host| host.name()).collect();
    let _left = relays.publish(&lab, "a", "left", false).await?;
    let _right = relays.publish(&lab, "f", "right", false).await?;
    relays.list(&lab, &all, "left").await?;
    relays.list(&lab, &all, "right").await?;
    let mut listening = vec![];
    for (host, stream) in [("b", "left"), ("c", "left"), ("d", "right"), ("e", "right"), ("d", "left")] {
        listening.push((host, stream, relays.listen(&lab, host, stream).await?));
    }
    let mut readers = BTreeMap::new();
    for host in &all {
        readers.insert((*host).to_owned(), Reader::open(&lab, &relays, host).await?);
    }
    // The first seconds of a listener bring what was there before; they are not watched.
    pause(Duration::from_secs(3)).await;
    let began = unix_ms();
    pause(WATCHED).await;

    between.cut();
    let cut_at = unix_ms();
    let mut said = Said::default();
    let mut files = vec![];
    let mut due = now();
    for at in 0..MESSAGES {
        for (half, host) in [["a", "b", "c"][at % 3], ["d", "e", "f"][at % 3]].into_iter().enumerate() {
            said.say(&lab, &relays, host, half, at).await?;
        }
        if at == MESSAGES / 2 {
            for host in ["b", "e"] {
                files.push(give(&lab, &relays, host).await?);
            }
        }
        due += cut / MESSAGES as u32;
        pause(due.saturating_duration_since(now())).await;
    }

    // A cut that lets something through would prove nothing.
    for host in &all {
        let (history, announced, given) = relays.ask(&lab, host, all_of).await?;
        let up = relays.mesh(&lab, host).await?.links.iter().filter(|link| link.up).count();
        let seen = (history.len(), announced.len(), given, up);
        ensure!(seen == (MESSAGES - ANNOUNCEMENTS, ANNOUNCEMENTS, 1, 3), "cut: {host} has {seen:?}");
    }

    between.heal();
    let (healed, healed_at) = (now(), unix_ms());
    let linked = async {
        relays.converge(&lab, lab.wires().len()).await?;
        Ok(healed.elapsed())
    };
    let have = async {
        try_join_all(all.iter().map(|host| have(&lab, &relays, host, &files))).await?;
        Ok(healed.elapsed())
    };
    let (linked, complete, files) =
        tokio::try_join!(linked, everywhere(&lab, &relays, &all, &said, healed), have)?;
    pause(WATCHED.saturating_sub(healed.elapsed())).await;
    let ended = unix_ms();

    let (mut messages, mut twice, mut pages) = (BTreeMap::new(), 0, BTreeMap::new());
    for host in &all {
        let (history, announced, _) = relays.ask(&lab, host, all_of).await?;
        let distinct: BTreeSet<_> = history.iter().chain(&announced).collect();
        twice += history.len() + announced.len() - distinct.len();
        messages.insert((*host).to_owned(), history.len());
        let told = readers[*host].told();
        let distinct: BTreeSet<_> = told.iter().map(|(_, id)| id).collect();
        twice += told.len() - distinct.len();
        let half = usize::from(*host >= "d");
        pages.insert((*host).to_owned(), said.told(1 - half, &told, healed_at)?);
    }
    let mut listeners = BTreeMap::new();
    for (host, stream, listener) in listening {
        let heard = listener.heard().await?;
        // Who listens across the cut hears nothing of it; what counts there is how it is once it is back.
        let across = (host >= "d") != (stream == "right");
        let (until, back) =
            if across { (cut_at - 2.0 * SPACING, returned(&heard, healed_at)) } else { (cut_at, healed_at) };
        listeners.insert(format!("{stream} at {host}"), listened(&heard, [began, until, back, ended]));
    }
    Ok(Outcome { linked, complete, files, messages, twice, pages, listeners })
}

/// What was said in each half, by id: announcements, and the rest.
#[derive(Debug, Default)]
struct Said([[BTreeSet<String>; 2]; 2]);

impl Said {
    async fn say(&mut self, lab: &Netlab, relays: &Relays, host: &str, half: usize, at: usize) -> Result<()> {
        let announced = at % (MESSAGES / ANNOUNCEMENTS) == MESSAGES / ANNOUNCEMENTS - 1;
        let path = match announced {
            true => "/api/v1/announcements".to_owned(),
            false => format!("/api/v1/rooms/{ROOM}/messages"),
        };
        let text = format!("{host} {at}");
        let posted =
            relays.ask(lab, host, move |api| async move { api.post(&path, "crew", &text).await }).await?;
        ensure!(self.0[half][usize::from(announced)].insert(posted.id), "two messages have one id");
        Ok(())
    }

    fn all(&self) -> BTreeSet<&String> {
        self.0.iter().flatten().flatten().collect()
    }

    /// When a page was told what was said in a half.
    fn told(&self, half: usize, told: &[(f64, String)], healed_at: f64) -> Result<Told> {
        let [rest, announced] = self.0[half].each_ref().map(|ids| {
            let times = told.iter().filter(|(_, id)| ids.contains(id)).map(|(at, _)| at - healed_at);
            let (first, last, count) = times.fold((f64::MAX, 0.0_f64, 0), |(first, last, count), at| {
                (first.min(at), last.max(at), count + 1)
            });
            (count == ids.len()).then(|| [first, last].map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1e3)))
        });
        let (Some(said), Some([_, announced])) = (rest, announced) else {
            bail!("a page was not told everything")
        };
        Ok(Told { announced, said })
    }
}

/// Somebody who reads along at a host.
#[derive(Debug)]
struct Reader {
    told: Arc<Mutex<Vec<(f64, String)>>>,
    reading: JoinHandle<Result<()>>,
}

impl Reader {
    async fn open(lab: &Netlab, relays: &Relays, host: &str) -> Result<Reader> {
        let http = relays.relay(host).http();
        let mut page = lab.host(host).run(async move { Page::open(http, ROOM).await }).await??;
        let told = Arc::<Mutex<Vec<_>>>::default();
        let heard = told.clone();
        let reading = lab.host(host).spawn(async move {
            loop {
                if let FromRelay::Message { message } | FromRelay::Announcement { message } =
                    page.event().await?
                {
                    heard.lock().expect("nobody panics with it").push((unix_ms(), message.id));
                }
            }
        });
        Ok(Reader { told, reading })
    }

    fn told(&self) -> Vec<(f64, String)> {
        self.told.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Gives the room a file of random bytes: its id, and what is in it.
async fn give(lab: &Netlab, relays: &Relays, host: &str) -> Result<(String, Arc<Vec<u8>>)> {
    let mut body = vec![0; FILE];
    rand::rng().fill(&mut body[..]);
    let (body, name) = (Arc::new(body), format!("from {host}"));
    let given = body.clone();
    let uploaded =
        relays.ask(lab, host, |api| async move { api.give(ROOM, &name, given.to_vec()).await }).await?;
    Ok((uploaded.id, body))
}

/// Waits until the relay of a host has these files, byte for byte.
async fn have(lab: &Netlab, relays: &Relays, host: &str, files: &[(String, Arc<Vec<u8>>)]) -> Result<()> {
    for (id, body) in files {
        until(&format!("{host} has heard of both files"), PATIENCE, || async {
            let files = relays.ask(lab, host, |api| async move { api.files(ROOM).await }).await?;
            Ok(files.iter().any(|file| file.id == *id).then_some(()))
        })
        .await?;
        let wanted = id.clone();
        let got = relays.ask(lab, host, |api| async move { api.file(&wanted).await }).await?;
        ensure!(got == **body, "{host} has other bytes, {} of them", got.len());
    }
    Ok(())
}

/// The ids of what was said and announced, and how many files the room has.
async fn all_of(api: Api) -> Result<(Vec<String>, Vec<String>, usize)> {
    let ids = |messages: Vec<Message>| messages.into_iter().map(|message| message.id).collect();
    let (history, announced) = (api.history(ROOM).await?, api.announcements().await?);
    Ok((ids(history), ids(announced), api.files(ROOM).await?.len()))
}

/// Waits until every relay has everything that was said.
async fn everywhere(
    lab: &Netlab,
    relays: &Relays,
    hosts: &[&str],
    said: &Said,
    since: Instant,
) -> Result<Duration> {
    for host in hosts {
        until(&format!("{host} has everything that was said"), PATIENCE, || async {
            let (history, announced, _) = relays.ask(lab, host, all_of).await?;
            let has: BTreeSet<String> = history.into_iter().chain(announced).collect();
            let all = said.all();
            let lacks = all.iter().filter(|id| !has.contains(**id)).count();
            if lacks > 0 {
                bail!("{lacks} of {} are missing", all.len());
            }
            Ok(Some(()))
        })
        .await?;
    }
    Ok(since.elapsed())
}

/// When the silence that was there at `healed` ended.
fn returned(heard: &Heard, healed: f64) -> f64 {
    let over = heard.silences.iter().filter(|silence| silence.at_ms < healed);
    over.map(|silence| silence.at_ms + silence.ms).fold(healed, f64::max)
}

fn listened(heard: &Heard, [began, cut, healed, ended]: [f64; 4]) -> Listened {
    let during = |from, to| longest(&heard.silences, from, to, SPACING);
    Listened {
        before: during(began, cut),
        cut: during(cut, healed),
        after: during(healed, ended),
        lost: heard.lost,
        duplicates: heard.duplicates,
        delay_ms: heard.delay_ms.map_or([0.0; 3], |delay| [delay.p50, delay.p99, delay.max]),
    }
}

impl Outcome {
    /// For people.
    pub fn print(&self) {
        let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
        println!("healed: every relay knows all wires after {} ms", ms(self.linked));
        println!(
            "everything that was said is everywhere after {} ms: {:?}, twice: {}",
            ms(self.complete),
            self.messages,
            self.twice
        );
        println!(
            "both files, {} MiB each, are had whole at every relay after {} ms",
            FILE >> 20,
            ms(self.files)
        );
        println!("\n| page at | last announcement after, ms | first and last message after, ms |");
        println!("|---|---|---|");
        for (host, told) in &self.pages {
            let [first, last] = told.said.map(ms);
            println!("| {host} | {} | {first}, {last} |", ms(told.announced));
        }
        println!(
            "\n| listener | longest silence before / cut / after, ms | missing before / cut / after | lost | twice | delay p50 / p99 / max, ms |"
        );
        println!("|---|---|---|---|---|---|");
        for (host, l) in &self.listeners {
            println!(
                "| {host} | {} / {} / {} | {} / {} / {} | {} | {} | {:.1} / {:.1} / {:.1} |",
                ms(l.before.0),
                ms(l.cut.0),
                ms(l.after.0),
                l.before.1,
                l.cut.1,
                l.after.1,
                l.lost,
                l.duplicates,
                l.delay_ms[0],
                l.delay_ms[1],
                l.delay_ms[2]
            );
        }
    }
}
