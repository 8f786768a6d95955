//! What an operator does on a data folder beside running it: compact the ledger, look at an archived record, revoke a key, say how an
//! account shares the network. Where an `infera up` runs on the folder, it is asked.

use std::io::{self, BufRead as _, Read as _};
use std::path::Path;

use infera_archive::record::RecordError;
use infera_ledger::LedgerError;
use infera_ledger_sqlite::SqliteLedger;
use infera_program::Failure;
use infera_types::ids::JobId;

use crate::cli::{AccountCommand, ArchiveCommand, JobCommand, ModelCommand, Settings};
use crate::config::Config;
use crate::data_folder::{self, DataFolder, DataFolderError};
use crate::ledger_orders::{KeyHash, LedgerOrder};
use crate::models;
use crate::operators::{self, AskError};
use crate::records::Records;
use crate::seams::SeamsError;

/// A key has 40 characters and a hash 64; what is longer is neither.
const KEY_LINE_MAX_BYTES: u64 = 256;

/// Why a record can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The data folder.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// Ledger or archive.
    #[error(transparent)]
    Seams(#[from] SeamsError),
    /// There is no such record, or it is damaged.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The `infera up` that holds the folder.
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl ShowError {
    fn may_pass(&self) -> bool {
        match self {
            Self::DataFolder(_) | Self::Seams(_) => false,
            Self::Record(error) => error.may_pass(),
            Self::Ask(error) => error.may_pass(),
        }
    }
}

impl ShowError {
    /// Maps it to the exit code: whether trying again may help.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        if self.may_pass() { self.into() } else { Failure::refused(self) }
    }
}

/// Rewrites the ledger in the data folder without the pages that are free in it; returns a line that says what came of it.
///
/// # Errors
/// As [`SqliteLedger::compact`].
pub fn compact(data: &Path) -> Result<String, LedgerError> {
    let path = data_folder::ledger_in(data);
    let (before, after) = SqliteLedger::compact(&path)?;
    Ok(format!("{}: {before} bytes before, {after} after", path.display()))
}

/// Returns the archived record of `job` as one line of JSON: read from the data folder, or asked of the `infera up` that has
/// it.
///
/// # Errors
/// [`ShowError`].
pub async fn show_record(data: &Path, job: JobId) -> Result<String, ShowError> {
    match DataFolder::open_filled(data) {
        Ok(folder) => Ok(Records::open(&folder).await?.find(job).await?),
        Err(DataFolderError::InUse(_)) => Ok(operators::ask(data, job).await?),
        Err(error) => Err(error.into()),
    }
}

/// Carries out an order of the ledger in a data folder, or hands it to the `infera up` that has the folder; returns a line that says
/// what was done.
///
/// # Errors
/// What the order says; and a folder whose holder doesn't answer.
pub(crate) async fn order(data: &Path, order: LedgerOrder) -> Result<String, Failure> {
    let folder = match DataFolder::open_filled(data) {
        Ok(folder) => folder,
        Err(DataFolderError::InUse(_)) => {
            return operators::order_of_ledger(data, &order).await.map_err(AskError::into_failure);
        }
        Err(error) => return Err(Failure::refused(error)),
    };
    let path = folder.ledger();
    let opened = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await?;
    order.carry_out(opened.map_err(Failure::refused)?.as_ref()).await
}

/// Carries out a command about an account or a key in the ledger of a data folder; returns a line that says what was done. `load`
/// makes the configuration of a command's settings.
///
/// # Errors
/// An account or a key that doesn't exist is refused.
pub async fn account(
    command: AccountCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let (settings, ordered) = match command {
        AccountCommand::RevokeKey(settings) => (settings, LedgerOrder::RevokeKey { key: typed_key()? }),
        AccountCommand::Prove { email, settings } => (settings, LedgerOrder::Prove { account: email }),
        AccountCommand::Weigh { email, weight, settings } => {
            (settings, LedgerOrder::Weigh { account: email, weight })
        }
        AccountCommand::Erase { account, yes, settings } => {
            (settings, LedgerOrder::EraseAccount { account, is_meant: yes })
        }
        AccountCommand::Limit { email, amount, settings } => {
            (settings, LedgerOrder::Limit { account: email, amount })
        }
        AccountCommand::Pays { email, no_more, settings } => {
            (settings, LedgerOrder::Pays { account: email, pays: !no_more })
        }
        AccountCommand::AllowPriority { no_more, settings } => {
            (settings, LedgerOrder::AllowPriority { key: typed_key()?, is_allowed: !no_more })
        }
    };
    order(&load(settings)?.data, ordered).await
}

/// Carries out a command about the archive of a data folder; returns what it shows. `load` makes the configuration of the
/// command's settings.
///
/// # Errors
/// As [`show_record`], mapped to whose fault it is.
pub async fn archive(
    command: ArchiveCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let ArchiveCommand::Show { job, settings } = command;
    show_record(&load(settings)?.data, job).await.map_err(ShowError::into_failure)
}

/// Carries out a command about a job in the ledger of a data folder; returns a line that says what was done.
///
/// # Errors
/// A job that doesn't exist or has not ended is refused.
pub async fn job(
    command: JobCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let JobCommand::Erase { job, settings } = command;
    order(&load(settings)?.data, LedgerOrder::EraseJob { job }).await
}

/// Carries out a command about models; returns what it shows.
///
/// # Errors
/// As [`models::act`]; of prices, as [`account`].
pub async fn model(
    command: ModelCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let (name, prompt, completion, settings) = match command {
        ModelCommand::Store(command) => return models::act(command).await,
        ModelCommand::Price { name, prompt, completion, settings } => (name, prompt, completion, settings),
    };
    order(&load(settings)?.data, LedgerOrder::Price { model: name, prompt, completion }).await
}

/// Reads the line with a key from standard input; returns its hash.
fn typed_key() -> io::Result<KeyHash> {
    let mut line = String::new();
    io::stdin().lock().take(KEY_LINE_MAX_BYTES).read_line(&mut line)?;
    Ok(KeyHash::of(line.trim()))
}
