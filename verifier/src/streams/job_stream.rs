//! One job's stream: the slots of its assignments, and what was released of them, as tokens and as text.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infera_model::chat::AnswerText;
use infera_types::frames::{AnswerTokens, Attempt, Delta, PassedOn};
use infera_types::ids::{AssignmentId, GatewayId, JobId};
use infera_types::numbers::TokenId;
use infera_types::request::Release;
use infera_types::time::Timestamp;
use tokio::sync::Notify;

use super::follower::{Follower, Has};
use crate::decisions::hanging_up;
use crate::decisions::passed_on::{Fit, fit, keeps};
use crate::decisions::release::{Voice, first, releasable};
use crate::decisions::slots::{Completed, Slot, Taken};

/// How many gateways follow one job's stream at once: the one that accepted it, and those at which its events are read.
const GATEWAYS_MAX: usize = 8;

/// What a stream goes by.
#[derive(Clone, Debug)]
pub(crate) struct StreamTerms {
    pub(crate) job: JobId,
    /// The gateway that accepted the job.
    pub(crate) gateway: GatewayId,
    pub(crate) release: Release,
    /// How many parties must share a token that is released as agreed.
    pub(crate) quorum: usize,
    /// The most tokens of the answer.
    pub(crate) tokens_max: usize,
    /// Until when the gateway's word is waited for on what it has passed on of an earlier owner's stream; none if there was no
    /// earlier owner.
    pub(crate) awaited_until: Option<Timestamp>,
}

/// What clients have seen of a job's answer.
#[derive(Debug)]
pub(crate) struct Shown<'a> {
    /// What was released under this owner.
    pub(crate) released: &'a [TokenId],
    /// What gateways have passed on that this owner didn't release, as far as they said so.
    passed_on: Vec<PassedOn>,
    /// Whether the gateway may still say what it has passed on.
    pub(crate) is_awaited: bool,
}

impl Shown<'_> {
    /// Returns whether an answer begins with all that clients have seen under any owner.
    pub(crate) fn is_kept_by(&self, answer: &[TokenId]) -> bool {
        answer.starts_with(self.released) && keeps(answer, &self.passed_on)
    }
}

/// One job's stream.
#[derive(Debug)]
pub(crate) struct JobStream {
    terms: StreamTerms,
    state: Mutex<State>,
    /// Told when the gateway has said what it has passed on.
    said: Arc<Notify>,
    /// Rung when the client has hung up.
    hung_up: Notify,
}

#[derive(Debug)]
struct State {
    told: Vec<Told>,
    /// The place of the assignment whose tokens are released, where one's are.
    first: Option<usize>,
    released: Vec<TokenId>,
    /// The assignments that had said all of it when the last of it was released.
    agreeing: Vec<AssignmentId>,
    /// Makes the released text; none once nothing more is released, because the text is complete or can't be made, or the stream
    /// is closed.
    answer_text: Option<AnswerText>,
    text: String,
    /// The length of the text after each released token, in bytes.
    text_ends: Vec<usize>,
    gateways: Vec<Follower>,
    /// How many of the released tokens the client had when it hung up; none while it is there.
    had: Option<usize>,
}

/// What an assignment told.
#[derive(Debug)]
struct Told {
    assignment: AssignmentId,
    party: String,
    slot: Slot,
}

impl Told {
    fn voice(&self) -> Voice<'_> {
        Voice { party: &self.party, standing: self.slot.standing(), tokens: self.slot.tokens() }
    }
}

impl JobStream {
    /// Begins with nothing told. `answer_text` makes the text of the answer's tokens.
    pub(crate) fn new(terms: StreamTerms, answer_text: AnswerText) -> Self {
        let has = if terms.awaited_until.is_some() { Has::Unsaid } else { Has::Told(0) };
        let gateways = vec![Follower { gateway: terms.gateway.clone(), has }];
        let state = State {
            told: Vec::new(),
            first: None,
            released: Vec::new(),
            agreeing: Vec::new(),
            answer_text: Some(answer_text),
            text: String::new(),
            text_ends: Vec::new(),
            gateways,
            had: None,
        };
        Self { terms, state: Mutex::new(state), said: Arc::default(), hung_up: Notify::new() }
    }

    /// Returns the job.
    pub(crate) const fn job(&self) -> JobId {
        self.terms.job
    }

    /// Gives an assignment its slot.
    pub(super) fn add(&self, assignment: AssignmentId, party: &str) {
        let slot = Slot::new(self.terms.tokens_max);
        self.lock().told.push(Told { assignment, party: party.to_owned(), slot });
    }

