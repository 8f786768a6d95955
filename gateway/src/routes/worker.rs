//! `POST /worker/register_node`, `/worker/deregister_node`, `/worker/update_models` and `/worker/update_result`: an owner
//! says what its nodes are drawn for. Verifiers read it within a second; what a node has in hand, it ends.

use infera_ledger::NodeChange;
use infera_types::admission::Refusal;
use infera_types::ids::ModelName;
use infera_types::time::Timestamp;
use serde_json::json;

use super::call::Call;
use super::node_names::{NAME_MAX, NAME_MIN, Runners, check_name, found, nodes_of};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::node_objects;
use crate::api::operation::{
    Content, GoodReply, Group, Operation, RequestBody, Shape, body, json as in_json,
};
use crate::api::reply::Reply;
use crate::api::shapes::NODE;
use crate::fastapi::{Checked, Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check};
use crate::network::Catalogue;

const NAME: Field = Field::required("node_url", Kind::Text)
    .about("The node's name, as it was registered. It may look like a URL; nothing connects to it.")
    .range(Range::Plain(NAME_MIN, NAME_MAX));

/// The body that names a node by the seed's `node_url`.
pub(super) const REGISTRATION: &[Field] = &[
    NAME,
    Field::optional("node_version", Kind::Nullable(&Kind::Text))
        .about("The version of the node's program, for its owner. It has no control characters.")
        .range(Range::Plain(0, VERSION_MAX)),
];

const ENLISTING: &[Field] = &[
    REGISTRATION[0],
    REGISTRATION[1],
    Field::optional("serves", Kind::Nullable(&Kind::Text))
        .about("`own`: only jobs of its account and of groups that it is in, so that it is no capacity for others; `all`: strangers' jobs too. What was said before stays if it is left out.")
        .range(Range::Words(&SERVES)),
];

/// The words for whom a node serves.
const SERVES: [&str; 2] = ["all", "own"];

const MODELS: &[Field] = &[
    NAME,
    Field::required("models", Kind::List(&Kind::Text))
        .about("The models that it may be drawn for. Those that the catalogue lacks are ignored and listed in the reply.")
        .range(Range::ItemsWithin(0, MODELS_MAX)),
];

const RESULT: &[Field] = &[
    Field::required("job_id", Kind::Text).about("Not read."),
    Field::required("api_key", Kind::Text).about("Neither used nor repeated."),
    Field::required("model_name", Kind::Text).about("Not read."),
    Field::required("result", Kind::Dictionary).about("Not read."),
    Field::required("status", Kind::Text).about("Not read."),
];

