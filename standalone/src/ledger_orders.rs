//! What an operator orders of a data folder's ledger: prices, accounts, keys, groups of nodes, erasures. A command carries an order out
//! on a folder that nothing runs on; otherwise it hands the order to the `infera up` that has the folder.

use std::time::Duration;

use infera_gateway::access::erasure_orders::{self, ErasureOrderError};
use infera_gateway::access::group_orders::{self, GroupOrderError};
use infera_gateway::access::key_orders::{self, KeyOrder, KeyOrderError, MadeKey};
use infera_gateway::access::money_orders::{self, MoneyOrderError};
use infera_gateway::access::share_orders::{self, ShareOrderError};
use infera_gateway::access::{self, ApiKey, RevokeKeyError};
use infera_ledger::PrivacyChange;
use infera_ledger_sqlite::SqliteLedger;
use infera_program::Failure;
use infera_program::group_command::GroupCommand;
use infera_program::key_command::KeyCommand;
use infera_types::ids::{Digest, JobId};
use infera_types::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One order. Accounts are named by their id or by the address that they signed up with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerOrder {
    /// Sets what a model costs.
    Price {
        /// The model's name.
        model: String,
        /// For a million tokens of prompts, as it was typed.
        prompt: String,
        /// For a million tokens of answers, as it was typed.
        completion: String,
    },
    /// Sets what an account may spend in a month.
    Limit {
        /// The account.
        account: String,
        /// The amount as it was typed, or `none`.
        amount: String,
    },
    /// Records whether an account pays.
    Pays {
        /// The account.
        account: String,
        /// Whether it does.
        pays: bool,
    },
    /// Records that an account is known.
    Prove {
        /// The account.
        account: String,
    },
    /// Sets an account's weight.
    Weigh {
        /// The account.
        account: String,
        /// The weight.
        weight: u32,
    },
    /// Lets a key ask for priority, or no more.
    AllowPriority {
        /// The key's hash.
        key: KeyHash,
        /// Whether it may.
        is_allowed: bool,
    },
    /// Revokes a key that leaked.
    RevokeKey {
        /// The key's hash.
        key: KeyHash,
    },
    /// Has the text of all jobs of an account erased.
    EraseAccount {
        /// The account.
        account: String,
        /// Whether the operator said that it is meant.
        is_meant: bool,
    },
    /// Has the text of a job erased.
    EraseJob {
        /// The job.
        job: JobId,
    },
    /// Does what a command about keys says.
    Key(KeyCommand),
    /// Does what a command about groups of nodes says.
    Group(GroupCommand),
    /// Makes a node a backstop of the network, or an ordinary one.
    Backstop {
        /// Its name or id.
        node: String,
        /// Whether it is one.
        is_backstop: bool,
    },
}

/// The hash of an API key in hexadecimal digits, or nothing where what was typed is neither a key nor a hash. A key itself is neither
/// sent nor shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHash(String);

impl KeyHash {
    /// Takes what was typed: a key, or its SHA-256.
    #[must_use]
    pub fn of(typed: &str) -> Self {
        let hash = ApiKey::parse(typed).map(|key| key.hash());
        let hash = hash.or_else(|| typed.parse::<Digest>().ok());
        Self(hash.map_or_else(String::new, |hash| hash.to_string()))
    }
}

