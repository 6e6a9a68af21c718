//! The rules of sessions, and the types of apps, deliveries and the audit. No I/O, no async, no SQL
//! and no HTTP lives here. No JSON either: only attributes and the details of an audit entry hold
//! JSON values.
//!
//! Arguments have types that hold only valid values ([`Title`], [`Account`], [`SessionId`] …).
//! [`Session::create`] and [`Session::decide`] return the effect of a request, or a
//! [`RuleViolation`]. They store nothing: the service writes the result.

mod app;
mod attributes;
mod audit;
mod comparison;
mod consumer;
mod decide;
mod delivery;
mod event;
mod feed;
mod find;
mod id;
mod idempotency;
mod member;
mod message_form;
mod precondition;
mod request;
mod rule_violation;
mod session;
mod text;
mod time;

pub use app::{
    App, Callback, CallbacksBlocked, Permission, Permissions, UnknownPermission, url_origin,
};
pub use attributes::{Attributes, AttributesPatch};
pub use audit::{Actor, AuditChain, AuditChainFault, AuditEntry, AuditFilter};
pub use comparison::{Difference, DifferingSession, SessionVersion, compare_ranges, difference};
pub use consumer::{
    Consumer, ConsumerLease, ConsumerLimits, ConsumerMember, ConsumerName, ConsumerState,
    InvalidLease, LeasedEvent, MemberLeases, ParkedEvent,
};
pub use decide::Change;
pub use delivery::{
    AttemptRecord, DeliveryFilter, DeliveryId, DeliveryState, DeliverySummary, InvalidDeliveryId,
};
pub use event::{Changes, Event, EventKind, MissingEvents, Replay, UnknownEventKind};
pub use feed::{FeedEvent, FeedFilter, FeedSeq, SessionRole};
pub use find::{SessionFilter, Sort, SortKey, TitlePart};
pub use id::{AppId, Buin, SessionId, Version};
pub use idempotency::IdempotencyKey;
pub use member::Member;
pub use message_form::{AllowedForms, MessageForm, UnknownForms};
pub use precondition::{ExcludedVersions, VersionPrecondition};
pub use request::{Action, Authority, Request, Update};
pub use rule_violation::{OwnerOnlyAction, RuleViolation};
pub use session::{NewSession, RemovePolicy, Rules, Session, State};
pub(crate) use text::quoted;
pub use text::{Account, Invalid, Reason, Title};
pub use time::{InvalidTime, parse_time};
