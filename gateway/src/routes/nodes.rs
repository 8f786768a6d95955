//! `POST /register_node_secret` and `POST /check_node_secret`: registers a node from outside, and lets it in.
//!
//! Where nodes connect to a broker, only those of accounts with the scope `fleet` are registered. Others could do nothing
//! anyway, and strangers' names would pile up in the ledger. After that, a node checks in at intervals: it gets a token,
//! before the last one expires, and its queue, which is declared again if it has expired.
//!
//! In a network that runs in one process there is no broker to connect to. Every account may register nodes there, which
//! keeps their names for it, and a check says that the node is known and can't connect.

use std::sync::Arc;

use infera_broker::{Broker, BrokerError};
use infera_ledger::{
    LedgerError, NetworkBook, NewNode, NodeBook, NodeCheck, NodeRecord, NodeRoster, Registered, Whose,
};
use infera_types::admission::{self, Refusal};
use infera_types::ids::{AccountId, OwnerId};
use infera_types::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::call::Call;
use super::node_names::{NAME_MAX, NAME_MIN, check_name};
use crate::access::admission::secret_digest;
use crate::access::{Admission, KeyCache, caller_if_any};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::operation::{
    Group, Operation, Parameter, Place, RequestBody, Shape, always, body, json as in_json, sometimes,
};
use crate::api::reply::Reply;
use crate::api::unauthorized::Unauthorized;
use crate::fastapi::{Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check};
use crate::network::Catalogue;

const NODE_BODY: RequestBody = body(
    Shape::Fields(NODE_SECRET),
    r#"{"node_id": "basement-1", "secret": "a-secret-of-at-least-sixteen-characters"}"#,
);

const ADMITTED: Shape = Shape::Members(&[
    always("status", Shape::Words(&["admitted"]), "Always `admitted`."),
    always("node", Shape::Text, "The id by which the network knows the node."),
    always("node_id", Shape::Text, "The name that its runner gave it."),
    always("token", Shape::Text, "What the node shows to the broker in place of a password."),
    always("expires_in_s", Shape::Count, "How long the token is valid, in seconds."),
    always("queue", Shape::Text, "The queue that the node reads."),
    always(
        "broker",
        Shape::Members(&[always("url", Shape::Text, "`amqp(s)://host:port/vhost`.")]),
        "Where the broker is.",
    ),
    sometimes(
        "removed_models",
        Shape::List(&Shape::Members(&[
            always("name", Shape::Text, "The name under which it was served."),
            always("digests", Shape::List(&Shape::Text), "The digests of its files."),
        ])),
        "Models that this network serves no more, the latest first. A node that has one is not asked for it again.",
    ),
]);

const REGISTERED: Shape = Shape::Members(&[
    always("status", Shape::Words(&["registered"]), "Always `registered`."),
    always("node", Shape::Text, "The id by which the network knows the node."),
    always("node_id", Shape::Text, "The name that its runner gave it."),
    always(
        "connects",
        Shape::Flag,
        "Whether it can connect. In a network that runs in one process none can.",
    ),
    sometimes("message", Shape::Text, "Why it can't connect."),
]);

/// `POST /register_node_secret`.
pub(crate) static REGISTER: Operation = Operation {
    id: "registerNodeSecret",
    group: Group::Nodes,
    summary: "Register a node",
    about: "Registers the node under the account whose key is sent, or finds it registered with the same secret. The account \
            needs the scope `fleet`.",
    parameters: &[Parameter {
        place: Place::Header,
        name: "api_key",
        shape: Shape::Pattern("^inf_[0-9A-Za-z]{36}$"),
        about: "The key of the account that the node belongs to.",
        example: "inf_0123456789abcdefghijABCDEFGHIJ000000",
    }],
    body: Some(NODE_BODY),
    reply: in_json("The node is registered.", REGISTERED),
    errors: &[
        "missing_api_key",
        "invalid_api_key",
        "key_revoked",
        "key_expired",
        "key_blocked",
        "account_blocked",
        "nodes_not_admitted",
        "fleet_scope_required",
        "node_name_taken",
        "too_many_nodes",
    ],
};

