//! The one thread that writes. It commits everything that waits as one transaction (group commit: one fsync for all),
//! each operation in its own savepoint, and answers only after the commit. It knows no table; `commits` counts the
//! commits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::commits::Commits;
use super::failure::Failure;
use infera_ledger::LedgerError;
use infera_ledger::last_commit::LastCommit;

/// How many operations share a commit at most: enough to make the fsync cheap, and few enough that the first does not
/// wait for the last for more than some tens of milliseconds.
const BATCH_MAX: usize = 512;

/// How many operations wait for the writer at most; further ones wait for room.
const WAITING_MAX: usize = 4 * BATCH_MAX;

/// How long a caller waits for room: if the disk stands still for longer, it is an outage.
const ROOM_WAIT: Duration = Duration::from_secs(5);

/// An operation on its way through the writer.
trait Operation: Send {
    /// Runs the operation within the open transaction and keeps its result. Returns `false` to undo what it did.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Answers the caller after the commit, with an error if the commit failed.
    fn answer(self: Box<Self>, commit: Result<(), &LedgerError>);
}

struct Write<T, F> {
    work: Option<F>,
    outcome: Result<T, LedgerError>,
    reply: oneshot::Sender<Result<T, LedgerError>>,
}

impl<T, F> Operation for Write<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, Failure> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A panic in one operation becomes its caller's error; the thread and the other operations go on.
        self.outcome = catch_unwind(AssertUnwindSafe(|| work(connection).map_err(LedgerError::from)))
            .unwrap_or_else(|_| Err(LedgerError::Row("the operation panicked".to_owned())));
        self.outcome.is_ok()
    }

    fn answer(self: Box<Self>, commit: Result<(), &LedgerError>) {
        let outcome = match (commit, self.outcome) {
            (Err(error), Ok(_)) => Err(error.copy()),
            (_, outcome) => outcome,
        };
        // The caller may have stopped waiting; what was written stays.
        let _ = self.reply.send(outcome);
    }
}

/// The writing thread and the way to it. Dropping it commits what waits, checkpoints and closes the file.
#[derive(Debug)]
pub(super) struct Writer {
    sender: Option<mpsc::Sender<Box<dyn Operation>>>,
    thread: Option<JoinHandle<()>>,
    last: Arc<LastCommit>,
}

impl std::fmt::Debug for dyn Operation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Operation")
    }
}

impl Writer {
    /// Starts the thread, which then owns `connection` and the numbering of its commits.
    pub(super) fn start(connection: Connection, commits: Commits) -> Result<Self, LedgerError> {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let last = Arc::new(LastCommit::default());
        let noted = Arc::clone(&last);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || serve(&connection, commits, receiver, &noted))
            .map_err(|error| {
                LedgerError::Unavailable(format!("the ledger's writing thread could not be started: {error}"))
            })?;
        Ok(Self { sender: Some(sender), thread: Some(thread), last })
    }

    /// Returns the error of the last commit, if it failed.
    pub(super) fn failure(&self) -> Option<LedgerError> {
        self.last.failure()
    }

    /// Runs `work` in a transaction, and returns when it is committed. If the caller stops waiting, the work is done
    /// nevertheless.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let not_run =
            || LedgerError::Unavailable("the transaction was given up before this operation ran".to_owned());
        let operation = Box::new(Write { work: Some(work), outcome: Err(not_run()), reply });
        let Some(sender) = &self.sender else { return Err(stopped()) };
        sender.send_timeout(operation, ROOM_WAIT).await.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Timeout(_) => {
                LedgerError::Unavailable(format!("{WAITING_MAX} writes are waiting already"))
            }
            mpsc::error::SendTimeoutError::Closed(_) => stopped(),
        })?;
        answer.await.unwrap_or_else(|_| {
            Err(LedgerError::Unknown("the ledger's writer stopped before it answered".to_owned()))
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's writing thread has panicked");
        }
    }
}

fn stopped() -> LedgerError {
    LedgerError::Unavailable("the ledger's writer has stopped".to_owned())
}

