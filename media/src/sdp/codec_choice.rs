//! Which payload types of an m-line we take, one per codec, each with its RTX, and Opus with its RED. Other FEC,
//! comfort noise and telephone events are never taken.

use protocol::{Codec, Kind};

use super::media_line::{MediaLine, Payload};

/// One codec that both ends know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedCodec {
    /// The codec.
    pub codec: Codec,
    /// The payload type it has on this session.
    pub payload_type: u8,
    /// The payload type of its retransmissions (RFC 4588).
    pub rtx: Option<u8>,
    /// The payload type of packets that carry those before them as well (RFC 2198), of Opus.
    pub red: Option<u8>,
    /// H264: profile, constraints and level (RFC 6184 section 8.1), 42e01f for example.
    pub profile_level_id: Option<[u8; 3]>,
}

/// The feedback messages in use on one m-line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Generic NACK.
    pub nack: bool,
    /// Picture loss indication.
    pub pli: bool,
    /// Full intra request.
    pub fir: bool,
    /// Transport-wide congestion control, feedback and header extension both.
    pub transport_cc: bool,
    /// Receiver-estimated maximum bitrate.
    pub remb: bool,
}

impl Feedback {
    /// What the payloads of an m-line offer. A lost picture is no matter of audio, though some
    /// clients offer to tell of it.
    pub(super) fn offered<'p>(kind: Kind, payloads: impl Iterator<Item = &'p Payload>) -> Feedback {
        let video = kind == Kind::Video;
        let mut feedback = Feedback::default();
        for value in payloads.flat_map(|payload| &payload.feedback) {
            match value.as_str() {
                "nack" => feedback.nack = true,
                "nack pli" => feedback.pli = video,
                "ccm fir" => feedback.fir = video,
                "transport-cc" => feedback.transport_cc = true,
                "goog-remb" => feedback.remb = true,
                _ => {}
            }
        }
        feedback
    }

    /// The values of the `a=rtcp-fb` lines that accept these.
    pub(super) fn lines(self) -> impl Iterator<Item = &'static str> {
        [
            (self.remb, "goog-remb"),
            (self.transport_cc, "transport-cc"),
            (self.fir, "ccm fir"),
            (self.nack, "nack"),
            (self.pli, "nack pli"),
        ]
        .into_iter()
        .filter_map(|(used, value)| used.then_some(value))
    }
}

/// A codec taken, with the offer's lines for it.
#[derive(Debug, Clone)]
pub(super) struct Choice<'o> {
    pub(super) payload: &'o Payload,
    pub(super) negotiated: NegotiatedCodec,
}

/// The codecs of an m-line that we know, in the order of the offer, each once.
pub(super) fn choose(line: &MediaLine, kind: Kind) -> Vec<Choice<'_>> {
    let mut codecs: Vec<(Codec, &Payload, u8)> = Vec::new();
    for payload in &line.payloads {
        let Some((codec, rank)) = rank(payload, kind) else { continue };
        match codecs.iter_mut().find(|(known, ..)| *known == codec) {
            Some(known) if rank > known.2 => *known = (codec, payload, rank),
            Some(_) => {}
            None => codecs.push((codec, payload, rank)),
        }
    }
    codecs
        .into_iter()
        .map(|(codec, payload, _)| {
            let payload_type = payload.payload_type;
            let profile_level_id = if codec == Codec::H264 { profile_level_id(payload) } else { None };
            let rtx = rtx(line, kind, payload_type);
            let red = if codec == Codec::Opus { red(line, payload_type) } else { None };
            let negotiated = NegotiatedCodec { codec, payload_type, rtx, red, profile_level_id };
            Choice { payload, negotiated }
        })
        .collect()
}

/// The codec of a payload and how well this form of it travels: among several forms of one codec
/// the highest rank is taken.
fn rank(payload: &Payload, kind: Kind) -> Option<(Codec, u8)> {
    let codec = Codec::from_encoding_name(&payload.name).filter(|codec| codec.kind() == kind)?;
    let mut clock = payload.clock.split('/');
    if clock.next()?.parse::<u32>().ok()? != codec.clock_rate() {
        return None;
    }
    let channels = clock.next();
    let profile_zero = |name| payload.parameter(name).is_none_or(|profile| profile == "0");
    match codec {
        // RFC 7587 section 7: always two channels in the rtpmap, whatever is sent. Cameras and hand-written
        // GStreamer caps leave them out or say one, and mean the same.
        Codec::Opus => match channels.map(str::parse::<u8>) {
            Some(Ok(2)) => Some((codec, 1)),
            None | Some(Ok(1)) => Some((codec, 0)),
            Some(_) => None,
        },
        Codec::Vp8 => Some((codec, 0)),
        Codec::Vp9 => profile_zero("profile-id").then_some((codec, 0)),
        Codec::Av1 => profile_zero("profile").then_some((codec, 0)),
        Codec::H264 => Some((codec, h264_rank(payload))),
    }
}

