//! Tests that a killed process, whenever and however often it is killed, leaves a ledger that opens and holds every
//! answered job.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use infera_ledger::{Accepted, JobIntake as _, JobReader as _, Metadata, NewJob, Room, Standby};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::choice::Choice;
use infera_types::ids::{AccountId, GatewayId, JobId, ModelName};
use infera_types::job::VerificationPolicy;
use infera_types::time::Timestamp;
use tokio::task::JoinSet;

/// The account of all jobs here.
const ACCOUNT: &str = "acctkilled";

/// Makes a job of 400 kB: some forty of them fill the log.
fn job() -> NewJob {
    let now = Timestamp::from_millis(1_790_000_000_000);
    NewJob {
        id: JobId::new(),
        choice: Choice::ONLY,
        shows_tokens: false,
        key: None,
        account: AccountId::new(ACCOUNT),
        model: ModelName::new("m"),
        request: vec![b'x'; 400_000],
        policy: VerificationPolicy::default(),
        gateway: GatewayId::new("g"),
        synchronous: false,
        accepted_ms: now,
        deadline_ms: now.after(Duration::from_secs(3_600)),
        epoch: 1,
        idempotency: None,
        waiting_max: u32::MAX,
        room: Room::UNBOUNDED,
        standby: Standby::never_held(&AccountId::new(ACCOUNT)),
        metadata: Metadata::new(),
        keeping: infera_ledger::Keeping::default(),
        charge: None,
    }
}

async fn known(ledger: &SqliteLedger, ids: &[JobId]) -> usize {
    let account = AccountId::new(ACCOUNT);
    let mut known = 0;
    for id in ids {
        known += usize::from(ledger.job(&account, *id).await.expect("read").is_some());
    }
    known
}

/// Set in the child that is killed: the path of its ledger.
const CHILD: &str = "INFERA_TEST_KILLED";

/// A process is killed at random moments, while its log grows, is copied and restarts: nothing is called damage, and
/// no answered job is missing. The test starts itself as the child.
#[test]
fn kills_are_never_damage() {
    if let Ok(path) = std::env::var(CHILD) {
        return accept_until_killed(Path::new(&path));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let ledger_path = folder.path().join("ledger.sqlite");
    let mut answered = Vec::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for round in 0..10_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "kills_are_never_damage", "--nocapture"])
            .env(CHILD, &ledger_path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let reading = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.filter_map(|line| line.parse::<JobId>().ok()).collect::<Vec<_>>()
        });
        // The moments range from before the first commit to several lives of the log later.
        let random = u64::from(JobId::new().as_bytes()[15]);
        std::thread::sleep(Duration::from_millis(round * 40 + random % 40));
        child.kill().expect("kill");
        child.wait().expect("wait");
        answered.extend(reading.join().expect("its output"));
        // Every other round the next child starts on the files as the kill left them, without a clean close in
        // between.
        if round % 2 == 1 {
            let ledger =
                SqliteLedger::open(&ledger_path).unwrap_or_else(|error| panic!("round {round}: {error}"));
            let found = runtime.block_on(known(&ledger, &answered));
            assert_eq!(found, answered.len(), "round {round}");
        }
    }
    println!("{} jobs were answered", answered.len());
    assert!(answered.len() > 20, "the children came to work: {}", answered.len());
}

fn accept_until_killed(path: &Path) {
    let ledger = SqliteLedger::open(path).expect("a ledger");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..4 {
            let ledger = ledger.clone();
            callers.spawn(async move {
                // Bounded, in case the parent is gone.
                for _ in 0..500 {
                    let job = job();
                    let line = format!("{}\n", job.id);
                    assert_eq!(ledger.accept(job).await.expect("accept"), Accepted::New { is_held: false });
                    std::io::stdout().write_all(line.as_bytes()).expect("a pipe");
                }
            });
        }
        callers.join_all().await;
    });
}
