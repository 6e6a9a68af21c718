//! The harm that an enterprise with valid keys, or an anonymous caller, can do to the others: their latency
//! beside its loads, and the memory of the server.
//!
//! | module | holds |
//! | --- | --- |
//! | [`neighbors`], [`memory`] | the two measurements |
//! | [`loads`] | the loads of an enterprise |
//! | [`enterprise`] | an enterprise with a key, and its requests |
//! | [`flood`], [`held`] | clients that send as fast as they can, and clients that never finish |
//! | [`probe`] | the neighbor |
//! | [`memory_group`] | a group of processes with a limit of memory |
//! | [`answers`] | the outcomes of requests |

mod answers;
mod enterprise;
mod flood;
mod held;
mod loads;
pub mod memory;
mod memory_group;
pub mod neighbors;
mod probe;
