//! Clients that hang up on streams: what they had is billed, nodes that told it are paid, and every account adds up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use infera::commands::show_record;
use infera_engine_onnx::config::EngineKind;
use infera_ledger::{JobReader as _, Standing as _};
use infera_ledger_sqlite::SqliteLedger;
use infera_types::ids::{Digest, JobId};
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::client::{Client, question};
use crate::stage::{Stage, eventually};

/// How many tokens the stub model's answers have.
const TOKENS: u64 = 16;

/// Returns settings with which an answer's tokens come one by one, this many microseconds apart, and with which a job is cancelled
/// as soon as its client is gone.
fn paced(decode_us: u64) -> impl FnOnce(&mut infera::config::Config) {
    move |config| {
        config.engine.kind = EngineKind::Stub;
        config.engine.stub.decode_us = decode_us;
        config.gateway.abandoned_ms = 0;
    }
}

fn streaming(text: &str, release: &str, who: &str) -> Value {
    let mut body = question(text);
    body["stream"] = true.into();
    body["verification"] = json!({ "release": release });
    body["metadata"] = json!({ "who": who });
    body
}

/// When a client hangs up: after a number of events with text, or after a time if they don't come before.
#[derive(Clone, Copy, Debug)]
struct Moment {
    texts: usize,
    after: Duration,
}

/// Streams until the moment, and returns how many events had text, and whether the stream had ended.
async fn hang_up(client: &Client, body: &Value, moment: Moment) -> (usize, bool) {
    let until = Instant::now() + moment.after;
    let mut stream = client.begin("POST", "/v1/chat/completions", "", Some(body)).await;
    let (mut bytes, mut texts, mut has_ended) = (Vec::new(), 0, false);
    while texts < moment.texts && !has_ended {
        match timeout_at(until, stream.read_buf(&mut bytes)).await {
            Ok(Ok(read)) if read > 0 => {}
            _ => break,
        }
        let seen = String::from_utf8_lossy(&bytes);
        texts = seen.matches("\"content\":\"").count() - seen.matches("\"content\":\"\"").count();
        has_ended = seen.contains("[DONE]");
    }
    (texts, has_ended)
}

/// The jobs of all requests once they have ended, by what the requests said of themselves.
async fn ends(client: &Client) -> BTreeMap<String, Vec<Value>> {
    let mut ends: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let listed = eventually("all jobs end", async || {
        let mut all = Vec::new();
        let mut path = "/v1/jobs?order=asc&limit=100".to_owned();
        loop {
            let page = client.call("GET", &path, None).await.json;
            let jobs = page["data"].as_array().expect("a list").clone();
            let last = jobs.last().and_then(|job| job["id"].as_str()).map(str::to_owned);
            all.extend(jobs);
            match last.filter(|_| page["has_more"] == true) {
                Some(last) => path = format!("/v1/jobs?order=asc&limit=100&after={last}"),
                None => break,
            }
        }
        all.iter().all(|job| job["ended"].is_u64()).then_some(all)
    })
    .await;
    for job in listed {
        let who = job["metadata"]["who"].as_str().expect("what its request said").to_owned();
        let shown = client.job(job["id"].as_str().expect("an id")).await;
        ends.entry(who).or_default().push(shown);
    }
    ends
}

/// What a job's record says: what is billed, and what each node got.
struct Account {
    prompt_tokens: u64,
    tokens: u64,
    /// The points of those that told what the client had.
    told: Vec<i64>,
    paid: usize,
}

