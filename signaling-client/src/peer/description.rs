//! The SDP of a session of our own (RFC 8866, RFC 9429): an offer is written from the lines that say what is in it, and
//! of an answer is read what a participant needs. Total on any text.

use std::net::{IpAddr, SocketAddr};

use super::stun::{Credentials, PRIORITY};

/// How many of anything an answer may have.
const MOST: usize = 64;

/// Who offers.
pub(super) struct Offerer<'a> {
    pub credentials: &'a Credentials,
    pub fingerprint: &'a str,
    pub candidate: SocketAddr,
}

/// One m-line of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `audio` or `video`.
    pub kind: &'static str,
    /// Payload types, the preferred one first.
    pub payload_types: Vec<u8>,
    /// The attributes that say what is in it, such as `sendonly` and `rtpmap:96 VP8/90000`.
    pub attributes: Vec<String>,
}

/// The mid of the section with this number.
pub fn mid(section: usize) -> String {
    section.to_string()
}

/// What an answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub(super) ufrag: Option<String>,
    pub(super) password: Option<String>,
    /// SHA-256, as `AA:BB:…`.
    pub(super) fingerprint: Option<String>,
    /// Of UDP, component 1.
    pub(super) candidates: Vec<SocketAddr>,
    /// In the order of the offer.
    pub sections: Vec<Answered>,
}

/// One m-line of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// Whether it was not refused.
    pub accepted: bool,
    /// Payload types and codec names in small letters: `vp8`, `rtx`.
    pub codecs: Vec<(u8, String)>,
    /// For which payload type an RTX payload type is: `(rtx, media)` (RFC 4588 section 8).
    pub repairs: Vec<(u8, u8)>,
    /// Header extensions.
    pub extensions: Vec<(u8, String)>,
    /// The encodings it wants, the first of each list of alternatives, and whether it wants them paused (RFC 8853).
    pub receives: Vec<(String, bool)>,
    /// SSRCs that it announces.
    pub ssrcs: Vec<u32>,
    /// Pairs of an SSRC and that of its repairs.
    pub repair_ssrcs: Vec<(u32, u32)>,
    /// Whether packets are to be reported transport-wide.
    pub transport_cc: bool,
}

/// An offer.
pub(super) fn offer(offerer: &Offerer<'_>, sections: &[Section]) -> String {
    let session: u64 = u64::from(rand::random::<u32>());
    let mids: Vec<String> = (0..sections.len()).map(mid).collect();
    let mut lines = vec![
        "v=0".to_owned(),
        format!("o=- {session} 2 IN IP4 127.0.0.1"),
        "s=-".to_owned(),
        "t=0 0".to_owned(),
        format!("a=group:BUNDLE {}", mids.join(" ")),
        "a=msid-semantic: WMS *".to_owned(),
    ];
    let family = |address: IpAddr| if address.is_ipv4() { "IP4" } else { "IP6" };
    let candidate = offerer.candidate;
    for (section, mid) in sections.iter().zip(mids) {
        let types: Vec<String> = section.payload_types.iter().map(u8::to_string).collect();
        lines.push(format!("m={} {} UDP/TLS/RTP/SAVPF {}", section.kind, candidate.port(), types.join(" ")));
        lines.push(format!("c=IN {} {}", family(candidate.ip()), candidate.ip()));
        lines.push(format!(
            "a=candidate:1 1 udp {PRIORITY} {} {} typ host",
            candidate.ip(),
            candidate.port()
        ));
        lines.push("a=end-of-candidates".to_owned());
        lines.push(format!("a=ice-ufrag:{}", offerer.credentials.ufrag));
        lines.push(format!("a=ice-pwd:{}", offerer.credentials.password));
        lines.push(format!("a=fingerprint:sha-256 {}", offerer.fingerprint));
        // The relay is to be the server: of two libraries that wait for a hello, nobody would say it.
        lines.push("a=setup:active".to_owned());
        lines.push(format!("a=mid:{mid}"));
        lines.push("a=rtcp-mux".to_owned());
        lines.push("a=rtcp-rsize".to_owned());
        lines.extend(section.attributes.iter().map(|attribute| format!("a={attribute}")));
    }
    lines.join("\r\n") + "\r\n"
}

