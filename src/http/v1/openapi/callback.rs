//! Callbacks in the API's description. This server sends them, so they are a webhook.
//!
//! `crate::wire` makes the bytes, and a test compares a callback with this description. No code uses
//! the types of this file.

#![expect(dead_code, reason = "the types only describe")]

use utoipa::openapi::path::{HttpMethod, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi, PathsBuilder, Required};
use utoipa::{IntoParams, Modify, Path as _, ToSchema};

use crate::http::v1::extract::parameter::{in_header, standard_header, text};
use crate::http::v1::extract::text::{AccountText, TitleText};
use crate::http::v1::render::view::{SessionState, SessionType};

const ID_PATTERN: &str = "^[!-~]+$";
const ID_EXAMPLE: &str = "8ad595f3-73b3-4b56-90af-f336f9222fc5.2.app1";

/// Adds the webhook.
pub(super) struct CallbackWebhook;

impl Modify for CallbackWebhook {
    fn modify(&self, document: &mut OpenApi) {
        let mut operation = __path_callback::operation();
        // It has no tag: the tags group the endpoints of this server.
        operation.tags = None;
        let item = PathItem::new(HttpMethod::Post, operation);
        document.webhooks = Some(PathsBuilder::new().path("callback", item).build());
    }
}

/// The query, in addition to that of the callback URL.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct CallbackQuery {
    /// The signature: SHA-1 over the callback token, `timestamp`, `nonce` and `encrypt`, sorted
    /// bytewise and joined, in lower-case hexadecimal digits.
    #[param(pattern = "^[0-9a-f]{40}$", example = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c")]
    msg_signature: String,
    /// The time of this attempt, in Unix seconds.
    #[param(pattern = "^[0-9]+$", example = "1718000010")]
    timestamp: String,
    /// A random text, another one in each attempt.
    #[param(pattern = "^[0-9a-f]{16}$", example = "5f0c1f0e9b7a4d52")]
    nonce: String,
}

struct CallbackHeaders;

impl IntoParams for CallbackHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let required = |name: &str, description: &str, pattern: &str, example: &str| {
            let header = in_header(name, description, text(pattern, example));
            ParameterBuilder::from(header).required(Required::True).build()
        };
        vec![
            required(
                "X-Muster-Delivery",
                "The id of the callback, the same in every attempt. Not signed.",
                ID_PATTERN,
                ID_EXAMPLE,
            ),
            required("X-Muster-Attempt", "The number of the attempt. Not signed.", "^[0-9]+$", "1"),
            required(
                "X-Muster-Version",
                "The version of the session. Not signed: `version` in the sealed message is.",
                "^[0-9]+$",
                "2",
            ),
            standard_header(
                "traceparent",
                "The trace of the change (W3C Trace Context), if it was made in one.",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
        ]
    }
}

/// The body of a callback.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CallbackBody, example = json!({
    "toBuin": 1, "toApp": "app1",
    "encrypt": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kA=="
}))]
pub(super) struct CallbackBodySchema {
    /// The number of the enterprise.
    #[schema(minimum = 1)]
    to_buin: i64,
    /// The id of the app.
    to_app: String,
    /// A `CallbackMessage` as JSON, sealed with the AES key of the app, in Base64.
    #[schema(content_encoding = "base64")]
    encrypt: String,
}

/// The sealed message of a callback: a change of a session.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CallbackMessage, example = json!({
    "fromUser": "alice", "createTime": 1_718_000_010, "packageId": ID_EXAMPLE,
    "sessionId": "{8AD595F3-73B3-4B56-90AF-F336F9222FC5}", "version": 2,
    "msgType": "session_update",
    "session_update": {
        "owner": "alice", "title": "Release 2.0", "addMember": ["dave"], "delMember": ["carol"]
    }
}))]
pub(super) struct CallbackMessageSchema {
    /// The operator of the change.
    #[schema(value_type = AccountText)]
    from_user: String,
    /// The time of the change, in Unix seconds.
    create_time: i64,
    /// The id of the callback, the same in every attempt. A response with this text acknowledges
    /// the callback.
    package_id: String,
    /// The session: a UUID, upper case, in braces. A test has zeros.
    #[schema(pattern = r"^\{[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}\}$")]
    session_id: String,
    /// The version that the change made; 0 in a test.
    #[schema(minimum = 0)]
    version: i64,
    msg_type: CallbackKindSchema,
    #[schema(nullable = false)]
    #[serde(rename = "session_create")]
    session_create: Option<CallbackCreatedSchema>,
    #[schema(nullable = false)]
    #[serde(rename = "session_update")]
    session_update: Option<CallbackUpdatedSchema>,
}

/// The kind of a callback. `muster_test` is a test by an operator, without a session.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CallbackKind, examples("session_update"))]
enum CallbackKindSchema {
    SessionCreate,
    SessionUpdate,
    MusterTest,
}

/// The new session, if `msgType` is `session_create`.
#[derive(ToSchema)]
#[schema(as = CallbackCreated, example = json!({
    "type": "multi", "title": "Release", "member": ["alice", "bob", "carol"]
}))]
struct CallbackCreatedSchema {
    r#type: SessionType,
    title: TitleText,
    /// All members.
    #[schema(value_type = Vec<AccountText>)]
    member: Vec<String>,
}

/// The change, if `msgType` is `session_update`.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CallbackUpdated, example = json!({
    "owner": "alice", "title": "Release 2.0", "addMember": ["dave"], "delMember": ["carol"]
}))]
struct CallbackUpdatedSchema {
    /// The owner after the change.
    #[schema(value_type = AccountText)]
    owner: String,
    /// The title after the change.
    title: TitleText,
    /// The accounts that became members.
    #[schema(value_type = Vec<AccountText>)]
    add_member: Vec<String>,
    /// The accounts that were removed.
    #[schema(value_type = Vec<AccountText>)]
    del_member: Vec<String>,
    /// The new state, if the session was dissolved or restored.
    #[schema(nullable = false)]
    state: Option<SessionState>,
}

/// A change of a session
///
/// Muster sends each change of a session to every app of the enterprise that has a callback URL and
/// the permission `callbacks`. A callback that is not acknowledged is sent again, for 24 hours.
/// Verify the signature and the timestamp, and open `encrypt`, before you trust the request.
#[utoipa::path(
    post,
    path = "callback",
    operation_id = "receiveCallback",
    security(()),
    params(CallbackQuery, CallbackHeaders),
    request_body = CallbackBodySchema,
    responses(
        (status = 200, description = "Acknowledged, if the body is `ok`, the `packageId` of the \
            message, or a JSON object whose `errcode` is 0. Any other body is a failure.",
            body = String, content_type = "text/plain", example = json!("ok")),
        (status = "default", description = "A failure. `Retry-After` is honoured. Redirects are \
            not followed.")
    )
)]
fn callback() {}
