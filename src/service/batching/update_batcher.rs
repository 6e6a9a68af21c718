//! Changes of sessions, as many in one statement as are asked for at the time.
//!
//! Those of one session that come together come to one task (see [`super::commands`]), are decided one
//! after the other and written as consecutive versions: nobody here competes with anybody. Other
//! servers do. Whose session they were faster with is decided anew, the session locked.
//!
//! What is decided on a session from the cache may be decided on an old one. If it is a change, its
//! guard notices; a refusal, or that nothing changes, would not be noticed, so these are decided
//! only on what was just read.

use std::pin::pin;
use std::sync::Arc;

use sqlx::Connection as _;

use super::commands::{Changing, Settled};
use super::context::Shared;
use super::session_batch::{Group, Standing};
use super::waiters::{Parts, Waiting as _};
use super::{queue, read_batcher, waiters};
use crate::domain::SessionId;
use crate::repository;
use crate::repository::line::Line;
use crate::repository::sessions;
use crate::service::Error;
use crate::telemetry::statement;

/// How often changes that were taken together are decided anew because PostgreSQL ended a statement
/// that waited for another one, which waited for it.
const TRIES: u32 = 5;

/// Decides and writes for whoever asks, until nobody can any more.
pub(super) async fn run(shared: Arc<Shared>, mut inbox: queue::Inbox<Changing, Settled>) {
    let mut line = Line::new(&shared.pool, shared.limits, shared.metrics.clone());
    while let Some(wanted) = inbox.take().await {
        settle(&shared, &mut line, Group::by_session(&shared.cache, wanted)).await;
    }
}

/// Decides, writes, answers; where that fails, anew and with the sessions locked, in parts if need be.
async fn settle(shared: &Shared, line: &mut Line, mut groups: Vec<Group>) {
    for group in &mut groups {
        if let Some(session) = shared.cache.get(group.id) {
            group.stands(Standing::Held(session));
        }
    }
    let mut parts = Parts::of(groups);
    let mut locked = false;
    let mut tries = TRIES;
    while let Some(mut groups) = parts.next(&shared.metrics.updates) {
        let written = match locked {
            false => write(shared, line, &mut groups).await,
            // Boxed, as it is seldom, and large.
            true => Box::pin(write_locked(shared, line, &mut groups)).await,
        };
        match written {
            Ok(written) => {
                let lost = finish(shared, groups, &written);
                if locked {
                    lost.into_iter().for_each(|group| group.fail(&Error::Contended));
                } else if !lost.is_empty() {
                    shared.metrics.version_conflicts.add(lost.len() as u64);
                    parts.once_more(lost);
                }
            }
            Err(error) if error.is_deadlock() && tries > 0 => {
                shared.metrics.deadlocks.inc();
                tries -= 1;
                parts.once_more(groups);
            }
            // One of them may be bad, and the others must not suffer.
            Err(error) if error.may_be_of_one() && groups.are_many() => {
                parts.in_halves(groups, error);
            }
            // Of the only one that is left.
            Err(repository::Error::KeyTaken) => groups.into_iter().for_each(Group::key_taken),
            Err(error) => {
                let error = Error::from(error);
                groups.into_iter().for_each(|group| group.fail(&error));
            }
        }
        locked = true;
    }
}

/// Decides what is not decided, on what is read where it must be. Those whose sessions cannot be
/// read, and those for whom nothing is to be written, are answered and gone.
async fn decide_or_answer(shared: &Shared, line: &mut Line, groups: &mut Vec<Group>) {
    loop {
        groups.iter_mut().for_each(|group| group.decide(shared));
        let unknown = groups.iter().filter(|group| group.must_be_read());
        let ids: Vec<SessionId> = unknown.map(|group| group.id).collect();
        if ids.is_empty() {
            break;
        }
        read(shared, line, groups, &ids).await;
    }
    for group in groups.extract_if(.., |group| !group.changes()) {
        group.answer(|_, _| {});
    }
}

