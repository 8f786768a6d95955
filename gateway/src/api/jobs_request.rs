//! The bodies of `POST /v1/jobs` and `POST /v1/jobs/cancel`. A job is a body of `POST /v1/chat/completions` with two
//! more members: `idempotency_key`, and OpenAI's `metadata`.

use infera_ledger::{EndKind, JobFilter, JobState, MANY_MAX};
use infera_types::day::{DAY_MS, Day};
use infera_types::ids::{JobId, ModelName};
use infera_types::time::Timestamp;

use super::chat_form::{FOREIGN, HARMLESS, OPENAI, OPTIONS, UNSUPPORTED};
use super::knob_fields::KNOBS;
use super::metadata::METADATA;
use crate::api::chat_request::{self, AnswerBounds, ChatRequest, Form};
use crate::api::{metadata, stream_form};
use crate::fastapi::number;
use crate::fastapi::{
    Bound, Field, Flaw, Json, Kind, Mistakes, Range, Step, Strangers, Unfit, refuse_strangers,
};

/// The longest idempotency key, in characters, the same as in the header.
const KEY_MAX: usize = 255;

/// The largest number of jobs in one request.
pub(crate) const ITEMS_MAX: usize = MANY_MAX as usize;

/// The last second of the last day that can be written with four digits. Later times would filter nothing out.
pub(crate) const TIME_MAX_S: u64 = (Day::LAST.number() + 1) * DAY_MS / 1_000 - 1;

/// The members of a job beside those of a conversation, for the description of the API.
pub(crate) const ITEM: &[Field] = &[Field::optional("idempotency_key", Kind::Nullable(&Kind::Text))
    .about("As the header `Idempotency-Key`, for this job alone.")
    .range(Range::Characters(1, KEY_MAX))];

/// The form of a job's id.
const ID: &str = "^job_[0-9a-f]{32}$";

/// A body that names the jobs to cancel, for the description of the API.
pub(crate) const CANCEL_THESE: &[Field] = &[Field::required("ids", Kind::List(&Kind::Text))
    .about("The jobs' ids. Those that aren't the account's are answered as not found.")
    .range(Range::ItemsWithin(1, ITEMS_MAX))];

/// A body that cancels the jobs that a filter shows, for the description of the API.
pub(crate) const CANCEL_MATCHING: &[Field] = &[
    Field::required("filter", Kind::Object(LIVE_FILTER))
        .about("Which of the account's jobs that have not ended are cancelled; without members, all.")
        .range(Range::NoOthers),
    Field::optional("after", Kind::Nullable(&Kind::Text))
        .about("`last_id` of the reply before, where `has_more` was true.")
        .range(Range::Pattern(ID)),
];

const TIME: Range = Range::Integers { least: 0, most: Bound::Integer(TIME_MAX_S.cast_signed()) };

/// The states of a job that has not ended, by their words.
const LIVE: [(&str, JobState); 2] = [("queued", JobState::Queued), ("running", JobState::Running)];
const LIVE_WORDS: &[&str] = &[LIVE[0].0, LIVE[1].0];

/// The words for the status of any job, by which lists are filtered: a state, or how the job ended.
pub(crate) const STATUSES: &[&str] =
    &[LIVE[0].0, LIVE[1].0, "ended", "succeeded", "failed", "cancelled", "expired"];

const LIVE_FILTER: &[Field] = &[
    Field::optional("status", Kind::Nullable(&Kind::Text))
        .about("The jobs' status.")
        .range(Range::Words(LIVE_WORDS)),
    Field::optional("model", Kind::Nullable(&Kind::Text)).about("The model that was asked for."),
    Field::optional("since", Kind::Nullable(&Kind::Integer))
        .about("Jobs that were accepted at this time or later, in seconds since 1970.")
        .range(TIME),
    Field::optional("until", Kind::Nullable(&Kind::Integer))
        .about("Jobs that were accepted before this time, in seconds since 1970.")
        .range(TIME),
    METADATA,
];

/// One job that a body asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JobItem {
    /// The conversation.
    pub(crate) ask: ChatRequest,
    /// The client's key for this job, if it gave one.
    pub(crate) key: Option<String>,
}

/// What a body of `POST /v1/jobs` asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum JobsRequest {
    /// One job.
    One(Box<JobItem>),
    /// Several jobs, to be accepted together.
    Many(Vec<JobItem>),
}

/// The jobs that are to be cancelled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CancelRequest {
    /// These. Texts that are no ids of jobs are kept as they are: they are unknown jobs.
    These(Vec<Result<JobId, String>>),
    /// Those that the filter shows and that have not ended, from the newest on.
    Matching {
        /// The filter.
        filter: JobFilter,
        /// The job behind which an earlier call stopped.
        after: Option<JobId>,
    },
}

