//! Calls that find: sessions by what is known of them, many at once by their ids, and who is in
//! one. Calls that read or change a single session do not live here.

pub(crate) mod batch_get;
pub(crate) mod members;
pub(crate) mod sessions;
