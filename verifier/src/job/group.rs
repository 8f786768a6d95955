//! Keeps a job's replica group as it grows: which nodes were asked, what came back, what that amounts to. It keeps the records
//! and asks the pure decisions; it sends nothing and waits for nothing.

mod course;

use std::collections::BTreeMap;

use infera_ledger::Miss;
use infera_types::ids::{AssignmentId, Digest, NodeId, OwnerId};
use infera_types::job::{
    Answer, AssignmentRecord, AssignmentState, End, FinishReason, ReplicaSummary, VerificationPolicy,
};
use infera_types::messages::Replica;
use infera_types::numbers::{NumericClass, TokenId};
use infera_types::time::Timestamp;

use crate::decisions::compare::{Comparison, Context, compare};
use crate::decisions::group_draw::{Distinct, Member};
use crate::decisions::quorum::{Agreed, Decision, REPLACEMENTS_MAX, Reply, Situation, decide};
use crate::nodes::{OpenRoute, Slot};
use crate::streams::HeardAssignment;

/// What an open assignment holds; all of it is freed as soon as it isn't open any more.
#[derive(Debug)]
pub(super) struct Hold {
    _slot: Slot,
    _route: OpenRoute,
    _heard: Option<HeardAssignment>,
}

impl Hold {
    /// Holds its slot on the node, its route back, and, where the job is streamed, its voice in that.
    pub(super) const fn new(slot: Slot, route: OpenRoute, heard: Option<HeardAssignment>) -> Self {
        Self { _slot: slot, _route: route, _heard: heard }
    }
}

/// Says which owners and nodes aren't asked for a job any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barred {
    /// Those that answered, and those whose miss counts: rule 5.
    Missed,
    /// Those that answered, and those that said that they can't. For want of others, silent ones may be asked again.
    Failed,
}

/// What a client is served of a replica beside its tokens.
#[derive(Debug)]
pub(super) struct Served {
    /// The answer's text.
    pub(super) text: String,
    /// Why the answer ended.
    pub(super) finish_reason: FinishReason,
    /// How many tokens of the prompt its node says that it did not compute.
    pub(super) cached_tokens: u32,
}

/// One assignment.
#[derive(Debug)]
pub(super) struct Asked {
    /// As the settlement will remember it.
    pub(super) record: AssignmentRecord,
    /// As the harmonizer sees it.
    pub(super) member: Member,
    /// The digest that it must answer with.
    pub(super) model_digest: Digest,
    /// When waiting for it ends.
    pub(super) due: Timestamp,
    /// Whether its node announced that it reports the highest logit of each row.
    pub(super) has_logit_max: bool,
    /// Whether the broker may have lost it: then silence isn't the node's fault.
    pub(super) uncertain: bool,
    /// Whether its time ran out without a word.
    pub(super) was_silent: bool,
    /// Whether its node said that the time ended before its answer was complete.
    ran_out: bool,
    /// Whether its node said that it can't do what the job asks.
    is_unsupported: bool,
    /// How many times its node began it again, where that counts.
    reruns: usize,
    /// What it holds while it is open.
    pub(super) hold: Option<Hold>,
    /// What can be served of its replica, once that is in.
    served: Option<Served>,
}

impl Asked {
    /// Makes an open assignment.
    pub(super) fn new(
        record: AssignmentRecord,
        member: Member,
        due: Timestamp,
        hold: Hold,
        has_logit_max: bool,
    ) -> Self {
        let model_digest = member.numeric_class.model_digest;
        Self {
            record,
            member,
            model_digest,
            due,
            has_logit_max,
            uncertain: false,
            was_silent: false,
            ran_out: false,
            is_unsupported: false,
            reruns: 0,
            hold: Some(hold),
            served: None,
        }
    }

    fn is(&self, state: AssignmentState) -> bool {
        self.record.state == state
    }

    fn leave_open(&mut self, state: AssignmentState) {
        self.record.state = state;
        self.hold = None;
    }
}

/// All assignments of one job under this owner.
#[derive(Debug)]
pub(super) struct Group {
    policy: VerificationPolicy,
    distinct: Distinct,
    /// Whether the client is given the answer's numbers, so that these are agreed on, too.
    gives_numbers: bool,
    asked: Vec<Asked>,
    /// Indexes into `asked`, in the order of arrival.
    replies: Vec<usize>,
    pairs: BTreeMap<(usize, usize), Comparison>,
    /// Misses that counted under earlier owners.
    earlier: Vec<Miss>,
    /// Whether the harmonizer has found no more nodes.
    pub(super) no_more_nodes: bool,
}

impl Group {
    /// Begins with no node asked.
    pub(super) fn new(
        policy: VerificationPolicy,
        distinct: Distinct,
        earlier: Vec<Miss>,
        gives_numbers: bool,
    ) -> Self {
        Self {
            policy,
            distinct,
            gives_numbers,
            asked: Vec::new(),
            replies: Vec::new(),
            pairs: BTreeMap::new(),
            earlier,
            no_more_nodes: false,
        }
    }

