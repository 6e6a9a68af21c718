//! Units that follow one another, each a head that says how long its content is, and its content:
//! bytes only, no times. What heads mean is for those that have such units.

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

/// The units of a connection, as far as they came. `HEAD` is the length of their heads.
#[derive(Debug)]
pub(super) struct Units<const HEAD: usize> {
    /// How many bytes follow a head.
    length: fn(&[u8; HEAD]) -> usize,
    head: [u8; HEAD],
    /// Bytes of the head that are there; all while the content is awaited.
    got: usize,
    /// Bytes of the content that are to come.
    left: usize,
}

impl Awaited {
    /// The rest of something, or not, which has begun just now, or not.
    pub(super) fn rest(is_awaited: bool, has_just_begun: bool) -> Self {
        match is_awaited {
            false => Self::Nothing,
            true if has_just_begun => Self::RestOfAnother,
            true => Self::Rest,
        }
    }
}

impl<const HEAD: usize> Units<HEAD> {
    /// None came yet; a head is followed by as many bytes as `length` says.
    pub(super) fn new(length: fn(&[u8; HEAD]) -> usize) -> Self {
        Self { length, head: [0; HEAD], got: 0, left: 0 }
    }

    /// More came. Gives the head of the first unit that ends there, and the bytes behind it.
    pub(super) fn add<'a>(&mut self, bytes: &'a [u8]) -> (Option<[u8; HEAD]>, &'a [u8]) {
        let (head, bytes) = bytes.split_at(bytes.len().min(HEAD - self.got));
        self.head[self.got..][..head.len()].copy_from_slice(head);
        self.got += head.len();
        if !head.is_empty() && self.got == HEAD {
            self.left = (self.length)(&self.head);
        }
        let (content, bytes) = bytes.split_at(bytes.len().min(self.left));
        self.left -= content.len();
        if self.got < HEAD || self.left > 0 {
            return (None, bytes);
        }
        self.got = 0;
        (Some(self.head), bytes)
    }

    /// Whether one has begun and not ended.
    pub(super) fn has_begun(&self) -> bool {
        self.got > 0
    }

    /// The head of the one whose content is awaited.
    pub(super) fn head(&self) -> Option<&[u8; HEAD]> {
        (self.got == HEAD).then_some(&self.head)
    }
}
