//! The operator's commands about accounts and nodes, until accounts can manage their own: let an account's nodes in,
//! revoke an API key, say how an account shares the network, and revoke a node. Each command changes one row; the gateways and the warden act on it.

use std::io::{self, BufRead as _, Read as _};
use std::time::Duration;

use clap::Subcommand;
use infera_gateway::access::erasure_orders::{self, ErasureOrderError};
use infera_gateway::access::money_orders::{self, MoneyOrderError};
use infera_gateway::access::share_orders::{self, ShareOrderError};
use infera_gateway::access::{self, RevokeKeyError, admission};
use infera_ledger::{
    AccountBook, AccountLook, ErasureOrders, NodeBook, PoolBook, PriceBook, ShareBook, SpendBook,
};
use infera_program::group_command::Switch;
use infera_program::{Failure, print};
use infera_types::ids::{JobId, NodeId};

use super::groups;

/// The largest line with a key or its hash, in bytes. A key has 40 characters and a hash 64.
const KEY_LINE_MAX_BYTES: u64 = 256;

/// The commands about accounts.
#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Give an account the scope `fleet`: its nodes may come in over the broker.
    Fleet {
        /// The account's id, or the address that it signed up with.
        email: String,
    },
    /// Revoke the API key on standard input. On the command line it would stay in the shell's history. Its SHA-256 in
    /// hexadecimal, as the ledger's table `api_keys` has it, will do.
    #[command(after_help = "Example:\n  infera-gateway account revoke-key < leaked-key.txt")]
    RevokeKey,
    /// Record that an account is a person's or a firm's that is known: its jobs are counted by themselves, and no longer
    /// together with those of all unproven accounts of its network.
    Prove {
        /// The account's id, or the address that it signed up with.
        email: String,
    },
    /// Set the weight of an account, 1 if it was never set: one of weight 2 gets twice the tokens of one of weight 1 while
    /// both wait.
    Weigh {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// The weight.
        #[arg(value_parser = clap::value_parser!(u32).range(share_orders::WEIGHTS))]
        weight: u32,
    },
    /// Erase the text of all jobs that an account has had: requests, answers and metadata, from the ledger and the archive.
    /// It can't be taken back. The same again tells how far it has come.
    Erase {
        /// The account's id, or the address that it signed up with.
        account: String,
        /// Say that it is meant.
        #[arg(long)]
        yes: bool,
    },
    /// Set the most that an account may spend in a calendar month (UTC). What was accepted already goes on.
    #[command(after_help = "Example:\n  infera-gateway account limit client@example.com 25.50")]
    Limit {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// The amount in the network's currency, or `none` for no limit.
        amount: String,
    },
    /// Record that an account pays for what it owes. Jobs of other accounts earn their nodes no points, where the model has a
    /// price.
    Pays {
        /// The account's id, or the address that it signed up with.
        email: String,
        /// It pays no more.
        #[arg(long)]
        no_more: bool,
    },
    /// Let the API key on standard input ask for `service_tier` priority. Its SHA-256 in hexadecimal will do.
    #[command(after_help = "Example:\n  infera-gateway account allow-priority < key.txt")]
    AllowPriority {
        /// Take the right away instead.
        #[arg(long)]
        no_more: bool,
    },
}

/// The commands about single jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// Erase the text of a job that has ended: request, answer and metadata, from the ledger and the archive. It can't be taken
    /// back. The same again tells how far it has come.
    Erase {
        /// The job's id.
        job: JobId,
    },
}

/// Carries out a command about a job.
pub(super) async fn job(command: &JobCommand, orders: &dyn ErasureOrders) -> Result<(), Failure> {
    let JobCommand::Erase { job } = command;
    let said = erasure_orders::erase_job(orders, *job).await.map_err(not_erased)?;
    Ok(print(&said)?)
}

/// Maps why text isn't erased to the exit code of whose fault it is.
fn not_erased(error: ErasureOrderError) -> Failure {
    if error.is_ledgers() { error.into() } else { Failure::refused(error) }
}

/// The commands about models.
#[derive(Debug, Subcommand)]
pub(super) enum ModelCommand {
    /// Set what a model costs, in the network's currency for a million tokens. A model is free until then, and with two zeros
    /// again. Jobs keep the price at which they were accepted.
    #[command(after_help = "Example:\n  infera-gateway model price infera-tiny 0.15 0.60")]
    Price {
        /// The model's name.
        model: String,
        /// For a million tokens of prompts.
        prompt: String,
        /// For a million tokens of answers.
        completion: String,
    },
}

/// The commands about nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Shut a node out for good; what it earned stays.
    Revoke {
        /// Its id, as its worker's log says it (`node=…`).
        id: String,
    },
    /// Make a node a backstop of the network, or an ordinary one: a backstop is asked only where others can't fill a group, and
    /// earns no points.
    Backstop {
        /// Its name or id.
        node: String,
        /// Whether it is one.
        switch: Switch,
    },
}

