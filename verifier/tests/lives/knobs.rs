//! Requests with knobs and with log-probabilities: how they are given to nodes, judged and answered.

use std::sync::Arc;

use infera_broker::{Broker as _, Published, topology};
use infera_ledger::Verdict;
use infera_types::features::{Feature, Features};
use infera_types::ids::{JobId, NodeId};
use infera_types::job::{Answer, End, FailureReason, FinishReason, JobRequest, Numbers, Settlement};
use infera_types::knobs::Knobs;
use infera_types::messages::{CapacitySummary, Wire as _};

use super::network::{Ask, Network, PATIENCE, eventually, failure, quick, verification};
use super::node::{Act, Announced, Line, Node, RIGHT, keep_speaking, line, right};

fn second() -> Announced {
    Announced { features: Features::default().with(Feature::Sampling2), ..Announced::default() }
}

/// Three nodes that can sample by the second version; the first two act right, the third as told.
async fn three(network: &Arc<Network>, third: Act) -> [Node; 3] {
    [
        Node::start_as(network, "a", second(), |_| right()).await,
        Node::start_as(network, "b", second(), |_| right()).await,
        Node::start_as(network, "c", second(), move |_| third.clone()).await,
    ]
}

/// A request whose answer ends before the last of the right tokens.
fn wishing(network: &Network) -> JobRequest {
    let knobs = Knobs {
        stop: vec![network.chat.decode(&RIGHT[2..]).unwrap()],
        top_k: Some(3),
        repetition_penalty: Some(1.2),
        min_tokens: 2,
        ..Knobs::default()
    };
    JobRequest { knobs, ..network.request("What is 2 plus 2?") }
}

async fn submit(network: &Network, request: &JobRequest, ask: Ask) -> JobId {
    let job = network.accept(&serde_json::to_vec(request).unwrap(), ask).await;
    network.notify(job).await;
    job
}

fn answer(settlement: &Settlement) -> &Answer {
    match &settlement.end {
        End::Succeeded { answer, .. } => answer,
        end => panic!("not succeeded: {end:?}"),
    }
}

fn verdict_on(verdicts: &[(NodeId, Verdict)], node: &Node) -> Vec<Verdict> {
    verdicts.iter().filter(|(id, _)| *id == node.id).map(|(_, verdict)| *verdict).collect()
}

#[tokio::test]
async fn an_answer_by_knobs_is_judged_by_them_and_cut_at_its_stop_string() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    for top_logprobs in [None, Some(5)] {
        let request = JobRequest { top_logprobs, ..wishing(&network) };
        let job = submit(&network, &request, Ask::quorum(3)).await;
        let settlement = network.end_of(job).await;
        assert_eq!(verification(&settlement).replicas.agreed, 3, "{settlement:?}");
        assert_eq!(verification(&settlement).numbers, Some(Numbers::Inside));
        let answer = answer(&settlement);
        assert_eq!((&answer.tokens[..], answer.finish_reason), (&RIGHT[..], FinishReason::Stop));
        assert_eq!(answer.text, network.chat.answer_text(&RIGHT, &request.knobs).unwrap().text);
        assert!(!answer.text.contains(&request.knobs.stop[0]));
        // The client gets numbers where it asks for them.
        let listed: Vec<_> = answer.numbers.iter().map(|row| (row.top.len(), row.likeliest.len())).collect();
        assert_eq!(listed, if top_logprobs.is_some() { vec![(3, 5); 3] } else { Vec::new() });
        let verdicts = network.verdicts(job).await;
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Valid), "{verdicts:?}");
        for node in &nodes {
            let asked = node.seen().into_iter().find(|assignment| assignment.job_id == job).unwrap();
            assert_eq!((asked.request.knobs, asked.choice), (request.knobs.clone(), 0));
        }
        // A successor judges by what the group has.
        let group = network.archived(job).await.settlement.group.unwrap();
        assert_eq!((&group.knobs, group.choice), (&request.knobs, 0));
        assert!(
            !group.prompt_tokens.is_empty() && group.prompt_tokens.is_sorted_by(|one, other| one < other)
        );
    }
    // Of a request whose knobs don't look at the prompt, no prompt is kept.
    let mut request = wishing(&network);
    request.knobs.repetition_penalty = None;
    let job = submit(&network, &request, Ask::quorum(3)).await;
    network.end_of(job).await;
    assert!(network.archived(job).await.settlement.group.unwrap().prompt_tokens.is_empty());
}

