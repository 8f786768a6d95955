//! Reads OpenAI's `metadata`: up to 16 pairs of texts, by which a client finds its jobs again.

use infera_ledger::Metadata;

use crate::fastapi::{Field, Flaw, Json, Kind, Mistakes, Range, Step};

/// OpenAI's bounds, in pairs and characters.
const PAIRS_MAX: usize = 16;
const KEY_MAX: usize = 64;
const VALUE_MAX: usize = 512;

/// The member, for the description of the API. It is checked by [`read`].
pub(crate) const METADATA: Field = Field::optional("metadata", Kind::Nullable(&Kind::Dictionary))
    .about("Pairs of texts by which the client finds its jobs again.")
    .range(Range::Pairs { most: PAIRS_MAX, key_max: KEY_MAX, value_max: VALUE_MAX });

/// Reads the pairs of a body's member `metadata`, and notes what is wrong with them.
pub(crate) fn read(body: &Json, mistakes: &mut Mistakes) -> Metadata {
    let within =
        |step: Option<Step>| [Some(Step::name("metadata")), step].into_iter().flatten().collect::<Vec<_>>();
    let mut metadata = Metadata::new();
    let members = match body.get("metadata") {
        None | Some(Json::Null) => return metadata,
        Some(Json::Object(members)) => members,
        Some(other) => {
            mistakes.add(&within(None), Flaw::new("dict_type", "Input should be a valid dictionary"), other);
            return metadata;
        }
    };
    if members.len() > PAIRS_MAX {
        let message = format!(
            "Dictionary should have at most {PAIRS_MAX} items after validation, not {}",
            members.len()
        );
        mistakes.add(&within(None), Flaw::new("too_long", message), &Json::Null);
    }
    for (key, value) in members {
        let mut wrong = |kind, message| {
            mistakes.add(&within(Some(Step::their_name(key))), Flaw::new(kind, message), value);
        };
        match value {
            _ if key.chars().count() > KEY_MAX || key.contains('\0') => {
                wrong(
                    "value_error",
                    format!("A key should have at most {KEY_MAX} characters, none of them U+0000"),
                );
            }
            Json::Text(text) if text.chars().count() > VALUE_MAX || text.contains('\0') => {
                wrong(
                    "value_error",
                    format!("A value should have at most {VALUE_MAX} characters, none of them U+0000"),
                );
            }
            Json::Text(text) => {
                metadata.insert(key.clone(), text.clone());
            }
            _ => wrong("string_type", "Input should be a valid string".to_owned()),
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Metadata, usize> {
        let body = crate::fastapi::json::read(text.as_bytes()).unwrap();
        let mut mistakes = Mistakes::default();
        let metadata = read(&body, &mut mistakes);
        mistakes.none_or(metadata).map_err(|mistakes| mistakes.count())
    }

    #[test]
    fn pairs_are_texts_within_openais_bounds() {
        let pairs = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|number| format!("\"{number}\":\"x\"")).collect();
            format!("{{\"metadata\":{{{}}}}}", pairs.join(","))
        };
        for (text, expected) in [
            ("{}".to_owned(), Ok(0)),
            ("{\"metadata\":null}".to_owned(), Ok(0)),
            ("{\"metadata\":{}}".to_owned(), Ok(0)),
            (pairs(16), Ok(16)),
            (pairs(17), Err(1)),
            (format!("{{\"metadata\":{{\"{}\":\"{}\"}}}}", "é".repeat(64), "é".repeat(512)), Ok(1)),
            (format!("{{\"metadata\":{{\"{}\":\"x\"}}}}", "k".repeat(65)), Err(1)),
            (format!("{{\"metadata\":{{\"k\":\"{}\"}}}}", "v".repeat(513)), Err(1)),
            ("{\"metadata\":{\"k\":\"\\u0000\",\"\\u0000\":\"v\"}}".to_owned(), Err(2)),
            ("{\"metadata\":{\"k\":1,\"l\":null,\"m\":\"\\ud800\"}}".to_owned(), Err(3)),
            ("{\"metadata\":[]}".to_owned(), Err(1)),
            ("{\"metadata\":\"x\"}".to_owned(), Err(1)),
        ] {
            assert_eq!(read_text(&text).map(|metadata| metadata.len()), expected, "{text}");
        }
    }
}