/// Reads a job's record once it is archived, which is after its group was closed, and holds its postings against its end.
async fn account(data: &Path, job: &str) -> Account {
    let id: JobId = job.parse().expect("an id");
    let line = eventually("the record is archived", async || show_record(data, id).await.ok()).await;
    let record: Value = serde_json::from_str(&line).expect("JSON");
    let end = &record["settlement"]["end"];
    let delivered = &end["delivered"];
    let (prompt_tokens, tokens) = match end["status"].as_str() {
        Some("succeeded") => {
            let answer = &end["answer"];
            (answer["prompt_tokens"].as_u64(), answer["tokens"].as_array().map(|tokens| tokens.len() as u64))
        }
        _ => (delivered["prompt_tokens"].as_u64(), delivered["tokens"].as_u64()),
    };
    let postings = record["postings"].as_array().expect("postings");
    let entry = |name: &str| {
        let mut found = postings.iter().filter(|one| one["id"] == name);
        let entry = found.next().map(|one| &one["entry"]);
        assert!(found.next().is_none(), "{name} is posted twice: {line}");
        entry
    };
    let usage = entry(&format!("usage:{id}"));
    assert_eq!(usage.is_some(), tokens.is_some(), "what is owed is posted: {line}");
    if let Some(usage) = usage {
        assert_eq!(usage["completion_tokens"].as_u64(), tokens, "{line}");
    }
    let assignments = record["settlement"]["group"]["assignments"].as_array().cloned().unwrap_or_default();
    let agreed = delivered["agreed"].as_array().cloned().unwrap_or_default();
    let (mut told, mut paid) = (Vec::new(), 0);
    for assignment in &assignments {
        let name = assignment["id"].as_str().expect("an id");
        let verdict = entry(&format!("verdict:{name}")).expect("each assignment has its verdict");
        let millipoints = verdict["millipoints"].as_i64().expect("points");
        let has_told = agreed.iter().any(|one| one == name);
        assert!(verdict["verdict"] != "invalid", "{line}");
        assert_eq!(millipoints > 0, verdict["verdict"] == "valid" || has_told, "{verdict} {line}");
        paid += usize::from(millipoints > 0);
        if has_told {
            told.push(millipoints);
        }
    }
    assert_eq!(told.len(), agreed.len(), "{line}");
    Account { prompt_tokens: prompt_tokens.unwrap_or(0), tokens: tokens.unwrap_or(0), told, paid }
}

