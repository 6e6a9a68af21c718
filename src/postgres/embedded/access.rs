//! The rules that admit clients: `pg_hba.conf` and `pg_ident.conf` in PostgreSQL's directory.
//!
//! PostgreSQL asks the kernel for the user of a client's process, and admits only the user that runs
//! Muster. The user that runs PostgreSQL is not admitted if Muster runs as root: another process of
//! that user can reach the socket through `/proc`. Muster writes both files before each start, so
//! data of an earlier version, which admitted every process, get them too.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::error::EmbeddedError;
use super::owner::{self, RunAs};
use super::socket::{SERVICE, SUPERUSER};

/// Links the two files.
const MAP: &str = "muster";

/// Writes both files for the user of this process.
pub(super) fn write(cluster: &Path, run_as: &RunAs) -> Result<(), EmbeddedError> {
    let user = whoami::username()
        .map_err(|_| EmbeddedError::NamelessUser { uid: owner::effective_uid() })?;
    replace(cluster, "pg_ident.conf", &identities(&user), run_as)?;
    replace(cluster, "pg_hba.conf", &rules(), run_as)
}

fn rules() -> String {
    format!(
        "# Muster writes this file before each start of PostgreSQL.\n\
         local all all peer map={MAP}\n"
    )
}

fn identities(user: &str) -> String {
    // A quotation mark inside of quotation marks is written twice.
    let user = user.replace('"', "\"\"");
    let mut text = "# Muster writes this file before each start of PostgreSQL.\n".to_owned();
    for role in [SERVICE, SUPERUSER] {
        text += &format!("{MAP} \"{user}\" {role}\n");
    }
    text
}

/// Replaces a file at once. The directory belongs to the user of PostgreSQL, so Muster, which may be
/// root, follows no link in it.
fn replace(
    cluster: &Path,
    name: &'static str,
    text: &str,
    run_as: &RunAs,
) -> Result<(), EmbeddedError> {
    let path = cluster.join(name);
    let partial = cluster.join(format!("{name}.{:08x}", rand::random::<u32>()));
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        run_as.chown_file(&file)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &path)
    };
    write().map_err(|source| {
        let _ = fs::remove_file(&partial);
        EmbeddedError::file("write", &path)(source)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn only_the_user_of_this_process_is_admitted() {
        let text = identities("o'b \"x\"");
        let admitted: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            admitted,
            ["muster \"o'b \"\"x\"\"\" muster", "muster \"o'b \"\"x\"\"\" postgres"]
        );
        let text = rules();
        let rules: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(rules, ["local all all peer map=muster"]);
    }

    #[test]
    fn links_are_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "precious").unwrap();
        let cluster = dir.path().join("cluster");
        fs::create_dir(&cluster).unwrap();
        symlink(&other, cluster.join("pg_hba.conf")).unwrap();
        write(&cluster, &RunAs::CurrentUser).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        let found = fs::symlink_metadata(cluster.join("pg_hba.conf")).unwrap();
        assert!(found.is_file() && found.mode() & 0o077 == 0, "{found:?}");
        assert_eq!(fs::read_dir(&cluster).unwrap().count(), 2);
    }
}