/// `POST /check_node_secret`.
pub(crate) static CHECK: Operation = Operation {
    id: "checkNodeSecret",
    group: Group::Nodes,
    summary: "Let a node in",
    about: "Returns a token for the broker, the node's queue and the broker's address. A node asks again before the token \
            ends.",
    parameters: &[],
    body: Some(NODE_BODY),
    reply: in_json(
        "The node is let in, or, in a network that runs in one process, known.",
        Shape::Either(&[ADMITTED, REGISTERED]),
    ),
    errors: &[
        "nodes_not_admitted",
        "fleet_scope_required",
        "node_unknown",
        "node_revoked",
        "broker_unavailable",
    ],
};

const NODE_SECRET: &[Field] = &[
    Field::required("node_id", Kind::Text)
        .about(
            "The node's name, which its runner chooses: the host's name, say. It has no control characters.",
        )
        .range(Range::Plain(NAME_MIN, NAME_MAX)),
    Field::required("secret", Kind::Text)
        .about("A secret that its runner draws at random. Errors don't repeat it.")
        .range(Range::Characters(SECRET_MIN, SECRET_MAX)),
];

/// The smallest length of a secret, in characters. Sixteen random ones can't be guessed at the rate that is allowed,
/// nor from their hash.
const SECRET_MIN: usize = 16;
/// The largest length of a secret, in characters. More prove nothing more.
const SECRET_MAX: usize = 255;

/// What a node is told that can't connect.
const ONE_PROCESS: &str = "This network runs in one process, and so do its nodes: there is no broker that a node could \
                           connect to. The node is registered, and gets no work here.";

/// How nodes from outside come to this network.
#[derive(Debug)]
pub(crate) enum Door {
    /// This gateway lets in none; another one may.
    Closed,
    /// The network runs in one process, so that none can connect.
    OneProcess(Arc<dyn NodeBook>),
    /// They are let in to the broker.
    Open(Admission),
}

/// The parts that letting in nodes needs.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// How nodes come in.
    pub(crate) door: Door,
    /// The ledger's records of nodes.
    pub(crate) book: Arc<dyn NetworkBook>,
    /// Nodes as their owners see them.
    pub(crate) roster: Arc<dyn NodeRoster>,
    /// The largest number of nodes that one account may register; 0 means no limit.
    pub(crate) per_account_max: u64,
    /// The broker, which has the nodes' queues.
    pub(crate) broker: Arc<dyn Broker>,
}

/// Registers a node, or finds it registered already.
///
/// # Errors
/// [`Refusal`], or the ledger's error.
pub(crate) async fn register(nodes: &Nodes, keys: &KeyCache, call: Call) -> Result<Reply, Failure> {
    let (name, secret) = fields(&call)?;
    let account = nodes.owner(keys, &call).await?;
    nodes.check_room(&account, &name).await?;
    let node = NewNode { name, secret: secret_digest(&secret), account: Some(account) };
    match nodes.book.register_node(&node, Timestamp::now()).await.map_err(failed)? {
        Registered::Node(node) => Ok(nodes.registered(&node)?),
        Registered::WrongSecret => Err(refused(Refusal::NameTaken).into()),
    }
}

/// Lets a node in: returns its token, its queue and the broker's address.
///
/// # Errors
/// [`Refusal`], or the error of the ledger or the broker.
pub(crate) async fn admit(nodes: &Nodes, catalogue: &Catalogue, call: Call) -> Result<Reply, Failure> {
    let (name, secret) = fields(&call)?;
    let digest = secret_digest(&secret);
    let now = Timestamp::now();
    let refusal = match &nodes.door {
        Door::Closed => Refusal::NoAdmission,
        Door::OneProcess(book) => match book.admit_node(&name, digest, now).await.map_err(failed)? {
            NodeCheck::Admitted(node) | NodeCheck::NoFleet(node) => return Ok(nodes.registered(&node)?),
            NodeCheck::Revoked => Refusal::Revoked,
            NodeCheck::Unknown => Refusal::Unknown,
        },
        Door::Open(admission) => {
            match admission.book.admit_node(&name, digest, admission.until(now)).await.map_err(failed)? {
                NodeCheck::Admitted(node) => {
                    let told = let_in(admission, &*nodes.broker, &node, now).await?;
                    let told = admission::Admission { removed_models: catalogue.removed(), ..told };
                    return Ok(Reply::json(&Admitted { status: "admitted", told })?);
                }
                NodeCheck::NoFleet(_) => Refusal::NoFleet,
                NodeCheck::Revoked => Refusal::Revoked,
                NodeCheck::Unknown => Refusal::Unknown,
            }
        }
    };
    Err(refused(refusal).into())
}

