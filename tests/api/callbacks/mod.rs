//! Callbacks: content, receivers, order, retries and retention.
//!
//! In most of these tests the server has no worker. The test drives a worker with
//! [`Worker::drain`], and advances the clock instead of waiting.

mod acknowledgement;
mod bytes;
mod command;
mod corrections;
mod description;
mod endurance;
mod kept_connections;
mod leases;
mod model;
mod networks;
mod order;
mod process;
pub mod receiver;
mod retention;
mod schedule;
mod serving;
mod subscribers;

use std::sync::Arc;

use muster::clock::Clock;
use muster::config::Settings;
use muster::delivery::Worker;
use muster::domain::{Callback, DeliveryId, DeliveryState, Permission};
use muster::service::AppDirectory;
use serde_json::{Value, json};

use crate::harness::client::Client;
use crate::harness::store::{self, AttemptRecord, DeliverySummary, PgConnection, StoredApp};
use crate::harness::{BUIN, TestApp, insert, keyring, new_app, spawn_app_with};
use receiver::Receiver;

const TOKEN: &str = "the callbacks' token";

/// A server that stores deliveries but does not send them.
async fn spawn() -> TestApp {
    spawn_app_with(|settings| settings.delivery.enabled = false).await
}

/// A server and a receiver with one app.
async fn spawn_subscribed() -> (TestApp, Receiver, StoredApp) {
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let stored = subscribe(&app, &receiver).await;
    (app, receiver, stored)
}

/// Stores an app whose callback URL is that of `receiver`.
pub async fn subscribe(app: &TestApp, receiver: &Receiver) -> StoredApp {
    let stored = subscriber(&receiver.url("/"));
    receiver.add_app(Client::new(app.address, &stored, app.clock.clone()), TOKEN);
    insert(&app.pool, &stored).await;
    stored
}

/// An app with this callback URL, not stored yet.
fn subscriber(url: &str) -> StoredApp {
    let mut stored = new_app(BUIN, &[Permission::Callbacks]);
    stored.app.callback = Some(Callback { url: url.to_owned(), token: TOKEN.to_owned() });
    stored
}

/// A worker that knows the apps stored at this time.
async fn worker(app: &TestApp) -> Worker {
    worker_with(app, |_| {}).await
}

/// A dedicated connection, like that of a worker.
async fn connection(app: &TestApp) -> PgConnection {
    app.pool.acquire().await.unwrap().detach()
}

async fn worker_with(app: &TestApp, change: impl FnOnce(&mut Settings)) -> Worker {
    let mut settings = app.settings.clone();
    change(&mut settings);
    new_worker(app, &settings, &app.clock).await
}

/// A worker of a server that has another clock.
async fn worker_with_clock(app: &TestApp, clock: &Clock) -> Worker {
    new_worker(app, &app.settings, clock).await
}

async fn new_worker(app: &TestApp, settings: &Settings, clock: &Clock) -> Worker {
    let directory = AppDirectory::open(app.pool.clone(), keyring(), clock.clone()).await.unwrap();
    Worker::from_settings(
        settings,
        app.pool.clone(),
        Arc::new(directory),
        clock.clone(),
        Arc::default(),
    )
    .unwrap()
}

/// Creates a session of `a`, `b` and `c`, and returns its id.
async fn create(app: &TestApp) -> String {
    let body = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let created = app.create(&body).await;
    assert_eq!(created["errcode"], 0, "{created}");
    created["sessionId"].as_str().unwrap().to_owned()
}

/// Changes a session.
async fn update(app: &TestApp, id: &str, change: Value) -> Value {
    let mut body = json!({ "sessionId": id, "opUser": "a" });
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let updated = app.update(&body).await;
    assert_eq!(updated["errcode"], 0, "{updated}");
    updated
}

/// Changes the title of a session `times` times.
async fn rename(app: &TestApp, id: &str, times: usize) {
    for _ in 0..times {
        update(app, id, json!({ "title": format!("t {:x}", rand::random::<u64>()) })).await;
    }
}

fn delivery_id(session: &str, version: i64, stored: &StoredApp) -> DeliveryId {
    DeliveryId {
        session_id: session.parse().unwrap(),
        version: muster::domain::Version::new(version).unwrap(),
        app_id: stored.app.app_id.clone(),
    }
}

async fn find(app: &TestApp, id: &DeliveryId) -> DeliverySummary {
    store::find_delivery(app, id).await
}

async fn attempts(app: &TestApp, id: &DeliveryId) -> Vec<AttemptRecord> {
    store::delivery_attempts(app, id).await
}

/// The number of deliveries in `state`.
async fn count(app: &TestApp, state: DeliveryState) -> usize {
    store::count_in_state(app, state).await
}
