//! One session inside a worker: its transport, its keys, and what flows on it.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::Codec;

use super::plan::{Flow, SessionPlan};
use crate::{
    egress::Egress,
    ingest::Ingest,
    rtp::{
        rtcp::Compound,
        srtp::{Opener, Sealer, SrtpError},
    },
    transport::{SrtpKeys, Transport},
};

/// Between two changes of codec that the node is told of: each is told to the whole mesh.
const CODEC_INTERVAL: Duration = Duration::from_secs(1);

/// One session inside a worker.
#[derive(Debug)]
pub struct Session {
    /// What was negotiated.
    pub plan: Arc<SessionPlan>,
    /// Our newest ICE user fragment.
    pub ufrag: String,
    /// ICE, DTLS and data channels.
    pub transport: Transport,
    /// There once the session is connected.
    pub keys: Option<Keys>,
    /// Where media goes.
    pub remote: Option<SocketAddr>,
    /// What flows.
    pub media: Media,
    /// The earliest wake-up that is scheduled.
    pub wake: Option<Instant>,
    /// Addresses that lead to this session.
    pub addresses: Vec<SocketAddr>,
    /// What flows from a publisher, sound and picture, as the node was told, and when.
    told: [Option<(Codec, Instant)>; 2],
}

/// Both directions of SRTP.
#[derive(Debug)]
pub struct Keys {
    /// For what leaves.
    pub sealer: Sealer,
    /// For what comes.
    pub opener: Opener,
}

/// What flows on a session.
#[derive(Debug)]
pub enum Media {
    /// From a publisher.
    Ingest(Box<Ingest>),
    /// To a listener.
    Egress(Vec<Egress>),
}

impl Session {
    /// A session whose peer's first check has come.
    pub fn new(plan: Arc<SessionPlan>, now: Instant) -> Session {
        let media = match &plan.flow {
            Flow::Ingest { plan, tracks, epochs } => {
                Media::Ingest(Box::new(Ingest::new(plan, |kind| tracks.of(kind), epochs.clone(), now)))
            }
            Flow::Egress { plan, tracks, .. } => Media::Egress(
                plan.tracks.iter().map(|track| Egress::new(track, tracks.of(track.kind))).collect(),
            ),
        };
        Session {
            ufrag: plan.transport.local.ufrag.clone(),
            transport: Transport::new(plan.transport.clone(), now),
            plan,
            keys: None,
            remote: None,
            media,
            wake: None,
            addresses: Vec::new(),
            told: [None; 2],
        }
    }

    /// A packet of this codec came; true if the node should know.
    pub fn handle_codec(&mut self, codec: Codec, now: Instant) -> bool {
        let told = &mut self.told[codec.kind() as usize];
        let news = told.is_none_or(|(known, at)| known != codec && at + CODEC_INTERVAL <= now);
        if news {
            *told = Some((codec, now));
        }
        news
    }

    /// DTLS is done.
    ///
    /// # Errors
    ///
    /// [`SrtpError::Key`]: the keys do not fit their profile.
    pub fn handle_keys(&mut self, keys: &SrtpKeys) -> Result<(), SrtpError> {
        self.keys = Some(Keys {
            sealer: Sealer::new(keys.profile, &keys.local_key, &keys.local_salt)?,
            opener: match self.media {
                Media::Ingest(_) => Opener::new(keys.profile, &keys.remote_key, &keys.remote_salt)?,
                Media::Egress(_) => Opener::for_listener(keys.profile, &keys.remote_key, &keys.remote_salt)?,
            },
        });
        Ok(())
    }

    /// Seals a compound packet for the peer.
    pub fn seal_rtcp(&mut self, compound: &Compound) -> Option<(SocketAddr, Vec<u8>)> {
        let keys = self.keys.as_mut()?;
        Some((self.remote?, keys.sealer.seal_rtcp(compound.bytes())))
    }

    /// When it wants to be woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let media = match (&self.media, &self.keys) {
            (_, None) => None,
            (Media::Ingest(ingest), _) => ingest.poll_timeout(),
            (Media::Egress(tracks), _) => tracks.iter().filter_map(Egress::report_at).min(),
        };
        [media, self.transport.poll_timeout()].into_iter().flatten().min()
    }
}