/// Reads the body of `POST /v1/jobs`.
///
/// # Errors
/// [`Unfit::Mistakes`]: the mistakes of every job.
pub(crate) fn read(body: &Json, bounds: AnswerBounds) -> Result<JobsRequest, Unfit> {
    let known = item_members();
    let Some(list) = body.get("jobs") else {
        // Alone, a job may also be a list of jobs whose name was misspelt.
        let known: Vec<&str> = known.into_iter().chain(["jobs"]).collect();
        return Ok(JobsRequest::One(Box::new(item(body, &mut Strangers::new(&known), bounds)?)));
    };
    let mut mistakes = Mistakes::default();
    refuse_strangers(body, &["jobs"], &[], &mut mistakes);
    let Some(items) = bounded_list(list, "jobs", &mut mistakes) else { return Err(mistakes.into()) };
    let (mut read, mut strangers) = (Vec::with_capacity(items.len()), Strangers::new(&known));
    for (index, body) in items.iter().enumerate() {
        match item(body, &mut strangers, bounds) {
            Ok(item) => read.push(item),
            Err(Unfit::Mistakes(of_item)) => {
                mistakes.add_all(&[Step::name("jobs"), Step::Index(index)], of_item)
            }
            Err(unreadable) => return Err(unreadable),
        }
    }
    // Each answer is a job.
    let answers: usize = read.iter().filter_map(|item| usize::try_from(item.ask.choices).ok()).sum();
    if answers > ITEMS_MAX {
        let message = format!("The jobs should ask for at most {ITEMS_MAX} answers together, not {answers}");
        mistakes.add(&[Step::name("jobs")], Flaw::new("too_long", message), &Json::Null);
    }
    Ok(mistakes.none_or(JobsRequest::Many(read))?)
}

/// Returns the names of all members that a job may have: those of a conversation, also those that are refused for their value, and
/// those that OpenAI's clients send and that change nothing.
fn item_members() -> Vec<&'static str> {
    let tables = [OPENAI, OPTIONS, KNOBS, ITEM].into_iter().flatten().map(|field| field.name);
    let refused = UNSUPPORTED.iter().chain(&FOREIGN).map(|option| option.name);
    tables.chain(refused).chain(HARMLESS).chain(["verification", METADATA.name, "best_of"]).collect()
}

/// Reads one job. A stranger among its members is refused: in a conversation OpenAI's clients may send what they like, but here a
/// misspelt idempotency key would make a second job.
fn item(body: &Json, strangers: &mut Strangers<'_>, bounds: AnswerBounds) -> Result<JobItem, Unfit> {
    let (mut mistakes, mut of_job) = (Mistakes::default(), Mistakes::default());
    strangers.refuse(body, &[], &mut mistakes);
    let key = idempotency_key(body, &mut of_job);
    stream_form::refuse(body, &mut of_job);
    match chat_request::read(Form::OpenAi, body, bounds) {
        Ok(ask) => {
            mistakes.add_all(&[], of_job);
            Ok(mistakes.none_or(JobItem { ask, key })?)
        }
        Err(Unfit::Mistakes(others)) => {
            mistakes.add_all(&[], others);
            mistakes.add_all(&[], of_job);
            Err(mistakes.into())
        }
        Err(unreadable) => Err(unreadable),
    }
}

fn idempotency_key(body: &Json, mistakes: &mut Mistakes) -> Option<String> {
    let given = body.get("idempotency_key")?;
    match given {
        Json::Null => return None,
        Json::Text(text) if !text.is_empty() && text.chars().count() <= KEY_MAX => return Some(text.clone()),
        Json::Text(_) => {
            let message = format!("String should have 1 to {KEY_MAX} characters");
            mistakes.add(&[Step::name("idempotency_key")], Flaw::new("value_error", message), given);
        }
        _ => {
            let flaw = Flaw::new("string_type", "Input should be a valid string");
            mistakes.add(&[Step::name("idempotency_key")], flaw, given);
        }
    }
    None
}

/// Reads the body of `POST /v1/jobs/cancel`.
///
/// # Errors
/// [`Unfit::Mistakes`].
pub(crate) fn read_cancel(body: &Json) -> Result<CancelRequest, Unfit> {
    let mut mistakes = Mistakes::default();
    let request = match (body.get("ids"), body.get("filter")) {
        (Some(ids), None) => {
            refuse_strangers(body, &["ids"], &[], &mut mistakes);
            let ids = bounded_list(ids, "ids", &mut mistakes).unwrap_or_default();
            CancelRequest::These(
                ids.iter().enumerate().map(|(index, id)| job_id(index, id, &mut mistakes)).collect(),
            )
        }
        (None, Some(filter)) => {
            refuse_strangers(body, &["filter", "after"], &[], &mut mistakes);
            let after = after(body, &mut mistakes);
            let mut of_filter = Mistakes::default();
            let filter = live_filter(filter, &mut of_filter);
            mistakes.add_all(&[Step::name("filter")], of_filter);
            CancelRequest::Matching { filter, after }
        }
        _ => {
            let message = "Input should have either 'ids', a list of jobs, or 'filter', an object";
            return Err(Mistakes::one(Flaw::new("value_error", message), body).into());
        }
    };
    Ok(mistakes.none_or(request)?)
}

