//! Reads the requests of the routes that take conversations.

use std::time::Duration;

use infera_ledger::{Idempotency, NodePool};
use infera_types::choice::Choice;
use infera_types::ids::Digest;
use infera_types::service::ServiceTier;

use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::call::Call;
use super::parsing_pool::ParsingPool;
use crate::access::{self, Attempt, Caller, JobShare};
use crate::api::chat_request::{self, AnswerBounds, ChatRequest, Form};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::jobs_refusals::JobsRefusals;
use crate::api::jobs_request::{self, JobItem, JobsRequest};
use crate::api::{preferences, recognition};
use crate::config::Config;
use crate::fastapi::{self, Unfit};
use crate::jobs::accept::Order;
use crate::jobs::batch::{Batch, BatchJob};

/// Reads requests for conversations.
#[derive(Debug)]
pub(crate) struct Conversations {
    bounds: AnswerBounds,
    cancel_after_max: Duration,
    parsing: ParsingPool,
}

impl Conversations {
    /// Makes a reader of conversations within the operator's bounds.
    pub(crate) fn new(config: &Config) -> Self {
        let cancel_after_max = Duration::from_millis(config.submit_deadline_ms);
        Self { bounds: AnswerBounds::from(config), cancel_after_max, parsing: ParsingPool::default() }
    }

    /// Returns the bounds of answers.
    pub(crate) const fn bounds(&self) -> AnswerBounds {
        self.bounds
    }

    /// Reads what a call orders and takes the body out of the call, so that a request which waits for its answer
    /// doesn't keep its body in memory.
    ///
    /// # Errors
    /// The client's fault, in its idempotency key or its body, or that its key has no right to the tier.
    pub(crate) async fn order(&self, call: &mut Call, form: Form) -> Result<Order, Failure> {
        let (caller, key) = (call.caller()?, idempotency_key(&call.head.headers)?);
        let body = std::mem::take(&mut call.body);
        let content_type = call.head.headers.get(CONTENT_TYPE).cloned();
        let cancel_after = preferences::cancel_after(&call.head.headers, self.cancel_after_max)?;
        let (bounds, uri, counted) =
            (self.bounds, call.head.uri.clone(), JobShare::of(&caller, call.address));
        let is_openais_client = recognition::is_openais_client(&call.head.headers);
        let is_retry = access::attempt(&call.head.headers) == Attempt::Again;
        let reading = self.parsing.run(body.bytes().len(), move || {
            let json = fastapi::read(content_type.as_ref(), body.bytes())?;
            let form = recognition::form_of(form, &json, is_openais_client);
            let ask = chat_request::read(form, &json, bounds)?;
            let scoped = |bytes: &[u8]| Digest::of(&[uri.path().as_bytes(), b"\0", bytes].concat());
            let fingerprint = scoped(body.bytes());
            let idempotency = key.map(|key| Idempotency { key: scoped(key.as_bytes()), fingerprint });
            let (fingerprint, reservation) = (Some(fingerprint), body.into_reservation());
            Ok::<_, Unfit>(Order {
                caller,
                counted,
                ids: Choice::new_ids(ask.choices),
                ask,
                pool: NodePool::Open,
                idempotency,
                cancel_after,
                fingerprint,
                is_retry,
                reservation,
            })
        });
        let order = reading.await??;
        may_have(order.ask.tier, &order.caller)?;
        Ok(order)
    }

