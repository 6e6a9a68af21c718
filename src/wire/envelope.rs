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
//! [`Envelope::open`] therefore runs all checks on every message, and [`Opened`] has a single error.
//! A message that opens but is not one JSON object has that error too: the attacker chooses the
//! first bytes of a message with the first block, so the error would tell the bytes after them.
//!
//! An attacker without the key can also put a message together from the blocks of sealed texts.
//! Such a message ends with the last blocks of one of them, and the attacker chooses the whole second
//! block if it knows the plaintext of that block. [`Envelope::seal_outgoing_into`] therefore ends each
//! message of Muster with a [`Mark`], and [`Envelope::open`] refuses a message with a mark.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, InnerIvInit as _, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _, ConstantTimeGreater as _};

use super::mark::{AES_BLOCK, Mark, PADDING_BLOCK};
use super::{AesKey, JsonObject};

/// The offset of the message, after the random block and the length.
const MESSAGE_OFFSET: usize = AES_BLOCK + 4;
/// The first bytes of UTF-8 text from some libraries. They are not part of the message.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Seals and opens the messages of one app. The key schedule is computed once.
#[derive(Clone)]
pub struct Envelope {
    cipher: Aes256,
    iv: [u8; AES_BLOCK],
    app_id: Box<str>,
    mark: Mark,
}

/// A message that cannot be opened, or is not what the call needs. The reason stays secret, as the
/// module documentation explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be opened with this app's key, or is not a JSON object")]
pub struct OpenError;

/// The result of opening a sealed text: the bytes of the message, and whether the text was valid. A
/// caller learns the validity only together with the content, because a separate answer would help an
/// attacker to guess keys or messages.
pub struct Opened {
    message: Vec<u8>,
    is_valid: bool,
}

/// The last block of a sealed text. A text that is made from parts of another one must end with it,
/// because a message ends with the app id and its padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealedFingerprint([u8; AES_BLOCK]);

impl SealedFingerprint {
    /// The fingerprint of a sealed text; `None` if it has only one block.
    #[must_use]
    pub fn from_sealed(text: &str) -> Option<Self> {
        decode(text).get(AES_BLOCK..)?.last_chunk().copied().map(Self)
    }
}

impl Envelope {
    /// The envelope of the app `app_id`.
    #[must_use]
    pub fn new(key: &AesKey, app_id: &str) -> Self {
        let mut iv = [0; AES_BLOCK];
        iv.copy_from_slice(&key.bytes()[..AES_BLOCK]);
        let cipher = Aes256::new(key.bytes().into());
        let mark = Mark::new(&cipher, app_id);
        Self { cipher, iv, app_id: app_id.into(), mark }
    }

