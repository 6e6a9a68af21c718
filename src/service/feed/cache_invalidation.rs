//! Learning what other servers have changed.
//!
//! A position holds as long as the connection on which it was told. A PostgreSQL that died may have
//! forgotten transactions that nobody waited for, and gives their numbers to others, which would
//! then seem to be known; another one, which has taken its place, may have forgotten more. And what
//! is too much to be told in one look would be so in the next. So who cannot look begins anew.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{SessionId, Version};
use crate::repository::Error;
use crate::repository::dedicated_connection::Line;
use crate::repository::feed::{self, Position};
use crate::service::Sessions;

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
        let mut line = Line::for_looks(&shared.pool, shared.limits, shared.metrics.clone());
        let mut place = None;
        let mut told = false;
        loop {
            // What is not seen from here on may have been changed since.
            let looked = Instant::now();
            match look(&mut line, &mut place).await {
                Ok(Some(changed)) => {
                    for (id, version) in changed {
                        cache.changed(id, version);
                    }
                    cache.is_up_to_date(looked);
                    told = false;
                }
                Ok(None) => {
                    // What was changed before is known to nobody.
                    cache.clear();
                    cache.is_up_to_date(looked);
                    told = false;
                }
                Err(error) => {
                    if !told {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "cannot follow the changes of other servers; reading all from the database"
                        );
                    }
                    told = true;
                }
            }
            tokio::time::sleep_until(looked + cache.options().follow_interval / 2).await;
        }
    }
}

/// Where the feed stood, and on which connection that was told.
struct Place {
    position: Position,
    connection: usize,
}

/// What has changed since the last look, if that is known.
async fn look(
    line: &mut Line,
    place: &mut Option<Place>,
) -> Result<Option<Vec<(SessionId, Version)>>, Error> {
    let mut connection = line.take(Instant::now() + WITHIN).await?;
    let made = line.made();
    let before = place.take().filter(|place| place.connection == made);
    let looking = async {
        Ok(match before {
            None => (None, feed::now(&mut connection).await?),
            Some(place) => {
                let (changed, now) = feed::since(&mut connection, &place.position).await?;
                (Some(changed), now)
            }
        })
    };
    let done = line.bounded(looking).await;
    line.give_back(connection, &done);
    let (changed, position) = done?;
    *place = Some(Place { position, connection: made });
    Ok(changed)
}
