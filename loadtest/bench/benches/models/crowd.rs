//! Section (a): many clients at once, and 32 jobs at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use infera_bench::Fault;
use infera_bench::measure::as_f64;
use tokio::sync::mpsc;

use crate::jobs::{Job, MIXED};
use crate::settings::Pace;
use crate::side::Side;

/// The numbers of clients that ask again when they are answered.
pub(crate) const CLIENTS: [usize; 3] = [1, 4, 16];

/// What the jobs that came all at once took.
#[derive(Debug)]
pub(crate) struct Mixed {
    /// Tokens per second, from the first request to the last token.
    pub(crate) rate: f64,
    pub(crate) wall: Duration,
}

/// Returns tokens per second with this number of clients. The last answers are waited for, and not counted.
pub(crate) async fn steady(side: &Side, clients: usize, pace: Pace) -> Result<f64, Fault> {
    let (events, mut seen) = mpsc::unbounded_channel();
    let begin = Instant::now() + pace.warm_up;
    let (end, next) = (begin + pace.span, AtomicUsize::new(0));
    let client = async || {
        while Instant::now() < end {
            let index = next.fetch_add(1, Ordering::Relaxed);
            side.ask(index, &Job::mixed(index % MIXED, pace), &events).await?;
        }
        Ok::<_, Fault>(())
    };
    try_join_all((0..clients).map(|_| client())).await?;
    drop(events);
    let mut tokens = 0;
    while let Some(event) = seen.recv().await {
        tokens += usize::from((begin..end).contains(&event.at));
    }
    Ok(as_f64(tokens) / pace.span.as_secs_f64())
}

/// Gives all mixed jobs at once.
pub(crate) async fn mixed(side: &Side, pace: Pace) -> Result<Mixed, Fault> {
    let (events, mut seen) = mpsc::unbounded_channel();
    let jobs: Vec<Job> = (0..MIXED).map(|index| Job::mixed(index, pace)).collect();
    let begun = Instant::now();
    try_join_all(jobs.iter().enumerate().map(|(index, job)| side.ask(index, job, &events))).await?;
    drop(events);
    let (mut tokens, mut last) = (0, begun);
    while let Some(event) = seen.recv().await {
        tokens += 1;
        last = last.max(event.at);
    }
    let wall = last - begun;
    Ok(Mixed { rate: as_f64(tokens) / wall.as_secs_f64(), wall })
}
