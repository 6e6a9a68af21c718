//! The beginning of a line of an HTTP/1 header section, and the header fields that the framework must not
//! see.

use memchr::memchr;

/// The bytes of a line that are kept if the line comes in several reads. A line about the length of a
/// body is shorter.
pub(super) const MAX_LINE_START: usize = 64;

/// The name of the header field that offers another protocol, and the option of `Connection` with it.
const UPGRADE: &[u8] = b"upgrade";
/// Replaces the last letter of an offer. No header field and no option has the name that remains.
const HIDDEN: u8 = b'_';

/// The beginning of a line that comes in several reads, without its blanks.
#[derive(Debug)]
pub(super) struct LineStart {
    bytes: [u8; MAX_LINE_START],
    len: usize,
    /// Whether a part of the line came, and whether it is longer than the bytes.
    pub(super) is_started: bool,
    pub(super) is_truncated: bool,
}

impl Default for LineStart {
    fn default() -> Self {
        Self { bytes: [0; MAX_LINE_START], len: 0, is_started: false, is_truncated: false }
    }
}

impl LineStart {
    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Adds a part of a header field, and hides an offer of another protocol in both.
    pub(super) fn push_field(&mut self, part: &mut [u8]) {
        let before = self.len;
        self.push(part);
        hide_offers(&mut self.bytes[..self.len]);
        // The bytes are those of the part, without its blanks.
        let kept = part.iter_mut().filter(|byte| !matches!(byte, b' ' | b'\t'));
        kept.zip(&self.bytes[before..self.len]).for_each(|(byte, hidden)| *byte = *hidden);
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        self.is_started |= !part.is_empty();
        for byte in part.iter().filter(|byte| !matches!(byte, b' ' | b'\t')) {
            match self.bytes.get_mut(self.len) {
                Some(place) => (*place, self.len) = (*byte, self.len + 1),
                None => self.is_truncated = true,
            }
        }
    }
}

/// Hides an offer of another protocol in a header field, which may be incomplete. A longer name that begins
/// with the same letters is changed too if it comes in two parts at this place. Muster reads no such field.
pub(super) fn hide_offers(field: &mut [u8]) {
    let colon = memchr(b':', field).unwrap_or(field.len());
    let (name, options) = field.split_at_mut(colon);
    if name.eq_ignore_ascii_case(UPGRADE) {
        name[UPGRADE.len() - 1] = HIDDEN;
    } else if name.eq_ignore_ascii_case(b"connection") {
        for option in options.split_mut(|byte| matches!(byte, b':' | b',')) {
            let end = option.trim_ascii_end().len();
            if option.trim_ascii().eq_ignore_ascii_case(UPGRADE) {
                option[end - 1] = HIDDEN;
            }
        }
    }
}
