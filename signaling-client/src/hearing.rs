//! Joins a stream at a WHEP endpoint with an end of a session of its own ([`crate::peer`]): the offer of a listener, and
//! what the answer says of its tracks. Nothing is decoded.

use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::endpoint::{Endpoint, Session};
use crate::error::Error;
use crate::peer::Identity;
use crate::peer::connection::{Connection, Door};
use crate::peer::description::{Answer, Section};
use crate::whep::Wanted;
use crate::whip::{CONNECTION_TIMEOUT, resolve};

const TRANSPORT_CC: (u8, &str) =
    (3, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01");
const OPUS: u8 = 111;
/// Name, payload type, that of repairs, parameters; the common floor first.
const VIDEO: [(&str, u8, u8, &str); 4] = [
    ("VP8", 96, 97, ""),
    ("H264", 102, 103, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    ("VP9", 98, 99, "profile-id=0"),
    ("AV1", 45, 46, "profile=0"),
];

/// One listener that is connected.
pub struct Hearing {
    /// Where its packets come.
    pub connection: Connection,
    /// To be ended.
    pub session: Session,
    /// The tracks that the relay sends.
    pub tracks: Vec<Heard>,
    /// Where packets have their transport-wide number, if they are to be reported.
    pub transport_cc: Option<u8>,
    /// When the relay was asked.
    pub asked_at: Instant,
}

/// One track of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Whether it is sound.
    pub audio: bool,
    /// Its payload types without those of repairs, each with the codec's name in small letters.
    pub codecs: Vec<(u8, String)>,
}

impl Hearing {
    /// Joins: posts the offer and waits until media can flow. With `transport_cc` it offers transport-wide feedback.
    ///
    /// # Errors
    /// Whatever [`Endpoint::offer`] and [`Door`] say; nothing is left behind at the relay.
    pub async fn join(
        endpoint: &Endpoint,
        identity: &Arc<Identity>,
        wanted: Wanted,
        transport_cc: bool,
    ) -> Result<Hearing, Error> {
        let door = Door::open(resolve(endpoint).await?, Arc::clone(identity))?;
        let offer = door.offer(&sections(wanted, transport_cc));
        let asked_at = clock::now();
        let (text, session) = endpoint.offer(offer).await?;
        let answer = Answer::read(&text);
        match door.connect(&answer, CONNECTION_TIMEOUT).await {
            Ok(connection) => Ok(Hearing {
                connection,
                session,
                tracks: tracks(&answer, wanted),
                transport_cc: reported(&answer).filter(|_| transport_cc),
                asked_at,
            }),
            Err(error) => {
                session.delete().await;
                Err(error)
            }
        }
    }
}

fn sections(wanted: Wanted, transport_cc: bool) -> Vec<Section> {
    let mut sections = Vec::new();
    let reported = |lines: &mut Vec<String>, payload_type: u8| {
        if transport_cc {
            lines.push(format!("rtcp-fb:{payload_type} transport-cc"));
        }
    };
    let mut common = vec!["recvonly".to_owned()];
    if transport_cc {
        common.push(format!("extmap:{} {}", TRANSPORT_CC.0, TRANSPORT_CC.1));
    }
    if wanted.audio {
        let mut lines = vec![
            format!("rtpmap:{OPUS} opus/48000/2"),
            format!("fmtp:{OPUS} minptime=10;stereo=1;sprop-stereo=1;useinbandfec=0"),
        ];
        reported(&mut lines, OPUS);
        lines.extend_from_slice(&common);
        sections.push(Section { kind: "audio", payload_types: vec![OPUS], attributes: lines });
    }
    if wanted.video {
        let mut lines = common;
        for (name, media, repair, parameters) in VIDEO {
            lines.push(format!("rtpmap:{media} {name}/90000"));
            if !parameters.is_empty() {
                lines.push(format!("fmtp:{media} {parameters}"));
            }
            lines.extend(["ccm fir", "nack", "nack pli"].map(|what| format!("rtcp-fb:{media} {what}")));
            reported(&mut lines, media);
            lines.push(format!("rtpmap:{repair} rtx/90000"));
            lines.push(format!("fmtp:{repair} apt={media}"));
        }
        let payload_types = VIDEO.iter().flat_map(|(_, media, repair, _)| [*media, *repair]).collect();
        sections.push(Section { kind: "video", payload_types, attributes: lines });
    }
    sections
}

fn tracks(answer: &Answer, wanted: Wanted) -> Vec<Heard> {
    let kinds = wanted.audio.then_some(true).into_iter().chain(wanted.video.then_some(false));
    let accepted = kinds.zip(&answer.sections).filter(|(_, section)| section.accepted);
    accepted
        .map(|(audio, section)| Heard {
            audio,
            codecs: section.codecs.iter().filter(|(_, name)| name != "rtx").cloned().collect(),
        })
        .collect()
}

fn reported(answer: &Answer) -> Option<u8> {
    let asked = answer.sections.iter().filter(|section| section.transport_cc);
    asked.filter_map(|section| section.extension(TRANSPORT_CC.1)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_offers_what_is_wanted_and_feedback_only_when_asked() {
        let both = sections(Wanted { audio: true, video: true }, true);
        assert_eq!(both.iter().map(|section| section.kind).collect::<Vec<_>>(), ["audio", "video"]);
        for (section, line) in both.iter().zip(["rtcp-fb:111 transport-cc", "rtcp-fb:96 transport-cc"]) {
            assert!(section.attributes.iter().any(|known| known == line), "{line}");
        }
        let sound = sections(Wanted { audio: true, video: false }, false);
        assert_eq!(sound.len(), 1);
        assert!(!sound[0].attributes.iter().any(|line| line.contains("transport")));
    }

    #[test]
    fn the_answer_says_which_payload_types_are_which_track_and_what_is_reported() {
        let text = format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
             a=rtcp-fb:96 transport-cc\r\na=extmap:5 {}\r\n",
            TRANSPORT_CC.1
        );
        let answer = Answer::read(&text);
        let found = tracks(&answer, Wanted { audio: true, video: true });
        assert_eq!(found[0], Heard { audio: true, codecs: vec![(111, "opus".to_owned())] });
        assert_eq!(found[1], Heard { audio: false, codecs: vec![(96, "vp8".to_owned())] });
        assert_eq!(reported(&answer), Some(5));
        assert_eq!(
            tracks(
                &Answer::read("m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n"),
                Wanted { audio: true, video: false }
            ),
            []
        );
    }
}
