//! SRTP and SRTCP (RFC 3711, RFC 7714): keys, sealing, opening, replay windows.
//!
//! Owns one direction of one session each; what is in a packet is the business of `rtp` and `rtcp`.
//! A [`Sealer`] takes the packet index from its caller: whoever numbers the packets answers for never
//! using one (SSRC, index) pair for two different plaintexts, because that would break GCM.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    constant_time::verify_slices_are_equal,
    hmac,
    iv::FixedLength,
};
use thiserror::Error;

use crate::rtp;
pub use crate::transport::SrtpProfile;

impl SrtpProfile {
    const CM_TAG_LEN: usize = 10;
    const GCM_TAG_LEN: usize = 16;

    /// Octets that sealing adds to an RTP packet.
    pub fn rtp_overhead(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm => Self::GCM_TAG_LEN,
            SrtpProfile::Aes128CmSha1_80 => Self::CM_TAG_LEN,
        }
    }

    /// Octets that sealing adds to an RTCP packet: the tag, and the word with the E flag and the index.
    pub fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
    }
}

/// Why a packet was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// Shorter than a header and a tag.
    #[error("packet is too short")]
    Short,
    /// The tag does not match: forged, damaged, or of another session.
    #[error("authentication failed")]
    Authentication,
    /// Seen before (RFC 3711 section 3.3.2).
    #[error("replayed packet")]
    Replay,
    /// Authentic, and older than the replay window: replayed, or the numbers jumped back.
    #[error("packet older than the replay window")]
    Behind,
    /// The peer uses more SSRCs than a session may have.
    #[error("too many sources")]
    Sources,
    /// The master key or salt has the wrong length.
    #[error("key material has the wrong length")]
    Key,
}

enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    /// Boxed: ten times as large as the other, and the exception.
    Cm(Box<CounterMode>),
}

struct CounterMode {
    key: EncryptingKey,
    salt: [u8; 14],
    auth: hmac::Key,
}

impl Cipher {
    fn new(profile: SrtpProfile, key: &[u8], salt: &[u8], labels: Labels) -> Result<Cipher, SrtpError> {
        if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
            return Err(SrtpError::Key);
        }
        let mut session_key = [0; 16];
        derive(key, salt, labels.encryption, &mut session_key)?;
        match profile {
            SrtpProfile::AeadAes128Gcm => {
                let mut session_salt = [0; 12];
                derive(key, salt, labels.salt, &mut session_salt)?;
                let key = UnboundKey::new(&AES_128_GCM, &session_key).map_err(|_| SrtpError::Key)?;
                Ok(Cipher::Gcm { key: LessSafeKey::new(key), salt: session_salt })
            }
            SrtpProfile::Aes128CmSha1_80 => {
                let mut session_salt = [0; 14];
                derive(key, salt, labels.salt, &mut session_salt)?;
                let mut auth = [0; 20];
                derive(key, salt, labels.authentication, &mut auth)?;
                Ok(Cipher::Cm(Box::new(CounterMode {
                    key: counter_key(&session_key)?,
                    salt: session_salt,
                    auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth),
                })))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

const RTP_LABELS: Labels = Labels { encryption: 0, authentication: 1, salt: 2 };
const RTCP_LABELS: Labels = Labels { encryption: 3, authentication: 4, salt: 5 };

/// Key derivation of RFC 3711 section 4.3 with a key derivation rate of 0. A salt of 12 octets is used
/// as if two zero octets followed it (RFC 7714 section 11).
fn derive(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Result<(), SrtpError> {
    let mut iv = [0; 16];
    iv[..salt.len()].copy_from_slice(salt);
    iv[7] ^= label;
    out.fill(0);
    let mut key_bytes = [0; 16];
    key_bytes.copy_from_slice(key);
    keystream(&counter_key(&key_bytes)?, iv, out);
    Ok(())
}

fn counter_key(key: &[u8; 16]) -> Result<EncryptingKey, SrtpError> {
    UnboundCipherKey::new(&AES_128, key).and_then(EncryptingKey::ctr).map_err(|_| SrtpError::Key)
}

/// Encrypts or decrypts in place: in counter mode the two are the same.
fn keystream(key: &EncryptingKey, iv: [u8; 16], in_out: &mut [u8]) {
    key.less_safe_encrypt(in_out, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("counter mode takes any length and this key a 128-bit iv");
}

fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut iv = [0; 12];
    iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
    iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    for (byte, salt) in iv.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Nonce::assume_unique_for_key(iv)
}

fn counter_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(salt);
    for (byte, ssrc) in iv[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
        *byte ^= ssrc;
    }
    for (byte, index) in iv[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *byte ^= index;
    }
    iv
}

fn sha1_80(auth: &hmac::Key, parts: [&[u8]; 2]) -> [u8; SrtpProfile::CM_TAG_LEN] {
    let mut context = hmac::Context::with_key(auth);
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; SrtpProfile::CM_TAG_LEN];
    tag.copy_from_slice(&context.sign().as_ref()[..SrtpProfile::CM_TAG_LEN]);
    tag
}

/// The sending direction of a session.
pub struct Sealer {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_index: u32,
}

impl Sealer {
    /// A sealer for the direction that these master keys protect.
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

