//! The ciphers of both profiles: session keys out of master keys, nonces out of packet numbers, tags. Knows no
//! packet and no number it has seen; that none is used twice is for whoever numbers the packets.

use aws_lc_rs::{
    aead::{AES_128_GCM, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    hmac,
    iv::FixedLength,
};

use super::{error::SrtpError, profile::SrtpProfile};

pub(super) enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    /// Boxed: ten times as large as the other, and the exception.
    Cm(Box<CounterMode>),
}

pub(super) struct CounterMode {
    pub(super) key: EncryptingKey,
    pub(super) salt: [u8; 14],
    pub(super) auth: hmac::Key,
}

impl Cipher {
    pub(super) fn new(
        profile: SrtpProfile,
        key: &[u8],
        salt: &[u8],
        labels: Labels,
    ) -> Result<Cipher, SrtpError> {
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
pub(super) struct Labels {
    encryption: u8,
    authentication: u8,
    salt: u8,
}

/// RFC 3711 section 4.3.1; those of SRTCP are in section 4.3.2.
pub(super) const RTP_LABELS: Labels = Labels { encryption: 0, authentication: 1, salt: 2 };
pub(super) const RTCP_LABELS: Labels = Labels { encryption: 3, authentication: 4, salt: 5 };

/// Key derivation of RFC 3711 section 4.3 with a key derivation rate of 0. A salt of 12 octets is used
/// as if two zero octets followed it (RFC 7714 section 11).
pub(super) fn derive(key: &[u8], salt: &[u8], label: u8, out: &mut [u8]) -> Result<(), SrtpError> {
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
pub(super) fn keystream(key: &EncryptingKey, iv: [u8; 16], in_out: &mut [u8]) {
    key.less_safe_encrypt(in_out, EncryptionContext::Iv128(FixedLength::from(iv)))
        .expect("counter mode takes any length and this key a 128-bit iv");
}

/// RFC 7714 section 8.1; that of SRTCP in section 9.1 is laid out alike, with its index of 31 bits.
pub(super) fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut iv = [0; 12];
    iv[2..6].copy_from_slice(&ssrc.to_be_bytes());
    iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    for (byte, salt) in iv.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Nonce::assume_unique_for_key(iv)
}

/// RFC 3711 section 4.1.1.
pub(super) fn counter_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
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

/// The first 80 bits of the HMAC (RFC 3711 section 4.2.1).
pub(super) fn sha1_80(auth: &hmac::Key, parts: [&[u8]; 2]) -> [u8; SrtpProfile::CM_TAG_LEN] {
    let mut context = hmac::Context::with_key(auth);
    parts.iter().for_each(|part| context.update(part));
    let mut tag = [0; SrtpProfile::CM_TAG_LEN];
    tag.copy_from_slice(&context.sign().as_ref()[..SrtpProfile::CM_TAG_LEN]);
    tag
}