    /// Reads a body that asks for one job or several. A key in the header stands for the jobs that have none of their
    /// own.
    ///
    /// # Errors
    /// The client's fault, in its headers or in any of the jobs.
    pub(super) async fn jobs(&self, call: &mut Call) -> Result<Asked, Failure> {
        let (caller, key) = (call.caller()?, idempotency_key(&call.head.headers)?);
        let cancel_after = preferences::cancel_after(&call.head.headers, self.cancel_after_max)?;
        let body = std::mem::take(&mut call.body);
        let content_type = call.head.headers.get(CONTENT_TYPE).cloned();
        let (bounds, counted) = (self.bounds, JobShare::of(&caller, call.address));
        let reading = self.parsing.run(body.bytes().len(), move || {
            let json = fastapi::read(content_type.as_ref(), body.bytes())?;
            let request = jobs_request::read(&json, bounds)?;
            let reservation = body.into_reservation();
            Ok::<_, Unfit>(match request {
                JobsRequest::One(item) => {
                    let idempotency =
                        item.key.as_ref().or(key.as_ref()).map(|key| fingerprint(key, &item.ask));
                    let ask = item.ask;
                    Asked::One(Box::new(Order {
                        caller,
                        counted,
                        ids: Choice::new_ids(ask.choices),
                        ask,
                        pool: NodePool::Open,
                        idempotency,
                        cancel_after,
                        fingerprint: None,
                        is_retry: false,
                        reservation,
                    }))
                }
                JobsRequest::Many(items) => {
                    let jobs =
                        (0..).zip(items).map(|(place, item)| keyed(place, item, key.as_deref())).collect();
                    Asked::Many(Batch { caller, counted, jobs, cancel_after, reservation })
                }
            })
        });
        let asked = reading.await??;
        match &asked {
            Asked::One(order) => may_have(order.ask.tier, &order.caller)?,
            Asked::Many(batch) => {
                let mut refused = JobsRefusals::default();
                for (place, job) in batch.jobs.iter().enumerate() {
                    if let Err(error) = may_have(job.ask.tier, &batch.caller) {
                        refused.add(place, error);
                    }
                }
                refused.none_or(())?;
            }
        }
        Ok(asked)
    }
}

/// Refuses a tier that the caller's key has no right to.
fn may_have(tier: ServiceTier, caller: &Caller) -> Result<(), ApiError> {
    if tier == ServiceTier::Priority && !caller.may_prioritise { Err(ApiError::NoPriority) } else { Ok(()) }
}

/// What a body asks for that names one job or several.
#[derive(Debug)]
pub(super) enum Asked {
    /// One job.
    One(Box<Order>),
    /// Several jobs, to be accepted together.
    Many(Batch),
}

/// Returns a job of a batch with its idempotency key: its own, or the header's with the job's place.
fn keyed(place: u32, item: JobItem, header: Option<&str>) -> BatchJob {
    let key = item.key.or_else(|| header.map(|header| format!("{header}\0{place}")));
    let idempotency = key.map(|key| fingerprint(&key, &item.ask));
    BatchJob { ids: Choice::new_ids(item.ask.choices), ask: item.ask, idempotency }
}

/// Returns what a key of a job stands for. The same conversation has the same fingerprint, whether it is sent alone or
/// among others.
fn fingerprint(key: &str, ask: &ChatRequest) -> Idempotency {
    const SCOPE: &[u8] = b"/v1/jobs\0";
    let metadata: String = ask.metadata.iter().map(|(key, value)| format!("{key}\0{value}\0")).collect();
    let policy = [ask.policy.quorum, ask.policy.replicas];
    // Nothing is added where nothing is said, so that keys from before these options stay good.
    let nodes = ask.nodes_words();
    let store = ask.store.map_or("", |store| if store { "store\0" } else { "no store\0" });
    let choices = if ask.choices > 1 { format!("n {}\0", ask.choices) } else { String::new() };
    let told = ask.request.top_logprobs.map_or_else(String::new, |count| format!("logprobs {count}\0"));
    let tokens = if ask.shows_tokens { "tokens\0" } else { "" };
    let words = [&metadata, &nodes, store, &choices, &told, tokens].concat();
    let whole = [SCOPE, ask.request.digest().as_bytes(), &policy, words.as_bytes()].concat();
    Idempotency { key: Digest::of(&[SCOPE, key.as_bytes()].concat()), fingerprint: Digest::of(&whole) }
}

/// Returns the client's idempotency key, if it sent one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const LENGTH_MAX: usize = 255;
    const WRONG: ApiError =
        ApiError::BadRequest("Idempotency-Key must be one header of 1 to 255 printable ASCII characters.");
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(WRONG);
    }
    let text = value.to_str().map_err(|_| WRONG)?;
    // The key as a structured string (as in the IETF draft) and the bare key (as clients usually send it) are the
    // same.
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > LENGTH_MAX || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(WRONG);
    }
    Ok(Some(text.to_owned()))
}
