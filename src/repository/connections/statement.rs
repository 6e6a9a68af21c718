//! A statement with its arguments, which can be run once more if its plan is outdated.
//!
//! PostgreSQL refuses a prepared statement whose result has other types than when it was prepared,
//! because a table was altered since. Nothing was executed then.

use futures_util::TryStreamExt as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArguments, PgConnection, PgDatabaseError, PgQueryResult, PgRow, PgStatement,
};
use sqlx::{Connection as _, Either, Error, Execute, Executor as _, Postgres, SqlStr};

/// A part of the result of a statement.
pub(in crate::repository) type Step = Either<PgQueryResult, PgRow>;

/// A statement and its arguments.
#[derive(Clone)]
pub(in crate::repository) struct PreparedStatement {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    is_persistent: bool,
}

impl PreparedStatement {
    /// The statement of `query`.
    ///
    /// # Errors
    /// When an argument cannot be encoded.
    pub(in crate::repository) fn new<'q>(
        mut query: impl Execute<'q, Postgres>,
    ) -> Result<Self, Error> {
        let arguments = query.take_arguments().map_err(Error::Encode)?;
        // Asked after the arguments are taken, as sqlx does: see `super::persistent`.
        let is_persistent = query.persistent();
        Ok(Self { sql: query.sql(), arguments, is_persistent })
    }

    /// Runs the statement, once more with a new plan if its plan is outdated.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::repository) async fn run(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Step>, Error> {
        // Only a statement that stays prepared can have an outdated plan.
        let again = self.is_persistent.then(|| self.clone());
        let result = self.run_once(connection).await;
        match (result, again) {
            (Err(error), Some(again)) if is_outdated_plan(&error) => {
                connection.clear_cached_statements().await?;
                again.run_once(connection).await
            }
            (result, _) => result,
        }
    }

    /// Runs the statement.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn run_once(self, connection: &mut PgConnection) -> Result<Vec<Step>, Error> {
        connection.fetch_many(self).try_collect().await
    }
}

impl Execute<'_, Postgres> for PreparedStatement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

/// Whether PostgreSQL refused a prepared statement because the types of its result have changed.
/// The text of the error depends on the language of the server, so the place in PostgreSQL's source
/// identifies it.
pub(in crate::repository) fn is_outdated_plan(error: &Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("0A000")
            && error
                .try_downcast_ref::<PgDatabaseError>()
                .is_some_and(|error| error.routine() == Some("RevalidateCachedQuery"))
    })
}
