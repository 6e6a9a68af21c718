//! Tells whether a server at a port uses the same database, without a name of either.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::repository::{self, Pool, connections::probe};

/// The bytes of a fingerprint that are shown.
const SHOWN_BYTES: usize = 12;

/// Identifies one database of Muster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity(Option<String>);

impl DatabaseIdentity {
    /// Reads the identity of a database.
    ///
    /// # Errors
    /// The database fails.
    pub async fn read(pool: &Pool) -> Result<Self, repository::Error> {
        Ok(Self(probe::identity(pool).await?))
    }

    /// The fingerprint of a server that uses this database and listens on a port: a hash, which tells
    /// an anonymous caller nothing. `None` if the database has no tables, so that no server can use it.
    #[must_use]
    pub fn fingerprint(&self, port: u16) -> Option<String> {
        let hash = Sha256::digest(format!("muster/{}/{port}", self.0.as_ref()?));
        Some(hash.iter().take(SHOWN_BYTES).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_that_of_database_and_port() {
        let fingerprint =
            |text: &str, port| DatabaseIdentity(Some(text.to_owned())).fingerprint(port);
        let own = fingerprint("5/7/1.5", 7080).unwrap();
        assert!(own.len() == 2 * SHOWN_BYTES && own.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(fingerprint("5/7/1.5", 7080).unwrap(), own);
        assert_ne!(fingerprint("5/7/1.5", 7081).unwrap(), own, "another port");
        assert_ne!(fingerprint("5/7/1.6", 7080).unwrap(), own, "another database");
        assert_eq!(DatabaseIdentity(None).fingerprint(7080), None);
    }
}
