//! `POST /register_node_secret` and `POST /check_node_secret`: registers a node from outside, and lets it in.
//!
//! Only nodes of accounts with the scope `fleet` are registered. Others could do nothing anyway, and strangers' names
//! would pile up in the ledger. After that, a node checks in at intervals: it gets a token, before the last one
//! expires, and its queue, which is declared again if it has expired.

use std::sync::Arc;

use infera_broker::{Broker, BrokerError};
use infera_ledger::{LedgerError, NetworkBook, NewNode, NodeCheck, NodeRecord, Registered};
use infera_types::admission::{self, Refusal};
use infera_types::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::call::Call;
use crate::access::admission::secret_digest;
use crate::access::{Admission, KeyCache, caller_if_any};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::fastapi::{Field, Flaw, Json, Kind, Mistakes, Step, Unfit, check};

const NODE_SECRET: &[Field] =
    &[Field::required("node_id", Kind::Text), Field::required("secret", Kind::Text)];

/// The largest length of a `node_id`, in characters. Any host's name fits.
const NAME_MAX: usize = 255;

/// The smallest length of a secret, in characters. Sixteen random ones can't be guessed at the rate that is allowed,
/// nor from their hash.
const SECRET_MIN: usize = 16;
/// The largest length of a secret, in characters. More prove nothing more.
const SECRET_MAX: usize = 255;

/// The parts that letting in nodes needs.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// The admission; none if this gateway lets in no nodes.
    pub(crate) admission: Option<Admission>,
    /// The ledger's records of nodes.
    pub(crate) book: Arc<dyn NetworkBook>,
    /// The broker, which has the nodes' queues.
    pub(crate) broker: Arc<dyn Broker>,
}

/// Registers a node, or finds it registered already.
///
/// # Errors
/// [`Refusal`], or the ledger's error.
pub(crate) async fn register(nodes: &Nodes, keys: &KeyCache, call: Call) -> Result<Reply, Failure> {
    let (name, secret) = fields(&call)?;
    let book = &nodes.admission()?.book;
    let caller = caller_if_any(keys, &call.head.headers).await?;
    let account = caller.map(|caller| caller.account.clone()).ok_or(refused(Refusal::NoFleet))?;
    if !book.is_fleet(&account).await.map_err(failed)? {
        return Err(refused(Refusal::NoFleet).into());
    }
    let node = NewNode { name, secret: secret_digest(&secret), account: Some(account) };
    match nodes.book.register_node(&node, Timestamp::now()).await.map_err(failed)? {
        Registered::Node(node) => {
            Ok(Reply::json(&json!({ "status": "registered", "node": node.id, "node_id": node.name }))?)
        }
        Registered::WrongSecret => Err(refused(Refusal::NameTaken).into()),
    }
}

/// Lets a node in: returns its token, its queue and the broker's address.
///
/// # Errors
/// [`Refusal`], or the error of the ledger or the broker.
pub(crate) async fn admit(nodes: &Nodes, call: Call) -> Result<Reply, Failure> {
    let (name, secret) = fields(&call)?;
    let admission = nodes.admission()?;
    let now = Timestamp::now();
    let checked = admission.book.admit_node(&name, secret_digest(&secret), admission.until(now)).await;
    let refusal = match checked.map_err(failed)? {
        NodeCheck::Admitted(node) => return Ok(let_in(admission, &*nodes.broker, &node, now).await?),
        NodeCheck::NoFleet(_) => Refusal::NoFleet,
        NodeCheck::Revoked => Refusal::Revoked,
        NodeCheck::Unknown => Refusal::Unknown,
    };
    Err(refused(refusal).into())
}

async fn let_in(
    admission: &Admission,
    broker: &dyn Broker,
    node: &NodeRecord,
    now: Timestamp,
) -> Result<Reply, ApiError> {
    let access = admission.access(&node.id, now).await.map_err(|error| {
        tracing::error!(%error, "no node can be let in");
        ApiError::Internal
    })?;
    // The queue is declared before the node is told of it, because the node looks for it at once.
    broker.declare(&access.queue).await.map_err(|error: BrokerError| {
        tracing::error!(node = %node.id, %error, "the queue of a node can't be declared");
        refused(Refusal::BrokerAway)
    })?;
    let told = admission::Admission {
        node: node.id.clone(),
        node_id: node.name.clone(),
        token: access.token,
        expires_in_s: access.expires_in_s,
        queue: access.queue.name,
        broker: admission::Broker { url: admission.broker().as_str().to_owned() },
    };
    Reply::json(&Admitted { status: "admitted", told })
}

/// The reply to a node that was let in.
#[derive(Serialize)]
struct Admitted {
    status: &'static str,
    #[serde(flatten)]
    told: admission::Admission,
}

impl Nodes {
    fn admission(&self) -> Result<&Admission, ApiError> {
        self.admission.as_ref().ok_or(refused(Refusal::NoAdmission))
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
    let [name, secret] = check(&call.json()?, NODE_SECRET)?.into_fields();
    let (name, secret) = (name.into_text(), secret.into_text());
    let mut mistakes = Mistakes::default();
    let mut wrong = |field: &'static str, message: String| {
        mistakes.add(&[Step::name(field)], Flaw::new("value_error", message), &Json::Null);
    };
    if name.is_empty() || name.chars().count() > NAME_MAX || name.contains(char::is_control) {
        wrong(
            "node_id",
            format!("String should have 1 to {NAME_MAX} characters, none of them a control character"),
        );
    }
    if !(SECRET_MIN..=SECRET_MAX).contains(&secret.chars().count()) {
        wrong(
            "secret",
            format!("String should have {SECRET_MIN} to {SECRET_MAX} characters; draw it at random"),
        );
    }
    Ok(mistakes.none_or((name, secret))?)
}
