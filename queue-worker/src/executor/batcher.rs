//! Decides which sequences take part in the engine's next step. Pure: no clock, no thread, no engine, no text. The
//! caller carries out the step and tells the batcher which sequences left.
//!
//! Sequences join and leave between steps. The rules, each of which is tested as a property below:
//!
//! * There are never more running sequences than slots, and sequences join in the order in which they were admitted.
//! * A prefill takes as many of the waiting sequences as fit its token budget (padding counts), and at least one.
//! * Between two prefills, every running sequence gets one decode step. A waiting sequence with no other before it
//!   joins a free slot within two steps. So neither side can starve the other.
//! * A sequence that must run alone joins when no other runs, and no other joins until it leaves.
//!
//! Time is no input: the assignments that wait for the answers watch their own budgets, and a sequence that no
//! assignment waits for leaves like one that has finished.

use std::collections::VecDeque;

use infera_engine::SequenceId;

/// The limits of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// The largest number of sequences that run at once.
    pub slots: usize,
    /// The largest number of tokens in one prefill: the number of its sequences times the longest of their prompts. A
    /// longer prompt is prefilled alone.
    pub prefill_tokens_max: usize,
}

/// A sequence that waits to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The sequence's id, which no other waiting or running sequence has.
    pub(super) sequence: SequenceId,
    /// The length of the sequence's prompt, in tokens.
    pub(super) prompt_tokens: usize,
    /// Whether the sequence must run with no other beside it.
    pub(super) alone: bool,
}

/// The engine's next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Start these sequences, which run from now on.
    Prefill(Vec<SequenceId>),
    /// Decode one token for each of these, which are all that run.
    Decode(Vec<SequenceId>),
    /// Do nothing, because no sequence waits or runs.
    Idle,
}

/// The sequences that wait and those that run.
#[derive(Debug)]
pub(super) struct Batcher {
    limits: BatchLimits,
    waiting: VecDeque<Candidate>,
    running: Vec<SequenceId>,
    /// Whether the running sequence must run with no other beside it.
    runs_alone: bool,
    /// Whether the last step was a prefill, so that the running sequences must get a decode step next.
    owes_decode: bool,
}

impl Batcher {
    /// Makes an empty batcher. It has at least one slot.
    pub(super) fn new(limits: BatchLimits) -> Self {
        let limits = BatchLimits { slots: limits.slots.max(1), ..limits };
        Self { limits, waiting: VecDeque::new(), running: Vec::new(), runs_alone: false, owes_decode: false }
    }

    /// Puts a sequence at the end of those that wait.
    pub(super) fn admit(&mut self, candidate: Candidate) {
        self.waiting.push_back(candidate);
    }

    /// Removes a sequence that runs or waits. Unknown ones are ignored.
    pub(super) fn leave(&mut self, sequence: SequenceId) {
        self.waiting.retain(|candidate| candidate.sequence != sequence);
        self.running.retain(|running| *running != sequence);
        if self.running.is_empty() {
            self.runs_alone = false;
        }
    }

    /// Returns whether no sequence waits or runs.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Returns the next step. The sequences of a prefill count as running from here on.
    pub(super) fn next_step(&mut self) -> Step {
        let must_decode = self.owes_decode && !self.running.is_empty();
        if !must_decode {
            let joining = self.join();
            if !joining.is_empty() {
                self.owes_decode = true;
                return Step::Prefill(joining);
            }
        }
        self.owes_decode = false;
        if self.running.is_empty() { Step::Idle } else { Step::Decode(self.running.clone()) }
    }

