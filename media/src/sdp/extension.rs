//! RTP header extensions (RFC 8285): which of the offered ones we know, under which ids, and the
//! `a=extmap` lines that accept them.

use super::direction::Direction;
use crate::rtp::descriptor::dependency;

/// The ids of the header extensions in use on one m-line. Ids of 1 to 14 fit one-byte headers,
/// those above need two-byte headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    pub audio_level: Option<u8>,
    /// `urn:3gpp:video-orientation`.
    pub video_orientation: Option<u8>,
    /// The sequence number of transport-wide congestion control.
    pub transport_cc: Option<u8>,
    /// `abs-send-time`, for REMB.
    pub abs_send_time: Option<u8>,
    /// `playout-delay`.
    pub playout_delay: Option<u8>,
    /// The dependency descriptor of AV1.
    pub dependency: Option<u8>,
}

impl ExtensionIds {
    /// Every extension we know, with its place in this table.
    fn entries(&mut self) -> [(&'static str, &mut Option<u8>); 9] {
        [
            (MID, &mut self.mid),
            (RID, &mut self.rid),
            (REPAIRED_RID, &mut self.repaired_rid),
            (AUDIO_LEVEL, &mut self.audio_level),
            (VIDEO_ORIENTATION, &mut self.video_orientation),
            (TRANSPORT_CC, &mut self.transport_cc),
            (ABS_SEND_TIME, &mut self.abs_send_time),
            (PLAYOUT_DELAY, &mut self.playout_delay),
            (dependency::URI, &mut self.dependency),
        ]
    }

    /// Takes in the value of one `a=extmap`; `flow` is the direction in which packets will carry
    /// it, seen from the offerer. Unknown extensions, repeated ids and ids outside 1 to 255 are
    /// passed over: an extension that is not answered is not used.
    pub(super) fn offer(&mut self, value: &str, flow: Direction) {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some(uri)) = (words.next(), words.next()) else { return };
        let (id, direction) = match id.split_once('/') {
            Some((id, direction)) => (id, Direction::parse(direction)),
            None => (id, Some(Direction::SendRecv)),
        };
        let (Ok(id), Some(direction)) = (id.parse::<u8>(), direction) else { return };
        if id == 0 || !direction.allows(flow) {
            return;
        }
        let mut entries = self.entries();
        if entries.iter().any(|(_, taken)| **taken == Some(id)) {
            return;
        }
        if let Some((_, place)) = entries.iter_mut().find(|(known, _)| *known == uri) {
            place.get_or_insert(id);
        }
    }

    /// The values of the `a=extmap` lines that accept these.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut copy = self.clone();
        copy.entries().into_iter().filter_map(|(uri, id)| id.map(|id| format!("{id} {uri}"))).collect()
    }
}

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_extensions_keep_the_offered_ids() {
        let mut ids = ExtensionIds::default();
        ids.offer(&format!("4 {MID}"), Direction::SendOnly);
        ids.offer(&format!("200/sendonly {AUDIO_LEVEL} vad=on"), Direction::SendOnly);
        ids.offer("7 urn:example:unknown", Direction::SendOnly);
        assert_eq!((ids.mid, ids.audio_level), (Some(4), Some(200)));
        assert_eq!(ids.lines(), [format!("4 {MID}"), format!("200 {AUDIO_LEVEL}")]);
    }

    #[test]
    fn an_id_used_twice_belongs_to_the_first() {
        let mut ids = ExtensionIds::default();
        ids.offer(&format!("4 {MID}"), Direction::SendOnly);
        ids.offer(&format!("4 {RID}"), Direction::SendOnly);
        ids.offer(&format!("5 {MID}"), Direction::SendOnly);
        assert_eq!((ids.mid, ids.rid), (Some(4), None));
    }

    #[test]
    fn unusable_ids_and_directions_are_passed_over() {
        let mut ids = ExtensionIds::default();
        for value in ["0 ", "256 ", "4096 ", "-1 ", "x ", "3/recvonly ", "3/inactive ", "3/up "] {
            ids.offer(&format!("{value}{MID}"), Direction::SendOnly);
        }
        ids.offer("3", Direction::SendOnly);
        assert_eq!(ids, ExtensionIds::default());
    }
}
