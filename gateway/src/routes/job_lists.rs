//! `GET /v1/jobs` and `GET /v1/jobs/results`: an account's jobs in the order of their acceptance, and its jobs' ends in
//! the order in which they came, whole answers included.

use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use infera_ledger::{EndsCursor, EndsQuestion, JobFilter, JobsQuestion, LedgerError, MANY_MAX};
use infera_types::ids::{AccountId, JobId, ModelName};
use serde_json::{Value, json};

use super::call::Call;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::jobs_request::{STATUSES, TIME_MAX_S, of_seconds, with_status};
use crate::api::objects;
use crate::api::operation::{
    self, Content, GoodReply, Group, JOB_ID, Operation, Parameter, Place, Shape, always,
};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::shapes::LISTED_JOB;
use crate::fastapi::Unfit;
use crate::jobs::{Jobs, Wish};
use crate::memory::MemoryBudget;

/// The longest time that a client may wait for ends, or for the end of one job, in seconds. Proxies close connections
/// that are silent for longer.
pub(super) const WAIT_MAX_S: u64 = 60;

/// The largest number of jobs on one page of a list, and the number if the client doesn't say, as in OpenAI's lists.
const LIST_MAX: u64 = 100;
const LIST_DEFAULT: u64 = 20;

/// The number of ends on one page if the client doesn't say.
const ENDS_DEFAULT: u64 = 100;

/// The size at which a page of ends is cut, in bytes of stored answers. A page has at least one, however large.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;

/// The memory that a page takes while it is made: the stored answers, and the lines that they become.
const PAGE_MEMORY: usize = 2 * 4 * 1024 * 1024;

const fn parameter(
    name: &'static str,
    shape: Shape,
    about: &'static str,
    example: &'static str,
) -> Parameter {
    Parameter { place: Place::Query, name, shape, about, example }
}

const SINCE: &str = "Jobs that were accepted at this time or later, in seconds since 1970.";
const UNTIL: &str = "Jobs that were accepted before this time, in seconds since 1970.";
const CURSOR: &str = "The cursor of the reply before (`x-next-cursor`); `latest` for what ends from now on. Without it, all ends.";

/// `GET /v1/jobs`.
pub(crate) static LIST: Operation = Operation {
    id: "listJobs",
    group: Group::Jobs,
    summary: "List jobs",
    about: "Lists the account's jobs, the newest first, without their answers. Parameters that it doesn't know are refused.",
    parameters: &[
        parameter("limit", Shape::Between(1, LIST_MAX), "The largest number of jobs in the reply.", "20"),
        parameter("after", JOB_ID, "`last_id` of the page before.", "job_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f"),
        parameter(
            "order",
            Shape::Words(&["asc", "desc"]),
            "By time of acceptance; `desc` is the usual.",
            "desc",
        ),
        parameter(
            "status",
            Shape::Words(STATUSES),
            "The jobs' status. `state` is another name for it.",
            "running",
        ),
        parameter("model", Shape::Text, "The model that was asked for.", "infera-tiny"),
        parameter("since", Shape::Between(0, TIME_MAX_S), SINCE, "1793000000"),
        parameter("until", Shape::Between(0, TIME_MAX_S), UNTIL, "1993000000"),
        parameter(
            "metadata",
            Shape::Pairs,
            "Jobs with all of these pairs, each as `metadata[key]=value`.",
            r#"{"run": "7"}"#,
        ),
    ],
    body: None,
    reply: operation::json(
        "A page of jobs.",
        Shape::Members(&[
            always("object", Shape::Words(&["list"]), "The kind of object."),
            always("data", Shape::List(&Shape::Named(&LISTED_JOB)), "The jobs."),
            always("has_more", Shape::Flag, "Whether there is another page."),
            always("first_id", Shape::Maybe(&JOB_ID), "The first job of the page."),
            always("last_id", Shape::Maybe(&JOB_ID), "Where the next page begins."),
        ]),
    ),
    errors: &["invalid_value"],
};