impl Answer {
    /// Reads an answer; what is not understood is passed over.
    pub fn read(text: &str) -> Answer {
        let mut answer = Answer::default();
        for line in text.lines().map(str::trim_end) {
            if let Some(media) = line.strip_prefix("m=") {
                if answer.sections.len() == MOST {
                    break;
                }
                let port = media.split_ascii_whitespace().nth(1);
                answer.sections.push(Answered { accepted: port != Some("0"), ..Answered::default() });
            } else if let Some(attribute) = line.strip_prefix("a=") {
                let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
                answer.attribute(name, value);
            }
        }
        answer
    }

    /// The payload type of a codec in a section, and that of its repairs.
    pub fn codec(&self, section: usize, name: &str) -> Option<(u8, Option<u8>)> {
        let section = self.sections.get(section).filter(|section| section.accepted)?;
        let (payload_type, _) = section.codecs.iter().find(|(_, known)| known.eq_ignore_ascii_case(name))?;
        let repair = section.repairs.iter().find(|(_, media)| media == payload_type);
        Some((*payload_type, repair.map(|(rtx, _)| *rtx)))
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let mut words = value.split_ascii_whitespace();
        match name {
            "ice-ufrag" if self.ufrag.is_none() => self.ufrag = Some(value.trim().to_owned()),
            "ice-pwd" if self.password.is_none() => self.password = Some(value.trim().to_owned()),
            "fingerprint" => {
                if words.next().is_some_and(|hash| hash.eq_ignore_ascii_case("sha-256")) {
                    self.fingerprint = words.next().map(str::to_ascii_uppercase);
                }
            }
            "candidate" => {
                if let Some(address) = candidate(value)
                    && self.candidates.len() < MOST
                    && !self.candidates.contains(&address)
                {
                    self.candidates.push(address);
                }
            }
            _ => {
                if let Some(section) = self.sections.last_mut() {
                    section.attribute(name, value);
                }
            }
        }
    }
}

impl Answered {
    /// The id of a header extension.
    pub fn extension(&self, uri: &str) -> Option<u8> {
        self.extensions.iter().find(|(_, known)| known == uri).map(|(id, _)| *id)
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let mut words = value.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        match name {
            "rtpmap" => {
                let codec = words.next().and_then(|codec| codec.split('/').next());
                if let (Ok(payload_type), Some(codec)) = (first.parse(), codec) {
                    push(&mut self.codecs, (payload_type, codec.to_ascii_lowercase()));
                }
            }
            "fmtp" => {
                let apt = words.flat_map(|word| word.split(';')).find_map(|word| word.strip_prefix("apt="));
                if let (Ok(rtx), Some(Ok(media))) = (first.parse(), apt.map(str::parse)) {
                    push(&mut self.repairs, (rtx, media));
                }
            }
            "extmap" => {
                let id = first.split('/').next().unwrap_or_default();
                if let (Ok(id), Some(uri)) = (id.parse(), words.next()) {
                    push(&mut self.extensions, (id, uri.to_owned()));
                }
            }
            "simulcast" => {
                let mut words = value.split_ascii_whitespace();
                while let Some(direction) = words.next() {
                    let list = words.next().unwrap_or_default();
                    if direction == "recv" {
                        self.receives = list.split(';').filter_map(first_alternative).take(MOST).collect();
                    }
                }
            }
            "ssrc" => {
                if let Ok(ssrc) = first.parse()
                    && !self.ssrcs.contains(&ssrc)
                {
                    push(&mut self.ssrcs, ssrc);
                }
            }
            "ssrc-group" if first == "FID" => {
                if let (Some(Ok(media)), Some(Ok(repair))) =
                    (words.next().map(str::parse), words.next().map(str::parse))
                {
                    push(&mut self.repair_ssrcs, (media, repair));
                }
            }
            "rtcp-fb" => self.transport_cc |= words.next() == Some("transport-cc"),
            _ => {}
        }
    }
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MOST {
        list.push(item);
    }
}