    /// Takes in what a frame tells of an assignment, and releases what may go by it.
    pub(super) fn take(&self, frame: &AnswerTokens) -> Taken {
        let mut state = self.lock();
        let Some(place) = state.place(frame.assignment) else { return Taken::Nothing };
        let taken = state.told[place].slot.take(frame);
        if is_news(taken) {
            state.release(&self.terms);
        }
        taken
    }

    /// Takes in the whole answer of an assignment. An answer that is `sound` and agrees with what its frames told counts like
    /// frames; else nothing of the assignment counts any more.
    pub(crate) fn complete(
        &self,
        assignment: AssignmentId,
        attempt: Option<Attempt>,
        answer: &[TokenId],
        sound: bool,
    ) -> Completed {
        let mut state = self.lock();
        let Some(place) = state.place(assignment) else { return Completed::AsFramed };
        let slot = &mut state.told[place].slot;
        let completed = slot.complete(attempt, answer);
        if !sound {
            slot.silence();
        }
        state.release(&self.terms);
        completed
    }

    /// Returns the assignments that had said all that was released when the last of it was; none if nothing was.
    pub(crate) fn agreeing(&self) -> Vec<AssignmentId> {
        self.lock().agreeing.clone()
    }

    /// Returns how many times an assignment's node began it again, as far as its frames and its answer tell.
    pub(crate) fn reruns(&self, assignment: AssignmentId) -> usize {
        let state = self.lock();
        state.place(assignment).map_or(0, |place| state.told[place].slot.reruns())
    }

    /// Has an assignment that no answer is waited for of have no voice any more. What was released of it stays released. Returns
    /// whether it had one.
    pub(super) fn give_up(&self, assignment: AssignmentId) -> bool {
        let mut state = self.lock();
        let Some(place) = state.place(assignment) else { return false };
        let had_voice = state.told[place].slot.give_up();
        if had_voice {
            state.release(&self.terms);
        }
        had_voice
    }

