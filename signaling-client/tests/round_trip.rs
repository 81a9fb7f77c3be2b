//! The participant against an endpoint made of its own parts on 127.0.0.1: what is published is heard.
#![expect(clippy::unwrap_used, reason = "a test endpoint fails its test by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use rtc::media_stream::MediaStreamTrack;
use rtc::rtp::Packet;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use signaling_client::endpoint::Endpoint;
use signaling_client::ivf::Film;
use signaling_client::participant::{Participant, gone};
use signaling_client::source::{Demo, Tone};
use signaling_client::whep::Wanted;
use signaling_client::{Error, listen, load, publish, simulcast};
use tokio::sync::{Notify, broadcast};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::TrackRemoteEvent;

const SSRC: u32 = 0x5050_5050;

/// A one-stream forwarder: enough of a relay to have something to talk to.
#[derive(Clone)]
struct Forwarder {
    stream: broadcast::Sender<Packet>,
    /// By their numbers; each is told when it is deleted.
    sessions: Arc<Mutex<Vec<Arc<Notify>>>>,
    publishers: Arc<AtomicU32>,
    deleted: Arc<AtomicU32>,
}

impl Forwarder {
    async fn start() -> (Self, SocketAddr) {
        let forwarder = Forwarder {
            stream: broadcast::channel(1024).0,
            sessions: Arc::default(),
            publishers: Arc::default(),
            deleted: Arc::default(),
        };
        let app = Router::new()
            .route("/whip/{stream}", post(whip))
            .route("/whep/{stream}", post(whep))
            .route("/sessions/{id}", delete(end))
            .with_state(forwarder.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (forwarder, address)
    }

    fn session(&self, location: &str, answer: String) -> (Response, Arc<Notify>) {
        let mut sessions = self.sessions.lock().unwrap();
        let ended = Arc::new(Notify::new());
        let id = sessions.len().to_string();
        sessions.push(Arc::clone(&ended));
        let headers = [
            ("content-type", "application/sdp".to_owned()),
            ("location", format!("{location}{id}")),
            ("etag", "\"1\"".to_owned()),
        ];
        ((StatusCode::CREATED, headers, answer).into_response(), ended)
    }
}

async fn whip(State(forwarder): State<Forwarder>, headers: HeaderMap, offer: String) -> Response {
    if headers.get("authorization").is_some_and(|token| token != "Bearer good") {
        let problem = r#"{"type":"/problems/token","title":"Ask the organizer for a token","status":401}"#;
        return (StatusCode::UNAUTHORIZED, problem).into_response();
    }
    assert_eq!(headers["content-type"], "application/sdp");
    let mut peer = Participant::new("127.0.0.1:9".parse().unwrap()).await.unwrap();
    let answer = peer.answer(offer).await.unwrap();
    // A relative Location, which a client has to understand as well.
    let (response, ended) = forwarder.session("../sessions/", answer);
    forwarder.publishers.fetch_add(1, Ordering::SeqCst);
    tokio::spawn(async move {
        let mut state = std::pin::pin!(gone(peer.state()));
        let mut ended = std::pin::pin!(ended.notified());
        tokio::select! {
            Some(track) = peer.next_track() => loop {
                tokio::select! {
                    event = track.poll() => match event {
                        Some(TrackRemoteEvent::OnRtpPacket(packet)) => {
                            let _ = forwarder.stream.send(packet);
                        }
                        Some(_) => {}
                        None => break,
                    },
                    () = &mut ended => break,
                    () = &mut state => break,
                }
            },
            () = &mut state => {}
        }
        forwarder.publishers.fetch_sub(1, Ordering::SeqCst);
        peer.close().await;
    });
    response
}

async fn whep(State(forwarder): State<Forwarder>, offer: String) -> Response {
    if forwarder.publishers.load(Ordering::SeqCst) == 0 {
        return (StatusCode::CONFLICT, [("retry-after", "0")]).into_response();
    }
    let mut peer = Participant::new("127.0.0.1:9".parse().unwrap()).await.unwrap();
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() },
        codec: RTCRtpCodec {
            mime_type: "audio/opus".to_owned(),
            clock_rate: 48_000,
            channels: 2,
            ..Default::default()
        },
        ..Default::default()
    };
    let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "s".to_owned(),
        "t".to_owned(),
        "l".to_owned(),
        RtpCodecKind::Audio,
        vec![encoding],
    )));
    peer.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await.unwrap();
    let answer = peer.answer(offer).await.unwrap();
    let (response, ended) = forwarder.session("/sessions/", answer);
    let mut packets = forwarder.stream.subscribe();
    tokio::spawn(async move {
        if peer.connected(Duration::from_secs(10)).await.is_ok() {
            let mut ended = std::pin::pin!(ended.notified());
            loop {
                tokio::select! {
                    packet = packets.recv() => {
                        let Ok(mut packet) = packet else { break };
                        packet.header.ssrc = SSRC;
                        packet.header.extension = false;
                        packet.header.extensions.clear();
                        if track.write_rtp(packet).await.is_err() {
                            break;
                        }
                    }
                    () = &mut ended => break,
                }
            }
        }
        peer.close().await;
    });
    response
}

