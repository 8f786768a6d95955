//! Tells verifiers the tokens of streamed answers while they are being written, in frames that may be lost. At most one frame a
//! tick goes to each verifier, with all its answers; only an answer's first token doesn't wait for the tick. An answer's first
//! frame and every 20th begin at its first token, which mends what was lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_broker::{Broker, topology};
use infera_types::frames::{AnswerTokens, Attempt, TokensFrame};
use infera_types::ids::{AssignmentId, NodeId, VerifierId};
use infera_types::messages::{Assignment, MESSAGE_SIZE_MAX_BYTES, Wire as _};
use infera_types::numbers::TokenId;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pause between two frames to one verifier: a reader sees no difference to none, and a message costs the broker 0.1 ms.
const TICK: Duration = Duration::from_millis(30);

/// The same while many answers are being written: what a node sends then is bounded by the answers, not by the ticks.
const TICK_UNDER_LOAD: Duration = Duration::from_millis(100);

/// How many answers are many.
const MANY: usize = 32;

/// The least time between two frames that don't wait for the tick. With one frame each tick that keeps a node below the 50
/// frames a second that a verifier reads of it.
const FIRST_TOKENS_APART: Duration = Duration::from_millis(70);

/// Every so manieth frame of an answer begins at its first token.
const WHOLE_EVERY: u32 = 20;

/// The most bytes of a frame's tokens, as JSON writes them at most: half of what the broker takes.
const FRAME_MAX_BYTES: usize = MESSAGE_SIZE_MAX_BYTES / 2;

/// What a run has written so far.
#[derive(Debug)]
pub(crate) struct Progress {
    attempt: Attempt,
    tokens: Mutex<Vec<TokenId>>,
    bell: Arc<Bell>,
}

/// Says that there are new tokens.
#[derive(Debug, Default)]
struct Bell {
    news: Notify,
    /// Whether an answer has its first token.
    has_first: AtomicBool,
    first: Notify,
}

impl Progress {
    /// Returns the run's name in frames.
    pub(crate) const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Adds the next token.
    pub(crate) fn push(&self, token: TokenId) {
        let mut tokens = lock(&self.tokens);
        tokens.push(token);
        if tokens.len() == 1 {
            self.bell.has_first.store(true, Ordering::Relaxed);
            self.bell.first.notify_one();
        }
        self.bell.news.notify_one();
    }
}

/// An assignment whose verifier is told its answer's tokens.
#[derive(Debug)]
struct Streamed {
    verifier: VerifierId,
    progress: Arc<Progress>,
    /// How many tokens were told.
    told: usize,
    frames: u32,
}

impl Streamed {
    /// Returns what is told next, if there is anything new, and counts it as told.
    fn next(&mut self, assignment: AssignmentId) -> Option<AnswerTokens> {
        let tokens = lock(&self.progress.tokens);
        if tokens.len() <= self.told {
            return None;
        }
        let from = if self.frames.is_multiple_of(WHOLE_EVERY) { 0 } else { self.told };
        self.told = tokens.len();
        self.frames = self.frames.saturating_add(1);
        Some(AnswerTokens {
            assignment,
            attempt: self.progress.attempt,
            from: u32::try_from(from).unwrap_or(u32::MAX),
            tokens: tokens[from..].to_vec(),
        })
    }
}

/// Frames the answers of one node.
#[derive(Debug)]
pub(crate) struct Framer {
    node: NodeId,
    broker: Arc<dyn Broker>,
    /// In the order of ids, so that frames are the same whatever the map.
    streamed: Mutex<BTreeMap<AssignmentId, Streamed>>,
    bell: Arc<Bell>,
}

impl Framer {
    /// Makes the framer of a node. Nothing is sent before [`Framer::run`].
    pub(crate) fn new(node: NodeId, broker: Arc<dyn Broker>) -> Arc<Self> {
        Arc::new(Self { node, broker, streamed: Mutex::default(), bell: Arc::default() })
    }

    /// Begins a run that is told as it goes on.
    pub(crate) fn begin(&self) -> Arc<Progress> {
        let attempt = Timestamp::now().as_millis();
        Arc::new(Progress { attempt, tokens: Mutex::default(), bell: Arc::clone(&self.bell) })
    }

    /// Tells an assignment's verifier what a run writes, until the returned value is dropped.
    pub(crate) fn tell(self: &Arc<Self>, assignment: &Assignment, progress: &Arc<Progress>) -> Telling {
        let (verifier, progress) = (assignment.verifier.clone(), Arc::clone(progress));
        let streamed = Streamed { verifier, progress, told: 0, frames: 0 };
        lock(&self.streamed).insert(assignment.id, streamed);
        // Another assignment may have begun the run.
        self.bell.news.notify_one();
        Telling { framer: Arc::clone(self), assignment: assignment.id }
    }

