//! Answers a conversation as server-sent events. A task of its own follows the job, since the reply goes on after its
//! handler has returned. It passes on what is released, and after the job's end, which holds the whole answer, what is left.
//!
//! The status line is held until there is something to show, or for two seconds, so that refusals keep their status. After
//! it, an error is an event. When the client goes away, the task ends, and with it what a waiting client's request holds:
//! its job is cancelled like any other's.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use infera_ledger::JobView;
use infera_types::frames::{Delta, Watched};
use infera_types::ids::JobId;
use infera_types::job::{Answer, End};
use infera_types::time::Timestamp;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::charging;
use crate::access::Reserved;
use crate::api::chunks::{self, Chunks, DONE, KEEP_ALIVE};
use crate::api::error::ApiError;
use crate::api::event_stream::{EventSink, Unsent, event_stream};
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::reply::Reply;
use crate::jobs::accept::{self, Order, Outcome};
use crate::jobs::{Following, Heard, Jobs, Passing};

/// How long the status line is held: longer than refusals take, shorter than clients' patience with silence.
const STATUS_HELD: Duration = Duration::from_secs(2);

/// The longest silence on a stream: proxies often close connections after a minute of it, some after fifteen seconds.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(10);

/// How often silence is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a stream that has begun waits for the next delta before it asks for it, and one that hasn't begun.
const ASK_AFTER: Duration = Duration::from_secs(1);
const ASK_FIRST_AFTER: Duration = Duration::from_secs(5);

/// The most bytes that wait for a client that reads slowly: a thousand tokens' text.
const WAITING_MAX_BYTES: usize = 48 * 1024;

/// How a stream began.
struct Begun {
    /// The job, as far as it is known.
    job: Option<JobId>,
    replayed: bool,
}

/// Answers an order as events.
///
/// # Errors
/// [`Failure`], if there was nothing to show before it.
pub(super) async fn stream(
    jobs: &Arc<Jobs>,
    mut order: Order,
    reserved: Reserved,
    has_usage: bool,
) -> Result<Reply, Failure> {
    let job = JobId::new();
    order.job = Some(job);
    let (sink, events) = event_stream(WAITING_MAX_BYTES);
    let (begins, begun) = oneshot::channel();
    let streaming = Streaming {
        chunks: Chunks::new(job, Timestamp::now().as_secs(), order.ask.request.model.clone(), has_usage),
        following: jobs.streams.follow(job),
        passing: Passing::default(),
        sink,
        begins: Some(begins),
        has_role: false,
        said: Instant::now(),
        heard: Instant::now(),
    };
    tokio::spawn(streaming.run(Arc::clone(jobs), order, reserved).instrument(Span::current()));
    match begun.await {
        Ok(Ok(Begun { job, replayed })) => {
            let reply = Reply::events(events).replayed(replayed);
            Ok(match job {
                Some(job) => reply.about(job),
                None => reply,
            })
        }
        Ok(Err(failure)) => Err(failure),
        // The task panicked.
        Err(_) => Err(Failure::of_job(ApiError::Internal, job)),
    }
}

/// One stream in progress.
struct Streaming {
    chunks: Chunks,
    following: Following,
    passing: Passing,
    sink: EventSink,
    /// Tells the handler that the stream begins, or that it doesn't.
    begins: Option<oneshot::Sender<Result<Begun, Failure>>>,
    has_role: bool,
    /// When an event was last sent.
    said: Instant,
    /// When a delta last came, or was asked for.
    heard: Instant,
}

impl Streaming {
    async fn run(mut self, jobs: Arc<Jobs>, order: Order, reserved: Reserved) {
        let mut answering = pin!(accept::answer(&jobs, order));
        let mut held = pin!(tokio::time::sleep(STATUS_HELD));
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let outcome = loop {
            let is_held = self.begins.is_some();
            let sent = tokio::select! {
                biased;
                outcome = &mut answering => break outcome,
                () = gone(&self.sink, self.begins.as_mut()) => return,
                delta = self.following.next() => self.pass_on(&delta),
                () = &mut held, if is_held => self.keep_alive(),
                _ = ticks.tick() => self.look(),
            };
            match sent {
                Ok(()) => {}
                Err(Unsent::Gone) => return,
                Err(Unsent::TooSlow) => {
                    let job = Some(self.following.job());
                    let _ = self.sink.send_last(chunks::error(&ApiError::SlowReader, job));
                    return;
                }
            }
        };
        charging::settle(reserved, &outcome);
        self.end(outcome);
    }

    /// Passes on the text of a delta that goes on where the last one ended.
    fn pass_on(&mut self, delta: &Delta) -> Result<(), Unsent> {
        match self.passing.hear(delta) {
            Heard::Known => return Ok(()),
            Heard::Gap => {
                self.ask();
                return Ok(());
            }
            Heard::Next => self.heard = Instant::now(),
        }
        self.begin(Some(self.following.job()), false);
        self.say_role()?;
        if delta.text.is_empty() { Ok(()) } else { self.send(self.chunks.text(&delta.text)) }
    }

