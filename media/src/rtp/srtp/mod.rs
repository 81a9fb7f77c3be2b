//! SRTP and SRTCP (RFC 3711, RFC 7714): keys, sealing, opening, replay windows.
//!
//! Owns one direction of one session each; what is in a packet is the business of `rtp` and `rtcp`.
//! A [`Sealer`] takes the packet index from its caller: whoever numbers the packets answers for never
//! using one (SSRC, index) pair for two different plaintexts, because that would break GCM.

mod cipher;
mod error;
mod profile;
mod replay;

use std::fmt;

use aws_lc_rs::{aead::Aad, constant_time::verify_slices_are_equal};

pub use error::SrtpError;
pub use profile::SrtpProfile;

use super::header::Header;
use cipher::{Cipher, CounterMode, RTCP_LABELS, RTP_LABELS, counter_iv, gcm_nonce, keystream, sha1_80};
use replay::{Standing, Windows};

/// The sending direction of a session.
pub struct Sealer {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_index: u32,
}

impl Sealer {
    /// A sealer for the direction that these master keys protect.
    ///
    /// # Errors
    ///
    /// [`SrtpError::Key`]: key or salt has another length than the profile wants.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Sealer, SrtpError> {
        Ok(Sealer {
            profile,
            rtp: Cipher::new(profile, key, salt, RTP_LABELS)?,
            rtcp: Cipher::new(profile, key, salt, RTCP_LABELS)?,
            rtcp_index: 0,
        })
    }

    /// The profile it seals with.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Seals the RTP packet in the first `len` octets of `buffer` in place and gives the sealed length.
    ///
    /// `header_len` counts CSRCs and extension; `index` is the 48-bit packet index (rollover counter and
    /// sequence number). `buffer` has room for [`SrtpProfile::rtp_overhead`] octets more.
    pub fn seal_rtp(&self, buffer: &mut [u8], header_len: usize, len: usize, ssrc: u32, index: u64) -> usize {
        let (packet, rest) = buffer.split_at_mut(len);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let (header, payload) = packet.split_at_mut(header_len);
                let nonce = gcm_nonce(salt, ssrc, index);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)
                    .expect("a datagram is far below the limit of GCM");
                rest[..SrtpProfile::GCM_TAG_LEN].copy_from_slice(tag.as_ref());
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, salt, auth } = &**cm;
                keystream(key, counter_iv(salt, ssrc, index), &mut packet[header_len..]);
                let roc = ((index >> 16) as u32).to_be_bytes();
                rest[..SrtpProfile::CM_TAG_LEN].copy_from_slice(&sha1_80(auth, [packet, &roc]));
            }
        }
        len + self.profile.rtp_overhead()
    }

    /// Seals a compound RTCP packet of at least 8 octets; the index counts up by itself (RFC 3711 section 3.4, RFC
    /// 7714 section 9).
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Vec<u8> {
        debug_assert!(compound.len() >= 8, "an RTCP packet has a header and an SSRC");
        self.rtcp_index = (self.rtcp_index + 1) & 0x7fff_ffff;
        let ssrc = read_u32(compound, 4);
        let word = (0x8000_0000 | self.rtcp_index).to_be_bytes();
        let mut out = Vec::with_capacity(compound.len() + self.profile.rtcp_overhead());
        out.extend_from_slice(compound);
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let mut aad = [0; 12];
                aad[..8].copy_from_slice(&compound[..8]);
                aad[8..].copy_from_slice(&word);
                let nonce = gcm_nonce(salt, ssrc, u64::from(self.rtcp_index));
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[8..])
                    .expect("a datagram is far below the limit of GCM");
                out.extend_from_slice(tag.as_ref());
                out.extend_from_slice(&word);
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, salt, auth } = &**cm;
                keystream(key, counter_iv(salt, ssrc, u64::from(self.rtcp_index)), &mut out[8..]);
                let tag = sha1_80(auth, [&out, &word]);
                out.extend_from_slice(&word);
                out.extend_from_slice(&tag);
            }
        }
        out
    }
}

/// The receiving direction of a session.
pub struct Opener {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_sources: Windows,
    rtcp_sources: Windows,
}

/// A publisher that changes its SSRC each second gets so far in 18 hours. Octets: about 1.5 million.
const MAX_FORMER: usize = 65_536;
/// Listeners send reports from one SSRC or two.
const MAX_FORMER_OF_LISTENER: usize = 256;

