//! The rows that a fetch reads are few, with any statistics of the planner.

use serde_json::{Value, json};

use super::management::create_many;
use super::{
    acknowledge, consumer_from_beginning, fetch, post_to, session_with_versions, wait_numbered,
};
use crate::harness::store::ConsumerStatistics;
use crate::harness::{TestApp, spawn_app_directly_with, store};
use crate::v1::result;

/// The maximum number of events that members have or may get.
const MAX_ACTIVE: i64 = 1_000;

/// The answer to a fetch, and the number of rows that it has read.
async fn rows_of_fetch(app: &TestApp) -> (Value, i64) {
    let before = store::consumer_rows_read(app).await;
    let body = json!({ "member": "a", "max": 200 });
    let fetched = result(post_to(app, app.address, "fetch", &body).await).await;
    (fetched, store::consumer_rows_read(app).await - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_reads_few_rows_with_any_statistics() {
    use ConsumerStatistics::{Fresh, Missing, OfEmptyTables};
    for statistics in [Missing, OfEmptyTables, Fresh] {
        // One connection reports the rows that all requests have read.
        let app = spawn_app_directly_with(|settings| settings.database.max_connections = 1).await;
        store::begin_statistics(&app, statistics, 11, 9_200).await;
        let parked = session_with_versions(&app, &["alice", "bob", "carol"], 1).await;
        let passing = session_with_versions(&app, &["alice", "bob", "carol"], 8).await;
        consumer_from_beginning(&app).await;
        // PostgreSQL makes a plan for any arguments after five uses of a statement.
        for _ in 0..9 {
            let events = fetch(&app, "a", 1).await;
            assert_eq!(acknowledge(&app, "a", &events).await, (1, vec![]));
        }
        store::fill_consumers(&app, 10, 9_200).await;
        store::hold_back_events(&app, 5_000).await;
        store::hold_back_session(&app, &parked).await;
        store::append_changes(&app, &parked, 4_250).await;
        store::append_changes(&app, &passing, 900).await;
        store::end_statistics(&app, statistics).await;

        // Eight selections find no event that a member may get.
        let (fetched, rows) = rows_of_fetch(&app).await;
        println!("{statistics:?}: a fetch in vain read {rows} rows");
        assert_eq!(fetched, json!({ "events": [], "state": "more" }));
        assert!(rows < MAX_ACTIVE, "{statistics:?}: {rows} rows");
        // The next one selects 250 changes that wait, and 250 that are free, in front of others.
        for total in [200, 400, 600] {
            let (fetched, rows) = rows_of_fetch(&app).await;
            let events = fetched["events"].as_array().unwrap();
            println!("{statistics:?}: a fetch of {} events read {rows} rows", events.len());
            assert!(rows < 3 * MAX_ACTIVE, "{statistics:?}: {rows} rows");
            let before = store::consumer_rows_read(&app).await;
            let done = u64::try_from(events.len()).unwrap();
            assert_eq!(acknowledge(&app, "a", events).await, (done, vec![]), "{total}");
            let rows = store::consumer_rows_read(&app).await - before;
            println!("{statistics:?}: an acknowledgement read {rows} rows");
            assert!(rows < MAX_ACTIVE, "{statistics:?}: {rows} rows");
        }
        assert_eq!(store::count_miscounted_consumers(&app).await, 0);
    }
}

/// A table of a few pages costs less than a seek, so it must not be read for each session.
#[tokio::test(flavor = "multi_thread")]
async fn fetch_reads_small_tables_not_once_for_each_session() {
    use ConsumerStatistics::{Fresh, Missing, OfEmptyTables};
    for statistics in [Missing, OfEmptyTables, Fresh] {
        // One connection reports the rows that all requests have read.
        let app = spawn_app_directly_with(|settings| settings.database.max_connections = 1).await;
        store::begin_statistics(&app, statistics, 1, 200).await;
        for _ in 0..4 {
            create_many(&app, 100, json!({})).await;
        }
        wait_numbered(&app).await;
        consumer_from_beginning(&app).await;
        store::fill_consumers(&app, 1, 200).await;
        store::hold_back_events(&app, 300).await;
        store::end_statistics(&app, statistics).await;

        for total in [200, 400] {
            let (fetched, rows) = rows_of_fetch(&app).await;
            let events = fetched["events"].as_array().unwrap();
            assert_eq!(events.len(), 200);
            println!("{statistics:?}: a fetch of {total} events read {rows} rows");
            assert!(rows < 6 * MAX_ACTIVE, "{statistics:?}: {rows} rows");
            let before = store::consumer_rows_read(&app).await;
            assert_eq!(acknowledge(&app, "a", events).await, (200, vec![]));
            // All are done, and none is lost.
            assert_eq!(acknowledge(&app, "a", events).await, (200, vec![]));
            let rows = store::consumer_rows_read(&app).await - before;
            println!("{statistics:?}: two acknowledgements read {rows} rows");
            assert!(rows < 4 * MAX_ACTIVE, "{statistics:?}: {rows} rows");
        }
    }
}
