//! A publication: one participant that sends one Opus track to a WHIP endpoint.
//! Takes encoded frames and puts RTP around them; where the sound comes from is [`crate::source`]'s.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::MIME_TYPE_OPUS;
use rtc::rtp::{self, header::Header};
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::watch;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;

use crate::endpoint::{Endpoint, Session};
use crate::error::{Error, innermost};
use crate::participant::{Participant, State};

/// How long a connection may take from the answer on.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// One track being published.
pub struct Publication {
    participant: Participant,
    session: Session,
    track: Arc<TrackLocalStaticRTP>,
    next: Header,
}

impl Publication {
    /// Publishes at an endpoint: posts the offer and waits until media can flow.
    ///
    /// # Errors
    /// Whatever [`Endpoint::offer`] and [`Participant`] say; nothing is left behind at the relay.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        let mut participant = Participant::new(resolve(endpoint).await?).await?;
        match Self::establish(&mut participant, endpoint).await {
            Ok((session, track, next)) => Ok(Publication { participant, session, track, next }),
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
        let packet = rtp::Packet { header: self.next.clone(), payload };
        self.next.marker = false;
        self.next.sequence_number = self.next.sequence_number.wrapping_add(1);
        self.skip(samples);
        self.track.write_rtp(packet).await.map_err(|_| Error::Lost)
    }

    /// Counts `samples` on without sending: a listener hears silence, in time.
    pub fn skip(&mut self, samples: u32) {
        self.next.timestamp = self.next.timestamp.wrapping_add(samples);
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
    ) -> Result<(Session, Arc<TrackLocalStaticRTP>, Header), Error> {
        let ssrc = rand::random::<u32>().max(1);
        let track = Arc::new(TrackLocalStaticRTP::new(opus_track(ssrc)));
        let sender = participant.add_track(Arc::clone(&track) as Arc<dyn TrackLocal>).await?;
        let offer = participant.offer().await?;
        let (answer, session) = endpoint.offer(offer).await?;
        let ready = async {
            participant.accept(answer).await?;
            participant.connected(CONNECTION_TIMEOUT).await?;
            let parameters = sender.get_parameters().await?.rtp_parameters;
            let codec = parameters.codecs.first().ok_or_else(|| Error::Protocol {
                url: endpoint.url().to_string(),
                reason: "the answer takes no audio".to_owned(),
            })?;
            Ok(codec.payload_type)
        };
        match ready.await {
            Ok(payload_type) => {
                let first = Header {
                    version: 2,
                    // The first packet of a talkspurt (RFC 7587 section 4.2).
                    marker: true,
                    payload_type,
                    sequence_number: rand::random(),
                    timestamp: rand::random(),
                    ssrc,
                    ..Header::default()
                };
                Ok((session, track, first))
            }
            Err(error) => {
                session.delete().await;
                Err(error)
            }
        }
    }
}

fn opus_track(ssrc: u32) -> MediaStreamTrack {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec: RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        },
        ..Default::default()
    };
    let (stream, track) = ("stage".to_owned(), "stage-audio".to_owned());
    MediaStreamTrack::new(stream, track, "stage".to_owned(), RtpCodecKind::Audio, vec![encoding])
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
