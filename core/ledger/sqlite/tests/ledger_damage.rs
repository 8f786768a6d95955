//! Tests ledgers whose files were changed from outside: that is reported as damage before anything is written, and a
//! ledger that merely lost its process is never called damaged.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use infera_ledger::{Accepted, JobIntake as _, JobReader as _, LedgerError, Metadata, NewJob, Room, Standby};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::VerificationPolicy;
use infera_types::time::Timestamp;
use tempfile::TempDir;

/// The size of a frame of the log: its header and a page.
const FRAME_BYTES: usize = 24 + 4_096;
const LOG_HEADER_BYTES: usize = 32;

/// The account of all jobs here.
const ACCOUNT: &str = "acctdamage";

fn job(request_bytes: usize) -> NewJob {
    let now = Timestamp::from_millis(1_790_000_000_000);
    NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: AccountId::new(ACCOUNT),
        model: ModelName::new("m"),
        request: vec![b'x'; request_bytes],
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: false,
        accepted_ms: now,
        deadline_ms: now.after(Duration::from_secs(3_600)),
        epoch: 1,
        idempotency: None,
        waiting_max: u32::MAX,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(&AccountId::new(ACCOUNT)),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge: None,
    }
}

/// The place of a ledger and its files.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.folder.path().join(format!("ledger.sqlite{suffix}"))
    }

    fn open(&self) -> Result<std::sync::Arc<SqliteLedger>, LedgerError> {
        SqliteLedger::open(&self.file(""))
    }

    fn read(&self, suffix: &str) -> Vec<u8> {
        fs::read(self.file(suffix)).expect("it is there")
    }

    fn write(&self, suffix: &str, bytes: &[u8]) {
        fs::write(self.file(suffix), bytes).expect("write");
    }

    /// Copies this place's files as they are at this moment, as if the process had ended now.
    fn crashed(&self) -> Self {
        let other = Self::new();
        for suffix in ["", "-wal", ".mark"] {
            fs::copy(self.file(suffix), other.file(suffix)).expect("copy");
        }
        other
    }

    /// Checks that opening reports damage with the file and a remedy, and changes neither file nor log.
    #[track_caller]
    fn is_damaged(&self) -> String {
        let bytes = |suffix| fs::read(self.file(suffix)).ok();
        let before = (bytes(""), bytes("-wal"), bytes(".mark"));
        let text = match self.open() {
            Err(LedgerError::Damaged(text)) => text,
            other => panic!("not told as damaged: {other:?}"),
        };
        assert!(text.contains("ledger.sqlite") && text.contains("backup"), "{text}");
        let after = (bytes(""), bytes("-wal"), bytes(".mark"));
        assert!(before == after, "a file was changed: {text}");
        text
    }
}

async fn accept(ledger: &SqliteLedger, jobs: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        let job = job(1_024);
        ids.push(job.id);
        assert_eq!(ledger.accept(job).await.expect("accept"), Accepted::New { is_held: false });
    }
    ids
}

async fn known(ledger: &SqliteLedger, ids: &[JobId]) -> usize {
    let account = AccountId::new(ACCOUNT);
    let mut known = 0;
    for id in ids {
        known += usize::from(ledger.job(&account, *id).await.expect("read").is_some());
    }
    known
}

/// Makes a ledger that was closed once, went on, and lost its process: 40 jobs in the file, 40 in the log.
async fn with_log() -> (Place, Vec<JobId>) {
    let place = Place::new();
    let mut ids = accept(&place.open().expect("a ledger"), 40).await;
    let ledger = place.open().expect("it opens again");
    ids.extend(accept(&ledger, 40).await);
    let crashed = place.crashed();
    assert!(crashed.read("-wal").len() > 40 * FRAME_BYTES);
    (crashed, ids)
}

#[tokio::test]
async fn a_log_that_was_left_is_taken_up() {
    let (place, ids) = with_log().await;
    // A commit that was incomplete when the power failed was never confirmed, so its loss is no damage.
    let mut log = place.read("-wal");
    let frame = log[LOG_HEADER_BYTES..][..FRAME_BYTES].to_vec();
    log.extend_from_slice(&frame);
    log.extend_from_slice(&frame[..1_000]);
    place.write("-wal", &log);
    let ledger = place.open().expect("it opens");
    assert_eq!(known(&ledger, &ids).await, 80);
}

