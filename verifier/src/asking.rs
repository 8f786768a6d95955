//! One job and its nodes: draws, sends, receives. It keeps the group's book up to date and reports misses; whether
//! that makes an end is decided in `job`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use infera_ledger::TakenJob;
use infera_model::chat::RENDERING;
use infera_telemetry::trace;
use infera_types::ids::{AssignmentId, NodeId};
use infera_types::job::{AssignmentRecord, AssignmentState, End, FailureReason, GroupRecord};
use infera_types::messages::{Assignment, Refusal, Replica};
use infera_types::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info_span;

use crate::collector::{Arrival, Arrived};
use crate::compare::Context;
use crate::counters::Counted;
use crate::dispatch::{self, Sent};
use crate::fleet::{Fleet, fleet};
use crate::group::{Asked, Barred, Group, Hold, summarise};
use crate::harmonizer::{Candidate, Draw, Member, draw};
use crate::hearing::{self, Lack};
use crate::integrity::{self, Expected};
use crate::nodes::{NodeView, Slot};
use crate::prompt::{INLINE_MAX_BYTES, Prepared};
use crate::quorum::Agreed;
use crate::tenure::Tenure;

/// Bounds the assignments for one job under one owner. Those that count end at six; this bounds those that are no node's
/// fault, and with them the group's record.
const ASSIGNMENTS_MAX: usize = 64;

/// The capacity of a job's channel: as many messages as it ever has open assignments; see `collector::Routes`.
const INBOX: usize = ASSIGNMENTS_MAX;

/// Bounds how often a node's rest is doubled. Each time that it is busy its rest doubles, up to 32 s at the default.
const REST_DOUBLINGS_MAX: u32 = 6;

/// How long the first job in line for room keeps the others waiting; then it goes to the end of the line, so that a job
/// whose own nodes are busy doesn't stop those whose nodes are free.
const TURN: Duration = Duration::from_millis(100);

/// What asking came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// As many nodes as were wanted have been asked.
    Asked,
    /// There are nodes, but without room now.
    Full,
    /// There are not enough different nodes, whatever their room.
    Nobody,
}

/// A job in progress.
pub(crate) struct Asking {
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) job: TakenJob,
    pub(crate) prepared: Prepared,
    pub(crate) group: Group,
    sender: mpsc::Sender<Arrived>,
    inbox: mpsc::Receiver<Arrived>,
    /// Nodes that were busy, draining or unreachable: how often, and until when they are left alone.
    resting: HashMap<NodeId, (u32, Timestamp)>,
}

/// A node that was drawn, with its slot held.
type Drawn = (NodeView, Slot, Member);

