//! Drops sessions from the cache that another server has changed, and wakes the callback worker.

use tokio::time::Instant;

use super::follower::{FeedPoll, Follower};
use crate::service::Sessions;
use crate::telemetry::cause_chain;

impl Sessions {
    /// Keeps the cache current with the changes of all servers, reports them to the callback worker of
    /// this server, and notices a database server that has become read-only. Never completes.
    pub async fn follow_changes(&self) {
        let shared = self.shared();
        let options = shared.cache.options();
        let mut follower = Follower::new(&shared.pool, shared.limits, shared.metrics.clone());
        let mut error_logged = false;
        loop {
            // The poll may miss a change after this moment.
            let polled_at = Instant::now();
            if options.enabled || shared.change_notifier.has_interest() {
                match follower.poll().await {
                    Ok(poll) => {
                        self.apply(poll);
                        shared.cache.mark_synced(polled_at);
                        error_logged = false;
                    }
                    Err(error) => {
                        if !error_logged {
                            tracing::warn!(
                                error = %cause_chain(&error),
                                "cannot follow the changes of other servers; the cache is not used"
                            );
                        }
                        error_logged = true;
                    }
                }
            }
            tokio::time::sleep_until(polled_at + options.follow_interval / 2).await;
        }
    }

    fn apply(&self, poll: FeedPoll) {
        let shared = self.shared();
        let changes = match poll {
            FeedPoll::Changes(changes) => changes,
            FeedPoll::Restarted => return shared.cache.clear(),
        };
        for change in changes {
            // The batchers have reported the changes of this server.
            if !shared.cache.invalidate(change.id, change.version) {
                shared.change_notifier.notify(change.buin);
            }
        }
    }
}
