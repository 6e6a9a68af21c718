//! The feed: the changes that all servers write to sessions, and their consumers on this server.
//!
//! Only the repository knows the meaning of a position in the feed. Here the position is an opaque
//! [`FeedPosition`](crate::repository::feed::FeedPosition).

mod cache_invalidation;
mod poller;
