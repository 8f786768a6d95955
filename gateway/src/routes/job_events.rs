//! `GET /v1/jobs/{id}/events`: tells a job's states as they come, the text of its answer as it is released, and its end, as
//! server-sent events, at any gateway. A client that lost its connection sends the id of the last event that it has, and goes
//! on from there, here or elsewhere.
//!
//! A task of its own follows the job. The state is read from the ledger, the text comes from the verifier that owns the job, and
//! the end, with all text that is left, from the ledger again: what is lost on the way costs the sight of it before the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use infera_ledger::{JobState, JobView};
use infera_types::ids::{AccountId, JobId};
use infera_types::job::End;
use infera_types::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::call::Call;
use super::jobs::{ID, failed, id as id_of};
use super::streaming::{Ended, KEEP_ALIVE_AFTER, LOOK_EVERY, WAITING_MAX_BYTES};
use crate::api::chunks::KEEP_ALIVE;
use crate::api::error::ApiError;
use crate::api::event_stream::{EventSink, PIECE_MAX_BYTES, STALLED_MAX, event_stream};
use crate::api::failure::Failure;
use crate::api::job_events::{self, EventId};
use crate::api::objects;
use crate::api::operation::{Content, GoodReply, Group, Operation, Parameter, Place, Shape, json_of_job};
use crate::api::reply::Reply;
use crate::jobs::ends::Waits;
use crate::jobs::{Following, Jobs, Mark};

/// The header by which a client says which event it has last.
const LAST_EVENT_ID: Parameter = Parameter {
    place: Place::Header,
    name: "Last-Event-ID",
    shape: Shape::Text,
    about: "The id of the last event that the client has: what comes after it is told, and nothing twice. Without it, all is told.",
    example: "running.0.e3b0c44298fc1c14",
};

/// `GET /v1/jobs/{id}/events`.
pub(crate) static EVENTS: Operation = Operation {
    id: "followJob",
    group: Group::Jobs,
    summary: "Follow a job",
    about: "Tells a job's events as server-sent events, at any gateway of the network: `status` with its state, `text` with what \
            was released of a streamed answer, or with all of it at the end, and last `end` with the job object, without the \
            answer's text and numbers. An `error` ends the events and not the job. Each event has an id, from which a client goes \
            on by `Last-Event-ID`. Comments come while there is nothing to tell.",
    parameters: &[ID, LAST_EVENT_ID],
    body: None,
    reply: GoodReply { content: Content::Events, ..json_of_job("The events, as they come.", Shape::Any) },
    errors: &["not_found", "erased", "damaged", "overloaded"],
};

/// The states of a job that hasn't ended. Only the event of its end has another in its id, so that a client that has that needs no
/// more.
const QUEUED: &str = "queued";
const RUNNING: &str = "running";

/// The shortest pause between two looks at a job's state.
const LOOK_AT_STATE_EVERY: Duration = Duration::from_secs(1);

/// What each client that waits here adds to that pause, so that the ledger is asked at most 500 times a second.
const LOOK_AT_STATE_SHARE: Duration = Duration::from_millis(2);

