//! The session after each change of a page.
//!
//! A session is read once: in its present state if the page has its last change, else by a replay up
//! to its first change in the page. The changes of the page then lead to the later versions.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::pages::FeedItem;
use crate::domain::{Buin, Replay, Session, SessionId, Version};
use crate::repository::sessions;
use crate::repository::{self, Pool};
use crate::service::{Error, Sessions};
use crate::telemetry::trace_single_statement;

/// The maximum size of the sessions of a page, in bytes. One session may exceed it.
const MAX_SESSION_BYTES: usize = 1024 * 1024;

/// The sessions that were added to a page.
pub(super) struct IncludedSessions {
    /// Their size.
    pub(super) bytes: usize,
    /// The first change that was cut off, because its session did not fit.
    pub(super) cut: Option<CutChange>,
}

/// A change that was cut off.
pub(super) struct CutChange {
    /// The time of the change.
    pub(super) at: DateTime<Utc>,
}

impl Sessions {
    /// Adds the session to each change of a page. The changes whose sessions do not fit, or are not
    /// read until `deadline`, are cut off.
    pub(super) async fn include_sessions(
        &self,
        pool: &Pool,
        buin: Buin,
        items: &mut Vec<FeedItem>,
        deadline: Instant,
    ) -> Result<IncludedSessions, Error> {
        let mut present = present_sessions(pool, buin, items).await?;
        let mut replays: HashMap<SessionId, Replay> = HashMap::new();
        let mut bytes = 0;
        for index in 0..items.len() {
            let (id, version) = (items[index].event.session_id, items[index].event.event.version);
            let before = replays.remove(&id).filter(|replay| precedes(replay, version));
            let replay = match (before, present.get(&id)) {
                (Some(replay), _) => Ok(replay),
                (None, _) if version == Version::FIRST => Ok(Replay::new(id, buin, None)),
                (None, Some(session)) if session.version == version => {
                    Ok(Replay::new(id, buin, present.remove(&id)))
                }
                (None, _) => {
                    let reading = self.version_of(pool, buin, id, version, deadline).await;
                    reading.map(|session| Replay::new(id, buin, Some(session)))
                }
            };
            let mut replay = match replay {
                Err(_) if index > 0 && deadline <= Instant::now() => {
                    return Ok(IncludedSessions { bytes, cut: cut_off(items, index) });
                }
                read => read?,
            };
            if replay.session().is_none_or(|session| session.version != version) {
                let event = items[index].event.event.clone();
                replay.push(event).map_err(repository::Error::from)?;
            }
            let size = replay.session().map(Session::size).unwrap_or_default();
            if index > 0 && bytes + size > MAX_SESSION_BYTES {
                return Ok(IncludedSessions { bytes, cut: cut_off(items, index) });
            }
            bytes += size;
            items[index].session = replay.session().cloned();
            replays.insert(id, replay);
        }
        Ok(IncludedSessions { bytes, cut: None })
    }
}

/// The sessions in their present state, as far as they fit into one result. A page of first versions
/// needs none.
async fn present_sessions(
    pool: &Pool,
    buin: Buin,
    items: &[FeedItem],
) -> Result<HashMap<SessionId, Session>, Error> {
    let mut seen = HashSet::new();
    let firsts = items.iter().filter(|item| seen.insert(item.event.session_id));
    let read = firsts.filter(|item| item.event.event.version != Version::FIRST);
    let ids: Vec<SessionId> = read.map(|item| item.event.session_id).collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let finding = sessions::find_bounded(pool, buin, &ids);
    let found = trace_single_statement("sessions.find", finding).await?.sessions;
    Ok(found.into_iter().map(|session| (session.id, session)).collect())
}

fn precedes(replay: &Replay, version: Version) -> bool {
    replay.session().is_some_and(|session| session.version.next() == version)
}

fn cut_off(items: &mut Vec<FeedItem>, index: usize) -> Option<CutChange> {
    let cut = items.get(index).map(|item| CutChange { at: item.event.event.at });
    items.truncate(index);
    cut
}
