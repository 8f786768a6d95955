//! Waits at start for a database that is away.

use std::sync::Arc;

use infera_ledger::LedgerError;
use infera_types::retry::{Try, wait_for};
use infera_types::shutdown::Shutdown;

use super::{PostgresConfig, PostgresLedger};

/// The database refuses this program, or its URL is wrong, or its tables are not a ledger's. The operator has to mend
/// it; the text names the setting.
#[derive(Debug, thiserror::Error)]
#[error("ledger.url: {0}")]
pub struct Refused(LedgerError);

/// Opens the ledger in a database, waiting while that is away. Returns none if the shutdown came first.
///
/// # Errors
/// [`Refused`]: a retry is pointless until something is changed.
pub async fn ledger(
    config: &PostgresConfig,
    shutdown: &Shutdown,
) -> Result<Option<Arc<PostgresLedger>>, Refused> {
    let connect = async || match PostgresLedger::connect(config).await {
        Ok(ledger) => Try::Done(ledger),
        Err(error @ (LedgerError::Refused(_) | LedgerError::Damaged(_))) => Try::Refused(Refused(error)),
        Err(error) => Try::Away(Refused(error)),
    };
    wait_for("the ledger's database", shutdown, connect).await
}