    /// Decides by what was shown, and closes the stream at exactly that if the decision is an end, so that an answer which was decided
    /// upon begins with all that the client is ever shown. Nothing is released while `decide` runs.
    pub(crate) fn close_at<E, D>(
        &self,
        now: Timestamp,
        decide: impl FnOnce(&Shown<'_>) -> ControlFlow<E, D>,
    ) -> ControlFlow<E, D> {
        let mut state = self.lock();
        let elsewhere = state.gateways.iter().filter_map(|follower| match follower.has {
            Has::Elsewhere(passed_on) => Some(passed_on),
            Has::Unsaid | Has::Told(_) => None,
        });
        let passed_on = elsewhere.collect();
        let is_awaited = self.is_awaited(&state, now);
        let decided = decide(&Shown { released: &state.released, passed_on, is_awaited });
        if decided.is_break() {
            state.answer_text = None;
        }
        decided
    }

    /// Closes the stream: nothing more is released. Returns the tokens that were.
    pub(crate) fn close(&self) -> Vec<TokenId> {
        let mut state = self.lock();
        state.answer_text = None;
        state.released.clone()
    }

    /// Returns the tokens that were released so far.
    #[cfg(test)]
    pub(crate) fn released(&self) -> Vec<TokenId> {
        self.lock().released.clone()
    }

    /// Takes in that the client hung up when it had this, if that is what was released, and if the gateway is the one that
    /// accepted the job: where else its events are read, one reader less is no reason to end it.
    pub(super) fn hang_up(&self, gateway: &GatewayId, passed_on: &PassedOn) {
        if *gateway != self.terms.gateway {
            return;
        }
        let mut state = self.lock();
        if state.had.is_none() && state.has_released(passed_on) {
            state.had = usize::try_from(passed_on.count).ok();
            self.hung_up.notify_one();
        }
    }

    /// Waits until the client has hung up, and returns the tokens that it had. One task waits.
    pub(crate) async fn until_hung_up(&self) -> Vec<TokenId> {
        loop {
            {
                let state = self.lock();
                if let Some(had) = state.had.and_then(|count| state.released.get(..count)) {
                    return had.to_vec();
                }
            }
            self.hung_up.notified().await;
        }
    }

    /// Returns what each assignment has told that counts.
    pub(crate) fn told(&self) -> Vec<hanging_up::Told> {
        let state = self.lock();
        let with_voice = state.told.iter().filter(|told| told.slot.standing().has_voice());
        let told = with_voice.map(|told| hanging_up::Told {
            assignment: told.assignment,
            party: told.party.clone(),
            tokens: told.slot.tokens().to_vec(),
        });
        told.collect()
    }

    /// Takes in what a gateway has passed on: it is told what comes next, once what it has is what was released.
    pub(super) fn watch(&self, gateway: &GatewayId, passed_on: &PassedOn) {
        let mut state = self.lock();
        let State { released, gateways, .. } = &mut *state;
        let has = Has::of(*passed_on, released);
        let has_room = gateways.len() < GATEWAYS_MAX;
        let follower = gateways.iter_mut().find(|follower| follower.gateway == *gateway);
        match follower {
            Some(follower) if matches!(follower.has, Has::Unsaid) => {
                follower.has = has;
                self.said.notify_one();
            }
            Some(follower) => follower.has = has,
            None if has_room => {
                gateways.push(Follower { gateway: gateway.clone(), has });
            }
            None => {}
        }
    }

    /// Returns what is told when the gateway has said what it has passed on of an earlier owner's stream.
    pub(crate) fn said(&self) -> Arc<Notify> {
        Arc::clone(&self.said)
    }

    /// Returns until when the gateway may still say what it has passed on; none if that isn't waited for any more.
    pub(crate) fn awaited_until(&self, now: Timestamp) -> Option<Timestamp> {
        let is_awaited = self.is_awaited(&self.lock(), now);
        self.terms.awaited_until.filter(|_| is_awaited)
    }

    fn is_awaited(&self, state: &State, now: Timestamp) -> bool {
        let is_unsaid = state.gateways.iter().any(|follower| matches!(follower.has, Has::Unsaid));
        is_unsaid && self.terms.awaited_until.is_some_and(|until| now < until)
    }

    /// Returns what each gateway hasn't been told, and counts it as told. One whose clients have something else is told nothing: its
    /// stream ends with the answer.
    pub(super) fn untold(&self, now: Timestamp) -> Vec<(GatewayId, Delta)> {
        let mut state = self.lock();
        let is_awaited = self.is_awaited(&state, now);
        let State { released, text, text_ends, gateways, .. } = &mut *state;
        let mut deltas = Vec::new();
        for follower in gateways {
            let from = match follower.has {
                Has::Told(told) => told,
                // It has said nothing in time, so it has passed on nothing.
                Has::Unsaid if !is_awaited => 0,
                Has::Unsaid | Has::Elsewhere(_) => continue,
            };
            if from >= released.len() {
                continue;
            }
            follower.has = Has::Told(released.len());
            let begin = from.checked_sub(1).and_then(|last| text_ends.get(last)).copied().unwrap_or(0);
            let delta = Delta {
                job: self.terms.job,
                from: u32::try_from(from).unwrap_or(u32::MAX),
                tokens: released[from..].to_vec(),
                text: text.get(begin..).unwrap_or_default().to_owned(),
            };
            deltas.push((follower.gateway.clone(), delta));
        }
        deltas
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn place(&self, assignment: AssignmentId) -> Option<usize> {
        self.told.iter().position(|told| told.assignment == assignment)
    }

    /// Returns whether what was released begins with what a gateway passed on.
    fn has_released(&self, passed_on: &PassedOn) -> bool {
        matches!(fit(&self.released, passed_on), Fit::Extends(_))
    }

    /// Releases what may go now, and makes its text. A text that can't be made goes with the whole answer.
    fn release(&mut self, terms: &StreamTerms) {
        if self.answer_text.is_none() {
            return;
        }
        let voices: Vec<Voice<'_>> = self.told.iter().map(Told::voice).collect();
        self.first = first(&voices, self.first, &self.released);
        let more = releasable(terms.release, &voices, terms.quorum, self.first, &self.released);
        if !more.is_empty() {
            let all = [&self.released[..], &more].concat();
            let agreeing = self.told.iter().filter(|told| told.slot.tokens().starts_with(&all));
            self.agreeing = agreeing.map(|told| told.assignment).collect();
        }
        self.push(more);
        for follower in &mut self.gateways {
            follower.has = follower.has.beside(&self.released);
        }
    }

    fn push(&mut self, more: Vec<TokenId>) {
        for token in more {
            let Some(cut) = self.answer_text.as_mut().and_then(|text| text.push(token).ok()) else {
                self.answer_text = None;
                return;
            };
            self.released.push(token);
            self.text.push_str(&cut.text);
            self.text_ends.push(self.text.len());
            if cut.is_complete {
                self.answer_text = None;
                return;
            }
        }
    }
}

/// Returns whether more may be released after a frame that came to this: also where a node began again, or lost its voice.
pub(super) const fn is_news(taken: Taken) -> bool {
    matches!(taken, Taken::Grown | Taken::Rerun | Taken::Fault)
}
