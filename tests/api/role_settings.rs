//! Settings that a role of PostgreSQL has of its own change no outcome.

use muster::repository::{Connection, Error, connections::connection_settings};
use reqwest::{Method, StatusCode};
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::harness::proxy::Proxy;
use crate::harness::server::database;
use crate::harness::store::{self, PgConnectOptions};
use crate::harness::{self, TestApp, settings, spawn, spawn_app, wait_until};
use crate::v1;

/// A setting of a role that would change outcomes or end connections: the oldest version of
/// PostgreSQL that has it, the value of the role, and the value on a connection of Muster.
struct RoleSetting {
    name: &'static str,
    since: i32,
    of_role: &'static str,
    of_muster: &'static str,
}

const fn setting(
    name: &'static str,
    since: i32,
    of_role: &'static str,
    of_muster: &'static str,
) -> RoleSetting {
    RoleSetting { name, since, of_role, of_muster }
}

const SETTINGS: [RoleSetting; 11] = [
    setting("default_transaction_isolation", 15, "repeatable read", "read committed"),
    setting("default_transaction_deferrable", 15, "on", "off"),
    setting("lock_timeout", 15, "2s", "0"),
    setting("idle_session_timeout", 15, "5min", "0"),
    setting("idle_in_transaction_session_timeout", 15, "5s", "10s"),
    setting("statement_timeout", 15, "5s", "10s"),
    setting("transaction_timeout", 17, "5min", "0"),
    setting("exit_on_error", 15, "on", "off"),
    setting("transform_null_equals", 15, "on", "off"),
    setting("row_security", 15, "on", "off"),
    setting("jit", 15, "on", "off"),
];

async fn value(connection: &mut Connection, name: &str) -> String {
    sqlx::query_scalar("select current_setting($1)").bind(name).fetch_one(connection).await.unwrap()
}

async fn version(connection: &mut Connection) -> i32 {
    let sql = "select current_setting('server_version_num')::int / 10000";
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn settings_of_a_role_do_not_reach_the_connections_of_the_service() {
    let database = database().await;
    let version = version(&mut store::connect_to(&database).await).await;
    let known = || SETTINGS.iter().filter(|setting| setting.since <= version);
    for setting in known() {
        store::set_of_role(&database, setting.name, setting.of_role).await;
    }
    let pool = harness::connect(&database, &settings());
    let mut pooled = pool.acquire().await.unwrap();
    let mut apart =
        connection_settings::open(&pool.session_options().await.unwrap()).await.unwrap();
    let mut plain = store::connect_to(&database).await;
    for RoleSetting { name, of_role, of_muster, .. } in known() {
        assert_eq!(value(&mut plain, name).await, *of_role, "{name} of the role");
        assert_eq!(value(&mut pooled, name).await, *of_muster, "{name} of the pool");
        assert_eq!(value(&mut apart, name).await, *of_muster, "{name} outside of the pool");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn change_succeeds_after_a_concurrent_one_if_the_role_has_repeatable_reads() {
    let database = database().await;
    store::set_of_role(&database, "default_transaction_isolation", "repeatable read").await;
    let app = spawn(settings(), database, |options| options).await;
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().parse().unwrap();
    let mut other = store::begin_late_update(&app, id).await;
    let change = app.change(&session, "a", json!({ "addMember": ["d"] }));
    let end_other = async {
        store::wait_for_blocked_statement(&mut store::connect(&app).await).await;
        store::commit(&mut other).await;
    };
    let (changed, ()) = tokio::join!(change, end_other);
    assert_eq!((&changed["errcode"], &changed["version"]), (&json!(0), &json!(3)), "{changed}");
}

/// Makes PostgreSQL refuse the next statements that change a session, with this code.
async fn refuse_changes(app: &TestApp, code: &str, count: u32) {
    let sql = format!(
        "create sequence refused;
         create function refuse() returns trigger language plpgsql as $$ begin
             if nextval('refused') <= {count} then
                 raise exception 'no' using errcode = '{code}';
             end if;
             return new;
         end $$;
         create trigger refuse before update on session for each row execute function refuse()"
    );
    store::connect(app).await.execute(AssertSqlSafe(sql)).await.unwrap();
}

async fn status_of_a_change(app: &TestApp) -> StatusCode {
    let session = app.session(&["a", "b", "c"]).await;
    let id = session["sessionId"].as_str().unwrap().trim_matches(['{', '}']);
    let body = json!({ "operator": "a", "title": "new" });
    v1::send(app, Method::PATCH, &format!("/v1/sessions/{id}"), &body).await.status()
}

#[tokio::test]
async fn change_is_repeated_after_a_serialization_failure() {
    let app = spawn_app().await;
    refuse_changes(&app, "40001", 1).await;
    assert_eq!(status_of_a_change(&app).await, StatusCode::OK);
}

#[tokio::test]
async fn change_that_gets_no_lock_is_unavailable() {
    let app = spawn_app().await;
    refuse_changes(&app, "55P03", u32::MAX).await;
    assert_eq!(status_of_a_change(&app).await, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn statement_on_a_connection_that_was_idle_too_long_was_not_executed() {
    let database = database().await;
    // Over TCP, the client reads the error of PostgreSQL before it notices the end of the connection.
    let proxy = Proxy::on_tcp(&database.options).await;
    let direct = database.options.clone();
    let options = if direct.get_socket().is_some() {
        let options = PgConnectOptions::new_without_pgpass();
        options.username(direct.get_username()).database(&database.name)
    } else {
        direct
    };
    let options = proxy.options_through(store::without_tls(options));
    let pool = store::open_pool(options, &settings());
    let mut observer = store::connect_to(&database).await;
    for (begin, setting) in
        [("", "idle_session_timeout"), ("begin; ", "idle_in_transaction_session_timeout")]
    {
        let mut connection = pool.acquire().await.unwrap();
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        let sql = format!("{begin}set {setting} = 20");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await.unwrap();
        wait_until("the end of the connection", async || {
            let sql = "select not exists (select from pg_stat_activity where pid = $1)";
            sqlx::query_scalar(sql).bind(pid).fetch_one(&mut observer).await.unwrap()
        })
        .await;
        let error = Error::from((&mut *connection).execute("select 1").await.unwrap_err());
        assert!(matches!(error, Error::Unavailable(_)), "{setting}: {error:?}");
    }
}
