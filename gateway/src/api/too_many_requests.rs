//! The limits that are answered with 429: which there are, and what a client that ran into one is told.

use std::time::Duration;

/// How long a client waits that has no room to store another request. Room comes back as old requests are pruned, which
/// goes on all the time; asking more often only costs requests.
pub(crate) const STORED_WAIT: Duration = Duration::from_secs(60);

/// Says which limit a client ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Requests per minute.
    Rate,
    /// Requests at once.
    InFlight,
    /// Jobs that wait.
    Waiting,
    /// Bytes of requests that are stored.
    Stored,
    /// Sign-ups from one address.
    Signups,
    /// Nodes from one address.
    Nodes,
    /// Connections of one address.
    Connections,
}

impl Limit {
    /// Returns the word that programs compare.
    #[must_use]
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Rate => "rate_limit_exceeded",
            Self::InFlight => "concurrency_limit_exceeded",
            Self::Waiting => "queue_full",
            Self::Stored => "account_storage_full",
            Self::Signups => "signup_limit_exceeded",
            Self::Nodes => "node_limit_exceeded",
            Self::Connections => "connection_limit_exceeded",
        }
    }

    /// Returns what is wrong, and what to do where something can be done.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Rate => "Too many requests per minute for this key.",
            Self::InFlight => "Too many requests at once for this key.",
            Self::Waiting => "Too many jobs of this account are waiting; let some end first.",
            Self::Stored => {
                "This account's requests take up all the room that they may; room comes back a day after their jobs ended. \
                 Send fewer or smaller ones."
            }
            Self::Signups => "Too many sign-ups from this address.",
            Self::Nodes => "Too many registrations and checks of nodes from this address.",
            Self::Connections => "Too many connections from this address, each in the middle of a request.",
        }
    }
}
