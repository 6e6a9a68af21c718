//! A page of changes as a client gets it.

use std::io::Write as _;

use serde::Serialize;
use utoipa::ToSchema;

use super::view::{self, FeedEventView};
use crate::http::v1::render::view::{SessionView, sample as sample_session};
use crate::service::{FeedPage, SnapshotPhase};

/// A part of the feed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FeedPage, example = json!({
    "events": [view::sample()], "nextCursor": "AQECAwQFBgcIAAAAAAAAAAcBAgME", "headSeq": 7, "lagMs": 0,
    "caughtUp": true
}))]
pub(super) struct FeedPageView<'a> {
    /// The changes, in the order of their numbers. A page with fewer than `limit`, or without any, is
    /// not always the last one.
    #[schema(value_type = Vec<FeedEventView>, required = true, max_items = 1000)]
    #[serde(skip)]
    events: std::marker::PhantomData<FeedEventView<'a>>,
    /// The present sessions, in the order of their ids, during a snapshot.
    #[schema(required = false, max_items = 200, example = json!([sample_session()]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<Vec<SessionView<'a>>>,
    /// Present during a snapshot. `running`: more sessions follow. `done`: these are the last
    /// sessions, and changes follow.
    #[schema(value_type = String, required = false, inline, example = "running")]
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<&'static str>,
    /// The `after` of the next page. It never ends: later changes appear there.
    #[schema(pattern = "^[A-Za-z0-9_-]+$", max_length = 128)]
    next_cursor: String,
    /// The number of the last change of the enterprise, whether it matches the filter or not.
    #[schema(minimum = 0)]
    head_seq: i64,
    /// The age of the first change behind the page, in milliseconds; 0 if `caughtUp` is `true`.
    #[schema(minimum = 0)]
    lag_ms: u64,
    /// Whether the page reaches the last change of the enterprise.
    caught_up: bool,
}

/// A page as a client gets it.
pub(super) struct RenderedPage {
    pub(super) json: Vec<u8>,
    /// The number of sessions in the page, also beside changes.
    pub(super) sessions: usize,
}

impl RenderedPage {
    pub(super) fn new(page: &FeedPage) -> Self {
        let included = page.events.iter().filter(|item| item.session.is_some()).count();
        Self { json: render(page), sessions: page.sessions.len() + included }
    }
}

fn render(page: &FeedPage) -> Vec<u8> {
    let mut body = br#"{"events":["#.to_vec();
    for (index, item) in page.events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        view::write_item(&mut body, item);
    }
    let snapshot = page.snapshot;
    let rest = FeedPageView {
        events: std::marker::PhantomData,
        sessions: snapshot.map(|_| page.sessions.iter().map(SessionView::from).collect()),
        snapshot: snapshot.map(|phase| match phase {
            SnapshotPhase::Running => "running",
            SnapshotPhase::Done => "done",
        }),
        next_cursor: page.next.encode(),
        head_seq: page.head.get(),
        lag_ms: u64::try_from(page.lag.as_millis()).unwrap_or(u64::MAX),
        caught_up: page.caught_up,
    };
    // Text, numbers and lists can always be written as JSON.
    let rest = serde_json::to_string(&rest).unwrap_or_default();
    // A write into memory cannot fail.
    let _ = write!(body, "],{}", rest.strip_prefix('{').unwrap_or_default());
    body
}
