//! SDP offers for tests of what a relay refuses: sound to begin with, broken by the test.

/// An offer of one Opus track, as a browser makes it, without candidates.
pub const OFFER_AUDIO: &str = "v=0\r\n\
    o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n\
    s=-\r\n\
    t=0 0\r\n\
    a=group:BUNDLE 0\r\n\
    a=msid-semantic: WMS stream\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    c=IN IP4 0.0.0.0\r\n\
    a=rtcp:9 IN IP4 0.0.0.0\r\n\
    a=ice-ufrag:Zq3x\r\n\
    a=ice-pwd:pY9mQ7cS1hT2vB4nK6jL8dFw\r\n\
    a=ice-options:trickle\r\n\
    a=fingerprint:sha-256 3A:8B:5C:11:0D:FE:92:44:7A:C0:19:E5:66:B7:2F:D8:93:01:5E:CA:48:F3:7D:26:B1:90:EE:34:0C:A7:58:6B\r\n\
    a=setup:actpass\r\n\
    a=mid:0\r\n\
    a=sendrecv\r\n\
    a=msid:stream audio\r\n\
    a=rtcp-mux\r\n\
    a=rtpmap:111 opus/48000/2\r\n\
    a=fmtp:111 minptime=10;useinbandfec=1\r\n\
    a=ssrc:1234567 cname:test\r\n";

/// An offer in the making: [`OFFER_AUDIO`] with lines changed.
#[derive(Debug, Clone)]
pub struct Offer(Vec<String>);

impl Default for Offer {
    fn default() -> Offer {
        Offer(OFFER_AUDIO.lines().map(str::to_owned).collect())
    }
}

impl Offer {
    /// Without the lines that start with `prefix`.
    pub fn without(mut self, prefix: &str) -> Offer {
        self.0.retain(|line| !line.starts_with(prefix));
        self
    }

    /// With the first line that starts with `prefix` replaced.
    pub fn with(mut self, prefix: &str, line: &str) -> Offer {
        let found = self.0.iter_mut().find(|line| line.starts_with(prefix));
        *found.unwrap_or_else(|| panic!("no line starts with {prefix}")) = line.to_owned();
        self
    }

    /// With a line at the end, in the last media section.
    pub fn and(mut self, line: &str) -> Offer {
        self.0.push(line.to_owned());
        self
    }

    /// With another media section like the first, under that mid.
    pub fn and_section(mut self, mid: &str) -> Offer {
        let start = self.0.iter().position(|line| line.starts_with("m=")).expect("there is one section");
        let end = self
            .0
            .iter()
            .skip(start + 1)
            .position(|line| line.starts_with("m="))
            .map_or(self.0.len(), |n| start + 1 + n);
        let section: Vec<_> = self.0[start..end]
            .iter()
            .map(|line| if line.starts_with("a=mid:") { format!("a=mid:{mid}") } else { line.clone() })
            .collect();
        self.0.extend(section);
        let group = self.0.iter_mut().find(|line| line.starts_with("a=group:BUNDLE"));
        if let Some(group) = group {
            group.push(' ');
            group.push_str(mid);
        }
        self
    }

    /// With a VP8 track under that mid, on the transport of the first section.
    pub fn and_video(self, mid: &str) -> Offer {
        let mut offer = self.and_section(mid);
        let start =
            offer.0.iter().rposition(|line| line.starts_with("m=")).expect("a section was just added");
        let video = |line: String| match &*line {
            line if line.starts_with("m=audio") => "m=video 9 UDP/TLS/RTP/SAVPF 96".to_owned(),
            line if line.starts_with("a=rtpmap") => "a=rtpmap:96 VP8/90000".to_owned(),
            line if line.starts_with("a=fmtp") => "a=rtcp-fb:96 nack pli".to_owned(),
            line if line.starts_with("a=ssrc") => "a=ssrc:7654321 cname:test".to_owned(),
            _ => line,
        };
        let section = offer.0.split_off(start);
        offer.0.extend(section.into_iter().map(video));
        offer
    }

    /// As it goes over the wire.
    pub fn text(&self) -> String {
        self.0.iter().flat_map(|line| [line, "\r\n"]).collect()
    }
}
