//! Statements that were given up, and the connections that run them.
//!
//! A statement is given up when its answer does not come in time. PostgreSQL does not notice that
//! its client is gone while the statement waits, above all for a synchronous standby, and keeps the
//! connection. So the statement is canceled through another connection. A commit that waits for a
//! standby has already taken place on the primary: canceling ends the wait and not the change, so the
//! outcome that the client got stays "unknown".

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{Connection as _, Error};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

use super::database_servers::DatabaseServers;
use crate::metrics::GivenUpStats;
use crate::telemetry::cause_chain;

/// The largest number of statements that wait to be canceled. Further ones are left alone.
const MAX_WAITING: usize = 64;
/// No connection is opened while a server has more connections of statements that were given up.
const MAX_GIVEN_UP: usize = 2;
/// The time limit to cancel the statements of one server.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit to connect for this. Meanwhile other connections may have to wait.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two attempts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A statement that calls a function for each connection that is still open, and counts them.
macro_rules! end_backends {
    ($function:literal) => {
        concat!(
            "select count(",
            $function,
            "(found.pid))
             from unnest($1::int[], $2::text[]) as given (pid, started_at)
             cross join lateral pg_stat_get_activity(given.pid) as found
             where given.started_at in (found.backend_start::text, found.xact_start::text)"
        )
    };
}

/// Cancels the statements of connections, and counts those that are open.
const CANCEL: &str = end_backends!("pg_cancel_backend");
/// Ends connections, and counts those that are open.
const TERMINATE: &str = end_backends!("pg_terminate_backend");

/// A connection from the view of its server.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    /// The index of the server.
    pub(super) server: usize,
    pub(super) process_id: i32,
    /// The time at which the process began, because process ids are used again. Through a pooler the
    /// time at which the transaction began, because the process serves other clients after it.
    pub(super) started_at: String,
}

/// Cancels statements that were given up. A clone shares the same queue.
#[derive(Clone)]
pub(super) struct Canceler(Arc<CancelQueue>);

struct CancelQueue {
    servers: DatabaseServers,
    stats: Arc<GivenUpStats>,
    queue: Mutex<WaitingBackends>,
    /// The number of connections that may still be open, for each server.
    open: watch::Sender<Vec<usize>>,
}

#[derive(Default)]
struct WaitingBackends {
    waiting: VecDeque<Backend>,
    is_running: bool,
}

impl Canceler {
    pub(super) fn new(servers: DatabaseServers) -> Self {
        let open = watch::Sender::new(vec![0; servers.len()]);
        let (stats, queue) = Default::default();
        Self(Arc::new(CancelQueue { servers, stats, queue, open }))
    }

    pub(super) fn stats(&self) -> Arc<GivenUpStats> {
        self.0.stats.clone()
    }

    /// Cancels the statement of `backend`, whose connection was closed here. Does not wait.
    pub(super) fn submit(&self, backend: Backend) {
        // A process that ends has no runtime any more.
        let Ok(runtime) = Handle::try_current() else { return };
        self.0.stats.given_up.inc();
        let mut queue = self.lock();
        if queue.waiting.len() >= MAX_WAITING {
            self.0.stats.left.inc();
            return;
        }
        self.0.open.send_modify(|open| change(open, backend.server, |open| open + 1));
        queue.waiting.push_back(backend);
        if !queue.is_running {
            queue.is_running = true;
            runtime.spawn(self.clone().run());
        }
    }

    /// Waits while a server has too many connections of statements that were given up.
    pub(super) async fn admit(&self, server: usize) {
        let is_admitted =
            |open: &Vec<usize>| open.get(server).is_none_or(|open| *open <= MAX_GIVEN_UP);
        if !is_admitted(&self.0.open.borrow()) {
            // The sender lives as long as this object.
            let _ = self.0.open.subscribe().wait_for(is_admitted).await;
        }
    }

    async fn run(self) {
        while let Some((server, backends)) = self.next_backends() {
            let canceled = timeout(CANCEL_TIMEOUT, self.cancel(server, &backends)).await;
            let stats = &self.0.stats;
            match canceled {
                Ok(Ok(())) => stats.ended.add(backends.len() as u64),
                Ok(Err(error)) => {
                    stats.left.add(backends.len() as u64);
                    // Usually the server is gone, and the statements with it.
                    let error = cause_chain(&error);
                    tracing::debug!(%error, "cannot cancel statements that were given up");
                }
                Err(_) => {
                    stats.left.add(backends.len() as u64);
                    tracing::warn!(
                        statements = backends.len(),
                        "statements that were given up did not end within {CANCEL_TIMEOUT:?}"
                    );
                }
            }
            let count = backends.len();
            let remove = |open: usize| open.saturating_sub(count);
            self.0.open.send_modify(|open| change(open, server, remove));
        }
    }

    /// All backends of the server whose backend waits longest.
    fn next_backends(&self) -> Option<(usize, Vec<Backend>)> {
        let mut queue = self.lock();
        let Some(server) = queue.waiting.front().map(|backend| backend.server) else {
            queue.is_running = false;
            return None;
        };
        let waiting = std::mem::take(&mut queue.waiting);
        let (next, others): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|backend| backend.server == server);
        queue.waiting = others.into();
        Some((server, next))
    }

    /// Cancels the statements, and returns when their connections are closed.
    async fn cancel(&self, server: usize, backends: &[Backend]) -> Result<(), Error> {
        let processes: Vec<i32> = backends.iter().map(|backend| backend.process_id).collect();
        let started_at: Vec<&str> =
            backends.iter().map(|backend| backend.started_at.as_str()).collect();
        let connecting = timeout(CONNECT_TIMEOUT, self.0.servers.connect(server)).await;
        let mut connection = connecting.unwrap_or(Err(Error::PoolTimedOut))?;
        let mut statement = CANCEL;
        loop {
            let found: i64 = sqlx::query_scalar(statement)
                .bind(&processes)
                .bind(&started_at)
                .fetch_one(&mut connection)
                .await?;
            if found == 0 {
                break;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            // A statement that is canceled ends, and then finds its client gone. A connection that
            // stays does not know that.
            statement = TERMINATE;
        }
        connection.close().await
    }

    fn lock(&self) -> MutexGuard<'_, WaitingBackends> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn change(open: &mut [usize], server: usize, change: impl FnOnce(usize) -> usize) {
    if let Some(open) = open.get_mut(server) {
        *open = change(*open);
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    #[tokio::test]
    async fn queue_is_bounded() {
        let canceler = Canceler::new(PgConnectOptions::new_without_pgpass().into());
        // The task that empties the queue does not run before this one waits.
        for process_id in 1..=MAX_WAITING as i32 + 3 {
            canceler.submit(Backend { server: 0, process_id, started_at: String::new() });
        }
        assert_eq!(canceler.lock().waiting.len(), MAX_WAITING);
        assert_eq!(canceler.stats().left.value(), 3);
    }
}
