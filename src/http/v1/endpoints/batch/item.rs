//! One item of a batch: a create or an update.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::domain::{IdempotencyKey, Invalid, NewSession, Request, SessionId, Version};
use crate::http::v1::endpoints::sessions::ChangeRequest;
use crate::http::v1::endpoints::sessions::create::CreateBody;
use crate::http::v1::endpoints::sessions::update::UpdateBody;
use crate::http::v1::extract::idempotency::parse_key;
use crate::http::v1::extract::json;
use crate::http::v1::extract::number::VersionNumber;
use crate::http::v1::extract::object::AttributesJson;
use crate::http::v1::extract::parameter::text;
use crate::http::v1::extract::path::ID_PATTERN;
use crate::http::v1::extract::text::{AccountInput, AccountList, ReasonText, TitleText};
use crate::http::v1::extract::write::authority;
use crate::http::v1::problem::{Code, Problem};
use crate::service::{Caller, Sessions, WriteOptions, WriteOutcome};

/// A checked item: its operation and its idempotency key.
pub(crate) struct ParsedItem {
    operation: Operation,
    key: Option<IdempotencyKey>,
}

/// The HTTP status and the outcome of an item, or its problem.
pub(crate) type ItemResult = Result<(u16, WriteOutcome), Problem>;

enum Operation {
    Create(NewSession),
    Update(Box<ItemUpdate>),
}

struct ItemUpdate {
    id: SessionId,
    version: Option<Version>,
    change_request: ChangeRequest,
}

/// Either `create` or `update`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = BatchItem, example = json!({
    "create": { "operator": "alice", "title": "Release", "member": ["bob", "carol"] },
    "idempotencyKey": "8e03978e-40d5-43dd-bc93-6894a57f9324"
}))]
pub(crate) struct ItemBody {
    /// A session to create, as in `POST /v1/sessions`.
    #[schema(value_type = Option<CreateBody>)]
    create: Option<Box<RawValue>>,
    /// Changes of a session, as in `PATCH /v1/sessions/{sessionId}`.
    #[schema(value_type = Option<BatchUpdate>)]
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
struct BatchUpdate {
    #[schema(schema_with = id)]
    session_id: String,
    /// The version that the session must have.
    version: Option<VersionNumber>,
    /// The account that acts.
    operator: AccountInput,
    reason: Option<ReasonText>,
    title: Option<TitleText>,
    /// The new owner, who must be a member after the change. Only the owner may set it.
    owner: Option<AccountInput>,
    /// Accounts to add.
    #[schema(value_type = Option<Vec<AccountInput>>)]
    add_member: Option<AccountList>,
    /// Members to remove.
    #[schema(value_type = Option<Vec<AccountInput>>)]
    del_member: Option<AccountList>,
    /// A JSON merge patch (RFC 7396) of the attributes.
    attributes: Option<AttributesJson>,
}

fn id() -> utoipa::openapi::Object {
    let description = "The session: a UUID with or without hyphens and braces, in either case.";
    let id = text(ID_PATTERN, "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}");
    id.description(Some(description)).build()
}

impl BatchUpdate {
    fn read(self, max_members: usize) -> Result<ItemUpdate, Problem> {
        let id = self.session_id.parse().map_err(|error: Invalid| {
            Problem::invalid(Code::InvalidSessionId, "sessionId", &error)
        })?;
        let version = self.version.map(VersionNumber::read).transpose()?;
        let patch = UpdateBody {
            operator: self.operator,
            reason: self.reason,
            title: self.title,
            owner: self.owner,
            add_member: self.add_member,
            del_member: self.del_member,
            attributes: self.attributes,
        };
        Ok(ItemUpdate { id, version, change_request: patch.read(max_members)? })
    }
}

impl ParsedItem {
    /// Reads an item, whose lists of accounts have at most `max_members`.
    pub(crate) fn read(text: &RawValue, max_members: usize) -> Result<Self, Problem> {
        let item: ItemBody = json::read(text.get().as_bytes())?;
        let (kind, body, operation) = match (&item.create, &item.update) {
            (Some(new), None) => {
                let body = new.get().as_bytes();
                let new = json::read::<CreateBody>(body)?.read(max_members)?;
                ("create", body, Operation::Create(new))
            }
            (None, Some(update)) => {
                let body = update.get().as_bytes();
                let change = json::read::<BatchUpdate>(body)?.read(max_members)?;
                ("update", body, Operation::Update(Box::new(change)))
            }
            (None, None) => {
                return Err(Problem::for_field(
                    Code::MissingField,
                    "create",
                    "either create or update is required",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::for_field(
                    Code::InvalidField,
                    "update",
                    "must not be combined with create",
                ));
            }
        };
        let location = (Code::InvalidField, "idempotencyKey");
        let key = item.idempotency_key.as_deref();
        let key = key.map(|key| parse_key(location, key, &["batch", kind], body)).transpose()?;
        Ok(Self { operation, key })
    }

    /// The session that the item changes; `None` for a create.
    pub(crate) fn session(&self) -> Option<SessionId> {
        match &self.operation {
            Operation::Create(_) => None,
            Operation::Update(change) => Some(change.id),
        }
    }

    /// The estimated memory of the attributes in the item, in bytes.
    pub(crate) fn attributes_size(&self) -> usize {
        match &self.operation {
            Operation::Create(new) => new.attributes.size(),
            Operation::Update(change) => change.change_request.action.attributes_size(),
        }
    }

    /// Executes the item. The status is that of a separate request.
    pub(crate) async fn run(self, sessions: &Sessions, caller: &Caller) -> ItemResult {
        let options = WriteOptions { idempotency_key: self.key, dry_run: false };
        match self.operation {
            Operation::Create(new) => Ok((201, sessions.create(caller, new, &options).await?)),
            Operation::Update(change) => {
                let ItemUpdate { id, version, change_request } = *change;
                let request = Request {
                    operator: change_request.actor.operator,
                    authority: authority(caller),
                    reason: change_request.actor.reason,
                    precondition: version.map(Into::into),
                    action: change_request.action,
                };
                Ok((200, sessions.update(caller, id, request, &options).await?))
            }
        }
    }
}
