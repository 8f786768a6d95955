//! Messages of both versions: what the programs before announcements wrote is read, what they get is what they can read, and
//! what this program doesn't know is found.
//!
//! `recorded/` holds one body of each kind as those programs published it (commit 05ebecc, 2026-11-29), version byte first.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use bytes::Bytes;
use infera_types::envelope::Message;
use infera_types::features::{Feature, Features};
use infera_types::ids::AssignmentId;
use infera_types::job::{Delivered, End, FailureReason, JobRequest, Seed};
use infera_types::messages::{
    Assignment, CapacitySummary, Completion, DecodeError, Heartbeat, JobNotice, Refusal, RefusalReason,
    Replica, Version, Wire,
};
use infera_types::numbers::TokenNumbers;
use serde_json::{Value, json};

fn message(kind: &str, body: &'static [u8]) -> Message {
    Message {
        id: "1".to_owned(),
        kind: kind.to_owned(),
        body: Bytes::from_static(body),
        ttl_ms: None,
        trace: None,
    }
}

/// Reads a recorded message, and holds what this program writes for such a program against it: every field of the
/// record comes back with its value; fields that the record hasn't may be there, since those programs pass over them.
fn read<W: Wire>(body: &'static [u8]) -> W {
    assert_eq!(body.first(), Some(&1));
    let value = W::from_message(&message(W::KIND, body)).unwrap();
    let written = value.to_message("1").body;
    assert_eq!(written.first(), Some(&1));
    let (then, now) =
        [body, &written].map(|body| serde_json::from_slice::<Value>(&body[1..]).unwrap()).into();
    assert_holds(&then, &now);
    value
}

fn assert_holds(then: &Value, now: &Value) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (key, value) in then {
                assert_holds(value, now.get(key).unwrap_or_else(|| panic!("{key} is gone")));
            }
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            then.iter().zip(now).for_each(|(then, now)| assert_holds(then, now));
        }
        _ => assert_eq!(then, now),
    }
}

#[test]
fn what_the_first_programs_wrote_is_read() {
    assert_eq!(read::<JobNotice>(include_bytes!("recorded/job")).speaks, Version::First);
    assert_eq!(read::<Assignment>(include_bytes!("recorded/assignment")).speaks, Version::First);
    assert_eq!(read::<CapacitySummary>(include_bytes!("recorded/capacity")).speaks, Version::First);
    let heartbeat = read::<Heartbeat>(include_bytes!("recorded/heartbeat"));
    assert_eq!(heartbeat.speaks, Version::First);
    assert_eq!(heartbeat.models[0].features, [Feature::Temperature, Feature::Seed].into_iter().collect());
    assert_eq!(heartbeat.models[0].rendering, 1);
    assert_eq!(read::<Replica>(include_bytes!("recorded/replica")).rendering, 1);
    let completion = read::<Completion>(include_bytes!("recorded/completion"));
    assert!(matches!(completion.settlement.end, End::Succeeded { .. }));
    assert_eq!(read::<Refusal>(include_bytes!("recorded/refusal")).reason, RefusalReason::Broken);
}

