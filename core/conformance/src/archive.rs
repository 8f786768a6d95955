//! Checks what every [`Archive`] promises, one promise at a time, on keys that nothing else uses.
//!
//! An implementation runs all checks with [`archive_conformance!`](crate::archive_conformance). Whether objects
//! survive the machine's end cannot be checked from within; each implementation documents how it ensures that.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use infera_archive::{Archive, ArchiveError};

/// How long one call may take; a remote store may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes one test per promise. The argument is an expression, awaited once a test, whose value dereferences to `dyn
/// Archive` (such as `Arc<dyn Archive>`).
#[macro_export]
macro_rules! archive_conformance {
    ($make:expr) => {
        $crate::archive_conformance!(@each $make;
            an_object_is_read_whole_and_in_ranges
            an_object_of_many_parts_is_whole
            an_empty_object_is_an_object
            putting_again_replaces
            what_was_removed_is_gone
            what_is_not_there_is_said_so
            a_range_beyond_the_object_is_refused
            keys_that_are_not_ours_are_refused
            objects_do_not_mix
            readers_see_whole_objects_only
        );
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::archive::$check(&*$make.await).await;
            }
        )*
    };
}

fn key() -> String {
    format!("conformance/{}/object.bin", Uuid::new_v4().as_simple())
}

async fn put(archive: &dyn Archive, key: &str, bytes: impl Into<Bytes>) {
    let outcome = timeout(PATIENCE, archive.put(key, bytes.into())).await;
    assert!(matches!(outcome, Ok(Ok(()))), "putting {key}: {outcome:?}");
}

/// Returns the bytes of a range that must exist.
#[expect(clippy::panic, reason = "a check fails by panicking")]
async fn get(archive: &dyn Archive, key: &str, range: std::ops::Range<u64>) -> Bytes {
    match timeout(PATIENCE, archive.get(key, range.clone())).await {
        Ok(Ok(bytes)) => bytes,
        outcome => panic!("getting {range:?} of {key}: {outcome:?}"),
    }
}

async fn expect_size(archive: &dyn Archive, key: &str, wanted: Option<u64>) {
    let size = timeout(PATIENCE, archive.size(key)).await;
    assert!(matches!(size, Ok(Ok(size)) if size == wanted), "size of {key} is {size:?}, not {wanted:?}");
}

/// An object that was put can be read, as a whole and in parts.
pub async fn an_object_is_read_whole_and_in_ranges(archive: &dyn Archive) {
    let (key, bytes) = (key(), b"0123456789".as_slice());
    put(archive, &key, bytes).await;
    expect_size(archive, &key, Some(10)).await;
    for range in [0..10usize, 0..1, 9..10, 3..7] {
        let got = get(archive, &key, range.start as u64..range.end as u64).await;
        assert_eq!(got, bytes[range.clone()], "{range:?}");
    }
}

/// A large object comes back as it was.
pub async fn an_object_of_many_parts_is_whole(archive: &dyn Archive) {
    const LENGTH: usize = 9 * 1024 * 1024 + 13;
    let bytes: Vec<u8> = (0..LENGTH).map(|index| (index % 251) as u8).collect();
    let key = key();
    put(archive, &key, bytes.clone()).await;
    expect_size(archive, &key, Some(LENGTH as u64)).await;
    assert!(get(archive, &key, 0..LENGTH as u64).await == bytes, "the object differs");
    let middle = LENGTH / 2..LENGTH / 2 + 1000;
    assert_eq!(get(archive, &key, middle.start as u64..middle.end as u64).await, bytes[middle]);
}

/// An object may be empty.
pub async fn an_empty_object_is_an_object(archive: &dyn Archive) {
    let key = key();
    put(archive, &key, Bytes::new()).await;
    expect_size(archive, &key, Some(0)).await;
    assert_eq!(get(archive, &key, 0..0).await, Bytes::new());
}

/// The last object put under a key replaces the earlier one, be it longer or shorter.
pub async fn putting_again_replaces(archive: &dyn Archive) {
    let key = key();
    for text in ["first", "the second, longer", "3"] {
        put(archive, &key, text.as_bytes()).await;
        expect_size(archive, &key, Some(text.len() as u64)).await;
        assert_eq!(get(archive, &key, 0..text.len() as u64).await, text.as_bytes());
    }
}

