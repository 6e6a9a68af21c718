//! A session as it is held in memory, and shared by whoever asks.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::domain::Session;

/// A session at one of its versions. It never changes; a later version is another one.
#[derive(Debug)]
pub struct KnownSession {
    session: Session,
    rendered: OnceLock<Box<[u8]>>,
}

impl KnownSession {
    /// The bytes that an API makes of it, kept for the next who asks. One API may do so; the other
    /// ones render anew.
    pub fn rendered(&self, render: impl FnOnce(&Session) -> Vec<u8>) -> &[u8] {
        self.rendered.get_or_init(|| render(&self.session).into_boxed_slice())
    }

    /// About how much memory it takes, in bytes, with what is rendered of it.
    pub(super) fn size(&self) -> u64 {
        /// What every session takes: itself, the entry of a cache, what is kept to count uses.
        const ITSELF: usize = 512;
        let text = |length: usize| if length > 24 { length } else { 0 };
        let members = self.session.members.iter();
        let members: usize = members.map(|account| 24 + text(account.as_str().len())).sum();
        let names: usize = self.session.members.iter().map(|account| account.as_str().len()).sum();
        // Rendered, each has quotation marks and a comma.
        let rendered = 256 + names + 3 * self.session.members.len();
        let attributes = self.session.attributes.size();
        (ITSELF + members + rendered + attributes) as u64
    }
}

impl From<Session> for KnownSession {
    fn from(session: Session) -> Self {
        Self { session, rendered: OnceLock::new() }
    }
}

impl Deref for KnownSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}