/// A body that names a node.
pub(super) const NODE_BODY: RequestBody =
    body(Shape::Fields(REGISTRATION), r#"{"node_url": "basement-1", "node_version": "1.4.0"}"#);

const fn operation(
    id: &'static str,
    summary: &'static str,
    about: &'static str,
    body: RequestBody,
) -> Operation {
    Operation {
        id,
        group: Group::Nodes,
        summary,
        about,
        parameters: &[],
        body: Some(body),
        reply: in_json("The node.", Shape::Named(&NODE)),
        errors: &["node_not_found"],
    }
}

/// `POST /worker/register_node`.
pub(crate) static REGISTER: Operation = operation(
    "registerNode",
    "Let a node be drawn",
    "Lets a node of the account be drawn for jobs, again if it was deregistered: for all, or, if it is private, for those of its \
     account and of its groups.",
    body(Shape::Fields(ENLISTING), r#"{"node_url": "basement-1", "node_version": "1.4.0", "serves": "own"}"#),
);

/// `POST /worker/deregister_node`.
pub(crate) static DEREGISTER: Operation = operation(
    "deregisterNode",
    "Withdraw a node",
    "Withdraws a node of the account from draws. It ends the jobs that it has.",
    NODE_BODY,
);

/// `POST /worker/update_models`.
pub(crate) static UPDATE_MODELS: Operation = operation(
    "updateModels",
    "Choose a node's models",
    "Stores which models of the catalogue a node of the account may be drawn for.",
    body(Shape::Fields(MODELS), r#"{"node_url": "basement-1", "models": ["infera-tiny"]}"#),
);

/// `POST /worker/update_result`.
pub(crate) static UPDATE_RESULT: Operation = Operation {
    reply: GoodReply {
        content: Content::Never,
        ..in_json("There is none: results are refused.", Shape::Any)
    },
    errors: &["results_not_taken"],
    ..operation(
        "updateResult",
        "Refuse a result",
        "Always fails: nodes return results through the broker.",
        body(
            Shape::Fields(RESULT),
            r#"{"job_id": "1", "api_key": "x", "model_name": "infera-tiny", "result": {}, "status": "done"}"#,
        ),
    )
};

/// The largest length of a version, in characters. Those of programs with a commit's hash have half as many.
const VERSION_MAX: usize = 100;

/// The largest number of models of one node: a heartbeat names no more.
const MODELS_MAX: usize = 64;

/// Lets a node of the caller's be drawn, again if it was deregistered.
///
/// # Errors
/// [`Refusal::NotYours`]; the client's mistakes; the ledger's error.
pub(crate) async fn register(runners: &Runners, call: Call) -> Result<Reply, Failure> {
    let (name, version) = registration(&call)?;
    if let Some(is_private) = is_private(&call)? {
        // First, so that it is at no moment drawn for strangers.
        let restricted = NodeChange::Restrict { is_private };
        let whose = nodes_of(&*call.caller()?);
        found(runners.roster.change_node(&whose, &name, &restricted, Timestamp::now()).await)?;
    }
    change(runners, &call, &name, &NodeChange::Enlist { version }).await
}

/// Withdraws a node of the caller's from draws.
///
/// # Errors
/// As [`register`].
pub(crate) async fn deregister(runners: &Runners, call: Call) -> Result<Reply, Failure> {
    let (name, version) = registration(&call)?;
    change(runners, &call, &name, &NodeChange::Withdraw { version }).await
}

async fn change(runners: &Runners, call: &Call, name: &str, change: &NodeChange) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let whose = nodes_of(&caller);
    let view = found(runners.roster.change_node(&whose, name, change, Timestamp::now()).await)?;
    Ok(Reply::json(&node_objects::node(&view))?)
}

/// Stores which models of the catalogue a node of the caller's may be drawn for. Names that the catalogue lacks are
/// ignored and listed in the reply.
///
/// # Errors
/// As [`register`]; [`ApiError::LedgerAway`] before the first reading of the catalogue.
pub(crate) async fn update_models(
    runners: &Runners,
    catalogue: &Catalogue,
    call: Call,
) -> Result<Reply, Failure> {
    let (name, names) = models(&call)?;
    let caller = call.caller()?;
    let whose = nodes_of(&caller);
    catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let (mut known, mut unknown) = (Vec::<ModelName>::new(), Vec::<String>::new());
    for name in names {
        // A wish for a model that was removed would be for nothing.
        match catalogue.model(&name).filter(|entry| !entry.is_removed()) {
            Some(entry) if known.contains(&entry.name) => {}
            Some(entry) => known.push(entry.name.clone()),
            None if unknown.contains(&name) => {}
            None => unknown.push(name),
        }
    }
    let change = NodeChange::OfferModels(known);
    let view = found(runners.roster.change_node(&whose, &name, &change, Timestamp::now()).await)?;
    let mut object = node_objects::node(&view);
    object["unknown_models"] = json!(unknown);
    Ok(Reply::json(&object)?)
}

/// Refuses a result. The key in the body is neither used nor repeated.
///
/// # Errors
/// Always: the client's mistakes, or [`Refusal::NoLeases`].
pub(crate) fn update_result(call: &Call) -> Result<Reply, Failure> {
    check(&call.json()?.hiding(&["api_key"]), RESULT).map_err(Unfit::from)?;
    Err(ApiError::Node(Refusal::NoLeases).into())
}

/// Reads the node's name and version.
pub(super) fn registration(call: &Call) -> Result<(String, Option<String>), Unfit> {
    let body = call.json()?;
    let [name, version] = check(&body, REGISTRATION)?.into_fields();
    let (name, mut mistakes) = (name.into_text(), Mistakes::default());
    check_name(&mut mistakes, "node_url", &name);
    let version = match version {
        Checked::Text(version) => Some(version),
        _ => None,
    };
    if version.as_ref().is_some_and(|version| !is_version(version)) {
        let message =
            format!("String should have at most {VERSION_MAX} characters, none of them a control character");
        mistakes.add(&[Step::name("node_version")], Flaw::new("value_error", message), &Json::Null);
    }
    Ok(mistakes.none_or((name, version))?)
}

/// Reads whether the node is to serve only jobs of its account and of its groups; none if the body doesn't say.
fn is_private(call: &Call) -> Result<Option<bool>, Unfit> {
    let body = call.json()?;
    let [_, _, serves] = check(&body, ENLISTING)?.into_fields();
    let Checked::Text(word) = serves else { return Ok(None) };
    let mut mistakes = Mistakes::default();
    if !SERVES.contains(&word.as_str()) {
        let given = body.get("serves").unwrap_or(&Json::Null);
        mistakes.add(&[Step::name("serves")], Flaw::not_among("'all' or 'own'"), given);
    }
    Ok(mistakes.none_or(Some(word == SERVES[1]))?)
}

fn is_version(text: &str) -> bool {
    text.chars().count() <= VERSION_MAX && !text.contains(char::is_control)
}

fn models(call: &Call) -> Result<(String, Vec<String>), Unfit> {
    let body = call.json()?;
    let [name, models] = check(&body, MODELS)?.into_fields();
    let (name, mut mistakes) = (name.into_text(), Mistakes::default());
    check_name(&mut mistakes, "node_url", &name);
    let models: Vec<String> = models.into_items().into_iter().map(Checked::into_text).collect();
    if models.len() > MODELS_MAX {
        let message =
            format!("List should have at most {MODELS_MAX} items after validation, not {}", models.len());
        let context =
            json!({ "field_type": "List", "max_length": MODELS_MAX, "actual_length": models.len() });
        let input = body.get("models").unwrap_or(&Json::Null);
        mistakes.add(&[Step::name("models")], Flaw::new("too_long", message).with(context), input);
    }
    Ok(mistakes.none_or((name, models))?)
}
