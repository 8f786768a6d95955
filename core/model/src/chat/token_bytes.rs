//! Bounds how much text one token can stand for, so that a text's length in bytes gives a lower bound of its tokens.
//! The bound is given only if the tokenizer's parts guarantee that no text is left out and no run of unknown text
//! becomes one token; for every other tokenizer there is none.

use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Model as _, Tokenizer};

/// How many times shorter NFC can make a text in UTF-8: less than four. The extreme is the Greek ΐ spelled by its
/// parts, which has seven bytes if the iota is the prosgegrammeni.
const NFC_SHRINKS_BY: usize = 4;

/// Returns the most bytes of text that one token can stand for; none if that cannot be known.
pub(super) fn text_bytes_max(tokenizer: &Tokenizer) -> Option<usize> {
    let normalizer = serde_json::to_value(tokenizer.get_normalizer()).ok()?;
    let pre_tokenizer = serde_json::to_value(tokenizer.get_pre_tokenizer()).ok()?;
    if !keeps_everything(&pre_tokenizer) {
        return None;
    }
    let added = tokenizer.get_added_tokens_decoder();
    // Such a token absorbs all the whitespace beside it.
    if added.values().any(|token| token.lstrip || token.rstrip) {
        return None;
    }
    let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
    let is_byte_level = mentions(&pre_tokenizer, "ByteLevel") || mentions(&normalizer, "ByteLevel");
    if !knows_everything(model, is_byte_level) {
        return None;
    }
    let length = |token: &String| if is_byte_level { token.chars().count() } else { token.len() };
    let longest = model.get_vocab().keys().map(length).max()?;
    let longest_added = added.values().map(|token: &AddedToken| token.content.len()).max().unwrap_or(0);
    Some(longest.max(longest_added) * shrinks_by(&normalizer)?)
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

fn parts<'a>(sequence: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    sequence[name].as_array().into_iter().flatten()
}

/// Returns how many times shorter a normaliser makes a text at most.
fn shrinks_by(normalizer: &Value) -> Option<usize> {
    match kind(normalizer) {
        "" if normalizer.is_null() => Some(1),
        "Prepend" | "ByteLevel" => Some(1),
        "NFC" => Some(NFC_SHRINKS_BY),
        "Replace" => {
            let (from, to) = (normalizer["pattern"]["String"].as_str()?, normalizer["content"].as_str()?);
            (to.len() >= from.len()).then_some(1)
        }
        "Sequence" => parts(normalizer, "normalizers").map(shrinks_by).product(),
        _ => None,
    }
}

/// Returns whether a pre-tokenizer only splits a text or makes it longer.
fn keeps_everything(pre_tokenizer: &Value) -> bool {
    match kind(pre_tokenizer) {
        "" => pre_tokenizer.is_null(),
        "ByteLevel" | "Digits" | "Metaspace" | "UnicodeScripts" => true,
        "Split" | "Punctuation" => pre_tokenizer["behavior"].as_str().is_some_and(|how| how != "Removed"),
        "Sequence" => parts(pre_tokenizer, "pretokenizers").all(keeps_everything),
        _ => false,
    }
}

fn mentions(part: &Value, wanted: &str) -> bool {
    let inner = parts(part, "pretokenizers").chain(parts(part, "normalizers"));
    kind(part) == wanted || inner.into_iter().any(|part| mentions(part, wanted))
}

/// Returns whether every character has a token of its own; a character without one is left out, or merges with its
/// neighbours into one token.
fn knows_everything(model: &BPE, is_byte_level: bool) -> bool {
    let knows_byte = |byte: u8| model.token_to_id(&format!("<0x{byte:02X}>")).is_some();
    let one_by_one = model.unk_token.is_some() && !model.fuse_unk;
    one_by_one
        || (is_byte_level
            && ByteLevel::alphabet().iter().all(|byte| model.token_to_id(&byte.to_string()).is_some()))
        || (model.byte_fallback && (0..=u8::MAX).all(knows_byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokenizers::normalizers::unicode::{NFC, NFD};
    use tokenizers::{NormalizedString, Normalizer};

    use super::*;

    #[test]
    fn what_may_leave_text_out_claims_nothing() {
        for (normalizer, expected) in [
            (Value::Null, Some(1)),
            (json!({ "type": "NFC" }), Some(4)),
            (json!({ "type": "NFKC" }), None),
            (json!({ "type": "Lowercase" }), None),
            (json!({ "type": "Strip" }), None),
            (json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }), Some(1)),
            (json!({ "type": "Replace", "pattern": { "String": "  " }, "content": " " }), None),
            (json!({ "type": "Replace", "pattern": { "Regex": " +" }, "content": " " }), None),
            (
                json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }, { "type": "Prepend" }] }),
                Some(4),
            ),
            (json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }, { "type": "Nmt" }] }), None),
        ] {
            assert_eq!(shrinks_by(&normalizer), expected, "{normalizer}");
        }
        for (pre_tokenizer, expected) in [
            (Value::Null, true),
            (json!({ "type": "ByteLevel" }), true),
            (json!({ "type": "Whitespace" }), false),
            (json!({ "type": "BertPreTokenizer" }), false),
            (json!({ "type": "Split", "behavior": "Isolated" }), true),
            (json!({ "type": "Split", "behavior": "Removed" }), false),
            (
                json!({ "type": "Sequence", "pretokenizers": [{ "type": "Digits" }, { "type": "ByteLevel" }] }),
                true,
            ),
            (
                json!({ "type": "Sequence", "pretokenizers": [{ "type": "Digits" }, { "type": "WhitespaceSplit" }] }),
                false,
            ),
        ] {
            assert_eq!(keeps_everything(&pre_tokenizer), expected, "{pre_tokenizer}");
        }
    }

    /// Compares, for every composed character, the longest spelling of its parts with its own length.
    #[test]
    fn nfc_shrinks_a_text_to_a_quarter_at_most() {
        let normal = |normalizer: &dyn Fn(&mut NormalizedString), text: &str| {
            let mut text = NormalizedString::from(text);
            normalizer(&mut text);
            text.get().to_owned()
        };
        let nfc = |text: &str| normal(&|text| NFC.normalize(text).unwrap(), text);
        let nfd = |text: &str| normal(&|text| NFD.normalize(text).unwrap(), text);
        let mut longest = std::collections::HashMap::new();
        // No character beyond the second plane composes.
        let all = || ('\0'..='\u{2ffff}').map(|character| character.to_string());
        for text in all() {
            let mut parts = nfd(&text);
            if parts.chars().count() > 1 {
                parts = text.clone();
            }
            let known = longest.entry(parts).or_insert(0);
            *known = text.len().max(*known);
        }
        for text in all() {
            let composed = nfc(&text);
            let spelled: usize = nfd(&text)
                .chars()
                .map(|part| longest.get(&part.to_string()).copied().unwrap_or(part.len_utf8()))
                .sum();
            assert!(spelled.max(text.len()) <= NFC_SHRINKS_BY * composed.len(), "{text:?}");
        }
    }
}