/// `GET /v1/jobs/results`.
pub(crate) static RESULTS: Operation = Operation {
    id: "listResults",
    group: Group::Jobs,
    summary: "Collect the results of jobs",
    about: "Shows the ends of the account's jobs in the order in which they came, one job object a line, with the answers. \
            `x-next-cursor` says where to go on, and `x-jobs-live` how many jobs have not ended.",
    parameters: &[
        parameter("after", Shape::Pattern("^(latest|end_[0-9]{1,18})$"), CURSOR, "end_0"),
        parameter(
            "limit",
            Shape::Between(1, MANY_MAX as u64),
            "The largest number of ends in the reply, which is also cut at some megabytes.",
            "100",
        ),
        parameter(
            "min",
            Shape::Between(1, MANY_MAX as u64),
            "The number of ends that the reply waits for, at most `limit`.",
            "1",
        ),
        parameter(
            "wait",
            Shape::Between(0, WAIT_MAX_S),
            "The longest time that the reply waits for them, in seconds.",
            "0",
        ),
    ],
    body: None,
    reply: GoodReply { content: Content::Lines, ..operation::json("The ends, one a line.", Shape::Any) },
    errors: &["invalid_value", "overloaded"],
};

/// Lists jobs.
///
/// # Errors
/// The client's fault, or the ledger's error.
pub(crate) async fn list(jobs: &Jobs, call: Call) -> Result<Reply, Failure> {
    let account = call.caller()?.account.clone();
    let question = list_question(account, call.head.uri.query())?;
    let page = jobs.lists.list(&question).await.map_err(|error| failed(&error))?;
    let data: Vec<Value> = page.jobs.iter().map(objects::listed).collect();
    let first = page.jobs.first().map(|job| job.id);
    let last = page.next.or(page.jobs.last().map(|job| job.id));
    Ok(Reply::json(&json!({
        "object": "list",
        "data": data,
        "has_more": page.next.is_some(),
        "first_id": first,
        "last_id": last,
    }))?)
}

fn list_question(account: AccountId, query: Option<&str>) -> Result<JobsQuestion, Unfit> {
    const KNOWN: [&str; 9] =
        ["after", "limit", "order", "status", "state", "model", "since", "until", "metadata"];
    let mut query = Query::read(query, &KNOWN);
    let after = query.parsed("after", "the id of a job", |text| text.parse::<JobId>().ok());
    let limit = query.number("limit", 1..=LIST_MAX, LIST_DEFAULT);
    let newest_first = query.parsed("order", "'asc' or 'desc'", |text| match text {
        "asc" => Some(false),
        "desc" => Some(true),
        _ => None,
    });
    let expected = format!("one of {}", STATUSES.join(", "));
    let name = if query.text("status").is_some() { "status" } else { "state" };
    let (state, end) = query.parsed(name, &expected, with_status).unwrap_or_default();
    let mut time = |name| {
        let expected = "a time in whole seconds since 1970";
        let within = |text: &str| text.parse().ok().filter(|seconds| *seconds <= TIME_MAX_S);
        query.parsed(name, expected, |text| within(text).map(of_seconds))
    };
    let (since, until) = (time("since"), time("until"));
    let filter = JobFilter {
        state,
        end,
        model: query.text("model").map(ModelName::new),
        since,
        until,
        metadata: query.metadata(),
    };
    let question = JobsQuestion {
        account,
        filter,
        after,
        newest_first: newest_first.unwrap_or(true),
        limit: u32::try_from(limit).unwrap_or(MANY_MAX),
    };
    query.none_wrong(question)
}

/// What a client asks of the results.
struct ResultsQuestion {
    /// Where it has read to; none for the present end.
    after: Option<u64>,
    limit: u32,
    /// The number of ends that it waits for.
    ends_min: u32,
    wait: Duration,
}

