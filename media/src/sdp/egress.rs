//! The answer to a listener (WHEP): every codec both ends know, the one the stream carries now first,
//! so that a publisher may come back with another. Our SSRCs are announced.

use std::collections::BTreeSet;

use protocol::{Codec, Kind};

use super::answer::{Answer, Local, Track};
use super::codec_choice::{Choice, Feedback, NegotiatedCodec, choose};
use super::direction::Direction;
use super::error::SdpError;
use super::extension::ExtensionIds;
use super::media_line::{MediaLine, Medium};
use super::offer::Offer;
use super::setup::Setup;

/// What a listener is given.
#[derive(Debug, Clone)]
pub struct EgressPolicy<'a> {
    /// The first SSRC to use; the next ones count up from it. Random, from the caller.
    pub first_ssrc: u32,
    /// The codecs the stream carries now: put first. One of them has to be in the offer; if it is not known
    /// what the stream carries, any codec will do.
    pub preferred: &'a [Codec],
    /// The name of the stream, for msid and cname.
    pub stream: &'a str,
    /// Whether `nack` is answered for Opus although no browser offers it: Chromium then asks again
    /// for lost audio packets.
    pub audio_nack: bool,
    /// Whether transport-wide congestion control is accepted. A browser that has it sends no REMB.
    pub transport_cc: bool,
    /// Whether REMB is accepted.
    pub remb: bool,
    /// Whether data channels are accepted.
    pub data_channel: bool,
    /// Whether there is nothing but data channels.
    pub bare: bool,
}

impl<'a> EgressPolicy<'a> {
    /// The policy of a session without a stream: its m-lines of media get port 0.
    pub fn bare() -> Self {
        EgressPolicy { bare: true, ..EgressPolicy::new("", &[], 1) }
    }

    /// The usual policy for a stream.
    pub fn new(stream: &'a str, preferred: &'a [Codec], first_ssrc: u32) -> Self {
        EgressPolicy {
            first_ssrc,
            preferred,
            stream,
            audio_nack: true,
            transport_cc: true,
            remb: true,
            data_channel: true,
            bare: false,
        }
    }
}

/// What was agreed with a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressPlan {
    /// Our DTLS role: `Active` is the client, `Passive` the server.
    pub setup: Setup,
    /// The tracks we may send, all on one transport: at most one of each kind.
    pub tracks: Vec<EgressTrack>,
    /// What the listener asked for without any codec that we know: those m-lines are answered with port 0.
    pub unserved: Vec<Kind>,
    /// Whether data channels were accepted.
    pub data_channel: bool,
}

impl EgressPlan {
    /// Whether one of these codecs may be sent.
    fn plays(&self, carried: &[Codec]) -> bool {
        let mut codecs = self.tracks.iter().flat_map(|track| &track.codecs);
        codecs.any(|codec| carried.contains(&codec.codec))
    }
}

/// A track that we may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressTrack {
    /// Audio or video.
    pub kind: Kind,
    /// The mid of its m-line; empty if a lone m-line has none.
    pub mid: String,
    /// All codecs that both ends know, the preferred first; never empty.
    pub codecs: Vec<NegotiatedCodec>,
    /// Our SSRC.
    pub ssrc: u32,
    /// Our SSRC for retransmissions; only announced if a codec has RTX.
    pub rtx_ssrc: u32,
    /// The header extensions we may use.
    pub extensions: ExtensionIds,
    /// The feedback we shall get.
    pub feedback: Feedback,
}

/// Answers a listener.
///
/// # Errors
///
/// If nothing of what the stream carries can be played, or an m-line wants to send, or there is no data channel where there
/// is nothing else. M-lines that are unknown, or a second one of a kind, are rejected one by one.
pub fn answer_egress(
    offer: &Offer,
    local: &Local<'_>,
    policy: &EgressPolicy<'_>,
) -> Result<(String, EgressPlan), SdpError> {
    let mut answer = Answer::new(offer, local);
    let mut plan = EgressPlan {
        setup: offer.setup().answer(),
        tracks: Vec::new(),
        unserved: Vec::new(),
        data_channel: false,
    };
    let mut ssrcs = Ssrcs::new(offer, policy.first_ssrc);
    let mut missing = SdpError::NoTrack;
    for line in offer.lines() {
        match line.medium {
            _ if !line.live => answer.reject(line),
            Medium::Rtp(_) if policy.bare => answer.reject(line),
            Medium::Rtp(kind) if plan.tracks.iter().all(|track| track.kind != kind) => {
                if !line.direction.allows(Direction::RecvOnly) {
                    return Err(SdpError::NotReceiving { kind, found: line.direction.name() });
                }
                let codecs = preferred_first(choose(line, kind), policy.preferred);
                if codecs.is_empty() {
                    missing = SdpError::NoCodec { kind };
                    plan.unserved.push(kind);
                    answer.reject(line);
                } else {
                    plan.tracks.push(accept(&mut answer, line, kind, &codecs, &mut ssrcs, policy));
                }
            }
            Medium::DataChannel if policy.data_channel && !plan.data_channel => {
                plan.data_channel = true;
                answer.accept_data_channel(line);
            }
            Medium::Rtp(_) | Medium::DataChannel | Medium::Other => answer.reject(line),
        }
    }
    if policy.bare {
        return if plan.data_channel { Ok((answer.print(), plan)) } else { Err(SdpError::NoChannel) };
    }
    // A listener that connects and gets nothing waits for ever: better to be told at once.
    let asks = !plan.tracks.is_empty() || !plan.unserved.is_empty();
    if asks && !policy.preferred.is_empty() && !plan.plays(policy.preferred) {
        return Err(SdpError::NotPlayable { carried: policy.preferred.to_vec() });
    }
    if plan.tracks.is_empty() {
        return Err(missing);
    }
    Ok((answer.print(), plan))
}

