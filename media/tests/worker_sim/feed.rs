//! What a publisher sends on one track: numbered packets with the header extensions that were agreed on,
//! and the same again when asked.

use std::collections::BTreeMap;

use media::sdp::{ExtensionIds, IngestTrack};
use protocol::{Codec, Kind};

/// The source of one track.
pub struct Feed {
    pub kind: Kind,
    pub ssrc: u32,
    pub payload_type: u8,
    /// SSRC and payload type of retransmissions, where agreed on.
    pub rtx: Option<(u32, u8)>,
    pub sequence: u16,
    pub timestamp: u32,
    pub audio_level: Option<u8>,
    /// Of several encodings of a picture: its name.
    pub rid: Option<String>,
    /// Whether packets say of which m-line and which encoding they are.
    pub names_itself: bool,
    /// The dependency descriptor of the packets to come.
    pub dependency: Option<Vec<u8>>,
    /// Whether header extensions have two-byte headers.
    pub two_byte: bool,
    extensions: ExtensionIds,
    mid: String,
    rtx_sequence: u16,
    sent: BTreeMap<u16, (u32, bool, Vec<u8>, Vec<u8>)>,
}

impl Feed {
    pub fn new(track: &IngestTrack) -> Feed {
        let codec = &track.codecs[0];
        let (ssrc, rtx_ssrc) = track.ssrcs.first().copied().unwrap_or((77 + track.kind as u32, None));
        Feed {
            kind: track.kind,
            ssrc,
            payload_type: codec.payload_type,
            rtx: rtx_ssrc.zip(codec.rtx),
            sequence: 100,
            timestamp: 1_000_000,
            audio_level: None,
            rid: None,
            names_itself: true,
            dependency: None,
            two_byte: false,
            extensions: track.extensions.clone(),
            mid: track.mid.clone(),
            rtx_sequence: 500,
            sent: BTreeMap::new(),
        }
    }

    /// One of several encodings, with SSRCs that the offer says nothing of.
    pub fn encoding(track: &IngestTrack, at: usize) -> Feed {
        let ssrc = 5000 + 10 * at as u32;
        let rtx = track.codecs[0].rtx.map(|payload_type| (ssrc + 1, payload_type));
        let sequence = 65_000 + 200 * at as u16;
        Feed { ssrc, rtx, sequence, rid: Some(track.rids[at].clone()), ..Feed::new(track) }
    }

    /// From now on in this codec.
    pub fn switch(&mut self, track: &IngestTrack, codec: Codec) {
        let codec = track.codecs.iter().find(|known| known.codec == codec).unwrap();
        self.payload_type = codec.payload_type;
        self.rtx = self.rtx.and_then(|(ssrc, _)| Some((ssrc, codec.rtx?)));
    }

    /// The next packet, plain.
    pub fn packet(&mut self, payload: &[u8], marker: bool, transport_sequence: u16) -> Vec<u8> {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let head = [self.payload_type | u8::from(marker) << 7];
        let plain = self.write(head[0], sequence, self.timestamp, self.ssrc, transport_sequence, payload);
        self.sent.insert(sequence, (self.timestamp, marker, payload.to_vec(), plain.clone()));
        plain
    }

    /// A packet that was sent, once more: as a retransmission where agreed on.
    pub fn again(&mut self, sequence: u16, transport_sequence: u16) -> Option<Vec<u8>> {
        let (timestamp, marker, payload, plain) = self.sent.get(&sequence)?.clone();
        let Some((ssrc, payload_type)) = self.rtx else { return Some(plain) };
        let rtx_sequence = self.rtx_sequence;
        self.rtx_sequence = rtx_sequence.wrapping_add(1);
        let wrapped = [&sequence.to_be_bytes()[..], &payload].concat();
        let head = payload_type | u8::from(marker) << 7;
        Some(self.write(head, rtx_sequence, timestamp, ssrc, transport_sequence, &wrapped))
    }

    /// A source that starts anew, as after a reload.
    pub fn reload(&mut self, ssrc: u32, sequence: u16, timestamp: u32) {
        (self.ssrc, self.sequence, self.timestamp) = (ssrc, sequence, timestamp);
        self.rtx = self.rtx.map(|(_, payload_type)| (ssrc + 1, payload_type));
        self.sent.clear();
    }

    fn write(
        &self,
        head: u8,
        sequence: u16,
        timestamp: u32,
        ssrc: u32,
        transport: u16,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut elements = Vec::new();
        let two_byte = self.two_byte;
        let mut element = |id: Option<u8>, value: &[u8]| match id {
            Some(id) if two_byte => {
                elements.extend([id, value.len() as u8]);
                elements.extend_from_slice(value);
            }
            Some(id) => {
                elements.push(id << 4 | (value.len() - 1) as u8);
                elements.extend_from_slice(value);
            }
            None => {}
        };
        if !self.mid.is_empty() && self.names_itself {
            element(self.extensions.mid, self.mid.as_bytes());
        }
        if let Some(rid) = self.rid.as_ref().filter(|_| self.names_itself) {
            let repeats = self.rtx.is_some_and(|(rtx, _)| rtx == ssrc);
            let id = if repeats { self.extensions.repaired_rid } else { self.extensions.rid };
            element(id, rid.as_bytes());
        }
        element(self.extensions.transport_cc, &transport.to_be_bytes());
        if let Some(level) = self.audio_level {
            element(self.extensions.audio_level, &[level]);
        }
        if let Some(value) = &self.dependency {
            element(self.extensions.dependency, value);
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        let mut out = vec![if elements.is_empty() { 0x80 } else { 0x90 }, head];
        out.extend(sequence.to_be_bytes());
        out.extend(timestamp.to_be_bytes());
        out.extend(ssrc.to_be_bytes());
        if !elements.is_empty() {
            let profile = if self.two_byte { [0x10, 0x00] } else { [0xbe, 0xde] };
            out.extend(profile);
            out.extend([0, (elements.len() / 4) as u8]);
            out.extend(&elements);
        }
        out.extend(payload);
        out
    }
}