    /// Moves the sequences that may join now from the head of the waiting ones to the running ones.
    fn join(&mut self) -> Vec<SequenceId> {
        let mut joining = Vec::new();
        let mut longest = 0;
        while let Some(next) = self.waiting.front().copied() {
            let others_run = !self.running.is_empty();
            if self.runs_alone || (next.alone && others_run) || self.running.len() == self.limits.slots {
                break;
            }
            longest = next.prompt_tokens.max(longest);
            let padded = longest.saturating_mul(joining.len() + 1);
            if !joining.is_empty() && padded > self.limits.prefill_tokens_max {
                break;
            }
            self.waiting.pop_front();
            self.running.push(next.sequence);
            self.runs_alone = next.alone;
            joining.push(next.sequence);
        }
        joining
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn batcher(slots: usize, prefill_tokens_max: usize) -> Batcher {
        Batcher::new(BatchLimits { slots, prefill_tokens_max })
    }

    fn candidate(sequence: u64, prompt_tokens: usize) -> Candidate {
        Candidate { sequence: SequenceId(sequence), prompt_tokens, alone: false }
    }

    fn prefill(sequences: &[u64]) -> Step {
        Step::Prefill(sequences.iter().copied().map(SequenceId).collect())
    }

    fn decode(sequences: &[u64]) -> Step {
        Step::Decode(sequences.iter().copied().map(SequenceId).collect())
    }

    #[test]
    fn an_empty_batcher_is_idle() {
        let mut batcher = batcher(2, 100);
        assert_eq!(batcher.next_step(), Step::Idle);
        batcher.admit(candidate(1, 5));
        batcher.leave(SequenceId(1));
        assert_eq!(batcher.next_step(), Step::Idle);
        assert!(batcher.is_empty());
    }

    #[test]
    fn sequences_join_between_steps_as_slots_come_free() {
        let mut batcher = batcher(2, 100);
        for sequence in 1..=3 {
            batcher.admit(candidate(sequence, 5));
        }
        assert_eq!(batcher.next_step(), prefill(&[1, 2]));
        assert_eq!(batcher.next_step(), decode(&[1, 2]));
        batcher.leave(SequenceId(1));
        assert_eq!(batcher.next_step(), prefill(&[3]));
        assert_eq!(batcher.next_step(), decode(&[2, 3]));
    }

    #[test]
    fn a_prefill_keeps_to_its_token_budget_padding_included() {
        let mut batcher = batcher(8, 20);
        for (sequence, tokens) in [(1, 4), (2, 9), (3, 2), (4, 50), (5, 1)] {
            batcher.admit(candidate(sequence, tokens));
        }
        // 1 and 2 pad to 18, and a third would make 27. 4 alone is over the budget, and goes by itself.
        let mut prefills = Vec::new();
        for _ in 0..8 {
            if let Step::Prefill(joining) = batcher.next_step() {
                prefills.push(joining.iter().map(|sequence| sequence.0).collect::<Vec<_>>());
            }
        }
        assert_eq!(prefills, [vec![1, 2], vec![3], vec![4], vec![5]]);
    }

    #[test]
    fn who_must_run_alone_waits_for_the_others_and_others_wait_for_it() {
        let mut batcher = batcher(4, 100);
        batcher.admit(candidate(1, 5));
        batcher.admit(Candidate { alone: true, ..candidate(2, 5) });
        batcher.admit(candidate(3, 5));
        assert_eq!(batcher.next_step(), prefill(&[1]));
        assert_eq!(batcher.next_step(), decode(&[1]));
        assert_eq!(batcher.next_step(), decode(&[1]));
        batcher.leave(SequenceId(1));
        assert_eq!(batcher.next_step(), prefill(&[2]));
        assert_eq!(batcher.next_step(), decode(&[2]));
        assert_eq!(batcher.next_step(), decode(&[2]));
        batcher.leave(SequenceId(2));
        assert_eq!(batcher.next_step(), prefill(&[3]));
    }

    /// One event in the life of a batcher.
    #[derive(Clone, Debug)]
    enum Event {
        Admit { prompt_tokens: usize, alone: bool },
        Leave(usize),
        Step,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            2 => (1_usize..40, prop::bool::weighted(0.1))
                .prop_map(|(prompt_tokens, alone)| Event::Admit { prompt_tokens, alone }),
            1 => any::<usize>().prop_map(Event::Leave),
            4 => Just(Event::Step),
        ]
    }

    proptest! {
        #[test]
        fn the_rules_hold_whatever_happens(
            slots in 1_usize..6,
            budget in 1_usize..100,
            events in prop::collection::vec(event(), 1..200),
        ) {
            let mut batcher = batcher(slots, budget);
            let mut waiting: VecDeque<Candidate> = VecDeque::new();
            let mut running: Vec<SequenceId> = Vec::new();
            let mut alone: HashSet<SequenceId> = HashSet::new();
            let mut named = 0;
            let mut owed: HashSet<SequenceId> = HashSet::new();
            let mut head_could_join_steps = 0;
            for event in events {
                match event {
                    Event::Admit { prompt_tokens, alone: is_alone } => {
                        named += 1;
                        let new = Candidate { alone: is_alone, ..candidate(named, prompt_tokens) };
                        if is_alone { alone.insert(new.sequence); }
                        waiting.push_back(new);
                        batcher.admit(new);
                    }
                    Event::Leave(pick) => {
                        if running.is_empty() { continue; }
                        let gone = running.remove(pick % running.len());
                        owed.remove(&gone);
                        batcher.leave(gone);
                    }
                    Event::Step => {
                        let blocked = running.iter().any(|sequence| alone.contains(sequence))
                            || running.len() == slots
                            || waiting.front().is_none_or(|head| head.alone && !running.is_empty());
                        match batcher.next_step() {
                            Step::Prefill(joining) => {
                                prop_assert!(!joining.is_empty());
                                // Each sequence that ran before has had a decode step since the last prefill.
                                prop_assert!(owed.is_empty(), "{owed:?} starve");
                                let mut longest = 0;
                                for sequence in &joining {
                                    let head = waiting.pop_front().unwrap();
                                    prop_assert_eq!(head.sequence, *sequence, "out of order");
                                    longest = longest.max(head.prompt_tokens);
                                    running.push(*sequence);
                                }
                                prop_assert!(joining.len() == 1 || longest * joining.len() <= budget);
                                owed = running.iter().copied().collect();
                                head_could_join_steps = 0;
                            }
                            Step::Decode(sequences) => {
                                prop_assert_eq!(&sequences, &running);
                                owed.clear();
                                head_could_join_steps = if blocked { 0 } else { head_could_join_steps + 1 };
                                prop_assert!(head_could_join_steps <= 1, "the head of the line starves");
                            }
                            Step::Idle => prop_assert!(running.is_empty() && waiting.is_empty()),
                        }
                        prop_assert!(running.len() <= slots);
                        if running.iter().any(|sequence| alone.contains(sequence)) {
                            prop_assert_eq!(running.len(), 1);
                        }
                    }
                }
            }
        }
    }
}
