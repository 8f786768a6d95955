//! Opening the file: one process at a time, damage is told and never mended by making a new ledger, and older schemas
//! are brought up to date. No job.

use std::fs::{self, File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::failure::Failure;
use infera_ledger::LedgerError;

/// The schema's versions in order; the first is version 1.
const MIGRATIONS: [&str; 5] = [
    include_str!("../migrations/0001_ledger.sql"),
    include_str!("../migrations/0002_idempotency_job.sql"),
    include_str!("../migrations/0003_fleet.sql"),
    include_str!("../migrations/0004_reason.sql"),
    include_str!("../migrations/0005_valid_node.sql"),
];

/// So long the file's structure is checked at start: a start must stay fast, and within this time a ledger of some
/// hundred megabytes is read whole. What a longer file hides after that is found when it is read.
const CHECK_BUDGET: Duration = Duration::from_secs(1);

/// Another connection's lock (a copy being made, an operator's query) is waited for so long.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Statements kept compiled per connection; more than there are.
const STATEMENTS: usize = 128;

/// What a file of SQLite begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What every error about damage ends with.
const REMEDY: &str = "keep the file and its -wal beside it for salvage, then restore both from a backup, or move both \
                      away to begin an empty ledger (the jobs in them are then unknown)";

/// Makes sure that no other process has this ledger. The lock goes with the process, however it ends.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let beside = with_suffix(path, ".lock");
    let file = File::create(&beside).map_err(|error| unavailable(&beside, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Unavailable(format!(
            "{} is in use by another process; stop it, or give this one another data folder",
            path.display()
        ))
        .into()),
        Err(TryLockError::Error(error)) => Err(unavailable(&beside, &error)),
    }
}

/// The writing connection to a sound ledger of the present schema, made if there is none.
///
/// What can't be noticed: a `-wal` file that was deleted or cut short after a crash (SQLite takes what it finds in it
/// for all there was), and bytes changed within a stored text.
pub(super) fn writer(path: &Path) -> Result<Connection, Failure> {
    let log = with_suffix(path, "-wal");
    if path.exists() {
        check_header(path, &log)?;
    } else if has_content(&log) {
        return Err(damaged(path, "it is missing while its -wal is there"));
    } else {
        create(path)?;
    }
    let connection = connect(path).map_err(|error| name_damage(path, error))?;
    migrate(path, &connection).map_err(|error| name_damage(path, error))?;
    check_structure(path, &connection)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// A new ledger is made under another name and moved when it is whole. So a file that is there and isn't a whole
/// ledger is always damage, never a beginning.
fn create(path: &Path) -> Result<(), Failure> {
    let new = with_suffix(path, ".new");
    for leftover in [new.clone(), with_suffix(&new, "-wal"), with_suffix(&new, "-shm")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unavailable(&leftover, &error));
            }
            _ => {}
        }
    }
    File::create_new(&new).map_err(|error| unavailable(&new, &error))?;
    let connection = connect(&new)?;
    connection.execute_batch("CREATE TABLE schema_versions (version BIGINT NOT NULL PRIMARY KEY)")?;
    migrate(&new, &connection)?;
    // The last connection brings the log home and removes it.
    connection.close().map_err(|(_, error)| error)?;
    let synced = File::open(&new).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&new, path));
    synced.and_then(|()| sync_folder(path)).map_err(|error| unavailable(path, &error))
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at every commit: an answered commit survives the machine's end. NORMAL would not.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // 16 MiB of log between checkpoints: each costs two more fsyncs, and start reads at most that much.
    connection.pragma_update(None, "wal_autocheckpoint", 4096)?;
    // At most 16 MiB of pages in memory, in kibibytes.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(connection)
}

/// Looks at the file before SQLite does: what it takes for an empty or a shorter database is damage to us.
fn check_header(path: &Path, log: &Path) -> Result<(), Failure> {
    let mut header = [0; 100];
    let read = File::open(path).and_then(|mut file| {
        file.read_exact(&mut header)?;
        file.metadata().map(|metadata| metadata.len())
    });
    let length = match read {
        Ok(length) if header.starts_with(MAGIC) => length,
        Ok(_) => return Err(damaged(path, "it isn't a SQLite database")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "it is shorter than a database's header"));
        }
        Err(error) => return Err(unavailable(path, &error)),
    };
    // Bytes 16 and 17: the page's size, where 1 stands for 65,536. Bytes 28 to 31: how many pages there are.
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        size => size,
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    // With a log, missing pages may be in it: a checkpoint writes the first page first.
    if length < page * pages && !has_content(log) {
        return Err(damaged(path, "it was cut short"));
    }
    Ok(())
}

fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

fn migrate(path: &Path, connection: &Connection) -> Result<(), Failure> {
    let is_ours: bool = connection.query_row(
        "SELECT COUNT(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_versions'",
        [],
        |row| row.get(0),
    )?;
    if !is_ours {
        return Err(damaged(path, "it is a database, but not a ledger"));
    }
    let stored: i64 =
        connection
            .query_row("SELECT COALESCE(MAX(version), 0) FROM schema_versions", [], |row| row.get(0))?;
    let stored = usize::try_from(stored).map_err(|_| damaged(path, "its schema's version is negative"))?;
    if stored > MIGRATIONS.len() {
        return Err(LedgerError::Unavailable(format!(
            "{} was written by a newer program (schema {stored}, this one knows {}); run that one",
            path.display(),
            MIGRATIONS.len()
        ))
        .into());
    }
    for (version, migration) in (1_i64..).zip(MIGRATIONS).skip(stored) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(migration)?;
        transaction.execute("INSERT INTO schema_versions (version) VALUES (?1)", [version])?;
        transaction.commit()?;
    }
    Ok(())
}

/// SQLite's own check of the file's structure, stopped when the budget is over.
fn check_structure(path: &Path, connection: &Connection) -> Result<(), Failure> {
    let began = Instant::now();
    let (done, waits) = mpsc::channel::<()>();
    let interrupt = connection.get_interrupt_handle();
    let timer = std::thread::Builder::new().name("ledger-check".to_owned()).spawn(move || {
        if waits.recv_timeout(CHECK_BUDGET) == Err(mpsc::RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let timer =
        timer.map_err(|error| LedgerError::Unavailable(format!("no thread for the check: {error}")))?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    // It ends at once; until it has, it could still interrupt the next statement.
    let _ = timer.join();
    match found {
        Ok(word) if word == "ok" => Ok(()),
        Ok(fault) => Err(damaged(path, &fault)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            let elapsed_ms = began.elapsed().as_millis();
            tracing::info!(path = %path.display(), elapsed_ms, "the ledger is too large to be checked whole at start");
            Ok(())
        }
        Err(error) => Err(name_damage(path, error.into())),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn damaged(path: &Path, fault: &str) -> Failure {
    LedgerError::Damaged(format!("{}: {fault}; {REMEDY}", path.display())).into()
}

fn unavailable(path: &Path, error: &std::io::Error) -> Failure {
    LedgerError::Unavailable(format!("{}: {error}", path.display())).into()
}

/// While opening, a statement that SQLite can't make sense of means that the file's content is not what we wrote.
fn name_damage(path: &Path, failure: Failure) -> Failure {
    match LedgerError::from(failure) {
        LedgerError::Damaged(text) if text.contains(REMEDY) => LedgerError::Damaged(text).into(),
        LedgerError::Damaged(fault) | LedgerError::Row(fault) => damaged(path, &fault),
        other => other.into(),
    }
}
