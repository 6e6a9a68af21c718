//! Supervises the embedded PostgreSQL of a server: restarts it if it dies.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::shutdown_signal::ShutdownSignal;
use crate::postgres::embedded::EmbeddedPostgres;
use crate::telemetry::cause_chain;

/// The delay before the second attempt in a row. Each further attempt waits twice as long.
const MIN_DELAY: Duration = Duration::from_secs(1);
/// The maximum delay. It is short, so that PostgreSQL runs soon after an operator has removed the
/// cause, such as a full disk.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// A PostgreSQL that ran for this time started well, so its next start has no delay.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// The supervising task.
pub(super) struct PostgresSupervisor {
    stop: watch::Sender<bool>,
    task: JoinHandle<EmbeddedPostgres>,
}

impl PostgresSupervisor {
    /// Starts the task. It ends when the server stops, so that PostgreSQL is not started during a
    /// stop.
    pub(super) fn start(mut postgres: EmbeddedPostgres, shutdown_signal: ShutdownSignal) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = supervise(&mut postgres) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = shutdown_signal.requested() => {}
            }
            postgres
        });
        Self { stop, task }
    }

    /// Ends the task. `None` if the task panicked.
    pub(super) async fn stop(self) -> Option<EmbeddedPostgres> {
        self.stop.send_replace(true);
        self.task.await.ok()
    }
}

async fn supervise(postgres: &mut EmbeddedPostgres) {
    let mut delay = Duration::ZERO;
    loop {
        let started_at = Instant::now();
        postgres.wait_ended().await;
        if started_at.elapsed() >= STABLE_AFTER {
            delay = Duration::ZERO;
        }
        tracing::error!(
            delay_seconds = delay.as_secs(),
            "PostgreSQL has ended: starting it again; its log is in postgres/log below data_dir"
        );
        loop {
            tokio::time::sleep(delay).await;
            delay = (delay * 2).clamp(MIN_DELAY, MAX_DELAY);
            match postgres.restart().await {
                Ok(()) => break,
                Err(error) => tracing::error!(
                    error = %cause_chain(&error),
                    delay_seconds = delay.as_secs(),
                    "PostgreSQL could not be started again: the next attempt follows after the delay"
                ),
            }
        }
        tracing::info!(joined = postgres.is_shared(), "PostgreSQL runs again");
    }
}
