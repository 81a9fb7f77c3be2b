//! The SRTP keys that a DTLS handshake leaves behind (RFC 5764). Owns the order of the keys; sealing and opening
//! packets with them is `srtp`'s business.

use std::fmt;

use crate::rtp::srtp::SrtpProfile;

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
    fn debug_shows_no_secret() {
        let keys = SrtpKeys::cut(SrtpProfile::AeadAes128Gcm, &[0xab; 56], true).unwrap();
        assert!(!format!("{keys:?}").contains("171"));
    }
}
