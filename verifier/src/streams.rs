//! Holds the streams of jobs in progress: what their nodes have framed, what of it was released, and what each gateway has been
//! told. A stream that loses everything costs its client the sight of tokens before the end; only that the client hung up ends a job.
//!
//! `job_stream` is one job's, `follower` what a gateway has of it, `teller` sends what was released.

mod follower;
mod job_stream;
mod teller;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infera_types::frames::{AnswerTokens, Delta, Watched};
use infera_types::ids::{AssignmentId, GatewayId, JobId, NodeId};
use infera_types::time::Timestamp;
use tokio::sync::Notify;

pub(crate) use job_stream::{JobStream, Shown, StreamTerms};
pub(crate) use teller::Teller;

use crate::decisions::slots::Taken;

/// What became of what a frame told of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    /// The assignment's slot took it.
    Taken(Taken),
    /// No such assignment is streamed here.
    Unknown,
    /// The assignment went to another node than the sender.
    Impostor,
}

/// Which node frames an assignment, and which stream it belongs to.
#[derive(Debug)]
struct Route {
    node: NodeId,
    stream: Arc<JobStream>,
}

/// All streams of one verifier.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    assignments: Mutex<HashMap<AssignmentId, Route>>,
    jobs: Mutex<HashMap<JobId, Arc<JobStream>>>,
    /// Told when a gateway may be told something.
    news: Notify,
}

impl Streams {
    /// Keeps a job's stream until the returned one is dropped.
    pub(crate) fn open(self: &Arc<Self>, stream: JobStream) -> OpenStream {
        let stream = Arc::new(stream);
        self.jobs().insert(stream.job(), Arc::clone(&stream));
        OpenStream { streams: Arc::clone(self), stream }
    }

    /// Takes in what a frame of `sender` tells of one assignment.
    pub(crate) fn take(&self, sender: &str, told: &AnswerTokens) -> Framed {
        let stream = match self.assignments().get(&told.assignment) {
            None => return Framed::Unknown,
            Some(route) if route.node.as_str() != sender => return Framed::Impostor,
            Some(route) => Arc::clone(&route.stream),
        };
        let taken = stream.take(told);
        if job_stream::is_news(taken) {
            self.news.notify_one();
        }
        Framed::Taken(taken)
    }

    /// Takes in what a gateway says that it has passed on, and tells it what comes next, unless the client hung up. A job that isn't
    /// streamed here is another verifier's.
    pub(crate) fn watch(&self, gateway: &GatewayId, watched: &Watched) {
        let stream = self.jobs().get(&watched.job).cloned();
        if let Some(stream) = stream {
            if watched.stop {
                stream.hang_up(gateway, &watched.passed_on);
            } else {
                stream.watch(gateway, &watched.passed_on);
                self.news.notify_one();
            }
        }
    }

    /// Waits until a gateway may be told something.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Returns what gateways haven't been told yet, and counts it as told.
    pub(crate) fn untold(&self) -> HashMap<GatewayId, Vec<Delta>> {
        let streams: Vec<Arc<JobStream>> = self.jobs().values().cloned().collect();
        let mut untold: HashMap<GatewayId, Vec<Delta>> = HashMap::new();
        let now = Timestamp::now();
        for stream in streams {
            for (gateway, delta) in stream.untold(now) {
                untold.entry(gateway).or_default().push(delta);
            }
        }
        untold
    }

    fn assignments(&self) -> MutexGuard<'_, HashMap<AssignmentId, Route>> {
        self.assignments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<JobId, Arc<JobStream>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job's stream, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenStream {
    streams: Arc<Streams>,
    stream: Arc<JobStream>,
}

impl OpenStream {
    /// Hears an assignment's frames until the returned value is dropped. They count only from `node`. `party` is whom they count
    /// for.
    pub(crate) fn hear(&self, assignment: AssignmentId, node: &NodeId, party: &str) -> HeardAssignment {
        self.stream.add(assignment, party);
        let route = Route { node: node.clone(), stream: Arc::clone(&self.stream) };
        self.streams.assignments().insert(assignment, route);
        HeardAssignment { streams: Arc::clone(&self.streams), stream: Arc::clone(&self.stream), assignment }
    }

    /// Returns the stream.
    pub(crate) fn stream(&self) -> &JobStream {
        &self.stream
    }

    /// Returns the stream for one that waits on it beside the job's task.
    pub(crate) fn shared(&self) -> Arc<JobStream> {
        Arc::clone(&self.stream)
    }

    /// Has what was released since the last time told.
    pub(crate) fn tell(&self) {
        self.streams.news.notify_one();
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        // Assignments that are given up only because their job is over here release nothing.
        self.stream.close();
        let mut jobs = self.streams.jobs();
        // The job may have been released and taken again meanwhile, with a stream of its own.
        if jobs.get(&self.stream.job()).is_some_and(|stream| Arc::ptr_eq(stream, &self.stream)) {
            jobs.remove(&self.stream.job());
        }
    }
}

/// Hears one assignment's frames. Dropped without an answer, the assignment is given up: what it told counts no more.
#[derive(Debug)]
pub(crate) struct HeardAssignment {
    streams: Arc<Streams>,
    stream: Arc<JobStream>,
    assignment: AssignmentId,
}

impl Drop for HeardAssignment {
    fn drop(&mut self) {
        self.streams.assignments().remove(&self.assignment);
        if self.stream.give_up(self.assignment) {
            self.streams.news.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
