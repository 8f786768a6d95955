//! `POST /daily_points`, `GET /node_points/{node_id}` and `POST /node_jobs_stats`: what a node of the caller's earned and
//! did. Everything follows from verdicts, as far as the projector has folded them (within a second as a rule).

use infera_types::admission::Refusal;
use infera_types::day::Day;
use infera_types::time::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::call::Call;
use super::node_names::{NAME_MAX, NAME_MIN, Runners, check_name, failed, is_name};
use super::worker::{NODE_BODY, registration};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::node_objects;
use crate::api::operation::{Group, Operation, Parameter, Place, Shape, body, json as in_json};
use crate::api::reply::Reply;
use crate::api::shapes::{DAY_POINTS, NODE};
use crate::fastapi::{Bound, Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check};

const DAILY: &[Field] = &[
    Field::required("node_name", Kind::Text)
        .about("The node's name, as it was registered.")
        .range(Range::Plain(NAME_MIN, NAME_MAX)),
    Field::required("last_days", Kind::Integer)
        .about("The number of days, today included.")
        .range(Range::Integers { least: 1, most: Bound::Integer(DAYS_MAX) }),
];

/// `POST /daily_points`.
pub(crate) static DAILY_POINTS: Operation = Operation {
    id: "dailyPoints",
    group: Group::Nodes,
    summary: "Show a node's points by day",
    about: "Lists the points of the last days (UTC), the oldest first. Days without points are listed with 0.",
    parameters: &[],
    body: Some(body(Shape::Fields(DAILY), r#"{"node_name": "basement-1", "last_days": 7}"#)),
    reply: in_json("The days.", Shape::List(&Shape::Named(&DAY_POINTS))),
    errors: &["node_not_found"],
};

/// `GET /node_points/{id}`.
pub(crate) static OF_NODE: Operation = Operation {
    id: "nodePoints",
    group: Group::Nodes,
    summary: "Show a node's points",
    about: "Shows the points of all days, and today's.",
    parameters: &[Parameter {
        place: Place::Path,
        name: "id",
        shape: Shape::Text,
        about: "The node's name, as it was registered, percent-encoded.",
        example: "basement-1",
    }],
    body: None,
    reply: in_json("The node, with its points.", Shape::Named(&NODE)),
    errors: &["node_not_found"],
};

/// `POST /node_jobs_stats`.
pub(crate) static JOBS: Operation = Operation {
    id: "nodeJobs",
    group: Group::Nodes,
    summary: "Count a node's jobs",
    about: "Shows how many jobs the node was asked for, and what became of its answers.",
    parameters: &[],
    body: Some(NODE_BODY),
    reply: in_json("The node, with its jobs.", Shape::Named(&NODE)),
    errors: &["node_not_found"],
};

/// The largest number of days in one reply: a year.
const DAYS_MAX: i64 = 365;

/// Lists the points of the last days, the oldest first and today last. Days without points are listed with 0.
///
/// # Errors
/// [`Refusal::NotYours`]; the client's mistakes; the ledger's error.
pub(crate) async fn daily(runners: &Runners, call: Call) -> Result<Reply, Failure> {
    let (name, count) = wanted_days(&call)?;
    let caller = call.caller()?;
    let node = runners.node(&caller, &name).await?;
    let today = Day::of(Timestamp::now());
    let days =
        runners.reader.days(&node.id, today.before(count - 1)).await.map_err(|error| failed(&error))?;
    let wanted = (0..count).rev().map(|back| today.before(back));
    let list: Vec<Value> =
        wanted.map(|day| node_objects::daily_points(&node_objects::of_day(&days, day))).collect();
    Ok(Reply::json(&list)?)
}

/// Shows the points of all days.
///
/// # Errors
/// [`Refusal::NotYours`]; the ledger's error.
pub(crate) async fn of_node(runners: &Runners, call: Call) -> Result<Reply, Failure> {
    let name = percent_decode_str(&call.id).decode_utf8().ok().filter(|name| is_name(name));
    let name = name.ok_or(ApiError::Node(Refusal::NotYours))?;
    let caller = call.caller()?;
    let node = runners.node(&caller, &name).await?;
    let days = runners.reader.days(&node.id, Day::new(0)).await.map_err(|error| failed(&error))?;
    let today = Day::of(Timestamp::now());
    Ok(Reply::json(&node_objects::with_points(node_objects::node(&node), &days, today))?)
}

/// Shows how many jobs the node was asked for, and what became of its answers.
///
/// # Errors
/// As [`daily`].
pub(crate) async fn jobs(runners: &Runners, call: Call) -> Result<Reply, Failure> {
    let (name, _) = registration(&call)?;
    let caller = call.caller()?;
    let node = runners.node(&caller, &name).await?;
    let days = runners.reader.days(&node.id, Day::new(0)).await.map_err(|error| failed(&error))?;
    let standings = runners.reader.standings_of(&node.id).await.map_err(|error| failed(&error))?;
    let today = Day::of(Timestamp::now());
    Ok(Reply::json(&node_objects::with_jobs(node_objects::node(&node), &days, &standings, today))?)
}

fn wanted_days(call: &Call) -> Result<(String, u64), Unfit> {
    let body = call.json()?;
    let [name, days] = check(&body, DAILY)?.into_fields();
    let (name, days) = (name.into_text(), days.integer().unwrap_or_default());
    let mut mistakes = Mistakes::default();
    check_name(&mut mistakes, "node_name", &name);
    let flaw = match days {
        ..1 => Some(Flaw::below(1)),
        1..=DAYS_MAX => None,
        _ => Some(Flaw::above(DAYS_MAX)),
    };
    if let Some(flaw) = flaw {
        mistakes.add(&[Step::name("last_days")], flaw, body.get("last_days").unwrap_or(&Json::Null));
    }
    Ok(mistakes.none_or((name, u64::try_from(days).unwrap_or(1)))?)
}
