//! The feed on this server: the numbering of changes, and the readers of new changes.
//!
//! - `sequencer`: numbers the changes of all servers, if this server is the leader.
//! - `follower`: reads the changes of all servers; `cache_invalidation` keeps the cache right and
//!   wakes the callback worker with them.
//! - `pages`: the changes of an enterprise for its apps, page by page; `cursor`: positions in
//!   them; `included_sessions`: the sessions after them; `snapshot`: the sessions before them.
//! - `min_cursor`: reads that include every change up to a cursor.
//! - `hub`: gives new changes to the streams and waiting requests of this server. Its reader is
//!   `hub_reader`; `hub_index` finds the subscribers of a change, `hub_roles` has the roles in changes of
//!   this server, `hub_queue` holds what a stream has not taken, and `stream_position` is how far a stream has
//!   come.
//! - `consumers`: named consumers, whose positions are kept here; `consumer_fetch`: their members;
//!   `consumer_waits` wakes and bounds their waits; `consumer_retention` removes unused consumers.
//! - `outbox_floor`: the lower bound that keeps readers of `outbox` from reading deleted rows.
//!
//! Only the repository knows the meaning of a position in the feed.

mod cache_invalidation;
mod consumer_fetch;
mod consumer_retention;
mod consumer_waits;
mod consumers;
mod cursor;
mod follower;
pub(super) mod hub;
mod hub_index;
mod hub_queue;
mod hub_reader;
mod hub_roles;
mod included_sessions;
mod min_cursor;
mod outbox_floor;
mod pages;
mod sequencer;
mod snapshot;
mod stream_position;

pub use consumer_fetch::{FetchState, FetchedEvents};
pub use consumer_waits::ConsumerWait;
pub(super) use consumer_waits::ConsumerWaits;
pub use consumers::ConsumerDetails;
pub(super) use consumers::resolve;
pub use cursor::{FeedCursor, FilterDigest, InvalidFeedCursor, LastMatch};
pub use hub::{StreamLimits, Subscription};
pub use hub_queue::{LiveEvent, RenderEvent, StreamUpdate};
pub(super) use hub_roles::WrittenChange;
pub use pages::{FeedItem, FeedPage, FeedQuery, FeedStart, SnapshotPhase};
pub use stream_position::{StreamPosition, StreamStep};
