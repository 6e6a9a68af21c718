//! The worker that runs inside a server.

use std::time::Duration;

use muster::domain::{DeliveryState, Permission};
use serde_json::json;

use super::process::wait_for;
use super::receiver::{Receiver, Reply};
use super::{TOKEN, count, subscribe, subscriber};
use crate::harness::client::Client;
use crate::harness::process::WAIT_TIMEOUT;
use crate::harness::{BUIN, TestApp, insert, spawn_app_with};

const WRITE: [Permission; 2] = [Permission::SessionsRead, Permission::SessionsWrite];

/// A server that polls for deliveries only once an hour.
async fn spawn_with_rare_polls() -> TestApp {
    spawn_app_with(|settings| settings.delivery.poll_interval = Duration::from_secs(3_600)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn local_change_is_sent_without_a_poll() {
    let (app, receiver) = (spawn_with_rare_polls().await, Receiver::start().await);
    subscribe(&app, &receiver).await;
    // An app of another enterprise gets only the callbacks of its own enterprise.
    let mut elsewhere = subscriber(&receiver.url("/elsewhere"));
    elsewhere.app.buin = (BUIN + 1).to_string().parse().unwrap();
    receiver.add_app(Client::new(app.address, &elsewhere, app.clock.clone()), TOKEN);
    insert(&app.pool, &elsewhere).await;
    let (client, _) = app.another_app(BUIN + 1, &WRITE).await;
    let (address, shutdown_signal) = app.another_instance().await;
    let client = client.at(address);
    let token = client.token().await;
    let message = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    let created = client.post_sealed(&token, "/cgi/session/create", &message).await;
    assert_eq!(created["errcode"], 0, "{created}");
    wait_for("the first callback", WAIT_TIMEOUT, async || !receiver.calls().is_empty()).await;
    let message = json!({ "sessionId": created["sessionId"], "opUser": "a", "title": "u" });
    client.post_sealed(&token, "/cgi/session/update", &message).await;
    wait_for("both callbacks", WAIT_TIMEOUT, async || receiver.calls().len() == 2).await;
    let calls = receiver.calls();
    assert!(calls.iter().all(|call| call.path() == "/elsewhere"), "{calls:?}");
    shutdown_signal.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_records_results_while_a_receiver_hangs() {
    let mut app = spawn_with_rare_polls().await;
    let (hanging, slow) = (Receiver::start().await, Receiver::start().await);
    subscribe(&app, &hanging).await;
    subscribe(&app, &slow).await;
    app.settings.server.shutdown_timeout = Duration::from_secs(6);
    let (address, shutdown_signal) = app.another_instance().await;
    hanging.script(|_| Reply::Late(Duration::from_secs(3_600), Box::new(Reply::Ok)));
    slow.script(|_| Reply::Late(Duration::from_millis(600), Box::new(Reply::Ok)));
    let client = app.client.at(address);
    let token = client.token().await;
    let message = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    client.post_sealed(&token, "/cgi/session/create", &message).await;
    let in_flight = async || !hanging.calls().is_empty() && !slow.calls().is_empty();
    wait_for("both attempts in flight", WAIT_TIMEOUT, in_flight).await;
    shutdown_signal.stop();
    wait_for("the stored result", WAIT_TIMEOUT, async || {
        count(&app, DeliveryState::Delivered).await == 1
    })
    .await;
    assert_eq!(count(&app, DeliveryState::Leased).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_finishes_running_attempts() {
    let (app, receiver) = (spawn_with_rare_polls().await, Receiver::start().await);
    subscribe(&app, &receiver).await;
    let (address, shutdown_signal) = app.another_instance().await;
    receiver.script(|_| Reply::Late(Duration::from_millis(600), Box::new(Reply::Ok)));
    let client = app.client.at(address);
    let token = client.token().await;
    let message = json!({ "title": "t", "creator": "a", "member": ["b", "c"] });
    client.post_sealed(&token, "/cgi/session/create", &message).await;
    wait_for("the attempt in flight", WAIT_TIMEOUT, async || !receiver.calls().is_empty()).await;
    assert_eq!(count(&app, DeliveryState::Leased).await, 1);
    shutdown_signal.stop();
    wait_for("the stored result", WAIT_TIMEOUT, async || {
        count(&app, DeliveryState::Delivered).await == 1
    })
    .await;
    assert_eq!(receiver.calls().len(), 1);
}
