//! Idempotency keys, which identify repeated requests.

use chrono::TimeDelta;

use super::Invalid;
use super::text::check_length;

/// The name that a caller gave to a request, and a digest of the request. The same name with the
/// same digest is the same request, sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    name: Box<str>,
    digest: [u8; 32],
}

impl IdempotencyKey {
    /// The maximum length of a name, in characters.
    pub const MAX: usize = 255;

    /// The time for which a key is stored. Afterwards the name can identify another request.
    pub const RETENTION: TimeDelta = TimeDelta::hours(24);

    /// Accepts a name of 1 to 255 visible ASCII characters.
    ///
    /// # Errors
    /// [`Invalid`] names the violated rule.
    pub fn new(name: &str, digest: [u8; 32]) -> Result<Self, Invalid> {
        check_length(name, Self::MAX)?;
        match name.chars().find(|c| !c.is_ascii_graphic()) {
            Some(c) => Err(Invalid::NotVisible(c)),
            None => Ok(Self { name: name.into(), digest }),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest of the content of the request.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_visible_ascii_of_bounded_length() {
        let new = |name: &str| IdempotencyKey::new(name, [0; 32]);
        assert!(new("8e03978e-40d5-43e8-bc93-6894a57f9324").is_ok());
        assert!(new(&"~".repeat(255)).is_ok());
        assert_eq!(new(""), Err(Invalid::Empty));
        assert_eq!(new("a b"), Err(Invalid::NotVisible(' ')));
        assert_eq!(new("é"), Err(Invalid::NotVisible('é')));
        assert_eq!(new(&"x".repeat(256)), Err(Invalid::TooLong { max: 255, got: 256 }));
    }
}
