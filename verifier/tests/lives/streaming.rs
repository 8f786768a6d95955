//! What a client of a streamed job sees before its end, of frames that nodes send while they write.

use std::collections::BTreeMap;
use std::sync::Arc;

use infera_broker::consuming::declare_and_consume;
use infera_broker::{Consumer, topology};
use infera_ledger::JobIntake as _;
use infera_types::features::{Feature, Features};
use infera_types::frames::DeltasFrame;
use infera_types::ids::JobId;
use infera_types::job::JobRequest;
use infera_types::messages::{Assignment, Wire as _};
use infera_types::numbers::TokenId;
use infera_types::request::Release;
use infera_types::time::Timestamp;
use infera_verifier::Config;

use super::network::{Ask, Network, PATIENCE, Running, eventually, quick, tokens, verification};
use super::node::{Act, Announced, Chorus, Line, Node, RIGHT, keep_speaking, line};

/// A network with nodes that say nothing by themselves, and what its gateway hears.
struct Rig {
    network: Arc<Network>,
    nodes: Vec<Node>,
    _chorus: Chorus,
    deltas: Box<dyn Consumer>,
    verifier: Running,
}

impl Rig {
    async fn new(config: Config) -> Self {
        let network = Arc::new(Network::new().await);
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"] {
            let features = Features::default().with(Feature::Stream);
            let announced = Announced { features, ..Announced::default() };
            nodes.push(Node::start_as(&network, name, announced, |_| Act::Silence).await);
        }
        let queue = topology::deltas(&network.gateway);
        let deltas = declare_and_consume(&*network.broker, &queue, 16).await.unwrap();
        let (chorus, verifier) = (keep_speaking(&nodes), network.verifier(config));
        Self { network, nodes, _chorus: chorus, deltas, verifier }
    }

    /// Submits a streamed job; returns it with what each node was asked.
    async fn ask(&self, release: Release) -> (JobId, Vec<Assignment>) {
        let plain = self.network.request("What is 2 plus 2?");
        let request = JobRequest { stream: Some(release), ..plain };
        let body = serde_json::to_vec(&request).unwrap();
        let job = self.network.accept(&body, Ask::default()).await;
        self.network.notify(job).await;
        self.network.ledger.confirm(&[job], Timestamp::now()).await.unwrap();
        let mut asked = Vec::new();
        for node in &self.nodes {
            asked.push(node.assignment(0).await);
        }
        (job, asked)
    }

    /// Has a node frame its answer's first tokens, until the verifier has read it.
    async fn frame(&self, place: usize, asked: &[Assignment], attempt: u64, tokens: &[TokenId]) {
        let read = || self.verifier.counters.frames.get();
        let before = read();
        self.nodes[place].frame(&asked[place], attempt, tokens);
        eventually("the frame is read", || async { (read() > before).then_some(()) }).await;
    }

    async fn answer(&self, place: usize, asked: &[Assignment], attempt: u64, tokens: &[TokenId]) {
        let answer = Line { attempt: Some(attempt), ..line(tokens) };
        self.nodes[place].reply(&asked[place], &answer).await;
    }

    /// Returns what the gateway was told next, by its position.
    async fn told(&mut self) -> BTreeMap<u32, Vec<TokenId>> {
        let delivery = tokio::time::timeout(PATIENCE, self.deltas.next()).await.unwrap().unwrap();
        let frame = DeltasFrame::from_message(&delivery.message).unwrap();
        frame.deltas.into_iter().map(|delta| (delta.from, delta.tokens)).collect()
    }
}

#[tokio::test]
async fn what_two_owners_say_is_shown_and_binds() {
    let mut rig = Rig::new(quick()).await;
    let (job, asked) = rig.ask(Release::Agreed).await;
    rig.frame(0, &asked, 7, &RIGHT[..1]).await;
    rig.frame(1, &asked, 7, &[400]).await;
    rig.frame(2, &asked, 7, &RIGHT[..2]).await;
    assert_eq!(rig.told().await, BTreeMap::from([(0, vec![RIGHT[0]])]));
    // Begun again, with other tokens.
    rig.frame(1, &asked, 8, &RIGHT[..2]).await;
    assert_eq!(rig.told().await, BTreeMap::from([(1, vec![RIGHT[1]])]));
    // Two that agree with each other can't unsay what was shown.
    rig.answer(0, &asked, 7, &RIGHT).await;
    rig.answer(1, &asked, 8, &RIGHT).await;
    let settlement = rig.network.end_of(job).await;
    assert_eq!((tokens(&settlement), verification(&settlement).replicas.agreed), (&RIGHT[..], 2));
}
