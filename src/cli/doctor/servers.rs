//! The servers of an external database: their roles, and whether writes end.

use std::time::Duration;

use super::super::database::Database;
use super::report::{Check, with_causes};
use crate::clock::Clock;
use crate::config::{DatabaseUrl, Settings};
use crate::service::admin::{AdminContext, diagnosis};
use crate::service::{DatabaseServerState, ReplicationLag, ServerRole};

const WRITES: &str = "writes";
const NAME: &str = "servers";

/// The time limit of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Names the role of each server. `None` for one server, whose role is a part of the check of the
/// database.
pub(super) async fn check(settings: &Settings, url: &DatabaseUrl, clock: &Clock) -> Option<Check> {
    if url.expose().len() < 2 {
        return None;
    }
    // A URL that cannot be used is found by the check of the database.
    let database = Database::unchecked(settings, url).ok()?;
    let states = diagnosis::servers(&database.admin(clock)).await;
    database.close().await;
    let primaries = states.iter().filter(|state| state.role == ServerRole::Primary).count();
    let is_unreachable =
        |state: &DatabaseServerState| matches!(state.role, ServerRole::Unreachable(_));
    let found = states.iter().map(describe).collect::<Vec<_>>().join("; ");
    Some(if primaries > 1 {
        let remedy = "stop all but one of the primaries: their data differ from now on";
        Check::fail(NAME, found, remedy)
    } else if primaries == 0 {
        Check::fail(NAME, found, "promote a standby: until then nothing can be changed")
    } else if states.iter().any(is_unreachable) {
        Check::warn(NAME, found, "start the server that does not answer, or remove it from the URL")
    } else {
        Check::ok(NAME, found)
    })
}

fn describe(state: &DatabaseServerState) -> String {
    let DatabaseServerState { name, role } = state;
    match role {
        ServerRole::Primary => format!("{name} is the primary"),
        ServerRole::ReadOnly => format!("{name} is a primary that takes no writes"),
        ServerRole::Standby(ReplicationLag { bytes: Some(bytes), seconds: Some(seconds) }) => {
            format!("{name} is a standby, {bytes} bytes and {seconds:.1} s behind")
        }
        ServerRole::Standby(ReplicationLag { bytes: Some(bytes), seconds: None }) => {
            format!("{name} is a standby, {bytes} bytes behind")
        }
        ServerRole::Standby(ReplicationLag { bytes: None, .. }) => {
            format!("{name} is a standby, without a primary to compare it with")
        }
        ServerRole::Unreachable(reason) => format!("{name} does not answer: {reason}"),
    }
}

/// Checks that a write ends. With one server, only the failure is a finding.
pub(super) async fn writes(admin: &AdminContext, url: &DatabaseUrl) -> Option<Check> {
    match diagnosis::write(admin, WRITE_TIMEOUT).await {
        Ok(()) => (url.expose().len() > 1).then(|| Check::ok(WRITES, "a write ends")),
        Err(error) => Some(Check::fail(
            WRITES,
            format!("a write does not end: {}", with_causes(error)),
            "start the synchronous standby, or change synchronous_standby_names of PostgreSQL",
        )),
    }
}
