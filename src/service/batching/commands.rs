//! The commands that can be batched, their outcomes, and the routing of updates.
//!
//! The surprise is the affinity of sessions. If two batchers decided updates of one session at the
//! same time, each would invalidate the version that the other one decided on. So while updates of
//! a session are in flight, its further updates go to the same batcher, even from other threads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::{BatchItem, BatchSender, PendingCommand};
use crate::domain::{IdempotencyKey, Reason, Request, Session, SessionId};
use crate::service::session_cache::FillToken;
use crate::service::{AppContext, CachedSession};

/// Far more than updates in flight, so that two sessions seldom share a slot.
const SLOTS: usize = 1_024;

/// A read that waits for its outcome.
pub(super) type PendingRead = PendingCommand<SessionId, Option<Arc<CachedSession>>>;

/// Submits reads.
pub(super) type ReadSender = BatchSender<SessionId, Option<Arc<CachedSession>>>;

/// A create that waits for its outcome.
pub(super) type PendingCreate = PendingCommand<CreateCommand, CreateOutcome>;

/// Submits creates.
pub(super) type CreateSender = BatchSender<CreateCommand, CreateOutcome>;

/// An update that waits for its outcome.
pub(super) type PendingUpdate = PendingCommand<UpdateCommand, UpdateOutcome>;

/// Submits updates.
pub(super) type UpdateSender = BatchSender<UpdateCommand, UpdateOutcome>;

/// Creates a session.
pub(in crate::service) struct CreateCommand {
    pub(in crate::service) app: Arc<AppContext>,
    /// The session. The statement sets the time of its creation.
    pub(in crate::service) session: Session,
    /// The token from before the session is written.
    pub(in crate::service) fill_token: FillToken,
    pub(in crate::service) reason: Option<Reason>,
    pub(in crate::service) key: Option<IdempotencyKey>,
}

/// The outcome of a create.
pub(in crate::service) enum CreateOutcome {
    /// The session as it was written.
    Created(Arc<CachedSession>),
    /// The idempotency key was used before. Nothing was written. The session is that of the command.
    DuplicateKey(Box<Session>),
}

/// Changes a session.
pub(in crate::service) struct UpdateCommand {
    /// Keeps further updates of the session on this batcher until the command is answered.
    #[expect(dead_code, reason = "its drop releases the session")]
    pub(in crate::service) affinity: AffinityGuard,
    pub(in crate::service) app: Arc<AppContext>,
    pub(in crate::service) id: SessionId,
    pub(in crate::service) request: Request,
    pub(in crate::service) key: Option<IdempotencyKey>,
}

/// The outcome of an update.
pub(in crate::service) enum UpdateOutcome {
    /// The session after the written change.
    Updated(Arc<CachedSession>),
    /// The session without a change, because it already had the requested state.
    Unchanged(Arc<CachedSession>),
    /// The idempotency key was used before. Nothing was written.
    DuplicateKey,
}

impl BatchItem for SessionId {
    fn weight(&self) -> usize {
        1
    }
}

impl BatchItem for CreateCommand {
    fn weight(&self) -> usize {
        1 + self.session.members.len()
    }
}

impl BatchItem for UpdateCommand {
    fn weight(&self) -> usize {
        // The number of members that the session has and loses is unknown until it is read.
        1 + self.request.action.account_count()
    }
}

/// Routes the updates of one session to one batcher at a time.
pub(in crate::service) struct SessionAffinity {
    slots: [Mutex<AffinitySlot>; SLOTS],
}

/// The batcher of some sessions while their updates are in flight.
#[derive(Default)]
struct AffinitySlot {
    sender: Option<UpdateSender>,
    in_flight: usize,
}

/// An update in flight. Dropping the guard ends it.
pub(in crate::service) struct AffinityGuard {
    affinity: Arc<SessionAffinity>,
    slot: usize,
}

impl SessionAffinity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { slots: std::array::from_fn(|_| Mutex::default()) })
    }

    /// Selects the batcher for an update of a session: `own`, unless updates of the session are in
    /// flight on another one.
    pub(in crate::service) fn route(
        self: &Arc<Self>,
        id: SessionId,
        own: &UpdateSender,
    ) -> (UpdateSender, AffinityGuard) {
        let number = id.shard(SLOTS);
        let mut slot = self.slot(number);
        slot.in_flight += 1;
        let sender = slot.sender.get_or_insert_with(|| own.clone()).clone();
        (sender, AffinityGuard { affinity: self.clone(), slot: number })
    }

    fn slot(&self, number: usize) -> MutexGuard<'_, AffinitySlot> {
        // A poisoned lock is usable: no code panics while it holds one.
        self.slots[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        let mut slot = self.affinity.slot(self.slot);
        slot.in_flight -= 1;
        if slot.in_flight == 0 {
            slot.sender = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::batching::queue::batch_channel;

    #[test]
    fn updates_of_a_session_go_to_one_batcher_while_any_is_in_flight() {
        let affinity = SessionAffinity::new();
        let (first, _first) = batch_channel(1, 1, Duration::MAX, &Arc::default());
        let (second, _second) = batch_channel(1, 1, Duration::MAX, &Arc::default());
        let id = |number| SessionId::new(uuid::Uuid::from_u128(number));
        let (chosen, guard_1) = affinity.route(id(7), &first);
        assert!(chosen.same_channel(&first));
        let (chosen, guard_2) = affinity.route(id(7), &second);
        assert!(chosen.same_channel(&first));
        drop(guard_1);
        let (chosen, guard_3) = affinity.route(id(7), &second);
        assert!(chosen.same_channel(&first));
        assert!(affinity.route(id(8), &second).0.same_channel(&second));
        drop((guard_2, guard_3));
        assert!(affinity.route(id(7), &second).0.same_channel(&second));
    }
}
