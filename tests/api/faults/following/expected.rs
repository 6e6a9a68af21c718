//! The changes that the readers must have seen, by the tables of the database.

use std::collections::BTreeMap;

use serde_json::json;

use super::proof::Tally;
use crate::feed::pages::model::{Filter, ModelSession};
use crate::harness::store::{self, FeedChange, PgConnection};

/// The accounts that come and go.
pub const ACCOUNTS: [&str; 6] = ["m0", "m1", "m2", "m3", "m4", "m5"];

/// The history of an enterprise.
pub struct Expected {
    /// The changes of the stream of each filter.
    pub tallies: Vec<Tally>,
    /// The version of each session.
    pub table: BTreeMap<String, i64>,
    /// The number of the last change.
    pub head: i64,
}

impl Expected {
    /// Reads the history when all changes have a number, and checks that the numbers and the versions
    /// have no gaps.
    pub async fn read(connection: &mut PgConnection, buin: i64, filters: &[Filter]) -> Self {
        let (numbered, end) = store::feed_end(&mut *connection).await;
        assert_eq!(numbered, store::count_events(&mut *connection).await, "each has one number");
        assert_eq!(numbered, end, "positions have no gaps");
        let mut sessions: BTreeMap<String, ModelSession> = BTreeMap::new();
        let (mut tallies, mut head) = (vec![Tally::default(); filters.len()], 0);
        store::for_each_change(connection, buin, |change| {
            let FeedChange { seq, session_id, version, kind, app_id, changes } = change;
            assert_eq!(seq, head + 1, "the numbers have no gaps");
            head = seq;
            let event = json!({
                "sessionId": session_id, "version": version, "kind": kind, "app": app_id,
                "changes": changes,
            });
            let before = sessions.get(&session_id).cloned();
            let after = sessions.entry(session_id.clone()).or_default();
            after.apply(&event);
            for (filter, tally) in filters.iter().zip(&mut tallies) {
                if filter.matches(&event, before.as_ref(), after) {
                    tally.add(seq, &session_id, version);
                }
            }
        })
        .await;
        let table: BTreeMap<_, _> =
            sessions.into_iter().map(|(id, session)| (id, session.version)).collect();
        let stored = store::session_versions(connection).await.into_iter().collect();
        assert_eq!(table, stored, "the history is that of the sessions");
        Self { tallies, table, head }
    }
}
