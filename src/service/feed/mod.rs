//! What is written by any server, and everything here that follows it.

mod cache_invalidation;