#[tokio::test]
async fn a_node_that_passes_over_the_knobs_or_a_stop_string_is_at_fault() {
    let beyond = [RIGHT[0], RIGHT[1], RIGHT[2], 303];
    for lie in [Line { passes_over_knobs: true, ..line(&RIGHT) }, line(&beyond), line(&RIGHT[..2])] {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, Act::Answer(lie.clone())).await;
        let _chorus = keep_speaking(&nodes);
        let _verifier = network.verifier(quick());
        let job = submit(&network, &wishing(&network), Ask::default()).await;
        assert_eq!(answer(&network.end_of(job).await).tokens, RIGHT);
        let verdicts = network.verdicts(job).await;
        // One that ends its turn earlier chose otherwise, which is no fault by itself.
        let is_short = lie.tokens.len() < RIGHT.len();
        let expected = if is_short { Verdict::Inconclusive } else { Verdict::Invalid };
        assert_eq!(verdict_on(&verdicts, &nodes[2]), [expected], "{lie:?}");
        assert_eq!(network.is_disputed(job).await, is_short);
    }
}

#[tokio::test]
async fn numbers_that_the_client_is_given_are_agreed_on() {
    let shifted = Line { shift: 0.5, ..line(&RIGHT) };
    for (top_logprobs, expected) in [(None, Verdict::Valid), (Some(0), Verdict::Inconclusive)] {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, Act::Answer(shifted.clone())).await;
        let _chorus = keep_speaking(&nodes);
        let fourth = [Node::start_as(&network, "d", second(), |_| right()).await];
        let _fourth_chorus = keep_speaking(&fourth);
        let _verifier = network.verifier(quick());
        // All four are heard.
        eventually("each is asked", || async {
            network.end_of(network.submit(Ask::default()).await).await;
            (!fourth[0].seen().is_empty() && !nodes[2].seen().is_empty()).then_some(())
        })
        .await;
        let request = JobRequest { top_logprobs, ..network.request("What is 2 plus 2?") };
        // Of four nodes three are drawn; sooner or later the third is among them.
        let mut drawn = None;
        for _ in 0..40 {
            let job = submit(&network, &request, Ask::quorum(3)).await;
            let settlement = network.end_of(job).await;
            if nodes[2].seen().iter().any(|assignment| assignment.job_id == job) {
                drawn = Some((job, settlement));
                break;
            }
        }
        let (job, settlement) = drawn.unwrap();
        let verdicts = network.verdicts(job).await;
        assert_eq!(verdict_on(&verdicts, &nodes[2]), [expected]);
        let (numbers, asked) = (verification(&settlement).numbers, verification(&settlement).replicas.asked);
        // Three agree on numbers, too, once one more is asked.
        let told = if top_logprobs.is_some() { (Numbers::Inside, 4) } else { (Numbers::Outside, 3) };
        assert_eq!((numbers, asked), (Some(told.0), told.1));
        assert_eq!(answer(&settlement).numbers.len(), if top_logprobs.is_some() { 4 } else { 0 });
    }
}

