//! What the two answers have in common: our side of the transport, the session lines, accepted and
//! rejected m-lines. The tracks are the part of `ingest` and `egress`.

use std::net::SocketAddr;

use rtc_sdp::description::common::{Address, Attribute, ConnectionInformation};
use rtc_sdp::description::media::{MediaName, RangedPort};
use rtc_sdp::description::session::{Origin, TimeDescription};
use rtc_sdp::{MediaDescription, SessionDescription};

use super::candidate;
use super::codec_choice::{Choice, Feedback};
use super::extension::ExtensionIds;
use super::media_line::MediaLine;
use super::offer::Offer;

/// Our end of the transport.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// Our ICE user fragment.
    pub ufrag: &'a str,
    /// Our ICE password.
    pub pwd: &'a str,
    /// Our certificate: `sha-256 AA:BB…`.
    pub fingerprint: &'a str,
    /// Where the media port can be reached, the best address first.
    pub candidates: &'a [SocketAddr],
    /// The number of the session in `o=`, below 2^63.
    pub session_id: u64,
}

/// An answer in the making. Every m-line of the offer is answered, in order (RFC 8829 section 5.3).
pub(super) struct Answer<'a> {
    offer: &'a Offer,
    local: &'a Local<'a>,
    accepted: Vec<String>,
    media: Vec<MediaDescription>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(offer: &'a Offer, local: &'a Local<'a>) -> Self {
        Answer { offer, local, accepted: Vec::new(), media: Vec::new() }
    }

    /// Answers an m-line with port 0.
    pub(super) fn reject(&mut self, line: &MediaLine) {
        let mut media = description(line, 0, line.formats.clone());
        mid(&mut media, line);
        flag(&mut media, "inactive");
        self.media.push(media);
    }

    /// Answers an m-line with data channels (RFC 8841).
    pub(super) fn accept_data_channel(&mut self, line: &MediaLine) {
        let mut media = description(line, 9, vec!["webrtc-datachannel".to_owned()]);
        self.transport(&mut media, line);
        attribute(&mut media, "sctp-port", "5000");
        attribute(&mut media, "max-message-size", MAX_MESSAGE_SIZE);
        self.media.push(media);
    }

    /// Answers an m-line with codecs; `source` are the lines about what we send on it.
    pub(super) fn accept(&mut self, line: &MediaLine, track: &Track<'_>, source: &[(&str, String)]) {
        let mut formats = Vec::new();
        for codec in track.codecs {
            formats.push(codec.negotiated.payload_type.to_string());
            formats.extend(codec.negotiated.rtx.map(|rtx| rtx.to_string()));
            // Behind what it wraps: a sender takes the first, and changes from packet to packet.
            formats.extend(codec.negotiated.red.map(|red| red.to_string()));
        }
        let mut media = description(line, 9, formats);
        self.transport(&mut media, line);
        flag(&mut media, track.direction);
        flag(&mut media, "rtcp-mux");
        if line.rtcp_rsize {
            flag(&mut media, "rtcp-rsize");
        }
        if self.offer.extmap_allow_mixed() {
            flag(&mut media, "extmap-allow-mixed");
        }
        for extension in track.extensions.lines() {
            attribute(&mut media, "extmap", extension);
        }
        for codec in track.codecs {
            codec_lines(&mut media, codec, track);
        }
        for (key, value) in source {
            attribute(&mut media, key, value.as_str());
        }
        self.media.push(media);
    }

    /// The answer as text.
    pub(super) fn print(self) -> String {
        let mut attributes = vec![Attribute::new("ice-lite".to_owned(), None)];
        if self.offer.bundled() {
            let group = format!("BUNDLE {}", self.accepted.join(" "));
            attributes.push(Attribute::new("group".to_owned(), Some(group)));
        }
        if self.offer.extmap_allow_mixed() {
            attributes.push(Attribute::new("extmap-allow-mixed".to_owned(), None));
        }
        attributes.push(Attribute::new("msid-semantic".to_owned(), Some(" WMS *".to_owned())));
        let session = SessionDescription {
            version: 0,
            origin: Origin {
                username: "-".to_owned(),
                session_id: self.local.session_id,
                session_version: 1,
                network_type: "IN".to_owned(),
                address_type: "IP4".to_owned(),
                unicast_address: "0.0.0.0".to_owned(),
            },
            session_name: "-".to_owned(),
            time_descriptions: vec![TimeDescription::default()],
            attributes,
            media_descriptions: self.media,
            ..SessionDescription::default()
        };
        session.marshal()
    }

    /// The transport lines. They are the same on every m-line; the candidates stand on the first
    /// one, whose transport it is (RFC 9143 section 7.3.1).
    fn transport(&mut self, media: &mut MediaDescription, line: &MediaLine) {
        let first = self.accepted.is_empty();
        self.accepted.push(line.mid.clone());
        mid(media, line);
        attribute(media, "ice-ufrag", self.local.ufrag);
        attribute(media, "ice-pwd", self.local.pwd);
        if self.offer.trickle() {
            attribute(media, "ice-options", "trickle");
        }
        attribute(media, "fingerprint", self.local.fingerprint);
        attribute(media, "setup", self.offer.setup().answer().name());
        if first {
            for candidate in candidate::print(self.local.candidates) {
                attribute(media, "candidate", candidate);
            }
            flag(media, "end-of-candidates");
        }
    }
}

