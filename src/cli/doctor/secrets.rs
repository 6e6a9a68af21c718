//! The check of the stored secrets: each secret can be opened, and other users cannot read the key.

use super::super::explain::WRONG_KEY;
use super::report::{Check, with_causes};
use crate::service::admin::AdminContext;
use crate::service::admin::diagnosis::{self, SecretsCondition};

pub(super) const NAME: &str = "secrets";

pub(super) async fn check(admin: &AdminContext) -> Check {
    let fail = |error, remedy| Check::fail(NAME, with_causes(error), remedy);
    match diagnosis::secrets(admin).await {
        SecretsCondition::Sealed { key } => {
            Check::ok(NAME, format!("sealed with the master key {key}, which is available"))
        }
        SecretsCondition::ExposedKeyFile { path, mode } => {
            let path = path.display();
            let found = format!("every user can read {path}, which has mode {mode:o}");
            Check::warn(NAME, found, format!("`chmod 600 {path}`"))
        }
        SecretsCondition::NotSealed => {
            let remedy = "run `muster migrate`, or let `muster serve` do it";
            Check::warn(NAME, "not sealed yet", remedy)
        }
        SecretsCondition::UnreadableKeys(error) => {
            fail(error, "give this command the master keys of the servers")
        }
        SecretsCondition::MissingKey(error) => fail(error, WRONG_KEY),
        SecretsCondition::DamagedSecret(error) => {
            fail(error, "restore the named value from a backup")
        }
        SecretsCondition::Failed(error) => fail(error, "see the check of the database"),
    }
}
