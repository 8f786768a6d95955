//! Collects what a job's nodes answer: takes it in, decides on it and asks more nodes until the job has an end, and listens
//! after that for late answers.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use infera_types::job::{End, FailureReason, Settlement, VerificationStatus};
use infera_types::numbers::TokenId;
use infera_types::time::Timestamp;
use tokio::sync::oneshot;

use super::asking::{Asking, Found};
use super::outcome::Outcome;
use super::wall_clock::sleep_until;
use crate::decisions::hanging_up::{HangUp, Told, owed};
use crate::decisions::quorum::{Agreed, Decision, REPLACEMENTS_MAX};
use crate::streams::{JobStream, OpenStream, Shown};

/// What a job that goes on waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    /// The answers of the nodes that were asked.
    Answers,
    /// More nodes, which can't be had now.
    Nodes,
}

/// How listening for late replicas ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listened {
    /// All are in, or their time is up.
    ToTheEnd,
    /// This verifier stops before that.
    CutOff,
}

impl Asking {
    /// Collects replicas, asks replacements, and returns how the job ends. `ended` tells that it was ended elsewhere.
    pub(super) async fn collect(&mut self, ended: &mut oneshot::Receiver<Settlement>) -> Outcome {
        let mut changes = self.tenure.nodes.changes();
        let stream = self.stream.as_ref().map(OpenStream::shared);
        let said = stream.as_ref().map(|stream| stream.said()).unwrap_or_default();
        loop {
            if self.job.deadline_ms <= Timestamp::now() {
                return Outcome::End(End::Expired);
            }
            let wants = match self.step().await {
                ControlFlow::Continue(wants) => wants,
                ControlFlow::Break(end) => return Outcome::End(end),
            };
            let wake = self.wake_at(wants);
            tokio::select! {
                arrived = self.next_arrival() => self.receive(arrived).await,
                Ok(settlement) = &mut *ended => return Outcome::Elsewhere(Box::new(settlement)),
                (told, had) = hung_up(stream.as_deref()) => return Outcome::End(self.hung_up(&told, &had)),
                Ok(()) = changes.changed(), if wants == Wants::Nodes => {}
                () = said.notified() => {}
                () = sleep_until(wake) => self.expire_overdue().await,
            }
        }
    }

    /// Returns the end of a job whose client hung up when it had these tokens.
    fn hung_up(&self, told: &[Told], had: &[TokenId]) -> End {
        let prompt_tokens = self.prepared.prompt_tokens;
        let delivered = self.prepared.request.stream.and_then(|release| {
            owed(&HangUp { prompt_tokens, passed_on: had, policy: self.job.policy, release }, told)
        });
        tracing::debug!(job = %self.job.id, had = had.len(), ?delivered, "a client hung up on a stream");
        End::Cancelled { delivered }
    }

    /// Decides on what is in, and asks more nodes where that needs them. Breaks with the job's end.
    async fn step(&mut self) -> ControlFlow<End, Wants> {
        loop {
            let needed = match self.decide() {
                Decision::Settle(agreed) => return ControlFlow::Break(self.success(&agreed)),
                Decision::Fail(reason) => return self.give_up(reason),
                Decision::Draw(_) if self.group.course().is_bound_reached() => {
                    return ControlFlow::Break(self.out_of_time());
                }
                Decision::Draw(count) => count,
                Decision::Wait => 0,
            };
            let wanted = needed.max(self.group.lacking().min(self.group.replacements_left()));
            if wanted == 0 {
                return ControlFlow::Continue(Wants::Answers);
            }
            match self.ask(wanted).await {
                Found::Asked => {}
                Found::NoRoom => return ControlFlow::Continue(Wants::Nodes),
                // Enough may still come from those that are at work.
                Found::TooFew if needed == 0 || self.tenure.is_warming_up() => {
                    return ControlFlow::Continue(Wants::Nodes);
                }
                Found::TooFew => self.group.no_more_nodes = true,
            }
        }
    }

