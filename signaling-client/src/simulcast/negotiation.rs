//! What a simulcast offers (RFC 8853, RFC 8851), and which of its encodings an answer takes. Sends nothing.

use crate::encoding::{Agreed, Encoding, Rid};
use crate::error::Error;
use crate::ivf::Film;
use crate::peer::description::{self, Answer, Section};
use crate::video::VideoCodec;

/// The name of the participant in all its reports.
pub(super) const CNAME: &str = "stage";
const MID: (u8, &str) = (4, "urn:ietf:params:rtp-hdrext:sdes:mid");
const RID: (u8, &str) = (10, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id");
const REPAIRED_RID: (u8, &str) = (11, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id");
/// The payload type of sound in the offer.
pub(super) const OPUS: u8 = 111;

/// The codec of all films.
///
/// # Errors
/// [`Error::Usage`] when they do not go together.
pub(super) fn one_codec(films: &[(Rid, Film)]) -> Result<VideoCodec, Error> {
    let usage = |reason: &str| Err(Error::Usage(format!("--encodings: {reason}")));
    let Some((_, first)) = films.first() else { return usage("no file") };
    if films.iter().any(|(_, film)| film.codec != first.codec) {
        return usage("all files have to be of one codec");
    }
    let twice = |(n, (rid, _)): (usize, &(Rid, Film))| films[..n].iter().any(|(other, _)| other == rid);
    if films.iter().enumerate().any(twice) {
        return usage("each needs a RID of its own");
    }
    Ok(first.codec)
}

/// The sound beside the picture.
pub(super) fn sound_section(ssrc: u32) -> Section {
    let lines = [
        format!("rtpmap:{OPUS} opus/48000/2"),
        format!("fmtp:{OPUS} minptime=10;stereo=1;sprop-stereo=1;useinbandfec=0"),
        "sendonly".to_owned(),
        "msid:stage stage-audio".to_owned(),
        format!("ssrc:{ssrc} cname:{CNAME}"),
    ];
    Section { kind: "audio", payload_types: vec![OPUS], attributes: lines.to_vec() }
}

/// How a codec is called, and under which numbers it is offered.
fn offered(codec: VideoCodec) -> (&'static str, u8, u8) {
    match codec {
        VideoCodec::Vp8 => ("VP8", 96, 97),
        VideoCodec::Vp9 => ("VP9", 98, 99),
        VideoCodec::Av1 => ("AV1", 45, 46),
        VideoCodec::H264 => ("H264", 102, 103),
    }
}

/// As browsers offer it: RIDs and no SSRCs. One encoding alone is no simulcast.
pub(super) fn picture_section(codec: VideoCodec, encodings: &[Encoding]) -> Section {
    let (name, media, repair) = offered(codec);
    let mut lines = vec![
        format!("rtpmap:{media} {name}/90000"),
        format!("rtcp-fb:{media} ccm fir"),
        format!("rtcp-fb:{media} nack"),
        format!("rtcp-fb:{media} nack pli"),
        format!("rtpmap:{repair} rtx/90000"),
        format!("fmtp:{repair} apt={media}"),
        format!("extmap:{} {}", MID.0, MID.1),
        "sendonly".to_owned(),
        "msid:stage stage-video".to_owned(),
    ];
    if codec != VideoCodec::Vp8 {
        let parameters = if codec == VideoCodec::Vp9 { "profile-id=0" } else { "profile=0" };
        lines.push(format!("fmtp:{media} {parameters}"));
    }
    match encodings {
        [only] => {
            let (ssrc, repairs) = only.ssrcs();
            lines.push(format!("ssrc-group:FID {ssrc} {repairs}"));
            lines.push(format!("ssrc:{ssrc} cname:{CNAME}"));
            lines.push(format!("ssrc:{repairs} cname:{CNAME}"));
        }
        several => {
            lines.push(format!("extmap:{} {}", RID.0, RID.1));
            lines.push(format!("extmap:{} {}", REPAIRED_RID.0, REPAIRED_RID.1));
            let rids: Vec<&str> = several.iter().map(|encoding| encoding.rid().as_str()).collect();
            lines.extend(rids.iter().map(|rid| format!("rid:{rid} send")));
            lines.push(format!("simulcast:send {}", rids.join(";")));
        }
    }
    Section { kind: "video", payload_types: vec![media, repair], attributes: lines }
}

/// The encodings that an answer takes, told what it says. Whoever publishes is told which it does not take.
///
/// # Errors
/// What is wrong, in words, when it takes none of them.
pub(super) fn accepted(
    encodings: Vec<Encoding>,
    answer: &Answer,
    section: usize,
    codec: VideoCodec,
) -> Result<Vec<Encoding>, String> {
    let name = offered(codec).0;
    let (payload_type, repair_payload_type) =
        answer.codec(section, name).ok_or_else(|| format!("the answer takes no {name}"))?;
    let says = answer.sections.get(section).ok_or("the answer has too few sections")?;
    let agreed = Agreed {
        payload_type,
        repair_payload_type,
        mid: description::mid(section),
        mid_extension: says.extension(MID.1),
        rid_extension: says.extension(RID.1),
        repaired_rid_extension: says.extension(REPAIRED_RID.1),
    };
    let simulcast = encodings.len() > 1;
    // An answer without simulcast gets one encoding, the first (RFC 8853 section 5.3.3).
    let takes = |n: usize, rid: &Rid| match says.receives.iter().find(|(wanted, _)| wanted == rid.as_str()) {
        Some((_, paused)) => !paused,
        None => says.receives.is_empty() && n == 0,
    };
    let mut taken = Vec::new();
    for (n, mut encoding) in encodings.into_iter().enumerate() {
        if takes(n, encoding.rid()) {
            encoding.agree(agreed.clone());
            taken.push(encoding);
        } else {
            tracing::warn!("the relay does not take {}: it is not sent", encoding.rid().as_str());
        }
    }
    if simulcast {
        let rids: Vec<&str> = taken.iter().map(|encoding| encoding.rid().as_str()).collect();
        tracing::info!("the relay takes {}", rids.join(", "));
    }
    if taken.is_empty() { Err("the answer takes none of the encodings".to_owned()) } else { Ok(taken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ivf::tests::vp8_file;

    fn encodings(rids: &[&str]) -> Vec<Encoding> {
        let film = Film::read(vp8_file(&[(true, 9)])).unwrap();
        rids.iter().map(|rid| Encoding::new(rid.parse().unwrap(), film.clone(), None, &[])).collect()
    }

    fn answer(lines: &str) -> Answer {
        let text = format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n{lines}"
        );
        Answer::read(&text)
    }

    fn taken(rids: &[&str], lines: &str) -> Vec<String> {
        let taken = accepted(encodings(rids), &answer(lines), 0, VideoCodec::Vp8).unwrap();
        taken.iter().map(|encoding| encoding.rid().as_str().to_owned()).collect()
    }

    #[test]
    fn the_offer_names_the_encodings_in_the_order_given() {
        let section = picture_section(VideoCodec::Vp8, &encodings(&["h", "l", "m"]));
        let rids: Vec<&String> = section.attributes.iter().filter(|line| line.starts_with("rid:")).collect();
        assert_eq!(rids, ["rid:h send", "rid:l send", "rid:m send"]);
        for line in [
            "simulcast:send h;l;m",
            "extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            "extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        ] {
            assert!(section.attributes.iter().any(|known| known == line), "{line}");
        }
        assert!(!section.attributes.iter().any(|line| line.starts_with("ssrc")));
    }

    #[test]
    fn one_encoding_is_no_simulcast() {
        let section = picture_section(VideoCodec::Vp9, &encodings(&["0"]));
        assert!(
            !section.attributes.iter().any(|line| line.starts_with("rid") || line.starts_with("simulcast"))
        );
        assert!(section.attributes.iter().any(|line| line.starts_with("ssrc-group:FID")));
    }

    #[test]
    fn only_what_the_answer_takes_is_sent() {
        assert_eq!(taken(&["l", "m", "h"], "a=rid:h recv\r\na=simulcast:recv h\r\n"), ["h"]);
        assert_eq!(taken(&["l", "m", "h"], "a=simulcast:recv h;l,m;~x\r\n"), ["l", "h"]);
        assert_eq!(taken(&["l", "m", "h"], "a=simulcast:recv ~h;m;l\r\n"), ["l", "m"]);
        assert_eq!(taken(&["l", "m", "h"], ""), ["l"]);
        assert_eq!(taken(&["0"], ""), ["0"]);
        let none = accepted(encodings(&["l", "m"]), &answer("a=simulcast:recv x\r\n"), 0, VideoCodec::Vp8);
        assert!(none.is_err());
        let other = accepted(encodings(&["l"]), &answer(""), 0, VideoCodec::Vp9);
        assert_eq!(other.unwrap_err(), "the answer takes no VP9");
    }

    #[test]
    fn films_of_two_codecs_and_a_name_twice_are_refused() {
        let film = Film::read(vp8_file(&[(true, 9)])).unwrap();
        let named = |rid: &str, film: &Film| (rid.parse::<Rid>().unwrap(), film.clone());
        let mut vp9 = film.clone();
        vp9.codec = VideoCodec::Vp9;
        assert!(one_codec(&[named("a", &film), named("b", &vp9)]).is_err());
        assert!(one_codec(&[named("a", &film), named("a", &film)]).is_err());
        assert!(one_codec(&[]).is_err());
        assert_eq!(one_codec(&[named("a", &film), named("b", &film)]).unwrap(), VideoCodec::Vp8);
    }
}
