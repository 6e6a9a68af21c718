//! Decides and writes updates, many in one statement.
//!
//! Updates of one session that arrive together are decided one after the other and written as
//! consecutive versions (see [`super::session_batch`]). So updates of one server never conflict.
//! Another server may write a session between the decision and the statement. Such an update is
//! decided again while the session is locked.
//!
//! The first decision is based on the cache, which may be outdated. An outdated change is detected,
//! because its statement checks the version. An outdated rejection, or the outdated result that
//! nothing changes, is not detected. So the session is read from the database first in these cases.

use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::batcher::{Attempt, Executor};
use super::commands::{PendingUpdate, UpdateCommand, UpdateOutcome};
use super::context::Context;
use super::session_batch::{BaseState, SessionBatch};
use super::{session_reader, waiters};
use crate::domain::SessionId;
use crate::metrics::StatementStats;
use crate::repository;
use crate::repository::connections::dedicated_connection::DedicatedConnection;
use crate::repository::sessions;
use crate::service::Error;
use crate::telemetry::trace_statement;

/// The written sessions, each with the time of its change.
type UpdatedSessions = Vec<(SessionId, DateTime<Utc>)>;

/// Executes updates.
pub(super) struct UpdateExecutor {
    context: Arc<Context>,
    dedicated: DedicatedConnection,
}

impl UpdateExecutor {
    pub(super) fn new(context: &Arc<Context>) -> Self {
        Self { context: context.clone(), dedicated: context.dedicated_connection() }
    }
}

impl Executor for UpdateExecutor {
    type Command = UpdateCommand;
    type Outcome = UpdateOutcome;
    type Batch = Vec<SessionBatch>;
    type Done = UpdatedSessions;

    const MAX_DEADLOCK_RETRIES: u32 = 5;

    fn context(&self) -> &Context {
        &self.context
    }

    fn statements(context: &Context) -> &StatementStats {
        &context.metrics.updates
    }

    fn group(&mut self, commands: Vec<PendingUpdate>) -> Vec<SessionBatch> {
        let cache = &self.context.cache;
        let mut groups = SessionBatch::group_by_session(cache, commands);
        for group in &mut groups {
            if let Some(session) = cache.get(group.id) {
                group.set_base(BaseState::Cached(session));
            }
        }
        groups
    }

    async fn execute(
        &mut self,
        groups: &mut Vec<SessionBatch>,
        attempt: Attempt,
    ) -> Result<UpdatedSessions, repository::Error> {
        let Self { context, dedicated } = self;
        match attempt {
            Attempt::First => write(context, dedicated, groups).await,
            // Boxed: the future is large and seldom needed.
            Attempt::Retry => Box::pin(write_locked(context, dedicated, groups)).await,
        }
    }

    fn reply(
        &mut self,
        groups: Vec<SessionBatch>,
        result: Result<UpdatedSessions, repository::Error>,
        attempt: Attempt,
    ) -> Option<Vec<SessionBatch>> {
        match result {
            Ok(written) => {
                let conflicted = reply_written(&self.context, groups, &written);
                if attempt == Attempt::First && !conflicted.is_empty() {
                    self.context.metrics.version_conflicts.add(conflicted.len() as u64);
                    return Some(conflicted);
                }
                conflicted.into_iter().for_each(|group| group.reply_error(&Error::Contention));
            }
            Err(repository::Error::DuplicateIdempotencyKey) => {
                groups.into_iter().for_each(SessionBatch::reply_duplicate_key);
            }
            Err(error) => {
                let error = Error::from(error);
                groups.into_iter().for_each(|group| group.reply_error(&error));
            }
        }
        None
    }
}

/// Decides all commands, and reads sessions if necessary. Groups whose session cannot be read, and
/// groups without a change, are answered and removed.
async fn decide_and_reply(
    context: &Context,
    dedicated: &mut DedicatedConnection,
    groups: &mut Vec<SessionBatch>,
) {
    loop {
        groups.iter_mut().for_each(|group| group.decide(context));
        let unknown = groups.iter().filter(|group| group.needs_load());
        let ids: Vec<SessionId> = unknown.map(|group| group.id).collect();
        if ids.is_empty() {
            break;
        }
        read(context, dedicated, groups, &ids).await;
    }
    for group in groups.extract_if(.., |group| !group.has_changes()) {
        group.reply_all(None, |_, _| {});
    }
}

