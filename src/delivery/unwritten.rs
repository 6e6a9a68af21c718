//! What is still to be written down.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::desk::soon;
use crate::repository;
use crate::repository::deliveries::{self, Finished, Lease, Unsent};
use crate::repository::line::Line;

/// What became of deliveries that were taken.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Tries that ended.
    pub(super) finished: Vec<Finished>,
    /// What was not tried, and is to be given back.
    pub(super) unsent: Vec<Unsent>,
    /// What was asked for when the connection broke: it may be ours, but will not come.
    pub(super) forgotten: Vec<Lease>,
}

impl Unwritten {
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.unsent.is_empty() && self.forgotten.is_empty()
    }

    pub(super) async fn write(
        &self,
        line: &mut Line,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        let mut connection = line.take(soon()).await?;
        let done = self.write_on(line, &mut connection, now).await;
        line.give_back(connection, &done);
        done
    }

    async fn write_on(
        &self,
        line: &Line,
        connection: &mut PgConnection,
        now: DateTime<Utc>,
    ) -> Result<(), repository::Error> {
        line.bounded(deliveries::record(connection, &self.finished, now)).await?;
        line.bounded(deliveries::give_back(connection, &self.unsent, now)).await?;
        line.bounded(deliveries::give_up(connection, &self.forgotten, now)).await
    }

    /// Takes back what could not be written.
    pub(super) fn again(&mut self, written: Self) {
        self.finished.extend(written.finished);
        self.unsent.extend(written.unsent);
        self.forgotten.extend(written.forgotten);
    }
}
