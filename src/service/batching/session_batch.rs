//! Updates of one session that are decided together.
//!
//! No I/O lives here. The batch gets the state of the session, decides each command on the result
//! of the command before it, and returns the changes to write.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::commands::{PendingUpdate, UpdateOutcome};
use super::context::Context;
use super::queue;
use super::waiters::Waiters;
use crate::domain::{Change, RuleViolation, SessionId};
use crate::repository::sessions::{ChangeSet, Provenance, VersionedChange};
use crate::service::feed::WrittenChange;
use crate::service::session_cache::{FillToken, SessionCache};
use crate::service::{CachedSession, Error};
use crate::telemetry::Trace;

/// The updates of one session in a batch, in the order of arrival.
pub(super) struct SessionBatch {
    pub(super) id: SessionId,
    /// The token from before the session is read or written.
    pub(super) fill_token: FillToken,
    base: BaseState,
    /// The decision for each command. Empty until the commands are decided.
    decisions: Vec<Decision>,
    commands: Vec<PendingUpdate>,
}

/// The state of the session that the commands are decided on.
pub(super) enum BaseState {
    /// Not loaded yet.
    NotLoaded,
    /// The session from the cache, possibly outdated.
    Cached(Arc<CachedSession>),
    /// The session as just read from the database.
    Loaded(Arc<CachedSession>),
    /// The session does not exist.
    NotFound,
    /// The session exists, but is invalid.
    Failed(Error),
}

/// The decision for a command.
enum Decision {
    Change(Box<Change>),
    /// The session already has the requested state.
    Unchanged,
    Rejected(RuleViolation),
    SessionNotFound,
    LoadFailed(Error),
}

impl BaseState {
    pub(super) fn from_read(found: Option<Result<Arc<CachedSession>, Error>>) -> Self {
        match found {
            None => Self::NotFound,
            Some(Ok(session)) => Self::Loaded(session),
            Some(Err(error)) => Self::Failed(error),
        }
    }

    fn session(&self) -> Option<&Arc<CachedSession>> {
        match self {
            Self::Cached(session) | Self::Loaded(session) => Some(session),
            Self::NotLoaded | Self::NotFound | Self::Failed(_) => None,
        }
    }
}

impl Waiters for Vec<SessionBatch> {
    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.iter().flat_map(|group| group.commands.deadlines())
    }

    // The remaining commands must be decided again, because they may depend on an expired command.
    fn expire(&mut self, now: Instant, error: impl Fn() -> Error) -> usize {
        let mut expired = 0;
        self.retain_mut(|group| {
            let before = group.commands.len();
            expired += group.commands.expire(now, &error);
            if group.commands.len() < before {
                group.decisions.clear();
            }
            !group.commands.is_empty()
        });
        expired
    }

    fn is_splittable(&self) -> bool {
        self.iter().map(|group| group.commands.len()).sum::<usize>() > 1
    }

    fn split_half(&mut self) -> Self {
        if let [group] = self.as_mut_slice() {
            group.decisions.clear();
            return vec![SessionBatch::new(
                group.id,
                group.fill_token,
                group.commands.split_half(),
            )];
        }
        self.split_off(self.len() / 2)
    }
}

impl SessionBatch {
    fn new(id: SessionId, fill_token: FillToken, commands: Vec<PendingUpdate>) -> Self {
        Self { id, fill_token, base: BaseState::NotLoaded, decisions: Vec::new(), commands }
    }

