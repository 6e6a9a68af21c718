//! Changes of one session take turns within this server.
//!
//! Without this every concurrent change but one would lose its guarded write and start over. Other
//! servers still compete; the guard keeps that right, the turns keep it rare.

use tokio::sync::{Mutex, MutexGuard};

use crate::domain::SessionId;

/// More than any pool has connections, so that two sessions seldom wait for each other.
const PLACES: usize = 256;

pub(super) struct Turns([Mutex<()>; PLACES]);

impl Turns {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits until nobody else here changes the session. First come, first served.
    pub(super) async fn take(&self, id: SessionId) -> MutexGuard<'_, ()> {
        // The last bytes of a UUID v7 are random.
        let place = usize::from(id.uuid().as_bytes()[15]) % PLACES;
        self.0[place].lock().await
    }
}