/// Opens the ledger of a network that ended, and holds every sum in it against what it follows from.
async fn sums_hold(folder: &Path, jobs: u64, (prompt_tokens, tokens): (u64, u64)) {
    let ledger = SqliteLedger::open(&folder.join("ledger.sqlite")).expect("the ledger");
    while ledger.project(1_000, Timestamp::now()).await.expect("postings") > 0 {}
    for (subject, replayed) in ledger.replay().await.expect("postings") {
        assert_eq!(ledger.balance(&subject).await.expect("a balance"), replayed, "{subject}");
    }
    let sums = ledger.statistics(Timestamp::now()).await.expect("the sums");
    assert_eq!((sums.accepted, sums.queued, sums.running), (jobs, 0, 0), "{sums:?}");
    assert_eq!(sums.succeeded + sums.cancelled, jobs, "{sums:?}");
    assert_eq!((sums.prompt_tokens, sums.completion_tokens), (prompt_tokens, tokens), "{sums:?}");
    assert_eq!(sums.disputed, 0, "{sums:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_pays_for_what_it_had_and_the_nodes_earn_it() {
    let mut stage = Stage::open_with(3, paced(300_000)).await;
    stage.run(3).await;
    let text = "What is 47 + 38?";
    let whole = stage.client.chat(&question(text)).await;
    let prompt = whole.json["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert_eq!(whole.json["usage"]["completion_tokens"], TOKENS, "{}", whole.json);
    let whole_points = account(&stage.config.data, whole.json["job_id"].as_str().expect("an id")).await;
    assert_eq!(whole_points.paid, 3);
    let (mut billed, mut jobs) = ((prompt, TOKENS), 1);
    for release in ["agreed", "first", "verified"] {
        // A client that closes its connection can't be told for two seconds from one that only sends no more.
        let after = Duration::from_secs(if release == "verified" { 1 } else { 20 });
        let moment = Moment { texts: 4, after };
        let (texts, has_ended) = hang_up(&stage.client, &streaming(text, release, release), moment).await;
        assert!(!has_ended, "{release}");
        jobs += 1;
        let job = eventually("the job ends", async || {
            let jobs = stage.client.call("GET", "/v1/jobs?limit=10", None).await.json;
            let job = jobs["data"].as_array()?.iter().find(|job| job["metadata"]["who"] == release)?.clone();
            job["ended"].is_u64().then_some(job)
        })
        .await;
        let id = job["id"].as_str().expect("an id");
        let shown = stage.client.job(id).await;
        assert_eq!(shown["status"], "cancelled", "{release}: {shown}");
        let account = account(&stage.config.data, id).await;
        println!("{release}: {texts} read, {} of {TOKENS} billed, points {:?}", account.tokens, account.told);
        if release == "verified" {
            assert_eq!((texts, account.tokens, account.paid), (0, 0, 0), "nothing was shown: {shown}");
            assert_eq!(shown["usage"], Value::Null, "{shown}");
            continue;
        }
        let had = shown["usage"]["completion_tokens"].as_u64().expect("a count");
        assert_eq!((account.prompt_tokens, account.tokens), (prompt, had), "{shown}");
        // What is on its way when the client goes was sent to it.
        assert!((4..TOKENS).contains(&had), "{had} were billed: {shown}");
        assert!(account.told.len() >= 2, "a quorum told it: {:?}", account.told);
        billed = (billed.0 + prompt, billed.1 + had);
    }
    let usage = stage.client.call("GET", "/v1/usage", None).await.json;
    println!("{usage}");
    let folder = stage.close().await;
    sums_hold(folder.path(), jobs, billed).await;
}

/// Returns how many clients hang up: a few, or as many as `INFERA_HANG_UPS` says.
fn hang_ups() -> usize {
    std::env::var("INFERA_HANG_UPS").ok().and_then(|count| count.parse().ok()).unwrap_or(24)
}

/// Clients hang up at any moment: before the first token, between two, after the last. Each pays for what it had, and nothing is
/// owed or paid besides.
#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_add_up_whenever_clients_hang_up() {
    const AT_ONCE: usize = 12;
    let mut stage = Stage::open_with(3, paced(40_000)).await;
    stage.run(3).await;
    let count = hang_ups();
    let (mut running, mut seen) = (JoinSet::new(), BTreeMap::new());
    for number in 0..count {
        if running.len() >= AT_ONCE {
            let (who, had): (String, (usize, bool)) =
                running.join_next().await.expect("one").expect("no panic");
            seen.insert(who, had);
        }
        let who = number.to_string();
        // The same moments in each run.
        let random = Digest::of(format!("hang up {number}").as_bytes());
        let [release, several, texts, after, ..] = random.as_bytes().map(u64::from);
        let release = ["agreed", "agreed", "first", "verified"][usize::try_from(release % 4).expect("small")];
        let mut body = streaming("What is 47 + 38?", release, &who);
        if several % 8 == 0 {
            (body["n"], body["temperature"]) = (2.into(), 0.5.into());
        }
        let texts = usize::try_from(texts % 21).expect("small");
        let moment = Moment { texts, after: Duration::from_millis(50 + 6 * after) };
        let client = stage.client.clone();
        running.spawn(async move { (who, hang_up(&client, &body, moment).await) });
    }
    while let Some(hung_up) = running.join_next().await {
        let (who, had) = hung_up.expect("no panic");
        seen.insert(who, had);
    }
    // The gateway may notice only after two seconds that a client is gone; one that left at once may have made no job.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ended = ends(&stage.client).await;
    let jobs: usize = ended.values().map(Vec::len).sum();
    let (mut billed, mut kinds) = ((0, 0), BTreeMap::<String, u64>::new());
    for (who, (texts, has_ended)) in &seen {
        let Some(jobs) = ended.get(who) else {
            assert_eq!(*texts, 0, "{who} has read what no job wrote");
            continue;
        };
        let mut tokens = 0;
        for job in jobs {
            let status = job["status"].as_str().expect("a status");
            let account = account(&stage.config.data, job["id"].as_str().expect("an id")).await;
            let prompt =
                if job["choice"]["index"].as_u64().unwrap_or(0) == 0 { account.prompt_tokens } else { 0 };
            billed = (billed.0 + prompt, billed.1 + account.tokens);
            tokens += account.tokens;
            let kind = match (status, account.tokens) {
                ("cancelled", 0) => "cancelled, nothing billed".to_owned(),
                ("cancelled", _) => format!("cancelled, billed, {} paid", account.told.len()),
                (status, _) => status.to_owned(),
            };
            *kinds.entry(kind).or_default() += 1;
            assert!(!has_ended || status == "succeeded", "{who}: {job}");
        }
        assert!(tokens >= *texts as u64, "{who} read {texts} and pays for {tokens}: {jobs:?}");
    }
    println!("{count} clients, {jobs} jobs: {kinds:?}; {billed:?} tokens of prompts and answers billed");
    let folder = stage.close().await;
    sums_hold(folder.path(), jobs as u64, billed).await;
}
