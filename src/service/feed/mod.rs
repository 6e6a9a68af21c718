//! The feed of changes: what any server has written to sessions, and what follows it here.
//!
//! Only the repository knows what a position in the feed is. Here it is an opaque
//! [`FeedPosition`](crate::repository::feed::FeedPosition).

mod cache_invalidation;
mod poller;
