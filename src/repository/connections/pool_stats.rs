//! The numbers of a pool.

use std::sync::Arc;

use super::connection_pool::Pool;
use crate::metrics::{AcquireStats, GivenUpStats};

impl Pool {
    /// The number of servers of the database.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.0.connector.servers().len()
    }

    /// The statements that were given up.
    #[must_use]
    pub fn given_up_stats(&self) -> Arc<GivenUpStats> {
        self.0.connector.given_up_stats()
    }

    /// The measured waits for connections.
    #[must_use]
    pub fn wait_stats(&self) -> Arc<AcquireStats> {
        self.0.wait_stats.clone()
    }

    /// The largest number of connections.
    #[must_use]
    pub fn max_connections(&self) -> u32 {
        self.0.limits.max_connections.max(1)
    }

    /// The number of connections that are in use or being opened.
    #[must_use]
    pub fn in_use(&self) -> usize {
        let max = usize::try_from(self.max_connections()).unwrap_or(usize::MAX);
        max.saturating_sub(self.0.permits.available_permits())
    }

    /// The number of open connections that are not in use.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.lock_idle().len()
    }
}