/// Returns ends as JSON lines, once there are as many as the client waits for or its time is over.
///
/// # Errors
/// The client's fault, or the ledger's error; then the same cursor may be read again.
pub(crate) async fn results(jobs: &Jobs, memory: &MemoryBudget, call: Call) -> Result<Reply, Failure> {
    let account = call.caller()?.account.clone();
    let ResultsQuestion { after, limit, ends_min, wait } = results_question(call.head.uri.query())?;
    let after = match after {
        Some(after) => after,
        None => latest(jobs, &account).await?,
    };
    let wish = Wish { cursor: EndsCursor { account: account.clone(), after }, ends_min };
    let begun = Instant::now();
    let ready = jobs.collectors.wait(wish, wait, &jobs.answer_now).await.map_err(|error| failed(&error))?;
    // Without a wait the ledger is only looked at.
    let waited = (!wait.is_zero()).then(|| begun.elapsed());
    let mut reservation = None;
    if ready.ends > 0 && !memory.reserve(&mut reservation, PAGE_MEMORY) {
        return Err(ApiError::Overloaded.into());
    }
    let question = EndsQuestion { account, after, limit, bytes_max: PAGE_BYTES };
    let ends = jobs.lists.ends(&question).await.map_err(|error| failed(&error))?;
    let mut lines = Vec::new();
    for end in &ends {
        serde_json::to_writer(&mut lines, &objects::result_line(end)).map_err(|error| {
            tracing::error!(job = %end.job, %error, "a result could not be written as JSON");
            ApiError::Internal
        })?;
        lines.push(b'\n');
    }
    let cursor = objects::end_cursor(ends.last().map_or(after, |end| end.number));
    let text = |text: &str| HeaderValue::from_str(text).ok();
    let headers = [("x-next-cursor", text(&cursor)), ("x-jobs-live", text(&ready.live.to_string()))];
    let headers =
        headers.into_iter().filter_map(|(name, value)| Some((HeaderName::from_static(name), value?)));
    let reply = Reply::lines(lines).with(headers);
    Ok(match waited {
        Some(waited) => reply.timed("wait", waited),
        None => reply,
    })
}

fn results_question(query: Option<&str>) -> Result<ResultsQuestion, Unfit> {
    let mut query = Query::read(query, &["after", "limit", "min", "wait"]);
    let expected = "a cursor, as replies have it in x-next-cursor, or 'latest'";
    let after = query.parsed("after", expected, |text| match text {
        "latest" => Some(None),
        cursor => objects::end_number(cursor).map(Some),
    });
    let limit = query.number("limit", 1..=u64::from(MANY_MAX), ENDS_DEFAULT);
    let ends_min = query.number("min", 1..=u64::from(MANY_MAX), 1).min(limit);
    let wait = query.number("wait", 0..=WAIT_MAX_S, 0);
    let small = |number| u32::try_from(number).unwrap_or(MANY_MAX);
    query.none_wrong(ResultsQuestion {
        after: after.unwrap_or(Some(0)),
        limit: small(limit),
        ends_min: small(ends_min),
        wait: Duration::from_secs(wait),
    })
}

/// Reads a query as both lists do, and returns what is wrong with it for each.
#[cfg(feature = "fuzzing")]
pub(crate) fn examine(query: &str) -> [Option<Unfit>; 2] {
    let list = list_question(AccountId::new("fuzz"), Some(query));
    let results = results_question(Some(query));
    if let Ok(JobsQuestion { limit, filter, .. }) = &list {
        assert!((1..=MANY_MAX).contains(limit) && filter.metadata.len() <= 40);
    }
    if let Ok(ResultsQuestion { limit, ends_min, wait, .. }) = &results {
        assert!((1..=MANY_MAX).contains(limit) && ends_min <= limit && wait.as_secs() <= WAIT_MAX_S);
    }
    [list.err(), results.err()]
}

/// Returns the number of the account's latest end.
async fn latest(jobs: &Jobs, account: &AccountId) -> Result<u64, ApiError> {
    let cursors = [EndsCursor { account: account.clone(), after: u64::MAX }];
    let ready = jobs.lists.ends_ready(&cursors).await.map_err(|error| failed(&error))?;
    Ok(ready.first().map_or(0, |ready| ready.latest))
}

fn failed(error: &LedgerError) -> ApiError {
    tracing::error!(%error, "an account's jobs could not be read");
    ApiError::from(error)
}