    /// Seals a compound RTCP packet of at least 8 octets; the index counts up by itself.
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

/// A browser with audio, video, two retransmission streams and simulcast stays far below this.
const MAX_SOURCES: usize = 32;
/// A publisher that changes its SSRC each second gets so far in 18 hours. Octets: about 1.5 million.
const MAX_FORMER: usize = 65_536;
/// Listeners send reports from one SSRC or two.
const MAX_FORMER_OF_LISTENER: usize = 256;

impl Opener {
    /// An opener for the direction that these master keys protect.
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
    pub fn for_listener(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Opener, SrtpError> {
        let mut opener = Opener::new(profile, key, salt)?;
        opener.rtp_sources = Windows::new(0);
        opener.rtcp_sources = Windows::new(MAX_FORMER_OF_LISTENER);
        Ok(opener)
    }

    /// Opens an RTP packet and appends the plain payload (padding included) to `out`, so that the
    /// payload lands where it stays. On an error `out` is as it was.
    pub fn open_rtp(
        &mut self,
        packet: &[u8],
        header: &rtp::Header,
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
        header: &rtp::Header,
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

    /// Opens a compound RTCP packet into a new buffer.
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

/// The replay windows of a peer's sources. The newest have a window each; of those before them the highest
/// index is remembered for as long as the keys live, so that nothing they sent is ever taken again.
struct Windows {
    recent: BTreeMap<u32, ReplayWindow>,
    former: BTreeMap<u32, u64>,
    former_max: usize,
    uses: u64,
}

impl Windows {
    fn new(former_max: usize) -> Windows {
        Windows { recent: BTreeMap::new(), former: BTreeMap::new(), former_max, uses: 0 }
    }

    fn window(&self, ssrc: u32) -> ReplayWindow {
        if let Some(window) = self.recent.get(&ssrc) {
            return *window;
        }
        match self.former.get(&ssrc) {
            Some(highest) => ReplayWindow { highest: Some(*highest), seen: u128::MAX, used: 0 },
            None => ReplayWindow::default(),
        }
    }

    /// True if this source is known, or can be remembered as long as it has to be.
    fn has_room(&self, ssrc: u32) -> bool {
        self.recent.len() < MAX_SOURCES
            || self.recent.contains_key(&ssrc)
            || self.former.len() < self.former_max
            || self.former.contains_key(&ssrc)
    }

    /// Remembers an authenticated packet: only such a one may make a source known.
    fn admit(&mut self, ssrc: u32, index: u64) {
        self.uses += 1;
        if !self.recent.contains_key(&ssrc) {
            self.make_room();
            let window = match self.former.remove(&ssrc) {
                Some(highest) => ReplayWindow { highest: Some(highest), seen: u128::MAX, used: 0 },
                None => ReplayWindow::default(),
            };
            self.recent.insert(ssrc, window);
        }
        if let Some(window) = self.recent.get_mut(&ssrc) {
            window.admit(index);
            window.used = self.uses;
        }
    }

    /// The source that was silent for longest keeps only its highest index.
    fn make_room(&mut self) {
        if self.recent.len() < MAX_SOURCES {
            return;
        }
        let oldest = self.recent.iter().min_by_key(|(_, window)| window.used).map(|(ssrc, _)| *ssrc);
        if let Some((ssrc, window)) = oldest.and_then(|ssrc| self.recent.remove_entry(&ssrc)) {
            self.former.insert(ssrc, window.highest.unwrap_or_default());
        }
    }
}

/// What an index is to a replay window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Fresh,
    Seen,
    Old,
}

/// RFC 3711 section 3.3.2 with a window of 128 packets.
#[derive(Debug, Clone, Copy, Default)]
struct ReplayWindow {
    highest: Option<u64>,
    seen: u128,
    /// Which use of the keys was its last.
    used: u64,
}

impl ReplayWindow {
    /// The most likely index of a packet with this sequence number (RFC 3711 appendix A).
    fn guess(&self, sequence: u16) -> u64 {
        match self.highest {
            None => u64::from(sequence),
            Some(highest) => rtp::extend(highest, sequence),
        }
    }

    fn standing(&self, index: u64) -> Standing {
        match self.highest.and_then(|highest| highest.checked_sub(index)) {
            None => Standing::Fresh,
            Some(age) if age >= 128 => Standing::Old,
            Some(age) if self.seen & (1 << age) == 0 => Standing::Fresh,
            Some(_) => Standing::Seen,
        }
    }

    fn admit(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => self.seen |= 1 << (highest - index),
            Some(highest) => {
                let step = index - highest;
                self.seen = if step < 128 { self.seen << step } else { 0 } | 1;
                self.highest = Some(index);
            }
            None => (self.highest, self.seen) = (Some(index), 1),
        }
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
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};

    use super::*;

    const PROFILES: [(SrtpProfile, ProtectionProfile); 2] = [
        (SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        (SrtpProfile::Aes128CmSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ];
    const KEY: [u8; 16] = [3; 16];

    fn salt(profile: SrtpProfile) -> Vec<u8> {
        (0..profile.salt_len() as u8).collect()
    }

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 111, 0, 0, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet.extend((0..300).map(|i| i as u8));
        packet
    }

    fn seal(sealer: &Sealer, sequence: u16, index: u64) -> Vec<u8> {
        let mut buffer = packet(sequence);
        let len = buffer.len();
        buffer.resize(len + 16, 0);
        let sealed = sealer.seal_rtp(&mut buffer, 12, len, 0xdead_beef, index);
        buffer.truncate(sealed);
        buffer
    }

    fn open(opener: &mut Opener, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let header = rtp::Header::parse(sealed).expect("an RTP header");
        let mut out = BytesMut::new();
        opener.open_rtp(sealed, &header, &mut out).map(|()| out.to_vec())
    }

    #[test]
    fn key_derivation_agrees_with_rfc_3711_appendix_b3() {
        let key = hex::decode("E1F97A0D3E018BE0D64FA32C06DE4139").expect("hex");
        let salt = hex::decode("0EC675AD498AFEEBB6960B3AABE6").expect("hex");
        let mut out = [0; 16];
        derive(&key, &salt, 0, &mut out).expect("derives");
        assert_eq!(hex::encode_upper(out), "C61E7A93744F39EE10734AFE3FF7A087");
        let mut out = [0; 14];
        derive(&key, &salt, 2, &mut out).expect("derives");
        assert_eq!(hex::encode_upper(out), "30CBBC08863D8C85D49DB34A9AE1");
    }

    #[test]
    fn both_profiles_agree_with_an_independent_implementation() {
        let provider = rtc_crypto::default_provider().expect("a crypto provider");
        for (profile, theirs) in PROFILES {
            let salt = salt(profile);
            let context =
                || Context::new(&KEY, &salt, theirs, None, None, provider.crypto()).expect("a context");
            let (mut their_sender, mut their_receiver) = (context(), context());
            let mut sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
            let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
            // across the rollover of the sequence number
            for (index, sequence) in (65_530_u64..65_545).map(|index| (index, index as u16)) {
                let plain = packet(sequence);
                let sealed = their_sender.encrypt_rtp(&plain).expect("they seal");
                assert_eq!(open(&mut opener, &sealed).expect("we open"), plain[12..], "{profile:?}");
                let sealed = seal(&sealer, sequence, index);
                assert_eq!(their_receiver.decrypt_rtp(&sealed).expect("they open"), plain, "{profile:?}");
            }
            let report = [0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 202, 0, 2, 1, 2, 3, 4, 1, 1, b'x', 0];
            let sealed = their_sender.encrypt_rtcp(&report).expect("they seal");
            assert_eq!(opener.open_rtcp(&sealed).expect("we open"), report);
            let sealed = sealer.seal_rtcp(&report);
            assert_eq!(their_receiver.decrypt_rtcp(&sealed).expect("they open")[..], report);
        }
    }

    #[test]
    fn a_replayed_or_damaged_packet_is_refused() {
        for (profile, _) in PROFILES {
            let salt = salt(profile);
            let mut sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
            let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
            let sealed = seal(&sealer, 7, 7);
            let mut damaged = sealed.clone();
            damaged[40] ^= 1;
            assert_eq!(open(&mut opener, &damaged), Err(SrtpError::Authentication));
            assert!(open(&mut opener, &sealed).is_ok());
            assert_eq!(open(&mut opener, &sealed), Err(SrtpError::Replay));
            assert!(open(&mut opener, &seal(&sealer, 5, 5)).is_ok(), "late but new");
            assert!(open(&mut opener, &seal(&sealer, 200, 200)).is_ok());
            assert_eq!(open(&mut opener, &seal(&sealer, 6, 6)), Err(SrtpError::Behind), "too old to tell");
            let report = sealer.seal_rtcp(&[0x80, 201, 0, 1, 1, 2, 3, 4]);
            assert!(opener.open_rtcp(&report).is_ok());
            assert_eq!(opener.open_rtcp(&report), Err(SrtpError::Replay));
        }
    }

    fn seal_of(sealer: &Sealer, ssrc: u32, index: u64) -> Vec<u8> {
        let mut buffer = packet(index as u16);
        buffer[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let len = buffer.len();
        buffer.resize(len + 16, 0);
        let sealed = sealer.seal_rtp(&mut buffer, 12, len, ssrc, index);
        buffer.truncate(sealed);
        buffer
    }

    #[test]
    fn sources_without_number_are_heard_and_none_of_them_can_be_replayed() {
        for (profile, _) in PROFILES {
            let salt = salt(profile);
            let sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
            let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
            let sent: Vec<Vec<u8>> = (0..1000).map(|ssrc| seal_of(&sealer, ssrc, 70_000)).collect();
            // An index above 65,535 cannot be the first of a source: begin each before that.
            for ssrc in 0..1000 {
                assert!(open(&mut opener, &seal_of(&sealer, ssrc, 65_000)).is_ok(), "source {ssrc}");
                assert!(open(&mut opener, &sent[ssrc as usize]).is_ok(), "source {ssrc}");
            }
            for (ssrc, packet) in (0..).zip(&sent) {
                assert!(open(&mut opener, packet).is_err(), "replayed {ssrc}");
                assert!(open(&mut opener, &seal_of(&sealer, ssrc, 69_990)).is_err() || ssrc >= 968, "{ssrc}");
            }
            assert!(open(&mut opener, &seal_of(&sealer, 3, 70_001)).is_ok(), "it comes back and goes on");
        }
    }

    #[test]
    fn a_listener_has_few_sources() {
        let (profile, _) = PROFILES[0];
        let salt = salt(profile);
        let mut sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
        let mut opener = Opener::for_listener(profile, &KEY, &salt).expect("keys");
        let mut report = |ssrc: u32| {
            let [a, b, c, d] = ssrc.to_be_bytes();
            sealer.seal_rtcp(&[0x80, 201, 0, 1, a, b, c, d])
        };
        let taken = (0..1000).filter(|ssrc| opener.open_rtcp(&report(*ssrc)).is_ok()).count();
        assert_eq!(taken, MAX_SOURCES + MAX_FORMER_OF_LISTENER);
    }

    #[test]
    fn numbers_that_jumped_back_are_told_from_forgeries() {
        for (profile, _) in PROFILES {
            let salt = salt(profile);
            let sealer = Sealer::new(profile, &KEY, &salt).expect("keys");
            let mut opener = Opener::new(profile, &KEY, &salt).expect("keys");
            assert!(open(&mut opener, &seal_of(&sealer, 7, 60_000)).is_ok());
            for back in [200, 9000, 40_000, 59_999] {
                let mut behind = seal_of(&sealer, 7, 60_000 - back);
                assert_eq!(open(&mut opener, &behind), Err(SrtpError::Behind), "{back}");
                behind[40] ^= 1;
                assert_eq!(open(&mut opener, &behind), Err(SrtpError::Authentication), "{back}");
            }
            assert!(open(&mut opener, &seal_of(&sealer, 7, 60_001)).is_ok());
        }
    }

    proptest! {
        #[test]
        fn opening_junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (profile, _) in PROFILES {
                let mut opener = Opener::new(profile, &KEY, &salt(profile)).expect("keys");
                if let Ok(header) = rtp::Header::parse(&junk) {
                    prop_assert!(opener.open_rtp(&junk, &header, &mut BytesMut::new()).is_err());
                }
                prop_assert!(opener.open_rtcp(&junk).is_err());
            }
        }
    }
}
