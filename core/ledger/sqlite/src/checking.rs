//! Checks that a file and its log are a sound ledger, before anything is written: a check that repairs what it finds
//! destroys what could be salvaged. SQLite recovers a log into memory and copies it into the file when its last
//! connection closes; the connection here only reads, so it cannot.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::failure::Failure;
use super::files::{has_content, log_of, unavailable};
use super::mark::{self, Mark};
use super::schema::{KNOWN_VERSIONS, stored_version};
use super::{commits, log};
use infera_ledger::LedgerError;

/// How long the file's structure is checked at start: a start must stay fast, and in this time a ledger of some
/// hundred megabytes is read whole. Damage beyond that in a longer file is found when it is read.
const CHECK_BUDGET: Duration = Duration::from_secs(1);

/// The first bytes of an SQLite file.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The end of every error about damage.
const REMEDY: &str = "nothing was changed. Keep the file, its -wal and its .mark for salvage, then restore the whole \
                      folder from a backup; or begin an empty ledger in another folder (the jobs in this one are \
                      then unknown)";

/// Checks that the ledger at `path` is sound and whole, and that its schema is one that this program knows.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let log = log_of(path);
    let has_log = has_content(&log);
    let generation = check_header(path, has_log)?;
    if has_log && !log::continues(&log, generation).map_err(|error| unavailable(&log, &error))? {
        let fault = format!(
            "{} is the log of another file, or of another state of this one, and would destroy this file; if this \
             file is the one to keep (a backup that was put here, say), move the log away",
            log.display()
        );
        return Err(damaged(path, &fault));
    }
    let connection = look(path, has_log).map_err(|error| name_damage(path, error))?;
    check_content(path, &connection).map_err(|error| name_damage(path, error))?;
    check_structure(path, &connection)
}

/// Returns how many commits the mark beside `path` promises, if there is a mark.
pub(super) fn marked(path: &Path) -> Result<Option<u64>, Failure> {
    Mark::read(path).map_err(|error| unavailable(&mark::path_of(path), &error))
}

/// Opens a connection that changes neither the file nor the log.
fn look(path: &Path, has_log: bool) -> Result<Connection, Failure> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    // Without a log nothing has to be recovered, and not even an empty log is created.
    let uri = uri(path, if has_log { "" } else { "?immutable=1" });
    let connection = Connection::open_with_flags(uri, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Returns a path in the form that SQLite needs in a URI.
fn uri(path: &Path, query: &str) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + query
}

/// Checks the file before SQLite opens it, because SQLite takes some damaged files for empty or shorter databases.
/// Returns the file's generation.
fn check_header(path: &Path, has_log: bool) -> Result<u32, Failure> {
    let mut header = [0; 100];
    let read = File::open(path).and_then(|mut file| {
        file.read_exact(&mut header)?;
        file.metadata().map(|metadata| metadata.len())
    });
    let length = match read {
        Ok(length) if header.starts_with(MAGIC) => length,
        Ok(_) => return Err(damaged(path, "it is not an SQLite database")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, "it is shorter than a database's header"));
        }
        Err(error) => return Err(unavailable(path, &error)),
    };
    // Bytes 16 and 17: the page size, where 1 stands for 65,536. Bytes 28 to 31: the number of pages.
    let page = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        size => size,
    };
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    // Missing pages may be in the log: a checkpoint writes the first page first.
    if length < page * pages && !has_log {
        return Err(damaged(path, "it is shorter than its header says"));
    }
    Ok(log::generation(&header))
}

fn check_content(path: &Path, connection: &Connection) -> Result<(), Failure> {
    let is_ours: bool = connection.query_row(
        "SELECT COUNT(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_versions'",
        [],
        |row| row.get(0),
    )?;
    if !is_ours {
        return Err(damaged(path, "it is a database, but not a ledger"));
    }
    let stored = stored_version(connection)?;
    let is_known = usize::try_from(stored).map_err(|_| damaged(path, "its schema's version is negative"))?
        <= KNOWN_VERSIONS;
    if !is_known {
        return Err(LedgerError::Unavailable(format!(
            "{} was written by a newer program (schema {stored}, this one knows {KNOWN_VERSIONS}); run that one",
            path.display(),
        ))
        .into());
    }
    let (commits, marked) = (commits::count(connection)?, marked(path)?.unwrap_or(0));
    if commits < marked {
        let mark = mark::path_of(path);
        return Err(damaged(
            path,
            &format!(
                "its last {} commits are gone (it has {commits}, but {marked} were on the disk): its -wal was removed, \
                 cut short or changed. Put the -wal back if you have it; if this file is a backup that was put here, or to \
                 go on without these commits, remove {}",
                marked - commits,
                mark.display()
            ),
        ));
    }
    Ok(())
}

/// Runs SQLite's own check of the file's structure, and stops it when the budget is used up.
fn check_structure(path: &Path, connection: &Connection) -> Result<(), Failure> {
    let began = Instant::now();
    let (done, waits) = mpsc::channel::<()>();
    let interrupt = connection.get_interrupt_handle();
    let timer = std::thread::Builder::new().name("ledger-check".to_owned()).spawn(move || {
        if waits.recv_timeout(CHECK_BUDGET) == Err(mpsc::RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let timer = timer.map_err(|error| {
        LedgerError::Unavailable(format!("a thread for the check could not be started: {error}"))
    })?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    // It ends at once; until it has ended, it could still interrupt the next statement.
    let _ = timer.join();
    match found {
        Ok(word) if word == "ok" => Ok(()),
        Ok(fault) => Err(damaged(path, &fault)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            let elapsed_ms = began.elapsed().as_millis();
            tracing::info!(path = %path.display(), elapsed_ms, "the ledger is too large to be checked completely at start; the rest is checked as it is read");
            Ok(())
        }
        Err(error) => Err(name_damage(path, error.into())),
    }
}

/// Makes the error about a damaged file, with the remedy.
pub(super) fn damaged(path: &Path, fault: &str) -> Failure {
    LedgerError::Damaged(format!("{}: {fault}; {REMEDY}", path.display())).into()
}

/// Adds the file's name to an error of opening. If SQLite cannot execute a statement while opening, the file's
/// content is not what we wrote.
pub(super) fn name_damage(path: &Path, failure: Failure) -> Failure {
    let name = path.display().to_string();
    match LedgerError::from(failure) {
        LedgerError::Unavailable(text) if !text.contains(&name) => {
            LedgerError::Unavailable(format!("{name}: {text}")).into()
        }
        LedgerError::Damaged(text) if text.contains(REMEDY) => LedgerError::Damaged(text).into(),
        LedgerError::Damaged(fault) | LedgerError::Row(fault) => damaged(path, &fault),
        other => other.into(),
    }
}
