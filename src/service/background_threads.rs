//! Threads for large reads, apart from the threads that serve connections.
//!
//! A thread of connections serves many clients. A read with a large result would keep the thread for
//! milliseconds: its rows are decoded, and its response is written. Small requests of other enterprises
//! would wait. So lists, histories and reads of many sessions run here, and these threads have a lower
//! priority.

use std::num::NonZero;
use std::sync::Arc;
use std::{io, panic, thread};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tracing::Instrument as _;

/// The niceness of the threads (see `setpriority(2)`): beside a busy thread of connections they get about
/// a third of its time.
const NICENESS: i32 = 5;

/// The threads. Clones share them. They end with the last clone.
#[derive(Clone, Debug)]
pub struct BackgroundThreads(Arc<OwnedRuntime>);

/// A runtime that may be dropped by an asynchronous task.
#[derive(Debug)]
struct OwnedRuntime(Option<Runtime>);

impl BackgroundThreads {
    /// Starts two threads for each processor, so that the system shares its time between a large read and
    /// a small one.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2 * processors)
            .thread_name("muster-reads")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        Ok(Self(Arc::new(OwnedRuntime(Some(runtime)))))
    }

    /// Runs a read on these threads. The read is dropped together with the future of this call.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let mut tasks = JoinSet::new();
        if let Some(runtime) = &self.0.0 {
            tasks.spawn_on(read.in_current_span(), runtime.handle());
        }
        match tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            // The threads run while `self` is borrowed, and nothing else ends a task.
            _ => std::future::pending().await,
        }
    }
}

/// Lowers the priority of the current thread. A system that refuses this has threads of equal priority.
fn lower_priority() {
    // On Linux the call is for the calling thread, and needs no privilege.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

impl Drop for OwnedRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn read_runs_on_a_thread_of_its_own() {
        let threads = BackgroundThreads::start().unwrap();
        let name = threads.run(async { thread::current().name().map(str::to_owned) }).await;
        assert_eq!(name.as_deref(), Some("muster-reads"));
    }

    #[tokio::test]
    async fn read_ends_with_its_caller() {
        let threads = BackgroundThreads::start().unwrap();
        let (started, has_started) = oneshot::channel();
        let (held, is_dropped) = oneshot::channel::<()>();
        let read = threads.run(async move {
            started.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        });
        tokio::select! {
            () = read => unreachable!(),
            _ = has_started => {}
        }
        assert!(is_dropped.await.is_err());
    }

    #[tokio::test]
    async fn threads_may_end_within_a_runtime() {
        drop(BackgroundThreads::start().unwrap());
    }
}
