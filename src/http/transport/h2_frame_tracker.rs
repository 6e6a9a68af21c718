//! Where in its frames an HTTP/2 connection is (RFC 9113, 4.1): bytes only, no times. Nothing of
//! what frames mean is here but where they end, and whether a list of headers goes on behind one.
//!
//! The content of a DATA frame is not awaited: it is a part of a body, which has a time of its own.

/// Bytes of a frame before its content.
const HEAD: usize = 9;
/// Bytes that a client sends before its first frame. The handshake waits for them.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// No CONTINUATION follows.
const END_HEADERS: u8 = 4;

/// What the bytes of a connection end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// Nothing that must go on soon.
    Nothing,
    /// A part of something that had begun earlier.
    Rest,
    /// The same, but it has begun just now.
    RestOfAnother,
}

/// The frames of a connection, as far as they came.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the preface that are to come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of the head that are there; all while the content is awaited.
    got: usize,
    /// Bytes of the content that are to come.
    left: usize,
    /// Whether a list of headers goes on in the next frame.
    goes_on: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self { preface: PREFACE, head: [0; HEAD], got: 0, left: 0, goes_on: false }
    }
}

impl Frames {
    /// More came.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Awaited {
        let (preface, mut bytes) = bytes.split_at(self.preface.min(bytes.len()));
        self.preface -= preface.len();
        let mut begins = false;
        while !bytes.is_empty() {
            begins |= !self.goes_on && self.got == 0;
            bytes = self.add_to_frame(bytes);
        }
        let is_body = self.got == HEAD && kind(&self.head) == DATA;
        match self.goes_on || self.got > 0 && !is_body {
            false => Awaited::Nothing,
            true if begins => Awaited::RestOfAnother,
            true => Awaited::Rest,
        }
    }

    /// More came of one frame. Gives the bytes behind its end.
    fn add_to_frame<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (head, bytes) = bytes.split_at(bytes.len().min(HEAD - self.got));
        self.head[self.got..][..head.len()].copy_from_slice(head);
        self.got += head.len();
        if !head.is_empty() && self.got == HEAD {
            self.left = length(&self.head);
        }
        let (content, bytes) = bytes.split_at(bytes.len().min(self.left));
        self.left -= content.len();
        if self.got == HEAD && self.left == 0 {
            self.got = 0;
            self.end();
        }
        bytes
    }

    fn end(&mut self) {
        if matches!(kind(&self.head), HEADERS | CONTINUATION) {
            let [_, _, _, _, flags, ..] = self.head;
            self.goes_on = flags & END_HEADERS == 0;
        }
    }
}

fn length(&[high, middle, low, ..]: &[u8; HEAD]) -> usize {
    u32::from_be_bytes([0, high, middle, low]) as usize
}

fn kind(&[_, _, _, kind, ..]: &[u8; HEAD]) -> u8 {
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

    /// A connection that is open.
    fn frames() -> Frames {
        let mut frames = Frames::default();
        assert_eq!(frames.add(&[b'x'; PREFACE - 1]), Awaited::Nothing);
        let rest = [&b"x"[..], &frame(SETTINGS, 0, b"")].concat();
        assert_eq!(frames.add(&rest), Awaited::Nothing);
        frames
    }

    #[test]
    fn whole_frames_await_nothing() {
        let all = [
            frame(SETTINGS, 0, b"123456"),
            frame(HEADERS, END_HEADERS, b"abc"),
            frame(DATA, 0, &[7; 70_000]),
            frame(HEADERS, 0, b"a"),
            frame(CONTINUATION, 0, b""),
            frame(CONTINUATION, END_HEADERS, b"c"),
        ]
        .concat();
        assert_eq!(frames().add(&all), Awaited::Nothing);
        for size in [1, 2, 8, 9, 10, 4_096] {
            let mut frames = frames();
            let told: Vec<_> = all.chunks(size).map(|bytes| frames.add(bytes)).collect();
            assert_eq!(told.last(), Some(&Awaited::Nothing), "{size} bytes at a time");
        }
    }

    #[test]
    fn a_part_of_a_frame_awaits_the_rest() {
        let mut frames = frames();
        let ping = frame(6, 0, b"12345678");
        for (at, byte) in ping.iter().enumerate() {
            let told = match at {
                0 => Awaited::RestOfAnother,
                16 => Awaited::Nothing,
                _ => Awaited::Rest,
            };
            assert_eq!(frames.add(&[*byte]), told, "byte {at}");
        }
        assert_eq!(frames.add(&ping[..12]), Awaited::RestOfAnother);
        let next = [&ping[12..], &ping[..3]].concat();
        assert_eq!(frames.add(&next), Awaited::RestOfAnother, "one ends, another begins");
    }

    #[test]
    fn a_list_of_headers_is_awaited_as_one_through_all_its_frames() {
        let mut frames = frames();
        assert_eq!(frames.add(&frame(HEADERS, 0, b"abc")), Awaited::RestOfAnother);
        for _ in 0..3 {
            assert_eq!(frames.add(&frame(CONTINUATION, 0, b"abc")), Awaited::Rest);
        }
        assert_eq!(frames.add(&frame(DATA, 0, b"abc")[..11]), Awaited::Rest, "out of place");
        assert_eq!(frames.add(b"c"), Awaited::Rest);
        let last = frame(CONTINUATION, END_HEADERS, b"abc");
        assert_eq!(frames.add(&last[..4]), Awaited::Rest);
        assert_eq!(frames.add(&last[4..]), Awaited::Nothing);
    }

    #[test]
    fn a_body_is_not_awaited_but_the_head_of_its_frame_is() {
        let mut frames = frames();
        let data = frame(DATA, 0, b"abc");
        assert_eq!(frames.add(&data[..8]), Awaited::RestOfAnother);
        assert_eq!(frames.add(&data[8..9]), Awaited::Nothing);
        assert_eq!(frames.add(&data[9..11]), Awaited::Nothing);
        assert_eq!(frames.add(&data[11..]), Awaited::Nothing);
    }
}
