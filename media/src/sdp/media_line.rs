//! One m-line of an offer with the attributes we know, read and checked. Which of it is accepted is
//! the answer's part.

use protocol::Kind;
use rtc_sdp::MediaDescription;
use rtc_sdp::description::common::Attribute;

use super::candidate::Candidate;
use super::direction::Direction;
use super::error::{SdpError, bounded, quote};
use super::extension::ExtensionIds;
use super::source::{Rid, Sources};

/// What an m-line carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// RTP of this kind.
    Rtp(Kind),
    /// SCTP over DTLS (RFC 8841).
    DataChannel,
    /// Anything else: refused.
    Other,
}

/// One payload type of an m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The RTP payload type, 0 to 127.
    pub payload_type: u8,
    /// The encoding name as offered: compare without regard to case.
    pub name: String,
    /// The rest of `a=rtpmap`, for example `48000/2`.
    pub clock: String,
    /// The value of `a=fmtp` without the payload type; empty if there is none.
    pub fmtp: String,
    /// The values of `a=rtcp-fb`, for example `nack pli`.
    pub feedback: Vec<String>,
}

impl Payload {
    /// One parameter of the fmtp.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.fmtp.split(';').find_map(|parameter| {
            let (key, value) = parameter.trim().split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One m-line of an offer.
#[derive(Debug, Clone)]
pub struct MediaLine {
    /// What it carries.
    pub medium: Medium,
    /// `a=mid`; empty if a lone m-line has none.
    pub mid: String,
    /// Whether it is offered at all: port 0 without `a=bundle-only` is a rejected line.
    pub live: bool,
    /// Who sends.
    pub direction: Direction,
    /// The payload types in the order of preference.
    pub payloads: Vec<Payload>,
    /// The encodings that the offerer would send (simulcast), in the order of `a=simulcast`.
    pub encodings: Vec<Rid>,
    /// The first words of the line, to be repeated in a rejection.
    pub(super) media: String,
    pub(super) protocol: Vec<String>,
    pub(super) formats: Vec<String>,
    pub(super) rtcp_mux: bool,
    pub(super) rtcp_rsize: bool,
    pub(super) extmap_allow_mixed: bool,
    pub(super) sources: Sources,
    pub(super) candidates: Vec<Candidate>,
    simulcast: String,
    extmaps: Vec<String>,
}

impl MediaLine {
    /// Reads an m-line. What the session says for all of its lines counts where the line says nothing.
    pub(super) fn parse(line: &MediaDescription, session: &[Attribute]) -> Result<MediaLine, SdpError> {
        let name = &line.media_name;
        let medium = match name.media.as_str() {
            "audio" => Medium::Rtp(Kind::Audio),
            "video" => Medium::Rtp(Kind::Video),
            "application" if name.formats.iter().any(|format| format == "webrtc-datachannel") => {
                Medium::DataChannel
            }
            _ => Medium::Other,
        };
        let mut parsed = MediaLine {
            medium,
            mid: String::new(),
            live: name.port.value != 0 || line.has_attribute("bundle-only"),
            direction: Direction::SendRecv,
            payloads: payloads(name.formats.iter().map(String::as_str), medium),
            encodings: Vec::new(),
            media: name.media.clone(),
            protocol: name.protos.clone(),
            formats: name.formats.clone(),
            rtcp_mux: false,
            rtcp_rsize: false,
            extmap_allow_mixed: false,
            sources: Sources::default(),
            candidates: Vec::new(),
            simulcast: String::new(),
            extmaps: Vec::new(),
        };
        let shared = |attribute: &&Attribute| {
            let key = attribute.key.as_str();
            Direction::parse(key).is_some() || matches!(key, "rtcp-mux" | "rtcp-mux-only" | "rtcp-rsize")
        };
        // RFC 8285 section 5: the line's own extensions come first where an id is used twice
        let extensions = |attribute: &&Attribute| attribute.key == "extmap";
        let attributes = session.iter().filter(shared).chain(&line.attributes);
        for attribute in attributes.chain(session.iter().filter(extensions)) {
            parsed.attribute(&attribute.key, attribute.value.as_deref().unwrap_or_default())?;
        }
        // Its RIDs may stand behind it.
        parsed.encodings = parsed.sources.simulcast(&parsed.simulcast).into_iter().cloned().collect();
        // a format without a:rtpmap is a static payload type (RFC 3551): none of ours
        parsed.payloads.retain(|payload| !payload.name.is_empty());
        Ok(parsed)
    }

    /// The known header extensions that may travel in the direction `flow`, seen from the offerer.
    pub fn extensions(&self, flow: Direction) -> ExtensionIds {
        let mut ids = ExtensionIds::default();
        for value in &self.extmaps {
            ids.offer(value, flow);
        }
        ids
    }

