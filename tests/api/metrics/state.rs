//! Metrics that describe the state of the service at the time of a scrape.

use std::time::Duration;

use muster::domain::{Callback, Permission};

use super::{Scrape, scrape, spawn, spawn_with};
use crate::harness::process::{WAIT_TIMEOUT, http};
use crate::harness::{BUIN, TestApp, insert, new_app, store, wait_until};

/// A scrape during which the database answers in time. A busy machine may need several scrapes.
async fn scrape_with_database(app: &TestApp) -> Scrape {
    let mut metrics = scrape(app).await;
    wait_until("an answer of the database", async || {
        let up = metrics.has("muster_database_up") == 1.0;
        if !up {
            metrics = scrape(app).await;
        }
        up
    })
    .await;
    metrics
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_service_reports_healthy_values() {
    let data_dir = tempfile::tempdir().unwrap();
    let app = spawn_with(|settings| settings.data_dir = data_dir.path().to_owned()).await;
    let metrics = scrape_with_database(&app).await;
    assert_eq!(metrics.has("muster_database_up"), 1.0);
    assert_eq!(metrics.has("muster_schema_current"), 1.0);
    assert_eq!(metrics.has("muster_migrations_pending"), 0.0);
    assert!(metrics.has("muster_database_size_bytes") > 1e6);
    assert!(metrics.has("muster_data_dir_size_bytes") >= metrics.has("muster_data_dir_free_bytes"));
    assert_eq!(metrics.has("muster_pool_max_connections"), 10.0);
    let open = ["idle", "used"]
        .map(|state| metrics.has(&format!("muster_pool_connections{{state=\"{state}\"}}")));
    assert!((1.0..=10.0).contains(&(open[0] + open[1])), "{open:?}");
    let version = env!("CARGO_PKG_VERSION");
    let build =
        metrics.series.keys().find(|series| series.starts_with("muster_build_info{")).unwrap();
    assert!(build.contains(&format!("version=\"{version}\"")), "{build}");
    assert!(build.contains("rustc=\"1."), "{build}");
    if cfg!(target_os = "linux") {
        assert!(metrics.has("process_resident_memory_bytes") > 1e6);
        assert!(metrics.has("process_open_fds") > 5.0);
        assert!(metrics.has("process_cpu_seconds_total") >= 0.0);
    }
}

/// Adds an app with a callback URL that cannot be reached.
async fn subscribe(app: &TestApp) {
    let mut subscriber = new_app(BUIN, &[Permission::Callbacks]);
    let callback = Callback { url: "http://127.0.0.1:1/".to_owned(), token: "t".to_owned() };
    subscriber.app.callback = Some(callback);
    insert(&app.pool, &subscriber).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_deliveries_are_counted_with_their_age() {
    let app = spawn().await;
    subscribe(&app).await;
    app.session(&["a", "b", "c"]).await;
    app.clock.advance(Duration::from_secs(90));
    for _ in 0..2 {
        app.session(&["a", "b", "c"]).await;
    }
    store::fail_youngest_deliveries(&app).await;
    app.clock.advance(Duration::from_secs(10));

    let metrics = scrape_with_database(&app).await;
    let count = |state: &str| metrics.has(&format!("muster_deliveries{{state=\"{state}\"}}"));
    assert_eq!((count("pending"), count("leased"), count("failed")), (2.0, 0.0, 1.0));
    assert_eq!(metrics.has("muster_oldest_delivery_age_seconds"), 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_of_the_database_are_reused_by_the_next_scrape() {
    let app = spawn().await;
    subscribe(&app).await;
    let pending =
        async || scrape_with_database(&app).await.has("muster_deliveries{state=\"pending\"}");
    // The results expire after five seconds. On a busy machine this may happen between the two
    // scrapes, so the test repeats them.
    wait_until("a reused result", async || {
        app.session(&["a", "b", "c"]).await;
        let before = pending().await;
        store::delete_deliveries(&app).await;
        pending().await == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_a_paused_app_have_no_age() {
    let app = spawn().await;
    subscribe(&app).await;
    app.session(&["a", "b", "c"]).await;
    store::pause_callbacks(&app).await;
    app.clock.advance(Duration::from_secs(90));

    let metrics = scrape_with_database(&app).await;
    assert_eq!(metrics.has("muster_deliveries{state=\"pending\"}"), 1.0);
    assert_eq!(metrics.has("muster_oldest_delivery_age_seconds"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn scrape_works_without_a_database() {
    let app = spawn().await;
    app.session(&["a", "b", "c"]).await;
    store::drop_database(&app).await;

    let metrics = scrape(&app).await;
    assert_eq!(metrics.has("muster_database_up"), 0.0);
    assert_eq!(metrics.value("muster_schema_current"), 0.0);
    let created =
        "http_requests_total{route=\"/cgi/session/create\",method=\"POST\",status=\"2xx\"}";
    assert_eq!(metrics.has(created), 1.0);
    assert!(!metrics.series.contains_key("muster_oldest_delivery_age_seconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn scrape_does_not_wait_for_a_connection() {
    // The timeout of the client is much shorter than the wait for a connection.
    let app = spawn_with(|settings| {
        settings.database.max_connections = 1;
        settings.database.acquire_timeout = 5 * WAIT_TIMEOUT;
        settings.server.request_timeout = 10 * WAIT_TIMEOUT;
    })
    .await;
    let acquired = app.pool.acquire().await.unwrap();
    let metrics = scrape(&app).await;
    assert_eq!(metrics.has("muster_database_up"), 0.0);
    assert_eq!(metrics.has("muster_pool_connections{state=\"used\"}"), 1.0);
    drop(acquired);
}

#[tokio::test(flavor = "multi_thread")]
async fn pool_waits_are_counted() {
    let app = spawn_with(|settings| {
        settings.database.max_connections = 1;
        settings.database.acquire_timeout = Duration::from_millis(100);
    })
    .await;
    let before = scrape(&app).await;
    let acquired = app.pool.acquire().await.unwrap();
    let path = format!("http://{}/v1/sessions?member=a", app.address);
    let list = http().get(path).bearer_auth(&app.api_key).send().await.unwrap();
    assert_eq!(list.status(), 503);
    drop(acquired);
    let after = scrape(&app).await;
    let more = |series: &str| after.has(series) - before.has(series);
    assert_eq!(more("muster_pool_acquire_failures_total"), 1.0);
    assert!(more("muster_pool_wait_seconds_count") >= 1.0);
    assert!(more("muster_pool_wait_seconds_sum") >= 0.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_format_follows_the_accept_header() {
    let app = spawn().await;
    let base = format!("http://{}", app.metrics.unwrap());
    let request = http()
        .get(format!("{base}/metrics"))
        .header("accept", "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.1");
    let response = request.send().await.unwrap();
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.headers()["content-type"], media);
    let text = response.text().await.unwrap();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains("# TYPE http_requests counter\n"), "{text}");

    assert_eq!(http().head(format!("{base}/metrics")).send().await.unwrap().status(), 200);
    assert_eq!(http().post(format!("{base}/metrics")).send().await.unwrap().status(), 404);
    for path in ["/", "/v1/docs", "/cgi/session/get", "/v1/limits"] {
        assert_eq!(http().get(format!("{base}{path}")).send().await.unwrap().status(), 404);
    }
    assert_eq!(app.client.get("/metrics").await.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_numbers_of_deliveries_are_counted_up_to_a_bound() {
    let app = spawn().await;
    let subscriber = new_app(BUIN, &[Permission::Callbacks]);
    insert(&app.pool, &subscriber).await;
    store::insert_due_deliveries(&app, &subscriber, 10_100).await;
    let metrics = scrape_with_database(&app).await;
    assert_eq!(metrics.has("muster_deliveries{state=\"pending\"}"), 10_000.0);
}
