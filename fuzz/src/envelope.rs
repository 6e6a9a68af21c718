//! Sealed messages. The result of the reader is compared with that of a second reader, which is
//! written for readability and stops at the first fault.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster::wire::{AesKey, Envelope, OpenError};

/// Key and app of the shared vectors, so that the vectors open.
const KEY: &str = "0DZbyJXaB5WoyBmd3Li8tU7zDBB0RC5dU5K3drwS0yI=";
const APP_ID: &str = "ydVECTOR0001";
/// The end of the messages of Muster, which are not accepted back.
const MARK: &[u8] = b"\t \t\t  \t ";

pub fn envelope(data: &[u8]) {
    let key = AesKey::from_base64(KEY).unwrap();
    let envelope = Envelope::new(&key, APP_ID);

    // The input as a received text.
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(
            envelope.open(text).text().ok().map(str::to_owned),
            open_step_by_step(&key, text)
        );
    }
    // The input as a plaintext, encrypted with the right key.
    let mut plain = data.to_vec();
    plain.resize(data.len().next_multiple_of(32), 0);
    let text = encrypt(&key, plain);
    let both = envelope.open(&text);
    assert_eq!(both.text().ok().map(str::to_owned), open_step_by_step(&key, &text));
    assert!(both.text().is_ok() || both.object(&["title"]).is_err());
    // The input as a message.
    let sealed = envelope.seal(data);
    let content = data.strip_prefix("\u{feff}".as_bytes()).unwrap_or(data);
    let message = match std::str::from_utf8(content) {
        Ok(text) if !data.ends_with(MARK) => Ok(text.to_owned()),
        _ => Err(OpenError),
    };
    assert_eq!(envelope.open(&sealed).text().map(str::to_owned), message);
    assert_eq!(open_step_by_step(&key, &sealed), message.ok());
    let other_app = Envelope::new(&key, "ydVECTOR0002");
    assert_eq!(other_app.open(&sealed).text(), Err(OpenError));
    // The input as a message of Muster, which is not accepted back.
    assert_eq!(envelope.open(&envelope.seal_outgoing(data)).text(), Err(OpenError));
}

fn encrypt(key: &AesKey, mut plain: Vec<u8>) -> String {
    let iv = &key.bytes()[..16];
    let length = plain.len();
    let encryptor = cbc::Encryptor::<Aes256>::new_from_slices(key.bytes(), iv).unwrap();
    STANDARD.encode(encryptor.encrypt_padded::<NoPadding>(&mut plain, length).unwrap())
}

fn open_step_by_step(key: &AesKey, text: &str) -> Option<String> {
    let text: String = text.split_ascii_whitespace().collect();
    let mut plain = STANDARD.decode(text).ok()?;
    if !plain.len().is_multiple_of(32) {
        return None;
    }
    let iv = &key.bytes()[..16];
    let decryptor = cbc::Decryptor::<Aes256>::new_from_slices(key.bytes(), iv).unwrap();
    decryptor.decrypt_padded::<NoPadding>(&mut plain).unwrap();

    let padding = *plain.last()?;
    if !(1..=32).contains(&padding) {
        return None;
    }
    let (plain, padded) = plain.split_at(plain.len() - usize::from(padding));
    if padded.iter().any(|byte| *byte != padding) {
        return None;
    }
    let (length, rest) = plain.get(16..)?.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
    let (message, tail) = rest.split_at_checked(length)?;
    if tail != APP_ID.as_bytes() {
        return None;
    }
    if message.ends_with(MARK) {
        return None;
    }
    let message = message.strip_prefix("\u{feff}".as_bytes()).unwrap_or(message);
    String::from_utf8(message.to_vec()).ok()
}