async fn let_in(
    admission: &Admission,
    broker: &dyn Broker,
    node: &NodeRecord,
    now: Timestamp,
) -> Result<admission::Admission, ApiError> {
    let access = admission.access(&node.id, now).await.map_err(|error| {
        tracing::error!(%error, "no node can be let in");
        ApiError::Internal
    })?;
    // The queue is declared before the node is told of it, because the node looks for it at once.
    broker.declare(&access.queue).await.map_err(|error: BrokerError| {
        tracing::error!(node = %node.id, %error, "the queue of a node can't be declared");
        refused(Refusal::BrokerAway)
    })?;
    Ok(admission::Admission {
        node: node.id.clone(),
        node_id: node.name.clone(),
        token: access.token,
        expires_in_s: access.expires_in_s,
        queue: access.queue.name,
        broker: admission::Broker { url: admission.broker().as_str().to_owned() },
        removed_models: Vec::new(),
    })
}

/// The reply to a node that was let in.
#[derive(Serialize)]
struct Admitted {
    status: &'static str,
    #[serde(flatten)]
    told: admission::Admission,
}

impl Nodes {
    /// Returns the account that a registration is for.
    async fn owner(&self, keys: &KeyCache, call: &Call) -> Result<AccountId, ApiError> {
        let caller = caller_if_any(keys, &call.head.headers);
        match &self.door {
            Door::Closed => Err(refused(Refusal::NoAdmission)),
            Door::OneProcess(_) => {
                Ok(caller.await?.ok_or(ApiError::Unauthorized(Unauthorized::Missing))?.account.clone())
            }
            Door::Open(admission) => {
                let account = caller.await?.ok_or(refused(Refusal::NoFleet))?.account.clone();
                let is_fleet = admission.book.is_fleet(&account).await.map_err(failed)?;
                is_fleet.then_some(account).ok_or(refused(Refusal::NoFleet))
            }
        }
    }

    /// Checks that an account may register one more node, if it doesn't have the one of this name. Registrations at the same
    /// time may go beyond the limit by one each.
    async fn check_room(&self, account: &AccountId, name: &str) -> Result<(), ApiError> {
        let owner = OwnerId::of_account(account);
        if self.per_account_max == 0
            || self.roster.count_of(&owner).await.map_err(failed)? < self.per_account_max
            || self.roster.node_of(&Whose::Of(owner), name).await.map_err(failed)?.is_some()
        {
            return Ok(());
        }
        Err(refused(Refusal::TooMany))
    }

    /// Says that a node is registered, and whether it can connect.
    fn registered(&self, node: &NodeRecord) -> Result<Reply, ApiError> {
        let connects = matches!(self.door, Door::Open(_));
        let mut told = json!({
            "status": "registered",
            "node": node.id,
            "node_id": node.name,
            "connects": connects,
        });
        if !connects {
            told["message"] = json!(ONE_PROCESS);
        }
        Reply::json(&told)
    }
}

const fn refused(refusal: Refusal) -> ApiError {
    ApiError::Node(refusal)
}

fn failed(error: LedgerError) -> ApiError {
    tracing::error!(%error, "a node could not be looked up");
    ApiError::from(&error)
}

/// Reads the node's name and secret. Errors about a secret don't repeat it.
fn fields(call: &Call) -> Result<(String, String), Unfit> {
    let body = call.json()?;
    check(&body.clone().hiding(&["secret"]), NODE_SECRET)?;
    let [name, secret] = check(&body, NODE_SECRET)?.into_fields();
    let (name, secret) = (name.into_text(), secret.into_text());
    let mut mistakes = Mistakes::default();
    check_name(&mut mistakes, "node_id", &name);
    if !(SECRET_MIN..=SECRET_MAX).contains(&secret.chars().count()) {
        let message =
            format!("String should have {SECRET_MIN} to {SECRET_MAX} characters; draw it at random");
        mistakes.add(&[Step::name("secret")], Flaw::new("value_error", message), &Json::Null);
    }
    Ok(mistakes.none_or((name, secret))?)
}
