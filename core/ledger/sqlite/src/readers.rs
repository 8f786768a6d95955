//! A few connections that only read, each used by one blocking task at a time. In WAL mode they neither wait for the
//! writer nor delay it, and they see what is committed.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::failure::Failure;
use super::opening;
use infera_ledger::LedgerError;

/// The number of connections. Reads are short and mostly from memory, so more would only share the same cores.
const CONNECTIONS: usize = 3;

/// The pool of reading connections.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Opens the connections to an existing ledger.
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let idle = (0..CONNECTIONS).map(|_| opening::reader(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(idle)), permits: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    /// Runs `work` off the async threads, within one snapshot.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let closed = || LedgerError::Unavailable("the ledger is closed".to_owned());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        let task = tokio::task::spawn_blocking(move || {
            let lent = Lent::take(&idle).ok_or_else(closed)?;
            let outcome = lent.snapshot(work);
            drop(lent);
            drop(permit);
            outcome.map_err(LedgerError::from)
        });
        task.await.map_err(|error| LedgerError::Unavailable(format!("the reading task stopped: {error}")))?
    }
}

/// A connection on loan, which is returned even if the work panics.
struct Lent<'a> {
    idle: &'a Mutex<Vec<Connection>>,
    connection: Option<Connection>,
}

impl<'a> Lent<'a> {
    fn take(idle: &'a Mutex<Vec<Connection>>) -> Option<Self> {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        connection.map(|connection| Self { idle, connection: Some(connection) })
    }

    fn snapshot<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
        let Some(connection) = &self.connection else {
            return Err(LedgerError::Unavailable("the ledger is closed".to_owned()).into());
        };
        let transaction = connection.unchecked_transaction()?;
        let outcome = work(&transaction);
        transaction.finish()?;
        outcome
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
