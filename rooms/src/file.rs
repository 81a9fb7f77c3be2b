//! A file announced in a room: what its record carries, its checks, and its name made fit to be shown.
//! The bytes of the file are the mesh's business.

use protocol::{FileId, NodeId, WallTime, ZoneName, api};
use serde::{Deserialize, Serialize};

use crate::{
    error::RoomsError,
    text::{check_author, is_invisible},
};

/// Characters of a file's name as it is shown.
pub const NAME_MAX: usize = 120;
/// Characters of a media type.
pub const MEDIA_TYPE_MAX: usize = 100;
/// A file somebody gives to a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// The hash of its manifest.
    pub file: FileId,
    /// As [`shown_name`] gives it.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// As [`media_type`] gives it.
    pub media_type: String,
    /// Who gives it: 1 to 64 characters.
    pub author: String,
}

/// The announcement as it is written once, by the relay that has the file. Which room and when is in the record
/// around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub file: FileId,
    pub name: String,
    pub length: u64,
    pub media_type: String,
    pub author: String,
    pub origin: NodeId,
    pub zone: ZoneName,
    pub sent_at: WallTime,
}

impl File {
    /// Holds a record to the rules of a new file.
    pub(crate) fn check(&self) -> Result<(), RoomsError> {
        let good = shown_name(&self.name) == self.name
            && media_type(&self.media_type) == self.media_type
            && check_author(&self.author)? == self.author;
        if good { Ok(()) } else { Err(RoomsError::Unreadable) }
    }

    /// `here` is for whoever knows how much of it is here.
    pub(crate) fn to_api(&self) -> api::SharedFile {
        api::SharedFile {
            id: self.file.to_string(),
            name: self.name.clone(),
            bytes: self.length,
            media_type: self.media_type.clone(),
            from: self.author.clone(),
            zone: self.zone.to_string(),
            sent_at: self.sent_at.to_string(),
            here: 0,
        }
    }
}

/// Whether somebody may give a file under this name: to be asked before its bytes are taken.
///
/// # Errors
///
/// [`RoomsError::Empty`], [`RoomsError::TooLong`] or [`RoomsError::Control`], of the field `author`.
pub fn check_giver(author: &str) -> Result<(), RoomsError> {
    check_author(author).map(drop)
}

/// A name as people may see it and a browser may save it: the last segment of what may be a path, without
/// control characters and those that are invisible or turn the direction of text, without dots and spaces at
/// its ends, at most [`NAME_MAX`] characters with the extension kept; `file` if nothing is left.
pub fn shown_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last
        .chars()
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .map(|c| if matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*') { '_' } else { c })
        .collect();
    let kept = kept.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let length = kept.chars().count();
    if length <= NAME_MAX {
        return if kept.is_empty() { "file".to_owned() } else { kept.to_owned() };
    }
    let extension = kept.rsplit_once('.').map(|(_, extension)| extension);
    let extension = extension.filter(|e| (1..=10).contains(&e.chars().count()));
    let suffix = extension.map_or(String::new(), |extension| format!(".{extension}"));
    let stem: String = kept.chars().take(NAME_MAX - suffix.chars().count()).collect();
    let cut = format!("{}{suffix}", stem.trim_end_matches(|c: char| c == '.' || c.is_whitespace()));
    cut.trim_matches(|c: char| c == '.' || c.is_whitespace()).to_owned()
}

/// A media type without parameters, in lower case; `application/octet-stream` for whatever is none.
pub fn media_type(text: &str) -> String {
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let token = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '!' | '#' | '$' | '&' | '-' | '^' | '_' | '.' | '+')
            })
    };
    let good = essence.len() <= MEDIA_TYPE_MAX
        && essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    if good { essence } else { "application/octet-stream".to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_made_fit_to_be_shown() {
        for (given, shown) in [
            ("photo.jpg", "photo.jpg"),
            ("../../etc/passwd", "passwd"),
            ("..", "file"),
            ("", "file"),
            ("C:\\temp\\a b.txt", "a b.txt"),
            ("nul\0byte\n.txt", "nulbyte.txt"),
            ("invoice\u{202e}fdp.exe", "invoicefdp.exe"),
            (".hidden", "hidden"),
            ("a<b>:\"|?*.txt", "a_b______.txt"),
            ("Grüße 🎪.pdf", "Grüße 🎪.pdf"),
            ("\u{200b}\u{feff}", "file"),
        ] {
            assert_eq!(shown_name(given), shown, "{given:?}");
        }
    }

    #[test]
    fn a_name_of_four_kilobytes_is_cut_before_its_extension() {
        let shown = shown_name(&format!("{}.tar", "ü".repeat(4096)));
        assert_eq!(shown.chars().count(), NAME_MAX);
        assert!(shown.ends_with("ü.tar"));
    }

    #[test]
    fn a_media_type_is_one_or_octets() {
        for (given, kept) in [
            ("text/plain; charset=utf-8", "text/plain"),
            ("IMAGE/PNG", "image/png"),
            ("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text"),
            ("", "application/octet-stream"),
            ("text/html\r\nset-cookie: a", "application/octet-stream"),
            ("text", "application/octet-stream"),
            ("a/b/c", "application/octet-stream"),
        ] {
            assert_eq!(media_type(given), kept, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn a_shown_name_stays_as_it_is(name in "\\PC{0,300}|[./\\\\ \u{202e}a-z]{0,40}") {
            let shown = shown_name(&name);
            prop_assert!(!shown.is_empty() && shown.chars().count() <= NAME_MAX);
            prop_assert_eq!(shown_name(&shown), shown);
        }
    }
}