fn serve(
    connection: &Connection,
    mut commits: Commits,
    mut receiver: mpsc::Receiver<Box<dyn Operation>>,
    last: &LastCommit,
) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while receiver.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let commit = commit_batch(connection, &commits, &mut batch).map_err(LedgerError::from);
        let outcome = match commit {
            Ok(number) => {
                // What a group commit saves is the difference: the benchmark counts these events.
                tracing::trace!(operations = batch.len(), "committed");
                if let Some(number) = number {
                    commits.done(number);
                    last.succeeded();
                }
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, operations = batch.len(), "a ledger commit failed");
                last.failed(&error);
                Err(error)
            }
        };
        for operation in batch.drain(..) {
            operation.answer(outcome.as_ref().map(|&()| ()));
        }
        commits.checkpoint_if_due(connection);
    }
    commits.end();
}

/// Commits the whole batch in one transaction, and returns the commit's number if anything changed. No transaction is
/// open afterwards, whatever happens.
fn commit_batch(
    connection: &Connection,
    commits: &Commits,
    batch: &mut [Box<dyn Operation>],
) -> Result<Option<u64>, Failure> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let done = run_batch(connection, commits, batch).and_then(|number| {
        execute(connection, "COMMIT").map_err(|error| match error.sqlite_error_code() {
            // Nothing of the last frame can be complete on the disk, or nothing was begun.
            Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => {
                LedgerError::Unavailable(error.to_string())
            }
            // The log may hold the whole commit although its sync failed: a crash now could bring the commit back.
            _ => LedgerError::Unknown(error.to_string()),
        })?;
        Ok(number)
    });
    if done.is_err() && !connection.is_autocommit() {
        // The failure that led here is reported; a rollback that fails too adds nothing.
        let _ = execute(connection, "ROLLBACK");
    }
    done
}

