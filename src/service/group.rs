//! Changes of one session that are decided together.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::cache::{Cache, Mark};
use super::sessions::Shared;
use super::updates::{Settled, Wanted};
use super::waiting::Waiting;
use super::{Error, KnownSession, queue};
use crate::domain::{Change, Refusal, SessionId};
use crate::repository::sessions::{Decided, Provenance, Step};
use crate::telemetry::Trace;

/// What is wanted of a session, in the order in which it came.
pub(super) struct Group {
    pub(super) id: SessionId,
    /// Taken before the session is read or written.
    pub(super) mark: Mark,
    standing: Standing,
    /// What was decided about each of `wanted`; empty before.
    verdicts: Vec<Verdict>,
    wanted: Vec<Wanted>,
}

/// What is known of the session.
pub(super) enum Standing {
    /// Nothing yet.
    Unread,
    /// It was held in memory, and may be an old one.
    Held(Arc<KnownSession>),
    /// It was just read.
    Read(Arc<KnownSession>),
    /// It was just looked for.
    Missing,
    /// It is there, but cannot be read.
    Unreadable(Error),
}

enum Verdict {
    Change(Box<Change>),
    /// The session stays as it is.
    Nothing,
    Refused(Refusal),
    NoSuchSession,
    Unreadable(Error),
}

impl Standing {
    pub(super) fn read(found: Option<Result<Arc<KnownSession>, Error>>) -> Self {
        match found {
            None => Self::Missing,
            Some(Ok(session)) => Self::Read(session),
            Some(Err(error)) => Self::Unreadable(error),
        }
    }

    fn session(&self) -> Option<&Arc<KnownSession>> {
        match self {
            Self::Held(session) | Self::Read(session) => Some(session),
            Self::Unread | Self::Missing | Self::Unreadable(_) => None,
        }
    }
}

impl Waiting for Vec<Group> {
    fn times(&self) -> impl Iterator<Item = Instant> {
        self.iter().flat_map(|group| group.wanted.times())
    }

    // Of what is left of a group nothing is decided: it may have been on top of what is gone.
    fn dismiss(&mut self, now: Instant, why: impl Fn() -> Error) -> usize {
        let mut late = 0;
        self.retain_mut(|group| {
            let before = group.wanted.len();
            late += group.wanted.dismiss(now, &why);
            if group.wanted.len() < before {
                group.verdicts.clear();
            }
            !group.wanted.is_empty()
        });
        late
    }

    fn are_many(&self) -> bool {
        self.iter().map(|group| group.wanted.len()).sum::<usize>() > 1
    }

    fn split(&mut self) -> Self {
        if let [group] = self.as_mut_slice() {
            group.verdicts.clear();
            return vec![Group::new(group.id, group.mark, group.wanted.split())];
        }
        self.split_off(self.len() / 2)
    }
}

impl Group {
    fn new(id: SessionId, mark: Mark, wanted: Vec<Wanted>) -> Self {
        Self { id, mark, standing: Standing::Unread, verdicts: Vec::new(), wanted }
    }

    /// One group a session, in the order of their ids, in which sessions are locked, too: so seldom
    /// two servers each hold what the other wants.
    pub(super) fn by_session(cache: &Cache, wanted: Vec<Wanted>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::with_capacity(wanted.len());
        let mut places: HashMap<SessionId, usize> = HashMap::with_capacity(wanted.len());
        for one in wanted {
            match places.get(&one.what.id) {
                Some(place) => groups[*place].wanted.push(one),
                None => {
                    places.insert(one.what.id, groups.len());
                    let id = one.what.id;
                    groups.push(Self::new(id, cache.mark(id), vec![one]));
                }
            }
        }
        groups.sort_unstable_by_key(|group| group.id);
        groups
    }

    /// The traces of who wants something.
    pub(super) fn traces(groups: &[Self]) -> Vec<Trace> {
        queue::traces(groups.iter().flat_map(|group| &group.wanted))
    }

    /// Takes note of what the session is. What was decided before is not decided any more.
    pub(super) fn stands(&mut self, standing: Standing) {
        self.standing = standing;
        self.verdicts.clear();
    }

    pub(super) fn is_decided(&self) -> bool {
        !self.verdicts.is_empty()
    }

