//! Checks of this machine for an embedded database: its directory, disk space and programs.

use std::path::Path;

use super::super::database::embedded_options;
use super::super::first_app;
use super::report::{Check, with_causes};
use crate::config::Settings;
use crate::postgres::embedded::{self, DataDir, EmbeddedError, Installation};

/// The check warns if less space is free, in bytes.
const LOW_SPACE: u64 = 1 << 30;
/// The check fails if less space is free, in bytes: PostgreSQL stops if it cannot write its log.
const MIN_SPACE: u64 = 100 << 20;

/// Checks that data_dir and the files in it can be used.
pub(super) fn data_dir(data_dir: &Path) -> Check {
    const NAME: &str = "data_dir";
    let path = data_dir.display();
    let data_dir_state = match embedded::inspect(data_dir) {
        Ok(data_dir_state) => data_dir_state,
        Err(error) => return Check::failed(NAME, &error),
    };
    if let Err(error) = first_app::check(data_dir) {
        let remedy =
            "let the user that runs Muster read it, or remove it if Muster did not write it";
        return Check::fail(NAME, with_causes(error), remedy);
    }
    match data_dir_state {
        DataDir::Missing => {
            Check::ok(NAME, format!("{path} does not exist yet and can be created"))
        }
        DataDir::Present { mode } if data_dir_state.is_open() => Check::warn(
            NAME,
            format!("other users may enter {path}, which has mode {mode:o}"),
            format!("`chmod 700 {path}`"),
        ),
        DataDir::Present { .. } => Check::ok(NAME, format!("{path} can be used")),
    }
}

/// Checks the free space of the disk.
pub(super) fn free_space(data_dir: &Path) -> Check {
    const NAME: &str = "disk";
    // PostgreSQL's directory may be on a disk of its own. The nearest parent is measured if the
    // directory does not exist yet.
    let absolute = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let absolute = absolute.join("postgres");
    let nearest = absolute.ancestors().find(|path| path.exists()).unwrap_or(&absolute);
    let free = match rustix::fs::statvfs(nearest) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            return Check::warn(
                NAME,
                format!("{}: {error}", nearest.display()),
                "make data_dir readable",
            );
        }
    };
    let found = format!("{} MiB free at {}", free >> 20, nearest.display());
    let remedy = "free some space, or move data_dir to a larger disk";
    match free {
        ..MIN_SPACE => Check::fail(NAME, found, remedy),
        MIN_SPACE..LOW_SPACE => Check::warn(NAME, found, remedy),
        _ => Check::ok(NAME, found),
    }
}

/// Checks that this machine has the programs of a PostgreSQL that fits the data.
pub(super) async fn postgresql(settings: &Settings) -> Check {
    const NAME: &str = "postgresql";
    let error = match Installation::find(&embedded_options(settings)).await {
        Ok(installation) => {
            let Installation { version, dir } = installation;
            return Check::ok(NAME, format!("{version} in {}", dir.display()));
        }
        Err(error) => error,
    };
    let check = Check::failed(NAME, &error);
    let is_fetched = match &error {
        EmbeddedError::NoPrograms { .. } => true,
        EmbeddedError::OtherMajor { .. } => settings.database.postgres_dir.is_none(),
        _ => false,
    };
    match check.remedy {
        Some(remedy) if settings.database.download && is_fetched => Check::warn(
            NAME,
            check.found,
            format!("`muster serve` will try to download it; to avoid that, {remedy}"),
        ),
        remedy => Check { remedy, ..check },
    }
}
