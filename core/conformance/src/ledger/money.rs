//! Checks that jobs are charged at the price of their acceptance, that no limit is exceeded, and that what was spent is what the
//! jobs cost.

use super::sample::{NEW, ended, new_job, succeeded, take, taken, verifier};
use super::{Halves, at, must};
use infera_ledger::{
    Accepted, AccountTerms, BatchAccepted, Cancelled, Charge, KeyChange, ModelPrice, NewJob, NewKey,
    OverLimit, Payer, Rotated, Rotation, Settled, Spending,
};
use infera_types::ids::{AccountId, Digest, JobId, KeyId, ModelName};
use infera_types::job::{End, Settlement};
use infera_types::money::{Payment, Price};
use tokio::task::JoinSet;

/// What sample jobs cost a token: a sample answer has 11 tokens of prompt and 3 of answer, and so costs 1,700.
const PRICE: Price = Price { prompt: 100_000, completion: 200_000 };

/// What is reserved for a sample job.
const RESERVED: u64 = 20 * 100 + 8 * 200;

/// What a sample answer costs.
const COST: u64 = 11 * 100 + 3 * 200;

const EMAIL: &str = "payer@example.org";

/// An account with one key.
struct Payers {
    account: AccountId,
    key: KeyId,
}

impl Payers {
    async fn new(ledger: &Halves) -> Self {
        let account = must(ledger.accounts.sign_up(EMAIL, None, at(0)).await).account;
        let key = NewKey::plain(Digest::of(b"payer"), account.clone(), "abcd");
        must(ledger.accounts.issue_key(&key, at(0)).await);
        Self { account, key: key.id }
    }

    /// Makes a job that may cost [`RESERVED`].
    fn job(&self) -> NewJob {
        let charge = Charge { price: PRICE, prompt_tokens: 20, completion_tokens: 8 };
        NewJob { key: Some(self.key.clone()), charge: Some(charge), ..new_job(&self.account) }
    }

    async fn spending(&self, ledger: &Halves) -> (Spending, Spending) {
        let account = must(ledger.keys.spending(&self.account, at(0)).await).account;
        let key = must(ledger.keys.key_spending(&self.key, at(0)).await);
        let listed = must(ledger.keys.keys_spending(&self.account, 9, at(0)).await);
        assert_eq!(listed.get(&self.key), Some(&key));
        (account, key)
    }
}

async fn limit(ledger: &Halves, limit: Option<u64>) {
    let account = must(ledger.keys.set_terms(EMAIL, AccountTerms::Limit(limit)).await);
    assert!(account.is_some());
}

async fn limit_key(ledger: &Halves, key: &KeyId, limit: Option<u64>) {
    let change = KeyChange { spend_limit: Some(limit), ..KeyChange::default() };
    assert!(must(ledger.keys.change_key(key, &change).await).is_some());
    // What says nothing of the limit leaves it as it is.
    assert!(must(ledger.keys.change_key(key, &KeyChange::default()).await).is_some());
    assert_eq!(must(ledger.keys.key_spending(key, at(0)).await).limit, limit);
}

/// A model of the catalogue has the price that was set last, and none once it is free.
pub async fn models_have_the_price_that_was_set_last(ledger: &Halves) {
    let entry = infera_ledger::CatalogueEntry {
        name: ModelName::new("b-model"),
        digests: Vec::new(),
        tokenizer: Digest::of(b"tokenizer"),
        context_max: 512,
        said_bytes_per_token: None,
        quantization: None,
        end_tokens: Vec::new(),
        reference_token_us: 1,
        bytes: None,
        created_ms: at(0),
        removed_ms: None,
    };
    let other = infera_ledger::CatalogueEntry { name: ModelName::new("a-model"), ..entry.clone() };
    for entry in [&entry, &other] {
        must(ledger.network.list_model(entry).await);
    }
    assert_eq!(must(ledger.network.prices().await), []);
    assert!(!must(ledger.network.set_price(&ModelName::new("no-model"), PRICE).await));
    let dearest = Price { prompt: Price::MAX, completion: 0 };
    for (entry, price) in [(&entry, dearest), (&entry, PRICE), (&other, dearest)] {
        assert!(must(ledger.network.set_price(&entry.name, price).await));
    }
    // Listing a model again, as its verifier does at each start, keeps its price.
    must(ledger.network.list_model(&entry).await);
    let priced =
        |entry: &infera_ledger::CatalogueEntry, price| ModelPrice { model: entry.name.clone(), price };
    assert_eq!(must(ledger.network.prices().await), [priced(&other, dearest), priced(&entry, PRICE)]);
    assert!(must(ledger.network.set_price(&other.name, Price::default()).await));
    assert_eq!(must(ledger.network.prices().await), [priced(&entry, PRICE)]);
}

