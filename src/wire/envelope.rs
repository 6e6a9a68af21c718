//! Sealing and opening messages.
//!
//! ```text
//! plain  = random(16) ‖ be32(len(msg)) ‖ msg ‖ utf8(app id)
//! padded = PKCS#7 to a multiple of 32
//! cipher = AES-256-CBC(key, iv = key[0..16])
//! text   = standard base64 with padding
//! ```
//!
//! The surprise: the first block is random and is not read. Some clients encrypt with an IV that
//! they never send, which garbles exactly this block.
//!
//! CBC has no MAC, so an attacker who learns the reason of a failure learns about the plaintext.
//! [`Envelope::open`] therefore runs all checks on every message and has a single error.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, InnerIvInit as _, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeGreater as _};

use super::AesKey;

const AES_BLOCK: usize = 16;
/// The block size of the PKCS#7 padding, twice the block of the cipher.
const PADDING_BLOCK: usize = 32;
/// The offset of the message, after the random block and the length.
const MESSAGE_OFFSET: usize = AES_BLOCK + 4;

/// Seals and opens the messages of one app. The key schedule is computed once.
#[derive(Clone)]
pub struct Envelope {
    cipher: Aes256,
    iv: [u8; AES_BLOCK],
    app_id: Box<str>,
}

/// A message that cannot be opened. The reason stays secret, as the module documentation explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be opened with this app's key")]
pub struct OpenError;

impl Envelope {
    /// The envelope of the app `app_id`.
    #[must_use]
    pub fn new(key: &AesKey, app_id: &str) -> Self {
        let mut iv = [0; AES_BLOCK];
        iv.copy_from_slice(&key.bytes()[..AES_BLOCK]);
        Self { cipher: Aes256::new(key.bytes().into()), iv, app_id: app_id.into() }
    }

