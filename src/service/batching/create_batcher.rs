//! Inserts new sessions, many in one statement.

use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::batcher::{Attempt, Executor};
use super::commands::{CreateCommand, CreateOutcome, PendingCreate};
use super::context::Context;
use super::{queue, waiters};
use crate::metrics::StatementStats;
use crate::repository;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::sessions::{self, NewSessionRecord, Provenance};
use crate::service::CachedSession;
use crate::service::feed::WrittenChange;
use crate::telemetry::trace_statement;

/// Executes creates.
pub(super) struct CreateExecutor {
    context: Arc<Context>,
    dedicated: DedicatedConnection,
}

impl CreateExecutor {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: context.clone(), dedicated: context.dedicated_connection() }
    }
}

impl Executor for CreateExecutor {
    type Command = CreateCommand;
    type Outcome = CreateOutcome;
    type Batch = Vec<PendingCreate>;
    /// The time of the creation. `None` if every command was gone before the statement.
    type Done = Option<DateTime<Utc>>;

    const MAX_DEADLOCK_RETRIES: u32 = 0;

    fn context(&self) -> &Context {
        &self.context
    }

    fn statements(context: &Context) -> &StatementStats {
        &context.metrics.creates
    }

    fn group(&mut self, commands: Vec<PendingCreate>) -> Vec<PendingCreate> {
        commands
    }

    async fn execute(
        &mut self,
        batch: &mut Vec<PendingCreate>,
        _: Attempt,
    ) -> Result<Option<DateTime<Utc>>, repository::Error> {
        let Self { context, dedicated } = self;
        let metrics = &context.metrics.creates;
        let connection = waiters::acquire_for(dedicated, batch, metrics).await?;
        let Some(connection) = connection else { return Ok(None) };
        let creations: Vec<NewSessionRecord<'_>> = batch.iter().map(creation).collect();
        let (creations, fixed_time) = (&*creations, context.clock.fixed_time());
        // Pinned here: the future is large, and each wrapper would move it.
        let inserting = pin!(dedicated.run(connection, |mut connection| async move {
            let inserted = sessions::insert(&mut *connection, creations, fixed_time).await;
            (connection, inserted)
        }));
        let counted = metrics.measure(creations.len(), inserting);
        let traces = queue::traces(&*batch);
        let inserted =
            trace_statement("sessions.insert", creations.len(), &traces, counted).await?;
        context.record_written(batch.iter().map(|pending| WrittenChange {
            after: &pending.command.session,
            former_owner: None,
            removed: &[],
        }));
        Ok(Some(inserted))
    }

    fn reply(
        &mut self,
        batch: Vec<PendingCreate>,
        result: Result<Option<DateTime<Utc>>, repository::Error>,
        _: Attempt,
    ) -> Option<Vec<PendingCreate>> {
        let result = result.map_err(Arc::new);
        for PendingCreate { command, reply, .. } in batch {
            let CreateCommand { mut session, fill_token, .. } = command;
            reply.send(match &result {
                Ok(at) => {
                    if let Some(at) = *at {
                        (session.created_at, session.updated_at) = (at, at);
                    }
                    let session = Arc::new(CachedSession::from(session));
                    self.context.cache.publish(fill_token, &session);
                    self.context.change_notifier.notify(session.buin);
                    Ok(CreateOutcome::Created(session))
                }
                Err(error) if matches!(**error, repository::Error::DuplicateIdempotencyKey) => {
                    Ok(CreateOutcome::DuplicateKey(Box::new(session)))
                }
                Err(error) => Err(error.clone().into()),
            });
        }
        None
    }
}

fn creation(PendingCreate { command, trace, .. }: &PendingCreate) -> NewSessionRecord<'_> {
    NewSessionRecord {
        session: &command.session,
        provenance: Provenance {
            app_id: &command.app.app.app_id,
            operator: &command.session.owner,
            reason: command.reason.as_ref(),
            key: command.key.as_ref(),
            trace: trace.as_ref(),
        },
    }
}
