//! Takes in what a job's nodes say, and what their silence says, and records misses.

use std::time::Duration;

use infera_model::chat::RENDERING;
use infera_telemetry::trace;
use infera_types::ids::AssignmentId;
use infera_types::messages::{Refusal, RefusalReason, Replica};
use infera_types::time::Timestamp;
use tokio::time::Instant;
use tracing::info_span;

use super::asking::Asking;
use super::group::{Served, summarise};
use super::prompt::INLINE_MAX_BYTES;
use crate::decisions::integrity::{self, Expected, Spelled};
use crate::decisions::misses::{Lack, counts};
use crate::decisions::slots::Completed;
use crate::nodes::{Arrival, Arrived};

impl Asking {
    /// Waits for the next message for this job.
    pub(super) async fn next_arrival(&mut self) -> Arrived {
        match self.inbox.recv().await {
            Some(arrived) => arrived,
            // Can't be: `self.sender` keeps the channel open.
            None => std::future::pending().await,
        }
    }

    /// Takes a replica or a refusal into the group.
    pub(super) async fn receive(&mut self, arrived: Arrived) {
        let Some(index) = self.group.find_open(arrived.assignment) else {
            self.tenure.counters.replicas_unknown.add_one();
            return;
        };
        match arrived.what {
            Arrival::Replica(replica) if self.is_otherwise_rendered(&replica) => {
                tracing::debug!(job = %self.job.id, rendering = replica.rendering, "a replica was rendered by another version");
                self.neutral(index);
            }
            Arrival::Replica(replica) => {
                self.tenure.counters.replicas.add_one();
                let is_small = arrived.bytes <= INLINE_MAX_BYTES;
                let _held = if is_small { None } else { Some(self.tenure.work.hold(arrived.bytes).await) };
                let span = info_span!(target: trace::TARGET, "replica", assignment = %arrived.assignment);
                trace::link(&span, arrived.trace.as_deref());
                let _entered = span.entered();
                let sound = self.is_sound(index, &replica);
                let sound = self.is_as_framed(&replica, sound) && sound;
                self.note_reruns(index, replica.assignment_id);
                let context = self.prepared.context(&self.tenure.thresholds);
                // What came late because this verifier was deaf counts as just in time.
                let at = if self.was_deaf(index) { self.in_time(index).min(arrived.at) } else { arrived.at };
                let summary = summarise(&replica, at, sound);
                let served = Served {
                    text: replica.text,
                    finish_reason: replica.finish_reason,
                    cached_tokens: replica.cached_tokens.min(replica.prompt_tokens),
                };
                self.group.answer(index, summary, served, &context);
            }
            Arrival::Refusal(refusal) => self.refused(index, &refusal).await,
        }
    }

    async fn refused(&mut self, index: usize, refusal: &Refusal) {
        // Bounded: a node's text must not fill the log.
        let detail: String = refusal.detail.chars().take(200).collect();
        let (assignment, reason) = (refusal.assignment_id, refusal.reason.word());
        tracing::debug!(job = %self.job.id, %assignment, reason, detail, "a node refused an assignment");
        if refusal.reason == RefusalReason::Expired {
            self.group.ran_out(index);
        }
        if counts(Lack::Refusal(refusal.reason), self.was_deaf(index)) {
            self.miss(index, false).await;
        } else if refusal.reason == RefusalReason::Unsupported {
            if let Some(times) = self.tenure.throttles.unsupported.count(Instant::now()) {
                let node = self.group.get(index).map(|asked| asked.record.node.to_string());
                tracing::warn!(node, times, detail, "nodes refuse what their workers are too old for");
            }
            self.group.unsupported(index);
        } else {
            self.neutral(index);
        }
    }

