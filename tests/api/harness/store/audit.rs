//! The audit as it is stored.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, PgExecutor};

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

/// Executes SQL that the audit refuses by itself, as the owner of the database can.
pub async fn tamper_with_audit(connection: &mut PgConnection, sql: &str) {
    let sql = format!(
        "begin; alter table audit disable trigger audit_unchanged; {sql};
         alter table audit enable trigger audit_unchanged; commit"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Writes an entry as a program of an earlier release does, which knows no hashes.
pub async fn insert_audit_entry(connection: &mut PgConnection, actor: &str) {
    let sql = format!(
        "insert into audit (at, action, actor, host, pid, details)
         values ('2024-01-01T00:00:00.123456Z', 'app.create', '{actor}', 'h', 1, '{{\"b\": [1.50], \"a\": \"张\"}}')"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}
