//! Reads of long histories and of many sessions: the rows that they read and their responses have bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use muster::domain::Permission;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::store::{self, StoredHistory};
use crate::harness::{BUIN, TestApp};
use crate::metrics::{scrape, spawn_with};

/// The limits that the documentation names, in bytes.
const PAGE_BYTES: usize = 1024 * 1024;
const STEP_BYTES: usize = 256 * 1024;
const STEP_EVENTS: i64 = 512;

async fn spawn() -> TestApp {
    spawn_with(|_| {}).await
}

fn get(app: &TestApp, path: &str) -> RequestBuilder {
    app.client.request(Method::GET, path).bearer_auth(&app.api_key)
}

async fn ok(response: Response) -> Value {
    let status = response.status();
    let body = response.text().await.unwrap();
    assert!(status.is_success(), "{status} {body}");
    serde_json::from_str(&body).unwrap()
}

/// The session at a version.
async fn version(app: &TestApp, id: Uuid, version: i64) -> Value {
    ok(get(app, &format!("/v1/sessions/{id}?version={version}")).send().await.unwrap()).await
}

/// The cost of the reads of histories so far.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    replays: i64,
    events: i64,
    bytes: usize,
    snapshots: i64,
}

async fn total_cost(app: &TestApp) -> Cost {
    let metrics = scrape(app).await;
    let value = |name: &str| metrics.has(&format!("muster_history_{name}_total")) as i64;
    Cost {
        replays: value("replays"),
        events: value("events_read"),
        bytes: usize::try_from(value("read_bytes")).unwrap(),
        snapshots: value("snapshots_written"),
    }
}

