//! New sessions, as many in one statement as begin at the time.

use std::pin::pin;
use std::sync::Arc;

use super::commands::{CreateCommand, CreateOutcome, PendingCreate};
use super::context::Context;
use super::waiters::{Bisection, Waiters as _};
use super::{queue, waiters};
use crate::repository;
use crate::repository::dedicated_connection::Line;
use crate::repository::sessions::{self, Creation, Provenance};
use crate::telemetry::statement;

fn creation(PendingCreate { command, trace, .. }: &PendingCreate) -> Creation<'_> {
    Creation {
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

/// Writes for whoever asks, until nobody can any more.
pub(super) async fn run(
    context: Arc<Context>,
    mut receiver: queue::BatchReceiver<CreateCommand, CreateOutcome>,
) {
    let mut dedicated = Line::new(&context.pool, context.limits, context.metrics.clone());
    while let Some(commands) = receiver.recv_batch().await {
        let mut parts = Bisection::new(commands);
        while let Some(mut batch) = parts.next_batch(&context.metrics.creates) {
            match insert_batch(&context, &mut dedicated, &mut batch).await {
                Err(error) if error.may_be_of_one() && batch.is_splittable() => {
                    parts.bisect(batch, error);
                }
                done => reply_all(&context, batch, done),
            }
        }
    }
}

async fn insert_batch(
    context: &Context,
    dedicated: &mut Line,
    commands: &mut Vec<PendingCreate>,
) -> Result<(), repository::Error> {
    let connection = waiters::acquire_for(dedicated, commands, &context.metrics.creates).await?;
    let Some(mut connection) = connection else { return Ok(()) };
    let creations: Vec<Creation<'_>> = commands.iter().map(creation).collect();
    let done = {
        // Pinned where it is made: it is large, and would be moved into each that waits for it.
        let inserting = pin!(sessions::insert(&mut connection, &creations));
        let counted = context.metrics.creates.count(creations.len(), dedicated.bounded(inserting));
        let traces = queue::traces(&*commands);
        statement("sessions.insert", creations.len(), &traces, counted).await
    };
    dedicated.give_back(connection, &done);
    done
}

fn reply_all(context: &Context, commands: Vec<PendingCreate>, done: Result<(), repository::Error>) {
    let done = done.map_err(Arc::new);
    for PendingCreate { command, reply, .. } in commands {
        reply.send(match &done {
            Ok(()) => {
                context.cache.replace(command.fill_token, &command.session);
                context.change_notifier.tell(command.session.buin);
                Ok(CreateOutcome::Written)
            }
            Err(error) if matches!(**error, repository::Error::KeyTaken) => {
                Ok(CreateOutcome::DuplicateKey)
            }
            Err(error) => Err(error.clone().into()),
        });
    }
}
