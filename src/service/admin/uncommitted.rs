//! A change with a new secret. The caller shows the secret before the commit, so that no secret
//! is valid before the operator has seen it.

use super::{AdminContext, Error, backlog, propagation};
use crate::domain::App;
use crate::repository::{self, PoolTransaction};

/// A change that is not in force yet, and its result. If it is dropped, nothing was changed.
#[must_use = "a change is not in force before its commit"]
pub struct Uncommitted<T> {
    value: T,
    change: PoolTransaction,
    next: AfterCommit,
}

/// The work that must follow the commit.
pub(super) enum AfterCommit {
    /// Servers learn of the change by themselves.
    Nothing,
    /// The servers have the change when the use case returns.
    Announce,
    /// The same, and callbacks that failed before may arrive now.
    AnnounceAndWake(App),
}

impl<T> Uncommitted<T> {
    pub(super) fn new(value: T, change: PoolTransaction, next: AfterCommit) -> Self {
        Self { value, change, next }
    }

    /// The result of the change, with its secret.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Commits the change.
    ///
    /// # Errors
    /// The database fails.
    pub async fn commit(self, admin: &AdminContext) -> Result<T, Error> {
        self.change.commit().await.map_err(repository::Error::from)?;
        match self.next {
            AfterCommit::Nothing => {}
            AfterCommit::Announce => propagation::announce(admin).await,
            AfterCommit::AnnounceAndWake(app) => {
                propagation::announce(admin).await;
                backlog::wake(admin, &app).await?;
            }
        }
        Ok(self.value)
    }
}
