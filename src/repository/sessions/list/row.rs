//! The rows of a list statement: sessions, and in each row the number of rows that were read. One
//! row holds only these numbers if no session matches.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use uuid::Uuid;

use super::bounds::ListBounds;
use super::plan::PlanStep;
use super::request::SessionListPage;
use super::seek_key::SeekKey;
use crate::domain::{Session, SessionId};
use crate::repository::Error;
use crate::repository::sessions::stored::SessionRow;

pub(super) struct CandidateRow {
    /// The number of rows that were read from the source.
    pub(super) rows_read: i64,
    /// The number of sessions found, at most one more than a page has.
    pub(super) found_count: i64,
    /// The last row that was read.
    pub(super) last_changed_at: Option<DateTime<Utc>>,
    pub(super) last_id: Option<Uuid>,
    /// The session's position in time, in a list by change.
    pub(super) changed_at: Option<DateTime<Utc>>,
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

/// The result of one step.
pub(super) struct StepResult {
    rows_read: i64,
    /// Whether more sessions were found than fit in the page.
    more: bool,
    /// The position of the last row that was read.
    last: Option<RowPosition>,
    /// The position of the last session.
    end: Option<RowPosition>,
    sessions: Vec<Session>,
}

type RowPosition = (Option<DateTime<Utc>>, Uuid);

impl StepResult {
    pub(super) fn from_rows(rows: Vec<CandidateRow>) -> Result<Self, Error> {
        let mut result =
            Self { rows_read: 0, more: false, last: None, end: None, sessions: vec![] };
        let mut found_count = 0;
        for row in rows {
            (result.rows_read, found_count) = (row.rows_read, row.found_count);
            result.last = row.last_id.map(|id| (row.last_changed_at, id));
            let changed_at = row.changed_at;
            if let Some(row) = row.session() {
                result.end = Some((changed_at, row.session_id));
                result.sessions.push(row.try_into()?);
            }
        }
        result.more = usize::try_from(found_count).is_ok_and(|count| count > result.sessions.len());
        Ok(result)
    }

    /// Whether the page is complete: it is full, or no further session exists.
    pub(super) fn is_conclusive(&self, step: &PlanStep) -> bool {
        self.more || self.rows_read < step.window
    }

    pub(super) fn into_page(self, step: &PlanStep, bounds: ListBounds) -> SessionListPage {
        let ListBounds { complete_until, .. } = bounds;
        let next = match self.is_conclusive(step) {
            true if self.more => self.end,
            true => None,
            false => self.last,
        };
        let next =
            next.map(|(at, id)| SeekKey { id: SessionId::new(id), changed_at: at, complete_until });
        SessionListPage { sessions: self.sessions, next, complete_until }
    }
}

impl CandidateRow {
    fn session(self) -> Option<SessionRow> {
        Some(SessionRow {
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