/// Constrained baseline is what every browser plays, Safari and phones included; packetization
/// mode 0 cannot fragment a frame.
fn h264_rank(payload: &Payload) -> u8 {
    let fragments = payload.parameter("packetization-mode") == Some("1");
    // RFC 6184 table 5: absent means baseline, level 1
    let profile = match profile_level_id(payload).unwrap_or([0x42, 0, 0x0a]) {
        // constraint_set1 makes baseline constrained
        [0x42, constraints, _] if constraints & 0x40 != 0 => 3,
        [0x42, ..] => 2,
        [0x4d, ..] => 1,
        _ => 0,
    };
    u8::from(fragments) * 4 + profile
}

fn profile_level_id(payload: &Payload) -> Option<[u8; 3]> {
    let text = payload.parameter("profile-level-id")?;
    if text.len() != 6 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let [_, profile, constraints, level] = u32::from_str_radix(text, 16).ok()?.to_be_bytes();
    Some([profile, constraints, level])
}

/// The retransmission payload type of a video payload type.
fn rtx(line: &MediaLine, kind: Kind, payload_type: u8) -> Option<u8> {
    if kind == Kind::Audio {
        return None;
    }
    let repairs = |payload: &&Payload| {
        payload.name.eq_ignore_ascii_case("rtx")
            && payload.parameter("apt").and_then(|apt| apt.parse().ok()) == Some(payload_type)
    };
    line.payloads.iter().find(repairs).map(|payload| payload.payload_type)
}

/// The payload type of RED that wraps nothing but this payload type of Opus (RFC 2198 section 5).
fn red(line: &MediaLine, payload_type: u8) -> Option<u8> {
    let wraps = |payload: &&Payload| {
        let mut wrapped = payload.fmtp.trim().split('/');
        payload.name.eq_ignore_ascii_case("red")
            && payload.clock == "48000/2"
            && wrapped.clone().nth(1).is_some()
            && wrapped.all(|wrapped| wrapped.trim().parse() == Ok(payload_type))
    };
    line.payloads.iter().find(wraps).map(|payload| payload.payload_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(payload_type: u8, rtpmap: &str, fmtp: &str) -> Payload {
        let (name, clock) = rtpmap.split_once('/').unwrap();
        Payload {
            payload_type,
            name: name.to_owned(),
            clock: clock.to_owned(),
            fmtp: fmtp.to_owned(),
            feedback: Vec::new(),
        }
    }

    #[test]
    fn constrained_baseline_in_mode_1_beats_every_other_h264() {
        let rank = |fmtp| h264_rank(&payload(100, "H264/90000", fmtp));
        let best = rank("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
        assert_eq!(best, rank("packetization-mode=1; profile-level-id=42C01F"));
        for worse in [
            "packetization-mode=1;profile-level-id=42001f",
            "packetization-mode=1;profile-level-id=640c1f",
            "packetization-mode=0;profile-level-id=42e01f",
            "profile-level-id=42e01f",
            "packetization-mode=1;profile-level-id=xyz",
            "",
        ] {
            assert!(rank(worse) < best, "{worse}");
        }
        assert!(rank("packetization-mode=1;profile-level-id=640c1f") > rank("profile-level-id=42e01f"));
    }

    #[test]
    fn other_profiles_and_clocks_are_not_taken() {
        let video = |rtpmap, fmtp| rank(&payload(98, rtpmap, fmtp), Kind::Video).map(|(codec, _)| codec);
        assert_eq!(video("VP9/90000", "profile-id=0"), Some(Codec::Vp9));
        assert_eq!(video("vp9/90000", ""), Some(Codec::Vp9));
        assert_eq!(video("VP9/90000", "profile-id=2"), None);
        assert_eq!(video("AV1/90000", "level-idx=5;profile=1;tier=0"), None);
        assert_eq!(video("VP8/8000", ""), None);
        assert_eq!(video("ulpfec/90000", ""), None);
        let audio = |rtpmap| rank(&payload(111, rtpmap, ""), Kind::Audio).map(|(codec, _)| codec);
        assert_eq!(audio("OPUS/48000/2"), Some(Codec::Opus));
        assert_eq!(audio("opus/48000"), Some(Codec::Opus));
        assert_eq!(audio("opus/48000/6"), None);
        assert_eq!(audio("opus/16000/2"), None);
        assert_eq!(audio("red/48000/2"), None);
        assert_eq!(audio("VP8/90000"), None);
    }
}
