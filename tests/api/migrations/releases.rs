//! Programs of two releases on one database: the previous one does not know the planted migrations.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};
use tokio::task::JoinHandle;

use super::{PLANTED, migrate, planted};
use crate::harness::process::{Home, http};
use crate::harness::server::database;
use crate::harness::store::{
    self, LockWaits, MigrationList, MigrationScope, SHORT_WAITS, SchemaStatus,
};
use crate::harness::{TestApp, spawn_app, wait_until};

const EXPAND: &str =
    "-- kind: expand\nalter table session add column note text not null default '';
                      create table note (id int primary key)";
const CONTRACT: &str = "-- kind: contract\nalter table app drop column callbacks_paused_at";

/// Each kind of statement that an expand may have, on the tables that requests use most.
const LARGE_EXPAND: &str = "-- kind: expand
alter table session add column title_length integer;
alter table session_event add column note text not null default '';
create table note (session_id uuid not null, constraint note_pkey primary key (session_id));
create index concurrently session_by_update on session (buin, updated_at);
alter table session add constraint session_title_length check (title_length > 0) not valid;
-- batched
with batch as (
    select session_id, title from session
    where session_id > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
    order by session_id limit 5 for no key update
), changed as (
    update session set title_length = length(batch.title)
    from batch where batch.session_id = session.session_id
)
select session_id::text from batch order by session_id desc limit 1;
alter table session validate constraint session_title_length;
";

#[tokio::test(flavor = "multi_thread")]
async fn program_starts_on_a_database_that_a_newer_one_has_extended() {
    let app = spawn_app().await;
    migrate(&app, &planted(EXPAND), MigrationScope::All).await;
    let ready = app.client.get("/readyz").await;
    assert_eq!(ready.status().as_u16(), 200);

    let home = Home::for_database(&app.database);
    let server = home.serve();
    let client = server.plain_client(&app.api_key);
    let session = client.create().await;
    assert_eq!(
        client
            .post(
                "update",
                &json!({
                    "sessionId": session["sessionId"], "opUser": "a", "title": "changed",
                })
            )
            .await["errcode"],
        0
    );
    let log = server.stop().stderr;
    assert!(log.contains("a newer Muster has extended the database"), "{log}");

    assert_eq!(home.run(&["migrate"]).ok().stdout, "nothing to do\n");
    let status = home.run(&["migrate", "status"]).ok().stdout;
    assert!(status.contains("\n9001: added by a newer Muster"), "{status}");
    home.run(&["app", "list"]).ok();
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("extended the database, by migrations [9001]"), "{doctor:#?}");
    // A copy would lack the additions, and would not say so.
    home.run(&["backup", "copy"]).fails(1, &["muster migrate status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn program_refuses_a_database_after_a_contract_that_it_does_not_know() {
    let app = spawn_app().await;
    let known = planted(EXPAND).with(PLANTED + 1, "remove", CONTRACT);
    migrate(&app, &known, MigrationScope::WithoutContracts).await;
    let home = Home::for_database(&app.database);
    home.serve().stop();

    migrate(&app, &known, MigrationScope::All).await;
    let parts = ["newer than this program", "[9002]", "Run the newer Muster", "backup"];
    home.run(&["serve"]).fails(1, &parts);
    home.run(&["migrate"]).fails(1, &parts);
    let ready = app.client.get("/readyz").await;
    assert_eq!(ready.status().as_u16(), 503);
    assert!(ready.text().await.unwrap().contains("the database is newer than this program"));
}

/// A contract is recorded before its first statement, so no program starts in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn unfinished_contract_is_refused_and_an_unfinished_expand_is_accepted() {
    for (sql, is_usable) in [(EXPAND, true), (CONTRACT, false)] {
        let app = spawn_app().await;
        let sql = sql.replace('\n', "\nselect 1 / (select count(*) from session);\n");
        let options = &app.database.options;
        let (scope, known) = (MigrationScope::All, planted(&sql));
        store::migrate(options, &known, scope, SHORT_WAITS).await.unwrap_err();
        let own = store::schema_status(options, &MigrationList::own()).await;
        assert_eq!(own.is_usable(), is_usable, "{own:?}");
    }
}

