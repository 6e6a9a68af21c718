//! A running Muster for each test, each on its own database.

pub mod client;
pub mod cluster;
pub mod pooler;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod rows;
pub mod server;
pub mod store;

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster::cli::{Application, Listeners, ShutdownSignal};
use muster::clock::Clock;
use muster::config::Settings;
use muster::domain::Permission;
use serde_json::{Value, json};

pub use client::refusal;
use client::{Client, read_response};
use process::WAIT_TIMEOUT;
use server::Database;
pub use store::{MASTER_KEY, change, insert, keyring, new_app, register, replay};
use store::{MigrationList, PgConnectOptions, Pool, StoredApp};

/// The enterprise of the test app.
pub const BUIN: i64 = 14_731_009;

/// A running service. Its drop stops it and drops its database.
pub struct TestApp {
    pub address: SocketAddr,
    /// The address of the metrics listener, if it is enabled.
    pub metrics: Option<SocketAddr>,
    pub clock: Clock,
    pub pool: Pool,
    pub settings: Settings,
    /// A client of the test app.
    pub client: Client,
    /// An API key of the test app.
    pub api_key: String,
    /// Stops the service.
    pub shutdown_signal: ShutdownSignal,
    pub database: Database,
}

/// The start time of the test clock.
pub fn test_start_time() -> DateTime<Utc> {
    DateTime::from_timestamp(1_718_000_000, 0).unwrap()
}

/// Starts Muster with the usual settings.
pub async fn spawn_app() -> TestApp {
    spawn_app_with(|_| {}).await
}

/// Starts Muster with changed settings.
pub async fn spawn_app_with(change: impl FnOnce(&mut Settings)) -> TestApp {
    let mut settings = settings();
    change(&mut settings);
    spawn(settings, server::database().await, |options| options).await
}

/// Starts Muster with changed settings, and without a pooler. PostgreSQL counts what a connection has read, and
/// a pooler divides the statements of a client among its connections.
pub async fn spawn_app_directly_with(change: impl FnOnce(&mut Settings)) -> TestApp {
    let mut settings = settings();
    change(&mut settings);
    let database = server::database().await;
    let pool = connect_directly(&database, &settings);
    spawn_on_pool(settings, database, pool).await
}

/// Starts Muster with a clock that no test sets. Changes then have the time of the database.
pub async fn spawn_app_with_clock(clock: Clock) -> TestApp {
    spawn_with_clock(settings(), server::database().await, |options| options, clock).await
}

/// Starts Muster on a database, with changed options for its connections.
pub async fn spawn(
    settings: Settings,
    database: Database,
    change_options: impl FnOnce(PgConnectOptions) -> PgConnectOptions,
) -> TestApp {
    let clock = Clock::manual(test_start_time());
    spawn_with_clock(settings, database, change_options, clock).await
}

/// Starts Muster on a pool of a database.
pub async fn spawn_on_pool(settings: Settings, database: Database, pool: Pool) -> TestApp {
    spawn_on(settings, database, pool, Clock::manual(test_start_time())).await
}

async fn spawn_with_clock(
    settings: Settings,
    database: Database,
    change_options: impl FnOnce(PgConnectOptions) -> PgConnectOptions,
    clock: Clock,
) -> TestApp {
    let pool = connect_with(&database, &settings, change_options);
    spawn_on(settings, database, pool, clock).await
}

async fn spawn_on(settings: Settings, database: Database, pool: Pool, clock: Clock) -> TestApp {
    let stored = new_app(BUIN, &[Permission::SessionsRead, Permission::SessionsWrite]);
    let api_key = register(&pool, &stored).await;
    let (address, metrics, shutdown_signal) = start(&settings, pool.clone(), clock.clone()).await;
    let client = Client::new(address, &stored, clock.clone());
    TestApp { address, metrics, clock, pool, settings, client, api_key, shutdown_signal, database }
}

impl TestApp {
    /// Another instance on the same database.
    pub async fn another_instance(&self) -> (SocketAddr, ShutdownSignal) {
        self.another_instance_with_clock(self.clock.clone()).await
    }

    /// Another instance on the same database, with a clock of its own.
    pub async fn another_instance_with_clock(&self, clock: Clock) -> (SocketAddr, ShutdownSignal) {
        let pool = connect(&self.database, &self.settings);
        let (address, _, shutdown_signal) = start(&self.settings, pool, clock).await;
        (address, shutdown_signal)
    }

    /// Another instance on another pool.
    pub async fn another_instance_on(&self, pool: Pool) -> (SocketAddr, ShutdownSignal) {
        let (address, _, shutdown_signal) = start(&self.settings, pool, self.clock.clone()).await;
        (address, shutdown_signal)
    }

    /// Another instance on the same database, with other settings.
    pub async fn another_instance_with(&self, settings: &Settings) -> (SocketAddr, ShutdownSignal) {
        let pool = connect(&self.database, settings);
        let (address, _, shutdown_signal) = start(settings, pool, self.clock.clone()).await;
        (address, shutdown_signal)
    }

    /// A server of a release that has these migrations, on the same database.
    pub async fn another_release(&self, known: MigrationList) -> (SocketAddr, ShutdownSignal) {
        let pool = connect(&self.database, &self.settings);
        let clock = self.clock.clone();
        let (address, _, shutdown_signal) = start_with(&self.settings, pool, clock, known).await;
        (address, shutdown_signal)
    }

