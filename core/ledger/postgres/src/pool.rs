//! Pools connections, and runs single statements on them. A connection that failed to answer in time is discarded. No
//! SQL.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row, Statement};

use super::failure::{Effect, Failure};
use super::transport::Transport;
use infera_ledger::LedgerError;
use infera_ledger::last_commit::LastCommit;

/// How long a caller waits for a free or a new connection: a longer wait is an outage, and clients are told while
/// they still listen.
const ACQUIRE_WAIT: Duration = Duration::from_secs(2);

/// How long an answer may take: longer than the server lets a statement run (see `opening`), so the connection is
/// dead.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(12);

/// How often an operation that fails transiently is tried in all.
pub(super) const TRIES: u32 = 3;

/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A pool of connections to the database.
#[derive(Clone)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    last: Arc<LastCommit>,
}

impl Pool {
    /// Opens a pool of at most `size` connections, which are made when needed. The outcome of their commits is
    /// recorded in `last`, which all pools of a ledger share.
    pub(super) fn open(
        transport: Transport,
        size: usize,
        last: Arc<LastCommit>,
    ) -> Result<Self, LedgerError> {
        // Whether a connection has ended is known without asking the server.
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match transport.connector {
            Some(connector) => Manager::from_config(transport.connections, connector, manager),
            None => Manager::from_config(transport.connections, NoTls, manager),
        };
        let timeouts =
            Timeouts { wait: Some(ACQUIRE_WAIT), create: Some(ACQUIRE_WAIT), recycle: Some(ACQUIRE_WAIT) };
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(size.max(1))
            .timeouts(timeouts)
            .runtime(Runtime::Tokio1)
            .build();
        pool.map(|connections| Self { connections, last }).map_err(|error| {
            LedgerError::Unavailable(format!("the pool of connections could not be made: {error}"))
        })
    }

    /// Returns the record of the last commit's outcome.
    pub(super) fn last_commit(&self) -> &LastCommit {
        &self.last
    }

    /// Lends a connection. Return it by dropping it, or [`discard`] it.
    pub(super) async fn lend(&self) -> Result<Object, Failure> {
        self.connections.get().await.map_err(|error| match error {
            // The server does not answer, or refuses us: another try at once would only burden a starting server.
            PoolError::Backend(error) => Failure { is_transient: false, ..Failure::from(error) },
            error => LedgerError::Unavailable(format!("no connection: {error}")).into(),
        })
    }

    /// Returns the rows of a statement that changes nothing.
    pub(super) async fn query(&self, sql: &str, values: Parameters<'_>) -> Result<Vec<Row>, LedgerError> {
        self.until_done(sql, values, Effect::Nothing).await
    }

    /// Returns the row of a statement that changes nothing, if there is one.
    pub(super) async fn query_opt(
        &self,
        sql: &str,
        values: Parameters<'_>,
    ) -> Result<Option<Row>, LedgerError> {
        Ok(self.query(sql, values).await?.into_iter().next())
    }

    /// Returns the rows of a statement that changes something and commits by itself.
    pub(super) async fn change(&self, sql: &str, values: Parameters<'_>) -> Result<Vec<Row>, LedgerError> {
        self.until_done(sql, values, Effect::Commits).await
    }

    /// Returns the rows of a committing statement that may be executed twice: if its outcome is unknown, it is tried
    /// again.
    pub(super) async fn put(&self, sql: &str, values: Parameters<'_>) -> Result<Vec<Row>, LedgerError> {
        self.until_done(sql, values, Effect::Repeats).await
    }

    async fn until_done(
        &self,
        sql: &str,
        values: Parameters<'_>,
        effect: Effect,
    ) -> Result<Vec<Row>, LedgerError> {
        let done = self.tries(sql, values, effect).await;
        match (&done, effect) {
            (_, Effect::Nothing) => {}
            // A statement that changed no row commits nothing, and would succeed on a full disk too. If it returns
            // rows, it did change some.
            (Ok(rows), _) => {
                if !rows.is_empty() {
                    self.last.succeeded();
                }
            }
            (Err(error), _) => self.last.failed(error),
        }
        done
    }

    async fn tries(
        &self,
        sql: &str,
        values: Parameters<'_>,
        effect: Effect,
    ) -> Result<Vec<Row>, LedgerError> {
        let mut tried = 1;
        loop {
            match self.once(sql, values, effect).await {
                Ok(rows) => return Ok(rows),
                Err(failure) if failure.is_transient && tried < TRIES => tried += 1,
                Err(failure) => return Err(failure.error),
            }
        }
    }

    async fn once(&self, sql: &str, values: Parameters<'_>, effect: Effect) -> Result<Vec<Row>, Failure> {
        let connection = self.lend().await?;
        let Ok(done) = timeout(ANSWER_WAIT, statement(&connection, sql, values, effect)).await else {
            discard(connection);
            return Err(effect.silence());
        };
        done
    }
}

async fn statement(
    client: &ClientWrapper,
    sql: &str,
    values: Parameters<'_>,
    effect: Effect,
) -> Result<Vec<Row>, Failure> {
    let statement = client.prepare_cached(sql).await?;
    client.query(&statement, values).await.map_err(|error| effect.failure(error))
}

/// Prepares statements, once per connection.
pub(super) async fn prepared<const N: usize>(
    client: &ClientWrapper,
    texts: [&str; N],
) -> Result<[Statement; N], Failure> {
    let mut statements = Vec::with_capacity(N);
    for text in texts {
        statements.push(client.prepare_cached(text).await?);
    }
    statements.try_into().map_err(|_| LedgerError::Row("a statement is missing".to_owned()).into())
}

/// Runs a statement over the rows of a batch, unless there are none, because without rows it costs as much as with
/// some.
pub(super) async fn execute_over(
    client: &ClientWrapper,
    rows: usize,
    statement: &Statement,
    values: Parameters<'_>,
) -> Result<(), tokio_postgres::Error> {
    if rows > 0 {
        client.execute(statement, values).await?;
    }
    Ok(())
}

/// Closes a connection that may not be idle.
pub(super) fn discard(connection: Object) {
    drop(Object::take(connection));
}
