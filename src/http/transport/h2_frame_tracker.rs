//! Tracks the frames of an HTTP/2 connection (RFC 9113, 4.1): bytes only, no times. The tracker
//! reads only where a frame ends, and whether a header block continues in the next frame.
//!
//! The payload of a DATA frame is not awaited: it is a part of a body, which has its own timeout.

/// The length of a frame header, in bytes.
const FRAME_HEADER_LEN: usize = 9;
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
    /// The number of bytes of the preface that are still to come.
    preface_remaining: usize,
    header: [u8; FRAME_HEADER_LEN],
    /// The number of received bytes of the frame header; all of them while the payload is awaited.
    header_received: usize,
    /// The number of bytes of the payload that are still to come.
    payload_remaining: usize,
    /// Whether a header block continues in the next frame.
    in_header_block: bool,
    /// The received bytes of the current frame, or of the header block that it belongs to.
    unfinished: usize,
}

impl Default for FrameTracker {
    fn default() -> Self {
        Self {
            preface_remaining: PREFACE_LEN,
            header: [0; FRAME_HEADER_LEN],
            header_received: 0,
            payload_remaining: 0,
            in_header_block: false,
            unfinished: 0,
        }
    }
}

impl FrameTracker {
    /// Adds received bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Remainder {
        let (preface, mut bytes) = bytes.split_at(self.preface_remaining.min(bytes.len()));
        self.preface_remaining -= preface.len();
        let mut has_new = false;
        while !bytes.is_empty() {
            let is_new = !self.in_header_block && self.header_received == 0;
            has_new |= is_new;
            let rest = self.add_to_frame(bytes);
            let added = bytes.len() - rest.len();
            self.unfinished = if is_new { added } else { self.unfinished + added };
            bytes = rest;
        }
        match self.is_unfinished() {
            false => Remainder::None,
            true if has_new => Remainder::New,
            true => Remainder::Same,
        }
    }

    /// The bytes of a frame or header block that is not complete yet, except of a body.
    pub(super) fn unfinished_len(&self) -> usize {
        if self.is_unfinished() { self.unfinished } else { 0 }
    }

    fn is_unfinished(&self) -> bool {
        let is_body = self.header_received == FRAME_HEADER_LEN && kind(&self.header) == DATA;
        self.in_header_block || self.header_received > 0 && !is_body
    }

    /// Adds bytes to the current frame. Returns the bytes after its end.
    fn add_to_frame<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let header_missing = FRAME_HEADER_LEN - self.header_received;
        let (header, bytes) = bytes.split_at(bytes.len().min(header_missing));
        self.header[self.header_received..][..header.len()].copy_from_slice(header);
        self.header_received += header.len();
        if !header.is_empty() && self.header_received == FRAME_HEADER_LEN {
            self.payload_remaining = length(&self.header);
        }
        let (payload, bytes) = bytes.split_at(bytes.len().min(self.payload_remaining));
        self.payload_remaining -= payload.len();
        if self.header_received == FRAME_HEADER_LEN && self.payload_remaining == 0 {
            self.header_received = 0;
            self.on_frame_end();
        }
        bytes
    }

    fn on_frame_end(&mut self) {
        if matches!(kind(&self.header), HEADERS | CONTINUATION) {
            let [_, _, _, _, flags, ..] = self.header;
            self.in_header_block = flags & END_HEADERS == 0;
        }
    }
}

fn length(&[high, middle, low, ..]: &[u8; FRAME_HEADER_LEN]) -> usize {
    u32::from_be_bytes([0, high, middle, low]) as usize
}

fn kind(&[_, _, _, kind, ..]: &[u8; FRAME_HEADER_LEN]) -> u8 {
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