    /// Sends frames until the shutdown.
    pub(crate) async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let mut last_first = None::<Instant>;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.bell.news.notified() => {}
            }
            // Told with all the others.
            self.bell.has_first.store(false, Ordering::Relaxed);
            self.send(|_| true);
            let until =
                Instant::now() + if lock(&self.streamed).len() > MANY { TICK_UNDER_LOAD } else { TICK };
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(until) => break,
                    () = shutdown.cancelled() => return,
                    () = self.bell.first.notified() => {}
                }
                let is_apart = last_first.is_none_or(|last| last.elapsed() >= FIRST_TOKENS_APART);
                if is_apart
                    && self.bell.has_first.swap(false, Ordering::Relaxed)
                    && self.send(|streamed| streamed.frames == 0)
                {
                    last_first = Some(Instant::now());
                }
            }
        }
    }

    /// Sends what is new of the answers that `is_due` picks. Returns whether there was anything.
    fn send(&self, is_due: impl Fn(&Streamed) -> bool) -> bool {
        let mut frames: BTreeMap<VerifierId, Vec<AnswerTokens>> = BTreeMap::new();
        {
            let mut streamed = lock(&self.streamed);
            for (assignment, one) in streamed.iter_mut().filter(|(_, one)| is_due(one)) {
                if let Some(answer) = one.next(*assignment) {
                    frames.entry(one.verifier.clone()).or_default().push(answer);
                }
            }
        }
        let has_news = !frames.is_empty();
        for (verifier, answers) in frames {
            self.send_to(&verifier, answers);
        }
        has_news
    }

    fn send_to(&self, verifier: &VerifierId, answers: Vec<AnswerTokens>) {
        let address = topology::tokens_to(&self.node, verifier);
        let publish = |answers| {
            let message = TokensFrame { answers }.to_message(self.node.as_str());
            // What is dropped is told again with a later frame, or with the answer.
            let _ = self.broker.publish_fleeting(&address, message);
        };
        let (mut some, mut bytes) = (Vec::new(), 0);
        for answer in answers {
            let own = 128 + 11 * answer.tokens.len();
            if bytes + own > FRAME_MAX_BYTES && !some.is_empty() {
                publish(std::mem::take(&mut some));
                bytes = 0;
            }
            bytes += own;
            some.push(answer);
        }
        publish(some);
    }
}

/// Has an assignment told; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Telling {
    framer: Arc<Framer>,
    assignment: AssignmentId,
}

impl Drop for Telling {
    fn drop(&mut self) {
        lock(&self.framer.streamed).remove(&self.assignment);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds a lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use infera_broker::memory::MemoryBroker;
    use infera_broker::{Consumer, consuming::declare_and_consume};

    use super::*;
    use crate::assignment::tests_of_answers::assignment;

    async fn frame(consumer: &mut Box<dyn Consumer>) -> Option<TokensFrame> {
        let delivery = tokio::time::timeout(Duration::from_secs(5), consumer.next()).await.ok()??;
        assert_eq!(delivery.routing_key, "n.tokens.v1");
        TokensFrame::from_message(&delivery.message).ok()
    }

    /// Returns a running framer and what a verifier hears of it.
    async fn rig() -> (Arc<Framer>, Box<dyn Consumer>, Shutdown) {
        let broker = MemoryBroker::new();
        let queue = topology::tokens(&VerifierId::new("v1"));
        let consumer = declare_and_consume(&*broker, &queue, 16).await.unwrap();
        let framer = Framer::new(NodeId::new("n"), broker);
        let shutdown = Shutdown::new();
        tokio::spawn(Arc::clone(&framer).run(shutdown.clone()));
        (framer, consumer, shutdown)
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_told_as_they_come_and_whole_now_and_then() {
        let (framer, mut consumer, _shutdown) = rig().await;
        let assignment = assignment(1);
        let progress = framer.begin();
        let _telling = framer.tell(&assignment, &progress);
        let mut froms = Vec::new();
        for token in 0..45 {
            progress.push(token);
            let heard = frame(&mut consumer).await.unwrap().answers;
            assert_eq!(heard.len(), 1);
            let answer = &heard[0];
            assert_eq!((answer.assignment, answer.attempt), (assignment.id, progress.attempt()));
            let end = answer.from as usize + answer.tokens.len();
            assert_eq!((end, answer.tokens.last()), (token as usize + 1, Some(&token)));
            froms.push(answer.from);
        }
        let whole: Vec<usize> = (0..45).filter(|frame| froms[*frame] == 0).collect();
        assert_eq!(whole, [0, 20, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_share_a_tick_and_a_first_token_does_not_wait_for_it() {
        let (framer, mut consumer, _shutdown) = rig().await;
        let progresses = [framer.begin(), framer.begin(), framer.begin()];
        let assignments = [1, 2, 3].map(assignment);
        let _telling: Vec<Telling> = assignments
            .iter()
            .zip(&progresses)
            .map(|(assignment, progress)| framer.tell(assignment, progress))
            .collect();
        progresses[0].push(1);
        assert_eq!(frame(&mut consumer).await.unwrap().answers.len(), 1);
        let began = Instant::now();
        progresses[0].push(2);
        progresses[1].push(7);
        let first = frame(&mut consumer).await.unwrap().answers;
        assert!(began.elapsed() < TICK / 2, "{:?}", began.elapsed());
        assert_eq!((first.len(), first[0].assignment), (1, assignments[1].id));
        // The next first token comes too soon after that for a frame of its own.
        progresses[2].push(9);
        let rest = frame(&mut consumer).await.unwrap().answers;
        assert!(began.elapsed() >= TICK / 2, "{:?}", began.elapsed());
        assert_eq!(
            rest.iter().map(|answer| answer.assignment).collect::<std::collections::BTreeSet<_>>().len(),
            2
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_streamed_any_more_is_not_told() {
        let (framer, mut consumer, _shutdown) = rig().await;
        let (one, other) = (framer.begin(), framer.begin());
        let gone = framer.tell(&assignment(1), &one);
        let stays = assignment(2);
        let _telling = framer.tell(&stays, &other);
        drop(gone);
        one.push(1);
        other.push(2);
        let heard = frame(&mut consumer).await.unwrap().answers;
        assert_eq!(heard.iter().map(|answer| answer.assignment).collect::<Vec<_>>(), [stays.id]);
    }
}
