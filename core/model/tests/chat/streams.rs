//! Tests that text which is given out as tokens come is the text of the whole, in whole characters, for every way in which
//! the Hub's tokenizers spell text.

use std::sync::OnceLock;

use infera_model::chat::ChatModel;
use infera_types::numbers::TokenId;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::{bundled, bundled_model, folder};

/// A tokenizer like Llama's: pieces of text with `▁` for a space, and a token for each byte.
fn pieces() -> Value {
    let mut vocabulary = serde_json::Map::new();
    let mut add = |token: String| {
        let id = vocabulary.len();
        vocabulary.insert(token, json!(id));
    };
    ["<unk>", "<s>", "</s>"].map(str::to_owned).into_iter().for_each(&mut add);
    (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")).for_each(&mut add);
    ["▁", "▁▁", "▁a", "a", "b", "▁ab", "é", "。", "."].map(str::to_owned).into_iter().for_each(&mut add);
    let special = |id: u32, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        ] },
        "pre_tokenizer": null, "post_processor": null,
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// Loads a model with another tokenizer, and the tokenizer alone.
fn with(tokenizer: &Value) -> (ChatModel, Tokenizer) {
    let bytes = tokenizer.to_string().into_bytes();
    let alone = Tokenizer::from_bytes(&bytes).expect("a tokenizer");
    let changes = [
        ("tokenizer.json", Some(bytes)),
        ("config.json", Some(br#"{"max_position_embeddings": 512, "eos_token_id": 2}"#.to_vec())),
    ];
    (ChatModel::load(folder(&changes).path()).expect("a sound folder"), alone)
}

pub(super) type Pair = (ChatModel, Tokenizer);

pub(super) fn by_pieces() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| with(&pieces()))
}

pub(super) fn metaspace() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| {
        let mut tokenizer = pieces();
        tokenizer["decoder"] =
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true });
        with(&tokenizer)
    })
}

pub(super) fn bundled_alone() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::from_file(bundled().join("tokenizer.json")).expect("a tokenizer"))
}

/// Returns the pieces in which a model gives out these tokens' text.
pub(super) fn streamed(model: &ChatModel, tokens: &[TokenId]) -> Vec<String> {
    let mut stream = model.text_stream();
    let mut given: Vec<String> =
        tokens.iter().map(|&token| stream.push(token).expect("known tokens")).collect();
    given.push(stream.finish().expect("known tokens"));
    given
}

#[test]
fn a_character_of_several_tokens_is_never_cut() {
    let model = bundled_model();
    let tokens = bundled_alone().encode_fast("é🎉 東", false).expect("a text");
    assert!(tokens.len() > 5, "the small vocabulary spells them by bytes");
    let given = streamed(model, tokens.get_ids());
    assert_eq!(given.concat(), "é🎉 東");
    assert!(given.iter().all(|piece| !piece.contains('\u{fffd}')), "{given:?}");
    let given = streamed(model, &tokens.get_ids()[..tokens.len() - 1]);
    assert_eq!(
        given.concat(),
        "é🎉 \u{fffd}",
        "only at the end is it said that a character was not finished"
    );
    assert_eq!(given.last().map(String::as_str), Some("\u{fffd}"));
}

#[test]
fn a_row_of_bytes_is_given_out_when_it_ends() {
    let (model, alone) = by_pieces();
    let id = |token: &str| alone.token_to_id(token).expect(token);
    let euro = ["<0xE2>", "<0x82>", "<0xAC>", "a"].map(id);
    assert_eq!(streamed(model, &euro), ["", "", "", "€a", ""]);
    assert_eq!(streamed(model, &euro[..3]), ["", "", "", "€"]);
    let spaced = ["▁a", "▁", "b", "</s>"].map(id);
    assert_eq!(streamed(model, &spaced), ["a", " ", "b", "", ""], "one space is the tokenizer's own");
}

#[test]
fn a_token_is_spelled_by_its_bytes_wherever_it_is() {
    let model = bundled_model();
    for text in ["é🎉 東", " the  answer\n", "47 + 38 = 85."] {
        let tokens = bundled_alone().encode_fast(text, false).expect("a text");
        let spelled: Vec<u8> = tokens
            .get_ids()
            .iter()
            .flat_map(|token| model.token_bytes(*token).expect("a known token"))
            .collect();
        assert_eq!(String::from_utf8(spelled).expect("whole characters"), text);
    }
    // Without a byte fallback the name of a byte is text.
    for ((model, alone), byte) in [(by_pieces(), &b"\xe2"[..]), (metaspace(), b"<0xE2>")] {
        let id = |token: &str| alone.token_to_id(token).expect(token);
        for (token, bytes) in
            [("▁ab", &b" ab"[..]), ("▁▁", b"  "), ("<0xE2>", byte), ("é", "é".as_bytes()), ("</s>", b"</s>")]
        {
            assert_eq!(model.token_bytes(id(token)).as_deref(), Some(bytes), "{token}");
        }
        assert_eq!(model.token_bytes(1_000_000), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bytes_in_any_order_are_the_whole_text(tokens in prop::collection::vec(0_u32..900, 0..40)) {
        let whole = bundled_alone().decode(&tokens, true).expect("tokens");
        prop_assert_eq!(streamed(bundled_model(), &tokens).concat(), whole.clone());
        prop_assert_eq!(bundled_model().decode(&tokens).expect("tokens"), whole);
    }

    #[test]
    fn pieces_in_any_order_are_the_whole_text(
        tokens in prop::collection::vec(prop_oneof![0_u32..270, 258_u32..270, 197_u32..245], 0..40),
    ) {
        for (model, alone) in [by_pieces(), metaspace()] {
            let whole = alone.decode(&tokens, true).expect("tokens");
            prop_assert_eq!(streamed(model, &tokens).concat(), whole);
        }
    }

    #[test]
    fn no_piece_of_a_sound_text_is_broken(text in "[ab .é。€🎉 ]{0,24}") {
        for (model, alone) in [by_pieces(), metaspace(), &(ChatModel::load(&bundled()).expect("whole"), bundled_alone().clone())] {
            let tokens = alone.encode_fast(text.as_str(), false).expect("a text");
            let given = streamed(model, tokens.get_ids());
            let whole = alone.decode(tokens.get_ids(), true).expect("tokens");
            prop_assert_eq!(given.concat(), whole.clone());
            let is_broken = |piece: &String| piece.contains(char::REPLACEMENT_CHARACTER);
            prop_assert!(is_broken(&whole) || !given.iter().any(is_broken), "{:?}", given);
        }
    }
}
