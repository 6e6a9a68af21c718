//! Reads sessions, many in one statement.
//!
//! A session that several commands request is read once. A batch that takes too long is bisected,
//! because some sessions are much larger than others.

use std::sync::Arc;

use super::batcher::{Attempt, Executor};
use super::commands::PendingRead;
use super::context::Context;
use super::queue;
use super::session_reader::{ReadResults, read, read_error};
use crate::domain::SessionId;
use crate::metrics::StatementStats;
use crate::repository;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::service::CachedSession;

/// Executes reads.
pub(super) struct ReadExecutor {
    context: Arc<Context>,
    dedicated: DedicatedConnection,
}

impl ReadExecutor {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: context.clone(), dedicated: context.dedicated_connection() }
    }
}

impl Executor for ReadExecutor {
    type Command = SessionId;
    type Outcome = Option<Arc<CachedSession>>;
    type Batch = Vec<PendingRead>;
    type Done = ReadResults;

    const MAX_DEADLOCK_RETRIES: u32 = 0;

    fn context(&self) -> &Context {
        &self.context
    }

    fn statements(context: &Context) -> &StatementStats {
        &context.metrics.reads
    }

    fn group(&mut self, commands: Vec<PendingRead>) -> Vec<PendingRead> {
        commands
    }

    async fn execute(
        &mut self,
        batch: &mut Vec<PendingRead>,
        _: Attempt,
    ) -> Result<ReadResults, repository::Error> {
        let mut ids: Vec<SessionId> = batch.iter().map(|pending| pending.command).collect();
        if ids.is_empty() {
            return Ok(ReadResults::new());
        }
        ids.sort_unstable();
        ids.dedup();
        let traces = queue::traces(&*batch);
        read(&self.context, &mut self.dedicated, batch, &ids, &traces).await
    }

    fn reply(
        &mut self,
        batch: Vec<PendingRead>,
        result: Result<ReadResults, repository::Error>,
        _: Attempt,
    ) -> Option<Vec<PendingRead>> {
        let found = result.map_err(read_error);
        for PendingRead { command, reply, .. } in batch {
            reply.send(match &found {
                Ok(found) => found.get(&command).cloned().transpose(),
                Err(error) => Err(error.clone()),
            });
        }
        None
    }
}
