//! The stored form of secrets: sealed with a master key, each for its own place.
//!
//! XChaCha20-Poly1305 has nonces that are long enough to be random. The stored form is
//! `1 ‖ key id (8) ‖ nonce (24) ‖ cipher text ‖ tag (16)`. The bytes before the nonce and the place
//! are authenticated too, so a value that is moved to another row or column does not open. The id
//! of a key is derived from the key, so equal keys have equal ids.

use std::fmt;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

const FORMAT_VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = 1 + ID_BYTES;

/// Identifies the key that sealed a value, and reveals nothing else about the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MasterKeyId([u8; ID_BYTES]);

/// 32 secret bytes that seal other secrets. Wiped on drop, never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey([u8; 32]);

/// The place where a secret is stored.
#[derive(Clone, Copy, Debug)]
pub struct SealContext<'a> {
    /// The table and column; without U+0000.
    pub column: &'static str,
    /// The enterprise of the row.
    pub buin: i64,
    /// The app of the row.
    pub app_id: &'a str,
}

/// The value was altered, or was sealed with another key or for another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("was altered, or belongs elsewhere")]
pub struct UnsealError;

impl MasterKey {
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

    /// The id of the key.
    #[must_use]
    pub fn id(&self) -> MasterKeyId {
        let mut id = [0; ID_BYTES];
        // Fails only for a much longer output.
        let _ = Hkdf::<Sha256>::new(None, &self.0).expand(b"muster master key id", &mut id);
        MasterKeyId(id)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals a secret for its place. Equal secrets have different sealed forms.
    #[must_use]
    pub fn seal(&self, context: SealContext<'_>, secret: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_BYTES + secret.len() + 16);
        sealed.push(FORMAT_VERSION);
        sealed.extend(self.id().0);
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = context.associated_data(&sealed);
        sealed.extend(nonce);
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        // Fails only for secrets of 256 GiB. An empty value never opens.
        let text = cipher.encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &aad });
        sealed.extend(text.unwrap_or_default());
        sealed
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn unseal(
        &self,
        context: SealContext<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
        let (head, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(UnsealError)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(UnsealError)?;
        if head[0] != FORMAT_VERSION || head[1..] != self.id().0 {
            return Err(UnsealError);
        }
        let payload = Payload { msg: text, aad: &context.associated_data(head) };
        let cipher = XChaCha20Poly1305::new(&self.0.into());
        let opened = cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| UnsealError)?;
        Ok(Zeroizing::new(opened))
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({}…)", self.id())
    }
}

impl MasterKeyId {
    /// The id with these stored bytes.
    #[must_use]
    pub fn new(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The key that sealed a stored value; `None` if the value has another form.
    #[must_use]
    pub fn from_sealed(sealed: &[u8]) -> Option<Self> {
        match sealed {
            [FORMAT_VERSION, rest @ ..] => rest.first_chunk().copied().map(Self),
            _ => None,
        }
    }

    /// Parses the text form of an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 2 * ID_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(id.to_be_bytes()))
    }

    /// The stored form.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeyId({self})")
    }
}

impl SealContext<'_> {
    /// Different places give different data: the column has no zero byte, and the number has a
    /// fixed length.
    fn associated_data(self, head: &[u8]) -> Vec<u8> {
        let number = self.buin.to_be_bytes();
        [head, self.column.as_bytes(), &[0], &number, self.app_id.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: SealContext<'static> =
        SealContext { column: "app.aes_key", buin: 7, app_id: "app" };

    #[test]
    fn secret_opens_in_its_own_context_only() {
        let key = MasterKey::generate();
        let sealed = key.seal(HERE, b"secret");
        assert_eq!(*key.unseal(HERE, &sealed).unwrap(), b"secret");
        assert_eq!(MasterKeyId::from_sealed(&sealed), Some(key.id()));
        for other in [
            SealContext { column: "app.callback_token", ..HERE },
            SealContext { column: "app.aes_ke", ..HERE },
            SealContext { buin: 8, ..HERE },
            SealContext { app_id: "apq", ..HERE },
            SealContext { app_id: "app2", ..HERE },
            SealContext { app_id: "", ..HERE },
        ] {
            assert_eq!(key.unseal(other, &sealed), Err(UnsealError), "{other:?}");
        }
        assert_eq!(MasterKey::generate().unseal(HERE, &sealed), Err(UnsealError));
    }

    #[test]
    fn altered_or_truncated_secrets_do_not_open() {
        let key = MasterKey::generate();
        let sealed = key.seal(HERE, b"secret");
        assert_eq!(sealed.len(), 1 + 8 + 24 + 6 + 16);
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut altered = sealed.clone();
                altered[at] ^= 1 << bit;
                assert_eq!(key.unseal(HERE, &altered), Err(UnsealError), "byte {at}, bit {bit}");
            }
            assert_eq!(key.unseal(HERE, &sealed[..at]), Err(UnsealError), "{at} bytes");
        }
        assert_eq!(key.unseal(HERE, &[&sealed[..], &[0]].concat()), Err(UnsealError));
        assert_eq!(MasterKeyId::from_sealed(&sealed[..8]), None);
        assert_eq!(MasterKeyId::from_sealed(&[7; 60]), None);
    }

    #[test]
    fn key_id_does_not_reveal_the_key() {
        let key = MasterKey::new([7; 32]);
        assert_eq!(key.id(), MasterKey::new([7; 32]).id());
        assert_ne!(key.id(), MasterKey::new([8; 32]).id());
        assert_eq!(key.id().to_string().len(), 16);
        assert_eq!(MasterKeyId::parse(&key.id().to_string()), Some(key.id()));
        assert_eq!(MasterKeyId::parse("+123456789abcdef"), None);
        assert_eq!(MasterKeyId::parse("123456789abcdef"), None);
        assert_eq!(format!("{key:?}"), format!("MasterKey({}…)", key.id()));
        assert!(!key.id().to_string().contains("0707"));
    }

    proptest! {
        #[test]
        fn secrets_round_trip_without_showing(
            key: [u8; 32], buin in 1..i64::MAX, app_id in "[A-Za-z0-9._-]{1,64}",
            secret in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = MasterKey::new(key);
            let context = SealContext { buin, app_id: &app_id, ..HERE };
            let sealed = key.seal(context, &secret);
            prop_assert_eq!(&*key.unseal(context, &sealed).unwrap(), &secret);
            prop_assert_ne!(&sealed, &key.seal(context, &secret));
            if secret.len() >= 4 {
                prop_assert!(!sealed.windows(secret.len()).any(|part| part == secret));
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_open(noise in proptest::collection::vec(any::<u8>(), 0..120)) {
            let key = MasterKey::new([3; 32]);
            prop_assert_eq!(key.unseal(HERE, &noise), Err(UnsealError));
            let mut named = vec![FORMAT_VERSION];
            named.extend(key.id().bytes());
            named.extend(noise);
            prop_assert_eq!(key.unseal(HERE, &named), Err(UnsealError));
        }
    }
}
