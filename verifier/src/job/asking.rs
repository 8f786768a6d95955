//! Draws one job's nodes and sends them their assignments. What comes back is taken in by `receiving`, and
//! `collecting` decides what to do about it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use infera_ledger::TakenJob;
use infera_types::features::Feature;
use infera_types::ids::{AssignmentId, NodeId, OwnerId};
use infera_types::job::{AssignmentRecord, AssignmentState, End, FailureReason, GroupRecord};
use infera_types::messages::{Assignment, Version};
use infera_types::retry::Backoff;
use infera_types::service::Lane;
use infera_types::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::dispatch::{self, Sent};
use super::group::{Asked, Barred, Group, Hold};
use super::own_nodes;
use super::prompt::Prepared;
use super::spelling::spelled;
use super::unable::unable;
use crate::decisions::group_draw::{Distinct, Draw, Filled, Member, fill};
use crate::decisions::quorum::{self, Agreed};
use crate::nodes::{Arrived, Fleet, NodeView, Slot, fleet};
use crate::streams::{JobStream, OpenStream, StreamTerms};
use crate::tenure::Tenure;

/// Bounds the assignments for one job under one owner. Those that count end at six; this bounds those that are no node's
/// fault, and with them the group's record.
const ASSIGNMENTS_MAX: usize = 64;

/// The capacity of a job's channel: as many messages as it ever has open assignments; see `nodes::Routes`.
const INBOX: usize = ASSIGNMENTS_MAX;

/// Bounds a node's rest, as a multiple of the first. Each time that the node is busy its rest doubles, up to 32 s at the
/// default, so that a node which stays busy is asked about twice a minute.
const REST_GROWTH_MAX: u32 = 64;

/// How long the first job in line for room keeps the others waiting; then it goes to the end of the line, so that a job
/// whose own nodes are busy doesn't stop those whose nodes are free.
const TURN: Duration = Duration::from_millis(100);

/// How long a verifier that takes a streamed job over waits for its gateway to say what it has passed on: gateways say so once a second,
/// after a second without a word of the owner.
const SAID_WITHIN: Duration = Duration::from_secs(2);

/// Opens the stream of a job whose client sees tokens before the end.
fn stream(tenure: &Tenure, job: &TakenJob, prepared: &Prepared) -> Option<OpenStream> {
    let terms = StreamTerms {
        job: job.id,
        gateway: job.gateway.clone(),
        release: prepared.request.stream?,
        quorum: quorum::needed(&job.policy),
        tokens_max: prepared.answer_tokens_max(),
        awaited_until: (job.lost_handouts > 0).then(|| Timestamp::now().after(SAID_WITHIN)),
    };
    let answer_text = prepared.chat.answer_stream(&prepared.request.knobs);
    Some(tenure.streams.open(JobStream::new(terms, answer_text)))
}

/// What asking nodes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// As many nodes as were wanted have been asked.
    Asked,
    /// There are enough nodes, but not enough with room now.
    NoRoom,
    /// There are not enough different nodes, whatever their room.
    TooFew,
}

/// A job in progress and its nodes.
pub(super) struct Asking {
    pub(super) tenure: Arc<Tenure>,
    pub(super) job: TakenJob,
    pub(super) prepared: Prepared,
    /// The lane that the job came from.
    lane: Lane,
    /// What makes the members of its group different.
    distinct: Distinct,
    /// What its client sees before the end; none if it sees nothing. It goes before the group, whose assignments are then not
    /// given up one after the other.
    pub(super) stream: Option<OpenStream>,
    pub(super) group: Group,
    sender: mpsc::Sender<Arrived>,
    pub(super) inbox: mpsc::Receiver<Arrived>,
    /// Nodes that were busy, draining or unreachable.
    resting: HashMap<NodeId, Rest>,
    /// How long these rest.
    rests: Backoff,
}

/// How often a node was left alone by this job, and until when it is.
#[derive(Clone, Copy, Debug)]
struct Rest {
    times: u32,
    until: Timestamp,
}

/// A node that was drawn, with its slot held.
struct Drawn {
    view: NodeView,
    slot: Slot,
    member: Member,
}

impl Asking {
    /// Begins with no node asked.
    pub(super) fn new(tenure: Arc<Tenure>, job: TakenJob, prepared: Prepared, lane: Lane) -> Self {
        let (sender, inbox) = mpsc::channel(INBOX);
        let distinct = own_nodes::distinct(tenure.config.distinct, &job.pool);
        let group = Group::new(job.policy, distinct, job.misses.clone(), prepared.gives_numbers());
        let stream = stream(&tenure, &job, &prepared);
        let rest = Duration::from_millis(tenure.config.rest_ms);
        let rests = Backoff::doubling(rest, rest.saturating_mul(REST_GROWTH_MAX));
        Self {
            tenure,
            job,
            prepared,
            lane,
            distinct,
            stream,
            group,
            sender,
            inbox,
            resting: HashMap::new(),
            rests,
        }
    }

