//! A ledger's held jobs, as far as the feeder sees them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use infera_ledger::{Flow, FlowKey, HeldJob, Share, Turn};
use infera_types::ids::{AccountId, JobId};
use infera_types::service::ServiceTier;
use infera_verifier::decisions::fair_share::FairShare;
use tokio::time::Instant;

/// A flow's share, tier and account.
pub(super) type Key = (String, ServiceTier, String);

/// What the jobs of one flow are like.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) share: String,
    pub(super) tier: ServiceTier,
    pub(super) weight: u32,
    pub(super) account: String,
    pub(super) usual: Option<u64>,
    /// The prompts' lengths, one after the other and again.
    pub(super) prompt_tokens: Vec<u64>,
}

impl Kind {
    pub(super) fn key(&self) -> Key {
        (self.share.clone(), self.tier, self.account.clone())
    }
}

/// A flow of ordinary jobs, 100 tokens each.
pub(super) fn kind(share: &str, account: &str) -> Kind {
    Kind {
        share: share.to_owned(),
        tier: ServiceTier::Default,
        weight: 1,
        account: account.to_owned(),
        usual: Some(40),
        prompt_tokens: vec![60],
    }
}

#[derive(Default)]
pub(super) struct Queue {
    flows: BTreeMap<Key, (Kind, VecDeque<HeldJob>)>,
    of_jobs: BTreeMap<JobId, Key>,
    pub(super) excess_tokens: BTreeMap<String, i64>,
    offered: BTreeSet<JobId>,
}

impl Queue {
    /// Adds jobs of a flow.
    pub(super) fn flood(&mut self, kind: &Kind, jobs: usize) {
        let (_, held) = self.flows.entry(kind.key()).or_insert_with(|| (kind.clone(), VecDeque::new()));
        for prompt_tokens in kind.prompt_tokens.iter().cycle().take(jobs) {
            let id = JobId::new();
            self.of_jobs.insert(id, kind.key());
            held.push_back(HeldJob { id, prompt_tokens: *prompt_tokens, replicas: 3, is_awaited: false });
        }
    }

    /// The account's answers used more than they were charged with, or less.
    pub(super) fn exceed(&mut self, account: &str, tokens: i64) {
        *self.excess_tokens.entry(account.to_owned()).or_default() += tokens;
    }

    /// Cancels one job of each of the first `jobs` flows: the oldest of one, the newest of the next.
    pub(super) fn cancel(&mut self, jobs: usize) {
        for (number, (_, held)) in self.flows.values_mut().enumerate().take(jobs) {
            if number % 2 == 0 {
                held.pop_front()
            } else {
                held.pop_back()
            };
        }
    }

    /// Cancels all jobs of a share.
    pub(super) fn withdraw(&mut self, share: &str) {
        self.flows.retain(|(theirs, _, _), _| theirs != share);
    }

    pub(super) fn held(&self) -> usize {
        self.flows.values().map(|(_, held)| held.len()).sum()
    }

    pub(super) fn flows(&self, jobs_max: usize) -> Vec<Flow> {
        let waiting = self.flows.values().filter(|(_, held)| !held.is_empty());
        waiting
            .map(|(kind, held)| Flow {
                key: FlowKey {
                    share: Share::new(kind.share.clone()),
                    tier: kind.tier,
                    account: AccountId::new(kind.account.clone()),
                },
                weight: kind.weight,
                usual_answer_tokens: kind.usual,
                excess_tokens: self.excess_tokens.get(&kind.account).copied().unwrap_or_default(),
                jobs: held.iter().copied().take(jobs_max).collect(),
            })
            .collect()
    }

    pub(super) fn key_of(&self, job: JobId) -> Key {
        self.of_jobs[&job].clone()
    }

    /// Checks that these are held, the oldest of each flow, and none twice.
    pub(super) fn assert_heads(&self, turns: &[Turn]) {
        let mut places = BTreeMap::<Key, usize>::new();
        for turn in turns {
            let key = self.key_of(turn.id);
            let place = places.entry(key.clone()).or_default();
            assert_eq!(self.flows[&key].1[*place].id, turn.id);
            assert!(!self.offered.contains(&turn.id));
            *place += 1;
        }
    }

    /// Offers jobs whose turn it is.
    pub(super) fn offer(&mut self, turns: &[Turn]) {
        for turn in turns {
            let key = self.key_of(turn.id);
            let (_, held) = self.flows.get_mut(&key).unwrap();
            // It is the oldest, as a rule.
            match held.front() {
                Some(first) if first.id == turn.id => drop(held.pop_front()),
                _ => held.retain(|job| job.id != turn.id),
            }
            assert!(self.offered.insert(turn.id));
        }
    }

    /// Serves until `count` jobs are offered, and returns how many of them each flow got.
    pub(super) fn serve(
        &mut self,
        fair_share: &mut FairShare,
        count: usize,
        now: Instant,
    ) -> BTreeMap<Key, usize> {
        // One more than it can be served: none is used up that goes on.
        fair_share.refresh(self.flows(count + 1), now);
        let turns = fair_share.next(count);
        let mut counts = BTreeMap::new();
        for turn in &turns {
            *counts.entry(self.key_of(turn.id)).or_default() += 1;
        }
        self.offer(&turns);
        counts
    }
}
