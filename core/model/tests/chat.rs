//! Tests the text side of model folders: the bundled model against what its trainer wrote down, other layouts of the
//! Hub, and broken folders.
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod chat {
    mod bounds;
    mod forgery;
    mod hub_folders;
    mod stops;
    mod streams;
}

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use infera_model::chat::{ChatError, ChatModel, RENDERING, model_digest, prompt_hash};
use infera_model::folder::{FolderError, onnx_file};
use infera_types::ids::Digest;
use infera_types::job::ChatMessage;
use infera_types::numbers::TokenId;
use infera_types::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: Timestamp = Timestamp::from_millis(1_763_812_800_000);

fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/infera-tiny")
}

/// Loads the bundled model once, because property tests use it often.
fn bundled_model() -> &'static ChatModel {
    static MODEL: OnceLock<ChatModel> = OnceLock::new();
    MODEL.get_or_init(|| ChatModel::load(&bundled()).expect("a whole folder"))
}

fn user(content: &str) -> ChatMessage {
    turn("user", content)
}

fn turn(role: &str, content: &str) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.to_owned() }
}

#[derive(Deserialize)]
struct Expected {
    answers: Vec<ExpectedAnswer>,
    renderings: Vec<ExpectedRendering>,
}

#[derive(Deserialize)]
struct ExpectedAnswer {
    greedy: String,
    greedy_token_ids: Vec<TokenId>,
}

#[derive(Deserialize)]
struct ExpectedRendering {
    messages: Vec<ChatMessage>,
    text: String,
    token_ids: Vec<TokenId>,
}

/// Reads what the training scripts wrote with Python's tokenizers and Jinja.
fn expected() -> Expected {
    let text = fs::read_to_string(bundled().join("expected.json")).expect("models/infera-tiny/expected.json");
    serde_json::from_str(&text).expect("JSON as the trainer writes it")
}

#[test]
fn the_bundled_model_renders_as_python_does() {
    let model = ChatModel::load(&bundled()).expect("a whole folder");
    let renderings = expected().renderings;
    assert!(renderings.len() >= 10);
    for expected in renderings {
        assert_eq!(model.render_text(&expected.messages, NOW).expect("sound"), expected.text);
        let prompt = model.prompt(&expected.messages, NOW).expect("sound");
        if expected.text.contains("<|user|><|eos|>") {
            // Python takes the client's spelling for a special token, so this id differs.
            assert_eq!(expected.token_ids[2], 2);
            assert_eq!((prompt.since, prompt.tokens.contains(&2)), (RENDERING, false));
        } else {
            assert_eq!(prompt.tokens, expected.token_ids, "{}", expected.text);
        }
    }
}

/// OpenAI's clients send `"content": null`, which arrives here as an empty text.
#[test]
fn an_assistants_turn_without_text_is_a_turn() {
    let model = ChatModel::load(&bundled()).expect("a whole folder");
    let messages = [user("a"), turn("assistant", ""), user("b")];
    let whole = model.render_text(&messages, NOW).expect("sound");
    let spoken = model.render_text(&[user("a"), turn("assistant", "x"), user("b")], NOW).expect("sound");
    assert_eq!(whole, spoken.replacen('x', "", 1), "it is there, with its marks and nothing between them");
    assert_ne!(whole, model.render_text(&[user("a"), user("b")], NOW).expect("sound"));
}

#[test]
fn the_bundled_model_decodes_as_python_does() {
    let model = ChatModel::load(&bundled()).expect("a whole folder");
    for expected in expected().answers {
        assert_eq!(model.decode(&expected.greedy_token_ids).expect("known tokens"), expected.greedy);
        let (end, answer) = expected.greedy_token_ids.split_last().expect("not empty");
        assert!(model.end_tokens().contains(end));
        assert_eq!(model.decode(answer).expect("known tokens"), expected.greedy, "the end token has no text");
    }
}

#[test]
fn a_prompts_hash_is_that_of_its_tokens() {
    assert_eq!(prompt_hash(&[1, 258]), Digest::of(&[1, 0, 0, 0, 2, 1, 0, 0]));
}

/// Makes a folder with the bundled tokenizer, an empty ONNX file, and the given changes; a change without content
/// removes its file.
fn folder(changes: &[(&str, Option<Vec<u8>>)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(bundled().join(name), folder.path().join(name)).expect("copied");
    }
    fs::create_dir(folder.path().join("onnx")).expect("made");
    fs::write(folder.path().join("onnx/model.onnx"), []).expect("written");
    for (name, content) in changes {
        match content {
            Some(content) => fs::write(folder.path().join(name), content).expect("written"),
            None => fs::remove_file(folder.path().join(name)).expect("removed"),
        }
    }
    folder
}

