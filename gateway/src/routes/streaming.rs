//! Answers a conversation as server-sent events. A task of its own follows the job, since the reply goes on after its
//! handler has returned. It passes on what is released, and after the job's end, which holds the whole answer, what is left.
//!
//! The status line is held until there is something to show, or for two seconds, so that refusals keep their status. After
//! it, an error is an event. When the client goes away before it had anything of an answer, the task ends, and with it what a waiting
//! client's request holds: its job is cancelled like any other's. After that the task goes on until the jobs have ended with what the
//! client had ([`Parting`]), unless it sent an idempotency key, by which it can have the rest.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use infera_types::frames::{Delta, PassedOn, Watched};
use infera_types::ids::JobId;
use infera_types::job::End;
use infera_types::time::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::charging;
use crate::access::{Reserved, Turn};
use crate::api::chunks::{self, Chunks, DONE, KEEP_ALIVE};
use crate::api::error::ApiError;
use crate::api::event_stream::{EventSink, Unsent, event_stream};
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::reply::Reply;
use crate::jobs::accept::{self, Order, Outcome};
use crate::jobs::{Following, Heard, Jobs, Parting, Passing, Rest};

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
    order: Order,
    held: Held,
    has_usage: bool,
) -> Result<Reply, Failure> {
    let job = order.ids.first().copied().unwrap_or_else(JobId::new);
    let (sink, events) = event_stream(WAITING_MAX_BYTES);
    let (begins, begun) = oneshot::channel();
    let followed = order.ids.iter().map(|id| jobs.streams.follow(*id)).enumerate();
    let streaming = Streaming {
        job,
        chunks: Chunks::new(job, Timestamp::now().as_secs(), order.ask.request.model.clone(), has_usage),
        answers: followed.map(|(index, following)| Answering::new(index, following)).collect(),
        sink,
        begins: Some(begins),
        said: Instant::now(),
    };
    tokio::spawn(streaming.run(Arc::clone(jobs), order, held).instrument(Span::current()));
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

/// What a stream's request holds until its end: its tokens, and its part of the requests in flight.
pub(super) struct Held {
    pub(super) reserved: Reserved,
    pub(super) turns: Vec<Turn>,
}

/// One answer of a stream in progress.
struct Answering {
    index: usize,
    following: Following,
    passing: Passing,
    /// What of it the client's stream took.
    had: PassedOn,
    has_role: bool,
    /// When a delta last came, or was asked for.
    heard: Instant,
}

impl Answering {
    fn new(index: usize, following: Following) -> Self {
        let passing = Passing::default();
        let had = passing.passed_on();
        Self { index, following, passing, had, has_role: false, heard: Instant::now() }
    }

    /// Asks the job's owner for what comes after what was passed on.
    fn ask(&mut self) {
        self.heard = Instant::now();
        let (job, passed_on) = (self.following.job(), self.passing.passed_on());
        self.following.ask(Watched { job, passed_on, stop: false });
    }

    /// Returns what the client has of it.
    fn had(&self) -> Watched {
        Watched { job: self.following.job(), passed_on: self.had, stop: false }
    }

    /// Asks after a silence, which may be the loss of a delta.
    fn ask_after_silence(&mut self) {
        let has_begun = self.passing.passed_on().count > 0;
        if self.heard.elapsed() >= if has_begun { ASK_AFTER } else { ASK_FIRST_AFTER } {
            self.ask();
        }
    }
}

/// One stream in progress.
struct Streaming {
    /// The first job of its request.
    job: JobId,
    chunks: Chunks,
    answers: Vec<Answering>,
    sink: EventSink,
    /// Tells the handler that the stream begins, or that it doesn't.
    begins: Option<oneshot::Sender<Result<Begun, Failure>>>,
    /// When an event was last sent.
    said: Instant,
}

impl Streaming {
    async fn run(mut self, jobs: Arc<Jobs>, order: Order, held: Held) {
        let Held { reserved, turns } = held;
        let (account, has_key) = (order.caller.account.clone(), order.idempotency.is_some());
        let mut answering = Box::pin(accept::answer(&jobs, order));
        let mut status_held = pin!(tokio::time::sleep(STATUS_HELD));
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let outcome = loop {
            let is_held = self.begins.is_some();
            let sent = tokio::select! {
                biased;
                outcome = &mut answering => break Some(outcome),
                () = gone(&self.sink, self.begins.as_mut()) => break None,
                (place, delta) = next_delta(&mut self.answers) => self.pass_on(place, &delta),
                () = &mut status_held, if is_held => self.keep_alive(),
                _ = ticks.tick() => self.look(),
            };
            match sent {
                Ok(()) => {}
                Err(Unsent::Gone) => break None,
                Err(Unsent::TooSlow) => {
                    let _ = self.sink.send_last(chunks::error(&ApiError::SlowReader, Some(self.job)));
                    return;
                }
            }
        };
        if let Some(outcome) = outcome {
            charging::settle(reserved, &outcome);
            return self.end(outcome);
        }
        let had: Vec<Watched> = self.answers.iter().map(Answering::had).collect();
        if has_key || had.iter().all(|watched| watched.passed_on.count == 0) {
            return;
        }
        drop((self, turns));
        let ids: Vec<JobId> = had.iter().map(|watched| watched.job).collect();
        let parting = Parting::begin(&jobs, account, had);
        drop(answering);
        charging::settle_parted(reserved, &ids, &parting.ends().await);
    }

    /// Passes on the text of a delta that goes on where the last one ended.
    fn pass_on(&mut self, place: usize, delta: &Delta) -> Result<(), Unsent> {
        let Some(answer) = self.answers.get_mut(place) else { return Ok(()) };
        match answer.passing.hear(delta) {
            Heard::Known => return Ok(()),
            Heard::Gap => {
                answer.ask();
                return Ok(());
            }
            Heard::Next => answer.heard = Instant::now(),
        }
        let role = (!std::mem::replace(&mut answer.has_role, true)).then(|| self.chunks.role(answer.index));
        let text = (!delta.text.is_empty()).then(|| self.chunks.text(answer.index, &delta.text));
        self.begin(Some(self.job), false);
        [role, text].into_iter().flatten().try_for_each(|event| self.send(event))?;
        if let Some(answer) = self.answers.get_mut(place) {
            answer.had = answer.passing.passed_on();
        }
        Ok(())
    }

    /// Looks how long it has been silent on both sides.
    fn look(&mut self) -> Result<(), Unsent> {
        self.answers.iter_mut().for_each(Answering::ask_after_silence);
        let is_silent = self.begins.is_none() && self.said.elapsed() >= KEEP_ALIVE_AFTER;
        if is_silent { self.keep_alive() } else { Ok(()) }
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

    fn send(&mut self, event: bytes::Bytes) -> Result<(), Unsent> {
        self.said = Instant::now();
        self.sink.send(event)
    }

    /// Sends what is left of the answers, or the reason why there are none.
    fn end(mut self, outcome: Result<Outcome, Failure>) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => return self.fail(failure),
        };
        let fail = |error| Failure { replayed: outcome.replayed, ..Failure::of_job(error, outcome.job()) };
        let completion = match objects::of_ends(&outcome.views) {
            Ok(completion) => completion,
            Err(error) => return self.fail(fail(error)),
        };
        match self.finish(&outcome, &completion) {
            Ok(()) | Err(Ended::Client) => {}
            Err(Ended::Overturned) => self.fail(fail(ApiError::StreamOverturned)),
        }
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

    /// Sends the rest of the answers. What waits for a slow client is bounded by them, which are whole here anyway.
    fn finish(&mut self, outcome: &Outcome, completion: &Value) -> Result<(), Ended> {
        let mut events = Vec::new();
        if !self.answers.iter().any(|answer| answer.has_role) {
            // The jobs may be earlier ones, under the same idempotency key.
            self.chunks = self.chunks.about(outcome.job());
        }
        for view in &outcome.views {
            let Some(End::Succeeded { answer, .. }) =
                view.settlement.as_ref().map(|settlement| &settlement.end)
            else {
                continue;
            };
            let index = usize::try_from(view.choice.index).unwrap_or(usize::MAX);
            let streamed = self.answers.get(index);
            let rest = match streamed {
                Some(streamed) => streamed.passing.rest(answer).ok_or(Ended::Overturned)?,
                None => Rest { from: 0, text: &answer.text },
            };
            if !streamed.is_some_and(|streamed| streamed.has_role) {
                events.push(self.chunks.role(index));
            }
            if !rest.text.is_empty() {
                events.push(self.chunks.text(index, rest.text));
            }
            events.push(self.chunks.finish(index, completion));
        }
        events.extend(self.chunks.usage(completion));
        events.push(DONE);
        self.begin(Some(outcome.job()), outcome.replayed);
        events.into_iter().try_for_each(|event| self.sink.send_last(event)).map_err(|_| Ended::Client)
    }
}

/// Waits for the next delta of any answer; returns its place with it.
async fn next_delta(answers: &mut [Answering]) -> (usize, Delta) {
    let waiting = answers.iter_mut().enumerate();
    let nexts =
        waiting.map(|(place, answer)| Box::pin(async move { (place, answer.following.next().await) }));
    // There is one answer at least.
    futures::future::select_all(nexts).await.0
}

/// Why a stream could not be finished.
enum Ended {
    /// The client is gone.
    Client,
    /// The answer isn't what was passed on.
    Overturned,
}

/// Waits until the client is gone: before the stream begins, that is when its handler is dropped.
async fn gone(sink: &EventSink, begins: Option<&mut oneshot::Sender<Result<Begun, Failure>>>) {
    match begins {
        Some(begins) => begins.closed().await,
        None => sink.gone().await,
    }
}