#[tokio::test]
async fn numbers_that_differ_are_no_consensus_where_the_client_is_given_them() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, Act::Answer(Line { shift: 0.5, ..line(&RIGHT) })).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let request = JobRequest { top_logprobs: Some(2), ..network.request("What is 2 plus 2?") };
    let waits = Ask { synchronous: true, ..Ask::quorum(3) };
    let job = submit(&network, &request, waits).await;
    assert_eq!(failure(&network.end_of(job).await), FailureReason::NoConsensus);
    let verdicts = network.verdicts(job).await;
    assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Inconclusive), "{verdicts:?}");
}

#[tokio::test]
async fn what_too_few_nodes_can_do_is_named_and_told_to_gateways() {
    let network = Arc::new(Network::new().await);
    let queue = topology::completions(&network.gateway);
    network.broker.declare(&queue).await.unwrap();
    let mut told = network.broker.consume(&queue.name, 9).await.unwrap();
    let nodes = [
        Node::start_as(&network, "a", second(), |_| right()).await,
        Node::start_as(&network, "b", second(), |_| right()).await,
        Node::start(&network, "c", |_| right()).await,
    ];
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let mut hear = async |owners: u32, features: &str| {
        let heard = async {
            loop {
                let delivery = told.next().await.unwrap();
                let summary = CapacitySummary::from_message(&delivery.message);
                delivery.ack().await;
                let Ok(summary) = summary else { continue };
                if let Some(model) = summary.models.first().filter(|model| model.owners == owners) {
                    assert_eq!(model.features.clone().unwrap().to_string(), features);
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap();
    };
    hear(3, "temperature, seed").await;
    let waits = Ask { synchronous: true, ..Ask::default() };
    let job = submit(&network, &wishing(&network), waits).await;
    let End::Failed { reason, message } = network.end_of(job).await.end else { panic!("no failure") };
    assert_eq!(reason, FailureReason::InsufficientNodes);
    assert!(message.contains("3 are needed with sampling/2."), "{message}");
    // Of two replicas that are wanted, two can be had; a plain request has three.
    let job = submit(&network, &network.request("What is 2 plus 2?"), waits).await;
    assert_eq!(answer(&network.end_of(job).await).tokens, RIGHT);

    let job = submit(&network, &wishing(&network), Ask::quorum(3)).await;
    let fourth = [Node::start_as(&network, "d", second(), |_| right()).await];
    let _fourth_chorus = keep_speaking(&fourth);
    assert_eq!(verification(&network.end_of(job).await).replicas.agreed, 3);
    assert_eq!(nodes[2].seen().len(), 1, "the plain one alone");
    hear(4, "temperature, sampling/2, seed").await;
}

/// The successor has no request any more: it judges by the group's knobs, its prompt's tokens, and the answer's numbers.
#[tokio::test]
async fn a_replica_by_knobs_for_a_dead_owner_is_scored_by_another() {
    for (said, expected) in [(line(&RIGHT), Verdict::Valid), (line(&[300, 301, 400]), Verdict::Inconclusive)]
    {
        let network = Arc::new(Network::new().await);
        let nodes = three(&network, Act::Silence).await;
        let _chorus = keep_speaking(&nodes);
        let first = network.verifier(quick());
        let request = JobRequest { top_logprobs: Some(4), ..wishing(&network) };
        let job = submit(&network, &request, Ask::default()).await;
        network.end_of(job).await;
        let late = nodes[2].assignment(0).await;
        first.kill().await;
        eventually("its queue is gone", || async {
            (nodes[2].reply(&late, &said).await == Published::Unroutable).then_some(())
        })
        .await;
        let _second = network.verifier(quick());
        assert_eq!(nodes[2].reply_to_any(&late, &said).await, Published::Confirmed);
        eventually("it is posted", || async {
            (network.balance_of(&nodes[2].id).await.postings == 1).then_some(())
        })
        .await;
        let is_valid = expected == Verdict::Valid;
        assert_eq!(network.balance_of(&nodes[2].id).await.millipoints > 0, is_valid);
        assert_eq!(network.is_disputed(job).await, !is_valid, "another answer, and no fault");
    }
}
