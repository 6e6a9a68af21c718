//! Administrative use cases, called without the command line. Each records its operator in the
//! audit, and each impossible request has its own error.

use muster::domain::{Actor, AppId, AuditFilter, Buin, DeliveryFilter, DeliveryId, Permissions};
use muster::service::admin::apps::{self, AppChanges, CallbackChange, RegisteredApp};
use muster::service::admin::diagnosis::{self, SecretsCondition};
use muster::service::admin::keys::KeyLimits;
use muster::service::admin::schema::{self, SchemaState};
use muster::service::admin::{AdminContext, Error, audit, callbacks, keys, secrets};

use crate::harness::{TestApp, keyring, new_app, spawn_app};

fn admin(app: &TestApp, user: &str) -> AdminContext {
    let host = "console".to_owned();
    let actor = Actor { user: user.to_owned(), sudo_user: None, host, pid: 1 };
    AdminContext::new(app.pool.clone(), keyring(), actor, app.clock.clone())
}

fn registered() -> RegisteredApp {
    let stored = new_app(7, &[]);
    RegisteredApp::new(stored.app, stored.aes_key)
}

fn set_callback(url: Option<&str>, token: Option<&str>) -> AppChanges {
    let (url, token) = (url.map(str::to_owned), token.map(str::to_owned));
    AppChanges { callback: Some(CallbackChange::Set { url, token }), ..AppChanges::default() }
}

#[tokio::test]
async fn every_change_names_its_operator_in_the_audit() {
    let app = spawn_app().await;
    let (ann, bob) = (admin(&app, "ann"), admin(&app, "bob"));
    let created = apps::create(&ann, registered()).await.unwrap();
    let created = created.commit(&ann).await.unwrap();
    let (buin, app_id) = (created.app.buin, &created.app.app_id);
    assert_eq!(apps::find(&bob, buin, app_id).await.unwrap(), created);

    let permissions = Some(Permissions::for_new_app());
    let changes = AppChanges { permissions, ..set_callback(Some("http://a"), Some("secret")) };
    let changed = apps::update(&bob, buin, app_id, changes).await.unwrap();
    assert_eq!(changed.app.callback.unwrap().url, "http://a");
    assert!(apps::set_disabled(&bob, buin, app_id, true).await.unwrap().app.disabled);
    let key = keys::create(&ann, buin, app_id, "ci", KeyLimits::default())
        .await
        .unwrap()
        .commit(&ann)
        .await
        .unwrap();
    assert!(keys::revoke(&ann, key.key.reveal()).await.unwrap().was_valid);
    assert!(!keys::revoke(&ann, &key.id).await.unwrap().was_valid, "revoked before");

    let filter = AuditFilter { app_id: Some(app_id.clone()), ..AuditFilter::default() };
    let acts = audit::list(&ann, &filter, 100).await.unwrap();
    let acts: Vec<_> = acts.iter().map(|act| (act.actor.as_str(), act.action.as_str())).collect();
    // The clock of the test stands still, so the entries are in the order of insertion.
    assert_eq!(
        acts,
        [
            ("ann", "key.revoke"),
            ("ann", "key.create"),
            ("bob", "app.disable"),
            ("bob", "app.update"),
            ("ann", "app.create"),
        ]
    );
}

#[tokio::test]
async fn each_impossible_request_has_its_own_error() {
    let app = spawn_app().await;
    let admin = admin(&app, "ann");
    let created = apps::create(&admin, registered()).await.unwrap();
    let created = created.commit(&admin).await.unwrap();
    let (buin, app_id) = (created.app.buin, created.app.app_id.clone());
    let other: Buin = "8".parse().unwrap();

    let error = apps::create(&admin, created).await.err().unwrap();
    assert!(matches!(error, Error::AppExists { .. }), "{error}");
    let error = apps::set_disabled(&admin, other, &app_id, true).await.unwrap_err();
    assert!(matches!(error, Error::AppNotFound { .. }), "{error}");
    let half = set_callback(Some("http://a"), None);
    let error = apps::update(&admin, buin, &app_id, half).await.unwrap_err();
    assert!(matches!(error, Error::IncompleteCallback), "{error}");
    let error = keys::revoke(&admin, "0011223344556677").await.unwrap_err();
    assert!(matches!(error, Error::KeyNotFound), "{error}");

    let id: DeliveryId =
        format!("00000000-0000-4000-8000-000000000000.1.{app_id}").parse().unwrap();
    let error = callbacks::find(&admin, &id).await.unwrap_err();
    assert!(matches!(error, Error::CallbackNotFound), "{error}");
    let error = callbacks::replay_one(&admin, &id).await.unwrap_err();
    assert!(matches!(error, Error::CallbackNotFound), "{error}");
    let unknown = DeliveryFilter { app_id: Some(AppId::generate()), ..DeliveryFilter::default() };
    let error = callbacks::replay(&admin, &unknown).await.unwrap_err();
    assert!(matches!(error, Error::AppIdNotFound(_)), "{error}");
}

#[tokio::test]
async fn healthy_database_passes_the_diagnosis() {
    let app = spawn_app().await;
    let admin = admin(&app, "ann");
    let overview = schema::overview(&admin).await.unwrap();
    assert_eq!(overview.state, SchemaState::Current);
    assert!(overview.migrations.iter().all(|step| step.applied_at.is_some()));
    assert!(diagnosis::server(&admin).await.unwrap().is_supported);
    let status = secrets::status(&admin).await.unwrap();
    match diagnosis::secrets(&admin).await {
        SecretsCondition::Sealed { key } => assert_eq!(key, status.active),
        other => panic!("{other:?}"),
    }
}