    /// The candidates that came with this line; nothing is ever sent to them.
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    fn attribute(&mut self, key: &str, value: &str) -> Result<(), SdpError> {
        match key {
            "mid" => self.mid = mid(value)?,
            "rtpmap" => self.rtpmap(value),
            "fmtp" => {
                if let Some((payload, rest)) = self.payload(value) {
                    payload.fmtp = rest.to_owned();
                }
            }
            "rtcp-fb" => self.feedback(value)?,
            "extmap" => {
                bounded(self.extmaps.len(), 64, "a=extmap lines on one m-line")?;
                self.extmaps.push(value.to_owned());
            }
            "ssrc" => self.sources.ssrc(value)?,
            "ssrc-group" => self.sources.group(value)?,
            "rid" => self.sources.rid(value)?,
            "simulcast" => value.clone_into(&mut self.simulcast),
            "candidate" => {
                bounded(self.candidates.len(), MOST_CANDIDATES, "candidates on one m-line")?;
                self.candidates.extend(Candidate::parse(value));
            }
            "rtcp-mux" | "rtcp-mux-only" => self.rtcp_mux = true,
            "rtcp-rsize" => self.rtcp_rsize = true,
            "extmap-allow-mixed" => self.extmap_allow_mixed = true,
            _ => self.direction = Direction::parse(key).unwrap_or(self.direction),
        }
        Ok(())
    }

    /// A payload type whose clock is not told cannot be played; the others of the line can.
    fn rtpmap(&mut self, value: &str) {
        let Some((payload, rest)) = self.payload(value) else { return };
        let Some((name, clock)) = rest.split_once('/') else { return };
        payload.name = name.trim().to_owned();
        payload.clock = clock.split_whitespace().collect();
    }

    fn feedback(&mut self, value: &str) -> Result<(), SdpError> {
        let Some((format, feedback)) = value.split_once(char::is_whitespace) else { return Ok(()) };
        let feedback = feedback.split_whitespace().collect::<Vec<_>>().join(" ");
        let number = format.parse::<u8>().ok();
        for payload in &mut self.payloads {
            if format == "*" || number == Some(payload.payload_type) {
                bounded(payload.feedback.len(), 32, "a=rtcp-fb lines on one payload type")?;
                payload.feedback.push(feedback.clone());
            }
        }
        Ok(())
    }

    /// Splits `<payload type> <rest>` and finds the payload; a payload type that is not on the
    /// m-line is passed over.
    fn payload<'v>(&mut self, value: &'v str) -> Option<(&mut Payload, &'v str)> {
        let (number, rest) = value.split_once(char::is_whitespace)?;
        let number: u8 = number.parse().ok()?;
        let payload = self.payloads.iter_mut().find(|payload| payload.payload_type == number)?;
        Some((payload, rest.trim()))
    }
}

/// The payload types of the m-line, not yet named. Doubles and numbers above 127 are dropped.
fn payloads<'f>(formats: impl Iterator<Item = &'f str>, medium: Medium) -> Vec<Payload> {
    let mut payloads: Vec<Payload> = Vec::new();
    if !matches!(medium, Medium::Rtp(_)) {
        return payloads;
    }
    for payload_type in formats.filter_map(|format| format.parse::<u8>().ok()) {
        // 64 to 95 would be taken for RTCP on a shared port (RFC 5761 section 4)
        let usable = payload_type < 128 && !(64..96).contains(&payload_type);
        if usable && !payloads.iter().any(|known| known.payload_type == payload_type) {
            payloads.push(Payload {
                payload_type,
                name: String::new(),
                clock: String::new(),
                fmtp: String::new(),
                feedback: Vec::new(),
            });
        }
    }
    payloads
}

/// A checked `a=mid`.
pub(super) fn mid(value: &str) -> Result<String, SdpError> {
    let value = value.trim();
    let token = (1..=64).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
    if token {
        Ok(value.to_owned())
    } else {
        Err(SdpError::Malformed { attribute: "mid", reason: "1 to 64 visible ASCII characters" })
    }
}

/// RFC 8829 section 5.1.2: these are one transport, whichever of them is named. Anything else is
/// quoted back.
pub(super) fn check_protocol(line: &MediaLine) -> Result<(), SdpError> {
    let protocol = line.protocol.join("/");
    match protocol.as_str() {
        "UDP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" | "TCP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVP" | "RTP/SAVPF"
        | "RTP/SAVP"
            if matches!(line.medium, Medium::Rtp(_)) =>
        {
            Ok(())
        }
        "UDP/DTLS/SCTP" | "TCP/DTLS/SCTP" if line.medium == Medium::DataChannel => Ok(()),
        _ => Err(SdpError::Protocol { protocol: quote(&protocol) }),
    }
}

pub(super) const MOST_CANDIDATES: usize = 256;
