//! SRTP and SRTCP of one session (RFC 3711, RFC 7714): seals what is sent and opens what is looked at.

use bytes::BytesMut;
use rtc_crypto::RTCCrypto;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use crate::error::Error;

/// The keys of both directions.
pub struct Secrets {
    local: Context,
    remote: Context,
}

impl Secrets {
    /// Cuts the keys out of what DTLS exports: client key, server key, client salt, server salt (RFC 5764 section 4.2).
    /// We are the client.
    pub(super) fn new(
        profile: u16,
        export: impl FnOnce(usize) -> Result<Vec<u8>, Error>,
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, Error> {
        let profile = [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80]
            .into_iter()
            .find(|known| *known as u16 == profile)
            .ok_or_else(|| rtc_shared::error::Error::Other("no SRTP profile was agreed on".to_owned()))?;
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let material = export(2 * (key + salt))?;
        let part = |from: usize, length: usize| material.get(from..from + length).unwrap_or_default();
        let context = |key_at, salt_at| {
            Context::new(part(key_at, key), part(salt_at, salt), profile, None, None, crypto)
        };
        Ok(Secrets { local: context(0, 2 * key)?, remote: context(key, 2 * key + salt)? })
    }

    /// Seals an RTP packet.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when it is none.
    pub fn seal_rtp(&mut self, packet: &[u8]) -> Result<BytesMut, Error> {
        Ok(self.local.encrypt_rtp(packet)?)
    }

    /// Seals a compound RTCP packet.
    ///
    /// # Errors
    /// [`Error::Webrtc`] when it is none.
    pub fn seal_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, Error> {
        Ok(self.local.encrypt_rtcp(packet)?)
    }

    /// Opens an RTP packet; `None` if it is not the relay's.
    pub fn open_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.remote.decrypt_rtp(packet).ok()
    }

    /// Opens a compound RTCP packet; `None` if it is not the relay's.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.remote.decrypt_rtcp(packet).ok()
    }
}
