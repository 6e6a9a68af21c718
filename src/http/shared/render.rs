//! Domain values in the JSON form that every API uses.

use serde::Serializer;

use crate::domain::{Account, SessionId};

/// A session id: upper case, in braces.
pub(crate) fn as_text<S: Serializer>(id: &SessionId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// Accounts as a list of text.
pub(crate) fn as_texts<S: Serializer>(
    accounts: &&[Account],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(accounts.iter().map(Account::as_str))
}
