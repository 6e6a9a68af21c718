//! A receiver that an operator corrects gets its callbacks at once, not at their next retry.
//!
//! The clock stands still in these tests, so no retry becomes due by itself.

use std::time::Duration;

use muster::domain::{AppId, DeliveryState, Permission, Permissions};
use muster::service::admin::AdminContext;
use muster::service::admin::apps::{self, AppChanges, CallbackChange};
use muster::wire::AesKey;

use super::receiver::{Receiver, Reply, reply_with};
use super::{TOKEN, count, create, delivery_id, find, subscribe};
use crate::harness::client::Client;
use crate::harness::store::{self, StoredApp};
use crate::harness::{TestApp, keyring, spawn_app_with, wait_until};

/// A server that sends callbacks.
async fn spawn() -> TestApp {
    spawn_app_with(|settings| settings.delivery.poll_interval = Duration::from_millis(10)).await
}

fn admin(app: &TestApp) -> AdminContext {
    AdminContext::new(app.pool.clone(), keyring(), store::actor(), app.clock.clone())
}

fn set_callback(url: Option<String>, token: Option<&str>) -> AppChanges {
    let token = token.map(str::to_owned);
    AppChanges { callback: Some(CallbackChange::Set { url, token }), ..AppChanges::default() }
}

fn set_permissions(permissions: &[Permission]) -> AppChanges {
    let permissions: Permissions = permissions.iter().copied().collect();
    AppChanges { permissions: Some(permissions), ..AppChanges::default() }
}

/// Waits until this many deliveries are in `state`.
async fn wait_for(app: &TestApp, state: DeliveryState, number: usize) {
    wait_until(&format!("{number} in {state}"), async || count(app, state).await == number).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn corrected_url_wakes_the_whole_backlog() {
    let app = spawn().await;
    let (wrong, right) = (Receiver::start().await, Receiver::start().await);
    wrong.script(|_| reply_with(404, "no such hook"));
    let stored = subscribe(&app, &wrong).await;
    right.add_app(Client::new(app.address, &stored, app.clock.clone()), TOKEN);
    // Enough sessions to open the circuit breaker.
    for _ in 0..12 {
        create(&app).await;
    }
    wait_until("an open circuit", async || wrong.calls().len() >= 5).await;
    wait_for(&app, DeliveryState::Pending, 12).await;

    let (buin, app_id) = (stored.app.buin, &stored.app.app_id);
    let changes = set_callback(Some(right.url("/")), None);
    apps::update(&admin(&app), buin, app_id, changes).await.unwrap();
    let tried = wrong.calls().len();
    wait_for(&app, DeliveryState::Delivered, 12).await;
    assert_eq!((wrong.calls().len(), right.calls().len()), (tried, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_the_receiver_wakes_the_backlog() {
    const NEW_TOKEN: &str = "another token";
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let mut stored = subscribe(&app, &receiver).await;
    let (buin, app_id): (_, AppId) = (stored.app.buin, stored.app.app_id.clone());
    let admin = admin(&app);
    let fails_once = async |number: usize| {
        receiver.script(|_| reply_with(500, ""));
        create(&app).await;
        wait_until("an attempt", async || receiver.calls().len() == 2 * number + 1).await;
        wait_for(&app, DeliveryState::Pending, 1).await;
        receiver.recover();
    };
    let add_app = |stored: &StoredApp, token: &str| {
        receiver.add_app(Client::new(app.address, stored, app.clock.clone()), token);
    };

    fails_once(0).await;
    let url = Some(receiver.url("/corrected"));
    apps::update(&admin, buin, &app_id, set_callback(url, None)).await.unwrap();
    wait_for(&app, DeliveryState::Delivered, 1).await;

    fails_once(1).await;
    add_app(&stored, NEW_TOKEN);
    apps::update(&admin, buin, &app_id, set_callback(None, Some(NEW_TOKEN))).await.unwrap();
    wait_for(&app, DeliveryState::Delivered, 2).await;

    fails_once(2).await;
    stored.aes_key = AesKey::generate();
    add_app(&stored, NEW_TOKEN);
    apps::rotate_key(&admin, buin, &app_id, stored.aes_key.clone(), None)
        .await
        .unwrap()
        .commit(&admin)
        .await
        .unwrap();
    wait_for(&app, DeliveryState::Delivered, 3).await;

    fails_once(3).await;
    apps::set_disabled(&admin, buin, &app_id, true).await.unwrap();
    apps::set_disabled(&admin, buin, &app_id, false).await.unwrap();
    wait_for(&app, DeliveryState::Delivered, 4).await;

    fails_once(4).await;
    for permissions in [&[Permission::SessionsRead][..], &[Permission::Callbacks]] {
        apps::update(&admin, buin, &app_id, set_permissions(permissions)).await.unwrap();
    }
    wait_for(&app, DeliveryState::Delivered, 5).await;

    fails_once(5).await;
    apps::pause_callbacks(&admin, buin, &app_id).await.unwrap();
    apps::resume_callbacks(&admin, buin, &app_id).await.unwrap();
    wait_for(&app, DeliveryState::Delivered, 6).await;

    // Other changes do not disturb the retry schedule.
    fails_once(6).await;
    let name = AppChanges { name: Some("Renamed".to_owned()), ..AppChanges::default() };
    apps::update(&admin, buin, &app_id, name).await.unwrap();
    let same = set_callback(Some(receiver.url("/corrected")), Some(NEW_TOKEN));
    apps::update(&admin, buin, &app_id, same).await.unwrap();
    apps::set_disabled(&admin, buin, &app_id, false).await.unwrap();
    assert_eq!(count(&app, DeliveryState::Pending).await, 1);
    assert_eq!(receiver.calls().len(), 13);
}

/// An attempt that was in flight during the correction fails later than the backlog is woken.
#[tokio::test(flavor = "multi_thread")]
async fn failure_at_the_old_url_does_not_delay_the_new_one() {
    let app = spawn_app_with(|settings| {
        settings.delivery.poll_interval = Duration::from_millis(10);
        settings.delivery.connect_timeout = Duration::from_secs(2);
        settings.delivery.attempt_timeout = Duration::from_secs(2);
    })
    .await;
    let (hanging, right) = (Receiver::start().await, Receiver::start().await);
    hanging.script(|_| Reply::Late(Duration::from_secs(3_600), Box::new(Reply::Ok)));
    let stored = subscribe(&app, &hanging).await;
    right.add_app(Client::new(app.address, &stored, app.clock.clone()), TOKEN);
    let id = create(&app).await;
    wait_until("an attempt in flight", async || hanging.calls().len() == 1).await;
    let (buin, app_id) = (stored.app.buin, &stored.app.app_id);
    let changes = set_callback(Some(right.url("/")), None);
    apps::update(&admin(&app), buin, app_id, changes).await.unwrap();
    wait_for(&app, DeliveryState::Delivered, 1).await;
    assert_eq!(right.versions(), [1]);
    assert_eq!(find(&app, &delivery_id(&id, 1, &stored)).await.attempts, 2);
}
