//! Checks the pools of nodes to which keys' jobs and single jobs may go.

use super::groups::account;
use super::sample::{new_job, take, taken, verifier};
use super::{Halves, at, must};
use infera_ledger::{Accepted, HeldQuestion, NewJob, NewKey, NodePool, Standby, Turn};
use infera_types::ids::{AccountId, Digest, GroupId};
use infera_types::service::Lane;

/// Without a word a key's jobs go to all nodes; a key that is rotated hands its pool on, so that no job goes elsewhere by it.
pub async fn a_keys_pool_goes_on_to_its_successor(ledger: &Halves) {
    let account = account(ledger, "owner").await;
    let key = NewKey::plain(Digest::of(b"key"), account.clone(), "abcd");
    must(ledger.accounts.issue_key(&key, at(1)).await);
    let pool = async |key: &NewKey| must(ledger.groups.key_pool(&key.id).await);
    assert_eq!(pool(&key).await, NodePool::Open);
    let (own, group) = (NodePool::Account(account.clone()), NodePool::Group(GroupId::fresh()));
    for wanted in [&group, &NodePool::Open, &own] {
        assert!(must(ledger.groups.set_key_pool(&key.id, wanted).await));
        assert_eq!(pool(&key).await, *wanted);
    }
    let successor = NewKey::plain(Digest::of(b"next"), account, "efgh");
    super::keys::replace(ledger, &key.id, &successor).await;
    assert_eq!((pool(&key).await, pool(&successor).await), (own.clone(), own));
    must(ledger.keys.end_key(&key.id, at(3)).await);
    assert!(!must(ledger.groups.set_key_pool(&key.id, &group).await), "it is revoked");
    let unknown = NewKey::plain(Digest::of(b"unknown"), AccountId::fresh(), "ijkl");
    assert_eq!(pool(&unknown).await, NodePool::Open);
}

/// A job's pool stays with it to its verifier. One that is given back waits for its turn again, which an ordinary one doesn't.
pub async fn a_job_keeps_its_pool_and_is_held_again_when_it_is_released(ledger: &Halves) {
    let account = AccountId::fresh();
    let pool = NodePool::Account(account.clone());
    let standby = Standby::never_held(&account).in_pool(&pool);
    let job = NewJob { standby, ..new_job(&account) };
    assert_eq!(must(ledger.intake.accept(job.clone()).await), Accepted::New { is_held: false });
    let owner = verifier(ledger, 60_000).await;
    let own = taken(take(ledger, &owner, job.id, false, 1).await);
    assert_eq!((&own.pool, own.lane, own.policy), (&pool, Lane::Own, job.policy));

    let question =
        HeldQuestion { model: job.model.clone(), lane: Lane::Own, after: None, flows_max: 9, jobs_max: 9 };
    assert_eq!(must(ledger.feeding.held(&question, at(2)).await), []);
    must(ledger.owner.release(&owner, &[job.id], at(3)).await);
    let flows = must(ledger.feeding.held(&question, at(4)).await);
    let held = flows.iter().flat_map(|flow| &flow.jobs);
    let held: Vec<_> = held.map(|held| (held.id, held.replicas, held.is_awaited)).collect();
    assert_eq!(held, [(job.id, job.policy.replicas, true)]);
    assert_eq!(flows.first().map(|flow| NodePool::of_share(flow.key.share.as_str())), Some(pool.clone()));
    let waiting = must(ledger.feeding.waiting(9).await);
    assert_eq!(
        waiting.iter().map(|kind| (kind.lane, kind.offered, kind.held)).collect::<Vec<_>>(),
        [(Lane::Own, 0, 1)]
    );
    let turn = Turn { id: job.id, charged_tokens: 1 };
    assert_eq!(must(ledger.feeding.offer(&[turn], at(5)).await), [job.id]);
    assert_eq!(taken(take(ledger, &owner, job.id, false, 6).await).pool, pool);
}
