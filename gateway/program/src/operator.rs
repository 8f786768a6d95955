//! The operator's commands about accounts and nodes, until accounts can manage their own: let an account's nodes in,
//! revoke an API key, and revoke a node. Each command changes one row; the gateways and the warden act on it.

use std::io::{self, BufRead as _, Read as _};
use std::time::Duration;

use clap::Subcommand;
use infera_gateway::access::{self, RevokeKeyError, admission};
use infera_ledger::{AccountBook, NodeBook};
use infera_program::{Failure, print};
use infera_types::ids::NodeId;

/// The largest line with a key or its hash, in bytes. A key has 40 characters and a hash 64.
const KEY_LINE_MAX_BYTES: u64 = 256;

/// The commands about accounts.
#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Give an account the scope `fleet`: its nodes may come in over the broker.
    Fleet {
        /// The address that it signed up with.
        email: String,
    },
    /// Revoke the API key on standard input. On the command line it would stay in the shell's history. Its SHA-256 in
    /// hexadecimal, as the ledger's table `api_keys` has it, will do.
    #[command(after_help = "Example:\n  infera-gateway account revoke-key < leaked-key.txt")]
    RevokeKey,
}

/// The commands about nodes.
#[derive(Debug, Subcommand)]
pub(super) enum NodeCommand {
    /// Shut a node out for good; what it earned stays.
    Revoke {
        /// Its id, as its worker's log says it (`node=…`).
        id: String,
    },
}

/// Carries out a command about accounts. `key_ttl` is how long gateways believe a key.
pub(super) async fn account<L>(command: &AccountCommand, ledger: &L, key_ttl: Duration) -> Result<(), Failure>
where
    L: NodeBook + AccountBook,
{
    match command {
        AccountCommand::Fleet { email } => match admission::allow_fleet(ledger, email).await? {
            Some(account) => Ok(print(&format!("{account}: its nodes may come in"))?),
            None => {
                Err(Failure::refused(format!("no account signed up as {email}: POST /signup_user first")))
            }
        },
        AccountCommand::RevokeKey => {
            let mut line = String::new();
            io::stdin().lock().take(KEY_LINE_MAX_BYTES).read_line(&mut line)?;
            let revoked = revoke_key(line.trim(), ledger).await?;
            Ok(print(&format!(
                "{revoked}; gateways that saw it lately may take it for another {} ms (gateway.key_ttl_ms)",
                key_ttl.as_millis()
            ))?)
        }
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
pub(super) async fn node(command: &NodeCommand, book: &dyn NodeBook) -> Result<(), Failure> {
    let NodeCommand::Revoke { id } = command;
    match admission::revoke(book, &NodeId::new(id.as_str())).await? {
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
