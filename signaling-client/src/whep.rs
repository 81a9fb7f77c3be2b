//! A playback: one participant that receives the tracks of one stream from a WHEP endpoint.
//! Hands out tracks; what is heard and seen in them is [`crate::listen`]'s.

use std::sync::Arc;
use std::time::Instant;

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::watch;
use webrtc::media_stream::track_remote::TrackRemote;

use crate::clock;
use crate::endpoint::{Endpoint, Session};
use crate::error::Error;
use crate::participant::{Participant, State};
use crate::whip::{CONNECTION_TIMEOUT, resolve};

/// Which kinds of track to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Opus.
    pub audio: bool,
    /// Any video codec.
    pub video: bool,
}

/// One stream being played.
pub struct Playback {
    participant: Participant,
    session: Session,
    asked_at: Instant,
}

impl Playback {
    /// Plays from an endpoint: posts the offer and waits until media can flow.
    ///
    /// # Errors
    /// Whatever [`Endpoint::offer`] and [`Participant`] say; nothing is left behind at the relay.
    pub async fn open(endpoint: &Endpoint, wanted: Wanted) -> Result<Self, Error> {
        let mut participant = Participant::new(resolve(endpoint).await?).await?;
        let asked_at = clock::now();
        match Self::establish(&mut participant, endpoint, wanted).await {
            Ok(session) => Ok(Playback { participant, session, asked_at }),
            Err(error) => {
                participant.close().await;
                Err(error)
            }
        }
    }

    /// When the relay was asked: joining takes from here to the first packet.
    pub fn asked_at(&self) -> Instant {
        self.asked_at
    }

    /// The next track that arrives; `None` once the connection is gone.
    pub async fn next_track(&mut self) -> Option<Arc<dyn TrackRemote>> {
        self.participant.next_track().await
    }

    /// Follows the connection's state.
    pub fn state(&self) -> watch::Receiver<State> {
        self.participant.state()
    }

    /// The session at the relay.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Ends the playback here and at the relay.
    pub async fn close(self) {
        self.session.delete().await;
        self.participant.close().await;
    }

    async fn establish(
        participant: &mut Participant,
        endpoint: &Endpoint,
        wanted: Wanted,
    ) -> Result<Session, Error> {
        if wanted.audio {
            participant.ask_for(RtpCodecKind::Audio).await?;
        }
        if wanted.video {
            participant.ask_for(RtpCodecKind::Video).await?;
        }
        let offer = participant.offer().await?;
        let (answer, session) = endpoint.offer(offer).await?;
        let ready = async {
            participant.accept(answer).await?;
            participant.connected(CONNECTION_TIMEOUT).await
        };
        match ready.await {
            Ok(()) => Ok(session),
            Err(error) => {
                session.delete().await;
                Err(error)
            }
        }
    }
}
