//! Tracks the requests of an HTTP/1 connection (RFC 9112): bytes only, no times. The tracker reads only
//! where a request ends.
//!
//! It also spoils each line of a header section that ends with a bare LF, so that the framework refuses
//! the request. A proxy in front may see one line where the framework would see two (RFC 9112, 2.2).
//!
//! And it hides offers of another protocol from the framework, which would take the rest of the
//! connection for the body of the request (`Upgrade: websocket`), and would repeat the offer in its
//! response (`Connection: upgrade`). Muster ignores such offers (RFC 9110, 7.8).
//!
//! The surprise: a request that the framework refuses for another reason may be tracked wrongly. Its
//! connection ends anyway.

use memchr::memchr;

use super::h1_line_start::{LineStart, hide_offers};

/// The state of a connection between its first and its last request.
#[derive(Debug, Default)]
pub(super) struct MessageTracker {
    state: ParserState,
    /// Whether the current line is the first one of its header section.
    is_first_line: bool,
    body: BodyFraming,
    line: LineStart,
    /// The header sections, complete or not, of requests that have not started, and their bytes.
    pending_headers: usize,
    pending_len: usize,
    /// The last byte that was read.
    last: u8,
}

/// The part of a request that the next byte belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ParserState {
    /// No request has begun. Some clients send a line end after a body.
    #[default]
    BetweenRequests,
    Header,
    /// A body, or a chunk with the line end after it: the number of bytes that are still to come.
    Data {
        remaining: u64,
        then: AfterData,
    },
    ChunkSize {
        size: u64,
        is_complete: bool,
    },
    Trailer,
    /// After a trailer line that was spoiled.
    AfterTrailerLine,
    /// The connection ends: the framework refuses the request.
    Refused,
}

/// The part that follows a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterData {
    NextRequest,
    NextChunk,
}

/// The body of a request, as its header section announces it.
#[derive(Clone, Copy, Debug, Default)]
enum BodyFraming {
    #[default]
    None,
    Length(u64),
    Chunked,
}

