//! One item of a batch: a create or an update.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::{IdempotencyKey, Invalid, NewSession, Request, SessionId, Version};
use crate::http::v1::endpoints::sessions::Wish;
use crate::http::v1::endpoints::sessions::create::New;
use crate::http::v1::endpoints::sessions::update::Patch;
use crate::http::v1::extract::idempotency::named;
use crate::http::v1::extract::json;
use crate::http::v1::extract::number::VersionNumber;
use crate::http::v1::extract::object::Object;
use crate::http::v1::extract::parameter::text;
use crate::http::v1::extract::path::ID_PATTERN;
use crate::http::v1::extract::text::{AccountText, ReasonText, TitleText};
use crate::http::v1::extract::write::authority;
use crate::http::v1::problem::{Code, Problem};
use crate::service::{Caller, Sessions, WriteOptions, WriteOutcome};

/// What is to be done, and the caller's name for it.
pub(crate) struct Item {
    work: Work,
    key: Option<IdempotencyKey>,
}

/// An item that was done, and the status that tells so.
pub(crate) type Finished = Result<(u16, WriteOutcome), Problem>;

enum Work {
    Create(NewSession),
    Update(Box<Change>),
}

struct Change {
    id: SessionId,
    version: Option<Version>,
    wish: Wish,
}

/// Either `create` or `update`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = BatchItem, example = json!({
    "create": { "operator": "alice", "title": "Release", "member": ["bob", "carol"] },
    "idempotencyKey": "8e03978e-40d5-43dd-bc93-6894a57f9324"
}))]
pub(crate) struct Described {
    /// A session to create, as in `POST /v1/sessions`.
    #[schema(value_type = Option<New>)]
    create: Option<Box<RawValue>>,
    /// Changes of a session, as in `PATCH /v1/sessions/{sessionId}`.
    #[schema(value_type = Option<Update>)]
    update: Option<Box<RawValue>>,
    /// The idempotency key of this item, as in the header `Idempotency-Key`.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    idempotency_key: Option<String>,
}

/// Changes of the session `sessionId`. Absent fields stay unchanged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = BatchUpdate, example = json!({
    "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "version": 4, "operator": "alice",
    "title": "Release 2.0", "addMember": ["dave"], "delMember": ["carol"],
    "attributes": { "project": null }
}))]
struct Update {
    #[schema(schema_with = id)]
    session_id: String,
    /// The version that the session must have.
    version: Option<VersionNumber>,
    /// The account that acts.
    operator: AccountText,
    reason: Option<ReasonText>,
    title: Option<TitleText>,
    /// The new owner, who must be a member after the change. Only the owner may set it.
    owner: Option<AccountText>,
    /// Accounts to add.
    add_member: Option<Vec<AccountText>>,
    /// Members to remove.
    del_member: Option<Vec<AccountText>>,
    /// A JSON merge patch (RFC 7396) of the attributes.
    attributes: Option<Object>,
}

fn id() -> utoipa::openapi::Object {
    let about = "The session: a UUID with or without hyphens and braces, in either case.";
    let id = text(ID_PATTERN, "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}");
    id.description(Some(about)).build()
}

impl TryFrom<Update> for Change {
    type Error = Problem;

    fn try_from(update: Update) -> Result<Self, Problem> {
        let id = update
            .session_id
            .parse()
            .map_err(|why: Invalid| Problem::invalid(Code::InvalidSessionId, "sessionId", &why))?;
        let version = update.version.map(VersionNumber::read).transpose()?;
        let patch = Patch {
            operator: update.operator,
            reason: update.reason,
            title: update.title,
            owner: update.owner,
            add_member: update.add_member,
            del_member: update.del_member,
            attributes: update.attributes,
        };
        Ok(Self { id, version, wish: patch.try_into()? })
    }
}

impl Item {
    /// Reads an item.
    pub(crate) fn read(text: &RawValue) -> Result<Self, Problem> {
        let item: Described = json::read(text.get().as_bytes())?;
        let (what, body, work) = match (&item.create, &item.update) {
            (Some(new), None) => {
                let body = new.get().as_bytes();
                ("create", body, Work::Create(json::read::<New>(body)?.try_into()?))
            }
            (None, Some(update)) => {
                let body = update.get().as_bytes();
                let change = json::read::<Update>(body)?.try_into()?;
                ("update", body, Work::Update(Box::new(change)))
            }
            (None, None) => {
                return Err(Problem::of(
                    Code::MissingField,
                    "create",
                    "either create or update is required",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::of(
                    Code::InvalidField,
                    "update",
                    "must not be combined with create",
                ));
            }
        };
        let place = (Code::InvalidField, "idempotencyKey");
        let key = item.idempotency_key.as_deref();
        let key = key.map(|key| named(place, key, &["batch", what], body)).transpose()?;
        Ok(Self { work, key })
    }

    /// The session that it changes; a new one has no name yet.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match &self.work {
            Work::Create(_) => None,
            Work::Update(change) => Some(change.id),
        }
    }

    /// Does it, and tells the status of a request that does just this.
    pub(crate) async fn run(self, sessions: &Sessions, caller: &Caller) -> Finished {
        let terms = WriteOptions { key: self.key, dry_run: false };
        match self.work {
            Work::Create(new) => Ok((201, sessions.create(caller, new, &terms).await?)),
            Work::Update(change) => {
                let Change { id, version, wish } = *change;
                let request = Request {
                    operator: wish.acting.operator,
                    authority: authority(caller),
                    reason: wish.acting.reason,
                    expected: version.map(Into::into),
                    action: wish.action,
                };
                Ok((200, sessions.change(caller, id, request, &terms).await?))
            }
        }
    }
}
