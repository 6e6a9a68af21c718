//! `backup.json`: describes a backup, and marks it as complete.
//!
//! The file is written last and appears at once under its final name, so an interrupted backup has
//! no such file. It is signed with a key that is derived from the master key: only a holder of the
//! master key can make a backup that a restore accepts without a question.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::content::DatabaseContents;
use super::error::DumpError;
use super::regular_file;
use crate::wire::{BackupKey, MasterKey};

/// The name of the dump in a backup.
pub(super) const DUMP: &str = "dump";
/// The name of the master key in a backup, if the key is included.
pub(super) const KEY: &str = "master.key";
const MANIFEST: &str = "backup.json";
/// The present format. Format 1 had no signature, and its dump had definitions besides rows.
pub(super) const FORMAT: u32 = 2;
/// The first format that has signatures.
const FIRST_SIGNED_FORMAT: u32 = 2;
/// The maximum size of the file, and of the file of the master key, in bytes. It has about 3 KiB.
const MAX_BYTES: u64 = 1 << 20;

/// The contents of `backup.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The format of the backup: 1 or 2.
    pub format: u32,
    /// The version of the Muster that created the backup.
    pub muster: String,
    /// The major version of the PostgreSQL server.
    pub postgres: u32,
    /// The major version of the `pg_dump` that wrote the dump; an older `pg_restore` cannot read
    /// it.
    pub pg_dump: u32,
    /// The time when the backup began. Its data are those of one moment shortly after this time.
    pub at: DateTime<Utc>,
    /// The numbers of the migrations that the database had.
    pub migrations: Vec<i64>,
    /// The id of the master key that seals the secrets, or `None` if they were not sealed yet.
    pub master_key: Option<String>,
    /// Whether this key is included in the backup.
    pub master_key_included: bool,
    /// The file with all data.
    pub dump: DumpFile,
    /// The summary of each table.
    pub tables: DatabaseContents,
    /// The signature of all other fields by [`BackupKey`], or `None` if the master key was not
    /// available to the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac: Option<String>,
}

/// The file with all data, in the custom format of `pg_dump`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DumpFile {
    /// The size of the file.
    pub bytes: u64,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
}

/// A complete backup.
#[derive(Clone, Debug)]
pub struct Backup {
    dir: PathBuf,
    /// The contents of its `backup.json`.
    pub manifest: Manifest,
}

impl Manifest {
    /// The number of rows of a table.
    #[must_use]
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |table| table.rows)
    }

    /// Signs the manifest with a key that is derived from the master key.
    pub(super) fn sign(&mut self, key: &MasterKey) -> Result<(), DumpError> {
        let text = self.signed_text().map_err(DumpError::file("sign", MANIFEST))?;
        self.hmac = Some(BackupKey::derive(key).sign(&text));
        Ok(())
    }

    /// The text that the signature covers: all other fields, in a fixed order and without spaces.
    fn signed_text(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(&Self { hmac: None, ..self.clone() })?)
    }

    /// Writes the manifest into a backup, which is then complete.
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
    /// Reads the manifest of a backup. Nothing in it can be trusted yet.
    ///
    /// # Errors
    /// [`DumpError::Incomplete`], [`DumpError::Malformed`], or when the file cannot be read.
    pub fn open(dir: &Path) -> Result<Self, DumpError> {
        let path = dir.join(MANIFEST);
        let mut text = Vec::new();
        match regular_file::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text))
        {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(DumpError::Incomplete(dir.to_owned()));
            }
            read => read.map_err(DumpError::file("read", &path))?,
        };
        let malformed = |problem| DumpError::Malformed { path: path.clone(), problem };
        let probe: FormatProbe =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        if !(1..=FORMAT).contains(&probe.format) {
            return Err(malformed(format!(
                "it has format {}, and this program knows 1 to {FORMAT}",
                probe.format
            )));
        }
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// Checks the signature of the manifest with the master key that it names. `false` if the
    /// manifest has no signature.
    ///
    /// # Errors
    /// [`DumpError::Forged`].
    pub fn authenticate(&self, key: &MasterKey) -> Result<bool, DumpError> {
        let path = self.dir.join(MANIFEST);
        if self.manifest.format < FIRST_SIGNED_FORMAT {
            return Ok(false);
        }
        let Some(signature) = &self.manifest.hmac else { return Ok(false) };
        let text = self.manifest.signed_text().map_err(DumpError::file("read", &path))?;
        match BackupKey::derive(key).has_signed(&text, signature) {
            true => Ok(true),
            false => Err(DumpError::Forged { path, key: key.id() }),
        }
    }

    /// The file with all data.
    pub(super) fn dump(&self) -> PathBuf {
        self.dir.join(DUMP)
    }

    /// The file of the master key, if the key is included.
    #[must_use]
    pub fn key(&self) -> Option<PathBuf> {
        self.manifest.master_key_included.then(|| self.dir.join(KEY))
    }

    /// Checks that the file of an included master key can be read: that it is a regular and short file.
    ///
    /// # Errors
    /// [`DumpError::Malformed`], or when the file cannot be opened.
    pub fn check_key(&self) -> Result<(), DumpError> {
        let Some(path) = self.key() else { return Ok(()) };
        let length = regular_file::open(&path)
            .and_then(|file| Ok(file.metadata()?.len()))
            .map_err(DumpError::file("open", &path))?;
        match length <= MAX_BYTES {
            true => Ok(()),
            false => {
                let problem = format!("it has {length} bytes, and at most {MAX_BYTES} are allowed");
                Err(DumpError::Malformed { path, problem })
            }
        }
    }

    /// Reads the whole dump and compares it with the manifest.
    ///
    /// # Errors
    /// [`DumpError::Damaged`], or when the file cannot be read.
    pub fn verify(&self) -> Result<(), DumpError> {
        let path = self.dump();
        let file = regular_file::open(&path).map_err(DumpError::file("open", &path))?;
        let expected = &self.manifest.dump;
        let check_length = |bytes| match bytes == expected.bytes {
            true => Ok(()),
            false => {
                let problem = format!("it has {bytes} bytes instead of {}", expected.bytes);
                Err(DumpError::damaged(&path, problem))
            }
        };
        // A file of another length need not be read.
        check_length(file.metadata().map_err(DumpError::file("read", &path))?.len())?;
        // The file may grow meanwhile.
        let mut file = file.take(expected.bytes.saturating_add(1));
        let mut read = || -> io::Result<DumpFile> {
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
        check_length(found.bytes)?;
        if found.sha256 != expected.sha256 {
            let problem = "its SHA-256 is not the one in backup.json".to_owned();
            return Err(DumpError::damaged(&path, problem));
        }
        Ok(())
    }
}

/// Reads only the format, on which the other fields depend.
#[derive(Deserialize)]
struct FormatProbe {
    format: u32,
}

/// Computes a size and a SHA-256.
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

/// Creates a file with access for its owner only.
pub(super) fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