    /// Returns the group as the settlement remembers it; none if no node was asked.
    pub(super) fn record(&self) -> Option<GroupRecord> {
        let (assignments, deadline_ms) = self.group.records(Timestamp::now())?;
        let Prepared { request, sample_key, choice, rules, .. } = &self.prepared;
        Some(GroupRecord {
            verifier: self.tenure.id.clone(),
            assignments,
            deadline_ms,
            temperature: request.temperature,
            sample_key: *sample_key,
            choice: *choice,
            knobs: request.knobs.clone(),
            prompt_tokens: rules.prompt().to_vec(),
            payment: self.job.payment,
            is_for_chosen_nodes: !self.job.pool.is_open(),
        })
    }

    /// Returns the end that an agreement is.
    pub(super) fn success(&self, agreed: &Agreed) -> End {
        let model = self.prepared.entry.digests.first().copied();
        let end = self.group.success(agreed, self.tenure.thresholds.version(), model);
        end.map(|end| spelled(end, &self.prepared.chat)).unwrap_or_else(|| {
            // Can't be: what was agreed on is in the group. Were it not, nothing could be served.
            tracing::error!(job = %self.job.id, "an agreed answer is not in the group");
            let message = "The answer was lost.".to_owned();
            End::Failed { reason: FailureReason::Unprocessable, message }
        })
    }

    /// Asks the whole first group, or none of it.
    pub(super) async fn ask_first(&mut self) -> Found {
        self.ask(usize::from(self.job.policy.replicas)).await
    }

    /// Asks the whole first group when it is this job's turn: jobs of one model go in line, so that a freed slot is
    /// looked at by one of them and not by all. Returns once something may have changed.
    pub(super) async fn ask_in_turn(&mut self) -> Found {
        let turn = self.tenure.turns.of_model(&self.job.model).turn(self.lane).await;
        let until = Instant::now() + TURN;
        let mut changes = self.tenure.nodes.changes();
        loop {
            changes.mark_unchanged();
            let found = self.ask_first().await;
            match found {
                Found::Asked => return found,
                Found::TooFew => break,
                Found::NoRoom => tokio::select! {
                    biased;
                    () = turn.is_overtaken() => return found,
                    changed = tokio::time::timeout_at(until, changes.changed()) => if changed.is_err() {
                        return found;
                    }
                },
            }
        }
        drop(turn);
        // Only another node helps, and those come rarely.
        let look_again = Duration::from_millis(self.tenure.config.look_again_ms);
        if !self.job.synchronous || self.tenure.is_warming_up() {
            tokio::time::sleep(look_again).await;
        }
        Found::TooFew
    }

    /// Returns the end of a job that there are not enough nodes for.
    pub(super) fn insufficient_nodes(&self) -> End {
        let wanted = self.job.policy.replicas;
        let unable = unable(&self.tenure, &self.job, &self.prepared, self.distinct);
        let message = unable.unwrap_or_else(|| {
            if self.job.pool.is_open() {
                format!("There are not enough nodes of different owners for this model; {wanted} are needed.")
            } else {
                own_nodes::too_few(&self.tenure, &self.job, &self.prepared.entry.digests)
            }
        });
        End::Failed { reason: FailureReason::InsufficientNodes, message }
    }

    /// Draws and asks exactly `wanted` more nodes, or none.
    pub(super) async fn ask(&mut self, wanted: usize) -> Found {
        match self.reserve(wanted) {
            Ok(drawn) => {
                self.send(drawn).await;
                Found::Asked
            }
            Err(found) => found,
        }
    }

    /// Draws `wanted` nodes and holds a slot on each.
    fn reserve(&self, wanted: usize) -> Result<Vec<Drawn>, Found> {
        if self.group.len() + wanted > ASSIGNMENTS_MAX {
            return Err(Found::TooFew);
        }
        let snapshot = self.tenure.ledger_view.snapshot();
        let mut members = Vec::new();
        let reserved = self.tenure.nodes.reserve(&self.prepared.entry.digests, Instant::now(), |views| {
            let (pool, account) = (&self.job.pool, Some(&self.job.account));
            let fleet = fleet(&snapshot, &self.job.model, views, pool, account)
                .only(views, |view| self.prepared.is_rendered_by(view.rendering));
            let picked = self.draw(&fleet, wanted)?;
            members = picked.iter().filter_map(|at| fleet.candidates.get(*at)).map(Member::from).collect();
            Ok(picked.iter().filter_map(|at| fleet.views.get(*at).copied()).collect())
        })?;
        let drawn = reserved.into_iter().zip(members);
        Ok(drawn.map(|((view, slot), member)| Drawn { view, slot, member }).collect())
    }

