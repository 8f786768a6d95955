//! What a node from outside is told that isn't let in.

use hyper::StatusCode;

/// Says why a node isn't let in, and who can change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This gateway has no key to sign tokens with: its operator.
    NoAdmission,
    /// The account has no scope `fleet`, or there is no account: the operator.
    NoFleet,
    /// The name has another secret: the runner.
    NameTaken,
    /// No node of this name has this secret: the runner.
    Unknown,
    /// Shut out for good: the operator did that.
    Revoked,
    /// The broker is away: a retry is safe.
    BrokerAway,
}

impl Refusal {
    /// Returns the status.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::NoAdmission | Self::BrokerAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoFleet | Self::Unknown | Self::Revoked => StatusCode::FORBIDDEN,
            Self::NameTaken => StatusCode::CONFLICT,
        }
    }

    /// Returns the word that programs compare.
    #[must_use]
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::NoAdmission => "nodes_not_admitted",
            Self::NoFleet => "fleet_scope_required",
            Self::NameTaken => "node_name_taken",
            Self::Unknown => "node_unknown",
            Self::Revoked => "node_revoked",
            Self::BrokerAway => "broker_unavailable",
        }
    }

    /// Returns what is wrong, and what to do.
    #[must_use]
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::NoAdmission => {
                "This gateway lets no nodes in from outside. Its operator sets nodes.token_key_file and nodes.broker_url \
                 of the program infera-gateway."
            }
            Self::NoFleet => {
                "Nodes connect to the broker under an account with the scope 'fleet'. Send that account's key in the \
                 header 'api_key' when registering, and ask the operator for the scope: infera-gateway account fleet \
                 <the account's e-mail address>."
            }
            Self::NameTaken => {
                "This node_id is registered with another secret, or was revoked. Send the secret that it was registered \
                 with, or choose another node_id."
            }
            Self::Unknown => {
                "No node of this node_id has this secret. Register it first, with POST /register_node_secret."
            }
            Self::Revoked => "This node was revoked by the operator.",
            Self::BrokerAway => "The broker is not available. Try again soon.",
        }
    }
}
