//! Tracks the frames of an HTTP/2 connection (RFC 9113, 4.1): bytes only, no times. The tracker
//! reads only where a frame ends, and whether a header block continues in the next frame.
//!
//! The content of a DATA frame is not awaited: it is a part of a body, which has its own timeout.

/// Bytes of a frame before its content.
const HEAD_LEN: usize = 9;
/// Bytes that a client sends before its first frame. The handshake waits for them.
const PREFACE_LEN: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// The flag of the last frame of a header block.
const END_HEADERS: u8 = 4;

/// The incomplete part at the end of the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remainder {
    /// No incomplete part, except of a body.
    None,
    /// A frame or header block that began earlier.
    Same,
    /// A frame or header block that began with these bytes.
    New,
}

/// The position of a connection in its frames.
#[derive(Debug)]
pub(super) struct FrameTracker {
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    head: [u8; HEAD_LEN],
    /// Bytes of the head that have come; all of them while the content is awaited.
    got: usize,
    /// Bytes of the content that are still to come.
    left: usize,
    /// Whether a header block continues in the next frame.
    in_header_block: bool,
}

impl Default for FrameTracker {
    fn default() -> Self {
        Self {
            preface_left: PREFACE_LEN,
            head: [0; HEAD_LEN],
            got: 0,
            left: 0,
            in_header_block: false,
        }
    }
}

impl FrameTracker {
    /// Adds received bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Remainder {
        let (preface, mut bytes) = bytes.split_at(self.preface_left.min(bytes.len()));
        self.preface_left -= preface.len();
        let mut has_new = false;
        while !bytes.is_empty() {
            has_new |= !self.in_header_block && self.got == 0;
            bytes = self.add_to_frame(bytes);
        }
        let is_body = self.got == HEAD_LEN && kind(&self.head) == DATA;
        match self.in_header_block || self.got > 0 && !is_body {
            false => Remainder::None,
            true if has_new => Remainder::New,
            true => Remainder::Same,
        }
    }

    /// Adds bytes to the current frame. Returns the bytes after its end.
    fn add_to_frame<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (head, bytes) = bytes.split_at(bytes.len().min(HEAD_LEN - self.got));
        self.head[self.got..][..head.len()].copy_from_slice(head);
        self.got += head.len();
        if !head.is_empty() && self.got == HEAD_LEN {
            self.left = length(&self.head);
        }
        let (content, bytes) = bytes.split_at(bytes.len().min(self.left));
        self.left -= content.len();
        if self.got == HEAD_LEN && self.left == 0 {
            self.got = 0;
            self.on_frame_end();
        }
        bytes
    }

    fn on_frame_end(&mut self) {
        if matches!(kind(&self.head), HEADERS | CONTINUATION) {
            let [_, _, _, _, flags, ..] = self.head;
            self.in_header_block = flags & END_HEADERS == 0;
        }
    }
}

fn length(&[high, middle, low, ..]: &[u8; HEAD_LEN]) -> usize {
    u32::from_be_bytes([0, high, middle, low]) as usize
}

fn kind(&[_, _, _, kind, ..]: &[u8; HEAD_LEN]) -> u8 {
    kind
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let [_, length @ ..] = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[..], &[kind, flags, 0, 0, 0, 1], content].concat()
    }

    /// The frames of a connection after its preface.
    fn frames() -> FrameTracker {
        let mut frames = FrameTracker::default();
        assert_eq!(frames.add(&[b'x'; PREFACE_LEN - 1]), Remainder::None);
        let rest = [&b"x"[..], &frame(SETTINGS, 0, b"")].concat();
        assert_eq!(frames.add(&rest), Remainder::None);
        frames
    }

    #[test]
    fn complete_frames_leave_no_remainder() {
        let all = [
            frame(SETTINGS, 0, b"123456"),
            frame(HEADERS, END_HEADERS, b"abc"),
            frame(DATA, 0, &[7; 70_000]),
            frame(HEADERS, 0, b"a"),
            frame(CONTINUATION, 0, b""),
            frame(CONTINUATION, END_HEADERS, b"c"),
        ]
        .concat();
        assert_eq!(frames().add(&all), Remainder::None);
        for size in [1, 2, 8, 9, 10, 4_096] {
            let mut frames = frames();
            let remainders: Vec<_> = all.chunks(size).map(|bytes| frames.add(bytes)).collect();
            assert_eq!(remainders.last(), Some(&Remainder::None), "{size} bytes at a time");
        }
    }

    #[test]
    fn partial_frame_awaits_the_rest() {
        let mut frames = frames();
        let ping = frame(6, 0, b"12345678");
        for (at, byte) in ping.iter().enumerate() {
            let expected = match at {
                0 => Remainder::New,
                16 => Remainder::None,
                _ => Remainder::Same,
            };
            assert_eq!(frames.add(&[*byte]), expected, "byte {at}");
        }
        assert_eq!(frames.add(&ping[..12]), Remainder::New);
        let next = [&ping[12..], &ping[..3]].concat();
        assert_eq!(frames.add(&next), Remainder::New, "one ends, another begins");
    }

    #[test]
    fn header_block_is_awaited_across_its_frames() {
        let mut frames = frames();
        assert_eq!(frames.add(&frame(HEADERS, 0, b"abc")), Remainder::New);
        for _ in 0..3 {
            assert_eq!(frames.add(&frame(CONTINUATION, 0, b"abc")), Remainder::Same);
        }
        assert_eq!(frames.add(&frame(DATA, 0, b"abc")[..11]), Remainder::Same, "out of place");
        assert_eq!(frames.add(b"c"), Remainder::Same);
        let last = frame(CONTINUATION, END_HEADERS, b"abc");
        assert_eq!(frames.add(&last[..4]), Remainder::Same);
        assert_eq!(frames.add(&last[4..]), Remainder::None);
    }

    #[test]
    fn data_frame_body_is_not_awaited() {
        let mut frames = frames();
        let data = frame(DATA, 0, b"abc");
        assert_eq!(frames.add(&data[..8]), Remainder::New);
        assert_eq!(frames.add(&data[8..9]), Remainder::None);
        assert_eq!(frames.add(&data[9..11]), Remainder::None);
        assert_eq!(frames.add(&data[11..]), Remainder::None);
    }
}
