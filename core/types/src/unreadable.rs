//! Says where JSON can't be read, without what it says.

use serde_json::error::Category;

/// Returns what kind of error kept JSON from being read, and its place, for logs. The error's own text may quote what was
/// found, which can be a client's request or an answer.
#[must_use]
pub fn unreadable(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        Category::Io => "it can't be read to its end",
        Category::Syntax => "it isn't JSON",
        Category::Data => "a value is missing or of another kind than expected",
        Category::Eof => "it ends too early",
    };
    format!("{kind}, at line {}, column {}", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ChatMessage;

    #[test]
    fn no_text_is_quoted() {
        for (json, expected) in [
            (r#"["my secret"]"#, "a value is missing or of another kind than expected, at line 1, column 13"),
            (r#"{"role": "my secret""#, "it ends too early, at line 1, column 20"),
            (r#"{"role": my secret"#, "it isn't JSON, at line 1, column 10"),
            (
                "{\"role\": {\"my secret\": 1}}",
                "a value is missing or of another kind than expected, at line 1, column 9",
            ),
        ] {
            let error = serde_json::from_str::<ChatMessage>(json).unwrap_err();
            assert_eq!(unreadable(&error), expected, "{json}: {error}");
        }
    }
}
