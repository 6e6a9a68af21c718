//! Keeps the embedded PostgreSQL of a server running: starts it again when it dies.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::shutdown_signal::Stopper;
use crate::repository::embedded::EmbeddedPostgres;

/// How long to wait before the second attempt in a row; each further one waits twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Whoever has mended what was wrong, freed a disk say, should not have to wait.
const LONGEST_DELAY: Duration = Duration::from_secs(2);
/// One that ran for so long did not die of how it was started.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// The task that does it.
pub(super) struct Keeper {
    tell: watch::Sender<bool>,
    task: JoinHandle<EmbeddedPostgres>,
}

impl Keeper {
    /// Starts it. It also ends when the server is told to stop, so that nothing is started then.
    pub(super) fn start(mut postgres: EmbeddedPostgres, stopper: Stopper) -> Self {
        let (tell, mut told) = watch::channel(false);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = keep(&mut postgres) => {}
                _ = told.wait_for(|told| *told) => {}
                () = stopper.wanted() => {}
            }
            postgres
        });
        Self { tell, task }
    }

    /// Ends it. Nothing if the task failed, which is logged where it did.
    pub(super) async fn end(self) -> Option<EmbeddedPostgres> {
        self.tell.send_replace(true);
        self.task.await.ok()
    }
}

async fn keep(postgres: &mut EmbeddedPostgres) {
    let mut delay = Duration::ZERO;
    loop {
        let up_since = Instant::now();
        postgres.ended().await;
        if up_since.elapsed() >= STEADY_AFTER {
            delay = Duration::ZERO;
        }
        tracing::error!(
            delay_seconds = delay.as_secs(),
            "PostgreSQL has ended: starting it again; its log is in postgres/log below data_dir"
        );
        loop {
            tokio::time::sleep(delay).await;
            delay = (delay * 2).clamp(FIRST_DELAY, LONGEST_DELAY);
            match postgres.revive().await {
                Ok(()) => break,
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    delay_seconds = delay.as_secs(),
                    "PostgreSQL could not be started again: the next attempt follows after the delay"
                ),
            }
        }
        tracing::info!(joined = postgres.joined(), "PostgreSQL runs again");
    }
}
