//! Section (b): a long prompt alone, and beside sequences that run.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use infera_bench::Fault;
use infera_bench::measure::{median, percentile_ms};
use tokio::sync::mpsc;

use crate::jobs::{Event, Job};
use crate::settings::Pace;
use crate::side::Side;

/// The sequences beside the long prompt: with it there are sixteen, which are the worker's slots.
pub(crate) const RUNNERS: usize = 15;
/// After how many tokens of every runner the gaps count as usual, and after how many the long prompt comes.
const SETTLED: usize = 8;
const USUAL: usize = 24;

/// What a long prompt met and did.
#[derive(Debug)]
pub(crate) struct Beside {
    /// From its sending to its first token.
    pub(crate) first_token: Duration,
    /// The median of the gaps between two tokens of a runner before it came, in milliseconds.
    pub(crate) usual_gap_ms: f64,
    /// The 99th percentile of those gaps that lie, wholly or in part, between its sending and its first token.
    pub(crate) gap_p99_ms: f64,
    /// The longest of them.
    pub(crate) gap_longest_ms: f64,
}

/// Returns the time to the first token of a long prompt that nothing runs beside.
pub(crate) async fn alone(side: &Side, round: usize, pace: Pace) -> Result<Duration, Fault> {
    let (events, mut seen) = mpsc::unbounded_channel();
    let begun = Instant::now();
    side.ask(0, &Job::long(2 * round, pace), &events).await?;
    let first = seen.recv().await.ok_or("no token of the long prompt")?;
    Ok(first.at - begun)
}

/// Lets a long prompt come when all runners run.
pub(crate) async fn beside(side: &Side, round: usize, pace: Pace) -> Result<Beside, Fault> {
    let (events, mut seen) = mpsc::unbounded_channel();
    let runners: Vec<Job> = (0..RUNNERS).map(|index| Job::runner(index, pace)).collect();
    // Each part's sender ends with it, so that the end of all tokens is seen.
    let late = events.clone();
    let running = async move {
        try_join_all(runners.iter().enumerate().map(|(index, job)| side.ask(index, job, &events))).await
    };
    let coming = async move {
        let mut times = vec![Vec::new(); RUNNERS];
        while times.iter().any(|times: &Vec<Instant>| times.len() < USUAL / pace.shrink) {
            note(&mut times, &seen.recv().await.ok_or("a runner ended too early")?);
        }
        let sent = Instant::now();
        side.ask(RUNNERS, &Job::long(2 * round + 1, pace), &late).await?;
        drop(late);
        let mut first = None;
        while let Some(event) = seen.recv().await {
            if event.job == RUNNERS {
                first = first.or(Some(event.at));
            }
            note(&mut times, &event);
        }
        Ok::<_, Fault>((times, sent, first.ok_or("no token of the long prompt")?))
    };
    let (_, (times, sent, first)) = tokio::try_join!(running, coming)?;
    Ok(judge(&times, sent, first, SETTLED / pace.shrink))
}

fn note(times: &mut [Vec<Instant>], event: &Event) {
    if let Some(times) = times.get_mut(event.job) {
        times.push(event.at);
    }
}

fn judge(times: &[Vec<Instant>], sent: Instant, first: Instant, settled: usize) -> Beside {
    let gaps = times.iter().flat_map(|times| times.windows(2).skip(settled));
    let (mut usual, mut during) = (Vec::new(), Vec::new());
    for gap in gaps {
        let [from, to] = [gap[0], gap[1]];
        if to < sent {
            usual.push((to - from).as_secs_f64() * 1e3);
        } else if from < first {
            during.push(to - from);
        }
    }
    Beside {
        first_token: first - sent,
        usual_gap_ms: median(&usual),
        gap_p99_ms: percentile_ms(&mut during, 0.99),
        gap_longest_ms: percentile_ms(&mut during, 1.0),
    }
}
