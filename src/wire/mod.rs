//! The bytes of the wire protocol: sealed envelopes, signatures, tokens, lenient JSON and queries,
//! and error codes. Also the stored form of secrets. No I/O, no async and no rules about sessions
//! live here.

mod account_texts;
mod api_key;
mod backup_key;
mod callback;
mod envelope;
mod errcode;
mod json_value;
mod key;
mod mark;
mod object;
mod query;
mod sealed;
mod skipped;
mod token;

pub use account_texts::{AccountTexts, TooManyAccounts};
pub use api_key::{ApiKey, ApiKeyHash};
pub use backup_key::BackupKey;
pub use callback::{CallbackEvent, Message, callback_body, is_acknowledgement, sign};
pub use envelope::{Envelope, OpenError, Opened, SealedFingerprint};
pub use errcode::Errcode;
pub use json_value::Integer;
pub use key::{AesKey, InvalidAesKey};
pub use object::{FieldError, JsonObject, Malformed, explain_json_error};
pub use query::query_value;
pub use sealed::{MasterKey, MasterKeyId, SealContext, UnsealError};
pub use skipped::{JsonKind, SkippedValue, whole_number};
pub use token::{TOKEN_GRACE, TokenClaims, TokenError, TokenKey};