fn accept(
    answer: &mut Answer<'_>,
    line: &MediaLine,
    kind: Kind,
    codecs: &[Choice<'_>],
    ssrcs: &mut Ssrcs,
    policy: &EgressPolicy<'_>,
) -> EgressTrack {
    let mut extensions = ExtensionIds {
        rid: None,
        repaired_rid: None,
        dependency: None,
        ..line.extensions(Direction::RecvOnly)
    };
    let mut feedback = Feedback::offered(kind, codecs.iter().map(|codec| codec.payload));
    feedback.nack |= kind == Kind::Audio && policy.audio_nack;
    feedback.remb &= policy.remb;
    feedback.transport_cc &= policy.transport_cc && extensions.transport_cc.is_some();
    if !feedback.transport_cc {
        extensions.transport_cc = None;
    }
    let (ssrc, rtx_ssrc) = (ssrcs.allocate(), ssrcs.allocate());
    let repaired = codecs.iter().any(|codec| codec.negotiated.rtx.is_some());
    let source = source_lines(policy.stream, kind, ssrc, repaired.then_some(rtx_ssrc));
    let track =
        Track { direction: "sendonly", codecs, extensions: &extensions, feedback, opus_fmtp: OPUS_FMTP };
    answer.accept(line, &track, &source);
    EgressTrack {
        kind,
        mid: line.mid.clone(),
        codecs: codecs.iter().map(|codec| codec.negotiated.clone()).collect(),
        ssrc,
        rtx_ssrc,
        extensions,
        feedback,
    }
}

/// Chromium plays stereo only if both descriptions say so.
const OPUS_FMTP: &str = "minptime=10;stereo=1;sprop-stereo=1";

/// A stable sort: within the preferred in the policy's order, then in the order of the offer.
fn preferred_first<'o>(mut codecs: Vec<Choice<'o>>, preferred: &[Codec]) -> Vec<Choice<'o>> {
    codecs.sort_by_key(|choice| {
        preferred.iter().position(|codec| *codec == choice.negotiated.codec).unwrap_or(preferred.len())
    });
    codecs
}

/// One cname and one msid stream for both kinds, so that players keep them in step
/// (RFC 8834 section 4.9, RFC 8830).
fn source_lines(stream: &str, kind: Kind, ssrc: u32, rtx: Option<u32>) -> Vec<(&'static str, String)> {
    let stream = msid_token(stream);
    let track = match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    };
    let mut lines = vec![("msid", format!("{stream} {track}"))];
    if let Some(rtx) = rtx {
        lines.push(("ssrc-group", format!("FID {ssrc} {rtx}")));
    }
    for ssrc in std::iter::once(ssrc).chain(rtx) {
        lines.push(("ssrc", format!("{ssrc} cname:{stream}")));
        lines.push(("ssrc", format!("{ssrc} msid:{stream} {track}")));
    }
    lines
}

/// The name of a stream as an msid identifier: 1 to 64 token characters, of which `/` is none
/// (RFC 8830 section 2).
pub fn msid_token(stream: &str) -> String {
    let token: String = stream
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' => c,
            '/' => '.',
            _ => '-',
        })
        .collect();
    if token.is_empty() { "stream".to_owned() } else { token }
}

/// SSRCs that are free on a session: not 0 and not announced by the peer.
struct Ssrcs {
    next: u32,
    taken: BTreeSet<u32>,
}

impl Ssrcs {
    fn new(offer: &Offer, first: u32) -> Ssrcs {
        let taken = offer.lines().iter().flat_map(|line| line.sources.taken()).chain([0]).collect();
        Ssrcs { next: first, taken }
    }

    fn allocate(&mut self) -> u32 {
        while self.taken.contains(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let ssrc = self.next;
        self.next = self.next.wrapping_add(1);
        ssrc
    }
}
