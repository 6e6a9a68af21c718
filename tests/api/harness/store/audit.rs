//! The audit as it is stored.

use sqlx::PgExecutor;
use sqlx::postgres::PgConnection;

use super::{TestApp, execute};

/// The actions of all entries, in no order.
pub async fn audit_actions(executor: impl PgExecutor<'_>) -> Vec<String> {
    sqlx::query_scalar("select action from audit").fetch_all(executor).await.unwrap()
}

/// Writes this many entries, at random times of one day long ago.
pub async fn insert_old_audit_entries(app: &TestApp, count: i64) {
    let sql = "insert into audit (at, action, actor, host, pid, details)
               select '2020-01-01'::timestamptz + random() * interval '1 day', 'app.create', 'a',
                      'h', 1, '{}'
               from generate_series(1, $1)";
    sqlx::query(sql).bind(count).execute(&app.pool).await.unwrap();
}

/// Makes PostgreSQL refuse every new entry, by a constraint that is called `no_new_entries`.
pub async fn refuse_audit_entries(connection: &mut PgConnection) {
    let sql = "alter table audit add constraint no_new_entries check (false) not valid";
    execute(connection, sql).await;
}

/// The errors of PostgreSQL for an update of all entries and for the removal of all entries.
pub async fn audit_change_errors(connection: &mut PgConnection) -> Vec<String> {
    let mut errors = Vec::new();
    for sql in ["update audit set actor = 'nobody'", "truncate audit"] {
        let error = sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap_err();
        errors.push(error.to_string());
    }
    errors
}
