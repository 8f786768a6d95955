//! Takes a form's text apart, as queries are written: pairs between `&`, percent-encoded, with a plus for a space.

use std::borrow::Cow;

use percent_encoding::{PercentDecode, percent_decode_str};

/// Returns the names and values of a form as they are written; a name without a `=` has an empty value.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

/// Returns a name or value as it is meant; none if it isn't UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    with_spaces(text, |decode| decode.decode_utf8().ok().map(Cow::into_owned))
}

/// The same with a mark in place of what isn't UTF-8.
pub(crate) fn decoded_lossily(text: &str) -> String {
    with_spaces(text, |decode| decode.decode_utf8_lossy().into_owned())
}

fn with_spaces<T>(text: &str, decode: impl FnOnce(PercentDecode<'_>) -> T) -> T {
    decode(percent_decode_str(&text.replace('+', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_taken_apart_and_decoded() {
        let found: Vec<_> = pairs("a=1&&b&c=d=e&=&").collect();
        assert_eq!(found, [("a", "1"), ("b", ""), ("c", "d=e"), ("", "")]);
        assert_eq!(decoded("a%20b+c%2Bd").as_deref(), Some("a b c+d"));
        assert_eq!((decoded("%ff"), decoded_lossily("%ff").as_str()), (None, "\u{fffd}"));
        assert_eq!(decoded("%zz%").as_deref(), Some("%zz%"));
    }
}