fn run_batch(
    connection: &Connection,
    commits: &Commits,
    batch: &mut [Box<dyn Operation>],
) -> Result<Option<u64>, Failure> {
    let changes = connection.total_changes();
    for operation in batch {
        execute(connection, "SAVEPOINT operation")?;
        let is_kept = operation.run(connection);
        // After a full disk or an I/O error SQLite rolls the whole transaction back by itself.
        if connection.is_autocommit() {
            return Err(LedgerError::Unavailable(
                "the disk is full or failed within a transaction".to_owned(),
            )
            .into());
        }
        if !is_kept {
            execute(connection, "ROLLBACK TO operation")?;
        }
        execute(connection, "RELEASE operation")?;
    }
    // A commit that changes nothing needs no sync, and must not cause one.
    if connection.total_changes() == changes {
        return Ok(None);
    }
    commits.number(connection).map(Some)
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use tracing::field::Field;
    use tracing::{Event, Level, Subscriber};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    type Work = fn(&Connection) -> Result<(), Failure>;

    /// Hears of every commit of this process: which thread made it, and of how many operations.
    #[derive(Clone, Default)]
    struct Committed(Arc<Mutex<Vec<(ThreadId, u64)>>>);

    impl Committed {
        fn listen() -> Self {
            let committed = Self::default();
            let subscriber = tracing_subscriber::registry().with(committed.clone());
            tracing::subscriber::set_global_default(subscriber).expect("no other test listens");
            committed
        }

        /// The operations of each commit of this writer.
        fn of(&self, writer: &Writer) -> Vec<u64> {
            let thread = writer.thread.as_ref().expect("the writer runs").thread().id();
            let committed = self.0.lock().expect("no test panicked with it");
            committed.iter().filter(|(by, _)| *by == thread).map(|(_, operations)| *operations).collect()
        }
    }

    impl<S: Subscriber> Layer<S> for Committed {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            if *event.metadata().level() == Level::TRACE {
                event.record(&mut |field: &Field, operations: &dyn Debug| {
                    if field.name() == "operations" {
                        let operations = format!("{operations:?}").parse().expect("a number");
                        self.0.lock().expect("no test").push((thread::current().id(), operations));
                    }
                });
            }
        }
    }

    fn writer(schema: &str) -> Arc<Writer> {
        let connection = Connection::open_in_memory().expect("a database");
        let totals = "CREATE TABLE totals (name TEXT PRIMARY KEY, value BIGINT NOT NULL)";
        connection.execute_batch(totals).expect("a table");
        let folder = tempfile::tempdir().expect("a folder");
        let commits = Commits::begin(&folder.path().join("ledger"), &connection).expect("a mark");
        connection.execute_batch(schema).expect("a schema");
        Arc::new(Writer::start(connection, commits).expect("a thread"))
    }

    fn insert(connection: &Connection, number: i64) -> Result<(), Failure> {
        connection.prepare_cached("INSERT INTO numbers (number) VALUES (?1)")?.execute([number])?;
        Ok(())
    }

    async fn count(writer: &Writer) -> i64 {
        let count = |connection: &Connection| {
            Ok(connection.query_row("SELECT COUNT(*) FROM numbers", [], |row| row.get(0))?)
        };
        writer.run(count).await.expect("counting")
    }

    /// Runs operations that certainly share one commit: the thread is kept busy until all of them wait.
    async fn together(writer: &Arc<Writer>, works: Vec<Work>) -> Vec<Result<(), LedgerError>> {
        let (enter, entered) = oneshot::channel();
        let (open, opened) = std::sync::mpsc::channel::<()>();
        let keeper = Arc::clone(writer);
        let hold = move |_: &Connection| {
            let _ = enter.send(());
            let _ = opened.recv_timeout(Duration::from_secs(10));
            Ok(())
        };
        let gate = tokio::spawn(async move { keeper.run(hold).await });
        entered.await.expect("the gate is entered");
        let waiting = works.len();
        let spawn = |work| {
            let writer = Arc::clone(writer);
            tokio::spawn(async move { writer.run(work).await })
        };
        let tasks: Vec<_> = works.into_iter().map(spawn).collect();
        let sender = writer.sender.as_ref().expect("the writer runs");
        while sender.max_capacity() - sender.capacity() < waiting {
            tokio::task::yield_now().await;
        }
        open.send(()).expect("the gate waits");
        gate.await.expect("a task").expect("the gate opens");
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.expect("a task"));
        }
        outcomes
    }

    #[tokio::test]
    async fn what_fails_is_undone_alone() {
        let committed = Committed::listen();
        let writer = writer("CREATE TABLE numbers (number INTEGER UNIQUE)");
        let outcomes = together(
            &writer,
            vec![
                |connection| insert(connection, 1),
                |connection| insert(connection, 2).and_then(|()| insert(connection, 1)),
                |connection| insert(connection, 3).map(|()| panic!("a bug")),
                |connection| insert(connection, 4),
            ],
        )
        .await;
        assert!(matches!(outcomes[..], [Ok(()), Err(LedgerError::Row(_)), Err(LedgerError::Row(_)), Ok(())]));
        // One commit for the gate, and one for the four operations that waited behind it.
        assert_eq!(committed.of(&writer), [1, 4]);
        assert_eq!(count(&writer).await, 2);
    }

    #[tokio::test]
    async fn a_failed_commit_is_everybodys_error() {
        let writer = writer(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE numbers (number INTEGER PRIMARY KEY,
                 parent INTEGER REFERENCES numbers (number) DEFERRABLE INITIALLY DEFERRED)",
        );
        let outcomes = together(
            &writer,
            vec![
                |connection| insert(connection, 1),
                |connection| {
                    connection.execute("INSERT INTO numbers (number, parent) VALUES (2, 99)", [])?;
                    Ok(())
                },
                |connection| insert(connection, 1),
            ],
        )
        .await;
        assert!(
            matches!(
                outcomes[..],
                [Err(LedgerError::Unknown(_)), Err(LedgerError::Unknown(_)), Err(LedgerError::Row(_))]
            ),
            "{outcomes:?}"
        );
        assert_eq!(count(&writer).await, 0);
        writer.run(|connection| insert(connection, 5)).await.expect("the writer goes on");
        assert_eq!(count(&writer).await, 1);
    }

    #[tokio::test]
    async fn a_full_disk_is_said_so_and_the_writer_goes_on() {
        let writer = writer("CREATE TABLE numbers (number BLOB); PRAGMA max_page_count = 4");
        let big = |connection: &Connection| {
            connection.execute("INSERT INTO numbers (number) VALUES (zeroblob(100000))", [])?;
            Ok(())
        };
        let outcome = writer.run(big).await;
        assert!(matches!(outcome, Err(LedgerError::Unavailable(_))), "{outcome:?}");
        assert!(matches!(writer.failure(), Some(LedgerError::Unavailable(_))), "it is remembered");
        let nothing = |connection: &Connection| {
            Ok(connection.query_row("SELECT COUNT(*) FROM numbers", [], |row| row.get::<_, i64>(0))?)
        };
        assert_eq!(writer.run(nothing).await.expect("reading"), 0);
        assert!(writer.failure().is_some(), "a commit of nothing shows nothing");
        writer.run(|connection| insert(connection, 5)).await.expect("a small one fits");
        assert!(writer.failure().is_none(), "until one comes through");
        assert_eq!(count(&writer).await, 1);
    }
}
