//! Finds PostgreSQL's programs: configured, installed, or downloaded earlier.
//!
//! A new data directory gets the newest version. An existing one needs the major version that
//! created it, because PostgreSQL does not read the files of other major versions.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use super::download::{self, DownloadSource};
use super::error::EmbeddedError;
use super::found_versions::FoundVersions;
use super::layout;
use super::options::Options;
use super::version::{InvalidVersion, MIN_MAJOR, PostgresVersion};
use crate::postgres::environment;

/// The programs of one PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The directory that holds `postgres` and `initdb`.
    pub dir: PathBuf,
    /// The version that `postgres --version` prints.
    pub version: PostgresVersion,
}

impl Installation {
    /// Finds the programs that [`super::EmbeddedPostgres::start`] would use, without a download.
    ///
    /// # Errors
    /// When no programs are found, or no programs that fit the data directory.
    pub async fn find(options: &Options) -> Result<Self, EmbeddedError> {
        let data = layout::path(&options.data_dir);
        let major = layout::major(&data)?;
        SearchPaths::for_this_machine(options).find(&data, major).await
    }
}

/// The directories to search, and the source of downloads.
#[derive(Debug)]
pub(super) struct SearchPaths {
    /// `database.postgres_dir`. If set, no other directory is searched.
    pub(super) configured: Option<PathBuf>,
    /// Directories in which programs may be installed.
    pub(super) installed: Vec<PathBuf>,
    /// The source of downloads and their cache.
    pub(super) downloads: DownloadSource,
    /// Whether a download is allowed.
    pub(super) download: bool,
}

impl SearchPaths {
    pub(super) fn for_this_machine(options: &Options) -> Self {
        let mut installed: Vec<_> =
            env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
        installed.extend(glob("/usr/lib/postgresql", "", "bin"));
        installed.extend(glob("/usr", "pgsql-", "bin"));
        installed.extend(["/usr/local/pgsql/bin".into(), "/usr/local/bin".into()]);
        installed.extend(glob("/opt/homebrew/opt", "postgresql@", "bin"));
        installed.extend(glob("/usr/local/opt", "postgresql@", "bin"));
        Self {
            configured: options.postgres_dir.clone(),
            installed,
            downloads: DownloadSource::default_source(),
            download: options.download,
        }
    }

    /// The full paths of the directories to search. They may be empty or missing.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let dirs = match &self.configured {
            Some(dir) => vec![dir.clone()],
            None => self.installed.iter().cloned().chain(self.downloads.installed()).collect(),
        };
        dirs.iter().filter_map(|dir| std::path::absolute(dir).ok()).collect()
    }

    /// Finds the programs for `data`, or downloads them. `major` is the version that created
    /// `data`, if `data` exists.
    pub(super) async fn find_or_download(
        &self,
        data: &Path,
        major: Option<u32>,
    ) -> Result<Installation, EmbeddedError> {
        let missing = match self.find(data, major).await {
            Err(EmbeddedError::NoPrograms { found }) if self.download => (found, None),
            Err(EmbeddedError::OtherMajor { major, found, .. })
                if self.download && self.configured.is_none() =>
            {
                (found, Some(major))
            }
            done => return done,
        };
        match (download::fetch(&self.downloads, major).await, missing) {
            (Ok(dir), _) => match version(&dir).await {
                Ok(version) => Ok(Installation { dir, version }),
                Err(problem) => {
                    Err(EmbeddedError::ConfiguredPrograms { dir, program: "postgres", problem })
                }
            },
            (Err(source), (found, None)) => {
                Err(EmbeddedError::Download { found, from: self.downloads.url.clone(), source })
            }
            (Err(source), (found, Some(major))) => Err(EmbeddedError::OtherMajor {
                data: data.to_owned(),
                major,
                found,
                source: Some(source),
            }),
        }
    }

    /// Finds the programs for `data` on this machine.
    pub(super) async fn find(
        &self,
        data: &Path,
        major: Option<u32>,
    ) -> Result<Installation, EmbeddedError> {
        if let Some(major) = major.filter(|major| *major < MIN_MAJOR) {
            return Err(EmbeddedError::DataTooOld { data: data.to_owned(), major });
        }
        let candidates = match &self.configured {
            Some(dir) => vec![configured(dir).await?],
            None => self.candidates().await,
        };
        choose(&candidates, major).cloned().ok_or_else(|| {
            let found = FoundVersions(
                candidates.into_iter().map(|programs| (programs.version, programs.dir)).collect(),
            );
            match (major, &self.configured) {
                (Some(major), _) => {
                    EmbeddedError::OtherMajor { data: data.to_owned(), major, found, source: None }
                }
                (_, Some(dir)) => EmbeddedError::ConfiguredPrograms {
                    dir: dir.clone(),
                    program: "postgres",
                    problem: format!("is too old{found}: Muster needs {MIN_MAJOR} or newer"),
                },
                (_, None) => EmbeddedError::NoPrograms { found },
            }
        })
    }

    async fn candidates(&self) -> Vec<Installation> {
        let mut seen: Vec<PathBuf> = Vec::new();
        let mut candidates = Vec::new();
        for dir in self.installed.iter().cloned().chain(self.downloads.installed()) {
            // Links in PATH often lead to one installation by several paths.
            let Ok(resolved) = fs::canonicalize(dir.join("postgres")) else {
                continue;
            };
            if seen.contains(&resolved) {
                continue;
            }
            let dir = match resolved.parent() {
                Some(home) if home.join("initdb").is_file() => home.to_owned(),
                _ if dir.join("initdb").is_file() => dir,
                _ => continue,
            };
            match version(&dir).await {
                Ok(version) => candidates.push(Installation { dir, version }),
                Err(problem) => {
                    tracing::warn!(dir = %dir.display(), problem, "ignoring an unusable PostgreSQL installation");
                }
            }
            seen.push(resolved);
        }
        candidates
    }
}

