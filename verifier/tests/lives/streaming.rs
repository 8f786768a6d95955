//! What a client of a streamed job sees before its end, of frames that nodes send while they write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use infera_broker::consuming::declare_and_consume;
use infera_broker::{Consumer, Fleeting as _, topology};
use infera_ledger::{Balance, JobIntake as _, Standing as _, Verdict};
use infera_model::chat::prompt_hash;
use infera_types::features::{Feature, Features};
use infera_types::frames::{DeltasFrame, PassedOn, Watch, Watched};
use infera_types::ids::JobId;
use infera_types::job::{JobRequest, Settlement, VerificationStatus};
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
            nodes.push(Self::node(&network, name).await);
        }
        let queue = topology::deltas(&network.gateway);
        let deltas = declare_and_consume(&*network.broker, &queue, 16).await.unwrap();
        let (chorus, verifier) = (keep_speaking(&nodes), network.verifier(config));
        Self { network, nodes, _chorus: chorus, deltas, verifier }
    }

    /// A node that says nothing by itself.
    async fn node(network: &Arc<Network>, name: &str) -> Node {
        let features = Features::default().with(Feature::Stream);
        let announced = Announced { features, ..Announced::default() };
        Node::start_as(network, name, announced, |_| Act::Silence).await
    }

    /// Submits a streamed job; returns it with what each node was asked.
    async fn ask(&self, release: Release) -> (JobId, Vec<Assignment>) {
        let job = self.submit(release).await;
        let mut asked = Vec::new();
        for node in &self.nodes {
            asked.push(node.assignment(0).await);
        }
        (job, asked)
    }

    async fn submit(&self, release: Release) -> JobId {
        let plain = self.network.request("What is 2 plus 2?");
        let request = JobRequest { stream: Some(release), ..plain };
        let body = serde_json::to_vec(&request).unwrap();
        let job = self.network.accept(&body, Ask::default()).await;
        self.network.notify(job).await;
        self.network.ledger.confirm(&[job], Timestamp::now()).await.unwrap();
        job
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

#[tokio::test]
async fn who_begins_again_has_missed_for_it_and_is_paid_for_its_answer() {
    let rig = Rig::new(quick()).await;
    let (job, asked) = rig.ask(Release::Agreed).await;
    rig.frame(0, &asked, 7, &RIGHT[..2]).await;
    rig.frame(0, &asked, 8, &RIGHT[..1]).await;
    rig.answer(0, &asked, 8, &RIGHT).await;
    rig.answer(1, &asked, 7, &RIGHT).await;
    rig.answer(2, &asked, 7, &RIGHT).await;
    assert_eq!(
        verification(&rig.network.end_of(job).await).replicas.asked,
        3,
        "nobody was asked in its place"
    );
    let verdicts = rig.network.verdicts(job).await;
    let of = |place: usize| {
        let own = verdicts.iter().filter(|(node, _)| *node == rig.nodes[place].id);
        own.map(|(_, verdict)| *verdict).collect::<Vec<_>>()
    };
    assert_eq!(of(0), [Verdict::Valid, Verdict::Missed]);
    assert_eq!((of(1), of(2)), (vec![Verdict::Valid], vec![Verdict::Valid]));
    let earned = rig.network.balance_of(&rig.nodes[0].id).await.millipoints;
    assert_eq!(earned, rig.network.balance_of(&rig.nodes[1].id).await.millipoints);
    rig.network.assert_replays().await;
}

/// A burst is dropped and forgotten; who goes on isn't asked any more, though it says that it has room.
#[tokio::test]
async fn who_floods_is_cut_off() {
    let rig = Rig::new(quick()).await;
    let (_, asked) = rig.ask(Release::Agreed).await;
    let counters = &rig.verifier.counters;
    let flood = |frames: u64| {
        for _ in 0..frames {
            rig.nodes[2].frame(&asked[2], 7, &RIGHT[..1]);
        }
    };
    flood(200);
    eventually("they are read or dropped", || async {
        (counters.frames.get() + counters.frames_too_fast.get() == 200).then_some(())
    })
    .await;
    assert_eq!((counters.frames.get(), counters.nodes_cut_off.get()), (50, 0), "a burst");
    eventually("it is cut off", || async {
        flood(500);
        (counters.nodes_cut_off.get() == 1).then_some(())
    })
    .await;
    // Its frames are read no more, and another is asked in its place.
    let read = counters.frames.get();
    flood(1);
    let fourth = [Rig::node(&rig.network, "d").await];
    let _chorus = keep_speaking(&fourth);
    rig.submit(Release::Agreed).await;
    fourth[0].assignment(0).await;
    assert_eq!((counters.frames.get(), rig.nodes[2].seen().len()), (read, 1));
}

/// Has a job's first owner show its client the first two tokens and die, and its next owner answer with these tokens, while the gateway
/// says what it has passed on, if it does. Returns the settlement and what the account owes.
async fn taken_over(answer: &[TokenId], says: bool) -> (Settlement, Balance) {
    let mut rig = Rig::new(quick()).await;
    let (job, asked) = rig.ask(Release::Agreed).await;
    rig.frame(0, &asked, 7, &RIGHT[..2]).await;
    rig.frame(1, &asked, 7, &RIGHT[..2]).await;
    assert_eq!(rig.told().await, BTreeMap::from([(0, RIGHT[..2].to_vec())]));
    let Rig { network, nodes, _chorus, verifier, .. } = rig;
    verifier.kill().await;
    let _second = network.verifier(quick());
    let passed_on = PassedOn { count: 2, sha256: prompt_hash(&RIGHT[..2]) };
    let watch =
        Watch { gateway: network.gateway.clone(), jobs: vec![Watched { job, passed_on, stop: false }] };
    let watching = async {
        loop {
            if says {
                let message = watch.to_message(network.gateway.as_str());
                network.broker.publish_fleeting(&topology::watching(&network.gateway), message);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answering = async {
        for node in &nodes {
            let asked = node.assignment(1).await;
            node.reply(&asked, &line(answer)).await;
        }
        let settlement = network.end_of(job).await;
        eventually("all have their verdicts", || async { network.is_closed(job).await.then_some(()) }).await;
        network.assert_replays().await;
        settlement
    };
    let settlement = tokio::select! {
        settlement = answering => settlement,
        () = watching => unreachable!("it never ends"),
    };
    let owed = network.ledger.balance(network.account.as_str()).await.unwrap();
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Valid).count() >= 2, "{verdicts:?}");
    (settlement, owed)
}

#[tokio::test]
async fn an_answer_that_goes_on_from_what_the_last_owner_showed_is_as_any_other() {
    let (settlement, owed) = taken_over(&RIGHT, true).await;
    assert_eq!(
        (tokens(&settlement), verification(&settlement).status),
        (&RIGHT[..], VerificationStatus::Verified)
    );
    assert_eq!(owed.completion_tokens, 3);
}

#[tokio::test]
async fn another_answer_than_the_last_owner_showed_is_disputed_and_costs_nothing() {
    let other = [RIGHT[0], 400, RIGHT[2]];
    let (settlement, owed) = taken_over(&other, true).await;
    assert_eq!(
        (tokens(&settlement), verification(&settlement).status),
        (&other[..], VerificationStatus::Disputed)
    );
    assert_eq!((owed.prompt_tokens, owed.completion_tokens, owed.postings), (0, 0, 1));
    // A gateway that says nothing has passed on nothing, as far as anybody knows.
    let (settlement, owed) = taken_over(&other, false).await;
    assert_eq!((verification(&settlement).status, owed.completion_tokens), (VerificationStatus::Verified, 3));
}
