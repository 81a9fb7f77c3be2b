//! `listen`: plays a stream from a WHEP endpoint for a while and says what arrived: the one JSON object
//! that tests read.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::shared::marshal::MarshalSize as _;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use crate::clock::{self, Pace};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::histogram::{Histogram, Percentiles, round};
use crate::participant::gone;
use crate::playout::{Concealed, Playout};
use crate::reception::{Arrival, Reception, Silence};
use crate::rung::{self, Rung, Rungs};
use crate::sound::Sound;
use crate::stamp;
use crate::video::{Picture, VideoCodec};
use crate::view::{Second, View};
use crate::whep::{Playback, Wanted};

/// How often a picture that has not begun is asked for.
const PICTURE_REQUEST_INTERVAL: Duration = Duration::from_secs(1);
const SECOND: Duration = Duration::from_secs(1);
/// What is waited when the relay says that nobody publishes, but not how long.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

/// How to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long, from the first connection; for ever without.
    pub length: Option<Duration>,
    /// Whether to wait for a stream that nobody publishes yet, or a relay that is not yet there.
    pub wait: bool,
    /// What to ask for.
    pub wanted: Wanted,
    /// Keep a timeline of the times longer than this without a packet.
    pub silences_above: Option<Duration>,
    /// Is told of each second when it is over.
    pub watch: Option<fn(&Second)>,
}

/// Why listening ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Its time was over.
    Complete,
    /// It was stopped.
    Stopped,
    /// The connection broke.
    Lost,
}

/// What arrived. Times are in milliseconds; a member is `null` when there is nothing to say.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Distinct audio packets.
    pub packets: u64,
    /// Audio packets that never came.
    pub lost: u64,
    /// Audio packets that were there before, under the same number or the same time. What repeats a
    /// number within the SRTP replay window is dropped below us and not seen here: what a relay sends twice because the
    /// path loses is a duplicate of `load listen`, which has no such window and never asks for sound.
    pub duplicates: u64,
    /// RFC 3550 interarrival jitter.
    pub jitter_ms: f64,
    /// RMS of everything decoded; a sine of half scale reads -9.03.
    pub level_dbfs: Option<f64>,
    /// The same for left and right.
    pub levels_dbfs: Option<[f64; 2]>,
    /// The strongest frequency.
    pub peak_hz: Option<f64>,
    /// Every gap over 60 ms between two arrivals, in order, at most 1000.
    pub gaps_ms: Vec<f64>,
    /// Times without an audio packet, where a timeline was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silences: Option<Vec<Silence>>,
    /// From the offer to the first packet of any track.
    pub first_packet_ms: Option<f64>,
    /// Publisher to listener, where the publisher stamps its packets and shares our clock.
    pub delay_ms: Option<Percentiles>,
    /// Seconds of sound decoded.
    pub decoded_seconds: f64,
    /// Packets that were no Opus.
    pub undecodable: u64,
    /// What a receiver with a small store would have made up, see [`crate::playout`].
    pub concealed: Option<Concealed>,
    /// How often the sound became another rung, see [`crate::rung`].
    pub rung_changes: u64,
    /// Which rung it was when.
    pub rungs: Vec<Rung>,
    /// The video track, where there is one.
    pub video: Option<VideoReport>,
    /// Why it ended.
    pub ended: Ended,
}

/// Counters of one video track.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VideoReport {
    /// Distinct packets.
    pub packets: u64,
    /// Frames that began and ended, by the marker.
    pub frames: u64,
    /// Frames that a latecomer can begin with.
    pub keyframes: u64,
    /// Packets lost.
    pub lost: u64,
    /// The codec, as in SDP.
    pub codec: String,
    /// All seconds together, see [`Second`].
    pub seen: Option<Second>,
    /// Times without a packet, where a timeline was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silences: Option<Vec<Silence>>,
    /// And when the picture became which size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Vec<Size>>,
}

/// The size of the picture from some time on, in a timeline that can be laid beside what was done meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Size {
    /// Since when: milliseconds since 1970.
    pub at_ms: f64,
    /// In pixels.
    pub width: u16,
    /// In pixels.
    pub height: u16,
}

