//! The releases of PostgreSQL that may be downloaded, each with the SHA-256 of its archive.
//!
//! The sums stand here, so a changed archive is refused even if its source states its sum. A new
//! release is added together with its sums, which the project of the archives publishes in files
//! named `….tar.gz.sha256`.

use sha2::{Digest as _, Sha256};

/// An archive of one version for one kind of machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PinnedRelease {
    /// The version of the archive, such as 17.8.0 for PostgreSQL 17.8.
    pub(super) version: &'static str,
    target: &'static str,
    /// In hexadecimal digits.
    pub(super) sha256: &'static str,
}

const LINUX_ARM: &str = "aarch64-unknown-linux-gnu";
const LINUX_X86: &str = "x86_64-unknown-linux-gnu";
const MACOS_ARM: &str = "aarch64-apple-darwin";
const MACOS_X86: &str = "x86_64-apple-darwin";

const fn release(
    version: &'static str,
    target: &'static str,
    sha256: &'static str,
) -> PinnedRelease {
    PinnedRelease { version, target, sha256 }
}

/// One version of each major version.
#[rustfmt::skip]
const RELEASES: [PinnedRelease; 16] = [
    release("18.4.0", LINUX_X86, "65c06cf318b9a57525d842d658d6d18cd461d12b3a89b57d6d8ed7cccbe2db53"),
    release("18.4.0", LINUX_ARM, "569984d426365c6ca3c197d2b3a999b73161ff1f3abc963824a8c3624620e5dd"),
    release("18.4.0", MACOS_X86, "cbc38067a795d10bbddc730e61c835df0b351c36a7bd2544d388790fcf50aa4d"),
    release("18.4.0", MACOS_ARM, "1b68828f524b638a24918e258b173d0f16773547a0d3b83d9ba74473b61649f2"),
    release("17.8.0", LINUX_X86, "0f02c6c89f087287865b12f105fb7ce5dfc4f9de454ffc8a16948fa3e308f64a"),
    release("17.8.0", LINUX_ARM, "37cc8e56dfc244dcd0b4d2de120f94bcec48a91fd3dc7a5f9f53237d08d95879"),
    release("17.8.0", MACOS_X86, "9a4c719e04e5fd46ccb09597ee39287a80996d11e729043f6737368233bf7f8a"),
    release("17.8.0", MACOS_ARM, "71efefa8a348084b9c34ba79fe7d44c41d496fdb6f8baa5033bf403a4d7c3d46"),
    release("16.10.0", LINUX_X86, "b69af2beeb7cada0c9bde5a77c029483e9b145dd711c1a934546cc31ad70b11b"),
    release("16.10.0", LINUX_ARM, "d290c7d7351057dea3c8e2e7da3b343c7ac47ba6326e8234892a1b9b0c5d2b74"),
    release("16.10.0", MACOS_X86, "f894867716f98df9f07bd8df4da82be1d1f33920231c7b4cdb985f71cfc62693"),
    release("16.10.0", MACOS_ARM, "8a21a0affdbd0056eb09bf2600769cf91450706ccafe5a86817fabc1b05c9087"),
    release("15.14.0", LINUX_X86, "6295568565f191b8606052c3c6c66b885927a046070eb0e21bd1630f11cadcbf"),
    release("15.14.0", LINUX_ARM, "5a9ac04e09d8f861852cb5ff9a7fdc82591af2a24711b66224b050587fff3b0a"),
    release("15.14.0", MACOS_X86, "a8dd96945f1a3f4ecd38963316d9b38d1639ba9d1eb57eed663d625b8964175a"),
    release("15.14.0", MACOS_ARM, "17bdbfaa1e52d78f03da7b6b21b473e9b78017cca0f59aed8a581b1ac86a43ed"),
];

/// The release of a major version for `target`, a target triple.
pub(super) fn find(major: u32, target: &str) -> Option<PinnedRelease> {
    RELEASES.into_iter().find(|release| release.major() == Some(major) && release.target == target)
}

impl PinnedRelease {
    fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }

    /// Compares an archive with the pinned sum. `Err` has the sum of the archive.
    pub(super) fn verify(&self, archive: &[u8]) -> Result<(), String> {
        let digest = Sha256::digest(archive);
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if found == self.sha256 { Ok(()) } else { Err(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::embedded::version::MIN_MAJOR;

    #[test]
    fn each_release_is_pinned_once_for_each_target() {
        for target in [LINUX_X86, LINUX_ARM, MACOS_X86, MACOS_ARM] {
            for major in MIN_MAJOR..=18 {
                let pinned = find(major, target).unwrap();
                assert_eq!(pinned.sha256.len(), 64, "{pinned:?}");
                assert!(pinned.sha256.bytes().all(|digit| digit.is_ascii_hexdigit()));
                let same = RELEASES.iter().filter(|other| other.sha256 == pinned.sha256);
                assert_eq!(same.count(), 1, "{pinned:?}");
            }
        }
        assert_eq!(find(14, LINUX_X86), None);
        assert_eq!(find(17, "x86_64-unknown-linux-musl"), None);
    }

    #[test]
    fn changed_archive_is_refused() {
        let empty = release(
            "17.0.0",
            LINUX_X86,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        assert_eq!(empty.verify(b""), Ok(()));
        let found = empty.verify(b"x").unwrap_err();
        assert_eq!(found, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
    }
}
