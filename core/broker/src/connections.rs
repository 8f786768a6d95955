//! The seam to the broker's book of connections: who is connected, from where, and closing a door. It carries no message.
//!
//! RabbitMQ lets a connection go on after its token has run out and after its node was revoked: a consumer goes on
//! receiving. So somebody has to look, and here is what with.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;

use infera_types::time::Timestamp;

/// One connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The broker's name for it.
    pub name: String,
    /// As whom it logged in: a node's id, or the operator's user.
    pub user: String,
    /// Where it comes from, as the broker sees it.
    pub peer: Option<IpAddr>,
    /// Since when.
    pub since: Timestamp,
}

/// The book can't be read or a connection not closed; a retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// The operator's to mend: address, user or tag.
    #[error(
        "the broker's management refuses us: {0}; management.url needs a user with the tag administrator"
    )]
    Refused(String),
    /// The list is empty, without even our own connections, as RabbitMQ 4.3's is where it collects no metrics: the
    /// operator's to mend, unless the broker has only just started.
    #[error(
        "the broker's management lists no connection, not even ours; if it still doesn't in a minute, set \
         deprecated_features.permit.management_metrics_collection = true in RabbitMQ's configuration"
    )]
    Unlisted,
    /// Away, or too slow.
    #[error("the broker's management is away: {0}")]
    Away(String),
}

/// Lists the broker's connections, and closes them.
#[async_trait]
pub trait Connections: Send + Sync + fmt::Debug {
    /// All connections, nodes' and the operator's. One that was just made may be missing for some seconds.
    ///
    /// # Errors
    /// [`ConnectionsError`].
    async fn list(&self) -> Result<Vec<Connection>, ConnectionsError>;

    /// Closes the connection of this name, with a reason that its owner is told. One that is gone is closed.
    ///
    /// # Errors
    /// [`ConnectionsError`].
    async fn close(&self, name: &str, reason: &str) -> Result<(), ConnectionsError>;
}
