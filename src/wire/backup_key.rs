//! The signature of a backup's description, made with a key that is derived from a master key.
//!
//! A holder of a backup who does not know the master key cannot change the description unnoticed.
//! The derived key has its own purpose, so a signature reveals nothing about sealed secrets.

use std::fmt;

use hkdf::Hkdf;
use hmac::digest::Key;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::MasterKey;

/// Signs the description of a backup, and verifies such a signature.
#[derive(Clone)]
pub struct BackupKey {
    mac: Hmac<Sha256>,
}

impl BackupKey {
    /// Derives the key from a master key.
    #[must_use]
    pub fn derive(key: &MasterKey) -> Self {
        let mut derived = Key::<Hmac<Sha256>>::default();
        // HKDF-SHA256 gives up to 255 blocks of 32 bytes, so two blocks cannot fail.
        let _ = Hkdf::<Sha256>::new(None, key.bytes()).expand(b"muster backup 1", &mut derived);
        Self { mac: Hmac::new(&derived) }
    }

    /// The signature: HMAC-SHA256 in hexadecimal, 64 characters.
    #[must_use]
    pub fn sign(&self, description: &[u8]) -> String {
        let mac = self.mac.clone().chain_update(description).finalize().into_bytes();
        mac.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether this key made the signature of the description. The duration does not depend on the
    /// signature.
    #[must_use]
    pub fn has_signed(&self, description: &[u8], signature: &str) -> bool {
        self.sign(description).as_bytes().ct_eq(signature.as_bytes()).into()
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_text_verify() {
        let master = MasterKey::new([7; 32]);
        let key = BackupKey::derive(&master);
        let signature = key.sign(b"text");
        assert_eq!(signature.len(), 64);
        assert!(BackupKey::derive(&master).has_signed(b"text", &signature));
        assert!(!key.has_signed(b"tex", &signature));
        assert!(!key.has_signed(b"text", &signature[..63]));
        assert!(!key.has_signed(b"text", ""));
        assert!(!key.has_signed(b"text", &signature.to_uppercase()));
        let other = BackupKey::derive(&MasterKey::new([8; 32]));
        assert!(!other.has_signed(b"text", &signature));
        assert_eq!(format!("{key:?}"), "BackupKey(…)");
    }
}
