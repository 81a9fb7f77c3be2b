//! One peer connection of the `webrtc` crate, as a participant uses it: host candidates only, all of
//! them in the offer, no STUN servers and no mDNS names. Knows no HTTP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Slot;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_AV1, MIME_TYPE_H264, MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8, MIME_TYPE_VP9,
};
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RtpCodecKind};
use tokio::sync::{mpsc, watch};
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_remote::TrackRemote;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
    RTCPeerConnectionState, RTCSessionDescription, Registry, SettingEngineBuilder,
    register_default_interceptors,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpSender};

use crate::error::Error;
use crate::keyframe_request::{self, KeyframeRequests};

/// The Opus payload type of our offers.
const OPUS: u8 = 111;
/// Stereo music without in-band FEC, which does nothing for music.
const OPUS_PARAMETERS: &str = "minptime=10;stereo=1;sprop-stereo=1;maxaveragebitrate=256000;useinbandfec=0";
const GATHERING_TIMEOUT: Duration = Duration::from_secs(5);
/// Tracks that wait for their taker: an answer has one audio and one video.
const TRACK_QUEUE: usize = 8;

/// Where a peer connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not yet connected.
    Connecting,
    /// Media can flow.
    Connected,
    /// It broke, or the other side closed it: this participant is done.
    Gone,
}

/// One peer connection. [`Participant::close`] ends it; so does dropping it, a little later.
pub struct Participant {
    connection: Arc<dyn PeerConnection>,
    state: watch::Receiver<State>,
    gathered: watch::Receiver<bool>,
    tracks: mpsc::Receiver<Arc<dyn TrackRemote>>,
}

impl Participant {
    /// A participant that binds its sockets on the addresses that `relay` can answer.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when no socket can be bound.
    pub async fn new(relay: SocketAddr) -> Result<Self, Error> {
        let mut media = media_engine()?;
        let interceptors =
            Registry::new().with(Slot::from(keyframe_request::PLACE), KeyframeRequests::default());
        let interceptors = register_default_interceptors(interceptors, &mut media)?;
        let settings = SettingEngineBuilder::new()
            .with_include_loopback_candidate(true)
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_ice_timeouts(
                Some(Duration::from_secs(3)),
                Some(Duration::from_secs(3)),
                Some(Duration::from_secs(1)),
            )
            .build();
        let (state_tx, state) = watch::channel(State::Connecting);
        let (gathered_tx, gathered) = watch::channel(false);
        let (tracks_tx, tracks) = mpsc::channel(TRACK_QUEUE);
        let events = Events { state: state_tx, gathered: gathered_tx, tracks: tracks_tx };
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media)
            .with_interceptor_registry(interceptors)
            .with_setting_engine(settings)
            .with_handler(Arc::new(events))
            .with_udp_addrs(addresses_toward(relay))
            .build()
            .await?;
        Ok(Participant { connection: Arc::new(connection), state, gathered, tracks })
    }

    /// Adds a track to publish, before the offer.
    ///
    /// # Errors
    /// [`Error::Webrtc`].
    pub async fn add_track(&self, track: Arc<dyn TrackLocal>) -> Result<Arc<dyn RtpSender>, Error> {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        let transceiver = self.connection.add_transceiver_from_track(track, Some(init)).await?;
        let sender = transceiver.sender().await?;
        sender.ok_or_else(|| Error::Webrtc(webrtc::error::Error::ErrRTPSenderNewTrackHasIncorrectKind))
    }

    /// Asks for one track of a kind, before the offer.
    ///
    /// # Errors
    /// [`Error::Webrtc`].
    pub async fn ask_for(&self, kind: RtpCodecKind) -> Result<(), Error> {
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: Vec::new(),
            send_encodings: Vec::new(),
        };
        self.connection.add_transceiver_from_kind(kind, Some(init)).await?;
        Ok(())
    }

    /// A data channel of this label; before the offer, for the first one.
    ///
    /// # Errors
    /// [`Error::Webrtc`].
    pub async fn channel(&self, label: &str) -> Result<Arc<dyn DataChannel>, Error> {
        Ok(self.connection.create_data_channel(label, None).await?)
    }

    /// The offer, with every candidate in it.
    ///
    /// # Errors
    /// [`Error::Webrtc`].
    pub async fn offer(&mut self) -> Result<String, Error> {
        let offer = self.connection.create_offer(None).await?;
        self.connection.set_local_description(offer).await?;
        self.local_sdp().await
    }

    /// Takes the answer to the offer.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when it does not fit.
    pub async fn accept(&self, answer: String) -> Result<(), Error> {
        Ok(self.connection.set_remote_description(RTCSessionDescription::answer(answer)?).await?)
    }

    /// Answers somebody else's offer, as an endpoint does.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when the offer cannot be served.
    pub async fn answer(&mut self, offer: String) -> Result<String, Error> {
        self.connection.set_remote_description(RTCSessionDescription::offer(offer)?).await?;
        let answer = self.connection.create_answer(None).await?;
        self.connection.set_local_description(answer).await?;
        self.local_sdp().await
    }

    /// Waits until media can flow.
    ///
    /// # Errors
    /// [`Error::NoConnection`] after `limit`, [`Error::Lost`] when it failed before.
    pub async fn connected(&mut self, limit: Duration) -> Result<(), Error> {
        let settled = self.state.wait_for(|state| *state != State::Connecting);
        match tokio::time::timeout(limit, settled).await {
            Err(_) => Err(Error::NoConnection(limit)),
            Ok(Ok(state)) if *state == State::Connected => Ok(()),
            Ok(_) => Err(Error::Lost),
        }
    }

    /// Follows the state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// The next track that arrives; `None` once the connection is gone.
    pub async fn next_track(&mut self) -> Option<Arc<dyn TrackRemote>> {
        self.tracks.recv().await
    }

    /// Ends the connection and frees its sockets.
    pub async fn close(&self) {
        // The only failure is that it is closed already.
        let _ = self.connection.close().await;
    }

    async fn local_sdp(&mut self) -> Result<String, Error> {
        let gathered = self.gathered.wait_for(|done| *done);
        // Without a completion event the candidates there are have to do.
        let _ = tokio::time::timeout(GATHERING_TIMEOUT, gathered).await;
        let description = self.connection.local_description().await;
        Ok(description.ok_or(webrtc::error::Error::ErrConnectionClosed)?.sdp)
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // The library's tasks outlive its handle unless it is closed, which is async. Without a runtime
        // they are gone already. Closing twice does nothing.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let connection = Arc::clone(&self.connection);
            runtime.spawn(async move { connection.close().await });
        }
    }
}

