//! `backup.json`: what a backup is, and the sign that it is whole.
//!
//! It is written last and appears at once under its name, so a backup that was interrupted has none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::content::DatabaseContents;
use super::error::DumpError;

/// The name of the dump in a backup.
pub(super) const DUMP: &str = "dump";
/// The name of the master key in a backup, if it is there.
pub(super) const KEY: &str = "master.key";
const MANIFEST: &str = "backup.json";
/// The only form that there is so far.
pub(super) const FORMAT: u32 = 1;

/// What `backup.json` says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The form of the backup: 1.
    pub format: u32,
    /// The version of the Muster that made it.
    pub muster: String,
    /// The major version of the PostgreSQL that it was made of.
    pub postgres: u32,
    /// The major version of the `pg_dump` that wrote it; an older `pg_restore` cannot read it.
    pub pg_dump: u32,
    /// When it was made: all of it shows the database at one moment shortly after this.
    pub at: DateTime<Utc>,
    /// The numbers of the migrations that the database had.
    pub migrations: Vec<i64>,
    /// The id of the master key that seals; nothing if the database was not sealed yet.
    pub master_key: Option<String>,
    /// Whether that key lies in the backup.
    pub master_key_included: bool,
    /// The file with all data.
    pub dump: DumpFile,
    /// What each table held.
    pub tables: DatabaseContents,
}

/// The file with all data, in the custom format of `pg_dump`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DumpFile {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

/// A backup that was found whole.
#[derive(Clone, Debug)]
pub struct Backup {
    dir: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Manifest {
    /// How many rows a table had.
    #[must_use]
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |table| table.rows)
    }

    /// Writes it into a backup, which is whole from then on.
    pub(super) fn write(&self, dir: &Path) -> Result<(), DumpError> {
        let (path, new) = (dir.join(MANIFEST), dir.join("backup.json.new"));
        let written = || -> io::Result<()> {
            let mut file = new_file(&new)?;
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(dir)?.sync_all()
        };
        written().map_err(DumpError::file("write", path))
    }
}

impl Backup {
    /// Opens a backup and reads all of its dump, which must be as it was written.
    ///
    /// # Errors
    /// [`DumpError::Incomplete`], [`DumpError::Malformed`], [`DumpError::Damaged`], or when the files
    /// cannot be read.
    pub fn open(dir: &Path) -> Result<Self, DumpError> {
        let path = dir.join(MANIFEST);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DumpError::Incomplete(dir.to_owned()));
            }
            text => text.map_err(DumpError::file("read", &path))?,
        };
        let malformed = |problem| DumpError::Malformed { path: path.clone(), problem };
        let probe: FormatProbe =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if probe.format != FORMAT {
            return Err(malformed(format!(
                "it has format {}, and this program knows {FORMAT}",
                probe.format
            )));
        }
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        let backup = Self { dir: dir.to_owned(), manifest };
        backup.verify()?;
        Ok(backup)
    }

    /// The file with all data.
    pub(super) fn dump(&self) -> PathBuf {
        self.dir.join(DUMP)
    }

    /// The file of the master key, if it lies in the backup.
    #[must_use]
    pub fn key(&self) -> Option<PathBuf> {
        self.manifest.master_key_included.then(|| self.dir.join(KEY))
    }

    fn verify(&self) -> Result<(), DumpError> {
        let path = self.dump();
        let read = || -> io::Result<DumpFile> {
            let mut file = File::open(&path)?;
            let mut checksum = Checksum::default();
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(checksum.finish()),
                    length => checksum.add(&buffer[..length]),
                }
            }
        };
        let found = read().map_err(DumpError::file("read", &path))?;
        let expected = &self.manifest.dump;
        let problem = if found.bytes != expected.bytes {
            format!("it has {} bytes instead of {}", found.bytes, expected.bytes)
        } else if found.sha256 != expected.sha256 {
            "its SHA-256 is not the one in backup.json".to_owned()
        } else {
            return Ok(());
        };
        Err(DumpError::Damaged { path, problem })
    }
}

/// What tells which fields there are.
#[derive(Deserialize)]
struct FormatProbe {
    format: u32,
}

/// A size and a SHA-256 in the making.
#[derive(Default)]
pub(super) struct Checksum {
    bytes: u64,
    sha256: Sha256,
}

impl Checksum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    pub(super) fn finish(self) -> DumpFile {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        DumpFile { bytes: self.bytes, sha256 }
    }
}

/// A new file for its owner's eyes only.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
