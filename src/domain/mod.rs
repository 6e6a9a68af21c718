//! The rules of sessions, and nothing else: no I/O, no async, no SQL, no HTTP, no JSON.
//!
//! Values come in as types that cannot hold a bad value ([`Title`], [`Account`], [`SessionId`] …);
//! [`Session::create`] and [`Session::update`] say what a request really does, or give a
//! [`Refusal`]. Whoever calls them writes down what they decided.

mod app;
mod delivery;
mod id;
mod refusal;
mod session;
mod text;
mod update;

pub use app::{App, Callback, Permission, Permissions, UnknownPermission, Withheld};
pub use delivery::{DeliveryId, DeliveryState, NoDeliveryId};
pub use id::{AppId, Buin, SessionId, Version};
pub use refusal::Refusal;
pub use session::{NewSession, RemovePolicy, Rules, Session, State};
pub use text::{Account, Invalid, Title};
pub use update::{Change, Update};