/// What a job may cost is reserved until its end, and then what it costs is spent, once; only answers cost something.
pub async fn a_job_costs_what_it_was_accepted_for(ledger: &Halves) {
    let payers = Payers::new(ledger).await;
    let jobs = [payers.job(), payers.job(), payers.job()];
    for job in &jobs {
        assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
        // Sent again, it is the same job and reserves nothing more.
        assert_eq!(must(ledger.intake.accept(job.clone()).await), Accepted::Existing(job.id));
    }
    let free = NewJob { charge: None, ..payers.job() };
    assert_eq!(must(ledger.intake.accept(free.clone()).await), NEW);
    let sums = |spent, reserved| Spending { limit: None, spent, reserved };
    assert_eq!(payers.spending(ledger).await, (sums(0, 3 * RESERVED), sums(0, 3 * RESERVED)));
    let view = must(ledger.reader.job(&payers.account, jobs[0].id).await);
    assert_eq!(view.and_then(|view| view.price), Some(PRICE));
    let view = must(ledger.reader.job(&payers.account, free.id).await);
    assert_eq!(view.and_then(|view| view.price), None);

    for _ in 0..2 {
        must(ledger.owner.settle(&succeeded(&jobs[0])).await);
        must(ledger.owner.settle(&succeeded(&free)).await);
    }
    assert_eq!(payers.spending(ledger).await, (sums(COST, 2 * RESERVED), sums(COST, 2 * RESERVED)));
    let cancelled = must(ledger.intake.cancel(&payers.account, jobs[1].id, at(5)).await);
    assert!(matches!(cancelled, Cancelled::Now(_)));
    must(ledger.owner.settle(&ended(&jobs[2], End::Expired)).await);
    assert_eq!(payers.spending(ledger).await, (sums(COST, 0), sums(COST, 0)));
    let usage = must(ledger.keys.usage(&payers.account, 0, u64::MAX, 10).await);
    assert_eq!(usage.iter().map(|row| (row.requests, row.cost)).collect::<Vec<_>>(), [(2, COST)]);

    // A new month begins with nothing spent.
    let next = at(40 * 86_400_000);
    assert_eq!(must(ledger.keys.spending(&payers.account, next).await).account, sums(0, 0));
}

/// A job that may cost more than is left of the limit of its key or its account is refused and stores nothing, also with others;
/// a free one is accepted, and what ends makes room.
pub async fn a_limit_has_no_room_for_more(ledger: &Halves) {
    let payers = Payers::new(ledger).await;
    limit(ledger, Some(2 * RESERVED)).await;
    let (first, second, third) = (payers.job(), payers.job(), payers.job());
    let over = |payer, limit, used| Accepted::OverLimit(OverLimit { payer, limit, used, needed: RESERVED });
    for job in [&first, &second] {
        assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    }
    let by_account = over(Payer::Account, 2 * RESERVED, 2 * RESERVED);
    assert_eq!(must(ledger.intake.accept(third.clone()).await), by_account);
    assert_eq!(must(ledger.intake.accept(first.clone()).await), Accepted::Existing(first.id));
    assert_eq!(must(ledger.reader.job(&payers.account, third.id).await), None);
    let free = NewJob { charge: None, ..payers.job() };
    assert_eq!(must(ledger.intake.accept(free).await), NEW);

    must(ledger.owner.settle(&succeeded(&first)).await);
    must(ledger.owner.settle(&succeeded(&second)).await);
    let batch = vec![third.clone(), payers.job()];
    let refusal = over(Payer::Account, 2 * RESERVED, 2 * COST + RESERVED);
    let refused = must(ledger.batches.accept_all(batch).await);
    assert_eq!(refused, BatchAccepted::NoPlace { fitting: 1, refusal });
    assert_eq!(payers.spending(ledger).await.0.reserved, 0, "a batch reserves all or nothing");

    // The key's own limit counts first.
    limit_key(ledger, &payers.key, Some(2 * COST)).await;
    assert_eq!(must(ledger.intake.accept(third.clone()).await), over(Payer::Key, 2 * COST, 2 * COST));
    let keyless = NewJob { key: None, ..payers.job() };
    assert_eq!(must(ledger.intake.accept(keyless).await), NEW);
    limit_key(ledger, &payers.key, None).await;
    limit(ledger, None).await;
    assert_eq!(must(ledger.intake.accept(third).await), NEW);
    let nobody = must(ledger.keys.set_terms("no@example.org", AccountTerms::Pays(true)).await);
    assert_eq!(nobody, None);
}