    /// Decides on what is in. From the decision for an answer on its client is shown nothing more before it has the whole of it,
    /// since what is released later need not be what that answer says.
    fn decide(&self) -> Decision {
        let Some(stream) = &self.stream else { return self.group.decide(&self.prepared.draw_key, |_| true) };
        let decided = stream.stream().close_at(Timestamp::now(), |shown| match self.decide_by(shown) {
            // What it would be settled as isn't known yet.
            Decision::Settle(_) if shown.is_awaited => ControlFlow::Continue(Decision::Wait),
            settled @ Decision::Settle(_) => ControlFlow::Break(settled),
            other => ControlFlow::Continue(other),
        });
        match decided {
            ControlFlow::Break(decision) | ControlFlow::Continue(decision) => decision,
        }
    }

    /// Decides by what was shown. An answer that keeps to all of it is the job's; else, one that keeps to what this owner showed is,
    /// but as disputed: the client was shown something else by an owner that is gone, whose group can't be asked any more.
    fn decide_by(&self, shown: &Shown<'_>) -> Decision {
        let key = &self.prepared.draw_key;
        let kept = self.group.decide(key, |answer| shown.is_kept_by(answer));
        if matches!(kept, Decision::Settle(_)) {
            return kept;
        }
        match self.group.decide(key, |answer| answer.starts_with(shown.released)) {
            Decision::Settle(agreed) => {
                Decision::Settle(Agreed { status: VerificationStatus::Disputed, ..agreed })
            }
            // What is still out may yet make a disputed answer.
            Decision::Wait if matches!(kept, Decision::Fail(_)) => Decision::Wait,
            _ => kept,
        }
    }

    /// Gives up, as no quorum can be had with the nodes there are. Disagreement ends the job, and so do six misses, and nodes most of
    /// which were too slow for it where there are no others; a mere lack of nodes ends only a job that a client waits for.
    fn give_up(&mut self, reason: FailureReason) -> ControlFlow<End, Wants> {
        let lacks_nodes = reason == FailureReason::TooManyMisses && self.group.misses() < REPLACEMENTS_MAX;
        let course = self.group.course();
        if !lacks_nodes {
            let message = match reason {
                FailureReason::TooManyMisses if course.is_for_want_of_time() => {
                    return ControlFlow::Break(self.out_of_time());
                }
                FailureReason::NoConsensus => {
                    "The nodes' answers differ, and nobody could decide between them."
                }
                _ => "Too many nodes failed to answer it.",
            };
            return ControlFlow::Break(End::Failed { reason, message: message.to_owned() });
        }
        let may_change = self.group.open() > 0;
        if !may_change && course.ends_without_more_nodes(self.job.synchronous) {
            return ControlFlow::Break(self.out_of_time());
        }
        if self.job.synchronous && !may_change {
            return ControlFlow::Break(self.insufficient_nodes());
        }
        self.group.no_more_nodes = false;
        ControlFlow::Continue(Wants::Nodes)
    }

    /// Returns when to look again without being told: something is overdue, the job is, or there may be room.
    fn wake_at(&self, wants: Wants) -> Timestamp {
        let deadline = self.job.deadline_ms;
        let awaited = self.stream.as_ref().and_then(|one| one.stream().awaited_until(Timestamp::now()));
        let due = [self.group.next_due(), awaited].into_iter().flatten().min();
        let wake = due.map_or(deadline, |due| due.min(deadline));
        match wants {
            Wants::Answers => wake,
            Wants::Nodes => {
                let look_again = Duration::from_millis(self.tenure.config.look_again_ms);
                wake.min(Timestamp::now().after(look_again))
            }
        }
    }

    /// Waits after the end for replicas still at work, to be scored with the others (rule 7).
    pub(super) async fn listen_for_late_ones(&mut self) -> Listened {
        let tenure = Arc::clone(&self.tenure);
        let stop = async {
            tenure.draining.cancelled().await;
            tokio::time::sleep(Duration::from_millis(tenure.config.drain_late_ms)).await;
        };
        tokio::pin!(stop);
        while let Some(due) = self.group.next_due() {
            tokio::select! {
                arrived = self.next_arrival() => self.receive(arrived).await,
                () = sleep_until(due) => self.expire_overdue().await,
                () = &mut stop => return Listened::CutOff,
            }
        }
        Listened::ToTheEnd
    }
}

/// Waits until the client of a streamed job has hung up, and returns what its nodes have told and what the client had.
async fn hung_up(stream: Option<&JobStream>) -> (Vec<Told>, Vec<TokenId>) {
    match stream {
        Some(stream) => {
            let had = stream.until_hung_up().await;
            (stream.told(), had)
        }
        None => std::future::pending().await,
    }
}