#[test]
fn words_that_the_first_version_lacks_are_said_in_it_by_others_of_the_same_effect() {
    let refusal = |reason| Refusal { reason, ..read(include_bytes!("recorded/refusal")) };
    let unsupported = refusal(RefusalReason::Unsupported);
    let said = |version| Refusal::from_message(&unsupported.to_message_in(version, "1")).unwrap().reason;
    assert_eq!(said(Version::First), RefusalReason::Busy);
    assert_eq!(said(Version::Second), RefusalReason::Unsupported);
    assert_eq!(said(Version::First).counts(), said(Version::Second).counts());

    let mut completion: Completion = read(include_bytes!("recorded/completion"));
    completion.settlement.end =
        End::Failed { reason: FailureReason::InvalidMessages, message: "roles must alternate".to_owned() };
    let said = |version| match Completion::from_message(&completion.to_message_in(version, "1"))
        .unwrap()
        .settlement
        .end
    {
        End::Failed { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(said(Version::First), (FailureReason::Unprocessable, "roles must alternate".to_owned()));
    assert_eq!(said(Version::Second), (FailureReason::InvalidMessages, "roles must alternate".to_owned()));
}

#[test]
fn a_version_is_read_or_parked_and_an_announcement_of_a_newer_one_counts_as_ours() {
    for byte in [0, 4, 255] {
        let mut body = include_bytes!("recorded/job").to_vec();
        body[0] = byte;
        let newer = Message { body: body.into(), ..message("job", b"") };
        let error = JobNotice::from_message(&newer).unwrap_err();
        assert!(matches!(error, DecodeError::Version(found) if found == byte), "{error}");
        assert!(error.is_parked());
    }
    for (announced, version) in [
        ("-1", Version::First),
        ("0", Version::First),
        ("1", Version::First),
        ("2", Version::Second),
        ("2.9", Version::Second),
        ("3", Version::Third),
        ("9", Version::Third),
        ("256", Version::Third),
        ("1e300", Version::Third),
    ] {
        assert_eq!(serde_json::from_str::<Version>(announced).unwrap(), version, "{announced}");
    }
    assert_eq!(serde_json::to_string(&Version::Second).unwrap(), "2");
    let notice = JobNotice { speaks: Version::NEWEST, ..read(include_bytes!("recorded/job")) };
    for version in [Version::First, Version::Second, Version::Third] {
        let sent = notice.to_message_in(version, "1");
        assert_eq!(sent.body.first(), Some(&version.byte()));
        assert_eq!(JobNotice::from_message(&sent).unwrap(), notice);
    }
}

#[test]
fn what_a_models_nodes_can_do_is_told_in_both_versions_or_not_at_all() {
    let mut summary: CapacitySummary = read(include_bytes!("recorded/capacity"));
    assert_eq!(summary.models[0].features, None);
    assert!(!serde_json::to_string(&summary).unwrap().contains("features"));
    for features in
        [Features::default(), Features::from_iter([]), Features::default().with(Feature::Sampling2)]
    {
        summary.models[0].features = Some(features);
        for version in [Version::First, Version::Second] {
            let sent = summary.to_message_in(version, "1");
            assert_eq!(CapacitySummary::from_message(&sent).unwrap(), summary);
        }
    }
}

#[test]
fn fields_that_this_program_does_not_know_are_named() {
    let body = include_bytes!("recorded/assignment");
    let mut assignment: Value = serde_json::from_slice(&body[1..]).unwrap();
    let with = |assignment: &Value| {
        let mut body = vec![2];
        serde_json::to_writer(&mut body, assignment).unwrap();
        Message { body: body.into(), ..message("assignment", b"") }
    };
    let (known, unknown) = Assignment::from_message_with_unknown(&with(&assignment)).unwrap();
    assert_eq!(known, read(body));
    assert!(unknown.is_empty(), "{unknown:?}");
    assignment["request"]["top_p"] = json!(0.5);
    assignment["request"]["messages"][0]["name"] = json!("Ada");
    assignment["stream"] = json!({ "every": 8 });
    let (still, unknown) = Assignment::from_message_with_unknown(&with(&assignment)).unwrap();
    assert_eq!(still, known);
    assert_eq!(unknown, ["request.messages.0.name", "request.top_p", "stream"]);
    for number in 0..100 {
        assignment[format!("field_{number}")] = json!(number);
    }
    let (_, unknown) = Assignment::from_message_with_unknown(&with(&assignment)).unwrap();
    assert_eq!(unknown.len(), 8);
}

#[test]
fn a_request_needs_what_it_uses_and_words_of_tomorrow_are_no_hindrance() {
    let request = |temperature: f64, seed: Option<i64>| {
        let mut request: JobRequest = read::<Assignment>(include_bytes!("recorded/assignment")).request;
        (request.temperature, request.seed) = (temperature, seed.map(Seed::Signed));
        request
    };
    let greedy: Features = serde_json::from_str(r#"["seed", "beam_search", 7, {"a": 1}]"#).unwrap();
    let all = Features::default();
    for (temperature, seed, greedy_does) in
        [(0.0, None, true), (0.0, Some(1), true), (0.5, None, false), (0.5, Some(1), false)]
    {
        let needed = Features::needed(&request(temperature, seed));
        assert_eq!(greedy.include(&needed), greedy_does, "{temperature} {seed:?}");
        assert!(all.include(&needed));
    }
    assert!(!Features::from_iter([]).include(&Features::needed(&request(0.0, Some(1)))));
    assert_eq!(serde_json::to_string(&greedy).unwrap(), r#"["seed"]"#);
}

fn numbered_replica() -> Replica {
    let mut replica: Replica = read(include_bytes!("recorded/replica"));
    replica.numbers = (0..=replica.tokens.len())
        .map(|place| TokenNumbers {
            top: replica.tokens.get(place).into_iter().map(|token| (*token, 1.0 / 3.0)).collect(),
            log_sum_exp: 1.0 / 7.0,
            logit_max: (place > 1).then_some(1.0 / 3.0),
            likeliest: vec![(7, -0.1); place % 3],
        })
        .collect();
    replica
}

/// The third version has tokens and numbers in columns behind the JSON; the others have them in it.
#[test]
fn what_answers_are_made_of_travels_in_columns() {
    let replica = numbered_replica();
    let mut completion: Completion = read(include_bytes!("recorded/completion"));
    if let End::Succeeded { answer, .. } = &mut completion.settlement.end {
        answer.numbers.clone_from(&replica.numbers);
    }
    for version in [Version::First, Version::Second, Version::Third] {
        let (told, ended) = (replica.to_message_in(version, "1"), completion.to_message_in(version, "1"));
        assert_eq!(Replica::from_message(&told).unwrap(), replica);
        assert_eq!(Replica::from_message_with_unknown(&told).unwrap(), (replica.clone(), Vec::new()));
        assert_eq!(Completion::from_message(&ended).unwrap(), completion);
        println!("{version:?}: a replica of {} bytes, a completion of {}", told.body.len(), ended.body.len());
    }
    let size = |version| replica.to_message_in(version, "1").body.len();
    assert!(size(Version::Third) < size(Version::Second));
    // Ends without an answer have no columns.
    completion.settlement.end = End::Expired;
    let ended = completion.to_message_in(Version::Third, "1");
    assert_eq!(Completion::from_message(&ended).unwrap(), completion);
}

/// Programs of before knew a cancellation that says nothing more.
#[test]
fn what_a_client_had_that_hung_up_is_a_cancellation_to_programs_of_before() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(tag = "status", rename_all = "snake_case")]
    enum EndBefore {
        Cancelled,
    }
    let delivered =
        Delivered { prompt_tokens: 7, tokens: 3, agreed_tokens: 2, agreed: vec![AssignmentId::new()] };
    for (end, fields) in [
        (End::cancelled(), json!({ "status": "cancelled" })),
        (
            End::Cancelled { delivered: Some(delivered.clone()) },
            json!({ "status": "cancelled", "delivered": delivered }),
        ),
    ] {
        let mut completion: Completion = read(include_bytes!("recorded/completion"));
        completion.settlement.end = end.clone();
        for version in [Version::First, Version::Second, Version::Third] {
            let sent = completion.to_message_in(version, "1");
            assert_eq!(Completion::from_message(&sent).unwrap(), completion);
        }
        let written = serde_json::to_value(&end).unwrap();
        assert_eq!(written, fields);
        assert_eq!(serde_json::from_value::<EndBefore>(written).unwrap(), EndBefore::Cancelled);
    }
    assert_eq!(End::Cancelled { delivered: Some(delivered) }.owed(), Some((7, 3)));
    assert_eq!(End::cancelled().owed(), None);
}

/// The sender is at fault, and the message is dropped, whatever part of it is wrong.
#[test]
fn malformed_columns_are_refused() {
    let replica = numbered_replica();
    let body = replica.to_message_in(Version::Third, "1").body;
    let refused = |body: Vec<u8>| {
        let message = Message { body: body.into(), ..message("replica", b"") };
        let error = Replica::from_message(&message).unwrap_err();
        assert!(!error.is_parked(), "{error}");
        assert!(Replica::from_message_with_unknown(&message).is_err());
        error.to_string()
    };
    for cut in 1..body.len() {
        refused(body[..cut].to_vec());
    }
    assert!(refused([&body[..], &[0]].concat()).contains("1 bytes stand behind"));
    assert!(refused([&[3][..], &[0xff; 12]].concat()).contains("too large"));
    let mut infinite = replica.clone();
    infinite.numbers[0].log_sum_exp = f64::INFINITY;
    assert!(refused(infinite.to_message_in(Version::Third, "1").body.to_vec()).contains("not finite"));
    let mut none = replica;
    none.numbers[0].likeliest = vec![(1, f32::NAN)];
    assert!(refused(none.to_message_in(Version::Third, "1").body.to_vec()).contains("not finite"));
}
