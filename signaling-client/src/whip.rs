//! A publication: one participant that sends one Opus track to a WHIP endpoint, and a video track if wanted.
//! Takes encoded frames and puts RTP around them; where the sound comes from is [`crate::source`]'s, where the
//! picture comes from [`crate::picture`]'s.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::rtp::{self, header::Header};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};

use crate::endpoint::{Endpoint, Session};
use crate::error::{Error, innermost};
use crate::keyframe_request::asks_for_keyframe;
use crate::participant::{Participant, State};
use crate::picture::{FRAME_TICKS, Pictures};

/// How long a connection may take from the answer on.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// One track being published.
pub struct Publication {
    participant: Participant,
    session: Session,
    sound: Track,
    picture: Option<Camera>,
}

/// One track and the header of its next packet.
struct Track {
    local: Arc<TrackLocalStaticRTP>,
    next: Header,
}

/// The video track, and whether somebody asked for a keyframe.
struct Camera {
    track: Track,
    pictures: Pictures,
    keyframe_asked: Arc<AtomicBool>,
    listening: AbortHandle,
}

impl Publication {
    /// Publishes at an endpoint, sound and with `video` also a picture: posts the offer and waits until media can flow.
    ///
    /// # Errors
    /// Whatever [`Endpoint::offer`] and [`Participant`] say; nothing is left behind at the relay.
    pub async fn open(endpoint: &Endpoint, video: bool) -> Result<Self, Error> {
        let mut participant = Participant::new(resolve(endpoint).await?).await?;
        match Self::establish(&mut participant, endpoint, video).await {
            Ok((session, sound, picture)) => {
                Ok(Publication { participant, session, sound, picture: picture.map(Camera::new) })
            }
            Err(error) => {
                participant.close().await;
                Err(error)
            }
        }
    }

    /// Sends one Opus packet and counts `samples` of 48 kHz on.
    ///
    /// # Errors
    /// [`Error::Lost`] once the connection is gone.
    pub async fn send(&mut self, payload: Bytes, samples: u32) -> Result<(), Error> {
        let packet = rtp::Packet { header: self.sound.next.clone(), payload };
        self.sound.next.marker = false;
        self.sound.next.sequence_number = self.sound.next.sequence_number.wrapping_add(1);
        self.skip(samples);
        self.sound.local.write_rtp(packet).await.map_err(|_| Error::Lost)
    }

    /// Sends the next frame of the picture, if there is one. A frame lasts 40 ms.
    ///
    /// # Errors
    /// [`Error::Lost`] once the connection is gone.
    pub async fn send_picture(&mut self) -> Result<(), Error> {
        let Some(Camera { track, pictures, keyframe_asked, .. }) = &mut self.picture else { return Ok(()) };
        let payloads = pictures.frame(keyframe_asked.swap(false, Relaxed));
        let last = payloads.len() - 1;
        for (at, payload) in payloads.into_iter().enumerate() {
            track.next.marker = at == last;
            let packet = rtp::Packet { header: track.next.clone(), payload };
            track.next.sequence_number = track.next.sequence_number.wrapping_add(1);
            track.local.write_rtp(packet).await.map_err(|_| Error::Lost)?;
        }
        track.next.timestamp = track.next.timestamp.wrapping_add(FRAME_TICKS);
        Ok(())
    }

    /// Counts `samples` on without sending: a listener hears silence, in time.
    pub fn skip(&mut self, samples: u32) {
        self.sound.next.timestamp = self.sound.next.timestamp.wrapping_add(samples);
    }

    /// Follows the connection's state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.participant.state()
    }

    /// The session at the relay.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Ends the publication here and at the relay.
    pub async fn close(self) {
        self.session.delete().await;
        self.participant.close().await;
    }

    async fn establish(
        participant: &mut Participant,
        endpoint: &Endpoint,
        video: bool,
    ) -> Result<(Session, Track, Option<Track>), Error> {
        let mut senders = vec![];
        for kind in
            if video { &[RtpCodecKind::Audio, RtpCodecKind::Video][..] } else { &[RtpCodecKind::Audio] }
        {
            let ssrc = rand::random::<u32>().max(1);
            let local = Arc::new(TrackLocalStaticRTP::new(local_track(*kind, ssrc)));
            let sender = participant.add_track(Arc::clone(&local) as Arc<dyn TrackLocal>).await?;
            senders.push((*kind, ssrc, local, sender));
        }
        let offer = participant.offer().await?;
        let (answer, session) = endpoint.offer(offer).await?;
        let ready = async {
            participant.accept(answer).await?;
            participant.connected(CONNECTION_TIMEOUT).await?;
            let mut tracks = vec![];
            for (kind, ssrc, local, sender) in senders {
                let parameters = sender.get_parameters().await?.rtp_parameters;
                let wanted = mime(kind);
                let codec = parameters.codecs.iter().find(|codec| codec.rtp_codec.mime_type == wanted);
                let codec = codec.ok_or_else(|| Error::Protocol {
                    url: endpoint.url().to_string(),
                    reason: format!("the answer takes no {wanted}"),
                })?;
                let next = Header {
                    version: 2,
                    // The first packet of a talkspurt (RFC 7587 section 4.2).
                    marker: true,
                    payload_type: codec.payload_type,
                    sequence_number: rand::random(),
                    timestamp: rand::random(),
                    ssrc,
                    ..Header::default()
                };
                tracks.push(Track { local, next });
            }
            Ok(tracks)
        };
        match ready.await {
            Ok(tracks) => {
                let mut tracks = tracks.into_iter();
                let sound = tracks.next().expect("a track for each of the kinds, the first is sound");
                Ok((session, sound, tracks.next()))
            }
            Err(error) => {
                session.delete().await;
                Err(error)
            }
        }
    }
}

impl Camera {
    fn new(track: Track) -> Camera {
        let keyframe_asked = Arc::new(AtomicBool::new(false));
        let (local, asked) = (Arc::clone(&track.local), Arc::clone(&keyframe_asked));
        let listening = tokio::spawn(async move {
            while let Some(event) = local.poll().await {
                let TrackLocalEvent::OnRtcpPacket(packets) = event else { continue };
                if asks_for_keyframe(&packets) {
                    asked.store(true, Relaxed);
                }
            }
        });
        let listening = listening.abort_handle();
        Camera { track, pictures: Pictures::default(), keyframe_asked, listening }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn mime(kind: RtpCodecKind) -> &'static str {
    match kind {
        RtpCodecKind::Video => MIME_TYPE_VP8,
        _ => MIME_TYPE_OPUS,
    }
}

fn local_track(kind: RtpCodecKind, ssrc: u32) -> MediaStreamTrack {
    let (clock_rate, channels, name) = match kind {
        RtpCodecKind::Video => (90_000, 0, "stage-video"),
        _ => (48_000, 2, "stage-audio"),
    };
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec: RTCRtpCodec {
            mime_type: mime(kind).to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        },
        ..Default::default()
    };
    MediaStreamTrack::new("stage".to_owned(), name.to_owned(), "stage".to_owned(), kind, vec![encoding])
}

/// The address behind an endpoint's name.
pub(crate) async fn resolve(endpoint: &Endpoint) -> Result<SocketAddr, Error> {
    let url = endpoint.url();
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default().unwrap_or(80);
    let unreachable = |reason: String| Error::Unreachable { url: url.to_string(), reason };
    let mut found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| unreachable(innermost(&error)))?;
    found.next().ok_or_else(|| unreachable("the name has no address".to_owned()))
}
