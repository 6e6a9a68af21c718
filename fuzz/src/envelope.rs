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

pub fn envelope(data: &[u8]) {
    let key = AesKey::from_base64(KEY).unwrap();
    let envelope = Envelope::new(&key, APP_ID);

    // The input as a received text.
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(envelope.open(text).ok(), open_step_by_step(&key, text));
    }
    // The input as a plaintext, encrypted with the right key.
    let mut plain = data.to_vec();
    plain.resize(data.len().next_multiple_of(32), 0);
    let text = encrypt(&key, plain);
    assert_eq!(envelope.open(&text).ok(), open_step_by_step(&key, &text));
    // The input as a message.
    let sealed = envelope.seal(data);
    let message = std::str::from_utf8(data).map(str::to_owned).map_err(|_| OpenError);
    assert_eq!(envelope.open(&sealed), message);
    assert_eq!(open_step_by_step(&key, &sealed), message.ok());
    let other_app = Envelope::new(&key, "ydVECTOR0002");
    assert_eq!(other_app.open(&sealed), Err(OpenError));
}

fn encrypt(key: &AesKey, mut plain: Vec<u8>) -> String {
    let iv = &key.bytes()[..16];
    let length = plain.len();
    let encryptor = cbc::Encryptor::<Aes256>::new_from_slices(key.bytes(), iv).unwrap();
    STANDARD.encode(encryptor.encrypt_padded::<NoPadding>(&mut plain, length).unwrap())
}

fn open_step_by_step(key: &AesKey, text: &str) -> Option<String> {
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
    String::from_utf8(message.to_vec()).ok()
}