    /// Whether both seal with the same key for the same app.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        // The IV is half of the key.
        self.iv == other.iv && self.app_id == other.app_id
    }

    /// Seals `message` as a client does, without the mark of Muster.
    #[must_use]
    pub fn seal(&self, message: &[u8]) -> String {
        let mut sealed = String::new();
        self.encrypt_into(&mut sealed, message, &[]);
        sealed
    }

    /// Seals a JSON message of Muster.
    #[must_use]
    pub fn seal_outgoing(&self, json: &[u8]) -> String {
        let mut sealed = String::new();
        self.seal_outgoing_into(&mut sealed, json);
        sealed
    }

    /// Seals a JSON message of Muster, and appends the text to `out`.
    pub fn seal_outgoing_into(&self, out: &mut String, json: &[u8]) {
        let mut end = [b' '; PADDING_BLOCK + AES_BLOCK];
        let fill = self.mark.fill_len(MESSAGE_OFFSET + json.len());
        let end_len = fill + self.mark.len();
        end[fill..end_len].copy_from_slice(self.mark.bytes());
        self.encrypt_into(out, json, &end[..end_len]);
    }

    fn encrypt_into(&self, out: &mut String, message: &[u8], end: &[u8]) {
        let noise: [u8; AES_BLOCK] = rand::random();
        let message_len = message.len() + end.len();
        let mut plain =
            Vec::with_capacity(MESSAGE_OFFSET + message_len + self.app_id.len() + PADDING_BLOCK);
        plain.extend_from_slice(&noise);
        // A message is about as large as its session, far below 4 GiB.
        let length = u32::try_from(message_len).unwrap_or(u32::MAX);
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(message);
        plain.extend_from_slice(end);
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

    /// Opens a message that a client sealed for this app. The result tells nothing until its content
    /// is read.
    #[must_use]
    pub fn open(&self, text: &str) -> Opened {
        self.decrypt(text, Choice::from(1))
    }

    /// Opens a message of Muster, as a client does.
    #[must_use]
    pub fn open_outgoing(&self, text: &str) -> Opened {
        self.decrypt(text, Choice::from(0))
    }

    fn decrypt(&self, text: &str, refuse_mark: Choice) -> Opened {
        // A check of the length may fail early, because an attacker sees the length anyway.
        let mut plain = decode(text);
        if plain.is_empty() || !plain.len().is_multiple_of(PADDING_BLOCK) {
            return Opened { message: Vec::new(), is_valid: false };
        }
        let decryptor = cbc::Decryptor::inner_iv_init(&self.cipher, &self.iv.into());
        let decrypted = decryptor.decrypt_padded::<NoPadding>(&mut plain).is_ok();

        let (message_end, is_valid) = self.message_end(&plain, refuse_mark);
        plain.truncate(message_end);
        plain.drain(..MESSAGE_OFFSET);
        Opened { message: plain, is_valid: decrypted & bool::from(is_valid) }
    }

    /// The end of the message in `plain`, and whether padding, length, suffix and the absence of the
    /// mark are valid. All checks always run. The message of an invalid text is the whole rest, so
    /// that reading it takes as long as reading a valid one.
    fn message_end(&self, plain: &[u8], refuse_mark: Choice) -> (usize, Choice) {
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
        // The offset of the message is larger than the mark, so the index cannot be negative.
        let mut is_marked = refuse_mark;
        for (byte, at) in self.mark.bytes().iter().zip(suffix_start - self.mark.len()..) {
            is_marked &= plain.get(at).unwrap_or(&0).ct_eq(byte);
        }
        is_valid &= same & !is_marked;
        let suffix_start = u32::try_from(suffix_start).unwrap_or(end);
        (u32::conditional_select(&end, &suffix_start, is_valid) as usize, is_valid)
    }
}

impl Opened {
    /// Chooses `other` if only it was valid, for a text that either of two keys may have sealed. Also
    /// returns whether `other` was chosen, which tells nothing until the content is read.
    #[must_use]
    pub fn or(self, other: Self) -> (Self, bool) {
        let takes_other = !self.is_valid & other.is_valid;
        (if takes_other { other } else { self }, takes_other)
    }

    /// The message as text.
    ///
    /// # Errors
    /// [`OpenError`], for every reason.
    pub fn text(&self) -> Result<&str, OpenError> {
        match (self.is_valid, std::str::from_utf8(self.content())) {
            (true, Ok(text)) => Ok(text),
            _ => Err(OpenError),
        }
    }

    /// The message as a JSON object, of which `fields` are kept. Invalid texts are parsed as well, so
    /// that the result comes from the same code for every text.
    ///
    /// # Errors
    /// [`OpenError`], for every reason.
    pub fn object(&self, fields: &[&str]) -> Result<JsonObject<'_>, OpenError> {
        match (self.is_valid, JsonObject::parse(self.content(), fields)) {
            (true, Ok(object)) => Ok(object),
            _ => Err(OpenError),
        }
    }

    fn content(&self) -> &[u8] {
        self.message.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.message)
    }
}

