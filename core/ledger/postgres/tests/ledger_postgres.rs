//! Tests every promise of the ledger's seam on a real PostgreSQL, and the promises that only a shared database makes:
//! unknown commits are reported as such, processes agree, connections may end, and a newer schema is left alone.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "ledger_postgres/backfill.rs"]
mod backfill;
#[path = "ledger_postgres/before.rs"]
mod before;
#[path = "ledger_postgres/cutting.rs"]
mod cutting;
#[path = "ledger_postgres/ends.rs"]
mod ends;
#[path = "ledger_postgres/erasing.rs"]
mod erasing;
#[path = "ledger_postgres/packing.rs"]
mod packing;
#[path = "ledger_postgres/planning.rs"]
mod planning;
#[path = "ledger_postgres/schema.rs"]
mod schema;
#[path = "ledger_postgres/secured.rs"]
mod secured;
#[path = "ledger_postgres/taking.rs"]
mod taking;
#[path = "ledger_postgres/unreadable.rs"]
mod unreadable;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use infera_conformance::ledger::Halves;
use infera_ledger::{
    Accepted, Idempotency, JobIntake as _, JobOwner as _, JobReader as _, LedgerError, Metadata, NewJob,
    Posting, PostingEntry, Room, Settled, Standby, Standing as _, Sweeping as _, Verdict, job_state,
};
use infera_ledger_postgres::{PostgresConfig, PostgresLedger};
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, Digest, GatewayId, JobId, ModelName, NodeId, VerifierId};
use infera_types::job::{End, Settlement, VerificationPolicy};
use infera_types::time::Timestamp;
use tokio::task::JoinSet;

use self::cutting::CuttingProxy;
use self::schema::{Schema, connect, execute, server};

struct Temporary {
    halves: Halves,
    _schema: Schema,
}

impl Deref for Temporary {
    type Target = Halves;

    fn deref(&self) -> &Halves {
        &self.halves
    }
}

async fn temporary() -> Temporary {
    let schema = Schema::make().await;
    Temporary { halves: Halves::of(&schema.ledger().await), _schema: schema }
}

infera_conformance::ledger_conformance!(temporary());

fn now() -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000)
}

fn new_job(account: &AccountId) -> NewJob {
    NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: account.clone(),
        model: ModelName::new("m"),
        request: vec![b'x'; 1024],
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: false,
        accepted_ms: now(),
        deadline_ms: now().after(Duration::from_secs(3_600)),
        epoch: 1,
        idempotency: None,
        waiting_max: u32::MAX,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(account),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge: None,
    }
}

fn ended(job: &NewJob, end: End) -> Settlement {
    Settlement {
        job_id: job.id,
        account: job.account.clone(),
        model: job.model.clone(),
        gateway: job.gateway.clone(),
        end,
        group: None,
        settled_ms: now(),
    }
}

/// If the answer to a COMMIT is lost on its way, the outcome is reported as unknown, and reading back shows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_unknown_and_read_back() {
    let schema = Schema::make().await;
    let proxy = CuttingProxy::start(&server()).await;
    let config = PostgresConfig::new(schema.within(&proxy.url));
    let ledger = PostgresLedger::connect(&config).await.expect("a ledger");
    let account = AccountId::fresh();
    assert_eq!(
        ledger.accept(new_job(&account)).await.expect("through the proxy"),
        Accepted::New { is_held: false }
    );

    let job = new_job(&account);
    proxy.cut_after_the_next_commit();
    let lost = ledger.accept(job.clone()).await;
    assert!(matches!(lost, Err(LedgerError::Unknown(_))), "{lost:?}");
    // The ledger recovers by itself, and the job of the lost answer is stored once.
    assert!(ledger.job(&account, job.id).await.expect("reading back").is_some());
    assert_eq!(ledger.accept(job.clone()).await.expect("again"), Accepted::Existing(job.id));

    let settlement = ended(&job, End::Expired);
    proxy.cut_after_the_next_commit();
    let lost = ledger.settle(&settlement).await;
    assert!(matches!(lost, Err(LedgerError::Unknown(_))), "{lost:?}");
    assert_eq!(ledger.settle(&settlement).await.expect("again"), Settled::Before(settlement));
    let statistics = ledger.statistics(now()).await.expect("statistics");
    assert_eq!((statistics.accepted, statistics.expired, statistics.queued), (2, 1, 1));
}

