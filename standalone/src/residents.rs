//! Registers what must be on record before the first request: the built-in nodes with an owner each, the model that
//! they serve, and the account of the key for local use, which owns none of the nodes. Registering again finds the
//! existing records.

use infera_broker::BrokerError;
use infera_gateway::access::{ApiKey, NoRandomness};
use infera_ledger::{
    AccountBook as _, KeyBook as _, KeyChange, LedgerError, NetworkBook as _, NewKey, NewNode, NodeRecord,
    Registered, Scope, Scopes, ShareBook as _,
};
use infera_types::ids::{AccountId, Digest};
use infera_types::time::Timestamp;

use crate::data_folder::{DataFolder, DataFolderError};
use crate::seams::Seams;

/// Why a resident cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum ResidentsError {
    /// The ledger failed.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The data folder cannot be used.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// The operating system provides no randomness for a key.
    #[error("no key for local use: {0}")]
    Key(#[from] NoRandomness),
    /// The ledger has the node under another secret.
    #[error(
        "node {0} is registered under another secret: the data folder's secret was replaced; put the old one back"
    )]
    WrongSecret(String),
    /// The node's queue cannot be declared.
    #[error("a node's queue: {0}")]
    Queue(#[from] BrokerError),
}

/// Returns an e-mail address that no person has: `.invalid` cannot be registered (RFC 2606).
fn address(name: &str) -> String {
    format!("{name}@infera.invalid")
}

/// Returns the account of such an address.
async fn account(seams: &Seams, name: &str) -> Result<AccountId, ResidentsError> {
    Ok(seams.ledger.sign_up(&address(name), None, Timestamp::now()).await?.account)
}

/// Registers node `name` under an owner of its own.
///
/// # Errors
/// [`ResidentsError`].
pub async fn node(seams: &Seams, data: &DataFolder, name: &str) -> Result<NodeRecord, ResidentsError> {
    node_of(seams, data, name, name).await
}

/// Registers node `name` under the owner of node `first`.
///
/// # Errors
/// [`ResidentsError`].
pub async fn node_of(
    seams: &Seams,
    data: &DataFolder,
    name: &str,
    first: &str,
) -> Result<NodeRecord, ResidentsError> {
    let owner = account(seams, &format!("owner-of-{first}")).await?;
    let secret = Digest::of(data.secret_for("node", name).as_bytes());
    let node = NewNode { name: name.to_owned(), secret, account: Some(owner) };
    match seams.ledger.register_node(&node, Timestamp::now()).await? {
        Registered::Node(record) => Ok(record),
        Registered::WrongSecret => Err(ResidentsError::WrongSecret(name.to_owned())),
    }
}

/// Returns the key for local use: the noted one if it still works, or a new one. A reader of the note runs this network, so the
/// key has the scope `admin`; a noted key of an earlier version gets it.
///
/// # Errors
/// [`ResidentsError`].
pub async fn local_key(seams: &Seams, data: &DataFolder) -> Result<ApiKey, ResidentsError> {
    if let Some(key) = data.noted_key().as_deref().and_then(ApiKey::parse)
        && let Some(record) = seams.ledger.key(key.hash()).await?
    {
        let scopes = Scopes::of(&[Scope::User, Scope::Admin]);
        if record.scopes != scopes {
            let change = KeyChange { scopes: Some(scopes), ..KeyChange::default() };
            seams.ledger.change_key(&record.id, &change).await?;
        }
        return Ok(key);
    }
    let account = account(seams, "local").await?;
    let key = ApiKey::generate()?;
    let scopes = Scopes::of(&[Scope::User, Scope::Admin]);
    let row = NewKey { name: "local".to_owned(), scopes, ..key.row(account) };
    seams.ledger.issue_key(&row, Timestamp::now()).await?;
    // A reader of the note runs this network: the account counts by itself.
    seams.ledger.prove(&address("local"), Timestamp::now()).await?;
    Ok(key)
}
