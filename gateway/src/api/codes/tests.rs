//! Holds the table of codes against the errors themselves and against `docs/errors.md`.

use std::collections::BTreeSet;
use std::time::Duration;

use infera_ledger::{OverLimit, Payer};
use infera_types::admission::Refusal;
use infera_types::job::FailureReason;
use infera_types::money::Price;

use super::*;
use crate::api::denied::Denied;
use crate::api::error::ApiError;
use crate::api::group_refusal::GroupRefusal;
use crate::api::too_large::{Holds, TooLarge};
use crate::api::too_many_requests::Limit;
use crate::api::unauthorized::Unauthorized;
use crate::fastapi::{Flaw, Json, Mistakes, Unfit};

/// Every limit.
const LIMITS: [Limit; 9] = [
    Limit::Rate,
    Limit::Tokens,
    Limit::Looks,
    Limit::InFlight,
    Limit::Waiting,
    Limit::Stored,
    Limit::Signups,
    Limit::Nodes,
    Limit::Connections,
];

/// Returns errors of every variant, and with every code that a variant may have.
fn errors() -> Vec<ApiError> {
    let text = || "x".to_owned();
    let mistakes = |flaw| ApiError::Unfit(Unfit::Mistakes(Mistakes::one(flaw, &Json::Null)));
    let mut all = vec![
        ApiError::Unfit(Unfit::Syntax { message: "x", position: 0 }),
        ApiError::Unfit(Unfit::Unreadable),
        mistakes(Flaw::missing()),
        mistakes(Flaw::below(1)),
        ApiError::BadRequest("x"),
        ApiError::OfJobs {
            first: Box::new(ApiError::KeyReused),
            all: Mistakes::one(Flaw::missing(), &Json::Null),
        },
        ApiError::NoPriority,
        ApiError::NotPermitted(Denied::OtherAccount),
        ApiError::KeysFull(1),
        ApiError::KeyEnded,
        ApiError::CodeNotValid,
        ApiError::NoMail,
        ApiError::Erased,
        ApiError::NotEnded,
        ApiError::NotFound,
        ApiError::NoRoute,
        ApiError::NoEndpoint("x"),
        ApiError::MethodNotAllowed("GET"),
        ApiError::ModelUnknown(text()),
        ApiError::WrongHost(text()),
        ApiError::ModelGone(text()),
        ApiError::ModelRemoved(text()),
        ApiError::ContextExceeded { tokens_min: 2, context_max: 1 },
        ApiError::UnsupportedByModel { model: text(), parameters: vec!["n"] },
        ApiError::HeadTooLarge,
        ApiError::SlowHead,
        ApiError::TooLarge(TooLarge { max_bytes: 1, sent_bytes: None, holds: Holds::Jobs }),
        ApiError::Encoded,
        ApiError::SlowBody,
        ApiError::KeyReused,
        ApiError::InProgress,
        ApiError::OverSpend {
            over: OverLimit { payer: Payer::Key, limit: 1, used: 1, needed: 1 },
            of_batch: None,
        },
        ApiError::PriceAboveMax { price: Price { prompt: 1, completion: 1 }, max: Price::default() },
        ApiError::InsufficientNodes,
        ApiError::Overloaded,
        ApiError::OutboxFull,
        ApiError::StorageFull,
        ApiError::LedgerAway,
        ApiError::Draining,
        ApiError::Timeout,
        ApiError::StreamOverturned,
        ApiError::SlowReader,
        ApiError::Cancelled,
        ApiError::Expired,
        ApiError::Damaged,
        ApiError::Internal,
    ];
    all.extend([
        ApiError::Group(GroupRefusal::Unknown),
        ApiError::Group(GroupRefusal::NoNode),
        ApiError::Group(GroupRefusal::NoAccount),
        ApiError::Group(GroupRefusal::NameTaken),
        ApiError::Group(GroupRefusal::Full("x")),
    ]);
    all.extend(Unauthorized::ALL.map(ApiError::Unauthorized));
    all.extend(Refusal::ALL.iter().copied().map(ApiError::Node));
    all.extend(FailureReason::ALL.iter().map(|reason| ApiError::Failed(*reason, text())));
    let wait = Duration::from_secs(1);
    all.extend(LIMITS.map(|limit| ApiError::Limited(limit, wait)));
    all.extend(LIMITS.map(|limit| ApiError::LimitedBatch { limit, fitting: 1, sent: 2, wait }));
    all
}

