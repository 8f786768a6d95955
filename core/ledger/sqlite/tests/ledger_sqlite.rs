//! Tests the promises that only a ledger in a file makes: it survives its process, has one process, and reports
//! damage.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

#[path = "ledger_sqlite/older.rs"]
mod older;
#[path = "support/undoing.rs"]
mod undoing;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use infera_ledger::{
    Accepted, JobIntake, JobReader as _, LedgerError, Metadata, NewJob, Room, Standby, job_state,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::VerificationPolicy;
use infera_types::time::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinSet;

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000)
}

fn new_job(account: &AccountId) -> NewJob {
    NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: account.clone(),
        model: ModelName::new("m"),
        request: vec![b'x'; 1024],
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: false,
        accepted_ms: now(),
        deadline_ms: now().after(std::time::Duration::from_secs(3_600)),
        epoch: 1,
        idempotency: None,
        waiting_max: u32::MAX,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(account),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge: None,
    }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    (folder, path)
}

/// Makes a closed ledger with this many jobs of one account.
async fn ledger_with(jobs: usize, path: &Path) -> (AccountId, Vec<JobId>) {
    let ledger = SqliteLedger::open(path).expect("a ledger");
    let account = AccountId::fresh();
    let mut ids = Vec::new();
    for _ in 0..jobs {
        let job = new_job(&account);
        ids.push(job.id);
        assert_eq!(ledger.accept(job).await.expect("accept"), Accepted::New { is_held: false });
    }
    (account, ids)
}

async fn count_known(ledger: &SqliteLedger, account: &AccountId, ids: &[JobId]) -> usize {
    let mut known = 0;
    for id in ids {
        known += usize::from(ledger.job(account, *id).await.expect("read").is_some());
    }
    known
}

#[track_caller]
fn damaged(path: &Path) -> String {
    match SqliteLedger::open(path) {
        Err(LedgerError::Damaged(text)) => {
            assert!(text.contains("ledger.sqlite"), "the file is not named: {text}");
            assert!(text.contains("backup"), "the remedy is not named: {text}");
            text
        }
        other => panic!("not told as damaged: {other:?}"),
    }
}

#[tokio::test]
async fn a_closed_ledger_is_one_file_that_has_everything() {
    let (folder, path) = place();
    let (account, ids) = ledger_with(50, &path).await;
    let mut files: Vec<_> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    files.sort();
    assert_eq!(files, ["ledger.sqlite", "ledger.sqlite.lock", "ledger.sqlite.mark"]);
    let ledger = SqliteLedger::open(&path).expect("it opens again");
    assert_eq!(count_known(&ledger, &account, &ids).await, 50);
}

#[tokio::test]
async fn a_ledger_has_one_process() {
    let (_folder, path) = place();
    let first = SqliteLedger::open(&path).expect("a ledger");
    let second = SqliteLedger::open(&path);
    assert!(matches!(&second, Err(LedgerError::Unavailable(text)) if text.contains("in use")), "{second:?}");
    drop(first);
    SqliteLedger::open(&path).expect("it is free again");
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (_folder, path) = place();
    ledger_with(1, &path).await;
    let connection = rusqlite::Connection::open(&path).expect("a database");
    connection.execute("INSERT INTO schema_versions (version) VALUES (1000)", []).expect("insert");
    drop(connection);
    let before = fs::read(&path).expect("read");
    let outcome = SqliteLedger::open(&path);
    assert!(matches!(&outcome, Err(LedgerError::Unavailable(text)) if text.contains("newer")), "{outcome:?}");
    assert_eq!(fs::read(&path).expect("read"), before);
}

/// A later version may write a group that this version doesn't understand.
#[tokio::test]
async fn an_unreadable_group_keeps_no_other_waiting() {
    let (_folder, path) = place();
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let halves = infera_conformance::ledger::Halves::of(&ledger);
    let sql = "UPDATE groups SET record = CAST('{' AS BLOB) WHERE job_id = ?1";
    let spoil = async |job| spoil(&path, sql, job);
    infera_conformance::ledger::an_unreadable_group_keeps_no_other_waiting(&halves, spoil).await;
}

#[tokio::test]
async fn an_unreadable_job_keeps_no_other() {
    let (_folder, path) = place();
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let halves = infera_conformance::ledger::Halves::of(&ledger);
    let spoil = async |job| spoil(&path, "UPDATE jobs SET misses = '{' WHERE id = ?1", job);
    infera_conformance::ledger::an_unreadable_job_keeps_no_other(&halves, spoil).await;
}