    /// Looks how long it has been silent on both sides.
    fn look(&mut self) -> Result<(), Unsent> {
        let has_begun = self.passing.passed_on().count > 0;
        if self.heard.elapsed() >= if has_begun { ASK_AFTER } else { ASK_FIRST_AFTER } {
            self.ask();
        }
        let is_silent = self.begins.is_none() && self.said.elapsed() >= KEEP_ALIVE_AFTER;
        if is_silent { self.keep_alive() } else { Ok(()) }
    }

    /// Asks the job's owner for what comes after what was passed on.
    fn ask(&mut self) {
        self.heard = Instant::now();
        let (job, passed_on) = (self.following.job(), self.passing.passed_on());
        self.following.ask(Watched { job, passed_on, stop: false });
    }

    fn keep_alive(&mut self) -> Result<(), Unsent> {
        self.begin(None, false);
        self.send(KEEP_ALIVE)
    }

    fn begin(&mut self, job: Option<JobId>, replayed: bool) {
        if let Some(begins) = self.begins.take() {
            // A client that is gone is noticed at the next event.
            let _ = begins.send(Ok(Begun { job, replayed }));
        }
    }

    fn say_role(&mut self) -> Result<(), Unsent> {
        if self.has_role {
            return Ok(());
        }
        self.has_role = true;
        self.send(self.chunks.role())
    }

    fn send(&mut self, event: bytes::Bytes) -> Result<(), Unsent> {
        self.said = Instant::now();
        self.sink.send(event)
    }

    /// Sends what is left of the answer, or the reason why there is none.
    fn end(mut self, outcome: Result<Outcome, Failure>) {
        let (error, job) = match outcome {
            Ok(outcome) => match answer_of(&outcome.view) {
                Ok((answer, completion)) => match self.finish(&outcome, answer, &completion) {
                    Ok(()) | Err(Ended::Client) => return,
                    Err(Ended::Overturned) => (ApiError::StreamOverturned, Some(outcome.view.id)),
                },
                Err(error) => {
                    let failure =
                        Failure { replayed: outcome.replayed, ..Failure::of_job(error, outcome.view.id) };
                    return self.fail(failure);
                }
            },
            Err(failure) => return self.fail(failure),
        };
        self.fail(Failure { job, ..error.into() });
    }

    /// Tells a failure: as the reply, if nothing was shown, or else as the last event.
    fn fail(mut self, failure: Failure) {
        match self.begins.take() {
            Some(begins) => {
                let _ = begins.send(Err(failure));
            }
            None => {
                let _ = self.sink.send_last(chunks::error(&failure.error, failure.job));
            }
        }
    }

    /// Sends the rest of an answer. What waits for a slow client is bounded by the answer, which is whole here anyway.
    fn finish(
        &mut self,
        outcome: &Outcome,
        answer: &Answer,
        completion: &serde_json::Value,
    ) -> Result<(), Ended> {
        let rest = self.passing.rest(answer).ok_or(Ended::Overturned)?;
        if !self.has_role {
            // The job may be an earlier one, under the same idempotency key.
            self.chunks = self.chunks.about(outcome.view.id);
        }
        self.begin(Some(outcome.view.id), outcome.replayed);
        let role = (!self.has_role).then(|| self.chunks.role());
        let text = (!rest.text.is_empty()).then(|| self.chunks.text(rest.text));
        let ends = [Some(self.chunks.finish(completion)), self.chunks.usage(completion), Some(DONE)];
        for event in [role, text].into_iter().chain(ends).flatten() {
            self.sink.send_last(event).map_err(|_| Ended::Client)?;
        }
        Ok(())
    }
}

/// Why a stream could not be finished.
enum Ended {
    /// The client is gone.
    Client,
    /// The answer isn't what was passed on.
    Overturned,
}

/// Returns a job's answer, and the same as a whole reply has it.
fn answer_of(view: &JobView) -> Result<(&Answer, serde_json::Value), ApiError> {
    let settlement = view.settlement.as_ref().ok_or(ApiError::Internal)?;
    let completion = objects::of_end(view, settlement)?;
    match &settlement.end {
        End::Succeeded { answer, .. } => Ok((answer, completion)),
        End::Failed { .. } | End::Cancelled | End::Expired => Err(ApiError::Internal),
    }
}

/// Waits until the client is gone: before the stream begins, that is when its handler is dropped.
async fn gone(sink: &EventSink, begins: Option<&mut oneshot::Sender<Result<Begun, Failure>>>) {
    match begins {
        Some(begins) => begins.closed().await,
        None => sink.gone().await,
    }
}
