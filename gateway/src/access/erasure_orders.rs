//! What an operator orders about the text of jobs on the command line, carried out on a ledger. Both programs take these orders;
//! a verifier erases what was ordered. The API does the same for accounts themselves (`routes/erasures`).

use infera_ledger::{AccountErasure, AccountLook, ErasureOrdered, ErasureOrders, LedgerError};
use infera_types::ids::JobId;
use infera_types::time::Timestamp;

use super::account_name::account_named;

/// Why an order to erase text isn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum ErasureOrderError {
    /// The operator didn't say that it is meant.
    #[error("the text of all jobs of {0} would be erased for good; say --yes if that is meant")]
    NotConfirmed(String),
    /// There is no such account: the operator's mistake.
    #[error("there is no account {0}: name its id (acct…) or the address that it signed up with")]
    NoAccount(String),
    /// There is no such job: the operator's mistake.
    #[error("there is no job {0}")]
    NoJob(JobId),
    /// The job goes on.
    #[error("job {0} has not ended: cancel it first, or wait for its end")]
    NotEnded(JobId),
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl ErasureOrderError {
    /// Returns whether the ledger is at fault, so that trying again may help.
    #[must_use]
    pub const fn is_ledgers(&self) -> bool {
        matches!(self, Self::Ledger(_))
    }
}

/// Orders the erasure of the text of all jobs of an account, and returns a sentence about how far it has come. The same again
/// tells how far.
///
/// # Errors
/// [`ErasureOrderError`].
pub async fn erase_account<L>(
    ledger: &L,
    named: &str,
    is_confirmed: bool,
) -> Result<String, ErasureOrderError>
where
    L: AccountLook + ErasureOrders,
{
    if !is_confirmed {
        return Err(ErasureOrderError::NotConfirmed(named.to_owned()));
    }
    let no_account = || ErasureOrderError::NoAccount(named.to_owned());
    let account = account_named(ledger, named).await?.ok_or_else(no_account)?;
    let erasure = ledger.erase_account(&account, Timestamp::now()).await?.ok_or_else(no_account)?;
    let AccountErasure { found, live, pending, .. } = &erasure;
    Ok(format!(
        "{account}: {}; {found} ended jobs found, {live} that had not ended, {pending} pending; a verifier erases them",
        erasure.word()
    ))
}

/// Orders the erasure of the text of a job, whichever account's it is, and returns a sentence about how far it has come.
///
/// # Errors
/// [`ErasureOrderError`].
pub async fn erase_job(orders: &dyn ErasureOrders, job: JobId) -> Result<String, ErasureOrderError> {
    match orders.erase_job(None, job, Timestamp::now()).await? {
        ErasureOrdered::Ordered(erasure) => Ok(format!("{job}: {}", erasure.stage.word())),
        ErasureOrdered::NotEnded => Err(ErasureOrderError::NotEnded(job)),
        ErasureOrdered::Unknown => Err(ErasureOrderError::NoJob(job)),
    }
}
