//! The answer to a publisher (WHIP, RFC 9725): at most one audio and one video track, every codec we
//! can forward, music settings for Opus, and of a picture all encodings that are offered (simulcast).

pub use protocol::mesh::MAX_ENCODINGS;
use protocol::{Codec, Kind};

use super::answer::{Answer, Local, Track};
use super::codec_choice::{Feedback, NegotiatedCodec, choose};
use super::direction::Direction;
use super::error::SdpError;
use super::extension::ExtensionIds;
use super::media_line::{MediaLine, Medium};
use super::offer::Offer;
use super::setup::Setup;
use super::source::Rid;

/// What a publisher is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestPolicy {
    /// The Opus bitrate the publisher may go up to, bit/s.
    pub opus_max_average_bitrate: u32,
    /// Whether data channels are accepted.
    pub data_channel: bool,
    /// Whether several encodings of a picture are accepted; else the best of them.
    pub simulcast: bool,
}

impl Default for IngestPolicy {
    fn default() -> Self {
        IngestPolicy { opus_max_average_bitrate: 256_000, data_channel: true, simulcast: true }
    }
}

/// What was agreed with a publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestPlan {
    /// Our DTLS role: `Active` is the client, `Passive` the server.
    pub setup: Setup,
    /// The tracks that will come, all on one transport: at most one of each kind.
    pub tracks: Vec<IngestTrack>,
    /// Whether data channels were accepted.
    pub data_channel: bool,
}

/// A track that will come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestTrack {
    /// Audio or video.
    pub kind: Kind,
    /// The mid of its m-line; empty if a lone m-line has none.
    pub mid: String,
    /// The codecs it may come in, in the publisher's order; never empty.
    pub codecs: Vec<NegotiatedCodec>,
    /// The SSRCs announced, each with its retransmission SSRC. May be empty: then the track is
    /// known by mid, rid or payload type.
    pub ssrcs: Vec<(u32, Option<u32>)>,
    /// The encodings that were accepted, by their names, in the order of the answer: at most [`MAX_ENCODINGS`].
    /// With one of them the track is whole, as it is without any.
    pub rids: Vec<String>,
    /// The header extensions in use.
    pub extensions: ExtensionIds,
    /// The feedback we may send.
    pub feedback: Feedback,
    /// H264 parameter sets that the offer gives (`sprop-parameter-sets`, RFC 6184 section 8.1), raw.
    pub parameter_sets: Vec<Vec<u8>>,
}

/// Answers a publisher.
///
/// # Errors
///
/// Every m-line is served or the whole offer is refused: a publisher that asked for video and got
/// only audio would not notice.
pub fn answer_ingest(
    offer: &Offer,
    local: &Local<'_>,
    policy: &IngestPolicy,
) -> Result<(String, IngestPlan), SdpError> {
    let mut answer = Answer::new(offer, local);
    let mut plan = IngestPlan { setup: offer.setup().answer(), tracks: Vec::new(), data_channel: false };
    for line in offer.lines() {
        match line.medium {
            _ if !line.live => answer.reject(line),
            Medium::Rtp(kind) => plan.tracks.push(accept(&mut answer, &plan.tracks, line, kind, policy)?),
            Medium::DataChannel if policy.data_channel && !plan.data_channel => {
                plan.data_channel = true;
                answer.accept_data_channel(line);
            }
            Medium::DataChannel => answer.reject(line),
            Medium::Other => return Err(SdpError::Media { media: line.media.clone() }),
        }
    }
    if plan.tracks.is_empty() {
        return Err(SdpError::NoTrack);
    }
    Ok((answer.print(), plan))
}

