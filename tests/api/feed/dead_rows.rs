//! Deleted rows that a long transaction keeps are not read again and again.

use serde_json::json;

use super::complete_feed;
use crate::harness::{spawn_app, store, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn long_transaction_does_not_make_ticks_read_deleted_rows() {
    const CHANGES: i64 = 200;
    let app = spawn_app().await;
    let _snapshot = store::hold_snapshot(&app).await;
    let session = app.session(&["a", "b", "c"]).await;
    for number in 0..CHANGES {
        let changed = app.change(&session, "a", json!({ "title": format!("t {number}") })).await;
        assert_eq!(changed["errcode"], 0, "{changed}");
    }
    complete_feed(&app.pool).await;
    wait_until("statistics", async || store::deleted_outbox_rows(&app.pool).await >= CHANGES).await;
    let kept = store::vacuum_outbox(&app).await;
    assert!(kept >= CHANGES, "the transaction keeps {kept} deleted rows");

    let mut last = store::outbox_scans(&app.pool).await;
    wait_until("ticks that read no deleted rows", async || {
        let now = store::outbox_scans(&app.pool).await;
        if now.1 != last.1 {
            last = now;
        }
        now.0 >= last.0 + 40
    })
    .await;
}
