//! What people write: what may be in it, and how it is shown.

use crate::{
    error::RoomsError,
    limits::{AUTHOR_MAX, NONCE_MAX, TEXT_MAX},
};

/// The author as it is shown: without the invisible characters that let one name pass for another.
pub(crate) fn check_author(author: &str) -> Result<String, RoomsError> {
    let shown: String = author.chars().filter(|c| !is_invisible(*c)).collect();
    let shown = shown.trim();
    if let Some(found) = shown.chars().find(|c| c.is_control()) {
        return Err(RoomsError::Control { field: "author", found });
    }
    match shown.chars().count() {
        0 => Err(RoomsError::author_empty()),
        length if length > AUTHOR_MAX => Err(RoomsError::author_too_long(length)),
        _ => Ok(shown.to_owned()),
    }
}

pub(crate) fn check_text(text: &str) -> Result<(), RoomsError> {
    if let Some(found) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(RoomsError::Control { field: "text", found });
    }
    if text.chars().all(|c| c.is_whitespace() || is_invisible(c)) {
        return Err(RoomsError::text_empty());
    }
    match text.chars().count() {
        length if length > TEXT_MAX => Err(RoomsError::text_too_long(length)),
        _ => Ok(()),
    }
}

pub(crate) fn check_nonce(nonce: &str) -> Result<(), RoomsError> {
    match nonce.chars().count() {
        length if length > NONCE_MAX => Err(RoomsError::nonce_too_long(length)),
        _ => Ok(()),
    }
}

/// Soft hyphen, zero-width characters, and the marks, embeddings, overrides and isolates of
/// bidirectional text (Unicode TR 36 section 2.3).
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_leave_the_author_and_stay_in_the_text() {
        assert_eq!(check_author(" \u{200b}A\u{202e}da\u{feff} "), Ok("Ada".to_owned()));
        assert_eq!(check_author("\u{200b}"), Err(RoomsError::author_empty()));
        assert_eq!(check_text("a\u{202e}b\n\tc"), Ok(()));
        assert_eq!(check_text(" \u{200b}\n"), Err(RoomsError::text_empty()));
    }
}
