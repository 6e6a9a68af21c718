//! Learning what other servers have changed.

use std::time::Duration;

use tokio::time::Instant;

use super::Sessions;
use crate::domain::{SessionId, Version};
use crate::repository::Error;
use crate::repository::feed::{self, Position};
use crate::repository::line::Line;

/// By when there must be a connection to look with.
const WITHIN: Duration = Duration::from_secs(5);

impl Sessions {
    /// Keeps what is held in memory up with the database, for ever.
    pub async fn follow(&self) {
        let shared = self.shared();
        let cache = &shared.cache;
        if !cache.options().enabled {
            return std::future::pending().await;
        }
        let mut line = Line::new(&shared.pool, shared.limits, shared.metrics.clone());
        let mut position: Option<Position> = None;
        let mut told = false;
        loop {
            // What is not seen from here on may have been changed since.
            let looked = Instant::now();
            let done = look(&mut line, position.as_ref()).await;
            match done {
                Ok((changed, now)) => {
                    if position.is_none() {
                        // What was changed before is known to nobody.
                        cache.clear();
                    }
                    for (id, version) in changed {
                        cache.changed(id, version);
                    }
                    position = Some(now);
                    cache.is_up_to_date(looked);
                    told = false;
                }
                // The same position will do, once the database is back.
                Err(error) if !told => {
                    told = true;
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot follow the changes of other servers; reading all from the database"
                    );
                }
                Err(_) => {}
            }
            tokio::time::sleep_until(looked + cache.options().follow_interval).await;
        }
    }
}

/// What has changed since `position`, and where the feed stands then.
async fn look(
    line: &mut Line,
    position: Option<&Position>,
) -> Result<(Vec<(SessionId, Version)>, Position), Error> {
    let mut connection = line.take(Instant::now() + WITHIN).await?;
    let looking = async {
        match position {
            None => Ok((Vec::new(), feed::now(&mut connection).await?)),
            Some(position) => feed::since(&mut connection, position).await,
        }
    };
    let done = line.bounded(looking).await;
    line.give_back(connection, &done);
    done
}
