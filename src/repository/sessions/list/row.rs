//! The rows of a list statement: sessions, and in each row how far the statement looked. If no
//! session is found, one row holds only the latter.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use uuid::Uuid;

use super::plan::Attempt;
use super::request::Page;
use super::seek_key::{AsOf, Mark, TimeMark};
use crate::domain::{Session, SessionId};
use crate::repository::Error;
use crate::repository::sessions::stored::Row;

pub(super) struct Listed {
    /// How many rows of the source were looked at.
    pub(super) looked_at: i64,
    /// How many sessions were found, at most one more than a page.
    pub(super) found: i64,
    /// The last row that was looked at.
    pub(super) last_at: Option<DateTime<Utc>>,
    pub(super) last_id: Option<Uuid>,
    /// The session's position in time, in a list by change.
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) session_id: Option<Uuid>,
    pub(super) buin: Option<i64>,
    pub(super) title: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) version: Option<i64>,
    pub(super) state: Option<String>,
    pub(super) attributes: Option<Json<Map<String, Value>>>,
    pub(super) members: Option<Vec<String>>,
    pub(super) created_at: Option<DateTime<Utc>>,
    pub(super) updated_at: Option<DateTime<Utc>>,
}

/// The result of one attempt.
pub(super) struct Seen {
    looked_at: i64,
    /// Whether more were found than are in the page.
    more: bool,
    /// The position of the last row that was looked at.
    last: Option<Place>,
    /// The position of the last session.
    end: Option<Place>,
    sessions: Vec<Session>,
}

type Place = (Option<DateTime<Utc>>, Uuid);

impl Seen {
    pub(super) fn of(rows: Vec<Listed>) -> Result<Self, Error> {
        let mut seen = Self { looked_at: 0, more: false, last: None, end: None, sessions: vec![] };
        let mut found = 0;
        for row in rows {
            (seen.looked_at, found) = (row.looked_at, row.found);
            seen.last = row.last_id.map(|id| (row.last_at, id));
            let at = row.at;
            if let Some(row) = row.session() {
                seen.end = Some((at, row.session_id));
                seen.sessions.push(row.try_into()?);
            }
        }
        seen.more = usize::try_from(found).is_ok_and(|found| found > seen.sessions.len());
        Ok(seen)
    }

    /// Whether the page is complete: it is full, or no session is left.
    pub(super) fn is_conclusive(&self, attempt: &Attempt) -> bool {
        self.more || self.looked_at < attempt.window
    }

    pub(super) fn page(self, attempt: &Attempt, as_of: Option<AsOf>) -> Page {
        let next = match self.is_conclusive(attempt) {
            true if self.more => self.end,
            true => None,
            false => self.last,
        };
        let next = next.map(|(at, id)| Mark {
            id: SessionId::new(id),
            time: at.zip(as_of).map(|(at, as_of)| TimeMark { at, as_of }),
        });
        Page { sessions: self.sessions, next }
    }
}

impl Listed {
    fn session(self) -> Option<Row> {
        Some(Row {
            session_id: self.session_id?,
            buin: self.buin?,
            title: self.title?,
            owner: self.owner?,
            version: self.version?,
            state: self.state?,
            attributes: self.attributes?,
            members: self.members?,
            created_at: self.created_at?,
            updated_at: self.updated_at?,
        })
    }
}