impl MessageTracker {
    /// Adds received bytes, spoils lines of a header section that end with a bare LF, and hides offers of
    /// another protocol.
    pub(super) fn add(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(&mut bytes[at..]);
            self.last = bytes[at - 1];
        }
    }

    /// Whether another request has begun after the last whole one.
    pub(super) fn next_request_started(&self) -> bool {
        matches!(self.state, ParserState::Header | ParserState::Refused)
    }

    /// The bytes of the header sections of requests that have not started.
    pub(super) fn pending_len(&self) -> usize {
        self.pending_len
    }

    /// Records that the next request has started. All pending header sections count as equally long.
    pub(super) fn on_request_start(&mut self) {
        let own = self.pending_len.checked_div(self.pending_headers).unwrap_or_default();
        self.pending_len -= own;
        self.pending_headers = self.pending_headers.saturating_sub(1);
    }

    /// Reads some of the bytes, at least one, and returns their number.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        match self.state {
            ParserState::BetweenRequests => {
                let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
                if start.is_some() {
                    (self.state, self.is_first_line) = (ParserState::Header, true);
                    self.body = BodyFraming::None;
                    self.pending_headers += 1;
                }
                // The first byte of a request is read again, as a part of its first line.
                match start {
                    Some(0) => self.header_line(bytes),
                    Some(start) => start,
                    None => bytes.len(),
                }
            }
            ParserState::Header => self.header_line(bytes),
            ParserState::Trailer => self.trailer_line(bytes),
            ParserState::ChunkSize { size, is_complete } => {
                self.chunk_size(bytes, size, is_complete)
            }
            ParserState::Data { remaining, then } => {
                let read = usize::try_from(remaining).map_or(bytes.len(), |n| n.min(bytes.len()));
                self.expect_data(remaining - read as u64, then);
                read
            }
            ParserState::AfterTrailerLine => {
                // With the spoiled byte before it, an LF would be a valid line end.
                if bytes[0] == b'\n' {
                    bytes[0] = b'\r';
                }
                self.state = ParserState::Refused;
                1
            }
            ParserState::Refused => bytes.len(),
        }
    }

    /// Awaits a number of bytes, if it is not 0.
    fn expect_data(&mut self, remaining: u64, then: AfterData) {
        self.state = match (remaining, then) {
            (0, AfterData::NextRequest) => ParserState::BetweenRequests,
            (0, AfterData::NextChunk) => ParserState::ChunkSize { size: 0, is_complete: false },
            _ => ParserState::Data { remaining, then },
        };
    }

    /// The byte before the one at `end`.
    fn before(&self, bytes: &[u8], end: usize) -> u8 {
        end.checked_sub(1).map_or(self.last, |at| bytes[at])
    }

    fn header_line(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = memchr(b'\n', bytes) else {
            match self.is_first_line {
                true => self.line.push(bytes),
                false => self.line.push_field(bytes),
            }
            self.pending_len += bytes.len();
            return bytes.len();
        };
        self.pending_len += end + 1;
        let has_cr = self.before(bytes, end) == b'\r';
        let line = std::mem::take(&mut self.line);
        if !has_cr || !self.end_header_line(line, &mut bytes[..end]) {
            // No request line and no header field may contain this byte.
            bytes[end] = 0;
            self.state = ParserState::Refused;
        }
        end + 1
    }

    /// Reads a complete line; `rest` is its part in the last read. Returns whether it is valid.
    fn end_header_line(&mut self, mut line: LineStart, rest: &mut [u8]) -> bool {
        let is_first_line = std::mem::take(&mut self.is_first_line);
        if !line.is_started {
            if matches!(rest.first(), Some(b'c' | b'C' | b'u' | b'U')) && !is_first_line {
                // Both names begin with these letters. Few other fields do.
                hide_offers(rest);
            }
            return match &*rest {
                b"\r" => self.end_header(),
                rest => is_first_line || self.header_field(rest, false),
            };
        }
        match is_first_line {
            true => line.push(rest),
            false => line.push_field(rest),
        }
        match line.bytes() {
            b"\r" => self.end_header(),
            field => is_first_line || self.header_field(field, line.is_truncated),
        }
    }

    fn end_header(&mut self) -> bool {
        match self.body {
            BodyFraming::None => self.state = ParserState::BetweenRequests,
            BodyFraming::Length(length) => self.expect_data(length, AfterData::NextRequest),
            BodyFraming::Chunked => self.expect_data(0, AfterData::NextChunk),
        }
        true
    }

    /// Reads a header field, if it is about the body. Returns whether it is valid.
    fn header_field(&mut self, field: &[u8], is_truncated: bool) -> bool {
        // Few other fields begin with these letters.
        if !matches!(field.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return true;
        }
        let Some(colon) = memchr(b':', field) else { return true };
        let (name, value) = (&field[..colon], field[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            self.body = length.map_or(BodyFraming::None, BodyFraming::Length);
            return !is_truncated && length.is_some();
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.body = BodyFraming::Chunked;
            return !is_truncated;
        }
        true
    }

    fn chunk_size(&mut self, bytes: &[u8], mut size: u64, mut is_complete: bool) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            match char::from(*byte).to_digit(16).filter(|_| !is_complete) {
                Some(digit) => size = size.saturating_mul(16).saturating_add(digit.into()),
                None => is_complete = true,
            }
            if *byte == b'\n' {
                match size {
                    0 => self.state = ParserState::Trailer,
                    // The line end after a chunk is two bytes.
                    _ => self.expect_data(size.saturating_add(2), AfterData::NextChunk),
                }
                return at + 1;
            }
        }
        self.state = ParserState::ChunkSize { size, is_complete };
        bytes.len()
    }

    fn trailer_line(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = memchr(b'\n', bytes) else {
            self.line.push(bytes);
            return bytes.len();
        };
        let has_cr = self.before(bytes, end) == b'\r';
        let mut line = std::mem::take(&mut self.line);
        line.push(&bytes[..end]);
        if !has_cr {
            // The framework reads nothing of a trailer but its line ends, and refuses this one.
            bytes[end] = b'\r';
            self.state = ParserState::AfterTrailerLine;
        } else if line.bytes() == b"\r" {
            self.state = ParserState::BetweenRequests;
        }
        end + 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::h1_line_start::MAX_LINE_START;
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n";

    /// The bytes as the framework gets them, and whether another request has begun; the same for
    /// every split of the bytes.
    fn tracked(all: &str) -> (String, bool) {
        let track = |pieces: &[&[u8]]| {
            let (mut tracker, mut received) = (MessageTracker::default(), Vec::new());
            for piece in pieces {
                let mut piece = piece.to_vec();
                tracker.add(&mut piece);
                received.extend(piece);
            }
            (String::from_utf8(received).unwrap(), tracker.next_request_started())
        };
        let all = all.as_bytes();
        let result = track(&[all]);
        for at in 0..=all.len() {
            let (first, second) = all.split_at(at);
            assert_eq!(track(&[first, second]), result, "cut at {at}");
        }
        assert_eq!(track(&all.chunks(1).collect::<Vec<_>>()), result, "byte by byte");
        result
    }

    /// Whether another request has begun. No byte is spoiled.
    fn has_next_request(all: &str) -> bool {
        let (received, has_next_request) = tracked(all);
        assert_eq!(received, all);
        has_next_request
    }

    #[test]
    fn complete_requests_leave_no_remainder() {
        for all in [
            GET.to_owned(),
            GET.repeat(3),
            CHUNKED.to_owned(),
            format!("{CHUNKED}{GET}"),
            CHUNKED.replace("1\r\n", "00001 ;a=b\r\n"),
            CHUNKED.replace("0\r\n\r\n", "0\r\nA: b\r\nC: d\r\n\r\n"),
            CHUNKED.replace("1\r\n{", "1F\r\n\n\r\n\r\n0123456789abcdef0123456789"),
            format!("{GET}\r\n"),
            format!("{GET}\n\n"),
            format!("{POST}hello"),
            format!("{GET}{POST}hello"),
            format!("{POST}hello\r\n"),
            format!("{POST}\r\n\r\n{{"),
            format!("{POST}{{\n\n}}\n"),
            POST.replace("Content-Length: 5", "content-LENGTH:\t 0005  ") + "a\nb\nc",
            POST.replace("Host: a", "Content: 9\r\nContent-Length-X: 7\r\nT: 1") + "a\nb\nc",
            // A partial body.
            format!("{POST}he"),
            POST.to_owned(),
            POST.replace('5', "18446744073709551615") + "hello\r\n",
        ] {
            assert!(!has_next_request(&all), "{all:?}");
        }
    }

    #[test]
    fn bytes_after_a_request_start_the_next() {
        for all in [
            format!("{GET}G"),
            format!("{GET}GET / HTTP/1.1\r\n"),
            format!("{GET}GET / HTTP/1.1\r\nHost: a\r\n\r"),
            format!("{CHUNKED}POST /cgi/sess"),
            format!("{GET}{GET}\r\nG"),
            format!("{POST}helloG"),
            format!("{POST}\nhellGET / HTTP/1.1"),
            // An empty line in the body hides nothing.
            format!("{POST}\r\n\r\nxG"),
        ] {
            assert!(has_next_request(&all), "{all:?}");
        }
    }

    #[test]
    fn bare_line_feed_in_a_header_section_is_spoiled() {
        for (all, expected) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\0Host: a\r\n\r\n"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\0\r\n"),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\0"),
            ("GET / HTTP/1.1\r\n\n", "GET / HTTP/1.1\r\n\0"),
            ("\n\r\nGET / HTTP/1.1\n\n", "\n\r\nGET / HTTP/1.1\0\n"),
        ] {
            assert_eq!(tracked(all), (expected.to_owned(), true), "{all:?}");
            for before in [GET.to_owned(), format!("{POST}a\nb\nc"), CHUNKED.to_owned()] {
                let (received, _) = tracked(&format!("{before}{all}"));
                assert_eq!(received, format!("{before}{expected}"), "{before:?}{all:?}");
            }
        }
        let trailer = CHUNKED.replace("0\r\n\r\n", "0\r\nA: b\nC: d\r\n\r\n");
        assert_eq!(tracked(&trailer).0, trailer.replace("b\n", "b\r"));
        let end = CHUNKED.replace("0\r\n\r\n", "0\r\n\n");
        assert_eq!(tracked(&end).0, end.replace("0\r\n\n", "0\r\n\r"));
        let both = CHUNKED.replace("0\r\n\r\n", "0\r\nA: b\n\n");
        assert_eq!(tracked(&both).0, both.replace("b\n\n", "b\r\r"));
    }

    #[test]
    fn offers_of_another_protocol_are_hidden() {
        let request = |fields: &str| format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        for (fields, expected) in [
            ("Upgrade: websocket", "Upgrad_: websocket"),
            ("uPGRADE:h2c", "uPGRAD_:h2c"),
            ("Connection: Upgrade", "Connection: Upgrad_"),
            ("Connection:keep-alive,upgrade ", "Connection:keep-alive,upgrad_ "),
            ("connection: upgrade,upgrade, close", "connection: upgrad_,upgrad_, close"),
            ("Connection: Upgrade\r\nUpgrade: foo", "Connection: Upgrad_\r\nUpgrad_: foo"),
        ] {
            let (received, _) = tracked(&request(fields));
            assert_eq!(received, request(expected));
        }
        for fields in ["X-Upgrade: upgrade", "Connection: x-upgrade", "C: upgrade", "U: Upgrade"] {
            assert!(!has_next_request(&request(fields)));
        }
        // The request line is no header field.
        assert!(!has_next_request("upgrade: / HTTP/1.1\r\nHost: a\r\n\r\n"));
        // An offer with a body ends where the body ends.
        let post = POST.replace("Host: a", "Upgrade: websocket");
        assert!(tracked(&format!("{post}hello")).0.ends_with("hello"));
        assert!(tracked(&format!("{post}helloG")).1);
    }

    #[test]
    fn long_line_about_the_length_of_a_body_is_refused_in_pieces() {
        for zeros in [MAX_LINE_START, 10 * MAX_LINE_START] {
            let name = format!("Content-Length: {}", "0".repeat(zeros));
            let all = POST.replace("Content-Length: ", &name);
            let mut tracker = MessageTracker::default();
            let mut received = Vec::new();
            for piece in all.as_bytes().chunks(8) {
                let mut piece = piece.to_vec();
                tracker.add(&mut piece);
                received.extend(piece);
            }
            assert_ne!(received, all.as_bytes(), "a byte is spoiled");
        }
    }

    #[test]
    fn headers_are_pending_until_their_requests_start() {
        let post = POST.len();
        for (all, expected) in [
            (GET.to_owned(), vec![GET.len(), 0, 0]),
            (GET[..10].to_owned(), vec![10, 0]),
            (format!("\r\n{GET}{GET}"), vec![2 * GET.len(), GET.len(), 0]),
            (format!("{GET}{}", &GET[..2]), vec![GET.len() + 2, (GET.len() + 2).div_ceil(2), 0]),
            (format!("{POST}hello"), vec![post, 0]),
            (format!("{POST}hello{POST}he"), vec![2 * post, post, 0]),
        ] {
            for size in [1, 3, all.len()] {
                let mut tracker = MessageTracker::default();
                all.as_bytes().chunks(size).for_each(|part| tracker.add(&mut part.to_vec()));
                let mut pending = vec![tracker.pending_len()];
                for _ in 1..expected.len() {
                    tracker.on_request_start();
                    pending.push(tracker.pending_len());
                }
                assert_eq!(pending, expected, "{all:?}");
            }
        }
    }

    #[test]
    fn length_of_a_body_that_cannot_be_read_is_refused() {
        for value in ["-1", "5x", "", "+", "99999999999999999999", "5,5"] {
            let all = POST.replace("Content-Length: 5", &format!("Content-Length: {value}"));
            let (received, is_refused) = tracked(&all);
            assert!(is_refused && received != all, "{value}");
        }
    }
}
