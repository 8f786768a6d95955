//! The seam to the broker's list of connections: who is connected, from where, and closing a connection. It carries
//! no messages.
//!
//! RabbitMQ lets a consumer go on receiving after its token has expired and after its node was revoked. So the warden
//! has to check connections, and this seam is what it uses.

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;

use infera_types::time::Timestamp;

/// One connection to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The broker's name for the connection.
    pub name: String,
    /// The user that logged in: a node's id, or the operator's user.
    pub user: String,
    /// The address that it comes from, as the broker sees it.
    pub peer: Option<IpAddr>,
    /// When it was opened.
    pub since: Timestamp,
}

/// The list cannot be read, or a connection cannot be closed; a retry is safe.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// The management API refuses; the operator has to mend the address, the user or its tag.
    #[error(
        "the broker's management API refuses: {0}; management.url needs a user with the tag administrator"
    )]
    Refused(String),
    /// The list is empty, without even our own connections, as in RabbitMQ 4.3 if it collects no metrics. The
    /// operator has to mend it, unless the broker has only just started.
    #[error(
        "the broker's management API lists no connection, not even ours; if it still lists none in a minute, set \
         deprecated_features.permit.management_metrics_collection = true in RabbitMQ's configuration"
    )]
    Unlisted,
    /// The management API is away or too slow.
    #[error("the broker's management API is away: {0}")]
    Away(String),
}

/// Lists the broker's connections, and closes them.
#[async_trait]
pub trait Connections: Send + Sync + fmt::Debug {
    /// Returns all connections, nodes' and the operator's. One that was just made may be missing for some seconds.
    ///
    /// # Errors
    /// [`ConnectionsError`].
    async fn list(&self) -> Result<Vec<Connection>, ConnectionsError>;

    /// Closes the connection of this name, with a reason that its owner is told. Closing a connection that is gone
    /// succeeds.
    ///
    /// # Errors
    /// [`ConnectionsError`].
    async fn close(&self, name: &str, reason: &str) -> Result<(), ConnectionsError>;
}