/// Tells a job's events until its end.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Erased`], the client's fault in `Last-Event-ID`, or the ledger's error.
pub(crate) async fn events(jobs: &Arc<Jobs>, stop: &Shutdown, call: Call) -> Result<Reply, Failure> {
    let (id, account) = (id_of(&call)?, call.caller()?.account.clone());
    let from = last_event_id(&call.head.headers)?;
    // Begun before the job is read, so that no end in between is missed.
    let ends = Waits::begin(jobs, &[id]).ok_or(ApiError::Overloaded)?;
    let read = jobs.reader.job(&account, id).await;
    let view = read.map_err(|error| failed(id, &error))?.ok_or(ApiError::NotFound)?;
    if view.kept.erased_ms.is_some() {
        return Err(Failure::of_job(ApiError::Erased, id));
    }
    let status = objects::status(&view);
    if view.settlement.is_some() && from.is_some_and(|from| from.status == status) {
        // The client has the end: readers of server-sent events don't come again after this status.
        let nothing = Reply::of(Bytes::new(), HeaderValue::from_static("text/event-stream; charset=utf-8"));
        return Ok(nothing.with_status(StatusCode::NO_CONTENT).about(id));
    }
    let (sink, events) = event_stream(WAITING_MAX_BYTES, jobs.streams.memory().clone());
    let bell = Arc::new(Notify::new());
    let telling = Telling {
        job: id,
        account,
        status: from.map(|from| from.status),
        mark: from.map_or_else(Mark::default, |from| Mark::claimed(from.bytes, from.hash)),
        following: view.settlement.is_none().then(|| jobs.streams.join(id, &bell)),
        bell,
        sink,
        said: Instant::now(),
    };
    let (jobs, stop) = (Arc::clone(jobs), stop.clone());
    tokio::spawn(async move { telling.run(&jobs, &stop, view, ends).await }.instrument(Span::current()));
    Ok(Reply::events(events).about(id))
}

/// Reads the event that the client has last; none if it has none.
fn last_event_id(headers: &HeaderMap) -> Result<Option<EventId>, ApiError> {
    const WRONG: ApiError = ApiError::BadRequest(
        "Last-Event-ID must be the id of an event of this job. Leave it out to be told all.",
    );
    let Some(value) = headers.get("last-event-id").filter(|value| !value.is_empty()) else { return Ok(None) };
    let text = value.to_str().map_err(|_| WRONG)?;
    EventId::read(text).map(Some).ok_or(WRONG)
}

/// One client that is told a job's events.
struct Telling {
    job: JobId,
    account: AccountId,
    /// The state that was told last; none at first.
    status: Option<&'static str>,
    mark: Mark,
    /// What is released of the answer, until the job ends.
    following: Option<Following>,
    /// Rung when there may be more text.
    bell: Arc<Notify>,
    sink: EventSink,
    /// When an event was last sent.
    said: Instant,
}

impl Telling {
    async fn run(mut self, jobs: &Jobs, stop: &Shutdown, view: JobView, ends: Waits) {
        let told = self.tell(jobs, stop, view, ends).await;
        if let Err(Ended::Early(error)) = told {
            let _ = self.sink.send_last(job_events::error(self.id(), &error, self.job));
        }
    }

    async fn tell(
        &mut self,
        jobs: &Jobs,
        stop: &Shutdown,
        view: JobView,
        mut ends: Waits,
    ) -> Result<(), Ended> {
        if view.settlement.is_some() {
            return self.end(jobs, stop, view).await;
        }
        self.tell_status(objects::status(&view))?;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        let mut looked = Instant::now();
        loop {
            let is_full = !self.sink.has_room();
            tokio::select! {
                biased;
                () = self.sink.gone() => return Ok(()),
                () = stop.cancelled() => return Err(Ended::Early(ApiError::Draining)),
                () = ends.until_known() => break,
                () = self.bell.notified(), if !is_full => self.pass_on()?,
                () = self.sink.room(), if is_full => self.pass_on()?,
                _ = ticks.tick() => {
                    self.keep_alive()?;
                    if looked.elapsed() >= pause(jobs.waiters.len()) {
                        looked = Instant::now();
                        self.look_at_state(jobs).await?;
                    }
                }
            }
        }
        self.following = None;
        let view = jobs.reader.job(&self.account, self.job).await;
        let view = view.map_err(|error| failed(self.job, &error).error)?;
        self.end(jobs, stop, view.ok_or(ApiError::NotFound)?).await
    }

    /// Tells the state if it is another than was told last.
    fn tell_status(&mut self, status: &'static str) -> Result<(), Ended> {
        if self.status.replace(status) == Some(status) {
            return Ok(());
        }
        self.send(job_events::status(self.id(), self.job))
    }

