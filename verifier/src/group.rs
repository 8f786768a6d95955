//! A job's replica group as it grows: who was asked, what came back, what that amounts to. It keeps the book and asks
//! the pure decisions; it sends nothing and waits for nothing.

use std::collections::BTreeMap;

use infera_ledger::Miss;
use infera_types::ids::{AssignmentId, Digest, NodeId, OwnerId, VerifierId};
use infera_types::job::{
    Answer, AssignmentRecord, AssignmentState, End, FinishReason, GroupRecord, ReplicaSummary,
    VerificationPolicy,
};
use infera_types::messages::Replica;
use infera_types::time::Timestamp;

use crate::collector::OpenRoute;
use crate::compare::{Comparison, Context, compare};
use crate::harmonizer::{Distinct, Member};
use crate::nodes::Slot;
use crate::quorum::{Agreed, Decision, REPLACEMENTS_MAX, Reply, Situation, decide};

/// What an open assignment holds; all of it goes as soon as it isn't open any more.
#[derive(Debug)]
pub(crate) struct Hold {
    _slot: Slot,
    _route: OpenRoute,
}

impl Hold {
    /// Its place on the node, and its way back.
    pub(crate) const fn new(slot: Slot, route: OpenRoute) -> Self {
        Self { _slot: slot, _route: route }
    }
}

/// Says which owners and nodes aren't asked for a job any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Barred {
    /// Those that answered, and those whose miss counts: rule 5.
    Missed,
    /// Those that answered, and those that said that they can't. For want of others, silent ones may be asked again.
    Failed,
}

/// One assignment.
#[derive(Debug)]
pub(crate) struct Asked {
    /// As the settlement will remember it.
    pub(crate) record: AssignmentRecord,
    /// As the harmonizer sees it.
    pub(crate) member: Member,
    /// The digest that it must answer with.
    pub(crate) model_digest: Digest,
    /// When waiting for it ends.
    pub(crate) due: Timestamp,
    /// Whether the broker may have lost it: then silence isn't the node's fault.
    pub(crate) uncertain: bool,
    /// Its time ran out without a word.
    pub(crate) was_silent: bool,
    /// While it is open.
    pub(crate) hold: Option<Hold>,
    /// What can be served of its replica.
    text: Option<(String, FinishReason)>,
}