async fn end(State(forwarder): State<Forwarder>, Path(id): Path<String>) -> StatusCode {
    let sessions = forwarder.sessions.lock().unwrap();
    match id.parse::<usize>().ok().and_then(|id| sessions.get(id)) {
        Some(ended) => {
            forwarder.deleted.fetch_add(1, Ordering::SeqCst);
            ended.notify_one();
            StatusCode::OK
        }
        None => StatusCode::NOT_FOUND,
    }
}

fn options(seconds: u64) -> listen::Options {
    listen::Options {
        length: Some(Duration::from_secs(seconds)),
        wait: true,
        wanted: Wanted { audio: true, video: true },
        silences_above: None,
        watch: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_tone_is_heard_at_its_frequency() {
    let (forwarder, address) = Forwarder::start().await;
    let publishing = tokio::spawn(async move {
        let endpoint =
            Endpoint::new(&format!("http://{address}/whip/main-stage"), Some("good".to_owned())).unwrap();
        let options = publish::Options {
            length: Some(Duration::from_secs(6)),
            stamp: true,
            ..publish::Options::default()
        };
        let mut tone = Tone::new(440.0).unwrap();
        publish::publish(&endpoint, &mut tone, &options, std::future::pending()).await.unwrap()
    });
    let endpoint = Endpoint::new(&format!("http://{address}/whep/main-stage"), None).unwrap();
    let report = listen::listen(&endpoint, &options(3), std::future::pending()).await.unwrap();
    let sent = publishing.await.unwrap();
    println!("{sent:?}\n{}", serde_json::to_string(&report).unwrap());
    assert_eq!(sent.packets + sent.skipped, 300);
    assert!(report.packets >= 130, "{} packets", report.packets);
    assert_eq!((report.duplicates, report.undecodable), (0, 0));
    assert!((report.peak_hz.unwrap() - 440.0).abs() < 1.0, "{:?}", report.peak_hz);
    assert!((report.level_dbfs.unwrap() + 9.03).abs() < 1.0, "{:?}", report.level_dbfs);
    assert!(report.first_packet_ms.unwrap() < 3000.0);
    assert!(report.delay_ms.is_some());
    assert_eq!(report.ended, listen::Ended::Complete);
    assert_eq!(forwarder.deleted.load(Ordering::SeqCst), 2, "both sessions are ended at the endpoint");
}

/// VP8 in 25 frames a second, a keyframe and nine others.
fn film() -> Film {
    let header = [&b"DKIF\0\0\x20\0VP80"[..], &[64, 1, 180, 0, 25, 0, 0, 0, 1, 0, 0, 0], &[0; 8]].concat();
    let frame = |n: u8| {
        let data = [0x10 | u8::from(n > 0), 0, 0, 0x9d, 0x01, 0x2a, 64, 1, 180, 0];
        [&[data.len() as u8, 0, 0, 0, n][..], &[0; 7], &data].concat()
    };
    Film::read([header, (0..10).flat_map(frame).collect()].concat().into()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_from_a_file_and_sound_beside_it_reach_another_library() {
    let (forwarder, address) = Forwarder::start().await;
    let mut packets = forwarder.stream.subscribe();
    let (over, stop) = tokio::sync::oneshot::channel::<()>();
    let publishing = tokio::spawn(async move {
        let endpoint = Endpoint::new(&format!("http://{address}/whip/main-stage"), None).unwrap();
        let options = simulcast::Options {
            films: vec![("0".parse().unwrap(), film())],
            pauses: Vec::new(),
            pattern: None,
            bitrate: publish::DEFAULT_BITRATE,
            length: None,
        };
        let mut tone = Tone::new(440.0).unwrap();
        let stop = async move {
            let _ = stop.await;
        };
        simulcast::publish(&endpoint, Some(&mut tone), &options, stop).await.unwrap()
    });
    // The endpoint passes on the track that comes first, which either may be.
    let mut numbers = Vec::new();
    while numbers.len() < 20 {
        let packet = tokio::time::timeout(Duration::from_secs(20), packets.recv()).await.unwrap().unwrap();
        numbers.push(packet.header.sequence_number);
    }
    let first = numbers[0];
    let in_order: Vec<u16> = (0..20).map(|n: u16| first.wrapping_add(n)).collect();
    assert_eq!(numbers, in_order);
    over.send(()).unwrap();
    let sent = publishing.await.unwrap();
    let (rid, encoding) = &sent[0];
    assert_eq!((sent.len(), rid.as_str()), (1, "0"));
    assert!(encoding.keyframes > 0 && encoding.frames == encoding.packets, "{encoding:?}");
    assert_eq!(forwarder.deleted.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_publisher_ends_its_session() {
    let (forwarder, address) = Forwarder::start().await;
    let endpoint = Endpoint::new(&format!("http://{address}/whip/main-stage"), None).unwrap();
    let publishers = Arc::clone(&forwarder.publishers);
    let stop = async move {
        while publishers.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let sent =
        publish::publish(&endpoint, &mut Demo::new(1), &publish::Options::default(), stop).await.unwrap();
    assert!(sent.packets > 0);
    tokio::time::timeout(Duration::from_secs(5), async {
        while forwarder.deleted.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_the_relay_said() {
    let (_forwarder, address) = Forwarder::start().await;
    let endpoint =
        Endpoint::new(&format!("http://{address}/whip/main-stage"), Some("bad".to_owned())).unwrap();
    let (mut demo, defaults) = (Demo::new(1), publish::Options::default());
    let publishing = publish::publish(&endpoint, &mut demo, &defaults, std::future::pending());
    let error = publishing.await.unwrap_err();
    assert!(error.to_string().contains("401: Ask the organizer for a token"), "{error}");
    assert_eq!((error.exit_code(), error.is_passing()), (1, false));

    let endpoint = Endpoint::new(&format!("http://{address}/whep/main-stage"), None).unwrap();
    let impatient = listen::Options { wait: false, ..options(1) };
    match listen::listen(&endpoint, &impatient, std::future::pending()).await {
        Err(error @ Error::Refused { status: 409, .. }) => {
            assert_eq!(error.retry_after(), Some(Duration::ZERO));
            assert!(error.is_passing());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_counts_every_listener() {
    let (forwarder, address) = Forwarder::start().await;
    let (over, stop) = tokio::sync::oneshot::channel::<()>();
    let publishing = tokio::spawn(async move {
        let endpoint = Endpoint::new(&format!("http://{address}/whip/main-stage"), None).unwrap();
        let options = publish::Options { stamp: true, ..publish::Options::default() };
        let mut tone = Tone::new(440.0).unwrap();
        let stop = async move {
            let _ = stop.await;
        };
        publish::publish(&endpoint, &mut tone, &options, stop).await.unwrap()
    });
    while forwarder.publishers.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let endpoint = Endpoint::new(&format!("http://{address}/whep/main-stage"), None).unwrap();
    let options = load::Options {
        count: 5,
        rate: 5.0,
        hold: Duration::from_secs(3),
        wanted: Wanted { audio: true, video: false },
        downlink: None,
        transport_cc: false,
    };
    let report = load::load(load::Role::Listen, &endpoint, &options, std::future::pending()).await.unwrap();
    over.send(()).unwrap();
    publishing.await.unwrap();
    println!("{report}{}", serde_json::to_string(&report).unwrap());
    assert_eq!((report.started, report.joined, report.broken), (5, 5, 0), "{report}");
    assert!(report.packets > 5 * 100, "{report}");
    assert!(report.delay_ms.is_some() && report.join_ms.is_some());
}
