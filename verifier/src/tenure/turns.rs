//! Orders the jobs that wait for room on nodes: those of the first lane go before those of the later one, which has one turn in
//! ten, and within a lane they go in the order in which they began to wait.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infera_types::ids::ModelName;
use infera_types::service::Lane;
use tokio::sync::{Notify, oneshot};

use crate::decisions::lanes::{Next, Waiting, next};

/// One line per model.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<ModelName, Arc<Line>>>);

impl Turns {
    /// Returns the line in which jobs of `model` wait.
    pub(crate) fn of_model(&self, model: &ModelName) -> Arc<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lines.entry(model.clone()).or_default())
    }
}

/// The jobs of one model that wait, of which one at a time has its turn.
#[derive(Debug, Default)]
pub(crate) struct Line {
    state: Mutex<State>,
    /// Told when a job of the first lane begins to wait.
    first_came: Notify,
}

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    first: VecDeque<oneshot::Sender<Turn>>,
    later: VecDeque<oneshot::Sender<Turn>>,
    /// How many turns in a row the first lane got while the later one waited.
    ahead: u32,
}

impl State {
    /// Returns whose turn is next, past those that ceased to wait.
    fn next(&mut self) -> Option<(Next, oneshot::Sender<Turn>)> {
        for waiting in [&mut self.first, &mut self.later] {
            while waiting.front().is_some_and(oneshot::Sender::is_closed) {
                waiting.pop_front();
            }
        }
        let (first, later) = (!self.first.is_empty(), !self.later.is_empty());
        let next = next(Waiting { first, later, ahead: self.ahead })?;
        let waiting = match next {
            Next::First => {
                self.ahead = if later { self.ahead.saturating_add(1) } else { 0 };
                &mut self.first
            }
            Next::LaterByRight => {
                self.ahead = 0;
                &mut self.later
            }
            Next::LaterMeanwhile => &mut self.later,
        };
        waiting.pop_front().map(|sender| (next, sender))
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a job of this lane.
    pub(crate) async fn turn(self: &Arc<Self>, lane: Lane) -> Turn {
        loop {
            let (sender, receiver) = oneshot::channel();
            {
                let mut state = self.lock();
                if !state.is_taken {
                    state.is_taken = true;
                    let yields = lane != Lane::First;
                    return Turn { line: Some(Arc::clone(self)), yields };
                }
                match lane {
                    Lane::First => state.first.push_back(sender),
                    Lane::Later | Lane::Own => state.later.push_back(sender),
                }
            }
            if lane == Lane::First {
                self.first_came.notify_waiters();
            }
            // A turn is never dropped unsent while it is waited for; if it were, the job would wait again.
            if let Ok(turn) = receiver.await {
                return turn;
            }
        }
    }

    /// Gives the turn to the next that still waits.
    fn pass(self: Arc<Self>) {
        loop {
            let Some((next, sender)) = ({
                let mut state = self.lock();
                let next = state.next();
                state.is_taken = next.is_some();
                next
            }) else {
                return;
            };
            let turn = Turn { line: Some(Arc::clone(&self)), yields: next == Next::LaterMeanwhile };
            match sender.send(turn) {
                Ok(()) => return,
                // It has just ceased to wait: the turn is the next one's.
                Err(mut turn) => turn.line = None,
            }
        }
    }

    fn first_waits(&self) -> bool {
        self.lock().first.iter().any(|sender| !sender.is_closed())
    }
}

/// A job's turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// None if another has the turn.
    line: Option<Arc<Line>>,
    /// Whether it is to be given up as soon as a job of the first lane waits.
    yields: bool,
}

impl Turn {
    /// Returns once the turn is to be given up to a job of the first lane; never if it is this job's by right.
    pub(crate) async fn is_overtaken(&self) {
        if let Some(line) = &self.line
            && self.yields
        {
            loop {
                // Made before the look: what comes between is told.
                let came = line.first_came.notified();
                if line.first_waits() {
                    return;
                }
                came.await;
            }
        }
        std::future::pending().await
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use futures::future::BoxFuture;

    use super::*;

    fn wait(line: &Arc<Line>, lane: Lane) -> BoxFuture<'static, Turn> {
        let line = Arc::clone(line);
        let mut turn = async move { line.turn(lane).await }.boxed();
        assert!((&mut turn).now_or_never().is_none(), "it waits");
        turn
    }

    #[tokio::test]
    async fn the_first_lane_goes_first_and_the_later_one_is_the_tenth() {
        let line = Arc::new(Line::default());
        let mut held = Some(line.turn(Lane::Later).await);
        let mut later: Vec<_> = (0..3).map(|_| wait(&line, Lane::Later)).collect();
        let mut first: Vec<_> = (0..25).map(|_| wait(&line, Lane::First)).collect();
        let mut order = String::new();
        loop {
            drop(held.take());
            let mut next = |waiting: &mut Vec<BoxFuture<'static, Turn>>, word| {
                let turn = (&mut waiting.first_mut()?).now_or_never()?;
                drop(waiting.remove(0));
                order.push(word);
                Some(turn)
            };
            held = next(&mut first, 'f').or_else(|| next(&mut later, 'l'));
            if held.is_none() {
                break;
            }
        }
        assert_eq!(order, "ffffffffflffffffffflfffffffl");
        drop(line.turn(Lane::Later).now_or_never().expect("the line is free"));
    }

    /// A job that is given up while it waits, or just when its turn came, holds up no other.
    #[tokio::test]
    async fn the_turn_passes_those_that_are_gone() {
        let line = Arc::new(Line::default());
        let held = line.turn(Lane::First).await;
        let (gone, unread, last) =
            (wait(&line, Lane::First), wait(&line, Lane::First), wait(&line, Lane::Later));
        drop(gone);
        drop(held);
        drop(unread);
        let turn = last.now_or_never().expect("its turn");
        drop(turn);
        assert!(line.turn(Lane::First).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_later_job_yields_to_the_first_lane_but_for_its_tenth() {
        let line = Arc::new(Line::default());
        let turn = line.turn(Lane::Later).await;
        let mut overtaken = Box::pin(turn.is_overtaken());
        assert!((&mut overtaken).now_or_never().is_none());
        let first = wait(&line, Lane::First);
        tokio::time::timeout(Duration::from_secs(9), overtaken).await.expect("told");
        drop(turn);
        let mut turn = first.now_or_never().expect("the first lane's turn");
        assert!(turn.is_overtaken().now_or_never().is_none(), "it yields to none");

        let later = wait(&line, Lane::Later);
        for _ in 0..9 {
            let next = wait(&line, Lane::First);
            drop(turn);
            turn = next.now_or_never().expect("the first lane's turn");
        }
        let _first = wait(&line, Lane::First);
        drop(turn);
        let turn = later.now_or_never().expect("the tenth");
        assert!(turn.is_overtaken().now_or_never().is_none(), "it is its own by right");
    }
}
