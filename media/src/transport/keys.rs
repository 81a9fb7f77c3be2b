//! The SRTP keys that a DTLS handshake leaves behind (RFC 5764). Owns profile and key order; sealing and
//! opening packets with them is `srtp`'s business.

use std::fmt;

/// An SRTP protection profile this relay speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM (RFC 7714): preferred, four times cheaper than the other.
    AeadAes128Gcm,
    /// AES128_CM_HMAC_SHA1_80 (RFC 5764): all that ffmpeg and GStreamer offer.
    Aes128CmSha1_80,
}

impl SrtpProfile {
    /// Bytes of one master key.
    pub const fn key_len(self) -> usize {
        16
    }

    /// Bytes of one master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm => 12,
            SrtpProfile::Aes128CmSha1_80 => 14,
        }
    }

    /// The one to use of those a client offered, by their numbers in the IANA registry.
    pub(super) fn choose(offered: impl IntoIterator<Item = u16>) -> Option<SrtpProfile> {
        let mut choice = None;
        for number in offered {
            match number {
                0x0007 => return Some(SrtpProfile::AeadAes128Gcm),
                0x0001 => choice = Some(SrtpProfile::Aes128CmSha1_80),
                _ => {}
            }
        }
        choice
    }
}

/// The four secrets of a session, each for one direction. One owner per SRTP context: a nonce used twice
/// under one key breaks GCM.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// Which algorithms the keys are for.
    pub profile: SrtpProfile,
    /// Seals what we send.
    pub local_key: Vec<u8>,
    /// Belongs to `local_key`.
    pub local_salt: Vec<u8>,
    /// Opens what the peer sends.
    pub remote_key: Vec<u8>,
    /// Belongs to `remote_key`.
    pub remote_salt: Vec<u8>,
}

impl SrtpKeys {
    /// Bytes to export for a profile.
    pub(super) fn material_len(profile: SrtpProfile) -> usize {
        2 * (profile.key_len() + profile.salt_len())
    }

    /// Cuts exported material: client key, server key, client salt, server salt (RFC 5764 section 4.2).
    pub(super) fn cut(profile: SrtpProfile, material: &[u8], we_are_client: bool) -> Option<SrtpKeys> {
        if material.len() != Self::material_len(profile) {
            return None;
        }
        let (keys, salts) = material.split_at(2 * profile.key_len());
        let (client_key, server_key) = keys.split_at(profile.key_len());
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let (local, remote) = if we_are_client {
            ((client_key, client_salt), (server_key, server_salt))
        } else {
            ((server_key, server_salt), (client_key, client_salt))
        };
        Some(SrtpKeys {
            profile,
            local_key: local.0.to_vec(),
            local_salt: local.1.to_vec(),
            remote_key: remote.0.to_vec(),
            remote_salt: remote.1.to_vec(),
        })
    }
}

impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_and_server_cut_the_same_material_crosswise() {
        for profile in [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmSha1_80] {
            let material: Vec<u8> = (0..SrtpKeys::material_len(profile)).map(|i| i as u8).collect();
            let client = SrtpKeys::cut(profile, &material, true).unwrap();
            let server = SrtpKeys::cut(profile, &material, false).unwrap();
            assert_eq!((&client.local_key, &client.local_salt), (&server.remote_key, &server.remote_salt));
            assert_eq!((&client.remote_key, &client.remote_salt), (&server.local_key, &server.local_salt));
            assert_eq!(client.local_key[0], 0);
            assert_eq!(server.local_key[0], 16);
            assert_eq!(client.local_salt[0], 32);
            assert!(SrtpKeys::cut(profile, &material[1..], true).is_none());
        }
    }

    #[test]
    fn gcm_wins_whatever_the_order() {
        assert_eq!(SrtpProfile::choose([1, 7]), Some(SrtpProfile::AeadAes128Gcm));
        assert_eq!(SrtpProfile::choose([7, 1]), Some(SrtpProfile::AeadAes128Gcm));
        assert_eq!(SrtpProfile::choose([2, 1]), Some(SrtpProfile::Aes128CmSha1_80));
        assert_eq!(SrtpProfile::choose([2, 8]), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = SrtpKeys::cut(SrtpProfile::AeadAes128Gcm, &[0xab; 56], true).unwrap();
        assert!(!format!("{keys:?}").contains("171"));
    }
}
