//! A simulcast against a peer connection of the `webrtc` crate that takes all of its encodings.
#![expect(clippy::unwrap_used, reason = "a test endpoint fails its test by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_RTX, MIME_TYPE_VP8};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp::header::Header;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use signaling_client::endpoint::Endpoint;
use signaling_client::ivf::Film;
use signaling_client::simulcast;
use tokio::sync::{mpsc, oneshot, watch};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCSessionDescription, Registry, SettingEngineBuilder, register_default_interceptors,
};

/// What came: the RID that the library made out, and the header.
type Came = (String, Header);

#[derive(Clone)]
struct Relay {
    came: mpsc::UnboundedSender<Came>,
    connection: Arc<tokio::sync::Mutex<Option<Arc<dyn PeerConnection>>>>,
}

struct Events {
    gathered: watch::Sender<bool>,
    came: mpsc::UnboundedSender<Came>,
}

#[async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let came = self.came.clone();
        tokio::spawn(async move {
            let mut asked = false;
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
                let ssrc = packet.header.ssrc;
                let rid = track.rid(ssrc).await.unwrap_or_default();
                // One of them is asked for a keyframe, once.
                if rid == "m" && !asked {
                    asked = true;
                    let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
                    track.write_rtcp(vec![Box::new(request)]).await.unwrap();
                }
                let _ = came.send((rid, packet.header));
            }
        });
    }
}

fn media_engine() -> MediaEngine {
    let mut media = MediaEngine::default();
    let feedback =
        |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    for (mime, parameters, payload_type, feedback) in [
        (MIME_TYPE_VP8, "", 96, vec![feedback("nack", ""), feedback("nack", "pli")]),
        (MIME_TYPE_RTX, "apt=96", 97, vec![]),
    ] {
        let codec = RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: mime.to_owned(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line: parameters.to_owned(),
                rtcp_feedback: feedback,
            },
            payload_type,
        };
        media.register_codec(codec, RtpCodecKind::Video).unwrap();
    }
    for name in ["mid", "rtp-stream-id", "repaired-rtp-stream-id"] {
        let uri = format!("urn:ietf:params:rtp-hdrext:sdes:{name}");
        let extension = RTCRtpHeaderExtensionCapability { uri };
        media.register_header_extension(extension, RtpCodecKind::Video, None).unwrap();
    }
    media
}

async fn whip(State(relay): State<Relay>, offer: String) -> Response {
    let mut media = media_engine();
    let interceptors = register_default_interceptors(Registry::new(), &mut media).unwrap();
    let (gathered, mut done) = watch::channel(false);
    let connection = PeerConnectionBuilder::new()
        .with_media_engine(media)
        .with_interceptor_registry(interceptors)
        .with_setting_engine(SettingEngineBuilder::new().with_include_loopback_candidate(true).build())
        .with_handler(Arc::new(Events { gathered, came: relay.came.clone() }))
        .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
        .build()
        .await
        .unwrap();
    connection.set_remote_description(RTCSessionDescription::offer(offer).unwrap()).await.unwrap();
    let answer = connection.create_answer(None).await.unwrap();
    connection.set_local_description(answer).await.unwrap();
    done.wait_for(|done| *done).await.unwrap();
    let answer = connection.local_description().await.unwrap().sdp;
    *relay.connection.lock().await = Some(Arc::new(connection));
    let headers = [("content-type", "application/sdp"), ("location", "/session")];
    (StatusCode::CREATED, headers, answer).into_response()
}

/// VP8 in 25 frames a second, a keyframe and nine others.
fn film(width: u8) -> Film {
    let header = [&b"DKIF\0\0\x20\0VP80"[..], &[width, 0, 180, 0, 25, 0, 0, 0, 1, 0, 0, 0], &[0; 8]].concat();
    let frame = |n: u8| {
        let data = [0x10 | u8::from(n > 0), 0, 0, 0x9d, 0x01, 0x2a, width, 0, 180, 0];
        [&[data.len() as u8, 0, 0, 0, n][..], &[0; 7], &data].concat()
    };
    Film::read([header, (0..10).flat_map(frame).collect()].concat().into()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_library_tells_all_encodings_apart_and_asks_one_for_a_keyframe() {
    let (came_tx, mut came) = mpsc::unbounded_channel();
    let relay = Relay { came: came_tx, connection: Arc::default() };
    let app = Router::new()
        .route("/whip", post(whip))
        .route("/session", delete(|| async { StatusCode::OK }))
        .with_state(relay.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let (over, stop) = oneshot::channel::<()>();
    let publishing = tokio::spawn(async move {
        let endpoint = Endpoint::new(&format!("http://{address}/whip"), None).unwrap();
        let options = simulcast::Options {
            films: ["l", "m", "h"]
                .into_iter()
                .zip([60, 120, 240])
                .map(|(rid, width)| (rid.parse().unwrap(), film(width)))
                .collect(),
            pauses: Vec::new(),
            pattern: None,
            bitrate: 64_000,
            length: None,
        };
        let stop = async move {
            let _ = stop.await;
        };
        simulcast::publish(&endpoint, None, &options, stop).await.unwrap()
    });
    let mut heard: Vec<Came> = Vec::new();
    let all: BTreeSet<&str> = BTreeSet::from(["l", "m", "h"]);
    let enough =
        |heard: &[Came]| all.iter().all(|rid| heard.iter().filter(|(known, _)| known == rid).count() >= 30);
    while !enough(&heard) {
        let next = tokio::time::timeout(Duration::from_secs(20), came.recv()).await;
        heard.push(next.unwrap_or_else(|_| panic!("only {heard:?}")).unwrap());
    }
    over.send(()).unwrap();
    let sent = publishing.await.unwrap();
    assert_eq!(sent.len(), 3);
    let ssrcs: BTreeSet<u32> =
        heard.iter().filter(|(rid, _)| all.contains(&rid[..])).map(|(_, header)| header.ssrc).collect();
    assert_eq!(ssrcs.len(), 3, "each encoding has an SSRC of its own");
    let asked: Vec<(&str, bool)> = sent.iter().map(|(rid, sent)| (rid.as_str(), sent.asked > 0)).collect();
    assert_eq!(asked, [("l", false), ("m", true), ("h", false)]);
    if let Some(connection) = relay.connection.lock().await.take() {
        connection.close().await.unwrap();
    }
}
