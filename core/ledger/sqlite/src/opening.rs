//! Opens the file for one process at a time. Damage is reported, and never repaired by making a new ledger. Nothing
//! is written before the file and its log have passed their checks (`checking`). This module knows nothing of jobs.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::checking::{self, damaged, name_damage};
use super::commits::{self, BUSY_WAIT, Commits};
use super::failure::Failure;
use super::files::{has_content, log_of, sync_folder, unavailable, with_suffix};
use super::schema::migrate;
use super::space;
use infera_ledger::LedgerError;
use infera_types::private_files;

/// How many statements are kept compiled per connection; more than there are.
const STATEMENTS: usize = 128;

/// Makes sure that no other process uses this ledger. The lock ends with the process, however that ends.
pub(super) fn lock(path: &Path) -> Result<File, Failure> {
    let beside = with_suffix(path, ".lock");
    let opened = private_files::options().write(true).create(true).truncate(false).open(&beside);
    let file = opened.map_err(|error| unavailable(&beside, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Unavailable(format!(
            "{} is in use by another process; stop it, or give this process another data folder",
            path.display()
        ))
        .into()),
        Err(TryLockError::Error(error)) => Err(unavailable(&beside, &error)),
    }
}

/// Opens the writing connection to a sound ledger of the present schema, which is created if it does not exist, and
/// the numbering of its commits.
///
/// It cannot notice a `-wal` that was removed or cut short if the mark is gone too, nor bytes that were changed
/// within a stored text (each record's hash is for that).
pub(super) fn writer(path: &Path) -> Result<(Connection, Commits), Failure> {
    tighten(path)?;
    if path.exists() {
        checking::check(path)?;
    } else if has_content(&log_of(path)) {
        return Err(damaged(path, "it is missing while its -wal is there"));
    } else if let Some(commits) = checking::marked(path)? {
        return Err(damaged(path, &format!("it is missing while its mark records {commits} commits")));
    } else {
        create(path)?;
    }
    let opened = open_checked(path).map_err(|error| name_damage(path, error))?;
    // Any failure up to here has left the log unchanged.
    opened.0.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(opened)
}

fn open_checked(path: &Path) -> Result<(Connection, Commits), Failure> {
    let connection = connect(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    write_ahead(&connection)?;
    let commits = Commits::begin(path, &connection)?;
    migrate(&connection)?;
    space::prepare_old(path, &connection)?;
    Ok((connection, commits))
}

/// Takes other users' permissions to the ledger's files away. SQLite gives the log the file's permissions.
fn tighten(path: &Path) -> Result<(), Failure> {
    for suffix in ["", "-wal", "-shm", ".lock", ".mark"] {
        let file = with_suffix(path, suffix);
        if private_files::tighten(&file).map_err(|error| unavailable(&file, &error))? {
            tracing::warn!(file = %file.display(), "other users could read this file of the ledger; from now on only its owner can");
        }
    }
    Ok(())
}

/// Opens a connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags)?)
}

/// Sets how a connection keeps its statements.
fn prepared(connection: Connection) -> Result<Connection, Failure> {
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Without this, SQLite compiles a statement again whenever the value of a parameter changes that its planner could
    // look at. It looks at every `LIMIT $1`, which made such a statement ten times as slow.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Creates a new ledger under another name and renames it when it is whole. So an existing file that isn't a whole
/// ledger is always damage, never a beginning.
fn create(path: &Path) -> Result<(), Failure> {
    let new = with_suffix(path, ".new");
    for leftover in [new.clone(), log_of(&new), with_suffix(&new, "-shm")] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(unavailable(&leftover, &error));
            }
            _ => {}
        }
    }
    private_files::create(&new).map_err(|error| unavailable(&new, &error))?;
    let connection = connect(&new)?;
    space::prepare(&connection)?;
    write_ahead(&connection)?;
    connection.execute_batch("CREATE TABLE schema_versions (version BIGINT NOT NULL PRIMARY KEY)")?;
    migrate(&connection)?;
    commits::name_generation(&connection)?;
    // The last connection checkpoints the log and removes it.
    connection.close().map_err(|(_, error)| error)?;
    let synced = File::open(&new).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&new, path));
    synced.and_then(|()| sync_folder(path)).map_err(|error| unavailable(path, &error))
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    prepared(Connection::open_with_flags(path, flags)?)
}

/// Sets how a writing connection commits.
fn write_ahead(connection: &Connection) -> Result<(), Failure> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at every commit, so that an answered commit survives the machine's failure. NORMAL would
    // not.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted is overwritten, also in pages that become free, so that no erased text is left in the file.
    connection.pragma_update(None, "secure_delete", "ON")?;
    // The page cache in kibibytes (negative by SQLite's convention): at most 16 MiB.
    connection.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(())
}
