//! What replies say of nodes: the node object, and its points and jobs.

use infera_ledger::{NodeDay, NodeStanding, NodeView, VerdictCounts};
use infera_types::day::Day;
use serde_json::{Value, json};

/// Makes the node object. Its status is `registered`, or `draining` while it is withdrawn: it is drawn for no job and
/// ends those that it has.
pub(crate) fn node(view: &NodeView) -> Value {
    let status = if view.withdrawn_ms.is_some() { "draining" } else { "registered" };
    json!({
        "object": "node",
        "node": view.id,
        "node_id": view.name,
        "status": status,
        "draining_since": view.withdrawn_ms.map(|since| since.as_secs()),
        "models": view.models,
        "serves": if view.private_ms.is_some() { "own" } else { "all" },
        "backstop": view.backstop_ms.is_some(),
        "node_version": view.version,
        "registered": view.registered_ms.as_secs(),
    })
}

/// Returns a day's points.
pub(crate) fn daily_points(sums: &NodeDay) -> Value {
    let (task, uptime) = (sums.millipoints, sums.uptime_millipoints());
    json!({
        "date": sums.day.to_string(),
        "points": points(task.saturating_add(uptime)),
        "task_points": points(task),
        "uptime_points": points(uptime),
    })
}

/// Adds the points of all days to a node object, and those of `today`.
pub(crate) fn with_points(mut object: Value, days: &[NodeDay], today: Day) -> Value {
    let total = |value: fn(&NodeDay) -> i64| days.iter().map(value).fold(0, i64::saturating_add);
    let (task, uptime) = (total(|sums| sums.millipoints), total(NodeDay::uptime_millipoints));
    object["points"] = json!(points(task.saturating_add(uptime)));
    object["task_points"] = json!(points(task));
    object["uptime_points"] = json!(points(uptime));
    object["tokens"] = json!(days.iter().map(|sums| sums.tokens).fold(0, u64::saturating_add));
    object["today"] = daily_points(&of_day(days, today));
    object
}

/// Adds the jobs of all days to a node object, those of `today`, and those for each model.
pub(crate) fn with_jobs(
    mut object: Value,
    days: &[NodeDay],
    standings: &[NodeStanding],
    today: Day,
) -> Value {
    let mut all = VerdictCounts::default();
    days.iter().for_each(|sums| all.add(&sums.verdicts));
    object["jobs"] = jobs(&all);
    object["today"] = jobs(&of_day(days, today).verdicts);
    let of_model = |standing: &NodeStanding| {
        json!({
            "model": standing.model,
            "valid": standing.valid_count,
            "last_judged": standing.updated_ms.as_secs(),
        })
    };
    object["by_model"] = standings.iter().map(of_model).collect();
    object
}

/// Returns a day's sums; those of a day without verdicts are zero.
pub(crate) fn of_day(days: &[NodeDay], day: Day) -> NodeDay {
    days.iter().find(|sums| sums.day == day).copied().unwrap_or_else(|| NodeDay::empty(day))
}

fn jobs(counts: &VerdictCounts) -> Value {
    let VerdictCounts { valid, invalid, inconclusive, missed, neutral } = *counts;
    let total = [valid, invalid, inconclusive, missed, neutral].into_iter().fold(0, u64::saturating_add);
    json!({
        "total": total,
        "valid": valid,
        "invalid": invalid,
        "inconclusive": inconclusive,
        "missed": missed,
        "neutral": neutral,
    })
}

/// Returns points with their thousandths. No sum comes near the integers that a double can't hold.
fn points(millipoints: i64) -> f64 {
    millipoints as f64 / 1000.0
}