impl Asked {
    /// An open assignment.
    pub(crate) fn new(record: AssignmentRecord, member: Member, due: Timestamp, hold: Hold) -> Self {
        let model_digest = member.numeric_class.model_digest;
        Self {
            record,
            member,
            model_digest,
            due,
            uncertain: false,
            was_silent: false,
            hold: Some(hold),
            text: None,
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
pub(crate) struct Group {
    policy: VerificationPolicy,
    distinct: Distinct,
    asked: Vec<Asked>,
    /// Indexes into `asked`, in the order of arrival.
    replies: Vec<usize>,
    pairs: BTreeMap<(usize, usize), Comparison>,
    /// Misses that counted under earlier owners.
    earlier: Vec<Miss>,
    /// The harmonizer has found no more nodes.
    pub(crate) nobody_left: bool,
}

impl Group {
    /// Begins with no node asked.
    pub(crate) fn new(policy: VerificationPolicy, distinct: Distinct, earlier: Vec<Miss>) -> Self {
        Self {
            policy,
            distinct,
            asked: Vec::new(),
            replies: Vec::new(),
            pairs: BTreeMap::new(),
            earlier,
            nobody_left: false,
        }
    }

    /// One more was asked; returns its index.
    pub(crate) fn add(&mut self, asked: Asked) -> usize {
        self.asked.push(asked);
        self.asked.len() - 1
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Asked> {
        self.asked.get(index)
    }

    /// The open assignment with this id.
    pub(crate) fn find_open(&self, assignment: AssignmentId) -> Option<usize> {
        self.asked.iter().position(|one| one.record.id == assignment && one.is(AssignmentState::Open))
    }

    /// Marks all as uncertain: sending was cut off, and it is unknown which of them left.
    pub(crate) fn mark_all_uncertain(&mut self) {
        self.asked.iter_mut().for_each(|one| one.uncertain = true);
    }

    /// Marks one as uncertain: the broker may have lost it.
    pub(crate) fn mark_uncertain(&mut self, index: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.uncertain = true;
        }
    }

    /// Its replica is in.
    pub(crate) fn answer(
        &mut self,
        index: usize,
        summary: ReplicaSummary,
        text: (String, FinishReason),
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
        one.text = Some(text);
        self.pairs.extend(compared);
        self.replies.push(index);
    }

    /// It missed, refused or broke it, and that counts. The miss is for the job's row.
    pub(crate) fn miss(&mut self, index: usize, was_silent: bool) -> Option<Miss> {
        let one = self.asked.get_mut(index)?;
        one.was_silent = was_silent;
        one.leave_open(AssignmentState::Missed);
        let record = &one.record;
        Some(Miss { assignment: record.id, node: record.node.clone(), owner: record.owner.clone() })
    }

    /// Records that one has no answer, which is no node's fault.
    pub(crate) fn neutral(&mut self, index: usize) {
        if let Some(one) = self.asked.get_mut(index) {
            one.leave_open(AssignmentState::Neutral);
        }
    }

    /// Open assignments.
    pub(crate) fn open_ones(&self) -> Vec<usize> {
        let all = self.asked.iter().enumerate();
        all.filter(|(_, one)| one.is(AssignmentState::Open)).map(|(index, _)| index).collect()
    }

    /// Open assignments whose time is up.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<usize> {
        let is_overdue = |index: &usize| self.asked.get(*index).is_some_and(|one| one.due <= now);
        self.open_ones().into_iter().filter(is_overdue).collect()
    }

    /// When the next open assignment's time is up.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let open = self.asked.iter().filter(|one| one.is(AssignmentState::Open));
        open.map(|one| one.due).min()
    }

    pub(crate) fn open(&self) -> usize {
        self.asked.iter().filter(|one| one.is(AssignmentState::Open)).count()
    }

    /// How many were asked.
    pub(crate) fn len(&self) -> usize {
        self.asked.len()
    }

    /// How many more must be asked so that as many as the policy wants are at it or have answered (rule 5: a
    /// replacement for each that missed, refused or broke it).
    pub(crate) fn lacking(&self) -> usize {
        let sound = self.asked.iter().filter(|one| one.record.replica.as_ref().is_some_and(|it| it.sound));
        let at_it = self.open() + sound.count();
        usize::from(self.policy.replicas).saturating_sub(at_it)
    }

    /// Misses that count, under any owner.
    pub(crate) fn misses(&self) -> usize {
        let own = self.asked.iter().filter(|one| one.is(AssignmentState::Missed)).count();
        own + self.earlier.len()
    }

    /// How many more may be asked, neutral ones not counted: so few that misses can't be more than six even if all
    /// that are at it miss as well.
    pub(crate) fn replacements_left(&self) -> usize {
        if self.nobody_left {
            return 0;
        }
        let counting = self.asked.iter().filter(|one| !one.is(AssignmentState::Neutral)).count();
        let replaced = counting.saturating_sub(usize::from(self.policy.replicas)) + self.earlier.len();
        REPLACEMENTS_MAX.saturating_sub(replaced.max(self.misses() + self.open()))
    }

    /// Returns the open and the answered ones: no node like them may be drawn beside them.
    pub(crate) fn members(&self) -> Vec<Member> {
        let at_it = |one: &&Asked| one.is(AssignmentState::Open) || one.is(AssignmentState::Answered);
        self.asked.iter().filter(at_it).map(|one| one.member.clone()).collect()
    }

    /// Owners and nodes that aren't asked (again) for this job.
    pub(crate) fn excluded(&self, barred: Barred) -> (Vec<OwnerId>, Vec<NodeId>) {
        let is_barred = |one: &&Asked| match one.record.state {
            AssignmentState::Answered => true,
            AssignmentState::Missed => barred == Barred::Missed || !one.was_silent,
            AssignmentState::Open | AssignmentState::Neutral => false,
        };
        let own = self.asked.iter().filter(is_barred);
        let own = own.map(|one| (one.record.owner.clone(), one.record.node.clone()));
        // How those missed isn't on record; whoever is asked again is bounded by the six misses all the same.
        let earlier = self.earlier.iter().filter(|_| barred == Barred::Missed);
        own.chain(earlier.map(|miss| (miss.owner.clone(), miss.node.clone()))).unzip()
    }

    /// Whether what is in makes an answer.
    pub(crate) fn decide(&self, draw_key: &Digest) -> Decision {
        let reply = |index: &usize| {
            let record = &self.asked.get(*index)?.record;
            let sound = record.replica.as_ref().is_some_and(|replica| replica.sound);
            Some(Reply { node: record.node.clone(), owner: record.owner.clone(), sound })
        };
        let replies: Vec<_> = self.replies.iter().filter_map(reply).collect();
        decide(&Situation {
            policy: self.policy,
            replies: &replies,
            pairs: &self.pairs,
            open: self.open(),
            replacements_left: self.replacements_left(),
            distinct: self.distinct,
            draw_key,
        })
    }

    /// The answer that was agreed on, of the model whose digest the noise was drawn by.
    pub(crate) fn success(&self, agreed: &Agreed, thresholds: &str, model: Option<Digest>) -> Option<End> {
        let one = self.replies.get(agreed.canonical).and_then(|index| self.asked.get(*index))?;
        let (replica, (text, finish_reason)) = (one.record.replica.as_ref()?, one.text.as_ref()?);
        let answer = Answer {
            text: text.clone(),
            tokens: replica.tokens.clone(),
            finish_reason: *finish_reason,
            prompt_tokens: replica.prompt_tokens,
            node: one.record.node.clone(),
            model,
        };
        Some(End::Succeeded { answer, verification: agreed.verification(thresholds) })
    }

    /// Returns what any verifier needs to score the group; none if no node was asked.
    pub(crate) fn record(
        &self,
        verifier: &VerifierId,
        context: &Context<'_>,
        now: Timestamp,
    ) -> Option<GroupRecord> {
        if self.asked.is_empty() {
            return None;
        }
        let open = self.asked.iter().filter(|one| one.is(AssignmentState::Open));
        Some(GroupRecord {
            verifier: verifier.clone(),
            assignments: self.asked.iter().map(|one| one.record.clone()).collect(),
            deadline_ms: open.map(|one| one.due).max().unwrap_or(now),
            temperature: context.temperature,
            sample_key: *context.sample_key,
        })
    }
}

/// Tokens that are kept of a replica with a fault, for an operator to look at: it says what it likes, and as much.
const UNSOUND_TOKENS_MAX: usize = 256;

/// What must be kept of a replica.
pub(crate) fn summarise(replica: &Replica, arrived_ms: Timestamp, sound: bool) -> ReplicaSummary {
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