fn accept(
    answer: &mut Answer<'_>,
    tracks: &[IngestTrack],
    line: &MediaLine,
    kind: Kind,
    policy: &IngestPolicy,
) -> Result<IngestTrack, SdpError> {
    if !line.direction.allows(Direction::SendOnly) {
        return Err(SdpError::NotSending { kind, found: line.direction.name() });
    }
    if tracks.iter().any(|track| track.kind == kind) {
        return Err(SdpError::ManyTracks { kind });
    }
    let codecs = choose(line, kind);
    if codecs.is_empty() {
        return Err(SdpError::NoCodec { kind });
    }
    let extensions = line.extensions(Direction::SendOnly);
    // Without the extension no packet says of which encoding it is.
    let encodings = if extensions.rid.is_some() { encodings(line, kind, policy)? } else { Vec::new() };
    let named = !encodings.is_empty();
    // Without encodings there is nothing for a rid to name. What changes how a picture is shown would have to reach
    // every listener, and Firefox offers none of it: a browser that is not given video-orientation turns the picture
    // before it encodes it.
    let mut extensions = ExtensionIds {
        rid: extensions.rid.filter(|_| named),
        repaired_rid: extensions.repaired_rid.filter(|_| named),
        video_orientation: None,
        playout_delay: None,
        // With it Chromium leaves the numbers of pictures out of VP8, which receivers without it go by. A browser sends
        // the first codec.
        dependency: extensions.dependency.filter(|_| codecs[0].negotiated.codec == Codec::Av1),
        ..extensions
    };
    let mut feedback = Feedback::offered(kind, codecs.iter().map(|codec| codec.payload));
    feedback.transport_cc &= extensions.transport_cc.is_some();
    if !feedback.transport_cc {
        extensions.transport_cc = None;
    }
    let opus_fmtp = opus_fmtp(policy);
    let track = Track {
        direction: "recvonly",
        codecs: &codecs,
        extensions: &extensions,
        feedback,
        opus_fmtp: &opus_fmtp,
    };
    let rids: Vec<String> = encodings.into_iter().map(|rid| rid.id.clone()).collect();
    let mut lines: Vec<(&str, String)> = rids.iter().map(|rid| ("rid", format!("{rid} recv"))).collect();
    if named {
        lines.push(("simulcast", format!("recv {}", rids.join(";"))));
    }
    answer.accept(line, &track, &lines);
    let parameter_sets = codecs.iter().filter_map(|codec| codec.payload.parameter("sprop-parameter-sets"));
    let parameter_sets = parameter_sets.flat_map(|sets| sets.split(',')).take(PARAMETER_SETS_MAX);
    let parameter_sets = parameter_sets.filter_map(base64).collect();
    Ok(IngestTrack {
        kind,
        mid: line.mid.clone(),
        codecs: codecs.into_iter().map(|codec| codec.negotiated).collect(),
        ssrcs: line.sources.media(),
        rids,
        extensions,
        feedback,
        parameter_sets,
    })
}

/// The encodings that are taken of those that are offered. A browser that is answered without simulcast sends the
/// first of them, which may be the smallest; so where one is taken it is named.
fn encodings<'o>(line: &'o MediaLine, kind: Kind, policy: &IngestPolicy) -> Result<Vec<&'o Rid>, SdpError> {
    let offered = &line.encodings;
    if kind == Kind::Audio || !policy.simulcast {
        return Ok(Rid::best(offered.iter()).into_iter().collect());
    }
    if offered.len() > MAX_ENCODINGS {
        return Err(SdpError::ManyEncodings { found: offered.len(), most: MAX_ENCODINGS });
    }
    let again =
        |(at, rid): (usize, &'o Rid)| offered[..at].iter().any(|known| known.id == rid.id).then_some(rid);
    let twice = offered.iter().enumerate().find_map(again).map(|rid| &rid.id);
    match twice.or(line.sources.twice.as_ref().filter(|_| !offered.is_empty())) {
        Some(rid) => Err(SdpError::EncodingTwice { rid: rid.clone() }),
        None => Ok(offered.iter().collect()),
    }
}

/// More than any encoder has.
const PARAMETER_SETS_MAX: usize = 16;

/// Reads base64 (RFC 4648 section 4), with or without padding; `None` if it is none.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().trim_end_matches('=').bytes().map(|digit| match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let octets = digits.chunks(4).flat_map(|group| {
        let word = group.iter().fold(0_u32, |word, digit| word << 6 | u32::from(*digit));
        let word = word << (6 * (4 - group.len()));
        word.to_be_bytes().into_iter().skip(1).take(group.len() * 6 / 8)
    });
    Some(octets.collect())
}

/// A browser sends music, in stereo and at this bitrate, only if all of this is said. In-band FEC
/// does nothing for music and takes bits from it; DTX would cut the quiet ends of it.
fn opus_fmtp(policy: &IngestPolicy) -> String {
    format!(
        "minptime=10;stereo=1;sprop-stereo=1;maxaveragebitrate={};useinbandfec=0;usedtx=0;cbr=0",
        policy.opus_max_average_bitrate
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding_and_junk_is_not() {
        for (text, octets) in
            [("", ""), ("Zg==", "f"), ("Zg", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg", "foob")]
        {
            assert_eq!(base64(text), Some(octets.as_bytes().to_vec()));
        }
        assert_eq!(
            base64("Z0LAH4xoFAW7/A=="),
            Some(vec![0x67, 0x42, 0xc0, 0x1f, 0x8c, 0x68, 0x14, 0x05, 0xbb, 0xfc])
        );
        assert_eq!(base64("a b"), None);
    }
}
