//! The operator's commands about API keys, on the ledger of a data folder that no `infera up` has.

use std::path::Path;
use std::time::Duration;

use infera_gateway::access::key_orders::{self, KeyOrder, KeyOrderError, MadeKey};
use infera_ledger::{AccountBook, KeyBook, PrivacyChange};
use infera_ledger_sqlite::SqliteLedger;
use infera_program::Failure;
use infera_program::key_command::KeyCommand;
use infera_types::time::Timestamp;

use crate::data_folder::DataFolder;

/// Carries out a command about keys and returns what it says.
///
/// # Errors
/// A folder in use is refused; so is what is told of a key or an account that doesn't exist.
pub async fn act(data: &Path, command: &KeyCommand) -> Result<String, Failure> {
    let folder = DataFolder::open_filled(data).map_err(Failure::refused)?;
    let path = folder.ledger();
    let opened = tokio::task::spawn_blocking(move || SqliteLedger::open(&path)).await?;
    let ledger = opened.map_err(Failure::refused)?;
    carry_out(command, ledger.as_ref()).await.map_err(not_done)
}

/// Maps why an order about keys isn't carried out to the exit code of whose fault it is.
fn not_done(error: KeyOrderError) -> Failure {
    match error {
        KeyOrderError::Scope(_) => Failure::settings(error),
        KeyOrderError::NoAccount(_)
        | KeyOrderError::NoKey(_)
        | KeyOrderError::NotValid(_)
        | KeyOrderError::Full => Failure::refused(error),
        KeyOrderError::Randomness(error) => error.into(),
        KeyOrderError::Ledger(error) => error.into(),
    }
}

/// Returns what is said of a key that was made: where it belongs, and the key, which is shown this once.
fn told(made: &MadeKey) -> String {
    format!("{} of {}; keep this key, it is not shown again:\n{}", made.id, made.account, made.key.expose())
}

/// Carries out a command and returns what it says.
async fn carry_out<L>(command: &KeyCommand, ledger: &L) -> Result<String, KeyOrderError>
where
    L: AccountBook + KeyBook,
{
    Ok(match command {
        KeyCommand::CreateAdmin { email } => told(&key_orders::create_admin(ledger, email).await?),
        KeyCommand::Create { account, name, scopes, expires_in_s, no_store, retention_days } => {
            let valid_for = expires_in_s.map(Duration::from_secs);
            let privacy =
                PrivacyChange { stores: no_store.then_some(false), retention_days: retention_days.map(Some) };
            told(&key_orders::create(ledger, KeyOrder { account, name, scopes, valid_for, privacy }).await?)
        }
        KeyCommand::List { account } => {
            let now = Timestamp::now();
            let keys = key_orders::list(ledger, account).await?;
            keys.iter().map(|view| key_orders::line(view, now)).collect::<Vec<_>>().join("\n")
        }
        KeyCommand::Rotate { id, overlap_s } => {
            told(&key_orders::rotate(ledger, id, Duration::from_secs(*overlap_s)).await?)
        }
        KeyCommand::Retain { id, store, retention_days } => {
            let days = retention_days.map(|days| Some(days).filter(|days| *days > 0));
            let privacy = PrivacyChange { stores: *store, retention_days: days };
            key_orders::retains(&key_orders::retain(ledger, id, privacy).await?)
        }
        KeyCommand::Revoke { id } => format!("{} is revoked", key_orders::revoke(ledger, id).await?.id),
        KeyCommand::Block { what } => {
            format!(
                "{} is blocked; gateways refuse it within five seconds",
                key_orders::block(ledger, what, true).await?
            )
        }
        KeyCommand::Unblock { what } => {
            format!("{} is no longer blocked", key_orders::block(ledger, what, false).await?)
        }
    })
}