    /// Checks a replica by L0.
    fn is_sound(&self, index: usize, replica: &Replica) -> bool {
        let Some(asked) = self.group.get(index) else { return false };
        // More than fit into the context are too many whatever they spell.
        let tokens_max = usize::try_from(self.prepared.entry.context_max).unwrap_or(usize::MAX);
        let is_short = replica.tokens.len() <= tokens_max;
        let knobs = &self.prepared.request.knobs;
        let text = is_short.then(|| self.prepared.chat.answer_text(&replica.tokens, knobs).ok()).flatten();
        let expected = Expected {
            assignment: asked.record.id,
            job: self.job.id,
            model_digest: &asked.model_digest,
            prompt_hash: &self.prepared.prompt_hash,
            prompt_tokens: self.prepared.prompt_tokens,
            max_tokens: self.prepared.request.max_tokens,
            context_max: self.prepared.entry.context_max,
            end_tokens: &self.prepared.entry.end_tokens,
            spelled: text.as_ref().map(|it| Spelled { text: &it.text, stopped_at: it.stopped_at }),
            rules: &self.prepared.rules,
            noise: self.prepared.noise(),
            has_logit_max: asked.has_logit_max,
        };
        let fault = integrity::check(replica, &expected).err();
        if let Some(fault) = fault {
            tracing::warn!(job = %self.job.id, node = %asked.record.node, %fault, "broken replica");
        }
        fault.is_none()
    }

    /// Returns whether an answer is what its frames told; one that was not streamed is. It counts like frames from now on.
    fn is_as_framed(&self, replica: &Replica, sound: bool) -> bool {
        let Some(stream) = &self.stream else { return true };
        let completed =
            stream.stream().complete(replica.assignment_id, replica.attempt, &replica.tokens, sound);
        stream.tell();
        let is_same = completed != Completed::Fault;
        if !is_same {
            tracing::warn!(job = %self.job.id, assignment = %replica.assignment_id, "an answer that isn't what its frames told");
        }
        is_same
    }

    /// Records how many times the node of an answer began it again, if that counts against it.
    fn note_reruns(&mut self, index: usize, assignment: AssignmentId) {
        let reruns = self.stream.as_ref().map_or(0, |stream| stream.stream().reruns(assignment));
        if reruns > 0 && counts(Lack::Rerun, self.was_deaf(index)) {
            self.group.began_again(index, reruns);
        }
    }

    /// Ends the wait for assignments whose time is up.
    pub(super) async fn expire_overdue(&mut self) {
        let now = Timestamp::now();
        for index in self.group.overdue(now) {
            let uncertain = self.group.get(index).is_some_and(|asked| asked.uncertain);
            if counts(Lack::Silence { uncertain }, self.was_deaf(index)) {
                // Should it be asked again for want of others, then not at once.
                self.rest(index);
                self.miss(index, true).await;
            } else {
                self.neutral(index);
            }
        }
    }

    /// Ends the wait for open assignments: where an answer may have been missed here, silence says nothing and is neutral.
    pub(super) fn excuse_open(&mut self) {
        for index in self.group.open_ones() {
            if self.was_deaf(index) {
                self.group.neutral(index);
            }
        }
    }

    /// Returns whether something that was said since this assignment was sent may have been missed, or have come late by this
    /// verifier's fault.
    fn was_deaf(&self, index: usize) -> bool {
        let sent = self.group.get(index).map(|asked| asked.record.sent_ms);
        sent.is_some_and(|sent| self.tenure.hearing.was_deaf_since(sent, Timestamp::now()))
    }

    /// Returns when this assignment's budget is over.
    fn in_time(&self, index: usize) -> Timestamp {
        let record = self.group.get(index).map(|asked| &asked.record);
        record.map_or_else(Timestamp::now, |one| one.sent_ms.after(Duration::from_millis(one.budget_ms)))
    }

    /// Returns whether a node comes to another prompt because it renders by another version, which is no node's fault.
    fn is_otherwise_rendered(&self, replica: &Replica) -> bool {
        replica.rendering != RENDERING && replica.prompt_hash != self.prepared.prompt_hash
    }

    /// Records a miss, also on the job's row for its next owner.
    async fn miss(&mut self, index: usize, was_silent: bool) {
        let Some(miss) = self.group.miss(index, was_silent) else { return };
        if let Err(error) = self.tenure.seams.owner.record_miss(self.job.id, &miss).await {
            // This owner knows it anyway; only a next one might ask the node again.
            tracing::warn!(job = %self.job.id, %error, "a miss is not on record");
        }
    }
}