/// Returns the bundled `tokenizer_config.json` with one setting changed.
fn settings(name: &str, value: Value) -> Option<Vec<u8>> {
    let text = fs::read(bundled().join("tokenizer_config.json")).expect("there");
    let mut settings: Value = serde_json::from_slice(&text).expect("JSON");
    settings[name] = value;
    Some(settings.to_string().into_bytes())
}

fn with_template(template: &str) -> ChatModel {
    let folder = folder(&[("tokenizer_config.json", settings("chat_template", json!(template)))]);
    ChatModel::load(folder.path()).expect("a sound template")
}

#[test]
fn templates_see_the_time_that_is_passed_in() {
    let model = with_template("Today Date: {{ strftime_now('%d %b %Y') }}{{ strftime_now is defined }}");
    assert_eq!(model.render_text(&[], NOW).expect("sound"), "Today Date: 22 Nov 2025True");
    let error =
        with_template("{{ strftime_now('%Q') }}").render_text(&[], NOW).expect_err("no such directive");
    assert!(error.to_string().contains("%Q"), "{error}");
}

#[test]
fn templates_run_as_in_python() {
    // Idioms of widely used templates; the texts are what Python's Jinja prints with trimmed blocks.
    let messages = [turn("system", "Be brief."), user("  Hi  "), turn("assistant", "<think>x</think>Ho")];
    let table = [
        (
            "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content.strip() }}\n  {% endif %}\n{% endfor %}\n",
            "Hi\n",
        ),
        (
            "{%- set ns = namespace(n=0) -%}{%- for m in messages[::-1] -%}{%- set ns.n = ns.n + 1 -%}{{ m['role'][0] }}{%- endfor -%}{{ ns.n }}",
            "aus3",
        ),
        ("{{ messages[2].content.split('</think>')[-1].lstrip('\\n') }}", "Ho"),
        (
            "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% endif %}{{ rest | length }}",
            "2",
        ),
        ("{{ bos_token + (tools or 'none') }}{% if tools is none %}!{% endif %}", "<|bos|>none!"),
        (
            "{{ messages[1].content | trim }}{{ '<&>' }}{{ messages[0].content.startswith('Be') }}",
            "Hi<&>True",
        ),
    ];
    for (template, expected) in table {
        let text = with_template(template).render_text(&messages, NOW).expect(template);
        assert_eq!(text, expected, "{template}");
    }
}

