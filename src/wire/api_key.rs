//! API keys: `msk_` and 43 random characters, shown once and stored as a hash.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// A secret that lets its holder act as an app.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The SHA-256 of a key. A key has 256 random bits, so no salt and no slow hash are needed, and the
/// timing of a lookup by hash reveals nothing.
pub type ApiKeyHash = [u8; 32];

impl ApiKey {
    /// The prefix of every key.
    pub const PREFIX: &str = "msk_";

    /// A new key from the random numbers of the operating system.
    #[must_use]
    pub fn generate() -> Self {
        let secret: [u8; 32] = rand::random();
        let mut text = String::from(Self::PREFIX);
        URL_SAFE_NO_PAD.encode_string(secret, &mut text);
        Self(text)
    }

    /// Accepts a text with the prefix of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.starts_with(Self::PREFIX).then(|| Self(text.to_owned()))
    }

    /// The hash, which is stored instead of the key.
    #[must_use]
    pub fn hash(&self) -> ApiKeyHash {
        Sha256::digest(&self.0).into()
    }

    /// The secret key, to be shown once.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_a_prefix_and_is_never_printed() {
        let key = ApiKey::generate();
        assert_eq!(key.reveal().len(), 47);
        assert_eq!(ApiKey::parse(key.reveal()).unwrap().hash(), key.hash());
        assert_eq!(ApiKey::parse("sk_x"), None);
        assert!(!format!("{key:?}").contains(key.reveal()));
        assert_ne!(ApiKey::generate(), ApiKey::generate());
    }
}
