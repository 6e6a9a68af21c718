//! Remembers sealed texts, so that a recorded text is refused when it is sent again.
//!
//! A text is known by its last block. An attacker can drop or change the blocks at the beginning, and
//! with them the time in a token request. The end must stay, because each message ends with the app id.
//!
//! The memory is that of this server, and ends with it. When it is full, the oldest texts are
//! forgotten. Texts that were accepted have memories of their own, which an attacker without the key
//! cannot fill.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wire::SealedFingerprint;

/// A bounded set of sealed texts.
pub struct ReplayMemory {
    capacity: usize,
    texts: Mutex<Texts>,
}

#[derive(Default)]
struct Texts {
    known: HashSet<SealedFingerprint>,
    /// The same texts, the oldest first.
    order: VecDeque<SealedFingerprint>,
}

impl ReplayMemory {
    /// A memory for `capacity` texts; each takes about 60 bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, texts: Mutex::default() }
    }

    /// Whether a text is remembered.
    pub fn contains(&self, text: SealedFingerprint) -> bool {
        self.lock().known.contains(&text)
    }

    /// Remembers a text. Returns whether it is new.
    pub fn remember(&self, text: SealedFingerprint) -> bool {
        let mut texts = self.lock();
        if !texts.known.insert(text) {
            return false;
        }
        texts.order.push_back(text);
        if texts.order.len() > self.capacity
            && let Some(oldest) = texts.order.pop_front()
        {
            texts.known.remove(&oldest);
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Texts> {
        // No code panics while it holds the lock.
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{AesKey, Envelope};

    #[test]
    fn a_text_is_new_once_and_the_oldest_is_forgotten() {
        let envelope = Envelope::new(&AesKey::generate(), "app");
        let texts: Vec<_> = (0..4)
            .map(|_| SealedFingerprint::from_sealed(&envelope.seal(b"1718000000")).unwrap())
            .collect();
        let memory = ReplayMemory::new(3);
        for text in &texts[..3] {
            assert!(memory.remember(*text));
            assert!(!memory.remember(*text));
        }
        assert!(memory.remember(texts[3]), "a new text has room");
        assert!(!memory.remember(texts[1]) && !memory.remember(texts[3]));
        assert!(memory.remember(texts[0]), "the oldest was forgotten");
        let texts = memory.texts.lock().unwrap();
        assert_eq!((texts.known.len(), texts.order.len()), (3, 3));
    }
}
