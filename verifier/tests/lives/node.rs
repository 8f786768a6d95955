//! Nodes as tests play them: they speak the broker's messages, and their toy model's logits make them say what the
//! test wants, with numbers from the real sampler.

use std::sync::{Arc, Mutex};

use infera_broker::{Address, Broker as _, Fleeting as _, Published, topology};
use infera_ledger::{NetworkBook as _, NewNode, Registered};
use infera_model::chat::{RENDERING, prompt_hash};
use infera_sampling::{Noise, Rules, Said, Terms};
use infera_types::features::Features;
use infera_types::frames::{AnswerTokens, Attempt, TokensFrame};
use infera_types::ids::{AccountId, NodeId};
use infera_types::knobs::Knobs;
use infera_types::time::Timestamp;
use infera_types::{job::FinishReason, numbers::TokenId};
use infera_types::{
    messages::{
        Assignment, Heartbeat, Refusal, RefusalReason, Replica, ReplicaTiming, ServedModel, Version,
        Wire as _,
    },
    numbers::{NumericClass, Row},
};
use tokio::task::JoinHandle;

use super::network::{Network, eventually};

/// What a node says to an assignment.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Answer(Line),
    Refuse(RefusalReason),
    /// Nothing, until the test speaks for it.
    Silence,
}

/// An answer, and how it is told.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) tokens: Vec<TokenId>,
    /// Added to every logit but the best: another engine's numbers with the same choice.
    pub(crate) shift: f32,
    /// Said instead of the tokens' text: a lie that L0 finds.
    pub(crate) text: Option<String>,
    /// Chosen as if the request had no knobs.
    pub(crate) passes_over_knobs: bool,
    /// The run that it is of, where it was streamed.
    pub(crate) attempt: Option<Attempt>,
}

/// What honest nodes answer.
pub(crate) const RIGHT: [TokenId; 3] = [300, 301, 302];

pub(crate) fn right() -> Act {
    Act::Answer(line(&RIGHT))
}

/// One token changed, and everything else as if it were meant.
pub(crate) fn wrong(changed: TokenId) -> Act {
    Act::Answer(line(&[300, changed, 302]))
}

pub(crate) fn line(tokens: &[TokenId]) -> Line {
    Line { tokens: tokens.to_vec(), shift: 0.0, text: None, passes_over_knobs: false, attempt: None }
}

/// What a node announces beside its model.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    pub(crate) speaks: Version,
    pub(crate) features: Features,
    pub(crate) machine: Option<String>,
}

impl Default for Announced {
    fn default() -> Self {
        Self { speaks: Version::NEWEST, features: Features::default(), machine: None }
    }
}

/// An assignment as it came, with its message's version byte.
#[derive(Clone, Debug)]
struct Seen {
    assignment: Assignment,
    version_byte: u8,
}

/// A node at work.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    queue: String,
    class: NumericClass,
    announced: Announced,
    network: Arc<Network>,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Three honest-looking nodes of three owners; the first two act right, the third as told.
pub(crate) async fn three(network: &Arc<Network>, third: Act) -> [Node; 3] {
    [
        Node::start(network, "a", |_| right()).await,
        Node::start(network, "b", |_| right()).await,
        Node::start(network, "c", move |_| third.clone()).await,
    ]
}

impl Node {
    /// A node of its own owner, alive and with room; `act` is called with the number of assignments before.
    pub(crate) async fn start(
        network: &Arc<Network>,
        name: &str,
        act: impl Fn(usize) -> Act + Send + 'static,
    ) -> Self {
        let node = Self::register(network, name, act).await;
        // Verifiers that come later miss this one and wait for the next.
        node.speak().await;
        node
    }

    /// The same, with other announcements.
    pub(crate) async fn start_as(
        network: &Arc<Network>,
        name: &str,
        announced: Announced,
        act: impl Fn(usize) -> Act + Send + 'static,
    ) -> Self {
        let mut node = Self::register(network, name, act).await;
        node.announced = announced;
        node.speak().await;
        node
    }

    /// A node of this account, with other announcements.
    pub(crate) async fn start_for(
        network: &Arc<Network>,
        account: AccountId,
        name: &str,
        announced: Announced,
        act: impl Fn(usize) -> Act + Send + 'static,
    ) -> Self {
        let mut node = Self::register_for(network, account, name, act).await;
        node.announced = announced;
        node.speak().await;
        node
    }

