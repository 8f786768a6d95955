//! Makes the databases of one run: empty, with the ledger's tables.

use std::sync::Arc;

use infera_ledger_postgres::{PostgresConfig, PostgresLedger};
use tokio_postgres::NoTls;

use crate::settings::Settings;
use infera_bench::Fault;

/// Makes a database of this name, replacing one that an earlier run left.
pub(crate) async fn make(settings: &Settings, name: &str) -> Result<String, Fault> {
    let client = connect(&settings.first_database()?).await?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    settings.database(name)
}

/// Opens a ledger in a database of its own.
pub(crate) async fn ledger(settings: &Settings, name: &str) -> Result<Arc<PostgresLedger>, Fault> {
    let url = make(settings, name).await?;
    open(&url).await
}

/// Opens the ledger of one more process in an existing database.
pub(crate) async fn open(url: &str) -> Result<Arc<PostgresLedger>, Fault> {
    /// Half of a program's connections: a server allows a hundred, and the programs run at the same time.
    const CONNECTIONS: usize = 4;
    let config = PostgresConfig { connections: CONNECTIONS, ..PostgresConfig::new(url) };
    Ok(PostgresLedger::connect(&config).await?)
}

/// Opens a connection for single queries.
pub(crate) async fn connect(url: &str) -> Result<tokio_postgres::Client, Fault> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // The task ends with its client; the client reports its errors.
    tokio::spawn(connection);
    Ok(client)
}
