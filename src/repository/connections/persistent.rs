//! Statements that are prepared once and reused.
//!
//! In sqlx 0.9, statements of `query_as!` and `query_scalar!` are not reused: `Map::persistent`
//! checks arguments that were already taken. PostgreSQL would then parse and plan the statement
//! each time, in an additional round trip. A frequent statement is wrapped in [`Persistent`]; the
//! macro still checks it. Delete this file when sqlx reuses such statements.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgStatement};
use sqlx::{Execute, Postgres, SqlStr};

/// A statement that stays prepared on its connection. It returns plain rows for `FromRow`.
pub(in crate::repository) struct Persistent<Q>(pub(in crate::repository) Q);

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
