//! The file of master keys, one per line, readable by its owner only.
//!
//! The file is always complete: a new version is written to the disk under a temporary name and
//! then renamed. Creating a file never overwrites an existing one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::error::KeyringError;
use crate::config::KeyText;
use crate::wire::MasterKey;

const HEADER: &str = "\
# Muster's master keys. The first one seals, all of them open. Keep them apart from the backups of
# the database, and do not lose them: without them the database opens nothing.
";

/// The keys of a file that must exist.
pub(super) fn read(path: &Path) -> Result<Vec<MasterKey>, KeyringError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let text = Zeroizing::new(text);
    let lines = text.lines().map(str::trim).enumerate();
    let keys: Vec<MasterKey> = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let key = KeyText::parse(line).ok_or_else(|| KeyringError::Malformed {
                path: path.to_owned(),
                line: number + 1,
                expected: KeyText::EXPECTED,
            })?;
            Ok(MasterKey::new(*key.bytes()))
        })
        .collect::<Result<_, KeyringError>>()?;
    if keys.is_empty() {
        return Err(KeyringError::Empty { path: path.to_owned() });
    }
    Ok(keys)
}

/// The keys of a file that may be missing.
pub(super) fn read_if_exists(path: &Path) -> Result<Option<Vec<MasterKey>>, KeyringError> {
    match read(path) {
        Err(KeyringError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// Creates a file. An existing file is not changed.
pub(super) fn create(path: &Path, key: &MasterKey) -> Result<(), KeyringError> {
    let temp = temp_path(path);
    let created = write_new(&temp, std::slice::from_ref(key), None).and_then(|()| {
        // Unlike a rename, this fails if the name exists.
        match fs::hard_link(&temp, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.and_then(|()| sync_directory(path)),
        }
    });
    let _ = fs::remove_file(&temp);
    created.map_err(io_error("make", path))
}

/// Replaces a file, and keeps its owner and mode.
pub(super) fn replace(path: &Path, keys: &[MasterKey]) -> Result<(), KeyringError> {
    let replaced = (|| {
        // The path is resolved, so that a symbolic link stays one.
        let path = fs::canonicalize(path)?;
        let old = fs::metadata(&path)?;
        let temp = temp_path(&path);
        let result = write_new(&temp, keys, Some(&old))
            .and_then(|()| fs::rename(&temp, &path))
            .and_then(|()| sync_directory(&path));
        if result.is_err() {
            let _ = fs::remove_file(&temp);
        }
        result
    })();
    replaced.map_err(io_error("write", path))
}

/// The mode of a file, or `None` if it cannot be read.
pub(super) fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777)
}

/// A unique name in the same directory.
fn temp_path(path: &Path) -> PathBuf {
    path.with_added_extension(format!("{:016x}.new", rand::random::<u64>()))
}

fn write_new(path: &Path, keys: &[MasterKey], metadata: Option<&fs::Metadata>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(metadata) = metadata {
        fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        file.set_permissions(metadata.permissions())?;
    }
    let mut text = Zeroizing::new(String::with_capacity(HEADER.len() + 45 * keys.len()));
    text.push_str(HEADER);
    for key in keys {
        STANDARD.encode_string(key.bytes(), &mut text);
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyringError {
    let path = path.to_owned();
    move |source| KeyringError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_file_is_created_once_and_read_back() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("master.key");
        let keys = [MasterKey::generate(), MasterKey::generate()];
        assert_eq!(read_if_exists(&path).unwrap(), None);
        create(&path, &keys[0]).unwrap();
        assert_eq!(mode(&path), Some(0o600));
        create(&path, &keys[1]).unwrap();
        assert_eq!(read(&path).unwrap(), keys[..1], "never overwritten");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, &keys).unwrap();
        assert_eq!(read(&path).unwrap(), keys);
        assert_eq!(mode(&path), Some(0o640));
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing lies beside it");
    }

    #[test]
    fn malformed_key_error_names_the_line_only() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys");
        fs::write(&path, "# one\n\nSesame\n").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(message.contains("keys, line 3: expected 32 bytes"), "{message}");
        assert!(!message.contains("Sesame"), "{message}");
        fs::write(&path, "# none\n").unwrap();
        assert!(matches!(read(&path), Err(KeyringError::Empty { .. })));
        assert!(matches!(read_if_exists(home.path()), Err(KeyringError::File { .. })));
        fs::write(&path, format!("  {}\r\n", "0f".repeat(32))).unwrap();
        assert_eq!(read(&path).unwrap(), [MasterKey::new([0x0f; 32])]);
    }
}
