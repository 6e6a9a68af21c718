//! The bytes of the wire protocol: sealed envelopes, signatures, tokens, lenient JSON and queries,
//! the table of error codes; and the form in which secrets are stored. No I/O, no async, and no rules about
//! sessions.

mod api_key;
mod callback;
mod envelope;
mod errcode;
mod key;
mod object;
mod query;
mod sealed;
mod token;

pub use api_key::{ApiKey, ApiKeyHash};
pub use callback::{Message, News, acknowledges, sealed_callback, sign};
pub use envelope::{CannotOpen, Envelope};
pub use errcode::Errcode;
pub use key::{AesKey, NotAKey};
pub use object::{FieldError, Integer, Kind, Malformed, Object};
pub use query::query_value;
pub use sealed::{CannotUnseal, MasterKey, MasterKeyId, Place};
pub use token::{Claims, TokenError, TokenKey};
