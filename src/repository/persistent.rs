//! Statements that are prepared once and kept.
//!
//! In the version of sqlx that is in use, whatever `query_as!` and `query_scalar!` make says that
//! it should not be kept (it looks for arguments that were taken from it the moment before), so
//! PostgreSQL would parse and plan it anew each time, in a round trip of its own. What runs often
//! goes through [`Kept`]; the macro still checks it.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgStatement};
use sqlx::{Execute, Postgres, SqlStr};

/// A statement that is kept. It gives rows as they are, which `FromRow` reads.
pub(super) struct Kept<Q>(pub(super) Q);

impl<'q, Q: Execute<'q, Postgres>> Execute<'q, Postgres> for Kept<Q> {
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
