//! What is asked for, and where the changes of one session meet.
//!
//! The surprise are the places: changes of one session must be decided in one lane at a time, or
//! each would find its version gone. While some of a session are under way, more of them go where
//! those went, whatever thread they come from.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::queue::{Asked, Queue, Wanted};
use crate::domain::{IdempotencyKey, Reason, Request, SessionId};
use crate::service::session_cache::Mark;
use crate::service::{KnownApp, KnownSession};

/// More than there are changes under way, so that two sessions seldom share a place.
const PLACES: usize = 1_024;

/// Somebody who waits for a session.
pub(super) type PendingRead = Wanted<SessionId, Option<Arc<KnownSession>>>;

/// Where sessions are asked for.
pub(super) type ReadSender = Queue<SessionId, Option<Arc<KnownSession>>>;

/// Somebody who waits for a new session.
pub(super) type PendingCreate = Wanted<Creating, Created>;

/// Where sessions are begun.
pub(super) type CreateSender = Queue<Creating, Created>;

/// Somebody who waits for a change.
pub(super) type PendingUpdate = Wanted<Changing, Settled>;

/// Where changes are asked for.
pub(super) type UpdateSender = Queue<Changing, Settled>;

/// A session that somebody begins.
pub(in crate::service) struct Creating {
    pub(in crate::service) app: Arc<KnownApp>,
    pub(in crate::service) session: Arc<KnownSession>,
    /// Taken before it is written.
    pub(in crate::service) mark: Mark,
    pub(in crate::service) reason: Option<Reason>,
    pub(in crate::service) key: Option<IdempotencyKey>,
}

/// What became of it.
pub(in crate::service) enum Created {
    /// It is written.
    Written,
    /// A request of this name was done before: nothing is written.
    KeyTaken,
}

/// A change that somebody asks for.
pub(in crate::service) struct Changing {
    /// Keeps others of the session coming here, until this is answered.
    #[expect(dead_code, reason = "what matters is when it is dropped")]
    pub(in crate::service) turn: Turn,
    pub(in crate::service) app: Arc<KnownApp>,
    pub(in crate::service) id: SessionId,
    pub(in crate::service) request: Request,
    pub(in crate::service) key: Option<IdempotencyKey>,
}

/// What became of it.
pub(in crate::service) enum Settled {
    /// It is written.
    Written(Arc<KnownSession>),
    /// There was nothing to do.
    Nothing(Arc<KnownSession>),
    /// A request of this name was done before: nothing is written.
    KeyTaken,
}

impl Asked for SessionId {
    fn rows(&self) -> usize {
        1
    }
}

impl Asked for Creating {
    fn rows(&self) -> usize {
        1 + self.session.members.len()
    }
}

impl Asked for Changing {
    fn rows(&self) -> usize {
        // What the session has now, and what it has too much, is known only when it is read.
        1 + self.request.action.accounts()
    }
}

/// What the lanes have in common.
pub(in crate::service) struct Lanes {
    places: [Mutex<Place>; PLACES],
}

/// Where the changes of some sessions are decided, while any are.
#[derive(Default)]
struct Place {
    lane: Option<UpdateSender>,
    under_way: usize,
}

/// A change on its way. When this is dropped it has arrived.
pub(in crate::service) struct Turn {
    lanes: Arc<Lanes>,
    place: usize,
}

impl Lanes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { places: std::array::from_fn(|_| Mutex::default()) })
    }

    /// Where a change of a session is to be decided: in `own`, unless some are under way elsewhere.
    pub(in crate::service) fn turn(
        self: &Arc<Self>,
        id: SessionId,
        own: &UpdateSender,
    ) -> (UpdateSender, Turn) {
        let number = id.place(PLACES);
        let mut place = self.place(number);
        place.under_way += 1;
        let lane = place.lane.get_or_insert_with(|| own.clone()).clone();
        (lane, Turn { lanes: self.clone(), place: number })
    }

    fn place(&self, number: usize) -> MutexGuard<'_, Place> {
        // Nothing panics while it is held.
        self.places[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut place = self.lanes.place(self.place);
        place.under_way -= 1;
        if place.under_way == 0 {
            place.lane = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::batching::queue::queue;

    #[test]
    fn changes_of_a_session_stay_together_while_any_are_under_way() {
        let lanes = Lanes::new();
        let (one, _one) = queue(1, 1, Duration::MAX, &Arc::default());
        let (other, _other) = queue(1, 1, Duration::MAX, &Arc::default());
        let id = |number| SessionId::new(uuid::Uuid::from_u128(number));
        let (went, first) = lanes.turn(id(7), &one);
        assert!(went.is(&one));
        let (went, second) = lanes.turn(id(7), &other);
        assert!(went.is(&one));
        drop(first);
        let (went, third) = lanes.turn(id(7), &other);
        assert!(went.is(&one));
        assert!(lanes.turn(id(8), &other).0.is(&other));
        drop((second, third));
        assert!(lanes.turn(id(7), &other).0.is(&other));
    }
}