/// However many callers accept at the same moment, no more is reserved than the limit, and in the end as much is spent as all
/// jobs cost together.
pub async fn a_limit_holds_among_many_callers(ledger: &Halves) {
    let payers = Payers::new(ledger).await;
    limit(ledger, Some(20 * RESERVED + 1)).await;
    let mut costs = 0;
    for round in 0..3 {
        let mut callers = JoinSet::new();
        for number in 0..64 {
            let job = payers.job();
            let (intake, batches) = (ledger.intake.clone(), ledger.batches.clone());
            callers.spawn(async move {
                let outcome = if number % 4 == 0 {
                    matches!(must(batches.accept_all(vec![job.clone()]).await), BatchAccepted::Stored(_))
                } else {
                    must(intake.accept(job.clone()).await) == NEW
                };
                outcome.then_some(job)
            });
        }
        let accepted: Vec<NewJob> = callers.join_all().await.into_iter().flatten().collect();
        let (account, key) = payers.spending(ledger).await;
        let reserved = RESERVED * accepted.len() as u64;
        assert_eq!((account.reserved, key.reserved), (reserved, reserved), "round {round}");
        assert!(account.spent + account.reserved <= 20 * RESERVED + 1, "round {round}: {account:?}");
        // No job was refused for which there was room.
        assert!(
            account.spent + account.reserved + RESERVED > 20 * RESERVED + 1,
            "round {round}: {account:?}"
        );

        let mut enders = JoinSet::new();
        for (place, job) in accepted.into_iter().enumerate() {
            let owner = ledger.owner.clone();
            let end = if place % 3 == 0 { ended(&job, End::Expired) } else { succeeded(&job) };
            costs += if place % 3 == 0 { 0 } else { COST };
            enders.spawn(async move { must(owner.settle(&end).await) });
        }
        assert!(enders.join_all().await.into_iter().all(|settled| settled == Settled::Now));
        let (account, key) = payers.spending(ledger).await;
        assert_eq!((account.spent, account.reserved), (costs, 0), "round {round}");
        assert_eq!((key.spent, key.reserved), (costs, 0), "round {round}");
        let usage = must(ledger.keys.usage(&payers.account, 0, u64::MAX, 10).await);
        assert_eq!(usage.iter().map(|row| row.cost).sum::<u64>(), costs, "round {round}");
    }
}

/// A verifier learns who pays for a job, as it was when the job was accepted.
pub async fn unpaid_jobs_are_known_to_their_owner(ledger: &Halves) {
    let payers = Payers::new(ledger).await;
    let owner = verifier(ledger, 60_000).await;
    let payment = async |job: NewJob| {
        assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
        taken(take(ledger, &owner, job.id, false, 1).await).payment
    };
    assert_eq!(payment(payers.job()).await, Payment::Unpaid);
    assert_eq!(payment(NewJob { charge: None, ..payers.job() }).await, Payment::Free);
    let before = payers.job();
    assert_eq!(must(ledger.intake.accept(before.clone()).await), NEW);
    must(ledger.keys.set_terms(EMAIL, AccountTerms::Pays(true)).await);
    assert!(must(ledger.keys.spending(&payers.account, at(0)).await).pays);
    assert_eq!(payment(payers.job()).await, Payment::Paid);
    let before = taken(take(ledger, &owner, before.id, false, 1).await).payment;
    assert_eq!(before, Payment::Unpaid, "as it was accepted");
    must(ledger.keys.set_terms(payers.account.as_str(), AccountTerms::Pays(false)).await);
    assert_eq!(payment(payers.job()).await, Payment::Unpaid);
}

/// Keys that replace each other have the limit of the first and spend from one purse, also while several of them are valid, and
/// whichever asked for what ends later.
pub async fn keys_that_replace_each_other_spend_from_one_purse(ledger: &Halves) {
    let payers = Payers::new(ledger).await;
    limit_key(ledger, &payers.key, Some(3 * RESERVED)).await;
    let (mut keys, mut id) = (vec![payers.key.clone()], payers.key.clone());
    for name in [b"second", b"third_"] {
        let successor = NewKey::plain(Digest::of(name), payers.account.clone(), "abcd");
        keys.push(successor.id.clone());
        let next = successor.id.clone();
        let rotation = Rotation { id, successor, until: at(500), live_max: 9 };
        assert_eq!(must(ledger.keys.rotate_key(&rotation, at(3)).await), Rotated::Done);
        id = next;
    }
    let job = |key: &KeyId| NewJob { key: Some(key.clone()), id: JobId::new(), ..payers.job() };
    let jobs: Vec<NewJob> = keys.iter().map(job).collect();
    for job in &jobs {
        assert_eq!(must(ledger.intake.accept(job.clone()).await), NEW);
    }
    let over = OverLimit { payer: Payer::Key, limit: 3 * RESERVED, used: 3 * RESERVED, needed: RESERVED };
    for key in &keys {
        assert_eq!(must(ledger.intake.accept(job(key)).await), Accepted::OverLimit(over));
        let together = vec![job(key), job(&payers.key)];
        let refused = must(ledger.batches.accept_all(together).await);
        assert_eq!(refused, BatchAccepted::NoPlace { fitting: 0, refusal: Accepted::OverLimit(over) });
    }
    for job in &jobs {
        must(ledger.owner.settle(&Settlement { settled_ms: at(4), ..succeeded(job) }).await);
    }
    let spent = Spending { limit: Some(3 * RESERVED), spent: 3 * COST, reserved: 0 };
    for key in &keys {
        assert_eq!(must(ledger.keys.key_spending(key, at(4)).await), spent);
    }
    let account = must(ledger.keys.spending(&payers.account, at(4)).await).account;
    assert_eq!((account.spent, account.reserved), (3 * COST, 0));
}