/// A loss of power may interrupt copying the log into the file after any of its pages, in any order.
#[tokio::test]
async fn a_copy_of_the_log_that_was_cut_off_is_no_damage() {
    let (place, ids) = with_log().await;
    let before = place.read("");
    let copied = place.crashed();
    let connection = rusqlite::Connection::open(copied.file("")).expect("a database");
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("a checkpoint");
    let after = copied.read("");
    assert!(after.len() > before.len());
    for round in 0..16 {
        let choice = JobId::new();
        let chosen = |page: usize| choice.as_bytes()[6 + page % 10].rotate_left(page as u32 / 10) & 1 == 1;
        let mut mixed = before.clone();
        for page in (0..after.len() / 4_096).filter(|page| round > 0 && chosen(*page)) {
            let range = page * 4_096..(page + 1) * 4_096;
            mixed.resize(mixed.len().max(range.end), 0);
            mixed[range.clone()].copy_from_slice(&after[range]);
        }
        let crashed = place.crashed();
        crashed.write("", &mixed);
        let ledger = crashed.open().unwrap_or_else(|error| panic!("{choice}: {error}"));
        assert_eq!(known(&ledger, &ids).await, 80, "{choice}");
    }
}

/// An operator's own connection copies the log while the ledger runs. The log that follows still belongs to the
/// ledger.
#[tokio::test]
async fn a_log_that_somebody_else_copied_is_its_own_still() {
    let place = Place::new();
    let ledger = place.open().expect("a ledger");
    let ids = accept(&ledger, 20).await;
    let other = rusqlite::Connection::open(place.file("")).expect("a database");
    other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("a checkpoint");
    let before = place.read("");
    // These jobs don't grow the file, so its first page is in the log only because of its generation.
    for id in &ids[..3] {
        ledger.confirm(&[*id], Timestamp::from_millis(1)).await.expect("confirm");
    }
    assert!(place.read("") == before, "the log began again");
    let crashed = place.crashed();
    assert_eq!(known(&crashed.open().expect("its own"), &ids).await, 20);
}

#[tokio::test]
async fn a_damaged_file_beside_its_log_is_left_as_it_is() {
    let (place, _) = with_log().await;
    let file = place.read("");
    let pages = file.len() / 4_096;
    let page_of_flips = |page: usize| {
        let mut flipped = file.clone();
        flipped[page * 4_096..][..128].iter_mut().for_each(|byte| *byte ^= 0x5a);
        flipped
    };
    place.write("", &page_of_flips(0));
    place.is_damaged();
    // Pages with a newer version in the log are not read from the file, so not every flipped byte does harm.
    let mut found = 0;
    for page in 1..pages {
        let crashed = place.crashed();
        crashed.write("", &page_of_flips(page));
        let before = (crashed.read(""), crashed.read("-wal"));
        if let Err(error) = crashed.open() {
            assert!(matches!(error, LedgerError::Damaged(_)), "{error}");
            assert!(before == (crashed.read(""), crashed.read("-wal")), "page {page}");
            found += 1;
        }
    }
    assert!(found > 5, "{found} of {pages}");
    place.write("", &file[..file.len() / 2]);
    place.is_damaged();
}

#[tokio::test]
async fn a_log_that_is_gone_cut_or_changed_is_damage() {
    let (place, ids) = with_log().await;
    let log = place.read("-wal");
    fs::remove_file(place.file("-wal")).expect("remove");
    let told = place.is_damaged();
    assert!(told.contains("commits are gone") && told.contains("ledger.sqlite.mark"), "{told}");
    assert!(!place.file("-wal").exists(), "not even an empty one is made");

    let frames = (log.len() - LOG_HEADER_BYTES) / FRAME_BYTES;
    for cut in [0, 10, LOG_HEADER_BYTES, LOG_HEADER_BYTES + FRAME_BYTES, log.len() / 2, log.len() - 1] {
        place.write("-wal", &log[..cut]);
        place.is_damaged();
    }
    for frame in [0, 1, frames / 2, frames - 1] {
        for byte in [4, 12, 20, 24 + 60, 24 + 2_000] {
            let mut flipped = log.clone();
            flipped[LOG_HEADER_BYTES + frame * FRAME_BYTES + byte] ^= 1;
            place.write("-wal", &flipped);
            place.is_damaged();
        }
    }
    for byte in [0, 5, 8, 17, 25] {
        let mut flipped = log.clone();
        flipped[byte] ^= 1;
        place.write("-wal", &flipped);
        let before = (place.read(""), place.read("-wal"));
        assert!(place.open().is_err(), "byte {byte} of the log's header");
        assert!(before == (place.read(""), place.read("-wal")));
    }
    place.write("-wal", &log);
    let ledger = place.open().expect("the whole one is sound");
    assert_eq!(known(&ledger, &ids).await, 80);
}