impl LedgerOrder {
    /// Carries it out, and returns what is said of it.
    ///
    /// # Errors
    /// What is wrong, and whose fault it is.
    pub async fn carry_out(&self, ledger: &SqliteLedger) -> Result<String, Failure> {
        match self {
            Self::Price { model, prompt, completion } => {
                money_orders::price(ledger, model, prompt, completion).await.map_err(not_charged)
            }
            Self::Limit { account, amount } => {
                money_orders::limit(ledger, account, amount).await.map_err(not_charged)
            }
            Self::Pays { account, pays } => {
                money_orders::pays(ledger, account, *pays).await.map_err(not_charged)
            }
            Self::Prove { account } => share_orders::prove(account, ledger).await.map_err(not_shared),
            Self::Weigh { account, weight } => {
                share_orders::weigh(account, *weight, ledger).await.map_err(not_shared)
            }
            Self::AllowPriority { key, is_allowed } => {
                share_orders::allow_priority(&key.0, *is_allowed, ledger).await.map_err(not_shared)
            }
            Self::RevokeKey { key } => access::revoke_key(&key.0, ledger).await.map_err(not_revoked),
            Self::EraseAccount { account, is_meant } => {
                erasure_orders::erase_account(ledger, account, *is_meant).await.map_err(not_erased)
            }
            Self::EraseJob { job } => erasure_orders::erase_job(ledger, *job).await.map_err(not_erased),
            Self::Key(command) => of_key(command, ledger).await.map_err(no_key),
            Self::Group(command) => {
                let (account, task) = command.task();
                group_orders::carry_out(ledger, account, task).await.map_err(no_group)
            }
            Self::Backstop { node, is_backstop } => {
                group_orders::backstop(ledger, node, *is_backstop).await.map_err(no_group)
            }
        }
    }
}

/// Returns what is said of a key that was made: where it belongs, and the key, which is shown this once.
fn told(made: &MadeKey) -> String {
    format!("{} of {}; keep this key, it is not shown again:\n{}", made.id, made.account, made.key.expose())
}

/// Carries out a command about keys and returns what it says.
async fn of_key(command: &KeyCommand, ledger: &SqliteLedger) -> Result<String, KeyOrderError> {
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

/// Maps why an order about keys isn't carried out to the exit code of whose fault it is.
fn no_key(error: KeyOrderError) -> Failure {
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

/// Maps why an order about groups isn't carried out to the exit code of whose fault it is.
fn no_group(error: GroupOrderError) -> Failure {
    match error {
        GroupOrderError::NoName => Failure::settings(error),
        GroupOrderError::Ledger(error) => error.into(),
        _ => Failure::refused(error),
    }
}

/// Maps why text isn't erased to the exit code of whose fault it is.
fn not_erased(error: ErasureOrderError) -> Failure {
    if error.is_ledgers() { error.into() } else { Failure::refused(error) }
}

/// Maps why an order about money isn't carried out to the exit code of whose fault it is.
fn not_charged(error: MoneyOrderError) -> Failure {
    match error {
        MoneyOrderError::Amount { .. } => Failure::settings(error),
        MoneyOrderError::NoAccount(_) | MoneyOrderError::NoModel(_) => Failure::refused(error),
        MoneyOrderError::Ledger(error) => error.into(),
    }
}

/// Maps why an order about shares isn't carried out to the exit code of whose fault it is.
fn not_shared(error: ShareOrderError) -> Failure {
    match error {
        ShareOrderError::NoKey => Failure::settings(error),
        ShareOrderError::Unknown | ShareOrderError::NoAccount(_) => Failure::refused(error),
        ShareOrderError::Ledger(error) => error.into(),
    }
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
    use infera_ledger::AccountBook as _;

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
        let revoke = async |text: &str| {
            let order = LedgerOrder::RevokeKey { key: KeyHash::of(text) };
            let shown = format!("{order:?} {}", serde_json::to_string(&order).unwrap());
            assert!(text.len() < 5 || !text.starts_with("inf_") || !shown.contains(text), "{shown}");
            order.carry_out(&ledger).await
        };
        let said = revoke(keys[0].expose()).await.unwrap();
        assert!(said.contains(account.as_str()), "{said}");
        assert_eq!(ledger.key(keys[0].hash()).await.unwrap(), None);
        assert!(ledger.key(keys[1].hash()).await.unwrap().is_some(), "the other one works");
        let again = revoke(keys[0].expose()).await.unwrap_err();
        assert_eq!(again.code(), infera_program::REFUSED);
        revoke(&keys[1].hash().to_string()).await.unwrap();
        assert_eq!(ledger.key(keys[1].hash()).await.unwrap(), None);
        let typo = format!("{}x", &keys[0].expose()[..39]);
        for text in ["", "inf_", typo.as_str()] {
            let error = revoke(text).await.unwrap_err();
            assert_eq!(error.code(), infera_program::SETTINGS);
            assert!(text.len() < 5 || !error.to_string().contains(text), "{error}");
        }
    }
}
