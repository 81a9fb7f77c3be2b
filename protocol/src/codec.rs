//! Codecs the relay forwards, and what a track says of itself.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

/// A codec that is forwarded untouched. The order is the order of preference for video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AV1 RTP payload specification.
    Av1,
}

impl Codec {
    /// Every codec, for tables.
    pub const ALL: [Codec; 5] = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1];

    /// Audio or video.
    pub fn kind(self) -> Kind {
        match self {
            Codec::Opus => Kind::Audio,
            _ => Kind::Video,
        }
    }

    /// RTP clock, Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// The encoding name of `a=rtpmap` (compared without regard to case: RFC 8866 section 6.6).
    pub fn encoding_name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::Av1 => "AV1",
        }
    }

    /// The codec with this encoding name, in any case.
    pub fn from_encoding_name(name: &str) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.encoding_name().eq_ignore_ascii_case(name))
    }

    /// The RTP payload type that stands for the codec inside a relay and between relays
    /// (see [`crate::mesh`]); each browser's own payload type is put on at egress.
    pub fn canonical_payload_type(self) -> u8 {
        match self {
            Codec::Opus => 111,
            Codec::Vp8 => 96,
            Codec::Vp9 => 98,
            Codec::H264 => 102,
            Codec::Av1 => 45,
        }
    }

    /// The inverse of [`Codec::canonical_payload_type`].
    pub fn from_canonical_payload_type(payload_type: u8) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.canonical_payload_type() == payload_type)
    }
}

/// What a track of a stream is, as advertised through the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrackDescription {
    /// Audio or video.
    pub kind: Kind,
    /// Its codec.
    pub codec: Codec,
    /// How many qualities of it are published: 1 without simulcast.
    pub layers: u8,
}
