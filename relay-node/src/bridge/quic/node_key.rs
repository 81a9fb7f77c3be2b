//! Who this relay is: an ed25519 key in the data directory, made at the first start.
//! The public half is the node id; what the key proves to a neighbor is in `tls.rs`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::{
    hmac,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use mesh_routing::Keys;
use protocol::NodeId;
use quinn::rustls::{
    crypto::aws_lc_rs::sign::any_eddsa_type,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use crate::storage::atomic_file;

const FILE: &str = "node.key";
/// The key before it.
const OLD: &str = "node.key.old";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there and holds something else.
    #[error("{path} is not an ed25519 key in PKCS#8; restore it, or remove it and be a new relay")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// No key could be made.
    #[error("cannot make an ed25519 key: the system gives no randomness")]
    NoRandomness,
}

/// The relay's key pair.
pub struct Identity {
    node_id: NodeId,
    pair: Arc<Ed25519KeyPair>,
    certified: Arc<CertifiedKey>,
    reset_key: hmac::Key,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?})", self.node_id)
    }
}

impl Identity {
    /// Reads `node.key` in `dir`, or makes the directory and the key.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Io`] if the file cannot be read or made, [`IdentityError::NotAKey`] if it holds
    /// something else, [`IdentityError::NoRandomness`] if no key can be made.
    pub fn load_or_create(dir: &Path) -> Result<Identity, IdentityError> {
        let path = dir.join(FILE);
        let pkcs8 = match fs::read(&path) {
            Ok(pkcs8) => pkcs8,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let pair = Ed25519KeyPair::generate().map_err(|_| IdentityError::NoRandomness)?;
                let pkcs8 = pair.to_pkcs8().map_err(|_| IdentityError::NoRandomness)?.as_ref().to_vec();
                atomic_file::write(&path, &pkcs8, atomic_file::SECRET)
                    .map_err(|source| IdentityError::Io { path: path.clone(), source })?;
                pkcs8
            }
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        Identity::from_pkcs8(&pkcs8).ok_or(IdentityError::NotAKey { path })
    }

    /// Makes a new key in `dir`. The one that was there is kept as `node.key.old`.
    ///
    /// # Errors
    ///
    /// As [`Identity::load_or_create`].
    pub fn renew(dir: &Path) -> Result<Identity, IdentityError> {
        let path = dir.join(FILE);
        match fs::rename(&path, dir.join(OLD)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(IdentityError::Io { path, source })
            }
            _ => Identity::load_or_create(dir),
        }
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Option<Identity> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let node_id = NodeId(pair.public_key().as_ref().try_into().ok()?);
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).ok()?;
        let spki = CertificateDer::from(key.public_key()?.as_ref().to_vec());
        // A signature over a fixed text is as secret as the key and the same after every start.
        let reset_secret = pair.sign(b"peddlenet stateless reset key 1");
        Some(Identity {
            node_id,
            pair: Arc::new(pair),
            certified: Arc::new(CertifiedKey::new(vec![spki], key)),
            reset_key: hmac::Key::new(hmac::HMAC_SHA256, reset_secret.as_ref()),
        })
    }

    /// The public key.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// What the mesh signs and checks with.
    pub fn keys(&self) -> Arc<dyn Keys> {
        Arc::new(MeshKeys(self.node_id, self.pair.clone()))
    }

    /// The raw public key and its signer, as rustls takes them.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// The key of stateless resets (RFC 9000 section 10.3). It outlives the process, so a neighbor
    /// learns from the first packet it sends to a restarted relay that the old connection is gone.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        self.reset_key.clone()
    }

    /// The key by which this relay tells its own connection ids from others, also after a restart.
    pub(crate) fn connection_id_key(&self) -> u64 {
        let tag = hmac::sign(&self.reset_key, b"peddlenet connection ids 1");
        tag.as_ref().iter().take(8).fold(0, |key, octet| key << 8 | u64::from(*octet))
    }
}

/// Every text the mesh signs begins with a context of its own: none is that of a TLS handshake (RFC 8446
/// section 4.4.3 begins with 64 spaces) or the stateless reset key.
struct MeshKeys(NodeId, Arc<Ed25519KeyPair>);

impl std::fmt::Debug for MeshKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MeshKeys({:?})", self.0)
    }
}

impl Keys for MeshKeys {
    fn node_id(&self) -> NodeId {
        self.0
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.1.sign(message).as_ref().try_into().expect("an ed25519 signature has 64 bytes")
    }

    fn verify(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, signer.0).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_identity_outlives_a_restart_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Identity::load_or_create(&data).unwrap();
        let second = Identity::load_or_create(&data).unwrap();
        assert_eq!(first.node_id(), second.node_id());
        assert_eq!(fs::metadata(data.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_relay_signs_only_its_id_has_signed() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = Identity::load_or_create(dir.path()).unwrap().keys();
        let other = Identity::load_or_create(other.path()).unwrap().keys();
        let signature = keys.sign(b"hello");
        assert!(other.verify(&keys.node_id(), b"hello", &signature));
        assert!(!other.verify(&keys.node_id(), b"hullo", &signature));
        assert!(!other.verify(&other.node_id(), b"hello", &signature));
    }

    #[test]
    fn junk_in_the_key_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"junk").unwrap();
        assert!(matches!(Identity::load_or_create(dir.path()), Err(IdentityError::NotAKey { .. })));
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"junk");
    }
}
