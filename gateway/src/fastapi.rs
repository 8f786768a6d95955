//! Checks bodies as FastAPI does, with the same messages byte for byte: the seed's clients know them, and no library
//! writes them. A body's bytes become a checked request or a list of everything that is wrong. `json` reads JSON,
//! `check` compares it with the shape in a table, `number` and `email` convert values as pydantic does, `form` takes
//! queries apart and `query` reads their parameters, `strangers` refuses members that no table has, `mistakes` and `echo` collect what is
//! wrong, bounded in size, and `range` has the words for what a table says beyond the shape.
//!
//! This room knows nothing of the gateway and makes no replies; `api` shows the mistakes.

pub(crate) mod check;
pub(crate) mod echo;
pub(crate) mod email;
pub(crate) mod form;
pub(crate) mod json;
pub(crate) mod mistakes;
pub(crate) mod number;
pub(crate) mod query;
pub(crate) mod range;
pub(crate) mod strangers;

pub(crate) use check::{Checked, Field, Kind, check, check_closed};
pub(crate) use json::Json;
pub(crate) use mistakes::{Flaw, Mistake, Mistakes, Part, Step};
pub(crate) use range::{Bound, Range};
pub(crate) use strangers::{Strangers, refuse_strangers};

use hyper::header::HeaderValue;
use json::JsonError;

/// The largest part of a client's `Content-Type` that is shown, in bytes.
const SHOWN_MAX_BYTES: usize = 100;

/// The reason why a body was refused.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unfit {
    /// Everything that is wrong, in the order found.
    Mistakes(Mistakes),
    /// The body is not JSON.
    Syntax {
        /// Python's message.
        message: &'static str,
        /// The position of the character where reading failed.
        position: usize,
    },
    /// The body is not UTF-8, is nested too deep, or has a number that is too long.
    Unreadable,
}

impl From<Mistakes> for Unfit {
    fn from(mistakes: Mistakes) -> Self {
        Self::Mistakes(mistakes)
    }
}

/// Reads a body as JSON. As in FastAPI, an empty body counts as missing, and a body with another content type counts
/// as a text, which no route takes. FastAPI says of such a text only that it is no object; our message names the
/// header.
///
/// # Errors
/// [`Unfit`].
pub(crate) fn read(content_type: Option<&HeaderValue>, body: &[u8]) -> Result<Json, Unfit> {
    if body.is_empty() {
        return Err(Mistakes::one(Flaw::missing(), &Json::Null).into());
    }
    if !content_type.is_some_and(|value| value.to_str().is_ok_and(is_json)) {
        let flaw = Flaw::new("model_attributes_type", wrong_type(content_type));
        let text = Json::Text(String::from_utf8_lossy(body).into_owned());
        return Err(Mistakes::one(flaw, &text).into());
    }
    json::read(body).map_err(|error| match error {
        JsonError::Syntax { message, position } => Unfit::Syntax { message, position },
        JsonError::Unreadable => Unfit::Unreadable,
    })
}

/// Returns the message about a content type that isn't JSON's: what is wrong and what to do.
fn wrong_type(content_type: Option<&HeaderValue>) -> String {
    const REMEDY: &str = "send the body as JSON with 'Content-Type: application/json'";
    match content_type {
        None => format!("The header Content-Type is missing: {REMEDY}"),
        Some(value) => {
            let shown = echo::cut(&String::from_utf8_lossy(value.as_bytes()), SHOWN_MAX_BYTES);
            format!("The header Content-Type says '{shown}': {REMEDY}")
        }
    }
}

/// Returns whether a content type is `application/json` or `application/…+json`, in any case and with any parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.split_once('/') {
        Some(("application", subtype)) => {
            !subtype.contains('/') && (subtype == "json" || subtype.ends_with("+json"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::echo::echo;
    use super::json::{Json, JsonError, read};

    fn syntax(text: &str) -> (&'static str, usize) {
        match read(text.as_bytes()) {
            Err(JsonError::Syntax { message, position }) => (message, position),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn errors_stand_where_python_has_them() {
        for (text, message, position) in [
            ("", "Expecting value", 0),
            ("{", "Expecting property name enclosed in double quotes", 1),
            ("{\"a\" 1}", "Expecting ':' delimiter", 5),
            ("{\"a\":1,}", "Expecting property name enclosed in double quotes", 7),
            ("[1 2]", "Expecting ',' delimiter", 3),
            ("\"é\" x", "Extra data", 4),
            ("\"\\u12g4\"", "Invalid \\uXXXX escape", 2),
            ("\"\\u1234", "Invalid \\uXXXX escape", 2),
            ("\"ab", "Unterminated string starting at", 0),
            ("\"a\tb\"", "Invalid control character at", 2),
            ("01", "Extra data", 1),
            ("-", "Expecting value", 0),
        ] {
            assert_eq!(syntax(text), (message, position), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_bounded() {
        assert_eq!(read(&[b'['; 10_000]), Err(JsonError::Unreadable));
        assert_eq!(read(b"\"\xff\""), Err(JsonError::Unreadable));
        assert_eq!(read(&[b'1'; 5_000]), Err(JsonError::Unreadable));
    }

    #[test]
    fn half_a_pair_is_no_text() {
        assert_eq!(read(b"\"a\\ud800\""), Ok(Json::BrokenText("a\u{fffd}".to_owned())));
        assert_eq!(read(b"\"\\ud83d\\ude00\""), Ok(Json::Text("😀".to_owned())));
    }

    #[test]
    fn the_last_of_equal_keys_counts_in_the_place_of_the_first() {
        let many: String = (0..40).map(|index| format!("\"k{}\":{index},", index % 20)).collect();
        let Ok(Json::Object(members)) = read(format!("{{{many}\"z\":0}}").as_bytes()) else { panic!() };
        assert_eq!(members.len(), 21);
        assert_eq!(members[0], ("k0".to_owned(), Json::Int(20)));
    }

    #[test]
    fn many_keys_do_not_cost_their_square() {
        let many: String = (0..80_000).map(|index| format!("\"{index}\":1,")).collect();
        let start = std::time::Instant::now();
        assert!(read(format!("{{{many}\"z\":0}}").as_bytes()).is_ok());
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e300..1e300_f64).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_read_as_the_common_library_reads_it(value in any_json()) {
            let read = read(value.to_string().as_bytes());
            prop_assert!(read.is_ok());
            let out = echo(&read.unwrap_or(Json::Null), usize::MAX);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&out).ok(), Some(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let ours = read(&bytes).is_ok();
            let theirs = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
            // We accept what the common library accepts, and also NaN, long integers and half surrogate pairs.
            prop_assert!(ours || !theirs || bytes.starts_with(b"\xef\xbb\xbf"));
        }
    }
}