/// Waits until a followed connection is gone.
pub async fn gone(mut state: watch::Receiver<State>) {
    // An error means that the connection itself was dropped, which is as gone.
    let _ = state.wait_for(|state| *state == State::Gone).await;
}

struct Events {
    state: watch::Sender<State>,
    gathered: watch::Sender<bool>,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Events {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.send_replace(true);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        match state {
            RTCPeerConnectionState::Connected => self.state.send_replace(State::Connected),
            RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                self.state.send_replace(State::Gone)
            }
            _ => return,
        };
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        // More tracks than the queue holds were never asked for; waiting here would stall the connection.
        if self.tracks.try_send(track).is_err() {
            tracing::warn!("a track beyond those asked for was ignored");
        }
    }
}

/// The addresses to bind so that `relay` can answer. The library makes one socket and one host candidate
/// of each. Toward a relay on this machine every interface is taken, since a relay offers the addresses
/// of its interfaces and not always the loopback.
fn addresses_toward(relay: SocketAddr) -> Vec<String> {
    if relay.ip().is_loopback() {
        let own = if relay.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        return vec![own.to_owned(), "0.0.0.0:0".to_owned()];
    }
    let any = if relay.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let route = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(relay)?;
        socket.local_addr()
    });
    match route {
        Ok(local) => vec![SocketAddr::new(local.ip(), 0).to_string()],
        Err(_) => vec![any.to_owned()],
    }
}

fn media_engine() -> Result<MediaEngine, Error> {
    let mut media = MediaEngine::default();
    let nack = || RTCPFeedback { typ: "nack".to_owned(), parameter: String::new() };
    let opus = RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: OPUS_PARAMETERS.to_owned(),
            rtcp_feedback: vec![nack()],
        },
        payload_type: OPUS,
    };
    media.register_codec(opus, RtpCodecKind::Audio)?;
    for (mime, parameters, payload_type) in VIDEO_CODECS {
        let feedback = |typ: &str, parameter: &str| RTCPFeedback {
            typ: typ.to_owned(),
            parameter: parameter.to_owned(),
        };
        let video = RTCRtpCodecParameters {
            rtp_codec: RTCRtpCodec {
                mime_type: mime.to_owned(),
                clock_rate: 90_000,
                channels: 0,
                sdp_fmtp_line: parameters.to_owned(),
                rtcp_feedback: match mime {
                    MIME_TYPE_RTX => Vec::new(),
                    _ => vec![feedback("ccm", "fir"), nack(), feedback("nack", "pli")],
                },
            },
            payload_type,
        };
        media.register_codec(video, RtpCodecKind::Video)?;
    }
    Ok(media)
}

/// What a listener offers to receive, the common floor first; each with its retransmission.
const VIDEO_CODECS: [(&str, &str, u8); 8] = [
    (MIME_TYPE_VP8, "", 96),
    (MIME_TYPE_RTX, "apt=96", 97),
    (MIME_TYPE_H264, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", 102),
    (MIME_TYPE_RTX, "apt=102", 103),
    (MIME_TYPE_VP9, "profile-id=0", 98),
    (MIME_TYPE_RTX, "apt=98", 99),
    (MIME_TYPE_AV1, "profile-id=0", 45),
    (MIME_TYPE_RTX, "apt=45", 46),
];
