//! Tests what a conversation may cost: lengths that are refused before tokenizing, and templates that are stopped.

use infera_model::chat::{ChatError, ChatModel};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{NOW, bundled, bundled_model, folder, settings, turn, user, with_template};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Words of the vocabulary are the longest tokens there are; all other tokens are shorter.
    #[test]
    fn no_prompt_has_fewer_tokens_than_its_bytes_say(
        said in prop::collection::vec(
            " centimeters| difference| kilograms|Calculate|<\\|assistant\\|>|[ \\t\\n]{1,8}|[0-9]{1,6}|\\PC{1,6}|é🎉",
            0..40,
        ),
    ) {
        let (said, model) = (said.concat(), bundled_model());
        let bytes = u32::try_from(said.trim().len()).expect("short");
        let tokens_min = bytes.div_ceil(model.said_bytes_per_token().expect("known"));
        match model.render(&[user(&said)], NOW) {
            Ok(tokens) => prop_assert!(tokens.len() >= tokens_min as usize, "{tokens_min} {}", tokens.len()),
            Err(error) => prop_assert!(matches!(error, ChatError::TooLong { .. }), "{error}"),
        }
    }
}

#[test]
fn what_can_not_fit_is_told_without_tokens() {
    let model = bundled_model();
    assert_eq!(model.said_bytes_per_token(), Some(13), "<|assistant|>");
    match model.render(&[user(&"7".repeat(500_000))], NOW) {
        Err(ChatError::TooLong { tokens_min: 513, context_max: 512 }) => {}
        other => panic!("{other:?}"),
    }
    // The bytes don't show that this text is too long; its tokens do, and the caller counts them.
    assert_eq!(model.render(&[user(&"7".repeat(5_000))], NOW).expect("sound").len(), 5_004);
}

#[test]
fn a_template_that_may_leave_something_out_claims_nothing() {
    for (template, claims) in [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", true),
        ("{% for m in messages %}{{ m.content | trim }}{% endfor %}", true),
        ("{% for m in messages %}{{ m.content.strip() }}{% endfor %}", true),
        (
            "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}",
            true,
        ),
        ("{% for m in messages[-8:] %}{{ m.content }}{% endfor %}", false),
        ("{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}", false),
        ("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}", false),
        ("{% for m in messages %}{{ m.content[:1000] }}{% endfor %}", false),
        ("{% for m in messages %}{{ m.content | replace('\n\n', '\n') }}{% endfor %}", false),
        ("{{ raise_exception('never') }}", false),
        ("{% for m in messages %}{{ m.content.nothing.at_all }}{% endfor %}", false),
    ] {
        assert_eq!(with_template(template).said_bytes_per_token().is_some(), claims, "{template}");
    }
}

/// Loads the bundled tokenizer with one part changed.
fn with_tokenizer(change: impl FnOnce(&mut Value)) -> ChatModel {
    let text = std::fs::read(bundled().join("tokenizer.json")).expect("there");
    let mut tokenizer: Value = serde_json::from_slice(&text).expect("JSON");
    change(&mut tokenizer);
    let folder = folder(&[("tokenizer.json", Some(tokenizer.to_string().into_bytes()))]);
    ChatModel::load(folder.path()).expect("a sound tokenizer")
}

/// The case's name, its change of the tokenizer, and the bound that remains.
type Case = (&'static str, fn(&mut Value), Option<u32>);

#[test]
fn a_tokenizer_that_may_leave_something_out_claims_nothing() {
    let table: [Case; 6] = [
        ("as it is", |_| {}, Some(13)),
        ("NFC", |it| it["normalizer"] = json!({ "type": "NFC" }), Some(52)),
        ("NFKC", |it| it["normalizer"] = json!({ "type": "NFKC" }), None),
        ("spaces", |it| it["pre_tokenizer"]["pretokenizers"][0] = json!({ "type": "WhitespaceSplit" }), None),
        ("a token that takes spaces", |it| it["added_tokens"][6]["lstrip"] = json!(true), None),
        (
            "bytes without a token",
            |it| {
                let vocabulary = it["model"]["vocab"].as_object_mut().expect("a vocabulary");
                vocabulary.remove("ÿ").expect("there");
            },
            None,
        ),
    ];
    for (case, change, expected) in table {
        assert_eq!(with_tokenizer(change).said_bytes_per_token(), expected, "{case}");
    }
}

#[test]
fn a_template_is_stopped() {
    let said = [user(&"a".repeat(1_000))];
    for template in [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}",
    ] {
        let changes = [
            ("tokenizer_config.json", settings("chat_template", json!(template))),
            // A context so large that no length in bytes exceeds it.
            ("config.json", Some(br#"{"max_position_embeddings": 100000000, "eos_token_id": 2}"#.to_vec())),
        ];
        let model = ChatModel::load(folder(&changes).path()).expect("a sound template");
        match model.render(&said, NOW) {
            Err(ChatError::Refused(sentence)) => assert!(sentence.contains("too long"), "{sentence}"),
            other => panic!("{template}: {other:?}"),
        }
    }
}

#[test]
fn a_templates_sentence_is_one_short_line() {
    let said = format!("first\nsecond\u{7}{}", "x".repeat(1_000));
    match with_template("{{ raise_exception(messages[0].content) }}").render(&[user(&said)], NOW) {
        Err(ChatError::Refused(sentence)) => {
            assert!(sentence.starts_with("first second x"), "{sentence}");
            assert_eq!(sentence.chars().count(), 301);
            assert!(sentence.ends_with('…'));
        }
        other => panic!("{other:?}"),
    }
    // Raised from within a macro, and after text.
    let nested = "{% macro no() %}{{ raise_exception('no tools') }}{% endmacro %}a{{ no() }}";
    match with_template(nested).render(&[turn("user", "hi")], NOW) {
        Err(ChatError::Refused(sentence)) => assert_eq!(sentence, "no tools"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        with_template("{{ messages[0].content.no_such_method() }}").render(&[user("hi")], NOW),
        Err(ChatError::Template(_))
    ));
}
