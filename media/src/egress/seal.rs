//! One packet as a listener gets it: header, extensions, payload, padding, sealed into a batch.

use std::net::SocketAddr;

use super::{batch::Batch, red::Copies};
use crate::rtp::{
    self,
    descriptor::{
        av1::Seam,
        numbered::{Given, Numbered},
    },
    elements::Elements,
    red,
    srtp::Sealer,
};

/// The header of a packet that leaves.
#[derive(Debug)]
pub struct Header {
    /// As the listener knows the codec, or its retransmissions.
    pub payload_type: u8,
    /// The last packet of a picture.
    pub marker: bool,
    /// Ours, or that of our retransmissions.
    pub ssrc: u32,
    /// Its low 16 bits are the sequence number.
    pub index: u64,
    /// In units of the codec's clock.
    pub timestamp: u32,
    /// The original sequence number, in a retransmission.
    pub original: Option<u16>,
    /// Header extensions.
    pub elements: Elements,
}

/// What a packet carries beside the header.
#[derive(Debug)]
pub struct Body<'a> {
    /// As it stands in the ring.
    pub payload: &'a [u8],
    /// Written over the payload: the numbers of its picture.
    pub numbers: Option<(&'a Numbered, Given)>,
    /// How it goes on behind what was before.
    pub seam: Seam,
    /// Octets of padding.
    pub padding: u8,
    /// What goes before the payload.
    pub red: Option<Wrapped<'a>>,
}

/// A packet that carries others along (RFC 2198).
#[derive(Debug, Clone, Copy)]
pub struct Wrapped<'a> {
    /// The payload type of the whole.
    pub red: u8,
    /// That of the packet, and of those that it carries.
    pub payload_type: u8,
    /// What it carries.
    pub copies: &'a Copies,
}

impl Wrapped<'_> {
    /// Octets before the payload.
    pub fn octets(self) -> usize {
        red::octets(self.copies.blocks(self.payload_type))
    }
}

impl Body<'_> {
    /// Octets before the payload.
    pub fn carried(&self) -> usize {
        self.red.map_or(0, Wrapped::octets)
    }
}

/// Seals a packet for the listener at `to`; gives its length.
pub fn seal(header: &Header, body: &Body<'_>, sealer: &Sealer, to: SocketAddr, batch: &mut Batch) -> usize {
    let extension = header.elements.block_len();
    let header_len = rtp::FIXED_LEN + extension;
    let original = header.original.map(u16::to_be_bytes);
    let original = original.as_ref().map_or(&[][..], |octets| octets);
    let payload_len = body.payload.len() + body.seam.octets();
    let carried = body.carried();
    let plain_len = header_len + original.len() + carried + payload_len + usize::from(body.padding);
    let sealed_len = plain_len + sealer.profile().rtp_overhead();
    batch.push(to, sealed_len, |out| {
        out[0] = 0x80 | u8::from(body.padding > 0) << 5 | u8::from(extension > 0) << 4;
        let payload_type = body.red.map_or(header.payload_type, |wrapped| wrapped.red);
        out[1] = u8::from(header.marker) << 7 | payload_type;
        out[2..4].copy_from_slice(&(header.index as u16).to_be_bytes());
        out[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
        header.elements.write(&mut &mut out[rtp::FIXED_LEN..header_len]);
        let (first, rest) = out[header_len..plain_len].split_at_mut(original.len());
        first.copy_from_slice(original);
        let (before, rest) = rest.split_at_mut(carried);
        if let Some(wrapped) = body.red {
            red::write(wrapped.copies.blocks(wrapped.payload_type), wrapped.payload_type, before);
        }
        let (copy, pad) = rest.split_at_mut(payload_len);
        if body.seam == Seam::default() {
            copy.copy_from_slice(body.payload);
        } else {
            body.seam.write(body.payload, copy);
        }
        if let Some((numbered, given)) = body.numbers {
            numbered.write(copy, given);
        }
        if let Some((count, zeros)) = pad.split_last_mut() {
            zeros.fill(0);
            *count = body.padding;
        }
        sealer.seal_rtp(out, header_len, plain_len, header.ssrc, header.index);
    });
    sealed_len
}