    /// Adds an assignment that is being sent; returns its index.
    pub(super) fn add(&mut self, asked: Asked) -> usize {
        self.asked.push(asked);
        self.asked.len() - 1
    }

    /// Returns the assignment at an index.
    pub(super) fn get(&self, index: usize) -> Option<&Asked> {
        self.asked.get(index)
    }

    /// Finds the open assignment with this id.
    pub(super) fn find_open(&self, assignment: AssignmentId) -> Option<usize> {
        self.asked.iter().position(|one| one.record.id == assignment && one.is(AssignmentState::Open))
    }

    /// Marks all as uncertain: sending was cut off, and it is unknown which of them left.
    pub(super) fn mark_all_uncertain(&mut self) {
        self.asked.iter_mut().for_each(|one| one.uncertain = true);
    }

    /// Marks one as uncertain: the broker may have lost it.
    pub(super) fn mark_uncertain(&mut self, index: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.uncertain = true;
        }
    }

    /// Takes a replica in, and compares it with those that are in already.
    pub(super) fn answer(
        &mut self,
        index: usize,
        summary: ReplicaSummary,
        served: Served,
        context: &Context<'_>,
    ) {
        let reply = self.replies.len();
        let earlier = self.replies.iter().enumerate().filter(|_| summary.sound);
        let compared: Vec<_> = earlier
            .filter_map(|(at, asked)| {
                let other = self.asked.get(*asked)?.record.replica.as_ref()?;
                other.sound.then(|| ((at, reply), compare(other, &summary, context)))
            })
            .collect();
        let Some(one) = self.asked.get_mut(index) else { return };
        one.leave_open(AssignmentState::Answered);
        one.record.replica = Some(summary);
        one.served = Some(served);
        self.pairs.extend(compared);
        self.replies.push(index);
    }

    /// Records that one missed, refused or broke it, and that this counts. The returned miss is for the job's row.
    pub(super) fn miss(&mut self, index: usize, was_silent: bool) -> Option<Miss> {
        let one = self.asked.get_mut(index)?;
        one.was_silent = was_silent;
        one.leave_open(AssignmentState::Missed);
        let record = &one.record;
        Some(Miss { assignment: record.id, node: record.node.clone(), owner: record.owner.clone() })
    }

    /// Records that one has no answer, which is no node's fault.
    pub(super) fn neutral(&mut self, index: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.leave_open(AssignmentState::Neutral);
        }
    }

    /// Records that one's node can't do what the job asks, which is no fault of it: it isn't asked again, since it would say
    /// the same, but others of its owner may be.
    pub(super) fn unsupported(&mut self, index: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.is_unsupported = true;
            one.leave_open(AssignmentState::Neutral);
        }
    }

    /// Returns the indexes of open assignments.
    pub(super) fn open_ones(&self) -> Vec<usize> {
        let all = self.asked.iter().enumerate();
        all.filter(|(_, one)| one.is(AssignmentState::Open)).map(|(index, _)| index).collect()
    }

    /// Returns the indexes of open assignments whose time is up.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<usize> {
        let is_overdue = |index: &usize| self.asked.get(*index).is_some_and(|one| one.due <= now);
        self.open_ones().into_iter().filter(is_overdue).collect()
    }

    /// Returns when the next open assignment's time is up.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let open = self.asked.iter().filter(|one| one.is(AssignmentState::Open));
        open.map(|one| one.due).min()
    }

    /// Returns how many assignments are open.
    pub(super) fn open(&self) -> usize {
        self.asked.iter().filter(|one| one.is(AssignmentState::Open)).count()
    }

    /// Returns how many assignments there are.
    pub(super) fn len(&self) -> usize {
        self.asked.len()
    }

    /// Returns how many more must be asked so that as many as the policy wants are at it or have answered (rule 5: a
    /// replacement for each that missed, refused or broke it).
    pub(super) fn lacking(&self) -> usize {
        let sound = self.asked.iter().filter(|one| one.record.replica.as_ref().is_some_and(|it| it.sound));
        let at_it = self.open() + sound.count();
        usize::from(self.policy.replicas).saturating_sub(at_it)
    }

    /// Returns how many misses count, under any owner.
    pub(super) fn misses(&self) -> usize {
        let own = self.asked.iter().filter(|one| one.is(AssignmentState::Missed)).count();
        own + self.earlier.len()
    }

    /// Returns how many more may be asked, neutral ones not counted: no more than keeps misses to six even if all that are
    /// at it miss as well.
    pub(super) fn replacements_left(&self) -> usize {
        if self.no_more_nodes {
            return 0;
        }
        let counting = self.asked.iter().filter(|one| !one.is(AssignmentState::Neutral)).count();
        let replaced = counting.saturating_sub(usize::from(self.policy.replicas)) + self.earlier.len();
        REPLACEMENTS_MAX.saturating_sub(replaced.max(self.misses() + self.open()))
    }

    /// Returns the open and the answered ones: no node like them may be drawn beside them.
    pub(super) fn members(&self) -> Vec<Member> {
        let at_it = |one: &&Asked| one.is(AssignmentState::Open) || one.is(AssignmentState::Answered);
        self.asked.iter().filter(at_it).map(|one| one.member.clone()).collect()
    }

    /// Returns the different classes of these assignments' nodes.
    pub(super) fn classes(&self, assignments: &[AssignmentId]) -> Vec<NumericClass> {
        let mut classes: Vec<NumericClass> = Vec::new();
        for one in self.asked.iter().filter(|one| assignments.contains(&one.record.id)) {
            if !classes.contains(&one.member.numeric_class) {
                classes.push(one.member.numeric_class.clone());
            }
        }
        classes
    }

    /// Returns the owners and nodes that aren't asked (again) for this job.
    pub(super) fn excluded(&self, barred: Barred) -> (Vec<OwnerId>, Vec<NodeId>) {
        let is_barred = |one: &&Asked| match one.record.state {
            AssignmentState::Answered => true,
            AssignmentState::Missed => barred == Barred::Missed || !one.was_silent,
            AssignmentState::Open | AssignmentState::Neutral => false,
        };
        let own = self.asked.iter().filter(is_barred);
        let own = own.map(|one| (one.record.owner.clone(), one.record.node.clone()));
        // How those missed isn't on record; the six misses bound those that are asked again.
        let earlier = self.earlier.iter().filter(|_| barred == Barred::Missed);
        let (owners, mut nodes): (Vec<_>, Vec<_>) =
            own.chain(earlier.map(|miss| (miss.owner.clone(), miss.node.clone()))).unzip();
        let unsupported = self.asked.iter().filter(|one| one.is_unsupported);
        nodes.extend(unsupported.map(|one| one.record.node.clone()));
        (owners, nodes)
    }

    /// Decides whether what is in makes an answer. `extends` says whether tokens begin with what the client has seen.
    pub(super) fn decide(&self, draw_key: &Digest, extends: impl Fn(&[TokenId]) -> bool) -> Decision {
        let reply = |index: &usize| {
            let record = &self.asked.get(*index)?.record;
            let replica = record.replica.as_ref();
            let sound = replica.is_some_and(|replica| replica.sound);
            let extends = replica.is_some_and(|replica| extends(&replica.tokens));
            Some(Reply { node: record.node.clone(), owner: record.owner.clone(), sound, extends })
        };
        let replies: Vec<_> = self.replies.iter().filter_map(reply).collect();
        decide(&Situation {
            policy: self.policy,
            replies: &replies,
            pairs: &self.pairs,
            open: self.open(),
            replacements_left: self.replacements_left(),
            distinct: self.distinct,
            over_numbers: self.gives_numbers,
            draw_key,
        })
    }

    /// Returns the answer that was agreed on, of the model whose digest the noise was drawn by.
    pub(super) fn success(&self, agreed: &Agreed, thresholds: &str, model: Option<Digest>) -> Option<End> {
        let one = self.replies.get(agreed.canonical).and_then(|index| self.asked.get(*index))?;
        let (replica, served) = (one.record.replica.as_ref()?, one.served.as_ref()?);
        let answer = Answer {
            text: served.text.clone(),
            tokens: replica.tokens.clone(),
            finish_reason: served.finish_reason,
            prompt_tokens: replica.prompt_tokens,
            cached_tokens: served.cached_tokens,
            numbers: if self.gives_numbers { replica.numbers.clone() } else { Vec::new() },
            spelled: Vec::new(),
            node: one.record.node.clone(),
            model,
        };
        Some(End::Succeeded { answer, verification: agreed.verification(thresholds) })
    }

    /// Returns all assignments and when the time of the last open one is up; none if no node was asked.
    pub(super) fn records(&self, now: Timestamp) -> Option<(Vec<AssignmentRecord>, Timestamp)> {
        if self.asked.is_empty() {
            return None;
        }
        let open = self.asked.iter().filter(|one| one.is(AssignmentState::Open));
        let deadline = open.map(|one| one.due).max().unwrap_or(now);
        Some((self.asked.iter().map(|one| one.record.clone()).collect(), deadline))
    }
}

/// Bounds the tokens that are kept of a replica with a fault, for an operator to look at: its node chooses how many it sends.
const UNSOUND_TOKENS_MAX: usize = 256;

/// Returns what must be kept of a replica.
pub(super) fn summarise(replica: &Replica, arrived_ms: Timestamp, sound: bool) -> ReplicaSummary {
    let kept = if sound { usize::MAX } else { UNSOUND_TOKENS_MAX };
    ReplicaSummary {
        tokens: replica.tokens.iter().take(kept).copied().collect(),
        numbers: replica.numbers.iter().take(kept).cloned().collect(),
        numeric_class: replica.numeric_class.clone(),
        arrived_ms,
        prompt_tokens: replica.prompt_tokens,
        sound,
    }
}
