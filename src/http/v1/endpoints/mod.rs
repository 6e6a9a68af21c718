//! The endpoints of this API, a file for each resource. An endpoint reads the request, calls one
//! use case and renders the result.

pub(super) mod batch;
pub(super) mod compare;
pub(super) mod consumers;
pub(super) mod diff;
pub(super) mod docs;
pub(super) mod events;
pub(super) mod feed;
pub(super) mod limits;
pub(super) mod list;
pub(super) mod sessions;
