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
        /// What is the same in all that is rendered.
        const FRAME: usize = 256;
        let Session { title, owner, members, attributes, .. } = &self.session;
        let (title, owner) = (title.as_str(), owner.as_str());
        let accounts: usize = members.iter().map(|account| 24 + heap(account.as_str())).sum();
        let names: usize = members.iter().map(|account| 1 + rendered(account.as_str())).sum();
        let texts = heap(title) + heap(owner) + accounts;
        let rendered = FRAME + rendered(title) + rendered(owner) + names;
        (ITSELF + texts + rendered + attributes.size()) as u64
    }
}

/// What a text takes beside its value: short ones lie in it.
fn heap(text: &str) -> usize {
    if text.len() > 24 { text.len() } else { 0 }
}

/// What it takes as JSON, with its quotation marks.
fn rendered(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    text.len() + escaped + 2
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

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;
    use crate::domain::{
        Account, Attributes, AttributesPatch, Buin, NewSession, RemovePolicy, Rules, SessionId,
        Title,
    };

    fn size(title: &str, members: &[String], attributes: &serde_json::Value) -> usize {
        let attributes: Map<_, _> = attributes.as_object().unwrap().clone();
        let rules =
            Rules { min_members: 1, max_members: 9_999, remove_members: RemovePolicy::Owner };
        let new = NewSession {
            title: Title::new(title).unwrap(),
            creator: Account::new("a").unwrap(),
            members: members.iter().map(|member| Account::new(member).unwrap()).collect(),
            attributes: Attributes::new(&AttributesPatch::new(attributes)).unwrap(),
            reason: None,
        };
        let (id, buin) = (SessionId::new(uuid::Uuid::nil()), Buin::new(1).unwrap());
        let session = Session::create(id, buin, new, &rules, chrono::DateTime::UNIX_EPOCH).unwrap();
        KnownSession::from(session).size().try_into().unwrap()
    }

    #[test]
    fn what_a_session_takes_is_not_said_to_be_less() {
        let small = size("t", &[], &json!({}));
        assert!(small < 1_000);
        // The title itself, and rendered, where each of these has a backslash before it.
        let title = "\"".repeat(64);
        assert!(size(&title, &[], &json!({})) >= small + 3 * (title.len() - 1));
        let members: Vec<String> = (0..1_000).map(|number| format!("\"{number}\"")).collect();
        // As many places of 24 bytes, and five characters or more, two of them as two.
        assert!(size("t", &members, &json!({})) >= small + 1_000 * (24 + 9));
        // However little is in it, an object has room for eleven.
        let objects: Map<_, _> =
            (0..1_000).map(|number| (number.to_string(), json!({ "x": 1 }))).collect();
        let object = size_of::<[(String, serde_json::Value); 11]>();
        assert!(size("t", &[], &objects.into()) >= small + 1_000 * object);
    }
}
