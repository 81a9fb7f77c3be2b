//! What the node tells its media workers and what they tell it: sessions to open, tracks, events.

use std::{net::SocketAddr, sync::Arc};

use protocol::{
    Codec, SessionId,
    mesh::{SenderClock, Withheld},
};

use super::{
    advertised::{AdvertisedEncoding, AdvertisedSound},
    channel::{ChannelEvent, ChannelId},
    hearing::SoundWish,
    sessions::Claim,
    sight::{Sight, SoundSight},
    sounds::Heard,
    wish::Wish,
};
use crate::{
    ingest::{
        encoding::EncodingView,
        feedback::{Health, SoundView},
    },
    rtp::packet::Packet,
    sdp::{EgressPlan, IngestPlan},
    track::{
        epoch::Epochs,
        id::{MAX_ENCODINGS, MAX_RUNGS, StreamTracks, TrackId},
    },
    transport::{CloseReason, Credentials, TransportConfig},
};

/// A session that was negotiated and waits for its peer's first connectivity check. Every worker gets
/// it; the one that sees the check owns the session.
#[derive(Debug)]
pub struct SessionPlan {
    /// Its id.
    pub id: SessionId,
    /// ICE and DTLS.
    pub transport: TransportConfig,
    /// What flows.
    pub flow: Flow,
    /// Who owns it.
    pub claim: Claim,
}

impl SessionPlan {
    /// The tracks that it feeds or takes.
    pub fn tracks(&self) -> StreamTracks {
        let (Flow::Ingest { tracks, .. } | Flow::Egress { tracks, .. }) = &self.flow;
        *tracks
    }
}

/// What flows on a session.
#[derive(Debug)]
pub enum Flow {
    /// From a publisher.
    Ingest {
        /// As answered.
        plan: IngestPlan,
        /// The tracks it feeds.
        tracks: StreamTracks,
        /// Where each new start of a track gets its epoch.
        epochs: Epochs,
    },
    /// To a listener.
    Egress {
        /// As answered.
        plan: EgressPlan,
        /// The tracks it takes.
        tracks: StreamTracks,
        /// The CNAME that the answer announced.
        cname: String,
        /// Its sound comes in fewer and longer packets.
        merged: bool,
    },
}

/// What the node tells every worker. The owner acts, the others only forget.
#[derive(Debug, Clone)]
pub enum Command {
    /// A session was negotiated.
    Open(Arc<SessionPlan>),
    /// ICE restart (RFC 8445 section 9).
    Restart {
        /// Of this session.
        session: SessionId,
        /// Ours, new.
        local: Credentials,
        /// The peer's, new.
        remote: Credentials,
    },
    /// The session is over.
    Close {
        /// This one.
        session: SessionId,
    },
    /// A listener somewhere needs a keyframe.
    RequestKeyframe {
        /// Of this track.
        track: TrackId,
    },
    /// The encodings that a picture from elsewhere can be had in, by rising quality; none if it comes as a whole, or is
    /// published here. Which of them come is another matter.
    Advertised {
        /// The stream's.
        tracks: StreamTracks,
        /// Each of them.
        encodings: Vec<AdvertisedEncoding>,
    },
    /// Which rungs a sound can be had in.
    Rungs {
        /// The stream's.
        tracks: StreamTracks,
        /// Each of them, by rising quality.
        open: [bool; MAX_RUNGS],
        /// What else is known of a sound that comes from elsewhere.
        elsewhere: Option<AdvertisedSound>,
    },
    /// Somebody makes rungs of a sound that is published here, or nobody does any more.
    Feed {
        /// The stream's.
        tracks: StreamTracks,
        /// Which of the two.
        feeds: bool,
    },
    /// A listener asks for another sound than before.
    SoundWish {
        /// Its session.
        session: SessionId,
        /// What it asks for.
        wish: SoundWish,
    },
    /// A listener asks for another picture than before.
    Wish {
        /// Its session.
        session: SessionId,
        /// What it asks for.
        wish: Wish,
    },
    /// Somebody wants to know what a listener sees, or nobody does any more.
    Watch {
        /// Its session.
        session: SessionId,
        /// Which of the two.
        watched: bool,
    },
    /// Nobody here publishes, wants or hears the track any more.
    Forget {
        /// This one.
        track: TrackId,
    },
    /// The track comes from elsewhere from now on: its next packet starts anew.
    Reset {
        /// This one.
        track: TrackId,
    },
}