/// Two processes on one database end the same jobs and want the same lease: each job ends once, one process has the
/// lease, and the stored counts match the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ledgers_on_one_database_agree() {
    let schema = Schema::make().await;
    // Both at the same time: one migrates and the other waits.
    let (one, two) = tokio::join!(schema.ledger(), schema.ledger());
    let account = AccountId::fresh();
    let holders = [VerifierId::fresh(), VerifierId::fresh()];
    let mut callers = JoinSet::new();
    for number in 0..60 {
        let (one, two, job) = (Arc::clone(&one), Arc::clone(&two), new_job(&account));
        let holders = holders.clone();
        callers.spawn(async move {
            let idempotency =
                Idempotency { key: Digest::of(job.id.as_bytes()), fingerprint: Digest::of(b"body") };
            let with_key = NewJob { idempotency: Some(idempotency), ..job.clone() };
            let twin = NewJob { id: JobId::new(), ..with_key.clone() };
            // The same key at both gateways is one job.
            let (first, second) = tokio::join!(one.accept(with_key.clone()), two.accept(twin.clone()));
            let accepted = match (first.expect("accept"), second.expect("accept")) {
                (Accepted::New { is_held: false }, Accepted::Existing(id)) if id == job.id => with_key,
                (Accepted::Existing(id), Accepted::New { is_held: false }) if id == twin.id => twin,
                other => panic!("not one job: {other:?}"),
            };
            let (expired, cancelled) = (ended(&accepted, End::Expired), ended(&accepted, End::cancelled()));
            let (name, ttl) = (format!("lease-{number}"), Duration::from_secs(60));
            let ends = tokio::join!(one.settle(&expired), two.settle(&cancelled));
            let leases = tokio::join!(
                one.lease(&name, &holders[0], now(), ttl),
                two.lease(&name, &holders[1], now(), ttl)
            );
            match (ends.0.expect("settle"), ends.1.expect("settle")) {
                (Settled::Now, Settled::Before(winner)) => assert_eq!(winner, expired),
                (Settled::Before(winner), Settled::Now) => assert_eq!(winner, cancelled),
                other => panic!("not one end: {other:?}"),
            }
            assert!(leases.0.expect("lease") ^ leases.1.expect("lease"), "one holder");
        });
    }
    callers.join_all().await;
    let has_ended = concat!("SELECT COUNT(*) FROM jobs WHERE state = ", job_state!(ended));
    assert_eq!(schema.number(has_ended).await, 60);
    assert_eq!(schema.number("SELECT COUNT(*) FROM settlements").await, 60);
    assert_eq!(schema.number("SELECT SUM(jobs)::bigint FROM waiting").await, 0);
    let statistics = one.statistics(now()).await.expect("statistics");
    assert_eq!((statistics.accepted, statistics.expired + statistics.cancelled), (60, 60));
}

/// Makes a VALID verdict on `node`, on a job of its own.
fn valid(node: &NodeId) -> Posting {
    let entry = PostingEntry::Verdict {
        node: node.clone(),
        model: ModelName::new("m"),
        verdict: Verdict::Valid,
        millipoints: 1,
        elapsed_ms: 1,
        tokens: 1,
        on_time: true,
        numbers_outside: false,
        is_for_chosen_nodes: false,
    };
    let job = JobId::new();
    Posting { id: format!("verdict:{job}"), job_id: job, posted_ms: now(), entry }
}

/// Postings that commit out of the order of their sequence are all folded: two processes append while both project.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projector_skips_no_posting_of_another_process() {
    const CALLERS: u64 = 6;
    const EACH: u64 = 12;
    let schema = Schema::make().await;
    let ledgers = [schema.ledger().await, schema.ledger().await];
    // Each commit takes a different time, so that they overtake each other.
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON postings DEFERRABLE INITIALLY DEFERRED
                    FOR EACH ROW EXECUTE FUNCTION slow()";
    connect(&schema.within(&server())).await.batch_execute(slow).await.expect("a trigger");
    let node = NodeId::fresh();
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let ledger = Arc::clone(&ledgers[usize::from(number % 2 == 0)]);
        let node = node.clone();
        callers.spawn(async move {
            let mut folded = 0;
            for _ in 0..EACH {
                let posting = valid(&node);
                ledger.post(posting.job_id, &[posting], true).await.expect("post");
                folded += u64::from(ledger.project(3, now()).await.expect("project"));
            }
            folded
        });
    }
    let mut folded: u64 = callers.join_all().await.into_iter().sum();
    for ledger in ledgers.iter().cycle() {
        match ledger.project(1_000, now()).await.expect("project") {
            0 => break,
            more => folded += u64::from(more),
        }
    }
    assert_eq!(folded, CALLERS * EACH);
    let balance = ledgers[0].balance(node.as_str()).await.expect("balance");
    assert_eq!(balance.postings, CALLERS * EACH);
    assert_eq!(ledgers[0].replay().await.expect("replay"), [(node.as_str().to_owned(), balance)]);
}

/// A row that only the server refuses (its key is too long for an index) is isolated from its batch.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_server_refuses_leaves_its_neighbours() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let mut callers = JoinSet::new();
    let random: String = (0..400).map(|_| JobId::new().to_string()).collect();
    for number in 0..100 {
        let account = if number == 41 { AccountId::new(random.as_str()) } else { AccountId::fresh() };
        let (ledger, job) = (Arc::clone(&ledger), new_job(&account));
        callers.spawn(async move { (number, ledger.accept(job).await) });
    }
    for (number, outcome) in callers.join_all().await {
        if number == 41 {
            assert!(matches!(outcome, Err(LedgerError::Row(_))), "{outcome:?}");
        } else {
            assert_eq!(outcome.expect("a neighbour"), Accepted::New { is_held: false });
        }
    }
    assert_eq!(schema.number("SELECT COUNT(*) FROM jobs").await, 99);
}

