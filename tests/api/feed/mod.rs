//! The feed: every committed change has one number, even if a server fails.

mod dead_rows;
mod epoch;
mod followers;
mod fresh_reads;
mod numbering;
pub mod pages;
pub mod streams;
mod takeover;

use std::collections::BTreeMap;

use crate::harness::store::{self, FeedRow, Pool};
use crate::harness::wait_until;

/// Waits until every change has a number. Checks the numbers, and returns the changes in their order.
async fn complete_feed(pool: &Pool) -> Vec<FeedRow> {
    let complete = async || {
        store::count_waiting(pool).await == 0
            && i64::try_from(store::feed_rows(pool).await.len()).unwrap()
                >= store::count_events(pool).await
    };
    wait_until("numbers for all changes", complete).await;
    let rows = store::feed_rows(pool).await;
    assert_eq!(i64::try_from(rows.len()).unwrap(), store::count_events(pool).await, "{rows:?}");
    let mut enterprises: BTreeMap<i64, i64> = BTreeMap::new();
    let mut versions: BTreeMap<&str, i64> = BTreeMap::new();
    for (row, position) in rows.iter().zip(1..) {
        assert_eq!(row.position, position, "positions have no gaps");
        let last = enterprises.entry(row.buin).or_default();
        *last += 1;
        assert_eq!(row.seq, *last, "the numbers of an enterprise have no gaps: {row:?}");
        let last = versions.entry(&row.session_id).or_default();
        *last += 1;
        assert_eq!(row.version, *last, "the versions of a session are in order: {row:?}");
    }
    rows
}
