//! `GET` and `DELETE /v1/jobs/{id}/data` and `/v1/account/data`: erases the text of jobs, and says how far that has come. What
//! is erased is the request, the answer, the nodes' tokens and the client's pairs; that the jobs were, how they ended and what
//! they used stay. `DELETE /v1/jobs/{id}` cancels, so that a client which loses the race against an answer still gets it.

use hyper::StatusCode;
use infera_ledger::{
    AccountErasure, ErasureOrdered, ErasureOrders, ErasureStage, JobErasure, LedgerError, Scope,
};
use infera_types::ids::AccountId;
use infera_types::time::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::jobs::{ID, id};
use super::keys;
use crate::access::Caller;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::operation::{
    Accepted, Group, Operation, Shape, body, json as in_json, json_of_job, json_or_accepted,
};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::api::shapes::{ACCOUNT_ERASURE, JOB_ERASURE};
use crate::fastapi::{Field, Kind, Range, Unfit, check_closed};

/// What a body has to say, so that no request erases an account's data by mistake.
const CONFIRMATION: &[&str] = &["erase all data"];

const CONFIRMED: &[Field] = &[
    Field::required("confirm", Kind::Text)
        .about("These words, so that nothing is erased by mistake.")
        .range(Range::Words(CONFIRMATION)),
    Field::optional("account", Kind::Nullable(&Kind::Text))
        .about("Another account, which only a key with the scope `admin` may name."),
];

/// `GET /v1/jobs/{id}/data`.
pub(crate) static SHOW_JOB: Operation = Operation {
    id: "retrieveJobErasure",
    group: Group::Jobs,
    summary: "Show what is kept of a job's text",
    about: "Shows whether the job's text is kept, when it is due to go, and how far its erasure has come.",
    parameters: &[ID],
    body: None,
    reply: json_of_job("The erasure.", Shape::Named(&JOB_ERASURE)),
    errors: &["not_found"],
};

/// `DELETE /v1/jobs/{id}/data`.
pub(crate) static ERASE_JOB: Operation = Operation {
    id: "eraseJobData",
    group: Group::Jobs,
    summary: "Erase a job's text",
    about: "Orders the erasure of the request, the answer and the metadata of a job that has ended, from the ledger and the archive; \
            hashes, verdicts and usage stay. It is carried out within seconds in the ledger and some minutes in the archive: with \
            202 it is queued, and `GET` at the same path says how far it is. It can't be taken back. To erase twice changes \
            nothing. A key with the scope `admin` may erase any account's job.",
    parameters: &[ID],
    body: None,
    reply: json_or_accepted(
        "Nothing is left of it.",
        Shape::Named(&JOB_ERASURE),
        Accepted { about: "It is queued.", shape: Shape::Named(&JOB_ERASURE) },
    ),
    errors: &["not_found", "job_not_ended"],
};

/// `GET /v1/account/data`.
pub(crate) static SHOW_ACCOUNT: Operation = Operation {
    id: "retrieveAccountErasure",
    group: Group::Keys,
    summary: "Show how far an account's erasure has come",
    about: "Shows how far the last erasure of the account's data has come.",
    parameters: &[keys::ACCOUNT],
    body: None,
    reply: in_json("The erasure.", Shape::Named(&ACCOUNT_ERASURE)),
    errors: &[],
};

