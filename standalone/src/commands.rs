//! What an operator does on a data folder beside running it: compact the ledger, look at an archived record, revoke a key, say how an
//! account shares the network.
//! Where an `infera up` runs on the folder, only what it answers itself can be done.

use std::io::{self, BufRead as _, Read as _};
use std::path::Path;
use std::sync::Arc;

use infera_archive::record::RecordError;
use infera_gateway::access::erasure_orders::{self, ErasureOrderError};
use infera_gateway::access::money_orders::{self, MoneyOrderError};
use infera_gateway::access::share_orders::{self, ShareOrderError};
use infera_gateway::access::{self, RevokeKeyError};
use infera_ledger::{AccountBook, LedgerError};
use infera_ledger_sqlite::SqliteLedger;
use infera_program::Failure;
use infera_types::ids::JobId;

use crate::cli::{AccountCommand, ArchiveCommand, JobCommand, ModelCommand, Settings};
use crate::config::Config;
use crate::data_folder::{self, DataFolder, DataFolderError};
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
            Self::Ask(AskError::Away { .. }) => true,
            Self::Ask(AskError::Told { may_pass, .. }) => *may_pass,
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

/// Carries out a command about an account or a key in the ledger of a data folder that no `infera up` has; returns a line
/// that says what was done. `load` makes the configuration of a command's settings.
///
/// # Errors
/// An account or a key that doesn't exist is refused, and so is a folder in use.
pub async fn account(
    command: AccountCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let done = match command {
        AccountCommand::RevokeKey(settings) => {
            let (data, line) = (load(settings)?.data, key_line()?);
            return revoke(ledger_in(&data).await?.as_ref(), &line).await;
        }
        AccountCommand::Prove { email, settings } => {
            let ledger = ledger_in(&load(settings)?.data).await?;
            share_orders::prove(&email, ledger.as_ref()).await
        }
        AccountCommand::Weigh { email, weight, settings } => {
            let ledger = ledger_in(&load(settings)?.data).await?;
            share_orders::weigh(&email, weight, ledger.as_ref()).await
        }
        AccountCommand::Erase { account, yes, settings } => {
            let ledger = ledger_in(&load(settings)?.data).await?;
            let erased = erasure_orders::erase_account(ledger.as_ref(), &account, yes).await;
            return erased.map_err(not_erased);
        }
        AccountCommand::Limit { email, amount, settings } => {
            let ledger = ledger_in(&load(settings)?.data).await?;
            return money_orders::limit(ledger.as_ref(), &email, &amount).await.map_err(not_charged);
        }
        AccountCommand::Pays { email, no_more, settings } => {
            let ledger = ledger_in(&load(settings)?.data).await?;
            return money_orders::pays(ledger.as_ref(), &email, !no_more).await.map_err(not_charged);
        }
        AccountCommand::AllowPriority { no_more, settings } => {
            let (data, line) = (load(settings)?.data, key_line()?);
            share_orders::allow_priority(&line, !no_more, ledger_in(&data).await?.as_ref()).await
        }
    };
    done.map_err(not_ordered)
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

/// Carries out a command about a job in the ledger of a data folder that no `infera up` has; returns a line that says what was
/// done.
///
/// # Errors
/// A job that doesn't exist or has not ended is refused, and so is a folder in use.
pub async fn job(
    command: JobCommand,
    load: impl Fn(Settings) -> Result<Config, Failure>,
) -> Result<String, Failure> {
    let JobCommand::Erase { job, settings } = command;
    let ledger = ledger_in(&load(settings)?.data).await?;
    erasure_orders::erase_job(ledger.as_ref(), job).await.map_err(not_erased)
}

/// Maps why text isn't erased to the exit code of whose fault it is.
fn not_erased(error: ErasureOrderError) -> Failure {
    if error.is_ledgers() { error.into() } else { Failure::refused(error) }
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
    let ledger = ledger_in(&load(settings)?.data).await?;
    money_orders::price(ledger.as_ref(), &name, &prompt, &completion).await.map_err(not_charged)
}

/// Maps why an order about money isn't carried out to the exit code of whose fault it is.
fn not_charged(error: MoneyOrderError) -> Failure {
    match error {
        MoneyOrderError::Amount { .. } => Failure::settings(error),
        MoneyOrderError::NoAccount(_) | MoneyOrderError::NoModel(_) => Failure::refused(error),
        MoneyOrderError::Ledger(error) => error.into(),
    }
}

/// Reads the line with a key from standard input.
fn key_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().take(KEY_LINE_MAX_BYTES).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Opens the ledger of a data folder that no `infera up` has.
pub(crate) async fn ledger_in(data: &Path) -> Result<Arc<SqliteLedger>, Failure> {
    let folder = DataFolder::open_filled(data).map_err(Failure::refused)?;
    let path = folder.ledger();
    let opened = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await?;
    opened.map_err(Failure::refused)
}

/// Maps why an order about shares isn't carried out to the exit code of whose fault it is.
fn not_ordered(error: ShareOrderError) -> Failure {
    match error {
        ShareOrderError::NoKey => Failure::settings(error),
        ShareOrderError::Unknown | ShareOrderError::NoAccount(_) => Failure::refused(error),
        ShareOrderError::Ledger(error) => error.into(),
    }
}

/// Revokes the key in `text`.
async fn revoke(book: &dyn AccountBook, text: &str) -> Result<String, Failure> {
    access::revoke_key(text, book).await.map_err(not_revoked)
}

/// Maps why a key isn't revoked to the exit code of whose fault it is.
fn not_revoked(error: RevokeKeyError) -> Failure {
    match error {
        RevokeKeyError::NoKey => Failure::settings(error),
        RevokeKeyError::Unknown => Failure::refused(error),
        RevokeKeyError::Ledger(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use infera_gateway::access::ApiKey;
    use infera_types::time::Timestamp;

    use super::*;

    #[tokio::test]
    async fn a_key_is_revoked_once_and_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let account = ledger.sign_up("a@example.com", None, Timestamp::now()).await.unwrap().account;
        let keys = [ApiKey::generate().unwrap(), ApiKey::generate().unwrap()];
        for key in &keys {
            ledger.issue_key(&key.row(account.clone()), Timestamp::now()).await.unwrap();
        }
        let said = revoke(&*ledger, keys[0].expose()).await.unwrap();
        assert!(said.contains(keys[0].hint()) && said.contains(account.as_str()), "{said}");
        assert_eq!(ledger.key(keys[0].hash()).await.unwrap(), None);
        assert!(ledger.key(keys[1].hash()).await.unwrap().is_some(), "the other one works");
        let again = revoke(&*ledger, keys[0].expose()).await.unwrap_err();
        assert_eq!(again.code(), infera_program::REFUSED);
        revoke(&*ledger, &keys[1].hash().to_string()).await.unwrap();
        assert_eq!(ledger.key(keys[1].hash()).await.unwrap(), None);
        let typo = format!("{}x", &keys[0].expose()[..39]);
        for text in ["", "inf_", typo.as_str()] {
            let error = revoke(&*ledger, text).await.unwrap_err();
            assert_eq!(error.code(), infera_program::SETTINGS);
            assert!(text.len() < 5 || !error.to_string().contains(text), "{error}");
        }
    }
}
