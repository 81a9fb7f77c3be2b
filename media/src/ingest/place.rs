//! What the SSRCs of a publisher are for: of which track, and whether they repeat. Some are announced, the others are
//! found by what their packets say and remembered. Which of its SSRCs a track is taken from is the business of `source`.

use std::collections::BTreeMap;

use protocol::Codec;

use super::Track;
use crate::{rtp, sdp::IngestTrack};

/// The SSRCs that are announced or were heard.
#[derive(Debug)]
pub(super) struct Places {
    known: BTreeMap<u32, Place>,
}

/// What an SSRC is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Index of the track.
    pub(super) track: usize,
    /// Of which SSRC, where that is known, if it repeats.
    pub(super) repeats: Option<Option<u32>>,
    announced: bool,
}

/// SSRCs whose track is remembered.
const MAX_PLACES: usize = 64;

impl Places {
    /// Those that are announced.
    pub(super) fn new(tracks: &[Track]) -> Places {
        let mut known = BTreeMap::new();
        // Of which encoding an announced SSRC is, the offer does not say.
        for (index, track) in tracks.iter().enumerate().filter(|(_, track)| track.rid.is_none()) {
            for (ssrc, retransmission) in &track.plan.ssrcs {
                known.insert(*ssrc, Place { track: index, repeats: None, announced: true });
                if let Some(repeats) = retransmission {
                    let place = Place { track: index, repeats: Some(Some(*ssrc)), announced: true };
                    known.insert(*repeats, place);
                }
            }
        }
        Places { known }
    }

    /// What a packet's SSRC is for: known by SSRC, else by mid, else by payload type. Where a picture comes in several
    /// encodings, the rid says of which it is (RFC 8852), and nothing else does.
    pub(super) fn find(&self, tracks: &[Track], header: &rtp::Header, sealed: &[u8]) -> Option<Place> {
        if let Some(place) = self.known.get(&header.ssrc) {
            return Some(*place);
        }
        let says = |id: Option<u8>, name: &str| {
            let is_it = |(known, value): (u8, &[u8])| Some(known) == id && value == name.as_bytes();
            !name.is_empty() && header.extensions(sealed).any(is_it)
        };
        let by_mid = tracks.iter().position(|track| says(track.plan.extensions.mid, &track.plan.mid));
        let has_it = |track: &Track| codec_of(&track.plan, header.payload_type).is_some();
        let line = by_mid.or_else(|| tracks.iter().position(has_it))?;
        let (_, form) = codec_of(&tracks[line].plan, header.payload_type)?;
        let retransmission = form == Form::Retransmission;
        let is_named = |track: &Track| {
            let (ids, rid) = (&track.plan.extensions, track.rid.as_deref().unwrap_or_default());
            says(ids.rid, rid) || (retransmission && says(ids.repaired_rid, rid))
        };
        let track = match tracks[line].rid {
            Some(_) => tracks.iter().position(is_named)?,
            None => line,
        };
        let repeats = retransmission.then(|| tracks[track].sources.current());
        Some(Place { track, repeats, announced: false })
    }

    /// Remembers what the SSRC of an authentic packet is for. Those that a track was taken from lately stay
    /// known; the others are found by mid, rid or payload type again, should they come back.
    pub(super) fn learn(&mut self, tracks: &[Track], ssrc: u32, place: Place) {
        if self.known.contains_key(&ssrc) {
            return;
        }
        if self.known.len() >= MAX_PLACES {
            self.known.retain(|ssrc, place| {
                place.announced || tracks.iter().any(|track| track.sources.current() == Some(*ssrc))
            });
        }
        self.known.insert(ssrc, place);
    }
}

/// What is in a packet of a payload type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The codec.
    Plain,
    /// A retransmission.
    Retransmission,
    /// The codec, with copies of packets before.
    Red,
}

/// The codec of a payload type, and in which form.
pub(super) fn codec_of(plan: &IngestTrack, payload_type: u8) -> Option<(Codec, Form)> {
    plan.codecs.iter().find_map(|codec| {
        if codec.payload_type == payload_type {
            Some((codec.codec, Form::Plain))
        } else if codec.rtx == Some(payload_type) {
            Some((codec.codec, Form::Retransmission))
        } else if codec.red == Some(payload_type) {
            Some((codec.codec, Form::Red))
        } else {
            None
        }
    })
}
