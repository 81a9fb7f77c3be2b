//! How clients write what they mean: line ends, blanks, lines in another order. What comes out is the part
//! of a description that is looked at here, attributes and m-lines, in one spelling.

use super::error::{SdpError, bounded};

/// The largest offer seen is Chromium's with simulcast, about 9 kB.
const MOST_BYTES: usize = 64 * 1024;
pub(super) const MOST_LINES: usize = 2000;
const MOST_MEDIA: usize = 16;
const MOST_LINE_BYTES: usize = 4096;

/// What RFC 8866 wants before the first attribute. Nothing of it is used, so what the client wrote there is
/// not worth a refusal: numbers of 21 digits, names with blanks, no `s=` or no `t=` at all.
const HEAD: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

/// The description with every line trimmed and ended by CRLF, and without the lines that nobody reads
/// (`c=`, `b=` and so on: candidates say where packets go, feedback says how many).
pub(super) fn plain(text: &str) -> Result<String, SdpError> {
    if text.len() > MOST_BYTES {
        return Err(SdpError::TooLarge { bytes: text.len(), most: MOST_BYTES });
    }
    // an editor's byte order mark, a C string's end
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_end_matches('\0');
    let mut plain = String::with_capacity(text.len() + HEAD.len());
    let (mut lines, mut media, mut begun) = (0, 0, false);
    for line in text.split('\n') {
        bounded(lines, MOST_LINES, "lines")?;
        lines += 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        // what is repeated in an answer must not be able to begin a line of its own
        if line.chars().any(|c| c.is_control() && c != '\t') {
            return Err(syntax("a control character inside a line"));
        }
        if line.len() > MOST_LINE_BYTES {
            return Err(syntax("a line longer than 4096 bytes"));
        }
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if !std::mem::replace(&mut begun, true) {
            check_first(line)?;
            plain.push_str(HEAD);
            continue;
        }
        match line.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("a", attribute)) => {
                plain.push_str("a=");
                match attribute.split_once(':') {
                    Some((key, value)) => plain.extend([key.trim_end(), ":", value.trim_start()]),
                    None => plain.push_str(attribute),
                }
                plain.push_str("\r\n");
            }
            Some(("m", value)) => {
                bounded(media, MOST_MEDIA, "m-lines")?;
                media += 1;
                plain.push_str("m=");
                for (index, word) in value.split_whitespace().enumerate() {
                    plain.extend([if index == 0 { "" } else { " " }, word]);
                }
                plain.push_str("\r\n");
            }
            Some((name, _)) if name.len() == 1 => {}
            _ => return Err(syntax("each line is a letter, =, and a value")),
        }
    }
    if begun { Ok(plain) } else { Err(syntax("it is empty")) }
}

fn check_first(line: &str) -> Result<(), SdpError> {
    let said = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
    match said {
        Some(("v", "0")) => Ok(()),
        _ if line.starts_with('{') => Err(syntax("it is JSON; send the SDP alone, as it is")),
        _ => Err(syntax("its first line is v=0")),
    }
}

fn syntax(reason: &str) -> SdpError {
    SdpError::Syntax { reason: reason.to_owned() }
}