/// `DELETE /v1/account/data`.
pub(crate) static ERASE_ACCOUNT: Operation = Operation {
    id: "eraseAccountData",
    group: Group::Keys,
    summary: "Erase an account's data",
    about: "Orders the erasure of the text of all jobs that the account has had so far, as `DELETE /v1/jobs/{id}/data` does; of jobs \
            that have not ended, when they end. With 202 it is queued, and `GET` at the same path says how far it is. Keys, usage and points stay. It can't be taken back. To ask twice changes nothing.",
    parameters: &[],
    body: Some(body(Shape::Closed(CONFIRMED), r#"{"confirm": "erase all data"}"#)),
    reply: json_or_accepted(
        "Nothing is left of it.",
        Shape::Named(&ACCOUNT_ERASURE),
        Accepted { about: "It is queued.", shape: Shape::Named(&ACCOUNT_ERASURE) },
    ),
    errors: &["not_found"],
};

/// Shows how far the erasure of a job's text has come.
///
/// # Errors
/// [`ApiError::NotFound`], or the ledger's error.
pub(crate) async fn show_job(orders: &dyn ErasureOrders, call: &Call) -> Result<Reply, Failure> {
    let (job, caller) = (id(call)?, call.caller()?);
    let erasure = orders.job_erasure(owner(&caller), job, Timestamp::now()).await.map_err(failed)?;
    let erasure = erasure.ok_or(ApiError::NotFound)?;
    Ok(Reply::json(&job_object(&erasure))?.about(job))
}

/// Orders the erasure of a job's text.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::NotEnded`], or the ledger's error.
pub(crate) async fn erase_job(orders: &dyn ErasureOrders, call: &Call) -> Result<Reply, Failure> {
    let (job, caller) = (id(call)?, call.caller()?);
    match orders.erase_job(owner(&caller), job, Timestamp::now()).await.map_err(failed)? {
        ErasureOrdered::Ordered(erasure) => {
            let is_done = erasure.stage == ErasureStage::Erased;
            Ok(Reply::json(&job_object(&erasure))?.with_status(status(is_done)).about(job))
        }
        ErasureOrdered::NotEnded => Err(Failure::of_job(ApiError::NotEnded, job)),
        ErasureOrdered::Unknown => Err(ApiError::NotFound.into()),
    }
}

/// Shows how far the erasure of an account's data has come.
///
/// # Errors
/// [`crate::api::denied::Denied::OtherAccount`], or the ledger's error.
pub(crate) async fn show_account(orders: &dyn ErasureOrders, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let query = Query::read(call.head.uri.query(), &["account"]);
    let named = query.text("account").map(str::to_owned);
    let account = keys::account(&caller, query.none_wrong(named)?)?;
    let erasure = orders.account_erasure(&account, Timestamp::now()).await.map_err(failed)?;
    Ok(Reply::json(&account_object(&account, erasure.as_ref()))?)
}

/// Orders the erasure of an account's data.
///
/// # Errors
/// The client's mistakes, [`ApiError::NotFound`] for an account that doesn't exist, or the ledger's error.
pub(crate) async fn erase_account(orders: &dyn ErasureOrders, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let json = call.json()?;
    let [confirm, account] = check_closed(&json, CONFIRMED).map_err(Unfit::from)?.into_fields();
    if !CONFIRMATION.contains(&confirm.into_text().as_str()) {
        return Err(keys::wrong(&json, "confirm", "Input should be 'erase all data'").into());
    }
    let account = keys::account(&caller, keys::text(account))?;
    let erasure = orders.erase_account(&account, Timestamp::now()).await.map_err(failed)?;
    let erasure = erasure.ok_or(ApiError::NotFound)?;
    let is_done = erasure.word() == "erased";
    Ok(Reply::json(&account_object(&account, Some(&erasure)))?.with_status(status(is_done)))
}

/// Returns the account whose jobs a caller may erase; none: every account's.
fn owner(caller: &Caller) -> Option<&AccountId> {
    (!caller.scopes.permits(Scope::Admin)).then_some(&caller.account)
}

const fn status(is_done: bool) -> StatusCode {
    if is_done { StatusCode::OK } else { StatusCode::ACCEPTED }
}

fn job_object(erasure: &JobErasure) -> Value {
    let JobErasure { job, stage, due_ms, done_ms } = erasure;
    json!({
        "id": job,
        "object": "job.erasure",
        "job_id": job,
        "status": stage.word(),
        "due": due_ms.map(Timestamp::as_secs),
        "erased": done_ms.map(Timestamp::as_secs),
    })
}

fn account_object(account: &AccountId, erasure: Option<&AccountErasure>) -> Value {
    json!({
        "account": account,
        "object": "account.erasure",
        "status": erasure.map_or("none", AccountErasure::word),
        "asked": erasure.map(|erasure| erasure.asked_ms.as_secs()),
        "jobs_found": erasure.map_or(0, |erasure| erasure.found),
        "jobs_live": erasure.map_or(0, |erasure| erasure.live),
        "jobs_pending": erasure.map_or(0, |erasure| erasure.pending),
    })
}

fn failed(error: LedgerError) -> ApiError {
    tracing::error!(%error, "an erasure could not be ordered or read");
    ApiError::from(&error)
}
