//! Tests every promise of the archive's seam on a directory, and the promises that only a directory makes.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use infera_archive::local::LocalArchive;
use infera_archive::{Archive, ArchiveError, ArchiveReader as _};

/// An archive in a temporary folder, which is removed with it.
struct Temporary {
    archive: Arc<dyn Archive>,
    _folder: tempfile::TempDir,
}

impl Deref for Temporary {
    type Target = dyn Archive;

    fn deref(&self) -> &Self::Target {
        &*self.archive
    }
}

async fn temporary() -> Temporary {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = LocalArchive::open(folder.path().join("archive")).expect("an archive");
    Temporary { archive, _folder: folder }
}

infera_conformance::archive_conformance!(temporary());

#[tokio::test]
async fn what_a_crash_left_is_removed_and_objects_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = LocalArchive::open(folder.path()).expect("an archive");
    archive.put("jobs/2026/object", Bytes::from_static(b"kept")).await.expect("put");
    drop(archive);
    // Files as an interrupted put leaves them.
    let leftovers = [
        folder.path().join(".writing-0a"),
        folder.path().join("jobs/2026/.writing-0b"),
        folder.path().join("jobs/.writing-"),
    ];
    for leftover in &leftovers {
        fs::write(leftover, "half an obj").expect("a leftover");
    }
    let archive = LocalArchive::open(folder.path()).expect("an archive");
    for leftover in &leftovers {
        assert!(!leftover.exists(), "{leftover:?}");
    }
    let bytes = archive.get("jobs/2026/object", 0..4).await.expect("get");
    assert_eq!(bytes, b"kept".as_slice());
}

/// The permissions are tightened whatever an earlier version or a person made of the folder.
#[tokio::test]
async fn the_archive_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("archive");
    let paths = ["", "jobs", "jobs/2026", "jobs/2026/object"].map(|path| folder.join(path));
    let modes =
        || paths.each_ref().map(|path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777);
    let archive = LocalArchive::open(&folder).expect("an archive");
    archive.put("jobs/2026/object", Bytes::from_static(b"kept")).await.expect("put");
    assert_eq!(modes(), [0o700, 0o700, 0o700, 0o600]);
    for path in &paths {
        let open = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(open)).expect("ours");
    }
    LocalArchive::open(&folder).expect("an archive");
    assert_eq!(modes(), [0o700, 0o700, 0o700, 0o600]);
}

#[tokio::test]
async fn a_put_leaves_nothing_but_its_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let archive = LocalArchive::open(folder.path()).expect("an archive");
    archive.put("a/object", Bytes::from_static(b"1")).await.expect("put");
    archive.put("a/object", Bytes::from_static(b"2")).await.expect("put again");
    // An object's key cannot be a folder for another object; the failed put leaves nothing behind either.
    let failed = archive.put("a/object/below", Bytes::from_static(b"3")).await;
    assert!(matches!(failed, Err(ArchiveError::Unavailable(_))), "{failed:?}");
    fs::create_dir(folder.path().join("a/taken")).expect("a folder");
    let failed = archive.put("a/taken", Bytes::from_static(b"4")).await;
    assert!(matches!(failed, Err(ArchiveError::Unavailable(_))), "{failed:?}");
    let mut names: Vec<_> = fs::read_dir(folder.path().join("a"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["object", "taken"]);
}

#[test]
fn a_folder_that_cannot_be_made_is_said_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "not a folder").expect("a file");
    assert!(matches!(LocalArchive::open(&file), Err(ArchiveError::Unavailable(_))));
}