/// Concurrent callers share commits. Prints the rates; run it with `--nocapture` for figures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_accepts_share_commits() {
    const EACH: i64 = 40;
    for callers in [1, 64] {
        let schema = Schema::make().await;
        let ledger = schema.ledger().await;
        let began = std::time::Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (ledger, account) = (Arc::clone(&ledger), AccountId::fresh());
            tasks.spawn(async move {
                for _ in 0..EACH {
                    assert_eq!(
                        ledger.accept(new_job(&account)).await.expect("accept"),
                        Accepted::New { is_held: false }
                    );
                }
            });
        }
        tasks.join_all().await;
        let rows = callers * EACH;
        let elapsed = began.elapsed();
        // The transaction that wrote each row.
        let commits = schema.number("SELECT COUNT(DISTINCT xmin::text) FROM jobs").await;
        println!("{callers} callers: {rows} rows of 1 KiB in {elapsed:?}, {commits} commits");
        assert_eq!(schema.number("SELECT COUNT(*) FROM jobs").await, rows);
        assert!(callers == 1 || commits <= rows / 4, "{commits} commits for {rows} rows");
    }
}

/// A session that holds the tables' locks delays calls for seconds and not for ever; afterwards everything continues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_is_unavailable() {
    let schema = Schema::make().await;
    let ledger = schema.ledger().await;
    let account = AccountId::fresh();
    let holder_id = VerifierId::fresh();
    let holder = connect(&schema.within(&server())).await;
    holder.batch_execute("BEGIN; LOCK TABLE jobs, leases, probe").await.expect("the lock");
    let (accepted, leased) = tokio::join!(
        ledger.accept(new_job(&account)),
        ledger.lease("sweeper", &holder_id, now(), Duration::from_secs(1))
    );
    assert!(matches!(accepted, Err(LedgerError::Unavailable(_))), "{accepted:?}");
    assert!(matches!(leased, Err(LedgerError::Unavailable(_))), "{leased:?}");
    // The failure is remembered, and the check tries one more commit.
    let probed = ledger.commits_come_through().await;
    assert!(matches!(probed, Err(LedgerError::Unavailable(_))), "{probed:?}");
    holder.batch_execute("ROLLBACK").await.expect("the lock goes");
    ledger.commits_come_through().await.expect("without any other commit");
    assert_eq!(schema.number("SELECT COUNT(*) FROM probe").await, 1);
    ledger.commits_come_through().await.expect("by memory");
    assert_eq!(ledger.accept(new_job(&account)).await.expect("accept"), Accepted::New { is_held: false });
}

/// Connections that the server ends between two calls make no call fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_end_are_made_anew() {
    let schema = Schema::make().await;
    let named = format!("{}&application_name={}", schema.within(&server()), schema.name);
    let config = PostgresConfig::new(named);
    let ledger = PostgresLedger::connect(&config).await.expect("a ledger");
    let account = AccountId::fresh();
    for round in 0..5 {
        let job = new_job(&account);
        assert_eq!(
            ledger.accept(job.clone()).await.expect("accept"),
            Accepted::New { is_held: false },
            "round {round}"
        );
        ledger.confirm(&[job.id], now()).await.expect("confirm");
        assert!(ledger.job(&account, job.id).await.expect("job").is_some());
        let ended = format!(
            "SELECT COUNT(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = '{}'",
            schema.name
        );
        assert!(schema.number(&ended).await > 0);
    }
}

/// The database of a newer program is refused, and nothing in it is changed.
#[tokio::test]
async fn a_newer_schema_is_refused() {
    let schema = Schema::make().await;
    drop(schema.ledger().await);
    execute(&format!("INSERT INTO {}.schema_versions (version) VALUES (1000)", schema.name)).await;
    let outcome = PostgresLedger::connect(&PostgresConfig::new(schema.within(&server()))).await;
    assert!(matches!(&outcome, Err(LedgerError::Refused(text)) if text.contains("newer")), "{outcome:?}");
}

/// Tables that are not a ledger's are reported as such and left alone.
#[tokio::test]
async fn tables_of_something_else_are_no_ledger() {
    let schema = Schema::make().await;
    execute(&format!("CREATE TABLE {}.jobs (id INTEGER)", schema.name)).await;
    let outcome = PostgresLedger::connect(&PostgresConfig::new(schema.within(&server()))).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Damaged(text)) if text.contains("not a ledger")),
        "{outcome:?}"
    );
    let tables = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()";
    assert_eq!(schema.number(tables).await, 1);
}

/// A missing server is reported within seconds, without the password.
#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let config = PostgresConfig::new("postgres://user:geheim@127.0.0.1:1/none");
    let outcome = PostgresLedger::connect(&config).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Unavailable(text)) if !text.contains("geheim")),
        "{outcome:?}"
    );
    assert!(!format!("{config:?}").contains("geheim"));
}
