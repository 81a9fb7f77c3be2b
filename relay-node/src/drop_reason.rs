//! Why the relay dropped something, outside of the media plane. Each reason is a label of `relay_drop_total`; what it
//! means to whoever runs a relay is in docs/media.md, and a test holds the table there against this list. What the
//! cores drop they name themselves: `media::DropReason`, `MeshError::reason`.

use mesh_routing::MeshError;
use metrics::{Counter, counter};

/// Makes the enum, the list of all, the labels and the counters out of one list, so that none can lack a reason.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])+ $reason:ident = $label:literal,)+) => {
        /// Why something was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[$doc])+ $reason,)+
        }

        impl DropReason {
            /// Every reason there is.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$reason,)+];

            /// Its label in `relay_drop_total`.
            pub fn label(self) -> &'static str {
                match self {
                    $(DropReason::$reason => $label,)+
                }
            }

            /// Its counter. Looking it up takes a lock: where packets pass it is kept.
            pub fn counter(self) -> Counter {
                // Of words that are in the program the key of a counter is too.
                match self {
                    $(DropReason::$reason => counter!("relay_drop_total", "reason" => $label),)+
                }
            }
        }
    };
}

drop_reasons! {
    /// The kernel would not send.
    SendRefused = "send_refused",
    /// A worker is overloaded: its inputs wait.
    WorkerQueueFull = "worker_queue_full",
    /// The ladder is overloaded: its inputs wait.
    LadderQueueFull = "ladder_queue_full",
    /// A keyframe request for a track for which one waits for the node loop already.
    NodeQueueFull = "node_queue_full",
    /// A record of the data directory that cannot be read, or is not what was written there.
    StoreUnreadable = "store_unreadable",
    /// Too many jobs wait for the disk of files.
    FilesQueueFull = "files_queue_full",
    /// The disk would not take a chunk of a file.
    FileNotKept = "file_not_kept",
    /// A message beyond what a participant may say.
    ChatTooFast = "chat_too_fast",
    /// A message beyond what an address may say.
    ChatAddressTooFast = "chat_address_too_fast",
    /// A message beyond the rooms that an address may begin.
    ChatRoomsTooFast = "chat_rooms_too_fast",
    /// A log that gave way to one written later.
    LogGaveWay = "log_gave_way",
    /// A log that found no place.
    LogFull = "log_full",
    /// Records of a neighbor that brings too many at once.
    LogQuota = "log_quota",
    /// Records that their writer did not sign, among others that it did sign.
    LogBadRecord = "log_bad_record",
    /// Records that came back to a relay they had passed.
    LogLooped = "log_looped",
    /// A WebSocket that fell too far behind.
    ParticipantTooSlow = "participant_too_slow",
    /// What happens to data channels while too much of that waits.
    ChannelQueueFull = "channel_queue_full",
    /// Messages of a data channel that come faster than they are taken.
    ChannelTooFast = "channel_too_fast",
    /// A message of a data channel that is longer than its label takes, or than what a peer takes.
    ChannelTooLong = "channel_too_long",
    /// A message of a data channel that nobody serves.
    ChannelUnknown = "channel_unknown",
    /// A message of `files/1` that is no frame, or not for the relay.
    FileFrameMalformed = "file_frame_malformed",
    /// Bytes of a file that nobody asked for.
    FileChunkUnasked = "file_chunk_unasked",
    /// Bytes of a file that do not fit their hash.
    FileChunkWrong = "file_chunk_wrong",
    /// No place for a data channel.
    ChannelRefused = "channel_refused",
    /// A message for a data channel that had no room for it.
    ChannelUnsent = "channel_unsent",
    /// Neither a canonical packet nor a sender clock, from a link.
    LinkMalformed = "link_malformed",
    /// A datagram of a link that is too short or makes no sense.
    BridgeMalformed = "bridge_malformed",
    /// A packet for a track that never was in the table, or not yet.
    BridgeUnknownAlias = "bridge_unknown_alias",
    /// A packet for a track that is not wanted here any more: the neighbor has not heard of it yet.
    BridgeTrackLeft = "bridge_track_left",
    /// A datagram of a kind that a later version has.
    BridgeUnknownDatagram = "bridge_unknown_datagram",
    /// A field of a hello that a later version has.
    BridgeUnknownHelloField = "bridge_unknown_hello_field",
    /// A message that a later version has, passed on.
    BridgeUnknownPassedOn = "bridge_unknown_passed_on",
    /// A field behind a message that a later version has.
    BridgeUnknownField = "bridge_unknown_field",
    /// A field of a record of link-state that a later version has, kept and passed on.
    LsaUnknownField = "lsa_unknown_field",
    /// A record about a topic that a later version has, kept and passed on.
    LogUnknownTopic = "log_unknown_topic",
    /// A link sequence that was seen before.
    BridgeDuplicate = "bridge_duplicate",
    /// A link sequence that is too far behind.
    BridgeTooOld = "bridge_too_old",
    /// Another feed of the track brought the packet first.
    BridgeSecondFeed = "bridge_second_feed",
    /// Lost on a link, and not repaired in time.
    BridgeRepairLate = "bridge_repair_late",
    /// A connection that had not become a link, for one of somebody else.
    BridgeHandshakeGaveWay = "bridge_handshake_gave_way",
    /// A connection while those that had not become links took all places.
    BridgeHandshakeRefused = "bridge_handshake_refused",
    /// The link is too thin.
    BridgeQueueFull = "bridge_queue_full",
    /// The link is too thin: sound that had waited too long.
    BridgeTooLate = "bridge_too_late",
    /// The link is too thin: higher layers of a picture.
    BridgeShedLayers = "bridge_shed_layers",
    /// The link is too thin: a picture up to its next keyframe.
    BridgeShedPictures = "bridge_shed_pictures",
    /// Parity that makes no sense, or would bring back what no relay sends.
    BridgeParityMalformed = "bridge_parity_malformed",
    /// Parity of packets that never came near, or are long gone.
    BridgeParityAbsent = "bridge_parity_absent",
    /// The link has no room for parity.
    BridgeParityShed = "bridge_parity_shed",
    /// Longer than the path takes.
    BridgeTooLarge = "bridge_too_large",
    /// The link just went down.
    BridgeLinkDown = "bridge_link_down",
    /// A neighbor does not read its messages.
    BridgeOutboxFull = "bridge_outbox_full",
    /// A connection ended for somebody else's.
    ConnectionGaveWay = "connection_gave_way",
    /// No place for a connection.
    ConnectionRefused = "connection_refused",
    /// A WebSocket ended for somebody else's.
    WebsocketGaveWay = "websocket_gave_way",
    /// No place for a WebSocket.
    WebsocketRefused = "websocket_refused",
    /// A stream of events ended for somebody else's.
    EventsGaveWay = "events_gave_way",
    /// No place for a stream of events.
    EventsRefused = "events_refused",
    /// A session ended for somebody else's.
    SessionGaveWay = "session_gave_way",
    /// No place for a session.
    SessionRefused = "session_refused",
    /// An upload ended for somebody else's.
    UploadGaveWay = "upload_gave_way",
    /// No place for an upload.
    UploadRefused = "upload_refused",
    /// An upload that was begun and left.
    UploadExpired = "upload_expired",
    /// A download ended for somebody else's.
    DownloadGaveWay = "download_gave_way",
    /// No place for a download.
    DownloadRefused = "download_refused",
    /// A long answer ended for somebody else's.
    AnswerGaveWay = "answer_gave_way",
    /// No place for a long answer.
    AnswerRefused = "answer_refused",
    /// A body that trickled, or an answer that was not read.
    ClientTooSlow = "client_too_slow",
    /// Addresses that asked least, when too many were counted.
    RateForgotten = "rate_forgotten",
    /// Too many requests wait for the node loop.
    AskQueueFull = "ask_queue_full",
    /// Too many records wait for the disk.
    StoreQueueFull = "store_queue_full",
    /// The disk refused a record.
    StoreFailed = "store_failed",
}