/// Doesn't compile once a variant is added that [`errors`] doesn't have.
fn is_listed_above(error: &ApiError) {
    match error {
        ApiError::Unfit(_)
        | ApiError::BadRequest(_)
        | ApiError::OfJobs { .. }
        | ApiError::Unauthorized(_)
        | ApiError::NoPriority
        | ApiError::NotPermitted(_)
        | ApiError::KeysFull(_)
        | ApiError::KeyEnded
        | ApiError::CodeNotValid
        | ApiError::NoMail
        | ApiError::Erased
        | ApiError::NotEnded
        | ApiError::NotFound
        | ApiError::NoRoute
        | ApiError::NoEndpoint(_)
        | ApiError::MethodNotAllowed(_)
        | ApiError::Node(_)
        | ApiError::Group(
            GroupRefusal::Unknown
            | GroupRefusal::NoNode
            | GroupRefusal::NoAccount
            | GroupRefusal::NameTaken
            | GroupRefusal::Full(_),
        )
        | ApiError::ModelUnknown(_)
        | ApiError::WrongHost(_)
        | ApiError::ModelGone(_)
        | ApiError::ModelRemoved(_)
        | ApiError::ContextExceeded { .. }
        | ApiError::UnsupportedByModel { .. }
        | ApiError::HeadTooLarge
        | ApiError::SlowHead
        | ApiError::TooLarge(_)
        | ApiError::Encoded
        | ApiError::SlowBody
        | ApiError::KeyReused
        | ApiError::InProgress
        | ApiError::Limited(
            Limit::Rate
            | Limit::Tokens
            | Limit::Looks
            | Limit::InFlight
            | Limit::Waiting
            | Limit::Stored
            | Limit::Signups
            | Limit::Nodes
            | Limit::Connections,
            _,
        )
        | ApiError::LimitedBatch { .. }
        | ApiError::OverSpend { .. }
        | ApiError::PriceAboveMax { .. }
        | ApiError::InsufficientNodes
        | ApiError::Overloaded
        | ApiError::OutboxFull
        | ApiError::StorageFull
        | ApiError::LedgerAway
        | ApiError::Draining
        | ApiError::Timeout
        | ApiError::StreamOverturned
        | ApiError::SlowReader
        | ApiError::Failed(..)
        | ApiError::Cancelled
        | ApiError::Expired
        | ApiError::Damaged
        | ApiError::Internal => {}
    }
}

#[test]
fn each_error_is_in_the_table_with_its_statuses() {
    let mut met = BTreeSet::new();
    for error in errors() {
        is_listed_above(&error);
        let line = of(error.code()).unwrap_or_else(|| panic!("{error:?}: no line for {}", error.code()));
        assert_eq!(line.openai, error.status(Face::OpenAi).as_u16(), "{error:?}");
        let own = error.status(Face::Seed).as_u16();
        // A path outside /v1 is never known as an endpoint of OpenAI's.
        assert!(line.own.contains(&own) || line.own.is_empty(), "{error:?}: {own}");
        met.insert((line.code, own));
        // The client waits for as long as the reply says, so a retry must be safe then.
        if error.retry_after().is_some() && line.code != "shutting_down" {
            assert!(matches!(line.retry, Retry::Safe | Retry::WithKey), "{error:?}");
        }
        let asks_for_patience = [429, 503].contains(&line.openai) && line.retry != Retry::Useless;
        assert!(!asks_for_patience || error.retry_after().is_some(), "{error:?}: no wait is told");
        let is_ours = error.status(Face::OpenAi).is_server_error();
        let may_be_ours = line.fault != Fault::Client && line.fault != Fault::Runner;
        assert!(!is_ours || may_be_ours, "{error:?}: a status of 5xx for a fault of the client's");
    }
    for line in CODES {
        for own in line.own {
            assert!(met.contains(&(line.code, *own)), "no error has the code {} with {own}", line.code);
        }
        assert!(met.iter().any(|(code, _)| *code == line.code), "no error has the code {}", line.code);
        assert!(line.remedy.ends_with('.'), "{}", line.code);
    }
    let codes: BTreeSet<&str> = CODES.iter().map(|line| line.code).collect();
    assert_eq!(codes.len(), CODES.len(), "a code twice");
}

/// Returns a line as `docs/errors.md` shows it.
fn row(line: &ErrorCode) -> String {
    let own: Vec<String> = line.own.iter().map(u16::to_string).collect();
    let own = if own.is_empty() { "–".to_owned() } else { own.join(" or ") };
    let (fault, retry) = (line.fault.word(), line.retry.words());
    format!("| `{}` | {} | {own} | {fault} | {retry} | {} |", line.code, line.openai, line.remedy)
}

#[test]
fn the_page_of_errors_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let page = std::fs::read_to_string(path).unwrap();
    let shown: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = CODES.iter().map(row).collect();
    for row in &expected {
        assert!(shown.contains(&row.as_str()), "docs/errors.md lacks this line:\n{row}");
    }
    for row in &shown {
        assert!(
            expected.iter().any(|one| one == row),
            "docs/errors.md has a line that the table lacks:\n{row}"
        );
    }
    assert_eq!(shown, expected, "docs/errors.md has the lines in another order");
}
