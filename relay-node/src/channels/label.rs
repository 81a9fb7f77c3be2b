//! What the label of a data channel says it is for, with the version of that.

use protocol::RoomName;

/// What a channel is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    /// `room/1/{room}`: what the WebSocket of the room carries.
    Room(RoomName),
    /// `files/1`: files, both ways.
    Files,
}

impl Label {
    /// `None` for what this relay does not know: such a channel stays open, and nobody answers on it.
    pub(super) fn read(label: &str) -> Option<Label> {
        if label == "files/1" {
            return Some(Label::Files);
        }
        let room = label.strip_prefix("room/1/")?;
        Some(Label::Room(RoomName::new(room).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_label_has_a_version_and_another_version_is_another_label() {
        assert_eq!(Label::read("room/1/lobby"), RoomName::new("lobby").ok().map(Label::Room));
        assert_eq!(Label::read("files/1"), Some(Label::Files));
        for unknown in
            ["", "room", "room/", "room/1", "room/1/", "room/2/lobby", "room/1/No", "room/1/a/b", "chat"]
        {
            assert_eq!(Label::read(unknown), None, "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn junk_never_panics(label in ".{0,80}") {
            let _ = Label::read(&label);
        }
    }
}
