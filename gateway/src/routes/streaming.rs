//! Answers a conversation as server-sent events. A task of its own follows the job, since the reply goes on after its
//! handler has returned. It passes on what is released, and after the job's end, which holds the whole answer, what is left.
//!
//! The status line is held until there is something to show, or for two seconds, so that refusals keep their status. After
//! it, an error is an event. When the client goes away before it had anything of an answer, the task ends, and with it what a
//! waiting client's request holds: its job is cancelled like any other's. After that the task goes on until the jobs have ended with
//! what the client had ([`Parting`]), unless it sent an idempotency key, by which it can have the rest.
//!
//! A request whose job was made before joins it: the stream shows all that was released of it, and goes on from there.

mod answering;
mod ended;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use infera_types::frames::Watched;
use infera_types::ids::JobId;
use infera_types::job::{Answer, End};
use infera_types::time::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use self::answering::Answering;
pub(super) use self::ended::Ended;
use super::charging;
use crate::access::{Reserved, Turn};
use crate::api::chunks::{self, Chunks, DONE, GoesOn, KEEP_ALIVE};
use crate::api::error::ApiError;
use crate::api::event_stream::{EventSink, PIECE_MAX_BYTES, STALLED_MAX, event_stream};
use crate::api::failure::Failure;
use crate::api::objects;
use crate::api::reply::Reply;
use crate::jobs::accept::{self, Order, Outcome};
use crate::jobs::{Jobs, Joined, Joins, Mark, Parting, Streams};

/// How long the status line is held: longer than refusals take, shorter than clients' patience with silence.
const STATUS_HELD: Duration = Duration::from_secs(2);

/// The longest silence on a stream: proxies often close connections after a minute of it, some after fifteen seconds.
pub(super) const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(10);