/// Reads sessions, in the order of their ids, of groups some of which may go meanwhile. Where many
/// take too long, their halves are read.
async fn read(shared: &Shared, line: &mut Line, groups: &mut Vec<Group>, ids: &[SessionId]) {
    let traces = Group::traces(groups);
    let found = read_batcher::read(shared, line, groups, ids, &traces).await;
    let is_asked = |group: &Group| ids.binary_search(&group.id).is_ok();
    match found {
        Ok(mut found) => {
            for group in groups.iter_mut().filter(|group| is_asked(group)) {
                group.stands(Standing::read(found.remove(&group.id)));
            }
        }
        Err(error) if error.may_be_of_one() && ids.len() > 1 => {
            let (half, other) = ids.split_at(ids.len() / 2);
            // Boxed, as it comes back here, and is seldom.
            Box::pin(read(shared, line, groups, half)).await;
            Box::pin(read(shared, line, groups, other)).await;
        }
        Err(error) => {
            let error = read_batcher::unread(error);
            for group in groups.extract_if(.., |group| is_asked(group)) {
                group.fail(&error);
            }
        }
    }
}

/// Decides and writes: which sessions were at the version on which that was decided.
async fn write(
    shared: &Shared,
    line: &mut Line,
    groups: &mut Vec<Group>,
) -> Result<Vec<SessionId>, repository::Error> {
    let mut connection = loop {
        decide_or_answer(shared, line, groups).await;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let connection = waiters::connection(line, groups, &shared.metrics.updates).await?;
        let Some(connection) = connection else { return Ok(Vec::new()) };
        if groups.iter().all(Group::is_decided) {
            break connection;
        }
        // The time of some was over: what the others of their sessions want is decided without.
        line.give_back(connection, &Ok(()));
    };
    let decided: Vec<_> = groups.iter().filter_map(Group::decided).collect();
    let done = {
        // Pinned where it is made: it is large, and would be moved into each that waits for it.
        let updating = pin!(sessions::update_if_version(&mut connection, &decided));
        let counted = shared.metrics.updates.count(decided.len(), line.bounded(updating));
        statement("sessions.update", decided.len(), &Group::traces(groups), counted).await
    };
    line.give_back(connection, &done);
    done
}

/// The same while nobody else can change these sessions.
async fn write_locked(
    shared: &Shared,
    line: &mut Line,
    groups: &mut Vec<Group>,
) -> Result<Vec<SessionId>, repository::Error> {
    let connection = waiters::connection(line, groups, &shared.metrics.updates).await?;
    let Some(mut connection) = connection else { return Ok(Vec::new()) };
    let ids: Vec<SessionId> = groups.iter().map(|group| group.id).collect();
    let traces = Group::traces(groups);
    let working = async {
        let mut transaction = connection.begin().await?;
        sessions::lock(&mut transaction, &ids).await?;
        let mut found = read_batcher::known(sessions::find(&mut *transaction, &ids).await?);
        for group in groups.iter_mut() {
            group.stands(Standing::read(found.remove(&group.id)));
            group.decide(shared);
        }
        let decided: Vec<_> = groups.iter().filter_map(Group::decided).collect();
        let written = match decided.is_empty() {
            true => Vec::new(),
            false => sessions::update_if_version(&mut *transaction, &decided).await?,
        };
        transaction.commit().await?;
        Ok(written)
    };
    let counted = shared.metrics.updates.count(ids.len(), line.bounded(working));
    let done = statement("sessions.update_locked", ids.len(), &traces, counted).await;
    line.give_back(connection, &done);
    if done.is_ok() {
        for group in &*groups {
            if let Some(session) = group.base() {
                shared.cache.keep(group.mark, session);
            }
        }
    }
    done
}

/// Answers the groups that are done with, and gives those of which nothing was written because
/// somebody else was faster.
fn finish(shared: &Shared, groups: Vec<Group>, written: &[SessionId]) -> Vec<Group> {
    let (done, lost): (Vec<_>, Vec<_>) =
        groups.into_iter().partition(|group| !group.changes() || written.contains(&group.id));
    for group in done {
        group.answer(|mark, session| {
            shared.cache.replace(mark, session);
            shared.changed.tell(session.buin);
        });
    }
    lost
}
