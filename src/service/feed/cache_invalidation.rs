//! Drops sessions from the cache that another server has changed.

use tokio::time::Instant;

use super::poller::{FeedPoll, FeedPoller};
use crate::service::Sessions;

impl Sessions {
    /// Keeps the cache current with the changes of all servers. Never completes.
    pub async fn run_invalidation(&self) {
        let shared = self.shared();
        let cache = &shared.cache;
        if !cache.options().enabled {
            return std::future::pending().await;
        }
        let mut poller = FeedPoller::new(&shared.pool, shared.limits, shared.metrics.clone());
        let mut error_logged = false;
        loop {
            // The poll may miss a change after this moment.
            let polled_at = Instant::now();
            match poller.poll().await {
                Ok(poll) => {
                    match poll {
                        FeedPoll::Changes(changes) => {
                            for (id, version) in changes {
                                cache.invalidate(id, version);
                            }
                        }
                        FeedPoll::Restarted => cache.clear(),
                    }
                    cache.mark_synced(polled_at);
                    error_logged = false;
                }
                Err(error) => {
                    if !error_logged {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot follow the changes of other servers; the cache is not used"
                        );
                    }
                    error_logged = true;
                }
            }
            tokio::time::sleep_until(polled_at + cache.options().follow_interval / 2).await;
        }
    }
}