/// An operator may go on without the missing commits by removing the file that the message names.
#[tokio::test]
async fn without_the_mark_what_is_there_is_taken() {
    let (place, ids) = with_log().await;
    fs::remove_file(place.file("-wal")).expect("remove");
    fs::remove_file(place.file(".mark")).expect("remove");
    let ledger = place.open().expect("as it is");
    assert_eq!(known(&ledger, &ids).await, 40);
    assert!(place.file(".mark").exists(), "from now on it is known again");
}

#[tokio::test]
async fn a_backup_beside_the_log_of_another_state_is_left_as_it_is() {
    let place = Place::new();
    let mut backups = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.extend(accept(&place.open().expect("a ledger"), 20).await);
        backups.push(place.read(""));
    }
    let ledger = place.open().expect("it opens again");
    accept(&ledger, 20).await;
    let crashed = place.crashed();
    let whole = crashed.read("");
    // Older states of the file, and one newer than the log's.
    let newer = crashed.crashed();
    accept(&newer.open().expect("it opens"), 20).await;
    backups.push(newer.read(""));
    for (age, backup) in backups.iter().enumerate().filter(|(age, _)| *age != 2) {
        crashed.write("", backup);
        let told = crashed.is_damaged();
        assert!(told.contains("ledger.sqlite-wal is the log of another"), "{age}: {told}");
    }
    // The state that the log continues.
    assert!(backups[2] == whole, "nothing was copied into the file yet");

    // The remedy, step by step.
    crashed.write("", &backups[0]);
    fs::remove_file(crashed.file("-wal")).expect("remove");
    assert!(crashed.is_damaged().contains("remove"));
    fs::remove_file(crashed.file(".mark")).expect("remove");
    let restored = crashed.open().expect("the backup");
    assert_eq!(known(&restored, &ids).await, 20);
}

/// The log's later lives name their file as well: each life holds more than is copied at once.
#[tokio::test]
async fn a_backup_beside_a_later_life_of_the_log_is_told() {
    let place = Place::new();
    drop(place.open().expect("a ledger"));
    let backup = place.read("");
    let ledger = place.open().expect("it opens again");
    let mut ids = Vec::new();
    for _ in 0..70 {
        let job = job(500_000);
        ids.push(job.id);
        ledger.accept(job).await.expect("accept");
    }
    assert!(place.read("").len() > 16 * 1024 * 1024, "the log was copied once at least");
    let crashed = place.crashed();
    let whole = crashed.read("");
    crashed.write("", &backup);
    assert!(crashed.is_damaged().contains("is the log of another"));
    crashed.write("", &whole);
    assert_eq!(known(&crashed.open().expect("whole"), &ids).await, 70);
}

#[tokio::test]
async fn a_ledger_that_is_gone_is_not_replaced_by_an_empty_one() {
    let (place, _) = with_log().await;
    fs::remove_file(place.file("")).expect("remove");
    assert!(place.is_damaged().contains("missing"));
    fs::remove_file(place.file("-wal")).expect("remove");
    assert!(place.is_damaged().contains("mark"));
    assert!(!place.file("").exists());
}

#[tokio::test]
async fn the_files_are_their_owners_alone() {
    let place = Place::new();
    let ledger = place.open().expect("a ledger");
    accept(&ledger, 1).await;
    let suffixes = ["", "-wal", "-shm", ".lock", ".mark"];
    let modes = || {
        suffixes.map(|suffix| fs::metadata(place.file(suffix)).expect(suffix).permissions().mode() & 0o777)
    };
    assert_eq!(modes(), [0o600; 5]);
    // As an earlier version left the files, and with the log of a ledger that lost its process.
    let crashed = place.crashed();
    for suffix in ["", "-wal", ".mark"] {
        fs::set_permissions(crashed.file(suffix), fs::Permissions::from_mode(0o644)).expect("ours");
    }
    let again = crashed.open().expect("it opens");
    accept(&again, 1).await;
    for suffix in suffixes {
        let mode = fs::metadata(crashed.file(suffix)).expect(suffix).permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{suffix}");
    }
}
