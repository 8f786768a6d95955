//! The limits that are answered with 429, and the sentences for clients that ran into one.

use std::time::Duration;

use crate::api::waits::Wait;

/// The wait for a client that has no room to store another request. Room is freed all the time, as old requests are
/// pruned; asking more often only costs requests. With what is added to guesses, the longest wait that can be told.
pub(crate) const STORED_WAIT: Duration = Duration::from_secs(40);

/// The wait for a client with as many waiting jobs as it may have. They end in seconds when the network has room; asking
/// more often only costs requests.
pub(crate) const WAITING_WAIT: Duration = Duration::from_secs(2);

/// The wait for a client whose address has used up its share of connections: one of its own requests must end first.
pub(crate) const CONNECTIONS_WAIT: Duration = Duration::from_secs(1);

/// The limit that a client ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Requests per minute.
    Rate,
    /// Tokens per minute.
    Tokens,
    /// Looks and cancels per minute.
    Looks,
    /// Requests at once.
    InFlight,
    /// Jobs that wait or run.
    Waiting,
    /// Bytes of stored requests.
    Stored,
    /// Sign-ups, proofs and recoveries from one address.
    Signups,
    /// Registrations and checks of nodes from one address.
    Nodes,
    /// Connections from one address.
    Connections,
}

impl Limit {
    /// Returns the code that programs compare.
    #[must_use]
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Rate => "rate_limit_exceeded",
            Self::Tokens => "token_limit_exceeded",
            Self::Looks => "look_limit_exceeded",
            Self::InFlight => "concurrency_limit_exceeded",
            Self::Waiting => "queue_full",
            Self::Stored => "account_storage_full",
            Self::Signups => "signup_limit_exceeded",
            Self::Nodes => "node_limit_exceeded",
            Self::Connections => "connection_limit_exceeded",
        }
    }

    /// Returns the wait of a client that ran into the limit: limits by the minute and on what is in flight keep a place for
    /// it, and the others are guessed at.
    #[must_use]
    pub(crate) const fn wait(self, wait: Duration) -> Wait {
        match self {
            Self::Rate | Self::Tokens | Self::Looks | Self::InFlight | Self::Signups | Self::Nodes => {
                Wait::Kept(wait)
            }
            Self::Waiting | Self::Stored | Self::Connections => Wait::Guessed(wait),
        }
    }

    /// Returns what is wrong and, if something can be done, what to do.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Rate => "Too many requests per minute for this key.",
            Self::Tokens => {
                "Too many tokens per minute for this key; prompts and the longest answers asked for are counted."
            }
            Self::Looks => "Too many looks and cancels per minute for this key.",
            Self::InFlight => "Too many requests at once for this key.",
            Self::Waiting => "Too many jobs of this account are waiting; let some end first.",
            Self::Stored => {
                "This account's requests take up all the room that they may; room comes back a day after their jobs ended. \
                 Send fewer or smaller ones."
            }
            Self::Signups => "Too many sign-ups, proofs and recoveries from this address.",
            Self::Nodes => "Too many registrations and checks of nodes from this address.",
            Self::Connections => "Too many connections from this address, each in the middle of a request.",
        }
    }
}
