//! What is asked for, and where the changes of one session meet.
//!
//! The surprise are the places: changes of one session must be decided in one lane at a time, or
//! each would find its version gone. While some of a session are under way, more of them go where
//! those went, whatever thread they come from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::{BatchItem, BatchSender, Pending};
use crate::domain::{IdempotencyKey, Reason, Request, SessionId};
use crate::service::session_cache::Mark;
use crate::service::{KnownApp, KnownSession};

/// More than there are changes under way, so that two sessions seldom share a place.
const SLOTS: usize = 1_024;

/// Somebody who waits for a session.
pub(super) type PendingRead = Pending<SessionId, Option<Arc<KnownSession>>>;

/// Where sessions are asked for.
pub(super) type ReadSender = BatchSender<SessionId, Option<Arc<KnownSession>>>;

/// Somebody who waits for a new session.
pub(super) type PendingCreate = Pending<CreateCommand, CreateOutcome>;

/// Where sessions are begun.
pub(super) type CreateSender = BatchSender<CreateCommand, CreateOutcome>;

/// Somebody who waits for a change.
pub(super) type PendingUpdate = Pending<UpdateCommand, UpdateOutcome>;

/// Where changes are asked for.
pub(super) type UpdateSender = BatchSender<UpdateCommand, UpdateOutcome>;

/// A session that somebody begins.
pub(in crate::service) struct CreateCommand {
    pub(in crate::service) app: Arc<KnownApp>,
    pub(in crate::service) session: Arc<KnownSession>,
    /// Taken before it is written.
    pub(in crate::service) fill_token: Mark,
    pub(in crate::service) reason: Option<Reason>,
    pub(in crate::service) key: Option<IdempotencyKey>,
}

/// What became of it.
pub(in crate::service) enum CreateOutcome {
    /// It is written.
    Written,
    /// A request of this name was done before: nothing is written.
    DuplicateKey,
}

/// A change that somebody asks for.
pub(in crate::service) struct UpdateCommand {
    /// Keeps others of the session coming here, until this is answered.
    #[expect(dead_code, reason = "what matters is when it is dropped")]
    pub(in crate::service) affinity: AffinityGuard,
    pub(in crate::service) app: Arc<KnownApp>,
    pub(in crate::service) id: SessionId,
    pub(in crate::service) request: Request,
    pub(in crate::service) key: Option<IdempotencyKey>,
}

/// What became of it.
pub(in crate::service) enum UpdateOutcome {
    /// It is written.
    Written(Arc<KnownSession>),
    /// There was nothing to do.
    Unchanged(Arc<KnownSession>),
    /// A request of this name was done before: nothing is written.
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
        // What the session has now, and what it has too much, is known only when it is read.
        1 + self.request.action.accounts()
    }
}

/// What the lanes have in common.
pub(in crate::service) struct SessionAffinity {
    slots: [Mutex<AffinitySlot>; SLOTS],
}

/// Where the changes of some sessions are decided, while any are.
#[derive(Default)]
struct AffinitySlot {
    sender: Option<UpdateSender>,
    in_flight: usize,
}

/// A change on its way. When this is dropped it has arrived.
pub(in crate::service) struct AffinityGuard {
    affinity: Arc<SessionAffinity>,
    slot: usize,
}

impl SessionAffinity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { slots: std::array::from_fn(|_| Mutex::default()) })
    }

    /// Where a change of a session is to be decided: in `own`, unless some are under way elsewhere.
    pub(in crate::service) fn route(
        self: &Arc<Self>,
        id: SessionId,
        own: &UpdateSender,
    ) -> (UpdateSender, AffinityGuard) {
        let number = id.place(SLOTS);
        let mut slot = self.slot(number);
        slot.in_flight += 1;
        let sender = slot.sender.get_or_insert_with(|| own.clone()).clone();
        (sender, AffinityGuard { affinity: self.clone(), slot: number })
    }

    fn slot(&self, number: usize) -> MutexGuard<'_, AffinitySlot> {
        // Nothing panics while it is held.
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
    fn changes_of_a_session_stay_together_while_any_are_under_way() {
        let affinity = SessionAffinity::new();
        let (one, _one) = batch_channel(1, 1, Duration::MAX, &Arc::default());
        let (other, _other) = batch_channel(1, 1, Duration::MAX, &Arc::default());
        let id = |number| SessionId::new(uuid::Uuid::from_u128(number));
        let (went, first) = affinity.route(id(7), &one);
        assert!(went.same_channel(&one));
        let (went, second) = affinity.route(id(7), &other);
        assert!(went.same_channel(&one));
        drop(first);
        let (went, third) = affinity.route(id(7), &other);
        assert!(went.same_channel(&one));
        assert!(affinity.route(id(8), &other).0.same_channel(&other));
        drop((second, third));
        assert!(affinity.route(id(7), &other).0.same_channel(&other));
    }
}
