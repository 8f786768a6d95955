//! `POST /register_node_secret` and `POST /check_node_secret`: a node from outside is put on record, and comes in.
//!
//! Only nodes of accounts with the scope `fleet` are put on record: others could do nothing with it, and strangers'
//! names would pile up in the ledger. Checking is what a node does from then on: it gets a token, again before that runs
//! out, and its queue, which is declared again if it is gone.

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

/// Characters of a `node_id`: enough for any host's name.
const NAME_MAX: usize = 255;

/// Characters of a secret. Sixteen random ones can't be guessed at the rate that is allowed, nor from their hash.
const SECRET_MIN: usize = 16;
/// Longer ones prove nothing more.
const SECRET_MAX: usize = 255;

/// Holds what letting nodes in takes.
#[derive(Debug)]
pub(crate) struct Nodes {
    /// Lets nodes in; none: this gateway doesn't.
    pub(crate) admission: Option<Admission>,
    /// Puts them on record.
    pub(crate) book: Arc<dyn NetworkBook>,
    /// Has their queues.
    pub(crate) broker: Arc<dyn Broker>,
}

/// Puts a node on record, or finds it again.
///
/// # Errors
/// [`Refusal`]; the ledger's.
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

/// Lets a node in: its token, its queue, and where the broker is.
///
/// # Errors
/// [`Refusal`]; the ledger's or the broker's.
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
    // Declared before it is told, or the node would look for what isn't there.
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

/// The reply to a node that is let in.
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

/// Reads the name and the secret. What is wrong with a secret is said without repeating it.
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