/// A removed object is gone, and its neighbours are not; removing it again is no error, and it can be put again.
pub async fn what_was_removed_is_gone(archive: &dyn Archive) {
    let (key, neighbour) = (key(), key());
    let beside = format!("{}.more", key);
    for key in [&key, &neighbour, &beside] {
        put(archive, key, "text").await;
    }
    for _ in 0..2 {
        let removed = timeout(PATIENCE, archive.remove(&key)).await;
        assert!(matches!(removed, Ok(Ok(()))), "removing {key}: {removed:?}");
        expect_size(archive, &key, None).await;
        assert!(matches!(archive.get(&key, 0..1).await, Err(ArchiveError::NotFound(_))));
    }
    for kept in [&neighbour, &beside] {
        assert_eq!(get(archive, kept, 0..4).await, "text".as_bytes());
    }
    put(archive, &key, "again").await;
    assert_eq!(get(archive, &key, 0..5).await, "again".as_bytes());
}

/// A missing object is `NotFound` and has no size.
pub async fn what_is_not_there_is_said_so(archive: &dyn Archive) {
    let key = key();
    expect_size(archive, &key, None).await;
    let outcome = archive.get(&key, 0..1).await;
    assert!(matches!(&outcome, Err(ArchiveError::NotFound(missing)) if *missing == key), "{outcome:?}");
    // A key that begins with the same text changes nothing, and a prefix of a key is no object.
    put(archive, &format!("{key}.more"), "more").await;
    expect_size(archive, &key, None).await;
    let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
    expect_size(archive, folder, None).await;
}

/// A range that the object doesn't have is an error, never a short read.
#[expect(clippy::reversed_empty_ranges, reason = "a wrong range is the point")]
pub async fn a_range_beyond_the_object_is_refused(archive: &dyn Archive) {
    let key = key();
    put(archive, &key, "0123456789").await;
    for range in [0..11, 9..11, 10..11, 11..12, 5..u64::MAX, 7..3] {
        let outcome = archive.get(&key, range.clone()).await;
        assert!(matches!(outcome, Err(ArchiveError::OutOfRange { .. })), "{range:?}: {outcome:?}");
    }
}

/// Only relative paths of plain words are keys.
pub async fn keys_that_are_not_ours_are_refused(archive: &dyn Archive) {
    for key in
        ["", "/etc/passwd", "../escape", "a/../../b", "a//b", "a/", "UPPER", "a b", "a\\b", "a/./b", "\u{e9}"]
    {
        let put = archive.put(key, Bytes::from_static(b"no")).await;
        assert!(matches!(put, Err(ArchiveError::InvalidKey(_))), "putting {key:?}: {put:?}");
        let got = archive.get(key, 0..1).await;
        assert!(matches!(got, Err(ArchiveError::InvalidKey(_))), "getting {key:?}: {got:?}");
        let size = archive.size(key).await;
        assert!(matches!(size, Err(ArchiveError::InvalidKey(_))), "size of {key:?}: {size:?}");
        let removed = archive.remove(key).await;
        assert!(matches!(removed, Err(ArchiveError::InvalidKey(_))), "removing {key:?}: {removed:?}");
    }
}

/// Objects that are put at the same time, in one folder and in new ones, all exist with their own content.
pub async fn objects_do_not_mix(archive: &dyn Archive) {
    let root = Uuid::new_v4().as_simple().to_string();
    let keys: [String; 8] = std::array::from_fn(|index| format!("conformance/{root}/{}/{index}", index % 3));
    let [a, b, c, d, e, f, g, h] = keys.each_ref().map(|key| put(archive, key, key.clone()));
    tokio::join!(a, b, c, d, e, f, g, h);
    for key in &keys {
        assert_eq!(get(archive, key, 0..key.len() as u64).await, key.as_bytes());
    }
}

/// While an object is replaced again and again, every reader sees one whole version of it.
pub async fn readers_see_whole_objects_only(archive: &dyn Archive) {
    const LENGTH: usize = 64 * 1024;
    const ROUNDS: u8 = 25;
    let key = key();
    put(archive, &key, vec![0; LENGTH]).await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let writing = async {
        for round in 1..=ROUNDS {
            put(archive, &key, vec![round; LENGTH]).await;
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    };
    let reading = async {
        let mut seen = 0;
        let until = Instant::now() + PATIENCE;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            assert!(Instant::now() < until, "the writer is stuck");
            let bytes = get(archive, &key, 0..LENGTH as u64).await;
            assert_eq!(bytes.len(), LENGTH);
            let first = bytes[0];
            assert!(bytes.iter().all(|byte| *byte == first), "parts of two objects");
            assert!(first >= seen, "an old object came back: {first} after {seen}");
            seen = first;
        }
    };
    tokio::join!(writing, reading);
    let last = get(archive, &key, 0..LENGTH as u64).await;
    assert_eq!(last[0], ROUNDS);
}
