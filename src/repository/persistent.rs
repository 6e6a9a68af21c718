//! Statements that are prepared once and kept.
//!
//! Statements made by `query_as!` and `query_scalar!` of sqlx 0.9 ask not to be kept:
//! `Map::persistent` looks for arguments that were taken from it before. PostgreSQL would then
//! parse and plan the statement anew each time, in a round trip of its own. A statement that runs
//! often goes through [`Kept`]; the macro still checks it. Delete this file when sqlx keeps them.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgStatement};
use sqlx::{Execute, Postgres, SqlStr};

/// A statement that stays prepared on its connection. It returns plain rows, to be read by
/// `FromRow`.
pub(super) struct Persistent<Q>(pub(super) Q);

impl<'q, Q: Execute<'q, Postgres>> Execute<'q, Postgres> for Persistent<Q> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        true
    }
}
