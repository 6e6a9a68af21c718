//! The signature of a callback.

use sha1::{Digest as _, Sha1};

/// `msg_signature`: lower-case hex SHA-1 of token, timestamp, nonce and encrypted message, sorted
/// bytewise and joined.
#[must_use]
pub fn sign(token: &str, timestamp: &str, nonce: &str, encrypt: &str) -> String {
    let mut parts = [token, timestamp, nonce, encrypt];
    parts.sort_unstable();
    let mut hash = Sha1::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn signs_as_others_do() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("envelope_vectors.json")).unwrap();
        let vector = &vectors["signature"];
        let part = |name: &str| vector[name].as_str().unwrap();
        let signature =
            super::sign(part("token"), part("timestamp"), part("nonce"), part("encrypt"));
        assert_eq!(signature, part("msg_signature"));
    }
}