/// Reads the sessions `ids`, which are sorted. Groups may expire meanwhile. If one session makes
/// the statement fail, the halves of `ids` are read.
async fn read(
    context: &Context,
    dedicated: &mut DedicatedConnection,
    groups: &mut Vec<SessionBatch>,
    ids: &[SessionId],
) {
    let traces = SessionBatch::traces(groups);
    let found = session_reader::read(context, dedicated, groups, ids, &traces).await;
    let is_selected = |group: &SessionBatch| ids.binary_search(&group.id).is_ok();
    match found {
        Ok(mut found) => {
            for group in groups.iter_mut().filter(|group| is_selected(group)) {
                group.set_base(BaseState::from_read(found.remove(&group.id)));
            }
        }
        Err(error) if error.may_be_item_specific() && ids.len() > 1 => {
            let (first_half, second_half) = ids.split_at(ids.len() / 2);
            // Boxed, because the function calls itself.
            Box::pin(read(context, dedicated, groups, first_half)).await;
            Box::pin(read(context, dedicated, groups, second_half)).await;
        }
        Err(error) => {
            let error = session_reader::read_error(error);
            for group in groups.extract_if(.., |group| is_selected(group)) {
                group.reply_error(&error);
            }
        }
    }
}

/// Decides and writes. Returns the written sessions; each of the others had another version than
/// the decision expected.
async fn write(
    context: &Context,
    dedicated: &mut DedicatedConnection,
    groups: &mut Vec<SessionBatch>,
) -> Result<UpdatedSessions, repository::Error> {
    let connection = loop {
        decide_and_reply(context, dedicated, groups).await;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let connection = waiters::acquire_for(dedicated, groups, &context.metrics.updates).await?;
        let Some(connection) = connection else { return Ok(Vec::new()) };
        if groups.iter().all(SessionBatch::is_decided) {
            break connection;
        }
        // Some commands expired. The other commands of their sessions must be decided again.
        dedicated.put_back_unused(connection);
    };
    let decided: Vec<_> = groups.iter().filter_map(SessionBatch::change_set).collect();
    let (decided, fixed_time) = (&*decided, context.clock.fixed_time());
    // Pinned here: the future is large, and each wrapper would move it.
    let updating = pin!(dedicated.run(connection, |mut connection| async move {
        let written = sessions::update_if_version(&mut *connection, decided, fixed_time).await;
        (connection, written)
    }));
    let counted = context.metrics.updates.measure(decided.len(), updating);
    let done =
        trace_statement("sessions.update", decided.len(), &SessionBatch::traces(groups), counted)
            .await;
    report_written(context, groups, &done);
    done
}

/// Reports the changes to the feed if the statement has written any.
fn report_written(
    context: &Context,
    groups: &[SessionBatch],
    done: &Result<UpdatedSessions, repository::Error>,
) {
    let Ok(written) = done else { return };
    if !written.is_empty() {
        let is_written = |group: &&SessionBatch| written.iter().any(|(id, _)| *id == group.id);
        let written = groups.iter().filter(is_written);
        context.record_written(written.flat_map(SessionBatch::written_changes));
    }
}

/// Like [`write`], but locks the sessions, so that no other server can change them.
async fn write_locked(
    context: &Context,
    dedicated: &mut DedicatedConnection,
    groups: &mut Vec<SessionBatch>,
) -> Result<UpdatedSessions, repository::Error> {
    let connection = waiters::acquire_for(dedicated, groups, &context.metrics.updates).await?;
    let Some(connection) = connection else { return Ok(Vec::new()) };
    let ids: Vec<SessionId> = groups.iter().map(|group| group.id).collect();
    let traces = SessionBatch::traces(groups);
    let (locked, fixed_time) = (&*ids, context.clock.fixed_time());
    let working =
        dedicated.run_with(&mut *groups, connection, |mut connection, groups| async move {
            let undecided = &mut *groups;
            let done = sessions::update_locked(&mut connection, locked, fixed_time, move |found| {
                let mut found = session_reader::into_cached(found);
                for group in undecided.iter_mut() {
                    group.set_base(BaseState::from_read(found.remove(&group.id)));
                    group.decide(context);
                }
                undecided.iter().filter_map(SessionBatch::change_set).collect()
            })
            .await;
            (connection, groups, done)
        });
    let counted = context.metrics.updates.measure(ids.len(), working);
    let done = trace_statement("sessions.update_locked", ids.len(), &traces, counted).await;
    report_written(context, groups, &done);
    if done.is_ok() {
        for group in &*groups {
            if let Some(session) = group.base() {
                context.cache.fill(group.fill_token, session);
            }
        }
    }
    done
}

/// Answers the groups that were written or have no change. Returns the groups whose session another
/// server changed first.
fn reply_written(
    context: &Context,
    groups: Vec<SessionBatch>,
    written: &[(SessionId, DateTime<Utc>)],
) -> Vec<SessionBatch> {
    let mut conflicted = Vec::new();
    for group in groups {
        let at = written.iter().find(|(id, _)| *id == group.id).map(|(_, at)| *at);
        if at.is_none() && group.has_changes() {
            conflicted.push(group);
            continue;
        }
        group.reply_all(at, |fill_token, session| {
            context.cache.publish(fill_token, session);
            context.change_notifier.notify(session.buin);
        });
    }
    conflicted
}
