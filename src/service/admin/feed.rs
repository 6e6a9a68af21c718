//! The feed: its epoch, its consumers, and its changes.

use uuid::Uuid;

use super::{AdminContext, Error};
use crate::domain::{
    AppId, Buin, ConsumerName, ConsumerState, FeedEvent, FeedFilter, FeedSeq, ParkedEvent,
};
use crate::repository::consumers;
use crate::repository::feed::{self, FeedPageRequest};
use crate::service::FeedStart;
use crate::service::feed::resolve;

/// The maximum size of the changes of a page, in bytes of JSON.
const PAGE_BYTES: usize = 1024 * 1024;
/// The maximum number of changes of a page.
const PAGE_LEN: usize = 500;

/// A consumer of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppConsumer {
    /// The enterprise.
    pub buin: Buin,
    /// The app.
    pub app_id: AppId,
    /// The consumer.
    pub state: ConsumerState,
    /// Its parked changes, the oldest first. Empty in a list.
    pub parked: Vec<ParkedEvent>,
}

/// Begins another line of history: later changes may have the numbers of changes that were lost.
///
/// # Errors
/// The database fails.
pub async fn renew_epoch(admin: &AdminContext) -> Result<Uuid, Error> {
    Ok(feed::renew_epoch_with_record(&admin.pool, admin.audit_context()).await?)
}

/// The consumers of an app, of an enterprise or of all, with the largest lag first.
///
/// # Errors
/// The database fails.
pub async fn list_consumers(
    admin: &AdminContext,
    buin: Option<Buin>,
    app_id: Option<&AppId>,
) -> Result<Vec<AppConsumer>, Error> {
    let found = consumers::list(&admin.pool, buin, app_id).await?;
    let consumer = |(buin, app_id, state)| AppConsumer { buin, app_id, state, parked: Vec::new() };
    let mut found: Vec<_> = found.into_iter().map(consumer).collect();
    found.sort_by_key(|consumer| std::cmp::Reverse(consumer.state.lag()));
    Ok(found)
}

/// A consumer of an app, with its members and its parked changes.
///
/// # Errors
/// [`Error::ConsumerNotFound`], or the database fails.
pub async fn consumer(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
) -> Result<AppConsumer, Error> {
    let found = consumers::find(&admin.pool, buin, app_id, name).await?;
    let mut state = found.ok_or_else(|| not_found(name))?;
    state.members = consumers::members(&admin.pool, buin, app_id, name).await?;
    let parked = consumers::parked(&admin.pool, buin, app_id, name).await?;
    Ok(AppConsumer { buin, app_id: app_id.clone(), state, parked })
}

/// Moves a consumer to `start`. All its events are forgotten.
///
/// # Errors
/// [`Error::ConsumerNotFound`], [`Error::CursorExpired`], or the database fails.
pub async fn reset_consumer(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
    start: FeedStart,
) -> Result<FeedSeq, Error> {
    let position = resolve(&admin.pool, buin, start).await?.ok_or(Error::CursorExpired)?;
    let (pool, context) = (&admin.pool, Some(admin.audit_context()));
    match consumers::reset(pool, (buin, app_id), name, &position, context).await? {
        true => Ok(position.seq),
        false => Err(not_found(name)),
    }
}

/// Makes parked changes of a consumer ready again, or removes them with `discard`: those of `seqs`, or
/// all. Returns their number.
///
/// # Errors
/// [`Error::ConsumerNotFound`], or the database fails.
pub async fn release_events(
    admin: &AdminContext,
    buin: Buin,
    app_id: &AppId,
    name: &ConsumerName,
    seqs: Option<&[FeedSeq]>,
    discard: bool,
) -> Result<u64, Error> {
    let (pool, context) = (&admin.pool, Some(admin.audit_context()));
    let released = consumers::release(pool, (buin, app_id), name, seqs, discard, context).await?;
    released.ok_or_else(|| not_found(name))
}

/// The position in the feed of an enterprise at which `start` is.
///
/// # Errors
/// [`Error::CursorExpired`], or the database fails.
pub async fn find_position(
    admin: &AdminContext,
    buin: Buin,
    start: FeedStart,
) -> Result<FeedSeq, Error> {
    let position = resolve(&admin.pool, buin, start).await?.ok_or(Error::CursorExpired)?;
    Ok(position.seq)
}

/// The next changes of an enterprise after a position, and the position after them.
///
/// # Errors
/// The database fails.
pub async fn changes_after(
    admin: &AdminContext,
    buin: Buin,
    filter: &FeedFilter,
    after: FeedSeq,
) -> Result<(Vec<FeedEvent>, FeedSeq), Error> {
    let (limit, max_bytes) = (PAGE_LEN, PAGE_BYTES);
    let request = FeedPageRequest { buin, filter, after, limit, max_bytes };
    let part = feed::read_page(&admin.pool, request).await?;
    Ok((part.events, part.next.seq))
}

fn not_found(name: &ConsumerName) -> Error {
    Error::ConsumerNotFound(name.clone())
}
