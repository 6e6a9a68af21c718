//! The options of every change of a session: `If-Match`, `Idempotency-Key`, `?dryRun=`.

use actix_web::HttpRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::idempotency::IdempotencyKeyHeader;
use super::part::RequestPart;
use super::precondition::IfMatch;
use super::query::Query;
use super::text::ActorFields;
use crate::domain::{Action, Authority, Permission, Request, VersionPrecondition};
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::{Caller, WriteOptions};

/// The options of a change. `Q` is the query, which has `dryRun`.
pub(crate) struct WriteParams<Q = DryRun> {
    pub(crate) query: Q,
    pub(crate) options: WriteOptions,
    expected: Option<VersionPrecondition>,
}

/// The query of a change.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct DryRun {
    /// `true`: the response shows the result, but nothing is changed. An `Idempotency-Key` is
    /// ignored.
    #[serde(default)]
    #[param(default = false, example = true)]
    dry_run: bool,
}

/// A query with the parameter `dryRun`.
pub(crate) trait HasDryRun {
    fn dry_run(&self) -> bool;
}

impl HasDryRun for DryRun {
    fn dry_run(&self) -> bool {
        self.dry_run
    }
}

impl<Q> WriteParams<Q> {
    /// The request for `action`. An app with `sessions:admin` acts as administrator.
    pub(crate) fn request(&self, caller: &Caller, actor: ActorFields, action: Action) -> Request {
        let ActorFields { operator, reason } = actor;
        let expected = self.expected.clone();
        Request { operator, authority: authority(caller), reason, precondition: expected, action }
    }
}

/// The authority with which an app acts for its operators.
pub(crate) fn authority(caller: &Caller) -> Authority {
    match caller.permissions().contains(Permission::SessionsAdmin) {
        true => Authority::Admin,
        false => Authority::Member,
    }
}

impl<Q> ErrorCodes for WriteParams<Q> {
    fn codes() -> Vec<Code> {
        [Query::<Q>::codes(), IfMatch::codes(), IdempotencyKeyHeader::codes()].concat()
    }
}

impl<Q: DeserializeOwned + IntoParams + HasDryRun> RequestPart for WriteParams<Q> {
    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem> {
        let Query(query) = Query::<Q>::read(request, body)?;
        let IfMatch(versions) = IfMatch::read(request, body)?;
        let IdempotencyKeyHeader(key) = IdempotencyKeyHeader::read(request, body)?;
        let options = WriteOptions { idempotency_key: key, dry_run: query.dry_run() };
        Ok(Self { query, options, expected: versions.map(VersionPrecondition::any_of) })
    }

    fn parameters() -> Vec<Parameter> {
        [Query::<Q>::parameters(), IfMatch::parameters(), IdempotencyKeyHeader::parameters()]
            .concat()
    }
}
