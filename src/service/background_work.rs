//! Which work of requests leaves the threads of connections, and which takes turns there.

use super::{Sessions, WorkTurns};

impl Sessions {
    /// The turns of large requests on this thread.
    #[must_use]
    pub fn work_turns(&self) -> &WorkTurns {
        &self.turns
    }

    /// Runs a read whose result may be large on the background threads, together with the rendering of
    /// its result. `read` gets these sessions, with turns of their own, because the
    /// background threads serve no connections.
    pub async fn read_in_background<T, F>(&self, read: impl FnOnce(Self) -> F) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let mut sessions = self.clone();
        sessions.turns = WorkTurns::new();
        self.background.run(read(sessions)).await
    }

    /// Does the work on a large body on a background thread. The caller has a turn of the current thread
    /// until the work is done, so that the background threads stay free for reads.
    pub async fn work_in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.background.run(async { work() }).await
    }
}
