//! `load`: many listeners of one stream, or many publishers, joined at a steady rate and held for a
//! while; the figures of all of them together. Counts packets without decoding them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::audience::{LISTENERS, Phase, Seat, audience, over};
use crate::clock::{self, Pace};
use crate::downlink::{BitRate, Downlink};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::hearing::Hearing;
use crate::histogram::{Histogram, Percentiles, round};
use crate::listener::{Asked, Counted, Listener};
use crate::participant::gone;
use crate::peer::Identity;
use crate::publish::{DEFAULT_BITRATE, Encoder, FRAME_TIME};
use crate::source::{FRAME_SAMPLES, Source, Tone};
use crate::stamp;
use crate::whep::Wanted;
use crate::whip::Publication;

const SOUND_BEAT: Duration = Duration::from_millis(100);
const PICTURE_BEAT: Duration = Duration::from_millis(5);
/// Listeners that wait for their seat.
const NEWCOMERS: usize = 16;

/// Who makes the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Many listeners of one stream; the URL is that of its WHEP endpoint.
    Listen,
    /// Many streams; the URL is the beginning of each WHIP endpoint, which goes on with `-1`, `-2`, …
    Publish,
}

/// How much of it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Participants.
    pub count: u32,
    /// How many are started per second.
    pub rate: f64,
    /// How long they stay once the last was started.
    pub hold: Duration,
    /// What listeners ask for.
    pub wanted: Wanted,
    /// The narrow wire of each listener; it gives transport-wide feedback if the relay takes that.
    pub downlink: Option<BitRate>,
    /// Whether listeners without one offer that feedback too.
    pub transport_cc: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Who made it.
    pub role: Role,
    /// Participants that were started.
    pub started: u32,
    /// Those that joined: a listener with its first packet, a publisher once it could send.
    pub joined: u32,
    /// Those whose connection broke after they had joined.
    pub broken: u32,
    /// Why the others did not join, and how many.
    pub failures: BTreeMap<String, u32>,
    /// Joined participants over the time from the first start to the last join.
    pub joins_per_second: f64,
    /// From the offer to having joined.
    pub join_ms: Option<Percentiles>,
    /// Packets received by all listeners, or sent by all publishers.
    pub packets: u64,
    /// Packets per second while all were there.
    pub packets_per_second: f64,
    /// Of RTP, of one participant on average, while all were there.
    pub kbit_per_second: f64,
    /// Packets that never came.
    pub lost: u64,
    /// Their share of those sent: 0 to 1.
    pub loss: f64,
    /// Packets that were there before.
    pub duplicates: u64,
    /// Gaps over 60 ms.
    pub gaps: u64,
    /// Packets that the narrow wires of the listeners did not let through; they are among the lost.
    pub narrowed: u64,
    /// Messages of transport-wide feedback that were sent.
    pub feedbacks: u64,
    /// Publisher to listener, where the publisher stamps its packets and shares our clock.
    pub delay_ms: Option<Percentiles>,
}