    /// Whether both seal with the same key for the same app.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        // The IV is half of the key.
        self.iv == other.iv && self.app_id == other.app_id
    }

    /// Seals `message`.
    #[must_use]
    pub fn seal(&self, message: &[u8]) -> String {
        let mut sealed = String::new();
        self.seal_into(&mut sealed, message);
        sealed
    }

    /// Seals `message`, and appends the text to `out`.
    pub fn seal_into(&self, out: &mut String, message: &[u8]) {
        let noise: [u8; AES_BLOCK] = rand::random();
        let mut plain =
            Vec::with_capacity(MESSAGE_OFFSET + message.len() + self.app_id.len() + PADDING_BLOCK);
        plain.extend_from_slice(&noise);
        // A message is about as large as its session, far below 4 GiB.
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(message);
        plain.extend_from_slice(self.app_id.as_bytes());
        let padding = PADDING_BLOCK - plain.len() % PADDING_BLOCK;
        // The padding is 1 to 32, so it fits.
        plain.resize(plain.len() + padding, u8::try_from(padding).unwrap_or_default());

        let blocks = plain.len();
        let encryptor = cbc::Encryptor::inner_iv_init(&self.cipher, &self.iv.into());
        // Encryption of whole blocks without padding cannot fail.
        if let Ok(sealed) = encryptor.encrypt_padded::<NoPadding>(&mut plain, blocks) {
            STANDARD.encode_string(sealed, out);
        }
    }

    /// Opens a message that was sealed for this app.
    ///
    /// # Errors
    /// [`OpenError`], for every reason.
    pub fn open(&self, text: &str) -> Result<String, OpenError> {
        // A check of the length may fail early, because an attacker sees the length anyway.
        let mut plain = STANDARD.decode(text).map_err(|_| OpenError)?;
        if plain.is_empty() || !plain.len().is_multiple_of(PADDING_BLOCK) {
            return Err(OpenError);
        }
        let decryptor = cbc::Decryptor::inner_iv_init(&self.cipher, &self.iv.into());
        let decrypted = decryptor.decrypt_padded::<NoPadding>(&mut plain).is_ok();

        let (message_end, is_valid) = self.message_end(&plain);
        plain.truncate(message_end);
        plain.drain(..MESSAGE_OFFSET);
        match (decrypted & bool::from(is_valid), String::from_utf8(plain)) {
            (true, Ok(message)) => Ok(message),
            _ => Err(OpenError),
        }
    }

    /// The end of the message in `plain`, and whether padding, length and suffix are valid. All
    /// checks always run; if the lengths are wrong, the message is empty.
    fn message_end(&self, plain: &[u8]) -> (usize, Choice) {
        // A body is at most 1 GiB (`limits.max_body_bytes`), so all lengths fit into u32.
        let end = to_u32(plain.len());
        let padding = plain[plain.len() - 1];
        let mut is_valid = !padding.ct_eq(&0) & !padding.ct_gt(&32);
        for (from_end, byte) in (1_u8..=32).zip(plain.iter().rev()) {
            let in_padding = !from_end.ct_gt(&padding);
            is_valid &= !in_padding | byte.ct_eq(&padding);
        }

        let app_id = self.app_id.as_bytes();
        let head = to_u32(MESSAGE_OFFSET);
        let mut length = [0; 4];
        length.copy_from_slice(&plain[AES_BLOCK..MESSAGE_OFFSET]);
        let length = u32::from_be_bytes(length);
        // The suffix must begin here, so that suffix and padding fill the rest exactly.
        let suffix_len = u32::from(padding) + to_u32(app_id.len());
        let suffix_start = end.wrapping_sub(suffix_len);
        is_valid &=
            !suffix_len.ct_gt(&(end - head)) & length.ct_eq(&suffix_start.wrapping_sub(head));

        let suffix_start = u32::conditional_select(&head, &suffix_start, is_valid) as usize;
        let mut same = Choice::from(1);
        for (at, byte) in app_id.iter().enumerate() {
            same &= plain.get(suffix_start + at).unwrap_or(&0).ct_eq(byte);
        }
        (suffix_start, is_valid & same)
    }
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("envelope_vectors.json")).unwrap()
    }

    fn envelope(vectors: &Value) -> Envelope {
        let key = AesKey::from_base64(vectors["key"].as_str().unwrap()).unwrap();
        Envelope::new(&key, vectors["appId"].as_str().unwrap())
    }

    #[test]
    fn envelopes_of_other_implementations_open() {
        let vectors = vectors();
        let envelope = envelope(&vectors);
        let good = vectors["good"].as_array().unwrap();
        assert!(!good.is_empty());
        for vector in good {
            let opened = envelope.open(vector["encrypt"].as_str().unwrap());
            assert_eq!(opened.as_deref(), Ok(vector["plain_utf8"].as_str().unwrap()), "{vector}");
        }
    }

    #[test]
    fn all_invalid_envelopes_give_the_same_error() {
        let vectors = vectors();
        let envelope = envelope(&vectors);
        let bad = vectors["bad"].as_array().unwrap();
        assert!(!bad.is_empty());
        for vector in bad {
            let opened = envelope.open(vector["encrypt"].as_str().unwrap());
            assert_eq!(opened, Err(OpenError), "{vector}");
        }
    }

    /// Encrypts a plaintext unchanged, so that a test can make messages that a correct client never
    /// sends.
    fn encrypt(envelope: &Envelope, mut plain: Vec<u8>) -> String {
        let length = plain.len();
        let encryptor = cbc::Encryptor::inner_iv_init(&envelope.cipher, &envelope.iv.into());
        STANDARD.encode(encryptor.encrypt_padded::<NoPadding>(&mut plain, length).unwrap())
    }

    #[test]
    fn non_utf8_message_gives_the_same_error() {
        let envelope = Envelope::new(&AesKey::generate(), "app");
        let mut plain = vec![0; 16];
        plain.extend([0, 0, 0, 2, 0xff, 0xfe]);
        plain.extend(b"app");
        let padding = 32 - plain.len() % 32;
        plain.resize(plain.len() + padding, u8::try_from(padding).unwrap());
        assert_eq!(envelope.open(&encrypt(&envelope, plain)), Err(OpenError));
    }

    #[test]
    fn every_wrong_padding_is_refused() {
        let envelope = Envelope::new(&AesKey::generate(), "app");
        for claimed in 0..=255_u8 {
            let mut plain = vec![7; 16];
            plain.extend([0, 0, 0, 1, b'x']);
            plain.extend(b"app");
            plain.resize(32, 8);
            plain[31] = claimed;
            let opened = envelope.open(&encrypt(&envelope, plain));
            assert_eq!(opened.is_ok(), claimed == 8, "padding {claimed}");
        }
    }

    proptest! {
        #[test]
        fn seal_and_open_round_trip(message in ".{0,200}", app_id in "[a-z0-9]{1,40}") {
            let envelope = Envelope::new(&AesKey::generate(), &app_id);
            let sealed = envelope.seal(message.as_bytes());
            prop_assert_eq!(STANDARD.decode(&sealed).unwrap().len() % PADDING_BLOCK, 0);
            prop_assert_eq!(envelope.open(&sealed), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in "\\PC*") {
            let envelope = Envelope::new(&AesKey::new([7; 32]), "app");
            prop_assert_eq!(envelope.open(&text), Err(OpenError));
        }

        #[test]
        fn arbitrary_ciphertext_never_panics(blocks in prop::collection::vec(any::<[u8; 32]>(), 0..8)) {
            let envelope = Envelope::new(&AesKey::new([7; 32]), "app");
            prop_assert_eq!(envelope.open(&STANDARD.encode(blocks.concat())), Err(OpenError));
        }

        #[test]
        fn arbitrary_plaintext_never_panics(
            length in any::<u32>(),
            blocks in prop::collection::vec(any::<[u8; 32]>(), 1..4),
            padding in 0..=40_u8,
        ) {
            let envelope = Envelope::new(&AesKey::new([7; 32]), "app");
            let mut plain = blocks.concat();
            plain[16..20].copy_from_slice(&(length % 200).to_be_bytes());
            let end = plain.len();
            plain[end - usize::from(padding).min(end - 20)..].fill(padding);
            let _ = envelope.open(&encrypt(&envelope, plain));
        }
    }
}