async fn configured(dir: &Path) -> Result<Installation, EmbeddedError> {
    let error = |program, problem| EmbeddedError::ConfiguredPrograms {
        dir: dir.to_owned(),
        program,
        problem,
    };
    for program in ["postgres", "initdb"] {
        if !dir.join(program).is_file() {
            return Err(error(program, "is not there".to_owned()));
        }
    }
    // The path must be absolute, because PostgreSQL runs in another working directory.
    let dir = std::path::absolute(dir).map_err(EmbeddedError::file("look at", dir))?;
    match version(&dir).await {
        Ok(version) => Ok(Installation { dir, version }),
        Err(problem) => Err(error("postgres", problem)),
    }
}

/// The newest version that fits. Among equal versions, the first one, which is the earliest in
/// PATH.
fn choose(candidates: &[Installation], major: Option<u32>) -> Option<&Installation> {
    candidates
        .iter()
        .filter(|programs| programs.version.major >= MIN_MAJOR)
        .filter(|programs| major.is_none_or(|major| programs.version.major == major))
        .rev()
        .max_by_key(|programs| programs.version)
}

async fn version(dir: &Path) -> Result<PostgresVersion, String> {
    let mut command = Command::new(dir.join("postgres"));
    command.current_dir("/").stdin(Stdio::null());
    environment::set_for_program(&mut command);
    let run = tokio::process::Command::from(command).arg("--version").kill_on_drop(true).output();
    match tokio::time::timeout(Duration::from_secs(10), run).await {
        Err(_) => Err("did not print its version within 10 s".to_owned()),
        Ok(Err(error)) => Err(format!("could not be run: {error}")),
        Ok(Ok(output)) if !output.status.success() => Err(format!(
            "failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout)
            .parse()
            .map_err(|error: InvalidVersion| error.to_string()),
    }
}

/// `parent/prefix*/child`.
fn glob(parent: &str, prefix: &str, child: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(child))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(dir: &str, major: u32, minor: u32) -> Installation {
        Installation { dir: dir.into(), version: PostgresVersion { major, minor } }
    }

    #[test]
    fn newest_version_is_chosen_unless_the_data_need_another() {
        let all = [
            programs("/a", 15, 3),
            programs("/b", 17, 1),
            programs("/c", 17, 1),
            programs("/d", 14, 9),
        ];
        let chosen = |major| choose(&all, major).map(|programs| programs.dir.to_str().unwrap());
        assert_eq!(chosen(None), Some("/b"));
        assert_eq!(chosen(Some(15)), Some("/a"));
        assert_eq!(chosen(Some(14)), None);
        assert_eq!(chosen(Some(16)), None);
    }

    #[tokio::test]
    async fn missing_programs_error_names_the_remedies() {
        let empty = tempfile::tempdir().unwrap();
        let mut paths = SearchPaths {
            configured: None,
            installed: vec![empty.path().to_owned()],
            downloads: DownloadSource {
                url: "https://nowhere.invalid/".to_owned(),
                cache: Some(empty.path().join("cache")),
            },
            download: false,
        };
        let data = empty.path().join("postgres");
        let error = paths.find_or_download(&data, Some(17)).await.unwrap_err().to_string();
        assert!(error.contains("made by PostgreSQL 17, but found no PostgreSQL"), "{error}");
        let not_permitted = paths.find_or_download(&data, None).await.unwrap_err();
        paths.download = true;
        let failed = paths.find_or_download(&data, None).await.unwrap_err();
        assert!(matches!(failed, EmbeddedError::Download { .. }), "{failed:?}");
        assert!(failed.to_string().contains("https://nowhere.invalid/"), "{failed}");
        for error in [not_permitted, failed] {
            for remedy in ["package manager", "database.postgres_dir", "database.url"] {
                assert!(error.to_string().contains(remedy), "{error}");
            }
        }
        assert_eq!(paths.downloads.installed(), Vec::<PathBuf>::new());
    }
}