#[tokio::test]
async fn contract_waits_for_a_run_of_its_own() {
    let app = spawn_app().await;
    let options = &app.database.options;
    let known = planted(EXPAND).with(PLANTED + 1, "remove", CONTRACT);
    let scope = MigrationScope::WithoutContracts;
    assert_eq!(migrate(&app, &known, scope).await, [PLANTED]);
    let status = store::schema_status(options, &known).await;
    assert!(
        matches!(status, SchemaStatus::ContractsPending(_)) && status.is_usable(),
        "{status:?}"
    );
    assert_eq!(migrate(&app, &known, scope).await, [0_i64; 0]);
    // The next release expands the schema after the contract: migrations keep their order.
    let next = known.with(PLANTED + 2, "next", "-- kind: expand\ncreate table next_note (id int)");
    assert_eq!(migrate(&app, &next, scope).await, [PLANTED + 1, PLANTED + 2]);
    assert_eq!(store::schema_status(options, &next).await, SchemaStatus::Current);
}

#[tokio::test]
async fn new_database_gets_contracts_at_once() {
    let database = crate::harness::server::owned_database().await;
    let known = planted(EXPAND).with(PLANTED + 1, "remove", CONTRACT);
    let (scope, waits) = (MigrationScope::WithoutContracts, LockWaits::default());
    store::migrate(&database.options, &known, scope, waits).await.unwrap();
    assert_eq!(store::schema_status(&database.options, &known).await, SchemaStatus::Current);
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_is_refused_in_the_middle_of_a_migration() {
    let database = database().await;
    let mut connection = store::connect_to(&database).await;
    // An expand of this program that was interrupted.
    let sql = "update _sqlx_migrations set success = false, statements_done = 0 where version = 13";
    store::execute_all(&mut connection, sql).await;
    let home = Home::for_database(&database);
    home.run(&["backup", "copy"]).fails(1, &["migration 13 is not finished", "muster migrate"]);
    assert!(!home.parent.join("copy").join("backup.json").exists());
}

/// The servers that clients use. A server is taken out before it stops, so that no
/// request meets its end.
type Servers = Arc<RwLock<Vec<SocketAddr>>>;

/// Clients that change sessions on one server, and compare the answers of all servers.
struct Clients {
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    changes: Arc<AtomicUsize>,
    /// The newest version of each session.
    versions: Arc<Mutex<BTreeMap<String, i64>>>,
    /// Failed requests, and differences between servers.
    mistakes: Arc<Mutex<Vec<String>>>,
}

impl Clients {
    fn start(app: &TestApp, servers: &Servers) -> Self {
        let clients = Self {
            tasks: Vec::new(),
            stop: Arc::default(),
            changes: Arc::default(),
            versions: Arc::default(),
            mistakes: Arc::default(),
        };
        let tasks = (0..4).map(|number| {
            let (servers, key) = (servers.clone(), app.api_key.clone());
            let (stop, changes) = (clients.stop.clone(), clients.changes.clone());
            let (versions, mistakes) = (clients.versions.clone(), clients.mistakes.clone());
            tokio::spawn(async move {
                let client = Rest { key, http: http() };
                let mut session = None;
                for turn in number.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let servers = servers.read().await;
                    let server = servers[turn % servers.len()];
                    if turn % 8 == 0 {
                        session = None;
                    }
                    match client.change(server, session.take(), turn, &servers).await {
                        Ok((id, version)) => {
                            versions.lock().await.insert(id.clone(), version);
                            session = Some(id);
                            changes.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(mistake) => mistakes.lock().await.push(mistake),
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { tasks, ..clients }
    }

    /// Waits until clients have made more changes.
    async fn wait_for_changes(&self) {
        let before = self.changes.load(Ordering::SeqCst);
        wait_until("changes by clients", async || {
            self.changes.load(Ordering::SeqCst) >= before + 40
                || !self.mistakes.lock().await.is_empty()
        })
        .await;
    }

    async fn stop(self) -> (BTreeMap<String, i64>, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let mistakes = std::mem::take(&mut *self.mistakes.lock().await);
        let versions = std::mem::take(&mut *self.versions.lock().await);
        (versions, mistakes)
    }
}

/// A client of the REST API that records no answer but success.
struct Rest {
    key: String,
    http: reqwest::Client,
}

impl Rest {
    /// Creates or changes a session on one server, and reads it on all.
    async fn change(
        &self,
        server: SocketAddr,
        session: Option<String>,
        turn: usize,
        all: &[SocketAddr],
    ) -> Result<(String, i64), String> {
        let title = format!("t{turn}");
        let (call, body) = match &session {
            None => ("create", json!({ "title": title, "creator": "a", "member": ["b", "c"] })),
            Some(id) => (
                "update",
                json!({
                    "sessionId": id, "opUser": "a", "title": title, "addMember": [format!("m{turn}")],
                }),
            ),
        };
        let url = format!("http://{server}/cgi/session/{call}?accessToken={}", self.key);
        let done = self.send(self.http.post(url).body(body.to_string())).await?;
        let done: Value = serde_json::from_str(&done).map_err(|error| error.to_string())?;
        let id = done["sessionId"].as_str().ok_or_else(|| done.to_string())?.to_owned();
        let version = done["version"].as_i64().ok_or_else(|| done.to_string())?;
        let path = id.trim_matches(['{', '}']).to_lowercase();
        let mut shown: Vec<String> = Vec::new();
        for server in all {
            let url = format!("http://{server}/v1/sessions/{path}");
            let read = self.http.get(url).bearer_auth(&self.key);
            shown.push(self.send(read.header("Muster-Min-Version", version.to_string())).await?);
            let url = format!("http://{server}/v1/sessions/{path}/events");
            shown.push(self.send(self.http.get(url).bearer_auth(&self.key)).await?);
        }
        let is_same = shown.chunks(2).all(|answers| answers == &shown[..2]);
        if is_same { Ok((id, version)) } else { Err(format!("the servers differ: {shown:?}")) }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<String, String> {
        let response = request.send().await.map_err(|error| format!("{error:?}"))?;
        let status = response.status();
        let body = response.text().await.map_err(|error| format!("{error:?}"))?;
        let is_done = status.is_success() && !body.contains("\"errmsg\":\"");
        if is_done || body.contains("\"errcode\":0") {
            Ok(body)
        } else {
            Err(format!("{status} {body}"))
        }
    }
}

async fn assert_ready(server: SocketAddr) {
    let response = http().get(format!("http://{server}/readyz")).send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(status, 200, "{}", response.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_two_releases_answer_alike_through_an_upgrade_and_a_downgrade() {
    let next = planted(LARGE_EXPAND);
    let app = spawn_app().await;
    for _ in 0..100 {
        app.session(&["a", "b", "c"]).await;
    }
    let (previous, previous_signal) = app.another_instance().await;
    let servers: Servers = Arc::new(RwLock::new(vec![app.address, previous]));
    let clients = Clients::start(&app, &servers);
    clients.wait_for_changes().await;

    // The migration runs while only the previous release serves.
    assert_eq!(migrate(&app, &next, MigrationScope::WithoutContracts).await, [PLANTED]);
    clients.wait_for_changes().await;

    // Both releases, then only the next one.
    let (upgraded, upgraded_signal) = app.another_release(next.clone()).await;
    servers.write().await[1] = upgraded;
    previous_signal.stop();
    for server in [app.address, upgraded] {
        assert_ready(server).await;
    }
    clients.wait_for_changes().await;
    let (second, second_signal) = app.another_release(next.clone()).await;
    servers.write().await[0] = second;
    app.shutdown_signal.stop();
    clients.wait_for_changes().await;

    // The real program, which does not know the migration, starts on the newer database.
    let home = Home::for_database(&app.database);
    let downgraded = home.serve();
    servers.write().await[0] = downgraded.address;
    second_signal.stop();
    for server in [downgraded.address, upgraded] {
        assert_ready(server).await;
    }
    clients.wait_for_changes().await;
    servers.write().await.truncate(1);
    upgraded_signal.stop();
    clients.wait_for_changes().await;

    let (versions, mistakes) = clients.stop().await;
    assert_eq!(mistakes, Vec::<String>::new());
    println!("{} sessions changed by two releases, 0 failed, 0 different", versions.len());
    let mut connection = store::connect(&app).await;
    assert_eq!(store::inconsistent_sessions(&mut connection).await, Vec::<String>::new());
    let client = downgraded.plain_client(&app.api_key);
    for (id, version) in versions {
        let shown = client.get(id.trim_matches(['{', '}'])).await;
        assert_eq!(shown["version"], version, "{shown}");
    }
    // All sessions that were there before the migration were changed by it.
    let sql = "select count(title_length) from session";
    assert!(store::number(&mut connection, sql).await >= 100);
    assert_eq!(store::schema_status(&app.database.options, &next).await, SchemaStatus::Current);
    downgraded.stop();
}
