//! Why the media plane dropped something. Each reason is a label of `relay_drop_total`; what it means to whoever
//! runs a relay is in docs/media.md, and a test of relay-node holds the table there against this list.

/// Makes the enum, the list of all and the labels out of one list, so that none can lack a reason.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])+ $reason:ident = $label:literal,)+) => {
        /// Why something was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
        #[error("dropped: {}", self.label())]
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
        }
    };
}

drop_reasons! {
    /// No request of STUN, from an address that belongs to no session.
    UnknownSource = "unknown_source",
    /// Neither STUN, DTLS, RTP nor RTCP, from the address of a session (RFC 7983).
    UnknownDatagram = "unknown_datagram",
    /// STUN without a username that can be read: it names no session.
    StunNoUsername = "stun_no_username",
    /// STUN for no session of this relay.
    StunUnknownUfrag = "stun_unknown_ufrag",
    /// Not a STUN message (RFC 8489 section 5).
    StunMalformed = "stun_malformed",
    /// STUN, but no Binding.
    StunMethod = "stun_method",
    /// The CRC of FINGERPRINT is wrong (RFC 8489 section 14.7).
    StunFingerprint = "stun_fingerprint",
    /// An answer to no check of ours.
    StunResponse = "stun_response",
    /// The username of other credentials.
    StunUsername = "stun_username",
    /// No MESSAGE-INTEGRITY: unauthenticated.
    StunNoIntegrity = "stun_no_integrity",
    /// MESSAGE-INTEGRITY was made with another password.
    StunIntegrity = "stun_integrity",
    /// It met a defect, and its session ended by that.
    SessionPanicked = "session_panicked",
    /// STUN or DTLS for a session that is over.
    SessionClosed = "session_closed",
    /// DTLS from an address without an authenticated check.
    DtlsUnvalidated = "dtls_unvalidated",
    /// DTLS before we, as client, said hello.
    DtlsEarly = "dtls_early",
    /// No DTLS record in it.
    DtlsMalformed = "dtls_malformed",
    /// A chunk that makes no sense.
    SctpMalformed = "sctp_malformed",
    /// A stream that was not negotiated.
    SctpStream = "sctp_stream",
    /// Too much that never becomes a message.
    SctpUnfinished = "sctp_unfinished",
    /// RTP from a listener, or before DTLS is done.
    RtpUnexpected = "rtp_unexpected",
    /// RTCP before DTLS is done.
    RtcpUnexpected = "rtcp_unexpected",
    /// Not RTP.
    RtpMalformed = "rtp_malformed",
    /// Padding that is longer than the payload.
    RtpMalformedPadding = "rtp_malformed_padding",
    /// Nothing in it.
    RtpEmptyPayload = "rtp_empty_payload",
    /// Longer than a packet may be.
    RtpTooLarge = "rtp_too_large",
    /// Of no track of the answer, by SSRC, mid and payload type; or of no encoding, by SSRC and rid.
    RtpUnknownSource = "rtp_unknown_source",
    /// Of a track of the answer, with a payload type that is not.
    RtpUnknownPayloadType = "rtp_unknown_payload_type",
    /// Of an SSRC that the track is not taken from.
    RtpOtherSource = "rtp_other_source",
    /// A retransmission of what nobody misses.
    RtpRepeat = "rtp_repeat",
    /// The tag of SRTP is wrong.
    SrtpAuthentication = "srtp_authentication",
    /// It came before, or is older than the replay window.
    SrtpReplay = "srtp_replay",
    /// RTCP that does not authenticate, or came before.
    Srtcp = "srtcp",
    /// Transport-wide feedback that cannot be read, or tells of more packets than there can be.
    FeedbackMalformed = "feedback_malformed",
    /// In the ring already, a lap too late, or of a source that was replaced.
    Stale = "stale",
    /// The listener does not know the codec that the publisher sends.
    CodecNotNegotiated = "codec_not_negotiated",
    /// A NACK for what the ring no longer has or never had, or the listener never got.
    RepairNotThere = "repair_not_there",
    /// A NACK beyond what a listener may have repaired, or its path has room for.
    RepairBudget = "repair_budget",
    /// A NACK for what was repaired a moment ago.
    RepairOnItsWay = "repair_on_its_way",
    /// No Opus packet: the rungs of its stage conceal it.
    LadderUndecodable = "ladder_undecodable",
    /// It came when the rungs of its stage had concealed it, or twice.
    LadderLate = "ladder_late",
    /// Its stage sends more sound than plays in that time.
    LadderTooFast = "ladder_too_fast",
}