/// Makes load until it is over or `stop` is ready. Every session is ended.
///
/// # Errors
/// [`Error::Usage`] for options that cannot be; what happens to a participant is in the report.
pub async fn load(
    role: Role,
    endpoint: &Endpoint,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Report, Error> {
    let interval = Duration::try_from_secs_f64(1.0 / options.rate)
        .ok()
        .filter(|interval| !interval.is_zero() && *interval <= Duration::from_secs(60))
        .ok_or_else(|| Error::Usage("--rate: use 0.02 to 100000 joins a second".to_owned()))?;
    let mut stop = pin!(stop);
    let (phase_tx, phase) = watch::channel(Phase::Ramp);
    let sound = Arc::new(one_second()?);
    let joined = Arc::new(AtomicU32::new(0));
    let identity = Arc::new(Identity::generate()?);
    let (mut audiences, mut doors) = (JoinSet::new(), mpsc::channel(NEWCOMERS).0);
    let mut participants = JoinSet::new();
    let begun = clock::now();
    let mut pace = Pace::new(interval, begun);
    let mut started = 0;
    while started < options.count {
        tokio::select! {
            () = clock::sleep_until(pace.due()) => {}
            () = &mut stop => break,
        }
        pace.advance();
        started += 1;
        let (phase, joined) = (phase.clone(), Arc::clone(&joined));
        match role {
            Role::Listen => {
                let (endpoint, options, identity) =
                    (endpoint.clone(), options.clone(), Arc::clone(&identity));
                if started % LISTENERS == 1 {
                    let (newcomers, coming) = mpsc::channel(NEWCOMERS);
                    audiences.spawn(audience(coming, phase.clone(), options.beat()));
                    doors = newcomers;
                }
                let door = doors.clone();
                participants.spawn(async move {
                    listener(&endpoint, &identity, &options, &door, phase, &joined).await
                });
            }
            Role::Publish => {
                let endpoint = endpoint.at(&format!("{}-{started}", endpoint.url()))?;
                let sound = Arc::clone(&sound);
                participants.spawn(async move { publisher(&endpoint, &sound, phase, &joined).await });
            }
        }
    }
    tracing::info!("{started} started, {} joined; holding", joined.load(Ordering::Relaxed));
    let held_from = clock::now();
    phase_tx.send_replace(Phase::Hold);
    tokio::select! {
        () = clock::sleep(options.hold) => {}
        () = &mut stop => {}
    }
    let held = clock::now().saturating_duration_since(held_from);
    phase_tx.send_replace(Phase::Over);
    let mut sum = Sum::default();
    while let Some(outcome) = participants.join_next().await {
        match outcome {
            Ok(outcome) => sum.add(outcome),
            Err(_) => sum.fail("panicked"),
        }
    }
    Ok(sum.report(role, started, begun, held))
}

/// What became of one participant that joined.
struct Taken {
    joined_at: Instant,
    join: Duration,
    counted: Counted,
    broken: bool,
}

impl Options {
    /// How often sockets are read. A burst of a picture must fit into the socket meanwhile.
    fn beat(&self) -> Duration {
        if self.wanted.video || self.downlink.is_some() { PICTURE_BEAT } else { SOUND_BEAT }
    }
}

/// Joins, and leaves the counting to the audience.
async fn listener(
    endpoint: &Endpoint,
    identity: &Arc<Identity>,
    options: &Options,
    audience: &mpsc::Sender<Seat>,
    phase: watch::Receiver<Phase>,
    joined: &AtomicU32,
) -> Result<Taken, Error> {
    let transport_cc = options.transport_cc || options.downlink.is_some();
    let hearing = tokio::select! {
        hearing = Hearing::join(endpoint, identity, options.wanted, transport_cc) => hearing?,
        () = over(phase) => return Err(Error::NoConnection(Duration::ZERO)),
    };
    let Hearing { connection, session, tracks, transport_cc, asked_at } = hearing;
    joined.fetch_add(1, Ordering::Relaxed);
    let heard = async {
        let (socket, peer) = connection.into_parts()?;
        let asked = Asked { downlink: options.downlink.map(Downlink::new), transport_cc };
        let listener = Listener::new(peer, tracks, asked, clock::now());
        let (done, counted) = oneshot::channel();
        let seat = Seat::new(socket, listener, done)?;
        audience.send(seat).await.map_err(|_| Error::Lost)?;
        counted.await.map_err(|_| Error::Lost)
    };
    let heard = heard.await;
    session.delete().await;
    let (counted, broken) = heard?;
    let nothing = || if broken { Error::Lost } else { Error::SourceEnded("no packet".to_owned()) };
    let joined_at = counted.first.ok_or_else(nothing)?;
    Ok(Taken { joined_at, join: joined_at.saturating_duration_since(asked_at), counted, broken })
}

async fn publisher(
    endpoint: &Endpoint,
    sound: &[Bytes],
    phase: watch::Receiver<Phase>,
    joined: &AtomicU32,
) -> Result<Taken, Error> {
    let asked_at = clock::now();
    let mut publication = tokio::select! {
        publication = Publication::open(endpoint, false) => publication?,
        () = over(phase.clone()) => return Err(Error::NoConnection(Duration::ZERO)),
    };
    let joined_at = clock::now();
    joined.fetch_add(1, Ordering::Relaxed);
    let mut lost = pin!(gone(publication.state()));
    let mut end = pin!(over(phase.clone()));
    let mut pace = Pace::new(FRAME_TIME, joined_at);
    let (mut packets, mut held_packets, mut held_octets) = (0, 0, 0);
    let mut frames = sound.iter().cycle();
    let broken = loop {
        tokio::select! {
            () = clock::sleep_until(pace.due()) => {}
            () = &mut lost => break true,
            () = &mut end => break false,
        }
        let missed = pace.skip_missed(FRAME_TIME * 10, clock::now());
        publication.skip(missed.wrapping_mul(FRAME_SAMPLES as u32));
        pace.advance();
        let Some(frame) = frames.next() else { break false };
        let packet = stamp::write(frame.clone(), clock::unix_micros());
        let octets = packet.len() as u64;
        if publication.send(packet, FRAME_SAMPLES as u32).await.is_err() {
            break true;
        }
        packets += 1;
        let held = *phase.borrow() == Phase::Hold;
        held_packets += u64::from(held);
        held_octets += if held { octets } else { 0 };
    };
    publication.close().await;
    let counted = Counted { packets, held_packets, held_octets, ..Counted::default() };
    Ok(Taken { joined_at, join: joined_at.saturating_duration_since(asked_at), counted, broken })
}

/// A second of a tone, encoded once and sent by every publisher.
fn one_second() -> Result<Vec<Bytes>, Error> {
    let (mut tone, mut encoder) = (Tone::new(440.0)?, Encoder::new(DEFAULT_BITRATE)?);
    let mut frame = [0.0; FRAME_SAMPLES * 2];
    (0..50)
        .map(|_| {
            tone.fill(&mut frame)?;
            encoder.encode(&frame)
        })
        .collect()
}

#[derive(Default)]
struct Sum {
    joined: u32,
    broken: u32,
    failures: BTreeMap<String, u32>,
    last_join: Option<Instant>,
    joins: Histogram,
    counted: Counted,
}

impl Sum {
    fn add(&mut self, outcome: Result<Taken, Error>) {
        match outcome {
            Ok(taken) => {
                self.joined += 1;
                self.broken += u32::from(taken.broken);
                self.last_join = self.last_join.max(Some(taken.joined_at));
                self.joins.add(taken.join);
                self.counted.add(&taken.counted);
            }
            Err(error) => {
                tracing::debug!("a participant failed: {error}");
                self.fail(&kind(&error));
            }
        }
    }

    fn fail(&mut self, kind: &str) {
        *self.failures.entry(kind.to_owned()).or_default() += 1;
    }

    fn report(self, role: Role, started: u32, begun: Instant, held: Duration) -> Report {
        let ramp = self.last_join.map(|last| last.saturating_duration_since(begun)).unwrap_or_default();
        let counted = self.counted;
        let sent = (counted.packets + counted.lost).max(1);
        Report {
            role,
            started,
            joined: self.joined,
            broken: self.broken,
            failures: self.failures,
            joins_per_second: rate(u64::from(self.joined), ramp),
            join_ms: self.joins.percentiles(),
            packets: counted.packets,
            packets_per_second: rate(counted.held_packets, held),
            kbit_per_second: round(
                rate(counted.held_octets, held) * 8.0 / 1e3 / f64::from(self.joined.max(1)),
            ),
            lost: counted.lost,
            loss: counted.lost as f64 / sent as f64,
            duplicates: counted.duplicates,
            gaps: counted.gaps,
            narrowed: counted.narrowed,
            feedbacks: counted.feedbacks,
            delay_ms: counted.delays.percentiles(),
        }
    }
}

fn rate(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { round(count as f64 / time.as_secs_f64()) }
}

/// One of a few words for an error, so that a table of failures stays short.
fn kind(error: &Error) -> String {
    match error {
        Error::Refused { status, .. } => format!("refused with {status}"),
        Error::Unreachable { .. } => "unreachable".to_owned(),
        Error::Protocol { .. } => "answered against the protocol".to_owned(),
        Error::NoConnection(_) => "no media connection".to_owned(),
        Error::Lost => "connection lost".to_owned(),
        Error::SourceEnded(_) => "connected, no packet".to_owned(),
        _ => "failed".to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let many = match self.role {
            Role::Listen => "listeners",
            Role::Publish => "publishers",
        };
        writeln!(f, "{many:<16}{} of {} joined, {} broke off", self.joined, self.started, self.broken)?;
        for (reason, count) in &self.failures {
            writeln!(f, "{:<16}{count}: {reason}", "failed")?;
        }
        writeln!(f, "{:<16}{:.1} per second", "joins", self.joins_per_second)?;
        line(f, "join time", self.join_ms)?;
        writeln!(f, "{:<16}{} in all, {:.0} per second", "packets", self.packets, self.packets_per_second)?;
        writeln!(f, "{:<16}{:.0} kbit/s each", "rate", self.kbit_per_second)?;
        if self.role == Role::Listen {
            writeln!(f, "{:<16}{} ({:.3} %)", "lost", self.lost, self.loss * 100.0)?;
            if self.narrowed > 0 {
                writeln!(f, "{:<16}{} by the narrow wires", "", self.narrowed)?;
            }
            writeln!(f, "{:<16}{}", "duplicates", self.duplicates)?;
            writeln!(f, "{:<16}{} over 60 ms", "gaps", self.gaps)?;
            line(f, "delay", self.delay_ms)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, percentiles: Option<Percentiles>) -> fmt::Result {
    match percentiles {
        Some(p) => writeln!(
            f,
            "{name:<16}p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            p.p50, p.p95, p.p99, p.max
        ),
        None => writeln!(f, "{name:<16}not measured"),
    }
}