    /// Adds an app, and returns its client and an API key.
    pub async fn another_app(&self, buin: i64, permissions: &[Permission]) -> (Client, String) {
        self.add(&new_app(buin, permissions)).await
    }

    /// Stores an app, and returns its client and an API key.
    pub async fn add(&self, stored: &StoredApp) -> (Client, String) {
        let api_key = register(&self.pool, stored).await;
        (Client::new(self.address, stored, self.clock.clone()), api_key)
    }

    /// `POST` in the plain form with the app's API key.
    pub async fn post_plain(&self, path: &str, body: impl Into<reqwest::Body>) -> Value {
        let path = format!("{path}?accessToken={}", self.api_key);
        read_response(self.client.post(&path, body).await).await
    }

    /// `/cgi/session/create` in the plain form.
    pub async fn create(&self, body: &Value) -> Value {
        self.post_plain("/cgi/session/create", body.to_string()).await
    }

    /// `/cgi/session/update` in the plain form.
    pub async fn update(&self, body: &Value) -> Value {
        self.post_plain("/cgi/session/update", body.to_string()).await
    }

    /// `/cgi/session/get` in the plain form.
    pub async fn get(&self, session_id: &str) -> Value {
        let query = format!("accessToken={}&sessionId={session_id}", self.api_key);
        let path = format!("/cgi/session/get?{query}");
        read_response(self.client.get(&path).await).await
    }

    /// Creates a session of these members. The first is the owner.
    pub async fn session(&self, members: &[&str]) -> Value {
        let body = json!({ "title": "before", "creator": members[0], "member": members });
        let session = self.create(&body).await;
        assert_eq!(session["errcode"], 0, "{session}");
        session
    }

    /// An update by `operator` with these fields.
    pub async fn change(&self, session: &Value, operator: &str, fields: Value) -> Value {
        let mut body = json!({ "sessionId": session["sessionId"], "opUser": operator });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.update(&body).await
    }

    /// The current session.
    pub async fn current(&self, session: &Value) -> Value {
        self.get(session["sessionId"].as_str().unwrap().trim_matches(['{', '}'])).await
    }
}

/// Repeats a request until the response is `expected`. A notification needs a moment to arrive.
pub async fn wait_until_equal<F: Future<Output = Value>>(send: impl Fn() -> F, expected: &Value) {
    wait_until(&format!("the response {expected}"), async || send().await == *expected).await;
}

/// Waits until a condition holds. The timeout is for conditions that never hold.
pub async fn wait_until(condition: &str, holds: impl AsyncFnMut() -> bool) {
    wait_until_within(WAIT_TIMEOUT, condition, holds).await;
}

/// The same with another timeout.
pub async fn wait_until_within(
    timeout: Duration,
    condition: &str,
    mut holds: impl AsyncFnMut() -> bool,
) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(timeout, waiting).await;
    waited.unwrap_or_else(|_| panic!("not within {timeout:?}: {condition}"));
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown_signal.stop();
    }
}

/// Whether tests run with unshared statements and without the cache. All tests must pass in this
/// mode.
pub fn unshared() -> bool {
    std::env::var_os("MUSTER_TEST_UNSHARED").is_some()
}

/// The default settings on a free port with few threads. The environment is ignored.
pub fn settings() -> Settings {
    let mut settings = Settings::load(None, std::iter::empty()).unwrap();
    settings.server.bind = "127.0.0.1:0".to_owned();
    settings.server.workers = 2;
    // Tests of metrics enable the listener.
    settings.metrics.bind = None;
    // All tests share one address, and many send invalid credentials.
    settings.limits.max_failed_attempts = 0;
    // A machine that is busy with other tests may need long for a request.
    settings.server.request_timeout = Duration::from_secs(60);
    settings.database.acquire_timeout = Duration::from_secs(30);
    if unshared() {
        settings.cache.enabled = false;
        settings.database.max_batch = 1;
    }
    settings
}

/// A pool for a database.
pub fn connect(database: &Database, settings: &Settings) -> Pool {
    connect_with(database, settings, |options| options)
}

/// The same without a pooler.
pub fn connect_directly(database: &Database, settings: &Settings) -> Pool {
    store::open_pool(database.options.clone(), settings)
}

/// The same with changed options. With these, it goes through no pooler.
fn connect_with(
    database: &Database,
    settings: &Settings,
    change_options: impl FnOnce(PgConnectOptions) -> PgConnectOptions,
) -> Pool {
    let options = change_options(database.options.clone());
    let is_changed = store::url(&options) != store::url(&database.options);
    match database.pooled_options().filter(|_| !is_changed) {
        Some(pooled) => store::open_pooled(pooled, Some(options), settings),
        None => store::open_pool(options, settings),
    }
}

async fn start(
    settings: &Settings,
    pool: Pool,
    clock: Clock,
) -> (SocketAddr, Option<SocketAddr>, ShutdownSignal) {
    start_with(settings, pool, clock, MigrationList::own()).await
}

async fn start_with(
    settings: &Settings,
    pool: Pool,
    clock: Clock,
    known: MigrationList,
) -> (SocketAddr, Option<SocketAddr>, ShutdownSignal) {
    let listeners = Listeners::open(settings).unwrap();
    let shutdown_signal = ShutdownSignal::default();
    let signal = shutdown_signal.clone();
    let application =
        Application::build_with(settings, listeners, pool, keyring(), clock, signal, known);
    let application = application.await.unwrap();
    let (address, metrics) = (application.address(), application.metrics_address());
    tokio::spawn(application.run());
    (address, metrics, shutdown_signal)
}
