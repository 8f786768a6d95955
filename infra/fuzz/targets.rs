//! What each fuzz target does with some bytes. A target panics if a promise is broken. The functions are shared by libFuzzer's
//! programs (`fuzz_targets/`) and by the test that replays the corpus (`standalone/tests/corpus.rs`).
#![allow(dead_code, reason = "each of libFuzzer's programs uses one of them")]

use bytes::Bytes;
use infera_program::config::{Sources, load};
use infera_types::envelope::Message;
use infera_types::messages::{
    Assignment, CapacitySummary, Completion, Heartbeat, JobNotice, MESSAGE_SIZE_MAX_BYTES, Refusal, Replica,
    Version, Wire,
};
use infera_types::spending::Spending;

/// A target's name, which is its corpus' too, and its function.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets.
pub(crate) const ALL: [Target; 11] = [
    ("addresses", addresses),
    ("bodies", bodies),
    ("gzip", gzip),
    ("headers", headers),
    ("heads", heads),
    ("jobs", jobs),
    ("keys", keys),
    ("messages", messages),
    ("proxies", proxies),
    ("queries", queries),
    ("settings", settings),
];

/// A body on a route that takes one. The first byte chooses the route.
pub(crate) fn bodies(bytes: &[u8]) {
    infera_gateway::fuzzing::body(bytes);
}

/// A request's head, and the chunks of a body behind it.
pub(crate) fn heads(bytes: &[u8]) {
    infera_gateway::fuzzing::head(bytes);
}

/// What a trusted proxy says of its client's address.
pub(crate) fn addresses(bytes: &[u8]) {
    infera_gateway::fuzzing::address(bytes);
}

/// A body that asks for jobs, or cancels some. The first byte chooses which.
pub(crate) fn jobs(bytes: &[u8]) {
    infera_gateway::fuzzing::jobs(bytes);
}

/// The query of a path: filters, metadata, cursors, days.
pub(crate) fn queries(bytes: &[u8]) {
    infera_gateway::fuzzing::query(bytes);
}

/// Headers that say what a request means, one a line.
pub(crate) fn headers(bytes: &[u8]) {
    infera_gateway::fuzzing::headers(bytes);
}

/// A body that is encoded by gzip.
pub(crate) fn gzip(bytes: &[u8]) {
    infera_gateway::fuzzing::gzip(bytes);
}

/// What a proxy sends before its client's first byte.
pub(crate) fn proxies(bytes: &[u8]) {
    infera_gateway::fuzzing::proxy(bytes);
}

/// An API key, a job's id, a digest.
pub(crate) fn keys(bytes: &[u8]) {
    infera_gateway::fuzzing::key(bytes);
}

/// A message that a node or a role sends. The first byte chooses the kind.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    match choice % 8 {
        0 => message::<Replica>(body),
        1 => message::<Heartbeat>(body),
        2 => message::<Refusal>(body),
        3 => message::<Assignment>(body),
        4 => message::<JobNotice>(body),
        5 => message::<Completion>(body),
        7 => message::<Spending>(body),
        _ => message::<CapacitySummary>(body),
    }
}

/// A message that is read can be written and read again, and is the same then.
fn message<W: Wire + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let message = |body: &[u8]| Message {
        id: "fuzz".to_owned(),
        kind: W::KIND.to_owned(),
        body: Bytes::copy_from_slice(body),
        ttl_ms: None,
        trace: None,
    };
    let read = W::from_message(&message(body));
    assert!(body.len() <= MESSAGE_SIZE_MAX_BYTES || read.is_err(), "a message that is too large was read");
    let Ok(value) = read else { return };
    let (again, _) = W::from_message_with_unknown(&message(body)).expect("read once, so read twice");
    assert_eq!(again, value);
    for version in [Version::First, Version::Second, Version::Third] {
        let written = value.to_message_in(version, "fuzz");
        let read = W::from_message(&written).expect("what we write can be read");
        // The first version has fewer words.
        assert!(version == Version::First || read == value, "{read:?} was {value:?}");
    }
}

/// Settings, one a line, as flags and as variables of the environment; values are TOML. Every mistake is a sentence, and
/// nothing but mistakes keeps settings from being read.
pub(crate) fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs: Vec<(String, String)> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let as_flags = Sources { flags: pairs.clone(), ..Sources::default() };
    let in_environment = Sources {
        // A file to read a secret from is the operator's to name, and no parser's business.
        environment: pairs
            .into_iter()
            .map(|(key, value)| (format!("INFERA_{key}"), value))
            .filter(|(key, _)| !key.to_ascii_uppercase().ends_with("_FILE"))
            .collect(),
        ..Sources::default()
    };
    for sources in [as_flags, in_environment] {
        match load::<infera_gateway::Config>(&sources) {
            Ok(config) => drop(config.check()),
            Err(mistakes) => assert!(!mistakes.to_string().is_empty()),
        }
    }
}