impl Opener {
    /// An opener for the direction that these master keys protect.
    ///
    /// # Errors
    ///
    /// [`SrtpError::Key`]: key or salt has another length than the profile wants.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Opener, SrtpError> {
        Ok(Opener {
            profile,
            rtp: Cipher::new(profile, key, salt, RTP_LABELS)?,
            rtcp: Cipher::new(profile, key, salt, RTCP_LABELS)?,
            rtp_sources: Windows::new(MAX_FORMER),
            rtcp_sources: Windows::new(MAX_FORMER),
        })
    }

    /// The profile it opens with.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// As [`Opener::new`] for a peer that sends nothing but reports, which has few sources.
    ///
    /// # Errors
    ///
    /// As those of [`Opener::new`].
    pub fn for_listener(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Opener, SrtpError> {
        let mut opener = Opener::new(profile, key, salt)?;
        opener.rtp_sources = Windows::new(0);
        opener.rtcp_sources = Windows::new(MAX_FORMER_OF_LISTENER);
        Ok(opener)
    }

    /// Opens an RTP packet and appends the plain payload (padding included) to `out`, so that the
    /// payload lands where it stays. On an error `out` is as it was.
    ///
    /// # Errors
    ///
    /// Any but [`SrtpError::Key`]. After [`SrtpError::Sources`] and, if it goes on, [`SrtpError::Behind`] the peer
    /// has to begin a new session.
    pub fn open_rtp(
        &mut self,
        packet: &[u8],
        header: &Header,
        out: &mut impl Extendable,
    ) -> Result<(), SrtpError> {
        let body = packet.len().checked_sub(self.profile.rtp_overhead()).ok_or(SrtpError::Short)?;
        if body < header.header_len {
            return Err(SrtpError::Short);
        }
        let (packet, tag) = packet.split_at(body);
        let window = self.rtp_sources.window(header.ssrc);
        let has_room = self.rtp_sources.has_room(header.ssrc);
        let index = window.guess(header.sequence);
        let standing = window.standing(index);
        if standing == Standing::Seen {
            return Err(SrtpError::Replay);
        }
        let fresh = standing == Standing::Fresh;
        if !self.open_at(index, packet, tag, header, fresh && has_room, out) {
            // Numbers that jumped back by more than half of all look as if they had gone round.
            let before = index.checked_sub(1 << 16).filter(|_| fresh && window.highest.is_some());
            return match before {
                Some(before) if self.open_at(before, packet, tag, header, false, out) => {
                    Err(SrtpError::Behind)
                }
                _ => Err(SrtpError::Authentication),
            };
        }
        if !fresh {
            return Err(SrtpError::Behind);
        }
        if !has_room {
            return Err(SrtpError::Sources);
        }
        self.rtp_sources.admit(header.ssrc, index);
        Ok(())
    }

    /// True if the packet is authentic at this index; its payload is appended if it is to be kept.
    fn open_at(
        &self,
        index: u64,
        packet: &[u8],
        tag: &[u8],
        header: &Header,
        keep: bool,
        out: &mut impl Extendable,
    ) -> bool {
        let (head, ciphertext) = packet.split_at(header.header_len);
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let nonce = gcm_nonce(salt, header.ssrc, index);
                let mut authentic = false;
                out.extend_with(ciphertext.len(), |plain| {
                    authentic =
                        key.open_separate_gather(nonce, Aad::from(head), ciphertext, tag, plain).is_ok();
                    authentic && keep
                });
                authentic
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, salt, auth } = &**cm;
                let roc = ((index >> 16) as u32).to_be_bytes();
                let authentic = verify_slices_are_equal(&sha1_80(auth, [packet, &roc]), tag).is_ok();
                if authentic && keep {
                    let iv = counter_iv(salt, header.ssrc, index);
                    out.extend_with(ciphertext.len(), |plain| {
                        plain.copy_from_slice(ciphertext);
                        keystream(key, iv, plain);
                        true
                    });
                }
                authentic
            }
        }
    }

    /// Opens a compound RTCP packet into a new buffer (RFC 3711 section 3.4, RFC 7714 section 9).
    ///
    /// # Errors
    ///
    /// Any but [`SrtpError::Key`] and [`SrtpError::Behind`]; an older packet than the window has is a replay.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let plain_len = packet.len().checked_sub(self.profile.rtcp_overhead()).ok_or(SrtpError::Short)?;
        if plain_len < 8 {
            return Err(SrtpError::Short);
        }
        let ssrc = read_u32(packet, 4);
        let word_at = match self.profile {
            SrtpProfile::AeadAes128Gcm => packet.len() - 4,
            SrtpProfile::Aes128CmSha1_80 => plain_len,
        };
        let word = &packet[word_at..word_at + 4];
        let encrypted = word[0] & 0x80 != 0;
        let index = u64::from(read_u32(packet, word_at) & 0x7fff_ffff);
        if self.rtcp_sources.window(ssrc).standing(index) != Standing::Fresh {
            return Err(SrtpError::Replay);
        }
        if !self.rtcp_sources.has_room(ssrc) {
            return Err(SrtpError::Sources);
        }
        let mut plain = packet[..plain_len].to_vec();
        match &self.rtcp {
            // An unencrypted SRTCP packet (E = 0) is legal, but no client of the relay sends one: refused.
            _ if !encrypted => return Err(SrtpError::Authentication),
            Cipher::Gcm { key, salt } => {
                let mut aad = [0; 12];
                aad[..8].copy_from_slice(&packet[..8]);
                aad[8..].copy_from_slice(word);
                let (ciphertext, tag) = packet[8..word_at].split_at(plain_len - 8);
                let nonce = gcm_nonce(salt, ssrc, index);
                key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plain[8..])
                    .map_err(|_| SrtpError::Authentication)?;
            }
            Cipher::Cm(cm) => {
                let CounterMode { key, salt, auth } = &**cm;
                let tag = sha1_80(auth, [&packet[..plain_len], word]);
                verify_slices_are_equal(&tag, &packet[plain_len + 4..])
                    .map_err(|_| SrtpError::Authentication)?;
                keystream(key, counter_iv(salt, ssrc, index), &mut plain[8..]);
            }
        }
        self.rtcp_sources.admit(ssrc, index);
        Ok(plain)
    }
}

/// A buffer that grows by what a closure writes into it.
pub trait Extendable {
    /// Appends `len` octets that `fill` writes; takes them back if it answers `false`.
    fn extend_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> bool;
}

impl Extendable for bytes::BytesMut {
    fn extend_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let start = self.len();
        self.resize(start + len, 0);
        let ok = fill(&mut self[start..]);
        if !ok {
            self.truncate(start);
        }
        ok
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
