//! The apps that get a callback, and the transaction that stores it together with its change.

use std::collections::BTreeSet;

use muster::domain::{DeliveryState, Permission};
use serde_json::json;

use super::receiver::Receiver;
use super::{TOKEN, count, create, rename, spawn, spawn_subscribed, subscriber, update, worker};
use crate::harness::client::Client;
use crate::harness::store::StoredApp;
use crate::harness::{BUIN, insert, new_app, store};

#[tokio::test(flavor = "multi_thread")]
async fn every_subscribed_app_gets_a_delivery() {
    let (app, receiver) = (spawn().await, Receiver::start().await);
    let new_subscriber = || subscriber(&receiver.url("/"));
    let (first, second) = (new_subscriber(), new_subscriber());
    let mut disabled = new_subscriber();
    disabled.app.disabled = true;
    let mut paused = new_subscriber();
    paused.app.callbacks_paused = true;
    let mut forbidden = new_subscriber();
    forbidden.app.permissions = [Permission::SessionsWrite].into_iter().collect();
    let without_url = new_app(BUIN, &[Permission::Callbacks]);
    // An app of another enterprise gets no callback, even with the same app id.
    let mut elsewhere = new_subscriber();
    elsewhere.app.buin = (BUIN + 1).to_string().parse().unwrap();
    elsewhere.app.app_id = first.app.app_id.clone();
    for stored in [&first, &second, &disabled, &paused, &forbidden, &without_url, &elsewhere] {
        insert(&app.pool, stored).await;
    }
    for stored in [&first, &second] {
        receiver.add_app(Client::new(app.address, stored, app.clock.clone()), TOKEN);
    }
    let id = create(&app).await;
    rename(&app, &id, 1).await;

    let key = |stored: &StoredApp| (BUIN, stored.app.app_id.to_string());
    assert_eq!(
        store::delivery_apps(&app).await,
        [&first, &second, &paused].map(key).into_iter().collect()
    );
    assert_eq!(worker(&app).await.drain().await.unwrap(), 4);
    let received: BTreeSet<(String, i64)> =
        receiver.calls().into_iter().map(|call| (call.app_id, call.version)).collect();
    let expected = [&first, &second].map(|stored| stored.app.app_id.to_string());
    assert_eq!(received, expected.into_iter().flat_map(|id| [(id.clone(), 1), (id, 2)]).collect());
    assert_eq!(
        count(&app, DeliveryState::Pending).await,
        2,
        "deliveries of the paused app are kept"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn change_without_effect_has_no_delivery() {
    let (app, receiver, _) = spawn_subscribed().await;
    let id = create(&app).await;
    worker(&app).await.drain().await.unwrap();
    assert_eq!(receiver.versions(), [1]);
    // Changes without effect.
    for change in [
        json!({ "title": "t" }),
        json!({ "addMember": ["b"], "delMember": ["x"] }),
        json!({ "title": "", "addMember": [], "delMember": null }),
    ] {
        assert_eq!(update(&app, &id, change).await["version"], 1);
    }
    // Refused changes.
    for body in [
        json!({ "sessionId": id, "opUser": "x", "title": "t2" }),
        json!({ "sessionId": id, "opUser": "a", "delMember": ["b"] }),
        json!({ "sessionId": id, "opUser": "a", "title": "t2", "version": 7 }),
        json!({ "sessionId": id, "opUser": "a", "title": "x".repeat(65) }),
    ] {
        assert_ne!(app.update(&body).await["errcode"], 0, "{body}");
    }
    assert_ne!(app.create(&json!({ "title": "t", "creator": "a" })).await["errcode"], 0);
    assert_eq!(store::count_deliveries(&app.pool).await, 1);
    assert_eq!(worker(&app).await.drain().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_commits_with_its_change() {
    let (app, receiver, _) = spawn_subscribed().await;
    super::subscribe(&app, &receiver).await;
    let id = create(&app).await;
    rename(&app, &id, 3).await;
    let written = store::delivery_transactions(&app).await;
    assert_eq!(written.len(), 8);
    assert!(written.iter().all(|(_, with_event)| *with_event));
    let transactions: BTreeSet<_> = written.iter().map(|(transaction, _)| transaction).collect();
    assert_eq!(transactions.len(), 4, "one transaction for each change");
}
