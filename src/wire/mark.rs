//! The mark of the messages that Muster seals, by which it refuses them as requests.

use aes::Aes256;
use aes::cipher::BlockCipherEncrypt as _;

/// The block size of the cipher.
pub(super) const AES_BLOCK: usize = 16;
/// The block size of the PKCS#7 padding, twice the block of the cipher.
pub(super) const PADDING_BLOCK: usize = 32;
/// The largest number of bytes of the app id that share a block with the mark. With eleven of them no
/// JSON object fits into a block that an attacker chooses: 4 bytes of length, 1 byte of message.
const APP_ID_BYTES_BESIDE_MARK: usize = 11;
/// The blanks that may follow a JSON value.
const JSON_BLANKS: [u8; 4] = *b" \t\n\r";

/// The blanks at the end of each message that Muster seals for an app. They fill a block together
/// with the beginning of the app id, or with the whole app id and one byte of padding.
///
/// A text that ends with the last blocks of a message of Muster has the mark if it has a block before
/// that of the mark. Two other cases remain. The text may begin with the block of the mark: an
/// attacker who knows the mark could then choose all of this block, so the key chooses the blanks if an
/// object fits beside the app id. The text may begin behind the mark: no object fits there, because
/// the app id has eleven bytes or more.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    bytes: [u8; AES_BLOCK],
    len: usize,
    /// The end of the mark is `remainder` bytes behind a multiple of `unit`.
    unit: usize,
    remainder: usize,
}

impl Mark {
    pub(super) fn new(cipher: &Aes256, app_id: &str) -> Self {
        let mut secret = [0xff; AES_BLOCK].into();
        cipher.encrypt_block(&mut secret);
        let mut bytes: [u8; AES_BLOCK] =
            secret.map(|byte| JSON_BLANKS[usize::from(byte % 4)]).into();
        // No client fills up its messages in such a way.
        let [first, ..] = &mut bytes;
        *first = b'\t';
        let beside = app_id.len().min(APP_ID_BYTES_BESIDE_MARK);
        if app_id.len() < APP_ID_BYTES_BESIDE_MARK {
            let remainder = PADDING_BLOCK - 1 - beside;
            Self { bytes, len: AES_BLOCK - 1 - beside, unit: PADDING_BLOCK, remainder }
        } else {
            let len = AES_BLOCK - beside;
            Self { bytes, len, unit: AES_BLOCK, remainder: len }
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of blanks between a message that ends at `end` and its mark.
    pub(super) fn fill_len(&self, end: usize) -> usize {
        (self.unit + self.remainder - (end + self.len) % self.unit) % self.unit
    }
}