/// How often silence is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The most bytes that wait for a client that reads slowly: a thousand tokens' text. What is released meanwhile waits in the
/// answer itself, which all its followers share.
pub(super) const WAITING_MAX_BYTES: usize = 48 * 1024;

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
    let (sink, events) = event_stream(WAITING_MAX_BYTES, jobs.streams.memory().clone());
    let (begins, begun) = oneshot::channel();
    // Nothing is released before the end of others, so that no verifier is asked for it.
    let (bell, is_released) = (Arc::new(Notify::new()), order.ask.request.stream.is_some());
    let follow = |job: &JobId| is_released.then(|| jobs.streams.follow(*job, &bell));
    let answer = |(index, job): (usize, &JobId)| Answering {
        index,
        job: *job,
        following: follow(job),
        mark: Mark::default(),
        has_role: false,
    };
    let streaming = Streaming {
        job,
        chunks: Chunks::new(job, Timestamp::now().as_secs(), order.ask.request.model.clone(), has_usage),
        answers: order.ids.iter().enumerate().map(answer).collect(),
        bell,
        sink,
        begins: Some(begins),
        is_known: false,
        is_replayed: false,
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

/// One stream in progress.
struct Streaming {
    /// The first job of its request.
    job: JobId,
    chunks: Chunks,
    answers: Vec<Answering>,
    /// Rung when more may be shown.
    bell: Arc<Notify>,
    sink: EventSink,
    /// Tells the handler that the stream begins, or that it doesn't.
    begins: Option<oneshot::Sender<Result<Begun, Failure>>>,
    /// Whether it is known that there are these jobs.
    is_known: bool,
    /// Whether an earlier request under the same idempotency key made them.
    is_replayed: bool,
    /// When an event was last sent.
    said: Instant,
}

impl Streaming {
    async fn run(mut self, jobs: Arc<Jobs>, order: Order, held: Held) {
        let Held { reserved, mut turns } = held;
        let (account, has_key) = (order.caller.account.clone(), order.idempotency.is_some());
        let (joins, joined) = Joins::of_stream();
        let mut joined = Some(joined);
        let mut answering = Box::pin(accept::answer(&jobs, order, joins));
        let mut status_held = pin!(tokio::time::sleep(STATUS_HELD));
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let mut is_replayed = false;
        let (outcome, mut streaming) = loop {
            let (is_held, is_full) = (self.begins.is_some(), !self.sink.has_room());
            let sent = tokio::select! {
                biased;
                outcome = &mut answering => break (Some(outcome), Some(self)),
                () = gone(&self.sink, self.begins.as_mut()) => break (None, Some(self)),
                earlier = until_joined(&mut joined) => {
                    is_replayed = earlier.replayed;
                    self.join(&jobs.streams, &earlier);
                    Ok(())
                }
                () = self.bell.notified(), if !is_full => self.pass_on(),
                () = self.sink.room(), if is_full => self.pass_on(),
                () = &mut status_held, if is_held => self.keep_alive(),
                _ = ticks.tick() => self.look(),
            };
            match sent {
                Ok(()) => {}
                Err(Ended::Client) => break (None, Some(self)),
                Err(Ended::Early(error)) => {
                    let failure = Failure::of_job(error, self.job);
                    self.fail(failure);
                    drop(std::mem::take(&mut turns));
                    // The job goes on, as its client is told.
                    break (Some(answering.as_mut().await), None);
                }
            }
        };
        let told = joined.as_mut().and_then(|joined| joined.try_recv().ok());
        let is_joined = joined.is_none() || told.is_some();
        if let Some(earlier) = told {
            is_replayed |= earlier.replayed;
            if let Some(streaming) = &mut streaming {
                streaming.join(&jobs.streams, &earlier);
            }
        }
        drop(turns);
        let outcome = match outcome {
            Some(outcome) => outcome,
            // The connection may have been cut because this gateway ends: the client was told that the job goes on.
            None if jobs.answer_now.is_cancelled() => answering.as_mut().await,
            None => {
                let had = streaming.map_or_else(Vec::new, Streaming::had);
                let ends = if has_key || had.iter().all(|watched| watched.passed_on.count == 0) {
                    Vec::new()
                } else {
                    let parting = Parting::begin(&jobs, account, had);
                    drop(answering);
                    parting.ends().await
                };
                return charging::settle_parted(reserved, is_joined, &ends);
            }
        };
        if is_replayed {
            // The request that made the job holds its tokens.
            reserved.give_back();
        } else {
            charging::settle(reserved, &outcome);
        }
        if let Some(streaming) = streaming {
            streaming.end(&jobs.streams, outcome).await;
        }
    }

    /// Returns what the client has of each answer.
    fn had(self) -> Vec<Watched> {
        self.answers.iter().map(Answering::had).collect()
    }

    /// Shows the answers of an earlier request from here on. Nothing of others was shown.
    fn join(&mut self, streams: &Arc<Streams>, earlier: &Joined) {
        for (answer, job) in self.answers.iter_mut().zip(&earlier.jobs) {
            answer.job = *job;
            answer.following = answer.following.take().map(|_| streams.join(*job, &self.bell));
        }
        if let Some(first) = earlier.jobs.first() {
            self.job = *first;
            self.chunks = self.chunks.about(*first);
        }
        (self.is_known, self.is_replayed) = (true, earlier.replayed);
    }

    /// Passes on what was released, as far as there is room for it.
    fn pass_on(&mut self) -> Result<(), Ended> {
        for place in 0..self.answers.len() {
            while self.sink.has_room() {
                let answer = &mut self.answers[place];
                let Some(piece) = answer.next()? else { break };
                let role =
                    (!std::mem::replace(&mut answer.has_role, true)).then(|| self.chunks.role(answer.index));
                let text = self.chunks.text(answer.index, &piece);
                self.is_known = true;
                self.begin();
                role.into_iter().chain([text]).try_for_each(|event| self.send(event))?;
            }
        }
        Ok(())
    }

    /// Looks how long it has been silent on both sides.
    fn look(&mut self) -> Result<(), Ended> {
        if !self.sink.has_room() && self.sink.stalled() >= STALLED_MAX {
            return Err(Ended::Early(ApiError::SlowReader));
        }
        // A client that has something to read needs no comment.
        let is_silent =
            self.begins.is_none() && self.sink.has_room() && self.said.elapsed() >= KEEP_ALIVE_AFTER;
        if is_silent { self.keep_alive() } else { Ok(()) }
    }

    fn keep_alive(&mut self) -> Result<(), Ended> {
        self.begin();
        self.send(KEEP_ALIVE)
    }

    fn begin(&mut self) {
        if let Some(begins) = self.begins.take() {
            let job = self.is_known.then_some(self.job);
            // A client that is gone is noticed at the next event.
            let _ = begins.send(Ok(Begun { job, replayed: self.is_replayed }));
        }
    }

    fn send(&mut self, event: Bytes) -> Result<(), Ended> {
        self.said = Instant::now();
        Ok(self.sink.send(event)?)
    }

    /// Sends what is left of the answers, or the reason why there are none.
    async fn end(mut self, streams: &Streams, outcome: Result<Outcome, Failure>) {
        // Nothing more is released, so that no verifier is asked for it while the client reads the rest.
        self.answers.iter_mut().for_each(|answer| answer.following = None);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => return self.fail(failure),
        };
        let fail = |error| Failure { replayed: outcome.replayed, ..Failure::of_job(error, outcome.job()) };
        let completion = match objects::of_ends(&outcome.views) {
            Ok(completion) => completion,
            Err(error) => return self.fail(fail(error)),
        };
        match self.finish(streams, &outcome, &completion).await {
            Ok(()) | Err(Ended::Client) => {}
            Err(Ended::Early(error)) => self.fail(fail(error)),
        }
    }

    /// Tells a failure: as the reply, if nothing was shown, or else as the last event.
    fn fail(mut self, failure: Failure) {
        match self.begins.take() {
            Some(begins) => {
                let _ = begins.send(Err(failure));
            }
            None => {
                let goes_on =
                    matches!(failure.error, ApiError::Draining | ApiError::Timeout | ApiError::SlowReader);
                let going_on: Vec<GoesOn> =
                    self.answers.iter().filter(|_| goes_on).map(Answering::goes_on).collect();
                let _ = self.sink.send_last(chunks::error(&failure.error, failure.job, &going_on));
            }
        }
    }

    /// Sends the rest of the answers, each event once there is room for it.
    async fn finish(
        &mut self,
        streams: &Streams,
        outcome: &Outcome,
        completion: &Value,
    ) -> Result<(), Ended> {
        if !self.answers.iter().any(|answer| answer.has_role) {
            // The jobs may be earlier ones, under the same idempotency key.
            self.chunks = self.chunks.about(outcome.job());
            self.job = outcome.job();
        }
        let mut rests = Vec::new();
        for (index, answer) in succeeded(outcome) {
            rests.push(match self.answers.get_mut(index) {
                Some(streamed) => (index, !streamed.has_role, streamed.mark.rest(&answer.text)?),
                None => (index, true, &*answer.text),
            });
        }
        // The answers are in memory until their client has them.
        let _reservation = streams.memory().reserve_anyway(rests.iter().map(|(_, _, rest)| rest.len()).sum());
        (self.is_known, self.is_replayed) = (true, outcome.replayed);
        self.begin();
        for (index, needs_role, mut rest) in rests {
            if needs_role {
                self.sink.send_patiently(self.chunks.role(index)).await?;
            }
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE_MAX_BYTES));
                self.sink.send_patiently(self.chunks.text(index, piece)).await?;
                rest = more;
            }
            self.sink.send_patiently(self.chunks.finish(index, completion)).await?;
        }
        for event in self.chunks.usage(completion).into_iter().chain([DONE]) {
            self.sink.send_patiently(event).await?;
        }
        Ok(())
    }
}

/// Returns the answers of a request with their places.
fn succeeded(outcome: &Outcome) -> impl Iterator<Item = (usize, &Answer)> {
    outcome.views.iter().filter_map(|view| match &view.settlement.as_ref()?.end {
        End::Succeeded { answer, .. } => {
            Some((usize::try_from(view.choice.index).unwrap_or(usize::MAX), answer))
        }
        _ => None,
    })
}

/// Waits for the earlier jobs that the stream shows, of which it is told once at most.
async fn until_joined(joined: &mut Option<oneshot::Receiver<Joined>>) -> Joined {
    if let Some(receiver) = joined {
        let told = receiver.await;
        *joined = None;
        if let Ok(earlier) = told {
            return earlier;
        }
    }
    std::future::pending().await
}

/// Waits until the client is gone: before the stream begins, that is when its handler is dropped.
async fn gone(sink: &EventSink, begins: Option<&mut oneshot::Sender<Result<Begun, Failure>>>) {
    match begins {
        Some(begins) => begins.closed().await,
        None => sink.gone().await,
    }
}
