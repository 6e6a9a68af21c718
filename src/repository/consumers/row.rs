//! Values that the statements on consumers share.

use uuid::Uuid;

use crate::domain::{
    Account, AppId, ConsumerLease, ConsumerName, EventKind, FeedFilter, FeedSeq, SessionId,
};
use crate::repository::Error;
use crate::repository::error::corrupt;
use crate::repository::sessions::account;

/// A position in the feed of an enterprise: every change up to it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerPosition {
    /// The number of the last change.
    pub seq: FeedSeq,
    /// The same position as a cursor of the API.
    pub cursor: String,
}

/// The columns of a filter.
#[derive(Default)]
pub(super) struct FilterColumns {
    pub(super) member: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) session_id: Option<Uuid>,
    pub(super) kind: Option<String>,
    pub(super) app_id: Option<String>,
}

impl From<&FeedFilter> for FilterColumns {
    fn from(filter: &FeedFilter) -> Self {
        let text = |account: &Account| account.as_str().to_owned();
        Self {
            member: filter.member.as_ref().map(text),
            owner: filter.owner.as_ref().map(text),
            session_id: filter.session.map(SessionId::uuid),
            kind: filter.kind.map(|kind| kind.name().to_owned()),
            app_id: filter.app.as_ref().map(|app_id| app_id.as_str().to_owned()),
        }
    }
}

impl TryFrom<FilterColumns> for FeedFilter {
    type Error = Error;

    fn try_from(columns: FilterColumns) -> Result<Self, Error> {
        let stored = |column, text: Option<String>| {
            text.map(|text| account("consumer", column, &text)).transpose()
        };
        let kind = columns.kind.map(|text| {
            text.parse::<EventKind>().map_err(corrupt("consumer", "filter_kind", &text))
        });
        let app = columns
            .app_id
            .map(|text| text.parse::<AppId>().map_err(corrupt("consumer", "filter_app_id", &text)));
        Ok(Self {
            member: stored("filter_member", columns.member)?,
            owner: stored("filter_owner", columns.owner)?,
            session: columns.session_id.map(SessionId::new),
            kind: kind.transpose()?,
            app: app.transpose()?,
        })
    }
}

pub(super) fn consumer_name(text: &str) -> Result<ConsumerName, Error> {
    text.parse().map_err(corrupt("consumer", "name", text))
}

pub(super) fn lease(seconds: i32) -> Result<ConsumerLease, Error> {
    let duration = std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    ConsumerLease::new(duration).map_err(corrupt("consumer", "lease_seconds", seconds))
}

pub(super) fn lease_column(lease: ConsumerLease) -> i32 {
    i32::try_from(lease.seconds()).unwrap_or(i32::MAX)
}

/// The number of a change in the column of a table.
pub(super) fn seq(
    table: &'static str,
    column: &'static str,
    number: i64,
) -> Result<FeedSeq, Error> {
    FeedSeq::new(number).map_err(corrupt(table, column, number))
}

pub(super) fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