    /// Registered, reading its queue, and silent.
    pub(crate) async fn register(
        network: &Arc<Network>,
        name: &str,
        act: impl Fn(usize) -> Act + Send + 'static,
    ) -> Self {
        let account = network.runner(name).await;
        Self::register_for(network, account, name, act).await
    }

    /// The same for an account that has nodes already.
    pub(crate) async fn register_for(
        network: &Arc<Network>,
        account: AccountId,
        name: &str,
        act: impl Fn(usize) -> Act + Send + 'static,
    ) -> Self {
        let new = NewNode {
            name: name.to_owned(),
            secret: infera_types::ids::Digest::of(name.as_bytes()),
            account: Some(account),
        };
        let registered = network.ledger.register_node(&new, Timestamp::now()).await.unwrap();
        let Registered::Node(record) = registered else { panic!("{registered:?}") };
        let queue = topology::node(&record.id, "test");
        network.broker.declare(&queue).await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let class = class(network);
        let speaker = Speaker { id: record.id.clone(), class: class.clone(), network: Arc::clone(network) };
        let task = tokio::spawn(work(speaker, queue.name.clone(), act, Arc::clone(&seen)));
        let (network, announced) = (Arc::clone(network), Announced::default());
        Self { id: record.id, queue: queue.name, class, announced, network, seen, task }
    }

    fn heartbeat(&self) -> Heartbeat {
        let model = ServedModel {
            numeric_class: self.class.clone(),
            rendering: RENDERING,
            slots: 16,
            free_slots: 16,
            features: self.announced.features.clone(),
        };
        Heartbeat {
            models: vec![model],
            queue: self.queue.clone(),
            machine: self.announced.machine.clone(),
            speaks: self.announced.speaks,
        }
    }

    /// A heartbeat, heard by whoever listens now.
    pub(crate) async fn speak(&self) {
        let address = topology::heartbeat_of(&self.id);
        self.network.broker.publish(&address, self.heartbeat().to_message("heartbeat")).await;
    }

    /// The assignments so far.
    pub(crate) fn seen(&self) -> Vec<Assignment> {
        self.seen.lock().unwrap().iter().map(|seen| seen.assignment.clone()).collect()
    }

    /// The version bytes of their messages.
    pub(crate) fn version_bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().iter().map(|seen| seen.version_byte).collect()
    }

    /// The assignment with this number, once it is there.
    pub(crate) async fn assignment(&self, number: usize) -> Assignment {
        eventually("the node is asked", || async { self.seen().get(number).cloned() }).await
    }

    fn speaker(&self) -> Speaker {
        Speaker { id: self.id.clone(), class: self.class.clone(), network: Arc::clone(&self.network) }
    }

    /// Sends a replica to the assignment's verifier.
    pub(crate) async fn reply(&self, assignment: &Assignment, line: &Line) -> Published {
        let to = topology::replica_to(&self.id, &assignment.verifier);
        self.speaker().say(&to, assignment, line).await
    }

    /// Tells the assignment's verifier the first tokens of an answer in progress.
    pub(crate) fn frame(&self, assignment: &Assignment, attempt: Attempt, tokens: &[TokenId]) {
        let told = AnswerTokens { assignment: assignment.id, attempt, from: 0, tokens: tokens.to_vec() };
        let message = TokensFrame { answers: vec![told] }.to_message(self.id.as_str());
        let to = topology::tokens_to(&self.id, &assignment.verifier);
        self.network.broker.publish_fleeting(&to, message);
    }

    /// Sends a replica to whichever verifier there is.
    pub(crate) async fn reply_to_any(&self, assignment: &Assignment, line: &Line) -> Published {
        self.speaker().say(&topology::replica_to_any(&self.id), assignment, line).await
    }
}

