//! A session in the cache, shared by all requests that read it.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::domain::Session;

/// A session at one of its versions. It never changes: a later version is another value.
#[derive(Debug)]
pub struct CachedSession {
    session: Session,
    json: OnceLock<Box<[u8]>>,
}

impl CachedSession {
    /// The bytes that an API renders of the session, stored for the next request. Only one API may
    /// use this, because every call returns the bytes of the first `render`.
    pub fn json(&self, render: impl FnOnce(&Session) -> Vec<u8>) -> &[u8] {
        self.json.get_or_init(|| render(&self.session).into_boxed_slice())
    }

    /// The estimated memory of the session, in bytes, including the rendered bytes.
    pub(super) fn memory_size(&self) -> u64 {
        /// The session itself, its cache entry and reference counts.
        const ENTRY_OVERHEAD: usize = 512;
        /// The rendered bytes that every session has.
        const JSON_OVERHEAD: usize = 256;
        let Session { title, owner, members, attributes, .. } = &self.session;
        let (title, owner) = (title.as_str(), owner.as_str());
        let accounts: usize = members.iter().map(|account| 24 + heap_len(account.as_str())).sum();
        let names: usize = members.iter().map(|account| 1 + json_len(account.as_str())).sum();
        let texts = heap_len(title) + heap_len(owner) + accounts;
        let json_size = JSON_OVERHEAD + json_len(title) + json_len(owner) + names;
        (ENTRY_OVERHEAD + texts + json_size + attributes.size()) as u64
    }
}

/// The memory that a text allocates. Short texts are stored inside the value.
fn heap_len(text: &str) -> usize {
    if text.len() > 24 { text.len() } else { 0 }
}

/// The length of a text as JSON, with quotation marks.
fn json_len(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    text.len() + escaped + 2
}

impl From<Session> for CachedSession {
    fn from(session: Session) -> Self {
        Self { session, json: OnceLock::new() }
    }
}

impl Deref for CachedSession {
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
        let rules = Rules {
            min_members: 1,
            min_remaining: 1,
            max_members: 9_999,
            remove_members: RemovePolicy::Owner,
        };
        let new = NewSession {
            title: Title::new(title).unwrap(),
            creator: Account::new("a").unwrap(),
            members: members.iter().map(|member| Account::new(member).unwrap()).collect(),
            attributes: Attributes::new(&AttributesPatch::new(attributes)).unwrap(),
            reason: None,
        };
        let (id, buin) = (SessionId::new(uuid::Uuid::nil()), Buin::new(1).unwrap());
        let session = Session::create(id, buin, new, &rules, chrono::DateTime::UNIX_EPOCH).unwrap();
        CachedSession::from(session).memory_size().try_into().unwrap()
    }

    #[test]
    fn memory_of_a_session_is_not_underestimated() {
        let small = size("t", &[], &json!({}));
        assert!(small < 1_000);
        // The title, and its rendered form with a backslash before each quotation mark.
        let title = "\"".repeat(64);
        assert!(size(&title, &[], &json!({})) >= small + 3 * (title.len() - 1));
        let members: Vec<String> = (0..1_000).map(|number| format!("\"{number}\"")).collect();
        // Per member a value of 24 bytes, and at least five characters, of which two are escaped.
        assert!(size("t", &members, &json!({})) >= small + 1_000 * (24 + 9));
        // Even a small object allocates room for eleven entries.
        let objects: Map<_, _> =
            (0..1_000).map(|number| (number.to_string(), json!({ "x": 1 }))).collect();
        let object = size_of::<[(String, serde_json::Value); 11]>();
        assert!(size("t", &[], &objects.into()) >= small + 1_000 * object);
    }
}
