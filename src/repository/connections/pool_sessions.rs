//! The connections of a pool that keep their sessions of PostgreSQL.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

use super::connection_pool::Pool;
use super::pooler_check::{self, LinkBehavior};
use crate::repository::Error;

impl Pool {
    /// Finds out how the link to the database behaves.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn link_behavior(&self) -> Result<LinkBehavior, Error> {
        let connector = &self.0.connector;
        Ok(pooler_check::probe(connector.servers(), connector.current_index()).await?)
    }

    /// Whether a pooler is between.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.0.connector.servers().is_pooled()
    }

    /// The pool whose connections keep their sessions of PostgreSQL: this one, or the direct one if a
    /// pooler is between. `None` if the configuration names none.
    #[must_use]
    pub fn session_pool(&self) -> Option<&Self> {
        if self.is_pooled() { self.0.direct.as_ref() } else { Some(self) }
    }

    /// The options of a connection that keeps its session, to the server that was used last.
    ///
    /// # Errors
    /// [`Error::NoSession`], or no server of `database.direct_url` can be reached.
    pub async fn session_options(&self) -> Result<Arc<PgConnectOptions>, Error> {
        let sessions = self.session_pool().ok_or(Error::NoSession)?;
        if self.is_pooled() {
            // The search finds the primary among the servers.
            sessions.acquire().await?.put_back_after(&Ok(()));
        }
        Ok(sessions.0.connector.current_options())
    }
}
