//! The bodies of a PATCH, `application/trickle-ice-sdpfrag` (RFC 8840): candidates, which an ICE-lite
//! end only counts, or an ICE restart. Comparing credentials with the session's is the caller's part.

use std::fmt::{self, Write};

use super::answer::Local;
use super::candidate::{self, Candidate};
use super::error::{SdpError, bounded};
use super::media_line::{MOST_CANDIDATES, mid};
use super::offer::{pwd, ufrag};
use super::spelling::MOST_LINES;

/// A fragment, parsed and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The ICE user fragment. Other than the session's: a restart (RFC 9725 section 4.3.2).
    pub ufrag: Option<String>,
    /// The ICE password.
    pub pwd: Option<String>,
    /// The mids of its m-lines.
    pub mids: Vec<String>,
    /// The candidates; nothing is ever sent to them.
    pub candidates: Vec<Candidate>,
    /// Whether the peer has no more candidates.
    pub end_of_candidates: bool,
    /// The first m-line, to be repeated in the answer.
    media: Option<String>,
}

impl Fragment {
    /// Reads a fragment. Bounded: 64 KiB, 2000 lines, 16 m-lines, 256 candidates.
    ///
    /// # Errors
    ///
    /// [`SdpError`] with status 400 if this is not a fragment. Unknown attributes are passed over.
    pub fn parse(text: &str) -> Result<Fragment, SdpError> {
        if text.len() > MOST_BYTES {
            return Err(SdpError::TooLarge { bytes: text.len(), most: MOST_BYTES });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches('\0');
        let mut fragment = Fragment::default();
        let mut media = 0;
        for (index, line) in text.split('\n').enumerate() {
            bounded(index, MOST_LINES, "lines")?;
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.chars().any(|c| c.is_control() && c != '\t') {
                return Err(SdpError::Syntax { reason: "a control character inside a line".to_owned() });
            }
            match line.trim().split_once('=') {
                _ if line.trim().is_empty() => {}
                Some(("a", attribute)) => fragment.attribute(attribute)?,
                Some(("m", value)) => {
                    bounded(media, MOST_MEDIA, "m-lines")?;
                    media += 1;
                    fragment.media(value)?;
                }
                // the other lines of a whole session description say nothing here
                Some((name, _)) if name.len() == 1 => {}
                _ => {
                    return Err(SdpError::Syntax {
                        reason: "each line is a letter, =, and a value".to_owned(),
                    });
                }
            }
        }
        match (&fragment.ufrag, &fragment.pwd) {
            (Some(_), None) => Err(SdpError::Missing { attribute: "ice-pwd" }),
            (None, Some(_)) => Err(SdpError::Missing { attribute: "ice-ufrag" }),
            _ => Ok(fragment),
        }
    }

    /// Whether this asks for new credentials on a session that has these of the peer.
    pub fn restarts(&self, current_ufrag: &str, current_pwd: &str) -> bool {
        let (ufrag, pwd) = (self.ufrag.as_deref(), self.pwd.as_deref());
        ufrag.is_some_and(|new| new != current_ufrag) || pwd.is_some_and(|new| new != current_pwd)
    }

    /// Our half of an ICE restart: new credentials and all candidates.
    pub fn answer(&self, local: &Local<'_>) -> String {
        let mut text = String::from("a=ice-lite\r\na=ice-options:trickle\r\n");
        let mut line = |line: fmt::Arguments<'_>| {
            text.write_fmt(line).expect("writing to a string does not fail");
            text.push_str("\r\n");
        };
        if !self.mids.is_empty() {
            line(format_args!("a=group:BUNDLE {}", self.mids.join(" ")));
        }
        line(format_args!("a=ice-ufrag:{}", local.ufrag));
        line(format_args!("a=ice-pwd:{}", local.pwd));
        line(format_args!("m={}", self.media.as_deref().unwrap_or("audio 9 UDP/TLS/RTP/SAVPF 0")));
        if let Some(mid) = self.mids.first() {
            line(format_args!("a=mid:{mid}"));
        }
        for candidate in candidate::print(local.candidates) {
            line(format_args!("a=candidate:{candidate}"));
        }
        line(format_args!("a=end-of-candidates"));
        text
    }

    fn attribute(&mut self, attribute: &str) -> Result<(), SdpError> {
        let (key, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match key {
            // a fragment may repeat them on each m-line; bundled, the first ones count
            "ice-ufrag" if self.ufrag.is_none() => self.ufrag = Some(ufrag(value)?),
            "ice-pwd" if self.pwd.is_none() => self.pwd = Some(pwd(value)?),
            "mid" => {
                bounded(self.mids.len(), MOST_MEDIA, "a=mid lines")?;
                let mid = mid(value)?;
                if !self.mids.contains(&mid) {
                    self.mids.push(mid);
                }
            }
            "candidate" => {
                bounded(self.candidates.len(), MOST_CANDIDATES, "candidates")?;
                self.candidates.extend(Candidate::parse(value));
            }
            "end-of-candidates" => self.end_of_candidates = true,
            _ => {}
        }
        Ok(())
    }

    fn media(&mut self, value: &str) -> Result<(), SdpError> {
        if value.split_ascii_whitespace().count() < 4 {
            return Err(SdpError::Syntax {
                reason: "an m-line has media, port, protocol and formats".to_owned(),
            });
        }
        if value.len() <= 256 {
            self.media.get_or_insert_with(|| value.to_owned());
        }
        Ok(())
    }
}

const MOST_BYTES: usize = 64 * 1024;
const MOST_MEDIA: usize = 16;
