//! How a gateway refuses a node: the status and the sentence of each refusal. `infera_types::admission` has the codes
//! that a worker acts on.

use hyper::StatusCode;
use infera_types::admission::Refusal;

/// Returns the status of a refusal.
pub(crate) const fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::NoAdmission | Refusal::BrokerAway => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::NoFleet | Refusal::Unknown | Refusal::Revoked | Refusal::TooMany => StatusCode::FORBIDDEN,
        Refusal::NotYours => StatusCode::NOT_FOUND,
        Refusal::NameTaken | Refusal::NoLeases => StatusCode::CONFLICT,
    }
}

/// Returns the sentence of a refusal: what is wrong and what to do.
pub(crate) const fn message(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoAdmission => {
            "This gateway lets no nodes in from outside. Its operator sets nodes.token_key_file and nodes.broker_url \
             of the program infera-gateway."
        }
        Refusal::NoFleet => {
            "Nodes connect to the broker under an account with the scope 'fleet'. Send that account's key in the \
             header 'api_key' when registering, and ask the operator for the scope: infera-gateway account fleet \
             <the account's e-mail address>."
        }
        Refusal::NameTaken => {
            "This node_id is registered with another secret, or was revoked. Send the secret that it was registered \
             with, or choose another node_id."
        }
        Refusal::Unknown => {
            "No node of this node_id has this secret. Register it first, with POST /register_node_secret."
        }
        Refusal::Revoked => "This node was revoked by the operator.",
        Refusal::BrokerAway => "The broker is not available. Try again soon.",
        Refusal::NotYours => {
            "No node of this name belongs to this key's account. A node's name is the node_id that it was registered \
             with, by POST /register_node_secret under a key of its account."
        }
        Refusal::TooMany => {
            "This account has as many nodes as it may. Register this one under the node_id of a node that is gone."
        }
        Refusal::NoLeases => {
            "Nodes of this network return results through its broker. Results over HTTPS need a lease, and no gateway \
             hands any out yet. Run the program infera-worker; nothing of this request was kept."
        }
    }
}
