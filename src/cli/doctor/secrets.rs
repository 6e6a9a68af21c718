//! Whether the secrets in the database can be opened, all of them, and who else can read the key.

use super::super::database::{Store, WRONG_KEY};
use super::report::Check;
use crate::repository::{Error, apps, sealing};

pub(super) const NAME: &str = "secrets";

pub(super) async fn check(store: &Store) -> Check {
    if let Err(error) = store.keyring.load() {
        let found = format!("{:#}", anyhow::Error::from(error));
        return Check::fail(NAME, found, "give it the master keys that the servers have");
    }
    let key = match sealing::verify(&store.pool, &store.keyring).await {
        Ok(key) => key,
        Err(Error::NotSealed) => {
            let remedy = "run `muster migrate`, or let `muster serve` do it";
            return Check::warn(NAME, "not sealed yet", remedy);
        }
        Err(error @ Error::MasterKeyUnknown { .. }) => {
            return Check::fail(NAME, error.to_string(), WRONG_KEY);
        }
        Err(error) => {
            let found = format!("{:#}", anyhow::Error::from(error));
            return Check::fail(NAME, found, "see the check of the database");
        }
    };
    if let Err(error) = apps::list(&store.pool, &store.keyring).await {
        let remedy = "restore what is named there from a backup";
        return Check::fail(NAME, format!("{:#}", anyhow::Error::from(error)), remedy);
    }
    if let Some((path, mode)) = store.keyring.open_to_all() {
        let path = path.display();
        let found = format!("everybody can read {path}, which has mode {mode:o}");
        return Check::warn(NAME, found, format!("`chmod 600 {path}`"));
    }
    Check::ok(NAME, format!("sealed with the master key {}, which is here", key.id()))
}