/// One stored byte is changed, as a faulty disk may do.
#[tokio::test]
async fn what_was_changed_is_never_given_out() {
    use infera_conformance::ledger as suite;
    let answer = ("settlements", "settlement", "job_id");
    let request = ("jobs", "request", "id");
    let group = ("groups", "record", "job_id");
    let ledgers = [place(), place(), place(), place()];
    let [first, second, third, fourth] = ledgers.each_ref().map(|(_folder, path)| {
        let ledger = SqliteLedger::open(path).expect("a ledger");
        (path, suite::Halves::of(&ledger))
    });
    let by = |path: &PathBuf, place: Place| {
        let path = path.clone();
        async move |job| flip(&path, place, job)
    };
    suite::a_changed_answer_is_never_given_out(&first.1, by(first.0, answer)).await;
    suite::a_segment_of_damaged_records_is_none(&second.1, by(second.0, answer)).await;
    suite::a_changed_request_is_never_given_out(&third.1, by(third.0, request)).await;
    suite::a_changed_group_judges_nobody(&fourth.1, by(fourth.0, group)).await;
}

/// A table, its column, and the column with the job's id.
type Place = (&'static str, &'static str, &'static str);

/// Changes the lowest bit of the byte in the middle.
fn flip(path: &Path, (table, column, id): Place, job: JobId) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    let id_bytes = &job.as_bytes()[..];
    let read = format!("SELECT CAST({column} AS BLOB) FROM {table} WHERE {id} = ?1");
    let mut bytes: Vec<u8> = connection.query_row(&read, [id_bytes], |row| row.get(0)).expect("a row");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let write = format!("UPDATE {table} SET {column} = ?2 WHERE {id} = ?1");
    assert_eq!(connection.execute(&write, rusqlite::params![id_bytes, bytes]).expect("update"), 1);
}

fn spoil(path: &Path, sql: &str, job: JobId) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    assert_eq!(connection.execute(sql, [&job.as_bytes()[..]]).expect("update"), 1);
}

#[test]
fn what_is_not_a_ledger_is_damage_and_left_alone() {
    let (_folder, path) = place();
    let header: Vec<u8> =
        b"SQLite format 3\0".iter().copied().chain(std::iter::repeat_n(0xa5, 5_000)).collect();
    for content in [&b""[..], b"not a database at all, but long enough to have a header", &header] {
        fs::write(&path, content).expect("write");
        damaged(&path);
        assert_eq!(fs::read(&path).expect("read"), content);
    }
    fs::remove_file(&path).expect("remove");
    let other = rusqlite::Connection::open(&path).expect("a database");
    other.execute("CREATE TABLE jobs (id INTEGER)", []).expect("create");
    drop(other);
    assert!(damaged(&path).contains("not a ledger"));
}

