//! What is still to be written down.

use chrono::{DateTime, Utc};

use super::desk::soon;
use crate::repository;
use crate::repository::deliveries::{self, Finished, Unsent};
use crate::repository::line::Line;

/// What became of deliveries that were taken.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Tries that ended.
    pub(super) finished: Vec<Finished>,
    /// What was not tried, and is to be given back.
    pub(super) unsent: Vec<Unsent>,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.unsent.is_empty()
    }

    pub(super) async fn write(
        &self,
        line: &mut Line,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        let mut connection = line.take(soon()).await?;
        let recorded = line.bounded(deliveries::record(&mut connection, &self.finished, now));
        let recorded = recorded.await;
        let done = match recorded {
            Ok(_) => line.bounded(deliveries::give_back(&mut connection, &self.unsent, now)).await,
            Err(error) => Err(error),
        };
        line.give_back(connection, &done);
        done
    }
}