    /// Whether nothing is known, or something was decided that may not be so, and that writing would
    /// not tell.
    pub(super) fn must_be_read(&self) -> bool {
        match self.standing {
            Standing::Unread => true,
            Standing::Held(_) => {
                self.verdicts.iter().any(|verdict| !matches!(verdict, Verdict::Change(_)))
            }
            Standing::Read(_) | Standing::Missing | Standing::Unreadable(_) => false,
        }
    }

    /// Whether something is to be written.
    pub(super) fn changes(&self) -> bool {
        self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Change(_)))
    }

    /// The session, if there is one.
    pub(super) fn base(&self) -> Option<&Arc<KnownSession>> {
        self.standing.session()
    }

    /// Decides each on top of those before, unless that is done or nothing is known.
    pub(super) fn decide(&mut self, shared: &Shared) {
        if self.is_decided() || matches!(self.standing, Standing::Unread) {
            return;
        }
        let Self { standing, verdicts, wanted, .. } = self;
        if let Standing::Unreadable(error) = standing {
            verdicts.extend(wanted.iter().map(|_| Verdict::Unreadable(error.clone())));
            return;
        }
        let base = standing.session().map(|session| &***session);
        for one in wanted {
            let current = verdicts.iter().rev().find_map(Verdict::after).or(base);
            let verdict = match current.filter(|session| session.buin == one.what.app.app.buin) {
                None => Verdict::NoSuchSession,
                Some(session) => {
                    match session.decide(&one.what.request, &shared.rules, shared.clock.now()) {
                        Ok(Some(change)) => Verdict::Change(Box::new(change)),
                        Ok(None) => Verdict::Nothing,
                        Err(refusal) => Verdict::Refused(refusal),
                    }
                }
            };
            verdicts.push(verdict);
        }
    }

    /// What is to be written, if anything is.
    pub(super) fn decided(&self) -> Option<Decided<'_>> {
        let before = self.base()?;
        let steps: Vec<Step<'_>> = self
            .verdicts
            .iter()
            .zip(&self.wanted)
            .filter_map(|(verdict, one)| match verdict {
                Verdict::Change(change) => Some(Step {
                    change,
                    provenance: Provenance {
                        app_id: &one.what.app.app.app_id,
                        operator: &one.what.request.operator,
                        reason: one.what.request.reason.as_ref(),
                        key: one.what.key.as_ref(),
                        trace: one.trace.as_ref(),
                    },
                }),
                _ => None,
            })
            .collect();
        (!steps.is_empty()).then_some(Decided { before, steps })
    }

    /// Tells everybody what was decided, which is written. If the session was changed, `publish`
    /// learns how it is then before anybody else does: who was answered may read it at once.
    pub(super) fn answer(self, publish: impl FnOnce(Mark, &Arc<KnownSession>)) {
        let mut current = self.base().cloned();
        let mut changed = false;
        let mut answers = Vec::with_capacity(self.wanted.len());
        for verdict in self.verdicts {
            answers.push(match verdict {
                Verdict::Change(change) => {
                    let after = Arc::new(KnownSession::from(change.after));
                    (current, changed) = (Some(after.clone()), true);
                    Ok(Settled::Written(after))
                }
                Verdict::Nothing => match &current {
                    Some(session) => Ok(Settled::Nothing(session.clone())),
                    None => Err(Error::NoSuchSession),
                },
                Verdict::Refused(refusal) => Err(refusal.into()),
                Verdict::NoSuchSession => Err(Error::NoSuchSession),
                Verdict::Unreadable(error) => Err(error),
            });
        }
        if let Some(session) = current.filter(|_| changed) {
            publish(self.mark, &session);
        }
        for (answer, one) in answers.into_iter().zip(self.wanted) {
            one.reply.send(answer);
        }
    }

    /// Tells everybody that it could not be done.
    pub(super) fn fail(self, error: &Error) {
        for one in self.wanted {
            one.reply.send(Err(error.clone()));
        }
    }

    /// Tells everybody that it was done before.
    pub(super) fn key_taken(self) {
        for one in self.wanted {
            one.reply.send(Ok(Settled::KeyTaken));
        }
    }
}

impl Verdict {
    fn after(&self) -> Option<&crate::domain::Session> {
        match self {
            Self::Change(change) => Some(&change.after),
            _ => None,
        }
    }
}
