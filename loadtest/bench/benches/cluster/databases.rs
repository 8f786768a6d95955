//! Databases of one run: made empty, with the ledger's tables in them.

use std::sync::Arc;

use infera_ledger_postgres::{PostgresConfig, PostgresLedger};
use tokio_postgres::NoTls;

use crate::Fault;
use crate::settings::Settings;

/// Makes a database of this name, in place of one that an earlier run left.
pub(crate) async fn make(settings: &Settings, name: &str) -> Result<String, Fault> {
    let client = connect(&settings.first_database()?).await?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await?;
    client.batch_execute(&format!("CREATE DATABASE {name}")).await?;
    settings.database(name)
}

/// A ledger in a database of its own.
pub(crate) async fn ledger(settings: &Settings, name: &str) -> Result<Arc<PostgresLedger>, Fault> {
    let url = make(settings, name).await?;
    open(&url).await
}

/// One more process's ledger in a database that is there.
pub(crate) async fn open(url: &str) -> Result<Arc<PostgresLedger>, Fault> {
    /// Half of a program's: a server allows a hundred connections, and the programs run beside.
    const CONNECTIONS: usize = 4;
    let config = PostgresConfig { connections: CONNECTIONS, ..PostgresConfig::new(url) };
    Ok(PostgresLedger::connect(&config).await?)
}

/// A connection for single questions.
pub(crate) async fn connect(url: &str) -> Result<tokio_postgres::Client, Fault> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with its client; what went wrong is told to whoever asks the client.
    tokio::spawn(connection);
    Ok(client)
}
