//! `GET /node_model_mapping`: which nodes served which models lately. It is open to everyone, so it names nodes by their
//! internal ids alone: names that runners chose may be addresses, and owners are shown to no one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{NodeReader, ServingNode};
use infera_types::ids::{ModelName, NodeId};
use infera_types::time::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;

use super::call::Call;
use super::node_names::failed;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::operation::{Group, Operation, Parameter, Place, Shape, always, json as in_json};
use crate::api::reply::Reply;
use crate::fastapi::{Unfit, query};

/// The longest time frame, in hours: thirty days.
const HOURS_MAX: i64 = 30 * 24;

/// `GET /node_model_mapping`.
pub(crate) static SHOW: Operation = Operation {
    id: "nodeModelMapping",
    group: Group::Nodes,
    summary: "Show which nodes served which models",
    about: "Shows the nodes whose answers were judged within the last hours, by their internal ids, with their models.",
    parameters: &[Parameter {
        place: Place::RequiredQuery,
        name: "time_frame",
        shape: Shape::Between(1, HOURS_MAX.unsigned_abs()),
        about: "The number of hours.",
        example: "24",
    }],
    body: None,
    reply: in_json(
        "The nodes.",
        Shape::Members(&[
            always("time_frame", Shape::Count, "The number of hours that was asked for."),
            always("nodes", Shape::Map(&Shape::List(&Shape::Text)), "The models of each node."),
            always("truncated", Shape::Flag, "Whether some were left out."),
        ]),
    ),
    errors: &["missing_field", "invalid_value"],
};

/// The largest number of pairs of node and model in a reply. They make some 70 kB, which anyone may ask for.
const PAIRS_MAX: u32 = 1_000;

/// How long one reading of the ledger is shared, so that callers without a key cost it one reading in five seconds.
const TTL: Duration = Duration::from_secs(5);

/// One reading of the nodes that were judged within the longest time frame, latest first.
type Serving = Arc<Vec<ServingNode>>;

/// The nodes that served lately, as they were read last.
#[derive(Debug)]
pub(crate) struct NodeModels {
    reader: Arc<dyn NodeReader>,
    last: Mutex<Option<(Instant, Serving)>>,
}

impl NodeModels {
    /// Makes a mapping that was never read.
    pub(crate) fn new(reader: Arc<dyn NodeReader>) -> Self {
        Self { reader, last: Mutex::default() }
    }

    /// Returns the nodes that served lately. Callers that ask at the same time wait for one reading and share it.
    async fn lately(&self, now: Timestamp) -> Result<Serving, ApiError> {
        let mut last = self.last.lock().await;
        if let Some((since, serving)) = &*last
            && since.elapsed() < TTL
        {
            return Ok(Arc::clone(serving));
        }
        let since = before(now, HOURS_MAX.unsigned_abs());
        // One more than is shown, to know whether some are left out.
        let read = self.reader.serving(since, PAIRS_MAX + 1).await.map_err(|error| failed(&error))?;
        let serving = Arc::new(read);
        *last = Some((Instant::now(), Arc::clone(&serving)));
        Ok(serving)
    }
}

fn before(now: Timestamp, hours: u64) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(hours * 3_600_000))
}

/// Shows the nodes that were judged within the asked number of hours and may still be drawn, with their models.
///
/// # Errors
/// The client's mistakes; the ledger's error.
pub(crate) async fn show(models: &NodeModels, call: Call) -> Result<Reply, Failure> {
    let hours = query::integer(call.head.uri.query(), "time_frame", 1..=HOURS_MAX).map_err(Unfit::from)?;
    let now = Timestamp::now();
    let (serving, since) = (models.lately(now).await?, before(now, hours.unsigned_abs()));
    let recent: Vec<&ServingNode> = serving.iter().take_while(|one| one.judged_ms >= since).collect();
    let most = usize::try_from(PAIRS_MAX).unwrap_or(usize::MAX);
    let mut nodes = BTreeMap::<&NodeId, Vec<&ModelName>>::new();
    for one in recent.iter().take(most) {
        nodes.entry(&one.node).or_default().push(&one.model);
    }
    nodes.values_mut().for_each(|models| models.sort_unstable());
    let is_cut = recent.len() > most;
    Ok(Reply::json(&json!({ "time_frame": hours, "nodes": nodes, "truncated": is_cut }))?)
}
