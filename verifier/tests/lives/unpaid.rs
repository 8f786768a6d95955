//! What a job's nodes earn where its model has a price.

use std::sync::Arc;

use infera_ledger::{AccountTerms, Charge, JobIntake as _, NewJob, PostingEntry, SpendBook as _, Verdict};
use infera_types::money::Price;

use super::network::{Ask, Network, quick, verdicts_in};
use super::node::{keep_speaking, right, three};

/// The same answers are VALID and cost the same, whether or not their account pays; only those of one that pays earn points.
#[tokio::test]
async fn only_paid_jobs_earn_points_where_the_model_has_a_price() {
    let network = Arc::new(Network::new().await);
    let nodes = three(&network, right()).await;
    let _chorus = keep_speaking(&nodes);
    let _verifier = network.verifier(quick());
    let request = serde_json::to_vec(&network.request("What is 2 plus 2?")).unwrap();
    let price = Price { prompt: 1, completion: 1_000_000 };
    for (has_price, pays, earns) in
        [(false, false, true), (true, false, false), (true, true, true), (true, false, false)]
    {
        let terms = AccountTerms::Pays(pays);
        assert!(network.ledger.set_terms("client@example.org", terms).await.unwrap().is_some());
        let charge = has_price.then_some(Charge { price, prompt_tokens: 8, completion_tokens: 8 });
        let job = NewJob { charge, ..network.new_job(&request, Ask::quorum(3)) };
        let id = job.id;
        network.ledger.accept(job).await.unwrap();
        network.notify(id).await;
        let record = network.archived(id).await;
        let verdicts = verdicts_in(&record.postings);
        assert_eq!(verdicts.len(), 3);
        assert!(verdicts.iter().all(|(_, verdict)| *verdict == Verdict::Valid));
        for posting in &record.postings {
            if let PostingEntry::Verdict { millipoints, .. } = posting.entry {
                assert_eq!(millipoints > 0, earns, "price {has_price}, pays {pays}: {posting:?}");
            }
        }
    }
    network.assert_replays().await;
}