/// Keeps nodes alive for a verifier that starts when it likes.
pub(crate) fn keep_speaking(nodes: &[Node]) -> Chorus {
    let heartbeats: Vec<_> =
        nodes.iter().map(|node| (topology::heartbeat_of(&node.id), node.heartbeat())).collect();
    let network = nodes.first().map(|node| Arc::clone(&node.network)).unwrap();
    Chorus(tokio::spawn(async move {
        loop {
            for (address, heartbeat) in &heartbeats {
                network.broker.publish(address, heartbeat.to_message("heartbeat")).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }))
}

/// Heartbeats until dropped.
pub(crate) struct Chorus(JoinHandle<()>);

impl Drop for Chorus {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn class(network: &Network) -> NumericClass {
    NumericClass {
        model_digest: network.digest,
        provider: "cpu".to_owned(),
        hardware: "x86_64-test".to_owned(),
        runtime: "1.0".to_owned(),
        compute: "f32".to_owned(),
    }
}

struct Speaker {
    id: NodeId,
    class: NumericClass,
    network: Arc<Network>,
}

async fn work(
    speaker: Speaker,
    queue: String,
    act: impl Fn(usize) -> Act + Send + 'static,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut consumer = speaker.network.broker.consume(&queue, 16).await.unwrap();
    while let Some(delivery) = consumer.next().await {
        let assignment = Assignment::from_message(&delivery.message).unwrap();
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(Seen { assignment: assignment.clone(), version_byte: delivery.message.body[0] });
            seen.len() - 1
        };
        let to = topology::replica_to(&speaker.id, &assignment.verifier);
        match act(number) {
            Act::Answer(line) => {
                speaker.say(&to, &assignment, &line).await;
            }
            Act::Refuse(reason) => speaker.refuse(&assignment, reason).await,
            Act::Silence => {}
        }
        delivery.ack().await;
    }
}

impl Speaker {
    async fn say(&self, to: &Address, assignment: &Assignment, line: &Line) -> Published {
        let replica = replica(&self.network, &self.class, assignment, line);
        self.network
            .broker
            .publish(to, replica.to_message_in(assignment.speaks, assignment.id.to_string()))
            .await
    }

    async fn refuse(&self, assignment: &Assignment, reason: RefusalReason) {
        let refusal = Refusal {
            assignment_id: assignment.id,
            job_id: assignment.job_id,
            reason,
            detail: "as the test wants".to_owned(),
        };
        let to = topology::refusal_to(&self.id, &assignment.verifier);
        self.network
            .broker
            .publish(&to, refusal.to_message_in(assignment.speaks, assignment.id.to_string()))
            .await;
    }
}

/// A replica that says `line`: its logits make the sampler choose those tokens and then the end.
pub(crate) fn replica(
    network: &Network,
    class: &NumericClass,
    assignment: &Assignment,
    line: &Line,
) -> Replica {
    let prompt = network.chat.render(&assignment.request.messages, assignment.now_ms).unwrap();
    let request = &assignment.request;
    let (knobs, plain) = (&request.knobs, Knobs::default());
    let end_tokens = network.chat.end_tokens();
    let rules = Rules::new(&Terms {
        temperature: request.temperature,
        knobs: if line.passes_over_knobs { &plain } else { knobs },
        top_logprobs: request.top_logprobs,
        end_tokens,
        prompt: &prompt,
    });
    let (noise, mut said) = (Noise::new(&assignment.sample_key, assignment.choice), Said::default());
    let spelled = network.chat.answer_text(&line.tokens, knobs).unwrap();
    let end = if spelled.stopped_at.is_some() { None } else { Some(end_tokens[0]) };
    let numbers = line.tokens.iter().copied().chain(end).map(|wanted| {
        let row: Vec<f32> = (0..512_u32)
            .map(|token| {
                let base = f32::from(u16::try_from((token * 37 + 11) % 101).unwrap()) / 101.0;
                if token == wanted { 20.0 } else { base + line.shift }
            })
            .collect();
        let numbers = rules.choose(Row::Full(&row), &said, &noise).numbers;
        said.push(wanted);
        numbers
    });
    Replica {
        assignment_id: assignment.id,
        job_id: assignment.job_id,
        numeric_class: class.clone(),
        prompt_hash: prompt_hash(&prompt),
        prompt_tokens: u32::try_from(prompt.len()).unwrap(),
        // No more than the prompt can be believed, whatever a node says.
        cached_tokens: if assignment.cache_scope.is_some() { u32::MAX } else { 0 },
        rendering: RENDERING,
        attempt: line.attempt,
        tokens: line.tokens.clone(),
        text: line.text.clone().unwrap_or(spelled.text),
        finish_reason: FinishReason::Stop,
        numbers: numbers.collect(),
        timing: ReplicaTiming::default(),
    }
}