/// What was agreed for one RTP m-line.
pub(super) struct Track<'o> {
    pub(super) direction: &'static str,
    pub(super) codecs: &'o [Choice<'o>],
    pub(super) extensions: &'o ExtensionIds,
    pub(super) feedback: Feedback,
    /// In place of the offer's fmtp.
    pub(super) opus_fmtp: &'o str,
}

/// The largest data-channel message we take, bytes.
const MAX_MESSAGE_SIZE: &str = "262144";

fn codec_lines(media: &mut MediaDescription, choice: &Choice<'_>, track: &Track<'_>) {
    let payload = choice.payload;
    let number = payload.payload_type;
    attribute(media, "rtpmap", format!("{number} {}/{}", payload.name, payload.clock));
    for feedback in track.feedback.lines() {
        attribute(media, "rtcp-fb", format!("{number} {feedback}"));
    }
    let fmtp = match choice.negotiated.codec {
        protocol::Codec::Opus => track.opus_fmtp,
        _ => payload.fmtp.as_str(),
    };
    if !fmtp.is_empty() {
        attribute(media, "fmtp", format!("{number} {fmtp}"));
    }
    if let Some(rtx) = choice.negotiated.rtx {
        attribute(media, "rtpmap", format!("{rtx} rtx/90000"));
        attribute(media, "fmtp", format!("{rtx} apt={number}"));
    }
    if let Some(red) = choice.negotiated.red {
        attribute(media, "rtpmap", format!("{red} red/48000/2"));
        attribute(media, "fmtp", format!("{red} {number}/{number}"));
    }
}

fn description(line: &MediaLine, port: isize, formats: Vec<String>) -> MediaDescription {
    MediaDescription {
        media_name: MediaName {
            media: line.media.clone(),
            port: RangedPort { value: port, range: None },
            protos: line.protocol.clone(),
            formats,
        },
        connection_information: Some(ConnectionInformation {
            network_type: "IN".to_owned(),
            address_type: "IP4".to_owned(),
            address: Some(Address { address: "0.0.0.0".to_owned(), ttl: None, range: None }),
        }),
        ..MediaDescription::default()
    }
}

fn mid(media: &mut MediaDescription, line: &MediaLine) {
    if !line.mid.is_empty() {
        attribute(media, "mid", line.mid.as_str());
    }
}

fn attribute(media: &mut MediaDescription, key: &str, value: impl Into<String>) {
    media.attributes.push(Attribute::new(key.to_owned(), Some(value.into())));
}

fn flag(media: &mut MediaDescription, key: &str) {
    media.attributes.push(Attribute::new(key.to_owned(), None));
}
