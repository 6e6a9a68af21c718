//! The options of every change of a session: conditions, `Idempotency-Key`, `?dryRun=`.

use actix_web::HttpRequest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;
use utoipa::openapi::path::Parameter;

use super::conditions::WriteConditions;
use super::idempotency::IdempotencyKeyHeader;
use super::part::RequestPart;
use super::query::Query;
use super::text::ActorFields;
use crate::domain::{Action, Authority, Permission, Request, RuleViolation, Version};
use crate::http::v1::problem::{Code, ErrorCodes, Problem};
use crate::service::{Caller, Error, WriteOptions};

/// The options of a change. `Q` is the query, which has `dryRun`.
pub(crate) struct WriteParams<Q = DryRun> {
    pub(crate) query: Q,
    pub(crate) options: WriteOptions,
    pub(crate) conditions: WriteConditions,
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
        let precondition = self.conditions.precondition.clone();
        Request { operator, authority: authority(caller), reason, precondition, action }
    }

    /// The problem of a change that failed. The expected version comes from the header `If-Match`,
    /// so a version conflict names this header.
    pub(crate) fn problem(&self, error: Error) -> Problem {
        let conflict = match &error {
            Error::Rejected(RuleViolation::VersionConflict { current, .. }) => {
                self.unmatchable_reason(*current).map(|reason| (reason, *current))
            }
            _ => None,
        };
        match conflict {
            Some((reason, current)) => {
                Problem::for_field(Code::VersionConflict, "If-Match", reason)
                    .with_current_version(current)
            }
            None => Problem::from(error).rename_field(&[("version", "If-Match")]),
        }
    }

    /// Why `If-Match` matches no session at all, if a proxy may be the cause.
    fn unmatchable_reason(&self, current: Version) -> Option<String> {
        let WriteConditions { weak_tag, foreign_tag, .. } = &self.conditions;
        match (weak_tag, foreign_tag) {
            (Some(tag), _) => Some(format!(
                "a weak tag such as W/\"{tag}\" never matches; a proxy that compresses responses \
                 makes tags weak; the current version is {current}"
            )),
            (None, Some(tag)) => Some(format!(
                "\"{tag}\" is not a tag of Muster, which is a version such as \"{current}\"; a proxy \
                 that compresses responses changes tags; the current version is {current}"
            )),
            (None, None) => None,
        }
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
        [Query::<Q>::codes(), WriteConditions::codes(), IdempotencyKeyHeader::codes()].concat()
    }
}

impl<Q: DeserializeOwned + IntoParams + HasDryRun> RequestPart for WriteParams<Q> {
    const HAS_CONDITIONS: bool = true;

    fn read(request: &HttpRequest, body: &[u8]) -> Result<Self, Problem> {
        let Query(query) = Query::<Q>::read(request, body)?;
        let conditions = WriteConditions::read(request, body)?;
        let IdempotencyKeyHeader(key) = IdempotencyKeyHeader::read(request, body)?;
        let options = WriteOptions { idempotency_key: key, dry_run: query.dry_run() };
        Ok(Self { query, options, conditions })
    }

    fn parameters() -> Vec<Parameter> {
        let conditions = WriteConditions::parameters();
        [Query::<Q>::parameters(), conditions, IdempotencyKeyHeader::parameters()].concat()
    }
}