/// Carries out a command about accounts. `key_ttl` is how long gateways believe a key.
pub(super) async fn account<L>(command: &AccountCommand, ledger: &L, key_ttl: Duration) -> Result<(), Failure>
where
    L: NodeBook + AccountBook + ShareBook + AccountLook + ErasureOrders + SpendBook,
{
    match command {
        AccountCommand::Fleet { email } => match admission::allow_fleet(ledger, email).await? {
            Some(account) => Ok(print(&format!("{account}: its nodes may come in"))?),
            None => {
                Err(Failure::refused(format!("no account signed up as {email}: POST /signup_user first")))
            }
        },
        AccountCommand::Prove { email } => {
            let done = share_orders::prove(email, ledger).await.map_err(not_ordered)?;
            Ok(print(&delayed(&done, key_ttl))?)
        }
        AccountCommand::Weigh { email, weight } => {
            let done = share_orders::weigh(email, *weight, ledger).await.map_err(not_ordered)?;
            Ok(print(&delayed(&done, key_ttl))?)
        }
        AccountCommand::Limit { email, amount } => {
            Ok(print(&money_orders::limit(ledger, email, amount).await.map_err(not_charged)?)?)
        }
        AccountCommand::Pays { email, no_more } => {
            Ok(print(&money_orders::pays(ledger, email, !no_more).await.map_err(not_charged)?)?)
        }
        AccountCommand::AllowPriority { no_more } => {
            let ordered = share_orders::allow_priority(&key_line()?, !no_more, ledger).await;
            Ok(print(&delayed(&ordered.map_err(not_ordered)?, key_ttl))?)
        }
        AccountCommand::Erase { account, yes } => {
            let said = erasure_orders::erase_account(ledger, account, *yes).await.map_err(not_erased)?;
            Ok(print(&said)?)
        }
        AccountCommand::RevokeKey => {
            let revoked = revoke_key(&key_line()?, ledger).await?;
            Ok(print(&format!(
                "{revoked}; gateways that saw it lately may take it for another {} ms (gateway.key_ttl_ms)",
                key_ttl.as_millis()
            ))?)
        }
    }
}

/// Carries out a command about models. `refresh` is how often gateways read prices.
pub(super) async fn model(
    command: &ModelCommand,
    book: &dyn PriceBook,
    refresh: Duration,
) -> Result<(), Failure> {
    let ModelCommand::Price { model, prompt, completion } = command;
    let done = money_orders::price(book, model, prompt, completion).await.map_err(not_charged)?;
    let within = refresh.as_millis();
    Ok(print(&format!("{done}; gateways know it within {within} ms (gateway.catalogue_refresh_ms)"))?)
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

/// Adds to what was done by when all gateways know it.
fn delayed(done: &str, key_ttl: Duration) -> String {
    format!("{done}; gateways know it within {} ms (gateway.key_ttl_ms)", key_ttl.as_millis())
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
async fn revoke_key(text: &str, book: &dyn AccountBook) -> Result<String, Failure> {
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

/// Carries out a command about nodes.
pub(super) async fn node<L>(command: &NodeCommand, ledger: &L) -> Result<(), Failure>
where
    L: NodeBook + PoolBook,
{
    let id = match command {
        NodeCommand::Revoke { id } => id,
        NodeCommand::Backstop { node, switch } => return groups::backstop(node, *switch, ledger).await,
    };
    match admission::revoke(ledger, &NodeId::new(id.as_str())).await? {
        Some(node) => Ok(print(&format!(
            "{} ({}) is revoked; its connections close within a minute",
            node.id, node.name
        ))?),
        None => Err(Failure::refused(format!("there is no node {id}"))),
    }
}

#[cfg(test)]
mod tests {
    use infera_gateway::access::ApiKey;
    use infera_ledger_sqlite::SqliteLedger;
    use infera_types::time::Timestamp;

    use super::*;

    #[tokio::test]
    async fn a_revoked_key_opens_no_gateway_and_is_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let account = ledger.sign_up("a@example.com", None, Timestamp::now()).await.unwrap().account;
        let keys = [ApiKey::generate().unwrap(), ApiKey::generate().unwrap()];
        for key in &keys {
            ledger.issue_key(&key.row(account.clone()), Timestamp::now()).await.unwrap();
        }
        assert!(ledger.key(keys[0].hash()).await.unwrap().is_some());
        let said = revoke_key(keys[0].expose(), &*ledger).await.unwrap();
        assert!(said.contains(keys[0].hint()) && said.contains(account.as_str()), "{said}");
        assert!(!said.contains(keys[0].expose()));
        assert_eq!(ledger.key(keys[0].hash()).await.unwrap(), None);
        assert!(ledger.key(keys[1].hash()).await.unwrap().is_some(), "the account's other key works");

        let again = revoke_key(keys[0].expose(), &*ledger).await.unwrap_err();
        assert_eq!(again.code(), infera_program::REFUSED);
        revoke_key(&keys[1].hash().to_string(), &*ledger).await.unwrap();
        assert_eq!(ledger.key(keys[1].hash()).await.unwrap(), None);
        let typo = format!("{}x", &keys[0].expose()[..39]);
        for text in ["", "inf_", typo.as_str()] {
            let error = revoke_key(text, &*ledger).await.unwrap_err();
            assert_eq!(error.code(), infera_program::SETTINGS);
            assert!(text.len() < 5 || !error.to_string().contains(text), "{error}");
        }
    }
}
