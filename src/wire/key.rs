//! The AES key that an app shares with Muster: the vendor's `EncodingAESKey`.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroize;

/// Standard base64 with optional padding: the vendor shows keys with 44 characters, related
/// products with 43.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// 32 secret bytes. Wiped on drop, never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct AesKey([u8; 32]);

/// The text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 bytes in base64 (43 or 44 characters)")]
pub struct InvalidAesKey;

impl AesKey {
    /// The key with these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new key from the random numbers of the operating system.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Parses standard base64 of 32 bytes, with or without padding.
    ///
    /// # Errors
    /// [`InvalidAesKey`] for any other text.
    pub fn from_base64(text: &str) -> Result<Self, InvalidAesKey> {
        let mut bytes = BASE64.decode(text).map_err(|_| InvalidAesKey)?;
        let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InvalidAesKey);
        bytes.zeroize();
        key.map(Self)
    }

    /// Standard base64 with padding, as in the configuration of clients.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.0)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for AesKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for AesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AesKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_parsed_with_any_padding_and_never_printed() {
        let key = AesKey::generate();
        let text = key.to_base64();
        assert_eq!(text.len(), 44);
        assert_eq!(AesKey::from_base64(&text), Ok(key.clone()));
        assert_eq!(AesKey::from_base64(&text[..43]), Ok(key.clone()));
        assert_eq!(AesKey::from_base64(&text[..40]), Err(InvalidAesKey));
        assert_eq!(AesKey::from_base64("@"), Err(InvalidAesKey));
        assert!(!format!("{key:?}").contains(&text[..8]));
    }
}