/// The first of `a,~b`, without the sign that it is to be paused.
fn first_alternative(alternatives: &str) -> Option<(String, bool)> {
    let first = alternatives.split(',').next().filter(|first| !first.is_empty())?;
    let rid = first.strip_prefix('~');
    Some((rid.unwrap_or(first).to_owned(), rid.is_some()))
}

fn candidate(value: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = value.split_ascii_whitespace().collect();
    let [_, "1", transport, _, address, port, ..] = words[..] else { return None };
    if !transport.eq_ignore_ascii_case("udp") {
        return None;
    }
    let address = SocketAddr::new(address.parse().ok()?, port.parse().ok()?);
    (address.port() != 0 && !address.ip().is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = "v=0\r\na=ice-lite\r\na=ice-ufrag:relay\r\na=ice-pwd:secret\r\n\
        a=fingerprint:sha-256 ab:cd\r\nm=audio 0 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
        a=fmtp:97 apt=96\r\na=rtcp-fb:96 transport-cc\r\na=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
        a=rid:h recv\r\na=rid:l recv\r\na=simulcast:recv h,x;~l\r\na=ssrc:7 cname:relay\r\na=ssrc-group:FID 7 8\r\n\
        a=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\na=candidate:1 1 udp 1 192.0.2.1 4000 typ host\r\n\
        a=candidate:2 1 tcp 1 192.0.2.1 9 typ host\r\na=candidate:3 1 udp 1 a.local 4000 typ host\r\n";

    #[test]
    fn of_an_answer_is_read_what_a_participant_needs() {
        let answer = Answer::read(ANSWER);
        assert_eq!((answer.ufrag.as_deref(), answer.password.as_deref()), (Some("relay"), Some("secret")));
        assert_eq!(answer.fingerprint.as_deref(), Some("AB:CD"));
        assert_eq!(answer.candidates, ["192.0.2.1:4000".parse::<SocketAddr>().unwrap()]);
        assert_eq!((answer.codec(0, "opus"), answer.codec(1, "VP8")), (None, Some((96, Some(97)))));
        let video = &answer.sections[1];
        assert_eq!(video.receives, [("h".to_owned(), false), ("l".to_owned(), true)]);
        assert_eq!(video.extension("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"), Some(10));
        assert_eq!((&video.ssrcs[..], &video.repair_ssrcs[..]), (&[7][..], &[(7, 8)][..]));
        assert!(video.transport_cc && !answer.sections[0].accepted);
    }

    #[test]
    fn an_offer_says_each_section_with_its_mid() {
        let credentials = Credentials { ufrag: "u".to_owned(), password: "p".to_owned() };
        let offerer = Offerer {
            credentials: &credentials,
            fingerprint: "AB:CD",
            candidate: "192.0.2.1:7".parse().unwrap(),
        };
        let section = |kind, attribute: &str| Section {
            kind,
            payload_types: vec![96, 97],
            attributes: vec![attribute.to_owned()],
        };
        let text = offer(&offerer, &[section("audio", "sendonly"), section("video", "rid:h send")]);
        for line in [
            "a=group:BUNDLE 0 1\r\n",
            "m=audio 7 UDP/TLS/RTP/SAVPF 96 97\r\n",
            "a=mid:1\r\n",
            "a=rid:h send\r\n",
            "a=candidate:1 1 udp 2130706431 192.0.2.1 7 typ host\r\n",
            "a=fingerprint:sha-256 AB:CD\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(([am]=[a-z-]{0,12}:?[a-z0-9 ;,~/=.:-]{0,40})|.{0,20}|\n|\r){0,20}") {
            let _ = Answer::read(&text);
        }
    }
}
