//! A master key as text: base64 or hexadecimal digits.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize as _, Zeroizing};

/// 32 secret bytes, given as text. Wiped on drop, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText([u8; 32]);

impl KeyText {
    /// The expected form, for messages.
    pub const EXPECTED: &str = "32 bytes, as 44 characters of base64 or 64 hexadecimal digits: `muster secrets generate` \
         prints such";

    /// Parses standard base64 with padding, or hexadecimal digits, of 32 bytes. Other text is
    /// refused, even a key with blanks around it: such a text is probably not the intended key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(match text.len() {
            44 => STANDARD.decode(text).ok()?,
            64 => decode_hex(text)?,
            _ => return None,
        });
        bytes.as_slice().try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_base64_or_hexadecimal_only() {
        let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let hexadecimal = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";
        let key = KeyText::parse(base64).unwrap();
        assert_eq!(KeyText::parse(hexadecimal).as_ref(), Some(&key));
        assert_eq!(key.bytes()[31], 31);
        assert_eq!(format!("{key:?}"), "KeyText(…)");
        for wrong in [
            "",
            "secret",
            &base64[..43],
            &base64.replace('=', "A"),
            &base64.replace("h8=", "h9="),
            &format!("{base64}\n"),
            &format!(" {hexadecimal}"),
            &hexadecimal[1..],
            &hexadecimal.replace('0', "g"),
            &hexadecimal.replace("00", "+0"),
            &"é".repeat(32),
        ] {
            assert_eq!(KeyText::parse(wrong), None, "{wrong:?}");
        }
    }
}
