//! A page that waits for a change.
//!
//! While it waits, a request holds no connection of the database. Its time limit starts when the wait
//! ends, and so does the duration that metrics count.

use std::time::Duration;

use actix_web::HttpRequest;
use tokio::time::{Instant, interval_at, timeout_at};

use crate::http::middleware::request_context::RequestContext;
use crate::http::transport::server_draining;
use crate::http::v1::extract::reading_caller::ReadingCaller;
use crate::http::v1::problem::Problem;
use crate::service::{Caller, FeedPage, FeedQuery, FeedStart, Sessions};

/// The interval at which a request checks its key.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A page; if it would have no change, the page after the next change, or after the wait.
///
/// # Errors
/// If a page cannot be read, the caller has too many streams and waiting requests, or the key is not
/// valid any more.
pub(super) async fn page(
    http: &HttpRequest,
    sessions: &Sessions,
    caller: &Caller,
    mut query: FeedQuery,
    wait: Duration,
) -> Result<FeedPage, Problem> {
    let deadline = Instant::now() + wait;
    let reader = ReadingCaller::new(http)?;
    let subscription = sessions.subscribe(caller, query.filter.clone(), None)?;
    // The subscription begins before the page is read, so that no change between them is missed.
    subscription.listen();
    let mut page = sessions.feed_page(caller, query.clone()).await?;
    loop {
        let is_empty = page.events.is_empty() && page.snapshot.is_none();
        if !is_empty || Instant::now() >= deadline {
            return Ok(page);
        }
        query.start = FeedStart::Cursor(page.next);
        if page.caught_up {
            if changed(http, &reader, deadline, subscription.next()).await?.is_none() {
                return Ok(page);
            }
            subscription.listen();
        }
        let caller = reader.authenticate_again()?;
        page = sessions.feed_page(&caller, query.clone()).await?;
    }
}

/// Waits for a change, without a time limit but `deadline`. `None`: the time is over, or the server stops.
///
/// # Errors
/// If the key is not valid any more.
pub(in crate::http::v1::endpoints) async fn changed<T>(
    http: &HttpRequest,
    reader: &ReadingCaller,
    deadline: Instant,
    change: impl Future<Output = T>,
) -> Result<Option<T>, Problem> {
    RequestContext::with(http, RequestContext::mark_reading);
    let key_is_invalid = async {
        let mut ticks = interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        loop {
            ticks.tick().await;
            if let Err(problem) = reader.authenticate_again() {
                return problem;
            }
        }
    };
    let changed = tokio::select! {
        changed = timeout_at(deadline, change) => Ok(changed.ok()),
        () = server_draining(http) => Ok(None),
        problem = key_is_invalid => Err(problem),
    };
    RequestContext::with(http, |context| context.mark_read(Instant::now()));
    changed
}
