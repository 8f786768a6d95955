//! Tests every promise of the archive's seam on two real S3 servers, one over plain HTTP and one over TLS, and the
//! promises that only a store behind a network has to make. `make test-services` starts the servers and runs this.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use infera_archive::{Archive, ArchiveError, ArchiveReader as _};
use infera_archive_s3::{S3Archive, S3Config};
use infera_types::secret::Secret;
use uuid::Uuid;

/// Returns the store that a variable names, as `http://id:secret@host:port/bucket`.
fn store(variable: &str) -> S3Config {
    let url = named(variable);
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (credentials, rest) = rest.split_once('@').expect("credentials");
    let (access_key_id, secret) = credentials.split_once(':').expect("a secret");
    let (address, bucket) = rest.split_once('/').expect("a bucket");
    S3Config {
        endpoint: format!("{scheme}://{address}"),
        bucket: bucket.to_owned(),
        access_key_id: access_key_id.to_owned(),
        secret_access_key: Secret::new(secret),
        ..S3Config::default()
    }
}

#[expect(clippy::panic, reason = "a test that can't run fails")]
fn named(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: `make services`, then `set -a; . data/services.env`, or `make test-services`")
    })
}

fn first() -> S3Config {
    store("TEST_S3_URL")
}

fn other() -> S3Config {
    S3Config { ca_file: Some(named("TEST_S3_OTHER_CA").into()), ..store("TEST_S3_OTHER_URL") }
}

async fn archive(config: S3Config) -> Arc<dyn Archive> {
    S3Archive::open(&config).await.expect("an archive")
}

mod first_server {
    infera_conformance::archive_conformance!(super::archive(super::first()));
}

mod other_server {
    infera_conformance::archive_conformance!(super::archive(super::other()));
}

#[tokio::test]
async fn a_bucket_is_made_once_and_found_again() {
    for config in [first(), other()] {
        let config = S3Config { bucket: format!("infera-{}", Uuid::new_v4().as_simple()), ..config };
        let missing = S3Archive::new(&config).expect("a client");
        let outcome = missing.put("jobs/object", Bytes::from_static(b"1")).await;
        assert!(matches!(outcome, Err(ArchiveError::Unavailable(_))), "{outcome:?}");
        // Without the bucket nothing is known about its objects; an answer "does not exist" would be believed.
        let outcome = missing.size("jobs/object").await;
        assert!(matches!(outcome, Err(ArchiveError::Unavailable(_))), "{outcome:?}");
        let outcome = missing.get("jobs/object", 0..1).await;
        assert!(matches!(outcome, Err(ArchiveError::Unavailable(_))), "{outcome:?}");

        let made = S3Archive::open(&config).await.expect("an archive");
        made.put("jobs/object", Bytes::from_static(b"1")).await.expect("put");
        let found = S3Archive::open(&config).await.expect("the same archive");
        assert_eq!(found.get("jobs/object", 0..1).await.expect("get"), b"1".as_slice());
    }
}

#[tokio::test]
async fn wrong_credentials_are_said_so_without_being_shown() {
    let config = S3Config { secret_access_key: Secret::new("not-the-secret"), ..first() };
    let refused = S3Archive::open(&config).await.expect_err("a refusal");
    assert!(matches!(refused, ArchiveError::Refused(_)), "{refused:?}");
    let refused = refused.to_string();
    assert!(refused.contains("403"), "{refused}");
    assert!(!refused.contains("not-the-secret"), "{refused}");
}

#[tokio::test]
async fn a_certificate_of_a_strange_authority_is_refused() {
    let strange = S3Config { ca_file: None, ..other() };
    let refused = S3Archive::open(&strange).await.expect_err("a refusal");
    assert!(matches!(refused, ArchiveError::Unavailable(_)), "{refused:?}");
}

/// Starts a server that gives every request the same answer, or no answer at all. It ends with the process.
fn stub(answer: Option<&'static str>) -> S3Config {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 16 * 1024]);
            if let Some(answer) = answer {
                stream.write_all(answer.as_bytes()).expect("writing the answer");
            } else {
                open.push(stream);
            }
        }
    });
    S3Config { endpoint: format!("http://{address}"), ..patient_for_moments("id") }
}

fn patient_for_moments(access_key_id: &str) -> S3Config {
    S3Config {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: Secret::new("secret"),
        connect_ms: 300,
        read_ms: 300,
        attempt_ms: 400,
        operation_ms: 1_500,
        ..S3Config::default()
    }
}

#[tokio::test]
async fn a_store_that_is_away_or_silent_is_given_up() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let away = S3Config { endpoint: format!("http://{gone}"), ..patient_for_moments("id") };
    let slow_body =
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n01234";
    for config in [away, stub(None)] {
        let begin = Instant::now();
        let archive = S3Archive::new(&config).expect("a client");
        let put = archive.put("jobs/object", Bytes::from_static(b"1")).await;
        assert!(matches!(put, Err(ArchiveError::Unavailable(_))), "{put:?}");
        let got = archive.get("jobs/object", 0..10).await;
        assert!(matches!(got, Err(ArchiveError::Unavailable(_))), "{got:?}");
        let size = archive.size("jobs/object").await;
        assert!(matches!(size, Err(ArchiveError::Unavailable(_))), "{size:?}");
        // Three calls of 1.5 s at most; without limits the silent server would hold the test for ever.
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    }
    let cut = S3Archive::new(&stub(Some(slow_body))).expect("a client").get("jobs/object", 0..10).await;
    assert!(matches!(cut, Err(ArchiveError::Unavailable(_))), "{cut:?}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_range_is_refused() {
    let answers = [
        // The whole object, because the server ignored the range.
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789",
        // Another range of the same length.
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/10\r\nContent-Length: 4\r\nConnection: close\r\n\r\n0123",
        // The range that was asked for, with more bytes and with fewer.
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-6/10\r\nContent-Length: 5\r\nConnection: close\r\n\r\n34567",
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-6/10\r\nContent-Length: 3\r\nConnection: close\r\n\r\n345",
    ];
    for answer in answers {
        let archive = S3Archive::new(&stub(Some(answer))).expect("a client");
        let got = archive.get("jobs/object", 3..7).await;
        assert!(matches!(got, Err(ArchiveError::Unavailable(_))), "{answer:?}: {got:?}");
    }
    let right = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-6/10\r\nContent-Length: 4\r\nConnection: close\r\n\r\n3456";
    let archive = S3Archive::new(&stub(Some(right))).expect("a client");
    assert_eq!(archive.get("jobs/object", 3..7).await.expect("the range"), b"3456".as_slice());
}