#[tokio::test]
async fn a_log_without_its_ledger_is_damage() {
    let (folder, path) = place();
    fs::write(folder.path().join("ledger.sqlite-wal"), b"frames").expect("write");
    damaged(&path);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_ledger_cut_short_is_damage() {
    let (_folder, path) = place();
    ledger_with(200, &path).await;
    let whole = fs::read(&path).expect("read");
    for length in [whole.len() - 1, whole.len() - 4_096, whole.len() / 2, 4_096, 1_000, 10] {
        fs::write(&path, &whole[..length]).expect("write");
        damaged(&path);
    }
    fs::write(&path, &whole).expect("write");
    SqliteLedger::open(&path).expect("the whole one is sound");
}

/// Flipped bytes in a page's own structure are found at start. (Those in a stored text cannot be.)
#[tokio::test]
async fn a_page_of_garbage_is_damage() {
    let (_folder, path) = place();
    ledger_with(200, &path).await;
    let whole = fs::read(&path).expect("read");
    let pages = whole.len() / 4_096;
    assert!(pages > 50);
    for page in [0, 1, 2, pages / 2, pages - 1] {
        let mut flipped = whole.clone();
        for byte in &mut flipped[page * 4_096..][..128] {
            *byte ^= 0x5a;
        }
        fs::write(&path, &flipped).expect("write");
        damaged(&path);
    }
}

/// The stored counts match the rows after many callers did everything at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_counts_are_those_of_the_rows() {
    let (_folder, path) = place();
    let ledger = SqliteLedger::open(&path).expect("a ledger");
    let accounts = [AccountId::fresh(), AccountId::fresh(), AccountId::fresh()];
    let mut callers = JoinSet::new();
    for number in 0..300 {
        let ledger = ledger.clone();
        let mut job = new_job(&accounts[number % 3]);
        job.waiting_max = 60;
        callers.spawn(async move {
            let (account, id) = (job.account.clone(), job.id);
            let accepted = ledger.accept(job).await.expect("accept");
            if number % 4 == 0 {
                ledger.cancel(&account, id, now()).await.expect("cancel");
            }
            accepted == Accepted::New { is_held: false }
        });
    }
    let accepted = callers.join_all().await.into_iter().filter(|accepted| *accepted).count();
    let statistics = ledger.statistics(now()).await.expect("statistics");
    drop(ledger);
    let rows = rusqlite::Connection::open(&path).expect("a database");
    let count = |sql: &str| rows.query_row(sql, [], |row| row.get::<_, u32>(0)).expect(sql);
    assert_eq!(count("SELECT COUNT(*) FROM jobs"), u32::try_from(accepted).expect("few"));
    assert_eq!(statistics.accepted, u64::from(count("SELECT COUNT(*) FROM jobs")));
    assert_eq!(statistics.cancelled, u64::from(count("SELECT COUNT(*) FROM settlements")));
    let wrong = concat!(
        "SELECT COUNT(*) FROM waiting WHERE jobs <>
        (SELECT COUNT(*) FROM jobs WHERE jobs.account = waiting.account AND jobs.state < ",
        job_state!(ended),
        ")"
    );
    assert_eq!((count(wrong), count("SELECT COUNT(*) FROM waiting")), (0, 3));
    let wrong = "SELECT COUNT(*) FROM waiting WHERE bytes <>
        (SELECT SUM(length(request)) FROM jobs WHERE jobs.account = waiting.account)";
    let all = "SELECT value - (SELECT SUM(length(request)) FROM jobs) FROM totals WHERE name = 'body_bytes'";
    assert_eq!((count(wrong), count(all)), (0, 0));
}

/// Set in the child that is killed: the path of its ledger.
const CHILD: &str = "INFERA_TEST_LEDGER";

/// `kill -9` in the middle of group commits loses no answered job. The test starts itself as the child.
#[test]
fn what_was_answered_survives_a_kill() {
    if let Ok(path) = std::env::var(CHILD) {
        return accept_until_killed(Path::new(&path));
    }
    let (_folder, path) = place();
    let mut answered = Vec::new();
    let account = AccountId::new("acctkilled");
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "what_was_answered_survives_a_kill", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut read = |limit: usize| {
            let ids = lines.by_ref().map_while(Result::ok).filter_map(|line| line.parse::<JobId>().ok());
            ids.take(limit).collect::<Vec<_>>()
        };
        let before = read(300);
        child.kill().expect("kill");
        child.wait().expect("wait");
        let after = read(usize::MAX);
        assert_eq!(before.len(), 300, "the child ended by itself");
        answered.extend(before.into_iter().chain(after));
        let ledger = SqliteLedger::open(&path).expect("it opens after a kill");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        assert_eq!(
            runtime.block_on(count_known(&ledger, &account, &answered)),
            answered.len(),
            "round {round}"
        );
    }
}

fn accept_until_killed(path: &Path) {
    let ledger = SqliteLedger::open(path).expect("a ledger");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let ledger = ledger.clone();
            callers.spawn(async move {
                // Bounded, in case the parent is gone.
                for _ in 0..10_000 {
                    let job = new_job(&AccountId::new("acctkilled"));
                    let line = format!("{}\n", job.id);
                    assert_eq!(ledger.accept(job).await.expect("accept"), Accepted::New { is_held: false });
                    std::io::stdout().write_all(line.as_bytes()).expect("a pipe");
                }
            });
        }
        callers.join_all().await;
    });
}

/// Concurrent callers share commits: otherwise many times the rate of a single caller would be impossible. Prints the
/// rates; run it with `--release --nocapture` for figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_accepts_are_all_stored() {
    const EACH: usize = 40;
    for callers in [1, 64] {
        let (_folder, path) = place();
        let ledger = SqliteLedger::open(&path).expect("a ledger");
        let account = AccountId::fresh();
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (ledger, account) = (ledger.clone(), account.clone());
            tasks.spawn(async move {
                for _ in 0..EACH {
                    assert_eq!(
                        ledger.accept(new_job(&account)).await.expect("accept"),
                        Accepted::New { is_held: false }
                    );
                }
            });
        }
        tasks.join_all().await;
        let rows = callers * EACH;
        let rate = rows as f64 / began.elapsed().as_secs_f64();
        println!("{callers} callers: {rate:.0} accepted/s ({rows} rows of 1 KiB)");
        let stored = ledger.statistics(now()).await.expect("statistics").queued;
        assert_eq!(stored, u64::try_from(rows).expect("few"));
    }
}