/// Decodes base64 as the decoders of the clients do: line breaks and blanks are ignored, because some
/// encoders write them. Most texts have none, and need no copy.
fn decode(text: &str) -> Vec<u8> {
    let without_blanks = || text.split_ascii_whitespace().collect::<String>();
    STANDARD.decode(text).or_else(|_| STANDARD.decode(without_blanks())).unwrap_or_default()
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
            assert_eq!(opened.text(), Ok(vector["plain_utf8"].as_str().unwrap()), "{vector}");
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
            assert_eq!(opened.text(), Err(OpenError), "{vector}");
            assert!(opened.object(&["title"]).is_err(), "{vector}");
        }
    }

    #[test]
    fn fingerprint_is_that_of_each_part_with_the_same_end() {
        let envelope = Envelope::new(&AesKey::generate(), "app");
        let sealed = envelope.seal(b"1718000000");
        let fingerprint = SealedFingerprint::from_sealed(&sealed);
        assert!(fingerprint.is_some());
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        bytes[7] ^= 1;
        assert_eq!(SealedFingerprint::from_sealed(&STANDARD.encode(&bytes)), fingerprint);
        let long = STANDARD.decode(envelope.seal(&[b'x'; 100])).unwrap();
        for start in (0..long.len() - AES_BLOCK).step_by(AES_BLOCK) {
            let part = SealedFingerprint::from_sealed(&STANDARD.encode(&long[start..]));
            assert_eq!(part, SealedFingerprint::from_sealed(&STANDARD.encode(&long)), "{start}");
        }
        assert_eq!(
            SealedFingerprint::from_sealed(&format!("{}\n{}", &sealed[..8], &sealed[8..])),
            fingerprint
        );
        *bytes.last_mut().unwrap() ^= 1;
        assert_ne!(SealedFingerprint::from_sealed(&STANDARD.encode(&bytes)), fingerprint);
        assert_ne!(SealedFingerprint::from_sealed(&envelope.seal(b"1718000000")), fingerprint);
        for text in ["", "AAAA", "?", &STANDARD.encode([0; 16])] {
            assert_eq!(SealedFingerprint::from_sealed(text), None, "{text}");
        }
    }

    #[test]
    fn line_breaks_and_blanks_in_base64_are_ignored() {
        let envelope = Envelope::new(&AesKey::generate(), "app");
        let sealed = envelope.seal(&[b'x'; 100]);
        let lines = |width: usize, end: &str| {
            let lines: Vec<&str> =
                sealed.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
            lines.join(end) + end
        };
        for text in [
            format!(" {sealed}"),
            format!("\t{sealed} \r\n"),
            lines(76, "\r\n"),
            lines(64, "\n"),
            lines(60, "\r\n "),
            lines(1, "\n"),
        ] {
            assert_eq!(envelope.open(&text).text(), Ok(&*"x".repeat(100)), "{text}");
        }
        for text in
            ["", " ", "\n\n", &sealed[1..], &format!("{sealed}\u{a0}"), &format!("{sealed}.")]
        {
            assert_eq!(envelope.open(text).text(), Err(OpenError), "{text}");
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
        assert_eq!(envelope.open(&encrypt(&envelope, plain)).text(), Err(OpenError));
    }

    #[test]
    fn a_message_that_is_no_object_gives_the_same_error() {
        let envelope = Envelope::new(&AesKey::generate(), "app");
        for message in
            ["", "x", "[]", "1", "{", "{} x", r#"{"a": 1, "a": 2}"#, "{\"a\": \"\u{1}\"}"]
        {
            let opened = envelope.open(&envelope.seal(message.as_bytes()));
            assert_eq!(opened.text(), Ok(message));
            assert_eq!(opened.object(&["title"]).err(), Some(OpenError), "{message}");
        }
        for message in [" {\"a\": []}\n", "\u{feff}{}"] {
            assert!(envelope.open(&envelope.seal(message.as_bytes())).object(&["title"]).is_ok());
        }
    }

    /// The plaintext of a sealed text, without its first block.
    fn plaintext(envelope: &Envelope, text: &str) -> Vec<u8> {
        let mut plain = STANDARD.decode(text).unwrap();
        let decryptor = cbc::Decryptor::inner_iv_init(&envelope.cipher, &envelope.iv.into());
        decryptor.decrypt_padded::<NoPadding>(&mut plain).unwrap();
        plain.split_off(AES_BLOCK)
    }

    #[test]
    fn messages_of_muster_are_marked_and_not_accepted_back() {
        for (length, id_len) in (0..70).zip((1..=40).cycle()) {
            let app_id = &"yd0123456789".repeat(4)[..id_len];
            let envelope = Envelope::new(&AesKey::generate(), app_id);
            let message = format!("{{{}}}", " ".repeat(length));
            let sealed = envelope.seal_outgoing(message.as_bytes());
            assert_eq!(envelope.open(&sealed).text(), Err(OpenError), "{length}");
            assert!(envelope.open_outgoing(&sealed).object(&["title"]).is_ok());
            let plain = plaintext(&envelope, &sealed);
            let at = plain.len() - usize::from(*plain.last().unwrap()) - app_id.len();
            assert!(plain[..at].ends_with(envelope.mark.bytes()), "{plain:?}");
            let text = std::str::from_utf8(&plain[4..at]).unwrap();
            assert!(text.starts_with(&message) && text.len() < message.len() + 46, "{text:?}");
            let json: Value = serde_json::from_str(text).unwrap();
            assert_eq!(json, serde_json::json!({}), "blanks may follow a JSON value");
        }
    }

    /// The text that begins with the block `index` of `sealed` after a new first block, which gives
    /// that block the plaintext `wanted` if its plaintext is `known`.
    fn forge(sealed: &[u8], index: usize, known: &[u8], wanted: &[u8]) -> String {
        let before = &sealed[(index - 1) * AES_BLOCK..];
        let first = (0..AES_BLOCK).map(|at| known[at] ^ before[at] ^ wanted[at]);
        let rest = sealed[index * AES_BLOCK..].iter().copied();
        STANDARD.encode(first.chain(rest).collect::<Vec<u8>>())
    }

    /// The attacker knows all plaintext of a message of Muster but the mark, and the app id.
    #[test]
    fn parts_of_messages_of_muster_are_not_accepted() {
        let mut needs_the_mark = 0;
        for (length, id_len) in (2..34).flat_map(|length| (1..=40).map(move |id| (length, id))) {
            let app_id = &"yd0123456789".repeat(4)[..id_len];
            let envelope = Envelope::new(&AesKey::new([7; 32]), app_id);
            let text = envelope.seal_outgoing(format!("{:<length$}", "{}").as_bytes());
            let sealed = STANDARD.decode(&text).unwrap();
            let plain = [vec![0; AES_BLOCK], plaintext(&envelope, &text)].concat();
            let suffix = plain.len() - usize::from(*plain.last().unwrap()) - app_id.len();
            let mut guessed = plain.clone();
            guessed[suffix - envelope.mark.len() + 1..suffix].fill(b' ');
            for index in 1..sealed.len() / AES_BLOCK {
                let at = index * AES_BLOCK;
                // The end of the message stays where it is, and its beginning is chosen.
                let Some(space) = suffix.checked_sub(at + 4) else { continue };
                for message in ["{}", "1718000000"] {
                    let message = format!("{message:<space$}");
                    let head = u32::try_from(space).unwrap().to_be_bytes();
                    let wanted = [&head, message.as_bytes(), &plain[suffix..]].concat();
                    let wanted = &wanted[..AES_BLOCK];
                    let forged = forge(&sealed, index, &guessed[at..], wanted);
                    let opened = envelope.open(&forged);
                    assert_eq!(opened.text(), Err(OpenError), "{id_len} {length} {index}");
                    let informed = forge(&sealed, index, &plain[at..], wanted);
                    needs_the_mark +=
                        u32::from(envelope.open(&informed).object(&["title"]).is_ok());
                }
            }
        }
        assert!(needs_the_mark > 0, "an attacker who knows the mark succeeds");
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
            assert_eq!(opened.text().is_ok(), claimed == 8, "padding {claimed}");
        }
    }

    proptest! {
        #[test]
        fn seal_and_open_round_trip(message in ".{0,200}", app_id in "[a-z0-9]{1,40}") {
            let envelope = Envelope::new(&AesKey::generate(), &app_id);
            let sealed = envelope.seal(message.as_bytes());
            prop_assert_eq!(STANDARD.decode(&sealed).unwrap().len() % PADDING_BLOCK, 0);
            let opened = envelope.open(&sealed);
            let content = message.strip_prefix('\u{feff}').unwrap_or(&message);
            prop_assert_eq!(opened.text(), Ok(content));
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in "\\PC*") {
            let envelope = Envelope::new(&AesKey::new([7; 32]), "app");
            let opened = envelope.open(&text);
            prop_assert_eq!(opened.text(), Err(OpenError));
        }

        #[test]
        fn arbitrary_ciphertext_never_panics(blocks in prop::collection::vec(any::<[u8; 32]>(), 0..8)) {
            let envelope = Envelope::new(&AesKey::new([7; 32]), "app");
            let opened = envelope.open(&STANDARD.encode(blocks.concat()));
            prop_assert_eq!(opened.text(), Err(OpenError));
            prop_assert!(opened.object(&["title"]).is_err());
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
            let opened = envelope.open(&encrypt(&envelope, plain));
            let _ = (opened.text(), opened.object(&["title"]));
        }
    }
}