impl DropReason {
    /// One was dropped.
    pub fn count(self) {
        self.count_all(1);
    }

    /// So many were dropped.
    pub fn count_all(self, dropped: u64) {
        self.counter().increment(dropped);
    }
}

/// A message that the mesh did not take.
pub fn count_message(error: &MeshError) {
    counter!("relay_drop_total", "reason" => error.reason()).increment(1);
}

/// So many messages that the mesh passed over since the start: it counts them itself, because nobody is to blame.
pub fn count_unknown_messages(all: u64) {
    counter!("relay_drop_total", "reason" => MeshError::Unknown.reason()).absolute(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!("../../docs/media.md");

    /// The labels in the first column of the table below this heading.
    fn labels(heading: &str) -> Vec<&'static str> {
        let (_, section) = MANUAL.split_once(heading).expect("a heading of the manual");
        let (section, _) = section.split_once("\n#").expect("not the last heading");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
        rows.flat_map(|(first, _)| first.split('`').step_by(2)).collect()
    }

    #[test]
    fn every_reason_is_in_the_manual_and_every_one_there_is_a_reason() {
        let own = DropReason::ALL.iter().map(|reason| reason.label());
        let elsewhere: Vec<&str> = own.chain(MeshError::REASONS.iter().copied()).collect();
        let media: Vec<&str> = media::DropReason::ALL.iter().map(|reason| reason.label()).collect();
        let mut all = Vec::new();
        for (heading, mut known) in [
            ("\n### Dropped by the media plane\n", media),
            ("\n### Dropped elsewhere in the relay\n", elsewhere),
        ] {
            let mut told = labels(heading);
            told.sort_unstable();
            known.sort_unstable();
            assert_eq!(told, known);
            all.extend(known);
        }
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "a label twice");
    }

    #[test]
    fn what_is_counted_has_its_label() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            DropReason::ALL.iter().for_each(|reason| reason.count());
            DropReason::SendRefused.count_all(2);
            count_message(&MeshError::Malformed);
        });
        let text = recorder.handle().render();
        for reason in DropReason::ALL {
            let times = if *reason == DropReason::SendRefused { 3 } else { 1 };
            let line = format!("relay_drop_total{{reason=\"{}\"}} {times}\n", reason.label());
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains("relay_drop_total{reason=\"malformed\"} 1\n"), "{text}");
    }
}