    /// Groups commands by session, in the order of the session ids. Sessions are locked in the same
    /// order, so deadlocks between servers are rare.
    pub(super) fn group_by_session(
        cache: &SessionCache,
        commands: Vec<PendingUpdate>,
    ) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::with_capacity(commands.len());
        let mut indices: HashMap<SessionId, usize> = HashMap::with_capacity(commands.len());
        for pending in commands {
            match indices.get(&pending.command.id) {
                Some(index) => groups[*index].commands.push(pending),
                None => {
                    indices.insert(pending.command.id, groups.len());
                    let id = pending.command.id;
                    groups.push(Self::new(id, cache.begin_fill(id), vec![pending]));
                }
            }
        }
        groups.sort_unstable_by_key(|group| group.id);
        groups
    }

    /// The traces of all commands.
    pub(super) fn traces(groups: &[Self]) -> Vec<Trace> {
        queue::traces(groups.iter().flat_map(|group| &group.commands))
    }

    /// Sets the state of the session, so all commands must be decided again.
    pub(super) fn set_base(&mut self, base: BaseState) {
        self.base = base;
        self.decisions.clear();
    }

    pub(super) fn is_decided(&self) -> bool {
        !self.decisions.is_empty()
    }

    /// Whether the session must be read: it is not loaded, or a decision on its cached state may be
    /// wrong. A change needs no read, because its statement checks the version.
    pub(super) fn needs_load(&self) -> bool {
        match self.base {
            BaseState::NotLoaded => true,
            BaseState::Cached(_) => {
                self.decisions.iter().any(|decision| !matches!(decision, Decision::Change(_)))
            }
            BaseState::Loaded(_) | BaseState::NotFound | BaseState::Failed(_) => false,
        }
    }

    /// Whether any command changes the session.
    pub(super) fn has_changes(&self) -> bool {
        self.decisions.iter().any(|decision| decision.change().is_some())
    }

    /// The session before the commands, if it exists.
    pub(super) fn base(&self) -> Option<&Arc<CachedSession>> {
        self.base.session()
    }

    /// Decides each command on the result of those before it. Does nothing if the commands are
    /// already decided, or if the session is not loaded.
    pub(super) fn decide(&mut self, context: &Context) {
        if self.is_decided() || matches!(self.base, BaseState::NotLoaded) {
            return;
        }
        let Self { base, decisions, commands, .. } = self;
        if let BaseState::Failed(error) = base {
            decisions.extend(commands.iter().map(|_| Decision::LoadFailed(error.clone())));
            return;
        }
        let base = base.session().map(|session| &***session);
        for pending in commands {
            let last = decisions.iter().rev().find_map(Decision::change);
            let current = last.map(|change| &change.after).or(base);
            let decision =
                match current.filter(|session| session.buin == pending.command.app.app.buin) {
                    None => Decision::SessionNotFound,
                    Some(session) => {
                        match session.decide(
                            &pending.command.request,
                            &context.rules,
                            context.clock.now(),
                        ) {
                            Ok(Some(change)) => Decision::Change(Box::new(change)),
                            Ok(None) => Decision::Unchanged,
                            Err(violation) => Decision::Rejected(violation),
                        }
                    }
                };
            decisions.push(decision);
        }
    }

    /// The changes to write, if any.
    pub(super) fn change_set(&self) -> Option<ChangeSet<'_>> {
        let base = self.base()?;
        let steps: Vec<VersionedChange<'_>> = self
            .decisions
            .iter()
            .zip(&self.commands)
            .filter_map(|(decision, pending)| {
                let provenance = Provenance {
                    app_id: &pending.command.app.app.app_id,
                    operator: &pending.command.request.operator,
                    reason: pending.command.request.reason.as_ref(),
                    key: pending.command.key.as_ref(),
                    trace: pending.trace.as_ref(),
                };
                decision.change().map(|change| VersionedChange { change, provenance })
            })
            .collect();
        (!steps.is_empty()).then_some(ChangeSet { before: base, steps })
    }

    /// The changes, after they were written.
    pub(super) fn written_changes(&self) -> impl Iterator<Item = WrittenChange<'_>> {
        let mut owner = self.base().map(|base| &base.owner);
        let changes = self.decisions.iter().filter_map(Decision::change);
        changes.map(move |Change { after, changes, .. }| {
            let former_owner = owner.replace(&after.owner);
            WrittenChange { after, former_owner, removed: &changes.removed }
        })
    }

    /// Sends the outcomes to the callers after the write; `at` is the time that the statement gave
    /// the changes. If the session was changed, `publish` first gets its new state, because an
    /// answered caller may read the session at once.
    pub(super) fn reply_all(
        self,
        at: Option<DateTime<Utc>>,
        publish: impl FnOnce(FillToken, &Arc<CachedSession>),
    ) {
        let mut current = self.base().cloned();
        let mut changed = false;
        let mut outcomes = Vec::with_capacity(self.commands.len());
        for decision in self.decisions {
            outcomes.push(match decision {
                Decision::Change(change) => {
                    let mut after = change.after;
                    after.updated_at = at.unwrap_or(after.updated_at);
                    let after = Arc::new(CachedSession::from(after));
                    (current, changed) = (Some(after.clone()), true);
                    Ok(UpdateOutcome::Updated(after))
                }
                Decision::Unchanged => match &current {
                    Some(session) => Ok(UpdateOutcome::Unchanged(session.clone())),
                    None => Err(Error::SessionNotFound),
                },
                Decision::Rejected(violation) => Err(violation.into()),
                Decision::SessionNotFound => Err(Error::SessionNotFound),
                Decision::LoadFailed(error) => Err(error),
            });
        }
        if let Some(session) = current.filter(|_| changed) {
            publish(self.fill_token, &session);
        }
        for (outcome, pending) in outcomes.into_iter().zip(self.commands) {
            pending.reply.send(outcome);
        }
    }

    /// Fails all commands.
    pub(super) fn reply_error(self, error: &Error) {
        for pending in self.commands {
            pending.reply.send(Err(error.clone()));
        }
    }

    /// Answers all commands: their idempotency key was used before.
    pub(super) fn reply_duplicate_key(self) {
        for pending in self.commands {
            pending.reply.send(Ok(UpdateOutcome::DuplicateKey));
        }
    }
}

impl Decision {
    fn change(&self) -> Option<&Change> {
        match self {
            Self::Change(change) => Some(change),
            _ => None,
        }
    }
}
