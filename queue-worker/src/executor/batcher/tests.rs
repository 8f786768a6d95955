//! Tests of the batcher: single rules as tables of steps, and all of them as a property.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn batcher(slots: usize, prefill_tokens_max: usize) -> Batcher {
    Batcher::new(BatchLimits { slots, prefill_tokens_max }, 1_000)
}

/// Takes a step, in which the engine completes each prompt of a prefill.
fn step(batcher: &mut Batcher) -> Step {
    let step = batcher.next_step();
    if let Step::Prefill(called) = &step {
        called.iter().for_each(|sequence| batcher.prefilled(*sequence, 0));
    }
    step
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
    assert_eq!(step(&mut batcher), prefill(&[1, 2]));
    assert_eq!(step(&mut batcher), decode(&[1, 2]));
    batcher.leave(SequenceId(1));
    assert_eq!(step(&mut batcher), prefill(&[3]));
    assert_eq!(step(&mut batcher), decode(&[2, 3]));
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
        if let Step::Prefill(joining) = step(&mut batcher) {
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
    assert_eq!(step(&mut batcher), prefill(&[1]));
    assert_eq!(step(&mut batcher), decode(&[1]));
    assert_eq!(step(&mut batcher), decode(&[1]));
    batcher.leave(SequenceId(1));
    assert_eq!(step(&mut batcher), prefill(&[2]));
    assert_eq!(step(&mut batcher), decode(&[2]));
    assert_eq!(step(&mut batcher), decode(&[2]));
    batcher.leave(SequenceId(2));
    assert_eq!(step(&mut batcher), prefill(&[3]));
}

#[test]
fn a_long_prompt_goes_on_in_chunks_while_others_step_and_join() {
    let mut batcher = Batcher::new(BatchLimits { slots: 4, prefill_tokens_max: 24 }, 16);
    batcher.admit(candidate(1, 5));
    assert_eq!(step(&mut batcher), prefill(&[1]));
    batcher.admit(candidate(2, 40));
    assert_eq!(step(&mut batcher), decode(&[1]));
    assert_eq!(batcher.next_step(), prefill(&[2]));
    assert!(batcher.begins(SequenceId(2)));
    batcher.prefilled(SequenceId(2), 24);
    assert!(!batcher.begins(SequenceId(2)));
    batcher.admit(candidate(3, 8));
    batcher.admit(candidate(4, 8));
    assert_eq!(batcher.next_step(), decode(&[1]));
    // 16 tokens of the long one and 8 of one that begins; another one would make 32.
    assert_eq!(batcher.next_step(), prefill(&[2, 3]));
    batcher.prefilled(SequenceId(2), 8);
    batcher.prefilled(SequenceId(3), 0);
    assert_eq!(batcher.next_step(), decode(&[1, 3]));
    // What is left of the long one is 8 tokens.
    assert_eq!(step(&mut batcher), prefill(&[2, 4]));
    assert_eq!(batcher.next_step(), decode(&[1, 3, 2, 4]));
    batcher.leave(SequenceId(2));
    assert_eq!(batcher.next_step(), decode(&[1, 3, 4]));
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

/// What the property below knows of a batcher's sequences.
#[derive(Default)]
struct Known {
    waiting: VecDeque<Candidate>,
    /// Each with the tokens that are left of its prompt.
    prefilling: Vec<(SequenceId, usize)>,
    running: Vec<SequenceId>,
    alone: HashSet<SequenceId>,
}

impl Known {
    fn in_engine(&self) -> usize {
        self.prefilling.len() + self.running.len()
    }

    fn runs_alone(&self) -> bool {
        let prefilling = self.prefilling.iter().map(|one| &one.0);
        prefilling.chain(&self.running).any(|sequence| self.alone.contains(sequence))
    }

    /// Returns whether the head of the waiting ones has to wait.
    fn is_blocked(&self, slots: usize, budget: usize, chunk: usize) -> bool {
        let going_on: usize = self.prefilling.iter().map(|one| one.1.min(chunk)).sum();
        let over = |head: &Candidate| {
            !self.prefilling.is_empty() && going_on + head.prompt_tokens.min(chunk) > budget
        };
        let others = self.in_engine();
        let head_waits = |head: &Candidate| (head.alone && others > 0) || over(head);
        self.runs_alone() || others == slots || self.waiting.front().is_none_or(head_waits)
    }

    fn remove(&mut self, pick: usize) -> Option<SequenceId> {
        let all: Vec<SequenceId> =
            self.prefilling.iter().map(|one| one.0).chain(self.running.iter().copied()).collect();
        let gone = *all.get(pick.checked_rem(all.len())?)?;
        self.prefilling.retain(|one| one.0 != gone);
        self.running.retain(|one| *one != gone);
        Some(gone)
    }
}

proptest! {
    #[test]
    fn the_rules_hold_whatever_happens(
        slots in 1_usize..6,
        (budget, chunk) in (1_usize..100, 1_usize..50),
        events in prop::collection::vec(event(), 1..200),
    ) {
        let mut batcher = Batcher::new(BatchLimits { slots, prefill_tokens_max: budget }, chunk);
        let mut known = Known::default();
        let mut named = 0;
        let mut owed: HashSet<SequenceId> = HashSet::new();
        let mut head_could_join_steps = 0;
        for event in events {
            match event {
                Event::Admit { prompt_tokens, alone } => {
                    named += 1;
                    let new = Candidate { alone, ..candidate(named, prompt_tokens) };
                    if alone { known.alone.insert(new.sequence); }
                    known.waiting.push_back(new);
                    batcher.admit(new);
                }
                Event::Leave(pick) => {
                    let Some(gone) = known.remove(pick) else { continue };
                    owed.remove(&gone);
                    batcher.leave(gone);
                }
                Event::Step => {
                    let blocked = known.is_blocked(slots, budget, chunk);
                    match batcher.next_step() {
                        Step::Prefill(called) => {
                            // Each sequence that ran before has had a decode step since the last prefill.
                            prop_assert!(owed.is_empty(), "{owed:?} starve");
                            let going_on = called.len().min(known.prefilling.len());
                            let (mut tokens, mut longest) = (0, 0);
                            for (sequence, (expected, left)) in called.iter().zip(&known.prefilling) {
                                prop_assert_eq!(sequence, expected, "out of order");
                                tokens += left.min(&chunk);
                            }
                            for sequence in &called[going_on..] {
                                let head = known.waiting.pop_front().unwrap();
                                prop_assert_eq!(head.sequence, *sequence, "out of order");
                                prop_assert!(batcher.begins(*sequence));
                                longest = longest.max(head.prompt_tokens.min(chunk));
                                known.prefilling.push((*sequence, head.prompt_tokens));
                            }
                            tokens += longest * (called.len() - going_on);
                            prop_assert!(called.len() == 1 || (!called.is_empty() && tokens <= budget));
                            prop_assert!(blocked || called.len() > going_on, "the head of the line starves");
                            for sequence in called {
                                let place = known.prefilling.iter().position(|one| one.0 == sequence).unwrap();
                                let left = known.prefilling[place].1.saturating_sub(chunk);
                                known.prefilling[place].1 = left;
                                if left == 0 {
                                    known.prefilling.remove(place);
                                    known.running.push(sequence);
                                }
                                batcher.prefilled(sequence, left);
                            }
                            owed = known.running.iter().copied().collect();
                            head_could_join_steps = 0;
                        }
                        Step::Decode(sequences) => {
                            prop_assert_eq!(&sequences, &known.running);
                            owed.clear();
                            head_could_join_steps += usize::from(!blocked);
                            prop_assert!(head_could_join_steps <= 1, "the head of the line starves");
                        }
                        Step::Idle => prop_assert!(known.in_engine() == 0 && known.waiting.is_empty()),
                    }
                    prop_assert!(known.in_engine() <= slots);
                    if known.runs_alone() {
                        prop_assert_eq!(known.in_engine(), 1);
                    }
                }
            }
        }
    }
}