/// The cost of `work`.
async fn cost<T>(app: &TestApp, work: impl Future<Output = T>) -> (T, Cost) {
    let before = total_cost(app).await;
    let result = work.await;
    let after = total_cost(app).await;
    let cost = Cost {
        replays: after.replays - before.replays,
        events: after.events - before.events,
        bytes: after.bytes - before.bytes,
        snapshots: after.snapshots - before.snapshots,
    };
    (result, cost)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_starts_at_the_nearest_snapshot() {
    let app = spawn().await;
    let history = StoredHistory::of_titles(&app, 5_000);
    let id = history.insert(&app).await;
    // The first reader reads all events once, and leaves snapshots behind.
    let (found, first) = cost(&app, version(&app, id, 4_999)).await;
    assert_eq!(found["title"], history.title(4_999));
    assert_eq!((first.replays, first.events), (1, 4_999));
    let snapshots = store::snapshots(&app, id).await;
    assert_eq!(first.snapshots, i64::try_from(snapshots.len()).unwrap());
    assert!((4..=20).contains(&snapshots.len()), "{snapshots:?}");

    // Times up to that of the last version have passed.
    app.clock.advance(Duration::from_secs(5_000));
    let at = |version: i64| {
        format!(
            "2024-06-10T{:02}:{:02}:{:02}Z",
            6 + (800 + version - 1) / 3600,
            (800 + version - 1) % 3600 / 60,
            (800 + version - 1) % 60
        )
    };
    for number in [2, 511, 512, 513, 514, 1_024, 1_025, 2_500, 4_998, 4_999, 5_000] {
        let (found, by_version) = cost(&app, version(&app, id, number)).await;
        let expected = (json!(number), json!(history.title(number)), json!(["a", "b", "c"]));
        let parts = |found: &Value| {
            (found["version"].clone(), found["title"].clone(), found["member"].clone())
        };
        assert_eq!(parts(&found), expected);
        let path = format!("/v1/sessions/{id}?at={}", at(number));
        let (by_time, time) =
            cost(&app, async { ok(get(&app, &path).send().await.unwrap()).await }).await;
        assert_eq!(by_time, found, "{path}");
        let (from, to) = (number, 5_001 - number);
        let path = format!("/v1/sessions/{id}/diff?from={from}&to={to}");
        let (diff, both) =
            cost(&app, async { ok(get(&app, &path).send().await.unwrap()).await }).await;
        let titles = json!({ "from": history.title(from), "to": history.title(to) });
        assert_eq!(diff["title"], titles);
        for (cost, replays) in [(by_version, 1), (time, 1), (both, 2)] {
            assert_eq!((cost.replays, cost.snapshots), (replays, 0), "{number}");
            assert!(cost.events <= replays * STEP_EVENTS, "{number}: {cost:?}");
        }
    }
    // No reader adds a snapshot that another one would not have written.
    assert_eq!(store::snapshots(&app, id).await, snapshots);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_reads_a_few_times_the_size_of_the_session() {
    let app = spawn().await;
    let history = StoredHistory::of_accounts(&app, 81, 1_900);
    let id = history.insert(&app).await;
    let size = 1_900 * 68;
    let (found, first) = cost(&app, version(&app, id, 80)).await;
    assert_eq!(found["member"], json!(history.members(80)));
    assert!(first.bytes > 75 * size, "{first:?}");
    for number in [79, 80, 81, 40, 41, 2, 3] {
        let (found, cost) = cost(&app, version(&app, id, number)).await;
        assert_eq!(found["member"], json!(history.members(number)));
        // Up to four times the size lies between two snapshots, and one step ends behind that.
        assert!(cost.bytes <= 5 * size + STEP_BYTES, "{number}: {cost:?}");
    }
    // All snapshots together are smaller than the history.
    let snapshots: i64 = store::snapshots(&app, id).await.iter().map(|(_, bytes)| bytes).sum();
    assert!(usize::try_from(snapshots).unwrap() < first.bytes / 3, "{snapshots}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_requests_and_reverts_start_at_snapshots_too() {
    let app = spawn().await;
    let history = StoredHistory::of_titles(&app, 3_000);
    let path = format!("/v1/sessions/{}", history.insert(&app).await);
    let patch = || {
        let request = app.client.request(Method::PATCH, &path).bearer_auth(&app.api_key);
        request.header("Idempotency-Key", "k").json(&json!({ "operator": "a", "title": "new" }))
    };
    let (done, write) = cost(&app, async { ok(patch().send().await.unwrap()).await }).await;
    assert_eq!((write.events, &done["version"]), (0, &json!(3_001)));
    let (again, first) = cost(&app, async { ok(patch().send().await.unwrap()).await }).await;
    assert_eq!((first.events, &again), (3_001, &done));
    let (again, second) = cost(&app, async { ok(patch().send().await.unwrap()).await }).await;
    assert_eq!(again, done);
    assert!(second.events <= STEP_EVENTS, "{second:?}");
    let revert = async {
        let body = json!({ "operator": "a", "version": 2_900 });
        let request = app.client.request(Method::POST, &format!("{path}/revert"));
        ok(request.bearer_auth(&app.api_key).json(&body).send().await.unwrap()).await
    };
    let (reverted, third) = cost(&app, revert).await;
    assert_eq!(reverted["title"], history.title(2_900));
    assert!(third.events <= STEP_EVENTS, "{third:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_reader_continues_where_it_stopped() {
    let app = spawn_with(|settings| {
        // The deadline usually passes during the first replay.
        settings.database.acquire_timeout = std::time::Duration::from_millis(250);
    })
    .await;
    let history = StoredHistory::of_titles(&app, 40_000);
    let id = history.insert(&app).await;
    let path = format!("/v1/sessions/{id}?version=40000");
    let mut attempts = 0;
    loop {
        attempts += 1;
        let response = get(&app, &path).send().await.unwrap();
        if response.status() == StatusCode::OK {
            assert_eq!(ok(response).await["title"], history.title(40_000));
            break;
        }
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        assert!(attempts < 1_000, "the reader makes no progress");
    }
    // No attempt repeats more than one step.
    let total = total_cost(&app).await;
    assert!(total.events <= 40_000 + attempts * STEP_EVENTS, "{total:?} {attempts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_does_not_need_to_store_snapshots() {
    let app = spawn().await;
    let history = StoredHistory::of_titles(&app, 2_000);
    let id = history.insert(&app).await;
    store::refuse_snapshots(&app).await;
    for _ in 0..2 {
        let (found, cost) = cost(&app, version(&app, id, 1_999)).await;
        assert_eq!(found["title"], history.title(1_999));
        assert_eq!((cost.events, cost.snapshots), (1_999, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_event_is_an_error_and_not_an_earlier_version() {
    let app = spawn().await;
    let id = StoredHistory::of_titles(&app, 20).insert(&app).await;
    store::delete_event(&app, id, 10).await;
    assert_eq!(version(&app, id, 9).await["version"], 9);
    for number in [11, 20] {
        let path = format!("/v1/sessions/{id}?version={number}");
        let response = get(&app, &path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR, "{path}");
    }
}

/// All pages of a history: their versions and sizes.
async fn pages(app: &TestApp, id: Uuid, query: &str) -> Vec<(Vec<i64>, usize)> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/sessions/{id}/events?{query}{cursor}");
        let body = get(app, &path).send().await.unwrap().text().await.unwrap();
        let page: Value = serde_json::from_str(&body).unwrap();
        let versions = page["items"].as_array().unwrap().iter();
        let versions = versions.map(|event| event["version"].as_i64().unwrap()).collect();
        pages.push((versions, body.len()));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_large_events_is_short() {
    let app = spawn().await;
    let id = StoredHistory::of_accounts(&app, 41, 1_900).insert(&app).await;
    for (order, expected) in
        [("asc", (1..=41).collect::<Vec<_>>()), ("desc", (1..=41).rev().collect())]
    {
        let (pages, cost) = cost(&app, pages(&app, id, &format!("limit=200&order={order}"))).await;
        assert_eq!(
            pages.iter().flat_map(|(versions, _)| versions.clone()).collect::<Vec<_>>(),
            expected
        );
        let lengths: Vec<_> =
            pages.iter().map(|(versions, bytes)| (versions.len(), *bytes)).collect();
        assert!(
            lengths.iter().all(|(events, bytes)| *events > 0 && *bytes < PAGE_BYTES + 8_192),
            "{lengths:?}"
        );
        // Each full page holds all events that fit.
        assert_eq!(pages.len(), 5, "{lengths:?}");
        assert_eq!(cost.events, 41, "no event is read twice");
    }
    let all: BTreeSet<_> = pages(&app, id, "limit=5").await.iter().map(|(v, _)| v.len()).collect();
    assert_eq!(all, BTreeSet::from([1, 5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn event_that_is_larger_than_a_page_is_a_page() {
    let app = spawn().await;
    let history =
        StoredHistory { account_bytes: 256, ..StoredHistory::of_accounts(&app, 3, 4_500) };
    let id = history.insert(&app).await;
    let pages = pages(&app, id, "limit=200").await;
    let versions: Vec<_> = pages.iter().map(|(versions, _)| versions.clone()).collect();
    assert_eq!(versions, [[1], [2], [3]]);
    assert!(pages[1].1 > PAGE_BYTES && pages[2].1 > PAGE_BYTES);
    assert_eq!(version(&app, id, 2).await["memberCount"], 4_503);
    assert_eq!(version(&app, id, 3).await["memberCount"], 3);
}

async fn batch_get(app: &TestApp, ids: &[Uuid]) -> Value {
    let request = app.client.request(Method::POST, "/v1/sessions/batch-get");
    let request = request
        .bearer_auth(&app.api_key)
        .json(&json!({ "ids": ids.iter().map(Uuid::to_string).collect::<Vec<_>>() }));
    ok(request.send().await.unwrap()).await
}

/// The ids in a field of a response, in its order.
fn ids(list: &Value) -> Vec<Uuid> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let id = |item: &Value| item["sessionId"].as_str().or(item.as_str()).unwrap().parse().unwrap();
    items.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_get_is_cut_at_its_size_limit_and_lists_the_rest() {
    let app = spawn().await;
    let of = |members: usize| StoredHistory::of_accounts(&app, 2, members - 3);
    let mut large = Vec::new();
    for _ in 0..6 {
        large.push(of(2_000).insert(&app).await);
    }
    let small = of(4).insert(&app).await;
    // Sessions of other enterprises are missing, and take no room.
    let mut foreign = Vec::new();
    for _ in 0..6 {
        foreign.push(StoredHistory { buin: BUIN + 1, ..of(2_000) }.insert(&app).await);
    }
    let unknown = Uuid::from_u128(rand::random());
    let requested = [&foreign[..], &large[..3], &[unknown], &large[3..], &[small]].concat();
    let answer = batch_get(&app, &requested).await;
    // Five sessions have 10,000 members. The small one would fit, but the order is kept.
    assert_eq!(ids(&answer["items"]), large[..5]);
    assert_eq!(ids(&answer["remaining"]), [large[5], small]);
    assert_eq!(ids(&answer["missing"]), [&foreign[..], &[unknown]].concat());
    let rest = batch_get(&app, &ids(&answer["remaining"])).await;
    assert_eq!(ids(&rest["items"]), [large[5], small]);
    assert_eq!(rest.get("remaining"), None);

    // A session that is too large alone is read alone.
    let huge = of(10_001).insert(&app).await;
    let answer = batch_get(&app, &[huge, small]).await;
    assert_eq!((ids(&answer["items"]), ids(&answer["remaining"])), (vec![huge], vec![small]));
    let answer = batch_get(&app, &[small, huge]).await;
    assert_eq!((ids(&answer["items"]), ids(&answer["remaining"])), (vec![small], vec![huge]));

    // 16 KiB of attributes count as 64 members.
    let mut with_attributes = Vec::new();
    for _ in 0..160 {
        with_attributes.push(of(4).insert(&app).await);
    }
    store::set_attributes(&app, 16_376).await;
    let answer = batch_get(&app, &with_attributes).await;
    let read = ids(&answer["items"]).len();
    assert_eq!(read, 10_000 / (4 + 64));
    assert_eq!(ids(&answer["remaining"]), with_attributes[read..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_of_sessions_with_large_attributes_is_short() {
    let app = spawn().await;
    let mut expected = BTreeSet::new();
    for _ in 0..160 {
        expected.insert(StoredHistory::of_accounts(&app, 1, 0).insert(&app).await);
    }
    store::set_attributes(&app, 16_376).await;
    let first = ok(get(&app, "/v1/sessions?limit=200").send().await.unwrap()).await;
    let mut found = ids(&first["items"]);
    assert_eq!(found.len(), 10_000 / (3 + 64));
    let cursor = first["nextCursor"].as_str().unwrap();
    let path = format!("/v1/sessions?limit=200&cursor={cursor}");
    let second = ok(get(&app, &path).send().await.unwrap()).await;
    assert_eq!(second["nextCursor"], Value::Null);
    found.extend(ids(&second["items"]));
    assert_eq!((found.len(), BTreeSet::from_iter(found)), (160, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_of_another_enterprise_does_not_exist() {
    let app = spawn().await;
    let history = StoredHistory::of_titles(&app, 2_000);
    let id = history.insert(&app).await;
    // Snapshots exist.
    version(&app, id, 1_999).await;
    let (_, key) = app.another_app(BUIN + 1, &[Permission::SessionsRead]).await;
    for path in ["?version=1999", "?at=2100-01-01T00:00:00Z", "/events", "/diff?from=1&to=1999"] {
        let path = format!("/v1/sessions/{id}{path}");
        let response = app.client.request(Method::GET, &path).bearer_auth(&key).send().await;
        assert_eq!(response.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
}