/// Listens until the length is over, `stop` is ready or the connection breaks.
///
/// # Errors
/// Whatever kept it from being established; a connection that breaks later ends in the report.
pub async fn listen(
    endpoint: &Endpoint,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Report, Error> {
    let mut stop = pin!(stop);
    let opened = tokio::select! {
        opened = open(endpoint, options) => Some(opened?),
        () = &mut stop => None,
    };
    let Some(mut playback) = opened else {
        return Ok(Heard::default().report(clock::now(), Ended::Stopped, None));
    };
    let asked_at = playback.asked_at();
    let view = Arc::new(Mutex::new(View::new(clock::now())));
    let mut seconds = Pace::new(SECOND, clock::now() + SECOND);
    let (done, over) = watch::channel(false);
    let mut tracks = JoinSet::new();
    let mut lost = pin!(gone(playback.state()));
    let mut end = pin!(wait(options.length));
    let ended = loop {
        tokio::select! {
            Some(track) = playback.next_track() => {
                tracks.spawn(follow(track, options.silences_above, Arc::clone(&view), over.clone()));
            }
            () = clock::sleep_until(seconds.due()) => {
                seconds.advance();
                let second = seen(&view).second(clock::now());
                options.watch.iter().for_each(|watch| watch(&second));
            }
            () = &mut end => break Ended::Complete,
            () = &mut stop => break Ended::Stopped,
            () = &mut lost => break Ended::Lost,
        }
    };
    done.send_replace(true);
    let mut heard = Heard::default();
    while let Some(track) = tracks.join_next().await {
        // A track whose task panicked has nothing to tell.
        if let Ok(track) = track {
            heard.tracks.push(track?);
        }
    }
    playback.close().await;
    let mut report = heard.report(asked_at, ended, Some(seen(&view).total(clock::now())));
    if let (Some(video), Some(_)) = (&mut report.video, options.silences_above) {
        video.sizes = Some(sizes(&seen(&view)));
    }
    Ok(report)
}

async fn open(endpoint: &Endpoint, options: &Options) -> Result<Playback, Error> {
    loop {
        match Playback::open(endpoint, options.wanted).await {
            Err(error) if options.wait && error.is_passing() => {
                tracing::info!("waiting: {error}");
                clock::sleep(error.retry_after().unwrap_or(DEFAULT_RETRY)).await;
            }
            outcome => return outcome,
        }
    }
}

/// What is seen; a task that panicked with it in its hands has left it as it was.
fn seen(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sizes(view: &View) -> Vec<Size> {
    let (now, unix_ms) = (clock::now(), clock::unix_micros() as f64 / 1e3);
    let size = |&(at, (width, height)): &(Instant, (u16, u16))| Size {
        at_ms: round(unix_ms - now.saturating_duration_since(at).as_secs_f64() * 1e3),
        width,
        height,
    };
    view.sizes().iter().map(size).collect()
}

async fn wait(length: Option<Duration>) {
    match length {
        Some(length) => clock::sleep(length).await,
        None => std::future::pending().await,
    }
}

/// What one track brought.
enum Track {
    Audio {
        reception: Reception,
        sound: Box<Sound>,
        playout: Playout,
        rungs: Rungs,
        delays: Histogram,
        first: Option<Instant>,
    },
    Video {
        reception: Reception,
        picture: Picture,
        codec: String,
        first: Option<Instant>,
    },
}

/// Takes in one track until `over`.
async fn follow(
    track: Arc<dyn TrackRemote>,
    silences_above: Option<Duration>,
    view: Arc<Mutex<View>>,
    mut over: watch::Receiver<bool>,
) -> Result<Track, Error> {
    let mut taken = match track.kind().await {
        RtpCodecKind::Video => Track::Video {
            reception: Reception::video().with_timeline(silences_above),
            picture: Picture::new(None),
            codec: String::new(),
            first: None,
        },
        _ => Track::Audio {
            reception: Reception::audio().with_timeline(silences_above),
            sound: Box::new(Sound::new()?),
            playout: Playout::default(),
            rungs: Rungs::default(),
            delays: Histogram::default(),
            first: None,
        },
    };
    let mut asked_at = None;
    loop {
        let event = tokio::select! {
            event = track.poll() => event,
            _ = over.wait_for(|over| *over) => return Ok(taken.at_the_end(clock::now())),
        };
        match event {
            Some(TrackRemoteEvent::OnRtpPacket(packet)) => {
                let now = clock::now();
                if let Track::Video { picture, codec, .. } = &mut taken
                    && codec.is_empty()
                {
                    *codec = track.codec(packet.header.ssrc).await.unwrap_or_default().mime_type;
                    *picture = Picture::new(VideoCodec::of_mime(codec));
                    seen(&view).set_codec(VideoCodec::of_mime(codec));
                }
                taken.handle_packet(&packet, &view, now);
                if taken.wants_keyframe() && asked_at.is_none_or(|at| now - at > PICTURE_REQUEST_INTERVAL) {
                    asked_at = Some(now);
                    let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: packet.header.ssrc };
                    // A connection that is gone shows in its state.
                    let _ = track.write_rtcp(vec![Box::new(request)]).await;
                    seen(&view).handle_keyframe_request();
                }
            }
            Some(_) => {}
            None => return Ok(taken.at_the_end(clock::now())),
        }
    }
}

impl Track {
    fn handle_packet(&mut self, packet: &rtc::rtp::Packet, view: &Mutex<View>, now: Instant) {
        let octets = packet.header.marshal_size() + packet.payload.len();
        match self {
            Track::Audio { reception, sound, playout, rungs, delays, first } => {
                first.get_or_insert(now);
                if reception.handle_packet(&packet.header, now) == Arrival::New {
                    seen(view).handle_sound(octets);
                    sound.handle_packet(&packet.payload);
                    playout.handle_packet(packet.header.timestamp, rung::samples(&packet.payload), now);
                    rungs.handle_packet(&packet.payload, now);
                    if let Some(delay) = delay(&packet.payload) {
                        delays.add(delay);
                    }
                }
            }
            Track::Video { reception, picture, first, .. } => {
                first.get_or_insert(now);
                if reception.handle_packet(&packet.header, now) == Arrival::New {
                    picture.handle_packet(packet);
                    seen(view).handle_picture(packet, octets, now);
                }
            }
        }
    }

    /// What was due until now is played.
    fn at_the_end(mut self, now: Instant) -> Self {
        if let Track::Audio { playout, .. } = &mut self {
            playout.advance(now);
        }
        self
    }

    fn wants_keyframe(&self) -> bool {
        matches!(self, Track::Video { picture, .. } if picture.keyframes() == 0)
    }

    fn first(&self) -> Option<Instant> {
        match self {
            Track::Audio { first, .. } | Track::Video { first, .. } => *first,
        }
    }
}

/// How long a stamped packet was under way; nothing for a plain one, or for another clock's.
pub(crate) fn delay(payload: &[u8]) -> Option<Duration> {
    clock::unix_micros().checked_sub(stamp::read(payload)?).map(Duration::from_micros)
}

#[derive(Default)]
struct Heard {
    tracks: Vec<Track>,
}

impl Heard {
    fn report(mut self, asked_at: Instant, ended: Ended, seen: Option<Second>) -> Report {
        let first = self.tracks.iter().filter_map(Track::first).min();
        let mut report = Report {
            packets: 0,
            lost: 0,
            duplicates: 0,
            jitter_ms: 0.0,
            level_dbfs: None,
            levels_dbfs: None,
            peak_hz: None,
            gaps_ms: Vec::new(),
            silences: None,
            first_packet_ms: first
                .map(|first| round(first.saturating_duration_since(asked_at).as_secs_f64() * 1e3)),
            delay_ms: None,
            decoded_seconds: 0.0,
            undecodable: 0,
            concealed: None,
            rung_changes: 0,
            rungs: Vec::new(),
            video: None,
            ended,
        };
        for track in &mut self.tracks {
            match track {
                Track::Audio { reception, sound, playout, rungs, delays, .. } => {
                    report.packets += reception.packets();
                    report.lost += reception.lost();
                    report.duplicates += reception.duplicates();
                    report.jitter_ms = report.jitter_ms.max(reception.jitter_ms());
                    report.level_dbfs = sound.level_dbfs().or(report.level_dbfs);
                    report.levels_dbfs = sound.levels_dbfs().or(report.levels_dbfs);
                    report.peak_hz = sound.peak_hz().or(report.peak_hz);
                    report.gaps_ms.extend(reception.gaps_ms());
                    report.silences = reception.silences().or(report.silences);
                    report.delay_ms = delays.percentiles().or(report.delay_ms);
                    report.decoded_seconds += round(sound.seconds());
                    report.undecodable += sound.undecodable();
                    report.concealed = Some(playout.concealed());
                    report.rung_changes += rungs.changes();
                    report.rungs.extend(rungs.turns());
                }
                Track::Video { reception, picture, codec, .. } if reception.packets() > 0 => {
                    report.video = Some(VideoReport {
                        packets: reception.packets(),
                        frames: picture.frames(),
                        keyframes: picture.keyframes(),
                        lost: reception.lost(),
                        silences: reception.silences(),
                        sizes: None,
                        codec: codec.trim_start_matches("video/").to_owned(),
                        seen: seen.clone(),
                    });
                }
                Track::Video { .. } => {}
            }
        }
        report
    }
}
