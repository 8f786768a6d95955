//! Tests the ledger over TLS: which servers are trusted, and that an untrusted one is told nothing. Everything else
//! works the same over TLS and is tested on the plain connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use infera_ledger::{Accepted, JobIntake as _, JobReader as _, LedgerError};
use infera_ledger_postgres::{PostgresConfig, PostgresLedger};
use infera_types::ids::AccountId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Schema, connect, new_job, server};

/// Returns a variable that `make services` wrote.
fn named(variable: &str) -> String {
    let value = std::env::var(variable);
    value.expect("TEST_POSTGRES_TLS_URL, TEST_CA_FILE and TEST_STRANGER_CA_FILE are in data/services.env")
}

async fn outcome(url: &str, authority: &str) -> Result<Arc<PostgresLedger>, LedgerError> {
    let ca_file = Some(PathBuf::from(named(authority)));
    PostgresLedger::connect(&PostgresConfig { ca_file, ..PostgresConfig::new(url) }).await
}

/// Checks that the outcome is a refusal with these words and without the password.
fn assert_refused(outcome: Result<Arc<PostgresLedger>, LedgerError>, words: &[&str]) {
    let Err(LedgerError::Unavailable(text) | LedgerError::Refused(text)) = outcome else {
        unreachable!("expected a refusal with {words:?}: {outcome:?}");
    };
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_there_and_back_over_tls() {
    let schema = Schema::make().await;
    let url = format!("{}&application_name={}", schema.within(&named("TEST_POSTGRES_TLS_URL")), schema.name);
    let ledger = outcome(&url, "TEST_CA_FILE").await.expect("a ledger");
    let account = AccountId::fresh();
    let job = new_job(&account);
    assert_eq!(ledger.accept(job.clone()).await.expect("accept"), Accepted::New { is_held: false });
    assert!(ledger.job(&account, job.id).await.expect("job").is_some());
    // The server reports how each connection, pooled or a lane's, was made.
    let sql = "SELECT COUNT(*), COUNT(*) FILTER (WHERE ssl AND version IN ('TLSv1.2', 'TLSv1.3'))
               FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    let row = connect(&server()).await.query_one(sql, &[&schema.name]).await.expect("connections");
    let (all, over_tls): (i64, i64) = (row.get(0), row.get(1));
    assert!(all >= 2 && all == over_tls, "{over_tls} of {all}");
}

#[tokio::test]
async fn a_strangers_certificate_is_refused() {
    let refused = outcome(&named("TEST_POSTGRES_TLS_URL"), "TEST_STRANGER_CA_FILE").await;
    assert_refused(refused, &["certificate", "ca_file"]);
}

#[tokio::test]
async fn the_system_does_not_know_the_tests_authority() {
    let refused = PostgresLedger::connect(&PostgresConfig::new(named("TEST_POSTGRES_TLS_URL"))).await;
    // A machine without any CAs reports that instead.
    assert_refused(refused, &["ca_file"]);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let url = named("TEST_POSTGRES_TLS_URL").replacen("@127.0.0.1:", "@database.example:", 1);
    let refused = outcome(&format!("{url}&hostaddr=127.0.0.1"), "TEST_CA_FILE").await;
    assert_refused(refused, &["certificate", "database.example", "ca_file"]);
}

/// A server without TLS is told neither the password nor the user.
#[tokio::test]
async fn a_server_without_tls_hears_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut heard = vec![0; 8];
        stream.read_exact(&mut heard).await.expect("the request for TLS");
        stream.write_all(b"N").await.expect("no");
        stream.read_to_end(&mut heard).await.expect("the end");
        heard
    });
    let url = format!("postgres://user:geheim@127.0.0.1:{port}/none?sslmode=verify-full");
    assert_refused(outcome(&url, "TEST_CA_FILE").await, &["does not support TLS"]);
    // PostgreSQL's manual, "SSLRequest": a length of 8, and 80877103.
    assert_eq!(heard.await.expect("what was heard"), [0, 0, 0, 8, 4, 210, 22, 47]);
}

/// A server that agrees to TLS and then never answers does not hold up its caller for ever.
#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"S").await.expect("yes");
            held.push(stream);
        }
    });
    let began = Instant::now();
    let url = format!("postgres://user:geheim@127.0.0.1:{port}/none?sslmode=verify-full");
    assert_refused(outcome(&url, "TEST_CA_FILE").await, &["no connection"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    silent.abort();
}

/// If the URL names another machine and says nothing about TLS, nothing is sent, not even a DNS query.
#[tokio::test]
async fn plain_text_to_another_machine_is_refused() {
    let refused =
        PostgresLedger::connect(&PostgresConfig::new("postgres://user:geheim@192.0.2.1/none")).await;
    assert_refused(refused, &["sslmode=verify-full", "ca_file"]);
    let contradiction =
        outcome("postgres://user:geheim@192.0.2.1/none?sslmode=disable", "TEST_CA_FILE").await;
    assert_refused(contradiction, &["sslmode=disable"]);
}