/// What a worker tells the node.
#[derive(Debug)]
pub enum Event {
    /// DTLS is done and the fingerprint matched.
    Connected {
        /// This session.
        session: SessionId,
    },
    /// A publisher's packets are of this codec: the first ones, and whenever it changes, at most once a second.
    Codec {
        /// This session.
        session: SessionId,
        /// What flows.
        codec: Codec,
    },
    /// The session is over; it need not be closed any more.
    Closed {
        /// This session.
        session: SessionId,
        /// Why.
        reason: CloseReason,
        /// Where its media went or came from last.
        remote: Option<SocketAddr>,
    },
    /// Something about a publisher that whoever runs it should know is another.
    Health {
        /// Its session.
        session: SessionId,
        /// How it is now.
        health: Health,
    },
    /// How the encodings of a publisher's picture are, when that is another: at most once a second.
    Encodings {
        /// Its session.
        session: SessionId,
        /// In the order of the answer; one without a name if there is only one.
        encodings: Vec<EncodingView>,
    },
    /// How the sound of a publisher is, when what it takes is another by a quarter, or the rest is another: at most once a
    /// second.
    Sound {
        /// Its session.
        session: SessionId,
        /// How it is now.
        sound: SoundView,
    },
    /// What listeners at a worker want of a picture that can be had in encodings from elsewhere.
    Demand {
        /// The worker.
        worker: u8,
        /// The picture as a whole.
        track: TrackId,
        /// How many want each encoding, by its place, and none above it.
        wanted: [u32; MAX_ENCODINGS],
    },
    /// What listeners at a worker want of a sound.
    Rungs {
        /// The worker.
        worker: u8,
        /// What its publisher sends.
        track: TrackId,
        /// How many want each rung.
        wanted: [u32; MAX_RUNGS],
        /// How many get each rung until another begins.
        left: [u32; MAX_RUNGS],
    },
    /// How the listeners of a sound at a worker fare is another.
    Heard {
        /// The worker.
        worker: u8,
        /// What its publisher sends.
        track: TrackId,
        /// How they fare.
        heard: Heard,
    },
    /// What a listener hears is another: of one that is watched, at most once a second.
    SoundSight {
        /// Its session.
        session: SessionId,
        /// What it hears.
        sight: SoundSight,
    },
    /// What a listener sees is another: of one that is watched or has just wished, at most once a second.
    Sight {
        /// Its session.
        session: SessionId,
        /// What it sees.
        sight: Box<Sight>,
    },
    /// A listener needs a keyframe of a track that does not come in at this worker.
    KeyframeWanted {
        /// Of this track.
        track: TrackId,
    },
    /// A datagram for a session that another worker owns.
    Foreign {
        /// The owner.
        worker: u8,
        /// Where it came from.
        from: SocketAddr,
        /// The datagram.
        data: Vec<u8>,
    },
    /// Something happens to a data channel.
    Channel(ChannelId, ChannelEvent),
    /// A session that may have had data channels is over, and they are too.
    ChannelsOver {
        /// This session.
        session: SessionId,
    },
}

/// Whom something is for that a publisher brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The other workers, and the links that want the track.
    Everybody,
    /// Who makes rungs of a sound.
    Ladder,
    /// Only the links: listeners of this relay choose among the encodings.
    Links,
}

/// What a publisher brought, or what is known of it: for the other workers and for the links.
#[derive(Debug, Clone)]
pub enum Relayed {
    /// A media packet.
    Packet(Packet),
    /// The publisher's clock.
    Clock {
        /// Of this epoch.
        epoch: u8,
        /// Wall clock and RTP clock.
        clock: SenderClock,
    },
    /// Packets that do not come, because a link on the way is too thin.
    Withheld {
        /// Of this epoch.
        epoch: u8,
        /// Their numbers.
        withheld: Withheld,
    },
}
