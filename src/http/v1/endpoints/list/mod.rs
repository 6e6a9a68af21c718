//! Endpoints that find: sessions by a filter, sessions by their ids, and members of a session.
//! Endpoints that read or change one session do not live here.

pub(crate) mod batch_get;
pub(crate) mod members;
pub(crate) mod sessions;
