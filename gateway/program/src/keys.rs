//! The operator's commands about API keys. Each changes a row or two; gateways act on it within `gateway.key_ttl_ms`.

use std::time::Duration;

use infera_gateway::access::key_orders::{self, KeyOrder, KeyOrderError, MadeKey};
use infera_ledger::{AccountBook, KeyBook, PrivacyChange};
use infera_program::key_command::KeyCommand;
use infera_program::{Failure, print};
use infera_types::time::Timestamp;

/// Carries out a command about keys.
pub(super) async fn act<L>(command: &KeyCommand, ledger: &L) -> Result<(), Failure>
where
    L: AccountBook + KeyBook,
{
    Ok(print(&carry_out(command, ledger).await.map_err(not_done)?)?)
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

#[cfg(test)]
mod tests {
    use infera_gateway::access::ApiKey;
    use infera_ledger_sqlite::SqliteLedger;

    use super::*;

    async fn said(ledger: &SqliteLedger, command: KeyCommand) -> Result<String, Failure> {
        carry_out(&command, ledger).await.map_err(not_done)
    }

    #[tokio::test]
    async fn keys_are_made_listed_rotated_blocked_and_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let admin = KeyCommand::CreateAdmin { email: "ops@example.com".to_owned() };
        let first = said(&ledger, admin).await.unwrap();
        let key = ApiKey::parse(first.lines().last().unwrap()).unwrap();
        let record = ledger.key(key.hash()).await.unwrap().unwrap();
        assert_eq!(record.scopes.to_string(), "user,admin");

        let account = "Ops@Example.com".to_owned();
        let create = |scopes: &str| KeyCommand::Create {
            account: account.clone(),
            name: "ci".to_owned(),
            scopes: scopes.to_owned(),
            expires_in_s: Some(60),
            no_store: true,
            retention_days: Some(7),
        };
        let made = said(&ledger, create("node")).await.unwrap();
        let id = made.split(' ').next().unwrap().to_owned();
        let listed = said(&ledger, KeyCommand::List { account: account.clone() }).await.unwrap();
        assert_eq!(listed.lines().count(), 2);
        assert!(listed.contains(&format!("{id} valid node ")) && !listed.contains("inf_"), "{listed}");
        let retain = |store, retention_days| KeyCommand::Retain { id: id.clone(), store, retention_days };
        let kept = said(&ledger, retain(None, None)).await.unwrap();
        assert!(kept.contains("not stored") && kept.contains("after 7 days"), "{kept}");
        let kept = said(&ledger, retain(Some(true), Some(0))).await.unwrap();
        assert!(kept.contains("are stored") && kept.contains("as records are"), "{kept}");
        assert_eq!(said(&ledger, create("root")).await.unwrap_err().code(), infera_program::SETTINGS);

        let rotated = said(&ledger, KeyCommand::Rotate { id: id.clone(), overlap_s: 1 }).await.unwrap();
        assert!(ApiKey::parse(rotated.lines().last().unwrap()).is_some());
        let again = said(&ledger, KeyCommand::Rotate { id: id.clone(), overlap_s: 1 }).await.unwrap_err();
        assert_eq!(again.code(), infera_program::REFUSED);

        for what in [record.id.to_string(), record.account.to_string(), account.clone()] {
            said(&ledger, KeyCommand::Block { what: what.clone() }).await.unwrap();
            assert_eq!(ledger.key(key.hash()).await.unwrap(), None, "{what}");
            said(&ledger, KeyCommand::Unblock { what }).await.unwrap();
            assert!(ledger.key(key.hash()).await.unwrap().is_some());
        }
        said(&ledger, KeyCommand::Revoke { id: record.id.to_string() }).await.unwrap();
        assert_eq!(ledger.key(key.hash()).await.unwrap(), None);
        for what in ["key_0", "acct0", "nobody@example.com"] {
            let error = said(&ledger, KeyCommand::Block { what: what.to_owned() }).await.unwrap_err();
            assert_eq!(error.code(), infera_program::REFUSED, "{what}");
        }
    }
}