fn job_id(index: usize, id: &Json, mistakes: &mut Mistakes) -> Result<JobId, String> {
    let Json::Text(text) = id else {
        let flaw = Flaw::new("string_type", "Input should be a valid string");
        mistakes.add(&[Step::name("ids"), Step::Index(index)], flaw, id);
        return Err(String::new());
    };
    // What is told of an unknown job is cut: an id has 36 characters.
    text.parse().map_err(|_| text.chars().take(64).collect())
}

fn after(body: &Json, mistakes: &mut Mistakes) -> Option<JobId> {
    let given = body.get("after").filter(|after| **after != Json::Null)?;
    let read = if let Json::Text(text) = given { text.parse().ok() } else { None };
    if read.is_none() {
        let flaw = Flaw::new("value_error", "Input should be the id of a job");
        mistakes.add(&[Step::name("after")], flaw, given);
    }
    read
}

/// Reads a filter for jobs that have not ended.
fn live_filter(given: &Json, mistakes: &mut Mistakes) -> JobFilter {
    let Json::Object(_) = given else {
        mistakes.add(&[], Flaw::new("dict_type", "Input should be a valid dictionary"), given);
        return JobFilter::default();
    };
    let known: Vec<&str> = LIVE_FILTER.iter().map(|field| field.name).collect();
    refuse_strangers(given, &known, &[], mistakes);
    let mut text = |name: &'static str| match given.get(name) {
        None | Some(Json::Null) => None,
        Some(Json::Text(text)) => Some(text.clone()),
        Some(other) => {
            let flaw = Flaw::new("string_type", "Input should be a valid string");
            mistakes.add(&[Step::name(name)], flaw, other);
            None
        }
    };
    let (status, model) = (text("status"), text("model").map(ModelName::new));
    let state = status.as_deref().and_then(|word| {
        let state = live_state(word);
        if state.is_none() {
            let words: Vec<String> = LIVE_WORDS.iter().map(|word| format!("'{word}'")).collect();
            let flaw = Flaw::not_among(&words.join(" or "));
            mistakes.add(&[Step::name("status")], flaw, &Json::Text(word.to_owned()));
        }
        state
    });
    let mut time = |name: &'static str| {
        let value = given.get(name).filter(|value| **value != Json::Null)?;
        // A filter that is read otherwise than it was meant would cancel the wrong jobs: texts and flags are no times.
        let is_number = matches!(value, Json::Int(_) | Json::Float(_));
        let seconds = is_number.then(|| number::exact_integer(value).ok()).flatten();
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds.nearest()).ok());
        let time = seconds.filter(|seconds| *seconds <= TIME_MAX_S).map(of_seconds);
        if time.is_none() {
            let flaw = Flaw::new("int_type", "Input should be a time in whole seconds since 1970");
            mistakes.add(&[Step::name(name)], flaw, value);
        }
        time
    };
    let (since, until) = (time("since"), time("until"));
    let metadata = metadata::read(given, mistakes);
    JobFilter { state, end: None, model, since, until, metadata }
}

/// Returns the time that is this many seconds after 1970.
pub(crate) fn of_seconds(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1_000))
}

/// Returns the filter for jobs of this status: a state of a job that has not ended, or how it ended.
pub(crate) fn with_status(word: &str) -> Option<(Option<JobState>, Option<EndKind>)> {
    match (live_state(word), word) {
        (Some(state), _) => Some((Some(state), None)),
        (None, "ended") => Some((Some(JobState::Ended), None)),
        (None, end) => end.parse().ok().map(|end| (None, Some(end))),
    }
}

fn live_state(word: &str) -> Option<JobState> {
    LIVE.iter().find(|(known, _)| *known == word).map(|(_, state)| *state)
}

/// Returns the items of a list that has between one and [`MANY_MAX`]; none if it isn't such a list, which is noted.
fn bounded_list<'a>(given: &'a Json, name: &'static str, mistakes: &mut Mistakes) -> Option<&'a [Json]> {
    let location = [Step::name(name)];
    let Json::List(items) = given else {
        mistakes.add(&location, Flaw::new("list_type", "Input should be a valid list"), given);
        return None;
    };
    if items.is_empty() || items.len() > ITEMS_MAX {
        let message = format!("List should have 1 to {ITEMS_MAX} items, not {}", items.len());
        mistakes.add(&location, Flaw::new("value_error", message), &Json::Null);
        return None;
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_that_is_told_is_read_and_no_other_is() {
        for word in STATUSES {
            assert!(with_status(word).is_some(), "{word}");
        }
        for word in ["", "Queued", "unknown", "queued "] {
            assert!(with_status(word).is_none(), "{word}");
        }
        let states = |words: &[&str]| words.iter().map(|word| live_state(word)).collect::<Vec<_>>();
        assert_eq!(states(LIVE_WORDS), [Some(JobState::Queued), Some(JobState::Running)]);
        assert_eq!(states(&["ended", "succeeded"]), [None, None]);
    }
}