    /// Tells whether the job still waits. Its end comes by another way.
    async fn look_at_state(&mut self, jobs: &Jobs) -> Result<(), Ended> {
        match jobs.lists.listed(&self.account, &[self.job]).await {
            Ok(found) => {
                let Some(job) = found.first().filter(|job| job.state != JobState::Ended) else {
                    return Ok(());
                };
                let status = objects::listed_status(job);
                if Some(status) != self.status {
                    // The verifier that took it up may not know that it is followed here.
                    self.following.iter().for_each(Following::ask_soon);
                }
                self.tell_status(status)
            }
            Err(error) => {
                tracing::debug!(job = %self.job, %error, "a followed job's state could not be read; trying again");
                Ok(())
            }
        }
    }

    /// Passes on the text that was released, as far as there is room for it.
    fn pass_on(&mut self) -> Result<(), Ended> {
        let Some(following) = self.following.take() else { return Ok(()) };
        while self.sink.has_room() {
            let Some(piece) = following.next(&mut self.mark, PIECE_MAX_BYTES)? else { break };
            // What is written has begun, whether or not its state was looked at since.
            self.status = Some(RUNNING);
            self.send(job_events::text(self.id(), &piece))?;
        }
        self.following = Some(following);
        Ok(())
    }

    fn keep_alive(&mut self) -> Result<(), Ended> {
        let has_room = self.sink.has_room();
        if !has_room && self.sink.stalled() >= STALLED_MAX {
            return Err(Ended::Early(ApiError::SlowReader));
        }
        if has_room && self.said.elapsed() >= KEEP_ALIVE_AFTER { self.send(KEEP_ALIVE) } else { Ok(()) }
    }

    /// Tells what is left of the answer and the end, each event once there is room for it.
    async fn end(&mut self, jobs: &Jobs, stop: &Shutdown, view: JobView) -> Result<(), Ended> {
        if view.kept.erased_ms.is_some() {
            return Err(Ended::Early(ApiError::Erased));
        }
        let succeeded = view.settlement.as_ref().map(|settlement| &settlement.end);
        if let Some(End::Succeeded { answer, .. }) = succeeded {
            // The answer is in memory until its client has it.
            let _reservation = jobs.streams.memory().reserve_anyway(answer.text.len());
            self.mark.rest(&answer.text)?;
            self.status = Some(RUNNING);
            while let Some(piece) = self.mark.next(&answer.text, PIECE_MAX_BYTES)? {
                let event = job_events::text(self.id(), piece);
                self.send_patiently(stop, event).await?;
            }
        }
        self.status = Some(objects::status(&view));
        self.send_patiently(stop, job_events::end(self.id(), objects::job(&view))).await
    }

    /// Sends an event once there is room for it, unless this gateway ends before that.
    async fn send_patiently(&self, stop: &Shutdown, event: Bytes) -> Result<(), Ended> {
        tokio::select! {
            biased;
            sent = self.sink.send_patiently(event) => Ok(sent?),
            () = stop.cancelled() => Err(Ended::Early(ApiError::Draining)),
        }
    }

    fn send(&mut self, event: Bytes) -> Result<(), Ended> {
        self.said = Instant::now();
        Ok(self.sink.send(event)?)
    }

    /// Returns from where the client goes on.
    fn id(&self) -> EventId {
        let (bytes, hash) = self.mark.place();
        EventId { status: self.status.unwrap_or(QUEUED), bytes, hash }
    }
}

/// Returns the pause between two looks at a job's state where this number of clients waits.
fn pause(clients: usize) -> Duration {
    LOOK_AT_STATE_EVERY.max(LOOK_AT_STATE_SHARE * u32::try_from(clients).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_clients_ask_the_ledger_no_more_often_together() {
        for (clients, seconds) in [(0, 1), (500, 1), (10_000, 20)] {
            assert_eq!(pause(clients), Duration::from_secs(seconds), "{clients}");
        }
    }
}