impl Asking {
    /// Begins with no node asked.
    pub(crate) fn new(tenure: Arc<Tenure>, job: TakenJob, prepared: Prepared) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX);
        let group = Group::new(job.policy, tenure.config.distinct, job.misses.clone());
        Self { tenure, job, prepared, group, sender, inbox, resting: HashMap::new() }
    }

    fn context(&self) -> Context<'_> {
        Context {
            temperature: self.prepared.request.temperature,
            sample_key: &self.prepared.sample_key,
            thresholds: &self.tenure.thresholds,
        }
    }

    /// The group as the settlement remembers it.
    pub(crate) fn record(&self) -> Option<GroupRecord> {
        self.group.record(&self.tenure.id, &self.context(), Timestamp::now())
    }

    /// The end that an agreement is.
    pub(crate) fn success(&self, agreed: &Agreed) -> End {
        let model = self.prepared.entry.digests.first().copied();
        self.group.success(agreed, self.tenure.thresholds.version(), model).unwrap_or_else(|| {
            // Can't be: what was agreed on is in the group. Were it not, nothing could be served.
            tracing::error!(job = %self.job.id, "an agreed answer is not in the group");
            let message = "The answer was lost.".to_owned();
            End::Failed { reason: FailureReason::Unprocessable, message }
        })
    }

    /// Asks the whole first group when it is this job's turn: jobs of one model go in line, so that a freed slot is
    /// looked at by one of them and not by all. Returns once something may have changed.
    pub(crate) async fn ask_in_turn(&mut self) -> Room {
        let line = self.tenure.line(&self.job.model);
        let turn = line.lock().await;
        let until = Instant::now() + TURN;
        let mut changes = self.tenure.nodes.changes();
        let wanted = usize::from(self.job.policy.replicas);
        loop {
            changes.mark_unchanged();
            let room = self.ask(wanted).await;
            match room {
                Room::Asked => return room,
                Room::Nobody => break,
                Room::Full => {
                    if tokio::time::timeout_at(until, changes.changed()).await.is_err() {
                        return room;
                    }
                }
            }
        }
        drop(turn);
        // Only another node helps, and those come rarely.
        let look_again = Duration::from_millis(self.tenure.config.look_again_ms);
        if !self.job.synchronous || self.tenure.is_warming_up() {
            tokio::time::sleep(look_again).await;
        }
        Room::Nobody
    }

    /// Draws and asks exactly `wanted` more nodes, or none.
    pub(crate) async fn ask(&mut self, wanted: usize) -> Room {
        match self.reserve(wanted) {
            Ok(drawn) => {
                self.send(drawn).await;
                Room::Asked
            }
            Err(room) => room,
        }
    }

    fn reserve(&self, wanted: usize) -> Result<Vec<Drawn>, Room> {
        if self.group.len() + wanted > ASSIGNMENTS_MAX {
            return Err(Room::Nobody);
        }
        let page = self.tenure.book.page();
        let mut members = Vec::new();
        let reserved = self.tenure.nodes.reserve(&self.prepared.entry.digests, Instant::now(), |views| {
            let fleet = fleet(&page, &self.job.model, views)
                .only(views, |view| self.prepared.is_rendered_by(view.rendering));
            let picked = self.draw(&fleet, wanted)?;
            members = picked.iter().filter_map(|at| fleet.candidates.get(*at)).map(Member::from).collect();
            Ok(picked.iter().filter_map(|at| fleet.views.get(*at).copied()).collect())
        })?;
        Ok(reserved.into_iter().zip(members).map(|((view, slot), member)| (view, slot, member)).collect())
    }

    /// Indexes of candidates; all that are wanted, or why not. Rather than let a job wait for nodes that may never come,
    /// those that were silent are asked again: an outage on the way may have been at fault, for all of them at once.
    fn draw(&self, fleet: &Fleet, wanted: usize) -> Result<Vec<usize>, Room> {
        match self.draw_without(fleet, wanted, Barred::Missed) {
            Err(Room::Nobody) if !self.job.synchronous => self.draw_without(fleet, wanted, Barred::Failed),
            drawn => drawn,
        }
    }

    fn draw_without(&self, fleet: &Fleet, wanted: usize, barred: Barred) -> Result<Vec<usize>, Room> {
        let Some(medians) = &fleet.medians else { return Err(Room::Nobody) };
        let now = Timestamp::now();
        let still = self.resting.iter().filter(|(_, (_, until))| *until > now);
        let resting: Vec<_> = still.map(|(node, _)| node.clone()).collect();
        let draw_among = |candidates: &[Candidate], resting: &[NodeId]| {
            let (excluded_owners, mut excluded_nodes) = self.group.excluded(barred);
            excluded_nodes.extend_from_slice(resting);
            draw(
                candidates,
                &Draw {
                    key: &self.prepared.draw_key,
                    account: &self.job.account,
                    wanted,
                    members: &self.group.members(),
                    excluded_owners: &excluded_owners,
                    excluded_nodes: &excluded_nodes,
                    distinct: self.tenure.config.distinct,
                    medians,
                },
            )
        };
        let picked = draw_among(&fleet.candidates, &resting);
        if picked.len() >= wanted {
            return Ok(picked);
        }
        let mut rested = fleet.candidates.clone();
        rested.iter_mut().for_each(|candidate| candidate.free_slots = candidate.free_slots.max(1));
        let possible = draw_among(&rested, &[]);
        Err(if possible.len() >= wanted { Room::Full } else { Room::Nobody })
    }

    /// Sends an assignment to each; those that can't be delivered are neutral at once.
    async fn send(&mut self, drawn: Vec<Drawn>) {
        let now = Timestamp::now();
        let left = self.job.deadline_ms.since(now);
        let budget = self.tenure.config.budget(self.prepared.reference_time(), left);
        let grace = Duration::from_millis(self.tenure.config.assignment_grace_ms);
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        let mut sending = Vec::with_capacity(drawn.len());
        for (view, slot, member) in drawn {
            let assignment = self.assignment(&view, budget_ms);
            let record = AssignmentRecord {
                id: assignment.id,
                node: view.id.clone(),
                owner: member.owner.clone(),
                state: AssignmentState::Open,
                sent_ms: now,
                budget_ms,
                replica: None,
            };
            let route = self.tenure.routes.open(assignment.id, &view.id, self.sender.clone());
            let asked = Asked::new(record, member, now.after(budget).after(grace), Hold::new(slot, route));
            let index = self.group.add(asked);
            sending.push((index, view, assignment));
            self.tenure.counters.count(Counted::Assigned);
        }
        let (broker, tries) = (&self.tenure.seams.broker, self.tenure.config.publish_tries);
        let sent = join_all(sending.iter().map(|(index, view, assignment)| async {
            (*index, dispatch::send(broker, &view.queue, assignment, tries).await)
        }));
        for (index, outcome) in sent.await {
            match outcome {
                Sent::Confirmed => {}
                Sent::Uncertain => self.group.mark_uncertain(index),
                Sent::Undeliverable => self.neutral(index),
            }
        }
    }

    fn assignment(&self, view: &NodeView, budget_ms: u64) -> Assignment {
        Assignment {
            id: AssignmentId::new(),
            job_id: self.job.id,
            verifier: self.tenure.id.clone(),
            model_digest: view.class.model_digest,
            request: self.prepared.request.clone(),
            sample_key: self.prepared.sample_key,
            now_ms: self.job.accepted_ms,
            budget_ms,
            speaks: infera_types::messages::Version::First,
        }
    }

    /// The next message for this job.
    pub(crate) async fn next_arrival(&mut self) -> Arrived {
        match self.inbox.recv().await {
            Some(arrived) => arrived,
            // Can't be: `self.sender` keeps the channel open.
            None => std::future::pending().await,
        }
    }

    /// Takes a replica or a refusal into the group.
    pub(crate) async fn receive(&mut self, arrived: Arrived) {
        let Some(index) = self.group.find_open(arrived.assignment) else {
            self.tenure.counters.count(Counted::ReplicaUnknown);
            return;
        };
        match arrived.what {
            Arrival::Replica(replica) if self.is_otherwise_rendered(&replica) => {
                tracing::debug!(job = %self.job.id, rendering = replica.rendering, "rendered by another version");
                self.neutral(index);
            }
            Arrival::Replica(replica) => {
                self.tenure.counters.count(Counted::Replica);
                let is_small = arrived.bytes <= INLINE_MAX_BYTES;
                let _held = if is_small { None } else { Some(self.tenure.work.hold(arrived.bytes).await) };
                let span = info_span!(target: trace::TARGET, "replica", assignment = %arrived.assignment);
                trace::link(&span, arrived.trace.as_deref());
                let _entered = span.entered();
                let sound = self.is_sound(index, &replica);
                let context = Context {
                    temperature: self.prepared.request.temperature,
                    sample_key: &self.prepared.sample_key,
                    thresholds: &self.tenure.thresholds,
                };
                // What came late because we were deaf counts as just in time.
                let at = if self.was_deaf(index) { self.in_time(index).min(arrived.at) } else { arrived.at };
                let summary = summarise(&replica, at, sound);
                self.group.answer(index, summary, (replica.text, replica.finish_reason), &context);
            }
            Arrival::Refusal(refusal) => self.refused(index, &refusal).await,
        }
    }

    async fn refused(&mut self, index: usize, refusal: &Refusal) {
        // Bounded: a stranger's text must not fill the log.
        let detail: String = refusal.detail.chars().take(200).collect();
        tracing::debug!(job = %self.job.id, assignment = %refusal.assignment_id, reason = ?refusal.reason, detail, "refused");
        if hearing::counts(Lack::Refusal(refusal.reason), self.was_deaf(index)) {
            self.miss(index, false).await;
        } else {
            self.neutral(index);
        }
    }

    /// L0.
    fn is_sound(&self, index: usize, replica: &Replica) -> bool {
        let Some(asked) = self.group.get(index) else { return false };
        // More than fit into the context are too many whatever they spell.
        let tokens_max = usize::try_from(self.prepared.entry.context_max).unwrap_or(usize::MAX);
        let is_short = replica.tokens.len() <= tokens_max;
        let decoded = is_short.then(|| self.prepared.chat.decode(&replica.tokens).ok()).flatten();
        let expected = Expected {
            assignment: asked.record.id,
            job: self.job.id,
            model_digest: &asked.model_digest,
            prompt_hash: &self.prepared.prompt_hash,
            prompt_tokens: self.prepared.prompt_tokens,
            max_tokens: self.prepared.request.max_tokens,
            context_max: self.prepared.entry.context_max,
            end_tokens: &self.prepared.entry.end_tokens,
            decoded: decoded.as_deref(),
            temperature: self.prepared.request.temperature,
            sample_key: &self.prepared.sample_key,
        };
        let fault = integrity::check(replica, &expected).err();
        if let Some(fault) = fault {
            tracing::warn!(job = %self.job.id, node = %asked.record.node, %fault, "broken replica");
        }
        fault.is_none()
    }

    /// Ends the wait for those whose time is up.
    pub(crate) async fn expire_overdue(&mut self) {
        let now = Timestamp::now();
        for index in self.group.overdue(now) {
            let uncertain = self.group.get(index).is_some_and(|asked| asked.uncertain);
            if hearing::counts(Lack::Silence { uncertain }, self.was_deaf(index)) {
                // Should it be asked again for want of others, then not at once.
                self.rest(index);
                self.miss(index, true).await;
            } else {
                self.neutral(index);
            }
        }
    }

    /// Ends the wait for open assignments: where an answer may have been missed here, silence says nothing and is neutral.
    pub(crate) fn excuse_open(&mut self) {
        for index in self.group.open_ones() {
            if self.was_deaf(index) {
                self.group.neutral(index);
            }
        }
    }

    /// Whether something that was said since this assignment was sent may have been missed, or have come late by our fault.
    fn was_deaf(&self, index: usize) -> bool {
        let sent = self.group.get(index).map(|asked| asked.record.sent_ms);
        sent.is_some_and(|sent| self.tenure.hearing.was_deaf_since(sent, Timestamp::now()))
    }

    /// When this assignment's budget is over.
    fn in_time(&self, index: usize) -> Timestamp {
        let record = self.group.get(index).map(|asked| &asked.record);
        record.map_or_else(Timestamp::now, |one| one.sent_ms.after(Duration::from_millis(one.budget_ms)))
    }

    /// Whether a node comes to another prompt because it renders by another version, which is no node's fault.
    fn is_otherwise_rendered(&self, replica: &Replica) -> bool {
        replica.rendering != RENDERING && replica.prompt_hash != self.prepared.prompt_hash
    }

    /// Not the node's fault: it may be asked again, after a rest.
    fn neutral(&mut self, index: usize) {
        self.rest(index);
        self.group.neutral(index);
    }

    /// Leaves its node alone for a while, longer each time.
    fn rest(&mut self, index: usize) {
        if let Some(asked) = self.group.get(index) {
            let times = self.resting.get(&asked.record.node).map_or(0, |(times, _)| *times);
            let doubled = 1_u64 << times.min(REST_DOUBLINGS_MAX);
            let rest = Duration::from_millis(self.tenure.config.rest_ms.saturating_mul(doubled));
            self.resting.insert(asked.record.node.clone(), (times + 1, Timestamp::now().after(rest)));
        }
    }

    /// The node's fault, written on the job's row for whoever owns it next.
    async fn miss(&mut self, index: usize, was_silent: bool) {
        let Some(miss) = self.group.miss(index, was_silent) else { return };
        if let Err(error) = self.tenure.seams.owner.record_miss(self.job.id, &miss).await {
            // This owner knows it all the same; only a next one might ask the node again.
            tracing::warn!(job = %self.job.id, %error, "a miss is not on record");
        }
    }
}
