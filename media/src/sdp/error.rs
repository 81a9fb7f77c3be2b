//! Why an offer or a fragment was refused, in words for the person who sent it, and the HTTP status
//! that goes with it.

use protocol::{Codec, Kind};
use thiserror::Error;

/// Why an SDP cannot be served. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SdpError {
    /// Longer than any real offer.
    #[error("the session description has {bytes} bytes: at most {most} are allowed")]
    TooLarge {
        /// Bytes received.
        bytes: usize,
        /// Bytes allowed.
        most: usize,
    },
    /// More of something than any real offer has.
    #[error("the session description has more than {most} {what}: send fewer")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How many are allowed.
        most: usize,
    },
    /// Not SDP (RFC 8866).
    #[error("the body is not a session description (RFC 8866): {reason}")]
    Syntax {
        /// What the parser stumbled over, shortened.
        reason: String,
    },
    /// An attribute that every WebRTC offer carries is absent.
    #[error("the offer has no a={attribute}: send the offer of a WebRTC peer connection unchanged")]
    Missing {
        /// The name of the attribute.
        attribute: &'static str,
    },
    /// An attribute is there but cannot be read.
    #[error("a={attribute} is malformed: {reason}")]
    Malformed {
        /// The name of the attribute.
        attribute: &'static str,
        /// What it should have been.
        reason: &'static str,
    },
    /// No fingerprint with a hash function that is still safe.
    #[error("the certificate fingerprint uses {hash}: offer sha-256, sha-384 or sha-512")]
    Hash {
        /// The hash function offered.
        hash: String,
    },
    /// Several m-lines without one BUNDLE group over all of them.
    #[error("the m-lines are not in one BUNDLE group: offer with the bundle policy max-bundle")]
    NoBundle,
    /// RTP and RTCP on two ports.
    #[error("an m-line has no a=rtcp-mux: offer with the rtcp-mux policy require")]
    NoRtcpMux,
    /// An m-line without DTLS below its RTP.
    #[error("the m-line protocol {protocol} is not supported: use UDP/TLS/RTP/SAVPF")]
    Protocol {
        /// The protocol of the m-line.
        protocol: String,
    },
    /// The client wants to wait for connectivity checks, as we do.
    #[error("the offer says a=ice-lite and so does this relay: use a full ICE agent")]
    BothIceLite,
    /// `a=setup:holdconn`.
    #[error("a=setup:{setup} cannot be served: offer actpass, active or passive")]
    Setup {
        /// The role offered.
        setup: String,
    },
    /// WHIP: more than one track of a kind.
    #[error("the offer has more than one {} track: publish one per stream", kind_word(*.kind))]
    ManyTracks {
        /// The kind that is there twice.
        kind: Kind,
    },
    /// WHIP: more encodings than are taken.
    #[error("a=simulcast has {found} encodings: send at most {most}")]
    ManyEncodings {
        /// How many are offered.
        found: usize,
        /// How many are allowed.
        most: usize,
    },
    /// WHIP: two encodings that cannot be told apart.
    #[error("the encoding {rid} is there twice on one m-line: give each a name (rid) of its own")]
    EncodingTwice {
        /// The name that both have.
        rid: String,
    },
    /// WHIP: the client does not want to send.
    #[error("the {} m-line is {found}: a publisher offers sendonly or sendrecv", kind_word(*.kind))]
    NotSending {
        /// The kind of the m-line.
        kind: Kind,
        /// The direction found.
        found: &'static str,
    },
    /// WHEP: the client does not want to receive.
    #[error("the {} m-line is {found}: a player offers recvonly or sendrecv", kind_word(*.kind))]
    NotReceiving {
        /// The kind of the m-line.
        kind: Kind,
        /// The direction found.
        found: &'static str,
    },
    /// No codec in common for a kind.
    #[error("no {} codec in common: offer {}", kind_word(*.kind), codec_words(*.kind))]
    NoCodec {
        /// The kind of the m-line.
        kind: Kind,
    },
    /// WHEP: the stream carries nothing that the client offers to play.
    #[error(
        "this stream is {} now and the offer has none of it: offer that, or ask the publisher for a codec that you play",
        names(.carried)
    )]
    NotPlayable {
        /// What the stream carries.
        carried: Vec<Codec>,
    },
    /// WHIP: an m-line that is neither audio, video nor a data channel.
    #[error("m={media} cannot be published: offer audio, video and a data channel at most")]
    Media {
        /// The media of the m-line.
        media: String,
    },
    /// Nothing is left to send or receive.
    #[error("the offer has no audio or video m-line that can be served: add a track")]
    NoTrack,
    /// WHEP of a session of data channels alone: there is none.
    #[error(
        "the offer has no data channel: open one before you make the offer, or listen to a stream by its name"
    )]
    NoChannel,
}

impl SdpError {
    /// The HTTP status: 400 when the text is malformed, 422 when it is well formed and cannot be
    /// served, 406 when the stream would have to be another.
    pub fn status(&self) -> u16 {
        match self {
            SdpError::TooLarge { .. }
            | SdpError::TooMany { .. }
            | SdpError::Syntax { .. }
            | SdpError::Missing { .. }
            | SdpError::Malformed { .. } => 400,
            SdpError::NotPlayable { .. } => 406,
            SdpError::Hash { .. }
            | SdpError::NoBundle
            | SdpError::NoRtcpMux
            | SdpError::Protocol { .. }
            | SdpError::BothIceLite
            | SdpError::Setup { .. }
            | SdpError::ManyTracks { .. }
            | SdpError::ManyEncodings { .. }
            | SdpError::EncodingTwice { .. }
            | SdpError::NotSending { .. }
            | SdpError::NotReceiving { .. }
            | SdpError::NoCodec { .. }
            | SdpError::Media { .. }
            | SdpError::NoTrack
            | SdpError::NoChannel => 422,
        }
    }
}

/// A word from the other side, cut and cleaned so that it can be repeated to them.
pub(super) fn quote(text: &str) -> String {
    const MOST: usize = 80;
    let mut quoted: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        quoted.push('…');
    }
    quoted
}

fn names(codecs: &[Codec]) -> String {
    codecs.iter().map(|codec| codec.encoding_name()).collect::<Vec<_>>().join(" and ")
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

fn codec_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "opus",
        Kind::Video => "VP8, VP9 profile 0, H264 or AV1",
    }
}

/// Refuses one more than `most` of something.
pub(super) fn bounded(have: usize, most: usize, what: &'static str) -> Result<(), SdpError> {
    if have < most { Ok(()) } else { Err(SdpError::TooMany { what, most }) }
}
