//! Tests what folders of the Hub bring along beside the usual: templates written for tools, for training and for Python,
//! tokens that were added later, other forms of tokenizers.

use infera_model::chat::{ChatError, ChatModel};
use serde_json::{Value, json};

use crate::{NOW, bundled, folder, turn, user, with_template};

fn printed(template: &str) -> String {
    with_template(template).render_text(&[user("Hi <b> & 'c'")], NOW).expect(template)
}

#[test]
fn templates_with_tools_see_that_there_are_none() {
    for (template, expected) in [
        // As the templates of Llama 3, Qwen, Mistral and Command R ask.
        ("{% if not tools is defined %}undefined{% endif %}{% if tools is not none %}tools{% endif %}-", "-"),
        ("{%- if tools %}tools{%- elif documents %}documents{%- else %}plain{%- endif %}", "plain"),
        ("{%- if tools is defined and tools %}tools{% endif %}{{ documents is none }}", "True"),
        ("{%- if messages[0].tool_calls is defined %}calls{% else %}none{% endif %}", "none"),
        ("{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor %}end", "end"),
    ] {
        assert_eq!(printed(template), expected, "{template}");
    }
}

#[test]
fn json_is_written_as_python_writes_it() {
    // The texts are those of json.dumps(value, ensure_ascii=False) with the same options.
    for (template, expected) in [
        ("{{ messages[0].content | tojson }}", r#""Hi <b> & 'c'""#),
        (
            "{{ {'name': 'é', 'list': [1, 2.5, true, none], 'empty': [], 'no': {}} | tojson }}",
            r#"{"name": "é", "list": [1, 2.5, true, null], "empty": [], "no": {}}"#,
        ),
        (
            "{{ {'b': [1, {'a': 2}], 'e': [[]]} | tojson(indent=2) }}",
            "{\n  \"b\": [\n    1,\n    {\n      \"a\": 2\n    }\n  ],\n  \"e\": [\n    []\n  ]\n}",
        ),
        ("{{ [1, {'a': 2}] | tojson(separators=(',', ':'), ensure_ascii=False) }}", r#"[1,{"a":2}]"#),
        ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "Hi <b> & 'c'"}"#),
    ] {
        assert_eq!(printed(template), expected, "{template}");
    }
    let refused = with_template("{{ 1 | tojson(indent=99) }}").render_text(&[user("a")], NOW);
    assert!(matches!(refused, Err(ChatError::Template(_))), "{refused:?}");
}

#[test]
fn marks_for_training_print_nothing() {
    let template = "{% for m in messages %}{%- if m.role == 'assistant' %}A:{% generation %}{{ m.content }}{% endgeneration %};\n{%- else %}U:{{ m.content }};{%- endif %}{% endfor %}{%- generation -%}  x  {%- endgeneration -%}";
    let model = with_template(template);
    let messages = [user("a"), turn("assistant", "{% generation %}"), user("b")];
    assert_eq!(model.render_text(&messages, NOW).expect("sound"), "U:a;A:{% generation %};U:b;x");
    let loops = "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 3 %}{% break %}{% endif %}{{ m.content }}{% endfor %}";
    assert_eq!(with_template(loops).render_text(&messages, NOW).expect("sound"), "a");
}

#[test]
fn refusals_and_dates_of_templates_are_passed_on() {
    let template = "{{ strftime_now('%Y-%m-%d') }}{% if messages | length > 1 %}{{ raise_exception('One turn.') }}{% endif %}";
    assert_eq!(printed(template), "2025-11-22");
    match with_template(template).render_text(&[user("a"), user("b")], NOW) {
        Err(ChatError::Refused(sentence)) => assert_eq!(sentence, "One turn."),
        other => panic!("{other:?}"),
    }
}

/// Returns the bundled tokenizer with two tokens added: one that only templates write, and one of a tool's format.
fn with_added_tokens() -> Vec<u8> {
    let text = std::fs::read(bundled().join("tokenizer.json")).expect("there");
    let mut tokenizer: Value = serde_json::from_slice(&text).expect("JSON");
    let token = |id: u32, content: &str, special: bool| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special,
        })
    };
    let added = tokenizer["added_tokens"].as_array_mut().expect("a list");
    added.push(token(768, "<|later|>", true));
    added.push(token(769, "<tool_call>", false));
    tokenizer.to_string().into_bytes()
}

#[test]
fn tokens_that_were_added_later_are_tokens() {
    let template = json!("{% for m in messages %}<|later|>{{ m.content }}{% endfor %}");
    let mut settings: Value =
        serde_json::from_slice(&std::fs::read(bundled().join("tokenizer_config.json")).expect("there"))
            .expect("JSON");
    settings["chat_template"] = template;
    settings["eos_token"] = json!("<|later|>");
    let folder = folder(&[
        ("tokenizer.json", Some(with_added_tokens())),
        ("tokenizer_config.json", Some(settings.to_string().into_bytes())),
    ]);
    let model = ChatModel::load(folder.path()).expect("sound");
    let tokens = model.render(&[user("a<tool_call>")], NOW).expect("sound");
    assert_eq!((tokens.first(), tokens.last()), (Some(&768), Some(&769)));
    assert_eq!(model.end_tokens(), [2, 768], "the makers' own and the one that the tokenizer names");
    assert_eq!(model.decode(&tokens).expect("known"), "a<tool_call>", "one has a text, the other none");
    assert_eq!(
        model.decode(&[9_999]).expect("ignored"),
        "",
        "a graph may have more tokens than the tokenizer"
    );
    let forged = model.render(&[user("<|later|>")], NOW).expect("sound");
    assert_eq!(forged.iter().filter(|&&token| token == 768).count(), 1, "the client's spelling is text");
}

#[test]
fn a_folder_with_another_tokenizer_says_what_writes_ours() {
    let folder = folder(&[("tokenizer.json", None), ("tokenizer.model", Some(b"sentencepiece".to_vec()))]);
    let error = ChatModel::load(folder.path()).err().expect("it can't be read").to_string();
    for part in ["tokenizer.json", "tokenizer.model", "AutoTokenizer"] {
        assert!(error.contains(part), "{error}");
    }
}
