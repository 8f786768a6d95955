//! Waiting at start for a database that is away.

use std::sync::Arc;

use infera_ledger::LedgerError;
use infera_types::retry::{Try, wait_for};
use infera_types::shutdown::Shutdown;

use super::{PostgresConfig, PostgresLedger};

/// The database won't have this program as it is: an URL that can't be one, no access, or tables that are not a ledger's.
/// The operator's to mend; it names the setting.
#[derive(Debug, thiserror::Error)]
#[error("ledger.url: {0}")]
pub struct Refused(LedgerError);

/// The ledger in a database, waited for while it is away; none if the shutdown came first.
///
/// # Errors
/// [`Refused`]: trying again without changing something is pointless.
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
