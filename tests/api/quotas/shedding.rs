//! More than the database can do: most are refused at once, some are served, and it passes.

use std::time::{Duration, Instant};

use muster::config::Settings;
use reqwest::Method;
use serde_json::json;
use sqlx::Executor as _;
use tokio::task::JoinSet;

use super::{Told, cgi, lock, new_session, outside, rest};
use crate::harness::{TestApp, refusal, spawn_app_with};

/// One statement a request, one thread: a queue that is soon too long.
fn narrow(settings: &mut Settings) {
    settings.server.workers = 1;
    settings.server.request_timeout = Duration::from_secs(4);
    settings.database.max_batch = 1;
    settings.database.max_connections = 2;
    settings.cache.enabled = false;
    settings.delivery.enabled = false;
}

/// So many creates at the same time.
async fn creates(app: &TestApp, many: usize) -> Vec<Told> {
    let mut calls = JoinSet::new();
    for _ in 0..many {
        let (client, key) = (app.client.clone(), app.api_key.clone());
        calls.spawn(async move {
            let began = Instant::now();
            let path = format!("/cgi/session/create?accessToken={key}");
            Told::by(began, client.post(&path, new_session().to_string()).await).await
        });
    }
    calls.join_all().await
}

fn is_served(told: &Told) -> bool {
    told.status == 200 && told.body["errcode"] == 0
}

fn is_shed(told: &Told) -> bool {
    let errmsg = "the service is overloaded, try again";
    told.status == 503
        && told.retry_after.is_some_and(|wait| (1..=300).contains(&wait))
        && told.body == refusal(-1, errmsg)
}

/// Makes every new session take so long, until it is undone.
async fn slow_down(app: &TestApp, seconds: f64) {
    let sql = format!(
        "create function slow() returns trigger language plpgsql as
         $$ begin perform pg_sleep({seconds}); return new; end $$;
         create trigger slow before insert on session for each statement execute function slow()"
    );
    outside(app).await.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
}

async fn heal(app: &TestApp) {
    outside(app).await.execute("drop trigger slow on session").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_database_serves_what_it_can_and_the_rest_is_told_at_once() {
    let app = spawn_app_with(narrow).await;
    slow_down(&app, 0.2).await;
    // So that it is known how slow things are.
    creates(&app, 3).await;
    for _ in 0..9 {
        creates(&app, 1).await;
    }
    let told = creates(&app, 100).await;
    let (served, refused): (Vec<_>, Vec<_>) = told.iter().partition(|told| is_served(told));
    assert!((5..50).contains(&served.len()), "{} of 100 were served", served.len());
    // A few were promised a turn that then came too late.
    let shed: Vec<_> = refused.iter().filter(|told| is_shed(told)).collect();
    assert!(refused.iter().all(|told| told.status == 503), "{refused:#?}");
    assert!(shed.len() + 10 >= refused.len(), "{} of {}", shed.len(), refused.len());
    let slowest = shed.iter().map(|told| told.took).max().unwrap();
    assert!(slowest < Duration::from_secs(1), "one heard after {slowest:?} that it is refused");
    let health = app.client.get("/healthz").await;
    assert_eq!(health.status(), 200);

    heal(&app).await;
    assert!(is_served(&creates(&app, 1).await[0]));
    // A few turns, and it is forgotten that they were slow.
    for _ in 0..10 {
        creates(&app, 1).await;
    }
    assert!(creates(&app, 100).await.iter().all(is_served));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_stuck_all_else_is_answered() {
    let app = spawn_app_with(narrow).await;
    app.session(&["a", "b", "c"]).await;
    let locked = lock(&app).await;
    let rounds = async {
        let mut told = Vec::new();
        for _ in 0..3 {
            told.extend(creates(&app, 50).await);
        }
        told
    };
    let health = async {
        for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/v1/limits", 401)].repeat(5) {
            let began = Instant::now();
            assert_eq!(app.client.get(path).await.status(), status, "{path}");
            assert!(began.elapsed() < Duration::from_secs(2), "{path}");
        }
    };
    let (told, ()) = tokio::join!(rounds, health);
    assert!(told.iter().all(|told| told.status == 503), "{told:#?}");
    // When the first came nothing had been slow yet; the later ones meet what does not end.
    let shed = told[50..].iter().filter(|told| is_shed(told)).count();
    assert!(shed > 80, "{shed} of 100 were told at once");
    drop(locked);
    for _ in 0..10 {
        assert!(is_served(&cgi(&app, "create", "", Some(new_session())).await));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_what_was_cut_off_only_a_few_wait() {
    let app = spawn_app_with(|settings| {
        narrow(settings);
        settings.database.max_batch = 64;
    })
    .await;
    let locked = lock(&app).await;
    assert!(creates(&app, 30).await.iter().all(|told| told.status == 503));
    // Statements are shared, so that all of these could wait for the same one.
    for round in 0..2 {
        let told = creates(&app, 30).await;
        let (shed, waited): (Vec<_>, Vec<_>) = told.iter().partition(|told| is_shed(told));
        assert!(waited.len() <= 2, "round {round}: {waited:#?}");
        let slowest = shed.iter().map(|told| told.took).max().unwrap();
        assert!(slowest < Duration::from_secs(1), "one heard after {slowest:?}");
    }
    drop(locked);
    assert!(is_served(&creates(&app, 1).await[0]));
    assert!(creates(&app, 30).await.iter().all(is_served));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_has_an_end() {
    let app = spawn_app_with(|settings| {
        narrow(settings);
        settings.limits.max_queued = 4;
    })
    .await;
    slow_down(&app, 0.05).await;
    let told = creates(&app, 40).await;
    let (served, refused): (Vec<_>, Vec<_>) = told.iter().partition(|told| is_served(told));
    assert!(served.len() >= 4 && refused.len() >= 20, "{} were served", served.len());
    assert!(refused.iter().all(|told| is_shed(told)), "{refused:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shares_no_statement_is_shed_as_well() {
    let app = spawn_app_with(|settings| {
        narrow(settings);
        settings.limits.max_queued = 3;
    })
    .await;
    let locked = lock(&app).await;
    let list = || rest(&app, Method::GET, "/v1/sessions", None);
    let told = futures_util::future::join_all((0..40).map(|_| list())).await;
    let is_shed = |told: &&Told| told.body["code"] == "overloaded";
    let shed: Vec<_> = told.iter().filter(is_shed).collect();
    assert_eq!(shed.len(), 35, "two have a connection, three wait: {told:#?}");
    for told in &shed {
        assert_eq!((told.status, &told.body["status"]), (503, &json!(503)));
        assert!(told.retry_after.is_some() && told.took < Duration::from_secs(1), "{told:?}");
    }
    drop(locked);
    assert_eq!(list().await.status, 200);
}