    /// Returns the indexes of all candidates that are wanted, or why there aren't enough. Rather than let a job wait for nodes
    /// that may never come, those that were silent are asked again: an outage on the way may have been at fault, for all of
    /// them at once.
    fn draw(&self, fleet: &Fleet, wanted: usize) -> Result<Vec<usize>, Found> {
        match self.draw_without(fleet, wanted, Barred::Missed) {
            Err(Found::TooFew) if !self.job.synchronous => self.draw_without(fleet, wanted, Barred::Failed),
            drawn => drawn,
        }
    }

    fn draw_without(&self, fleet: &Fleet, wanted: usize, barred: Barred) -> Result<Vec<usize>, Found> {
        let Some(medians) = &fleet.medians else { return Err(Found::TooFew) };
        let now = Timestamp::now();
        let still = self.resting.iter().filter(|(_, rest)| rest.until > now);
        let resting: Vec<_> = still.map(|(node, _)| node.clone()).collect();
        let (excluded_owners, excluded_nodes) = self.group.excluded(barred);
        let agreeing = self.stream.as_ref().map(|stream| stream.stream().agreeing()).unwrap_or_default();
        let terms = Draw {
            key: &self.prepared.draw_key,
            account: &self.job.account,
            pool: &self.job.pool,
            needed: &self.prepared.needed,
            wanted,
            members: &self.group.members(),
            excluded_owners: &excluded_owners,
            excluded_nodes: &excluded_nodes,
            classes: &self.group.classes(&agreeing),
            distinct: self.distinct,
            medians,
        };
        match fill(&fleet.candidates, &terms, &resting) {
            Filled::Drawn(picked) => Ok(picked),
            Filled::NoRoom => Err(Found::NoRoom),
            Filled::TooFew => Err(Found::TooFew),
        }
    }

    /// Sends an assignment to each; those that can't be delivered become neutral at once.
    async fn send(&mut self, drawn: Vec<Drawn>) {
        let now = Timestamp::now();
        let left = self.job.deadline_ms.since(now);
        let budget = self.tenure.config.budget(self.prepared.reference_time(), left);
        let grace = Duration::from_millis(self.tenure.config.assignment_grace_ms);
        let budget_ms = u64::try_from(budget.as_millis()).unwrap_or(u64::MAX);
        // Another verifier may get the answers, if this one is gone by then.
        let speaks = self.tenure.peers.speaks(Instant::now());
        let mut sending = Vec::with_capacity(drawn.len());
        for Drawn { view, slot, member } in drawn {
            let assignment = self.assignment(&view, budget_ms, speaks);
            let is_networks = member.owner == OwnerId::network();
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
            let party = self.distinct.party(&member.owner, &view.id);
            let heard = self.stream.as_ref().map(|it| it.hear(assignment.id, &view.id, party));
            let hold = Hold::new(slot, route, heard);
            let has_logit_max = view.features.has(Feature::Sampling2);
            let asked = Asked::new(record, member, now.after(budget).after(grace), hold, has_logit_max);
            let index = self.group.add(asked);
            sending.push((index, view, assignment));
            self.tenure.counters.assignments.add_one();
            if is_networks {
                self.tenure.counters.backstops.add_one();
            }
        }
        let (broker, tries) = (&self.tenure.seams.broker, self.tenure.config.publish_tries);
        let sent = join_all(sending.iter().map(|(index, view, assignment)| async {
            (*index, dispatch::send(broker, view, assignment, tries).await)
        }));
        for (index, outcome) in sent.await {
            match outcome {
                Sent::Confirmed => {}
                Sent::Uncertain => self.group.mark_uncertain(index),
                Sent::Undeliverable => self.neutral(index),
            }
        }
    }

    fn assignment(&self, view: &NodeView, budget_ms: u64, speaks: Version) -> Assignment {
        Assignment {
            id: AssignmentId::new(),
            job_id: self.job.id,
            verifier: self.tenure.id.clone(),
            model_digest: view.class.model_digest,
            request: self.prepared.request.clone(),
            sample_key: self.prepared.sample_key,
            choice: self.prepared.choice,
            // A node that doesn't announce it would refuse an assignment with this field.
            cache_scope: view.features.has(Feature::PrefixCache).then_some(self.prepared.cache_scope),
            now_ms: self.job.accepted_ms,
            budget_ms,
            speaks,
        }
    }

    /// Records that one has no answer, which isn't its node's fault: it may be asked again, after a rest.
    pub(super) fn neutral(&mut self, index: usize) {
        self.rest(index);
        self.group.neutral(index);
    }

    /// Leaves the node of an assignment alone for a while, longer each time.
    pub(super) fn rest(&mut self, index: usize) {
        if let Some(asked) = self.group.get(index) {
            let before = self.resting.get(&asked.record.node).map_or(0, |rest| rest.times);
            let times = before.saturating_add(1);
            let rest = Rest { times, until: Timestamp::now().after(self.rests.wait(times)) };
            self.resting.insert(asked.record.node.clone(), rest);
        }
    }
}