#[test]
fn a_template_can_refuse_a_conversation() {
    let model =
        with_template("{% if messages[0].role != 'user' %}{{ raise_exception('user first') }}{% endif %}");
    assert!(model.render(&[user("hi")], NOW).is_ok());
    match model.render(&[turn("assistant", "hi")], NOW) {
        Err(ChatError::Refused(sentence)) => assert_eq!(sentence, "user first"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_template_may_have_a_file_of_its_own_or_a_name() {
    let own = folder(&[("chat_template.jinja", Some(b"own".to_vec()))]);
    assert_eq!(ChatModel::load(own.path()).expect("sound").render_text(&[], NOW).expect("sound"), "own");
    let named = json!([{ "name": "tool_use", "template": "no" }, { "name": "default", "template": "yes" }]);
    let named = folder(&[("tokenizer_config.json", settings("chat_template", named))]);
    assert_eq!(ChatModel::load(named.path()).expect("sound").render_text(&[], NOW).expect("sound"), "yes");
}

#[test]
fn end_tokens_come_from_all_that_name_them() {
    let config = |end: Value| {
        let content = json!({ "max_position_embeddings": 77, "eos_token_id": end });
        Some(content.to_string().into_bytes())
    };
    let generation = Some(json!({ "eos_token_id": [9, 6] }).to_string().into_bytes());
    let object = settings("eos_token", json!({ "content": "<|end|>", "special": true }));
    let none = settings("eos_token", Value::Null);
    let ends = |changes: &[(&str, Option<Vec<u8>>)]| {
        ChatModel::load(folder(changes).path())
            .map(|model| (model.end_tokens().to_vec(), model.context_max()))
    };
    assert_eq!(ends(&[]).expect("sound"), (vec![2], 512));
    let both = [("config.json", config(json!(3))), ("generation_config.json", generation)];
    assert_eq!(ends(&both).expect("sound"), (vec![2, 6, 9], 77));
    let fallback = [
        ("config.json", config(json!(3))),
        ("generation_config.json", None),
        ("tokenizer_config.json", object),
    ];
    assert_eq!(ends(&fallback).expect("sound"), (vec![3, 6], 77));
    let nobody = [
        ("config.json", config(Value::Null)),
        ("generation_config.json", None),
        ("tokenizer_config.json", none),
    ];
    assert!(ends(&nobody).expect_err("no end").to_string().contains("eos_token_id"));
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let garbage = || Some(b"{".to_vec());
    for (name, content) in [
        ("config.json", None),
        ("tokenizer.json", None),
        ("tokenizer_config.json", None),
        ("config.json", garbage()),
        ("generation_config.json", garbage()),
        ("tokenizer.json", garbage()),
        ("tokenizer_config.json", settings("chat_template", Value::Null)),
        ("tokenizer_config.json", settings("chat_template", json!("{% if %}"))),
    ] {
        let folder = folder(&[(name, content)]);
        match ChatModel::load(folder.path()) {
            Err(ChatError::Folder(error)) => assert!(error.to_string().contains(name), "{name}: {error}"),
            _ => panic!("{name} is wrong"),
        }
    }
}

#[test]
fn variants_are_found_in_both_layouts() {
    let folder = folder(&[("onnx/model_q4.onnx", Some(vec![])), ("model_fp16.onnx", Some(vec![]))]);
    let find = |variant| onnx_file(folder.path(), variant);
    for (variant, file) in [
        ("", "onnx/model.onnx"),
        ("model", "onnx/model.onnx"),
        ("q4", "onnx/model_q4.onnx"),
        ("model_q4", "onnx/model_q4.onnx"),
        ("fp16", "model_fp16.onnx"),
    ] {
        assert_eq!(find(variant).expect(variant), folder.path().join(file));
    }
    let error = find("int8").expect_err("not there").to_string();
    assert!(error.contains("model.onnx, model_fp16.onnx, model_q4.onnx"), "{error}");
}

/// Makes an ONNX file that keeps one tensor in the file `location`: `ModelProto.graph.initializer.external_data`.
fn onnx_with_data(location: &str) -> Vec<u8> {
    let message = |number: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).expect("short");
        [&[number << 3 | 2, length][..], content].concat()
    };
    let entry = [message(1, b"location"), message(2, location.as_bytes())].concat();
    message(7, &message(5, &message(13, &entry)))
}

#[test]
fn a_models_digest_is_over_all_files_used() {
    let folder = folder(&[("onnx/model.onnx", Some(onnx_with_data("model.onnx_data")))]);
    let graph = folder.path().join("onnx/model.onnx");
    let digest = || model_digest(folder.path(), &graph);
    assert!(
        matches!(digest(), Err(ChatError::Folder(FolderError::MissingData { data, .. })) if data.ends_with("model.onnx_data"))
    );
    fs::write(folder.path().join("onnx/model.onnx_data"), b"weights").expect("written");
    let mut seen = vec![digest().expect("whole")];
    assert_eq!(seen[0], digest().expect("whole"), "the same files, the same digest");
    fs::write(folder.path().join("README.md"), b"unused").expect("written");
    assert_eq!(seen[0], digest().expect("whole"), "unused files don't count");
    let names = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"];
    for name in names.into_iter().chain(["onnx/model.onnx_data", "chat_template.jinja"]) {
        let path = folder.path().join(name);
        let content = fs::read(&path).unwrap_or_default();
        fs::write(&path, [content.as_slice(), b" "].concat()).expect("written");
        let changed = digest().expect("whole");
        assert!(!seen.contains(&changed), "{name} counts");
        seen.push(changed);
    }
    fs::rename(folder.path().join("onnx/model.onnx_data"), folder.path().join("onnx/other"))
        .expect("renamed");
    fs::write(&graph, onnx_with_data("other")).expect("written");
    assert!(!seen.contains(&digest().expect("whole")), "names count");
}

#[test]
fn data_outside_of_the_folder_is_refused() {
    for location in ["../secret", "/etc/passwd", "a/../../b"] {
        let folder = folder(&[("onnx/model.onnx", Some(onnx_with_data(location)))]);
        let error = model_digest(folder.path(), &folder.path().join("onnx/model.onnx")).expect_err(location);
        assert!(error.to_string().contains("outside"), "{error}");
    }
}
