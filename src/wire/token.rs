//! Access tokens: stateless, so that any instance can verify one without a table.
//!
//! ```text
//! body  = version(1) ‖ be64(buin) ‖ be64(expiry) ‖ nonce(12) ‖ app id
//! token = base64url(body ‖ HMAC-SHA256(HKDF(app's AES key), body))
//! ```
//!
//! The key is derived from the app's AES key, so a rotation of the AES key invalidates every token.
//! The lookup of the app refuses the tokens of a disabled app.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hkdf::Hkdf;
use hmac::digest::Key;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::AesKey;

const FORMAT_VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const HEADER_BYTES: usize = 1 + 8 + 8 + NONCE_BYTES;
const MAC_BYTES: usize = 32;
/// A token is accepted for this time longer than `expireIn` says, in seconds. Clients use a token
/// up to and including its last second, and their clocks and requests are a little late.
pub const TOKEN_GRACE: i64 = 60;
/// A longer text is not a token of Muster, because an app id has at most 64 characters.
const MAX_TOKEN_LEN: usize = 256;

/// The content of a token, before its signature is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenClaims {
    /// The enterprise.
    pub buin: i64,
    /// The app.
    pub app_id: String,
    /// The end of the validity that `expireIn` states, in Unix seconds. The token is accepted for
    /// [`TOKEN_GRACE`] seconds longer.
    pub expires_at: i64,
    body: Vec<u8>,
    mac: [u8; MAC_BYTES],
}

/// The reason why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token was not made with this key.
    #[error("access token does not exist")]
    Forged,
    /// The token was made with this key, but has expired.
    #[error("access token expired")]
    Expired,
}

/// Issues and verifies the tokens of one app.
#[derive(Clone)]
pub struct TokenKey {
    mac: Hmac<Sha256>,
}

impl TokenKey {
    /// Derives the token key from the app's AES key.
    #[must_use]
    pub fn derive(key: &AesKey) -> Self {
        let mut derived = Key::<Hmac<Sha256>>::default();
        let derive = Hkdf::<Sha256>::new(None, key.bytes());
        // HKDF-SHA256 gives up to 255 blocks of 32 bytes, so two blocks cannot fail.
        let _ = derive.expand(b"muster access token 1", &mut derived);
        Self { mac: Hmac::new(&derived) }
    }

    /// A new token for `app_id` of `buin`, valid until the Unix second `expires_at`.
    #[must_use]
    pub fn issue(&self, buin: i64, app_id: &str, expires_at: i64) -> String {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let mut token = Vec::with_capacity(HEADER_BYTES + app_id.len() + MAC_BYTES);
        token.push(FORMAT_VERSION);
        token.extend_from_slice(&buin.to_be_bytes());
        token.extend_from_slice(&expires_at.to_be_bytes());
        token.extend_from_slice(&nonce);
        token.extend_from_slice(app_id.as_bytes());
        let mac = self.mac.clone().chain_update(&token).finalize().into_bytes();
        token.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Checks that the claims were made with this key and are accepted at the Unix second `now`. The
    /// duration does not depend on the content of a forged token.
    ///
    /// # Errors
    /// [`TokenError::Forged`] or [`TokenError::Expired`].
    pub fn check(&self, claims: &TokenClaims, now: i64) -> Result<(), TokenError> {
        let mac = self.mac.clone().chain_update(&claims.body);
        mac.verify_slice(&claims.mac).map_err(|_| TokenError::Forged)?;
        if !claims.is_accepted_at(now) {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}

impl TokenClaims {
    /// Whether the token has not expired at the Unix second `now`, the grace included.
    #[must_use]
    pub fn is_accepted_at(&self, now: i64) -> bool {
        now <= self.expires_at.saturating_add(TOKEN_GRACE)
    }

    /// Reads a token without verifying it; `None` if the text does not have the form of a token.
    #[must_use]
    pub fn decode(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let mut body = URL_SAFE_NO_PAD.decode(token).ok()?;
        let mac = body.split_off(body.len().checked_sub(MAC_BYTES)?);
        let mac = mac.try_into().ok()?;
        if *body.first()? != FORMAT_VERSION {
            return None;
        }
        let number = |at: usize| Some(i64::from_be_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let buin = number(1)?;
        let expires_at = number(9)?;
        let app_id = std::str::from_utf8(body.get(HEADER_BYTES..)?).ok()?.to_owned();
        Some(Self { buin, app_id, expires_at, body, mac })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn token_holds_app_and_expiry() {
        let key = TokenKey::derive(&AesKey::generate());
        let token = key.issue(14_731_009, "yd0123", 2_000);
        let safe = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(token.chars().all(safe));
        let claims = TokenClaims::decode(&token).unwrap();
        assert_eq!((claims.buin, claims.app_id.as_str()), (14_731_009, "yd0123"));
        for now in [1_999, 2_000, 2_060] {
            assert_eq!(key.check(&claims, now), Ok(()), "{now}");
        }
        assert_eq!(key.check(&claims, 2_061), Err(TokenError::Expired));
        assert_ne!(key.issue(14_731_009, "yd0123", 2_000), token);
    }

    #[test]
    fn token_of_another_key_is_refused() {
        let token = TokenKey::derive(&AesKey::generate()).issue(1, "a", 2_000);
        let other = TokenKey::derive(&AesKey::generate());
        assert_eq!(other.check(&TokenClaims::decode(&token).unwrap(), 0), Err(TokenError::Forged));
    }

    #[test]
    fn flipped_bits_are_detected() {
        let key = TokenKey::derive(&AesKey::generate());
        let bytes = URL_SAFE_NO_PAD.decode(key.issue(1, "app", 2_000)).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            if let Some(claims) = TokenClaims::decode(&URL_SAFE_NO_PAD.encode(forged)) {
                assert_eq!(key.check(&claims, 0), Err(TokenError::Forged), "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,300}") {
            let _ = TokenClaims::decode(&text);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = TokenClaims::decode(&URL_SAFE_NO_PAD.encode(bytes));
        }
    }
}
