//! Detects the next request on an HTTP/1 connection: bytes only, no times.
//!
//! The surprise: nothing is parsed a second time. A header section ends with an empty line, and so
//! does a chunked body. So the bytes after the last empty line begin another request if they exceed
//! the body that the last request announced. A body with an empty line in it may hide such a
//! beginning, but one whole request is never taken for two.

use memchr::memrchr_iter;

/// The end of the received bytes.
#[derive(Debug, Default)]
pub(super) struct NextRequestDetector {
    /// Bytes since the last empty line.
    length: u64,
    /// The last two received bytes.
    last: [u8; 2],
    /// Bytes of the body that the last request announced.
    body_len: u64,
}

impl NextRequestDetector {
    /// Adds received bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.length = match last_empty_line_end(self.last, bytes) {
            Some(end) => (bytes.len() - end) as u64,
            None => self.length + bytes.len() as u64,
        };
        self.last = match *bytes {
            [.., first, second] => [first, second],
            [second] => [self.last[1], second],
            [] => self.last,
        };
    }

    /// Sets the length of the body that the last request announced; 0 if the body is chunked.
    pub(super) fn set_body_len(&mut self, body_len: u64) {
        self.body_len = body_len;
    }

    /// Whether another request has begun after the last one. A line end alone does not begin a
    /// request: some clients send one after a body.
    pub(super) fn next_request_started(&self) -> bool {
        let line_end = match self.last {
            [b'\r', b'\n'] => 2,
            [_, b'\n'] => 1,
            _ => 0,
        };
        self.length > self.body_len.saturating_add(line_end)
    }
}

/// The end of the last empty line in `bytes`, which came after `before`.
fn last_empty_line_end(before: [u8; 2], bytes: &[u8]) -> Option<usize> {
    let back = |at: usize, by: usize| match at.checked_sub(by) {
        Some(at) => bytes[at],
        None => before[before.len() + at - by],
    };
    let is_empty = |at: &usize| match back(*at, 1) {
        b'\r' => back(*at, 2) == b'\n',
        before => before == b'\n',
    };
    memrchr_iter(b'\n', bytes).find(is_empty).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    const CHUNKED: &str =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n\r\n";

    /// Whether another request has begun; the same for every split of the bytes.
    fn has_begun(body: u64, all: &str) -> bool {
        let detect = |pieces: &[&[u8]]| {
            let mut detector = NextRequestDetector::default();
            pieces.iter().for_each(|piece| detector.add(piece));
            detector.set_body_len(body);
            detector.next_request_started()
        };
        let all = all.as_bytes();
        let has_next = detect(&[all]);
        for at in 0..=all.len() {
            let (first, second) = all.split_at(at);
            assert_eq!(detect(&[first, second]), has_next, "cut at {at}");
        }
        assert_eq!(detect(&all.chunks(1).collect::<Vec<_>>()), has_next, "byte by byte");
        has_next
    }

    #[test]
    fn complete_requests_leave_no_remainder() {
        for (body, all) in [
            (0, GET.to_owned()),
            (0, GET.replace('\r', "")),
            (0, GET.repeat(3)),
            (0, CHUNKED.to_owned()),
            (0, format!("{CHUNKED}{GET}")),
            (0, format!("{GET}\r\n")),
            (5, format!("{POST}hello")),
            (5, format!("{GET}{POST}hello")),
            (5, format!("{POST}hello\r\n")),
            (5, format!("{POST}\r\n\r\n{{")),
            (5, format!("{POST}{{\n\n}}\n")),
            (5, format!("{POST}{{}}\r\n\n")),
            // A partial body.
            (5, format!("{POST}he")),
            (5, POST.to_owned()),
        ] {
            assert!(!has_begun(body, &all), "{all:?}");
        }
    }

    #[test]
    fn bytes_after_a_request_start_the_next() {
        for (body, all) in [
            (0, format!("{GET}G")),
            (0, format!("{GET}GET / HTTP/1.1\r\n")),
            (0, format!("{GET}GET / HTTP/1.1\r\nHost: a\r\n\r")),
            (0, format!("{CHUNKED}POST /cgi/sess")),
            (0, format!("{GET}{GET}\r\nG")),
            (5, format!("{POST}helloG")),
            (5, format!("{POST}helloGET / HTTP/1.1\nHost: a\r\n")),
            (5, format!("{POST}\nhellGET / HTTP/1.1")),
        ] {
            assert!(has_begun(body, &all), "{all:?}");
        }
    }

    #[test]
    fn huge_body_length_does_not_overflow() {
        assert!(!has_begun(u64::MAX, &format!("{POST}hello\r\n")));
    }
}
