//! Matches topic patterns as AMQP 0-9-1 defines them. Pure; it does not know which queues exist.

/// Splits a text into its words between dots; an empty text has none.
pub(super) fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

/// Returns whether the words of a key match those of a pattern: `*` is exactly one word, `#` any number of words,
/// including none. Time grows with the key's length to the power of the number of `#`s; patterns are the operator's
/// own and have at most one.
pub(super) fn matches(pattern: &[impl AsRef<str>], key: &[&str]) -> bool {
    let Some((wanted, pattern_rest)) = pattern.split_first() else { return key.is_empty() };
    if wanted.as_ref() == "#" {
        return (0..=key.len()).any(|taken| matches(pattern_rest, &key[taken..]));
    }
    let Some((word, key_rest)) = key.split_first() else { return false };
    (wanted.as_ref() == "*" || wanted.as_ref() == *word) && matches(pattern_rest, key_rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(pattern: &str, key: &str) -> bool {
        matches(&words(pattern), &words(key))
    }

    #[test]
    fn patterns_match_as_amqp_says() {
        let cases = [
            ("capacity", "capacity", true),
            ("capacity", "capacity.more", false),
            ("capacity", "", false),
            ("*.heartbeat", "n1.heartbeat", true),
            ("*.heartbeat", "heartbeat", false),
            ("*.heartbeat", "a.b.heartbeat", false),
            ("*.replica.v1", "n1.replica.v1", true),
            ("*.replica.v1", "n1.replica.v2", false),
            ("*.replica.v1", "n1.refusal.v1", false),
            ("*.replica.v1", "n1.replica.v1.more", false),
            ("*.replica.v1", "*.replica.v1", true),
            ("n1.replica.v1", "*.replica.v1", false),
            ("n1.#", "n1", true),
            ("n1.#", "n1.replica.v1", true),
            ("n1.#", "n2.replica.v1", false),
            ("n1.*", "n1", false),
            ("n1.*", "n1.", true),
            ("#.v1", "v1", true),
            ("#.v1", "a.b.v1", true),
            ("#.v1", "a.b.v2", false),
            ("a.#.b.#.c", "a.b.c", true),
            ("a.#.b.#.c", "a.x.b.y.b.z.c", true),
            ("a.#.b.#.c", "a.x.c", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("*", "", false),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, key, expected) in cases {
            assert_eq!(whole(pattern, key), expected, "{pattern:?} against {key:?}");
        }
    }

    proptest! {
        #[test]
        fn a_key_matches_itself_and_its_stars(key in prop::collection::vec("[a-z]{1,3}", 1..6), star in 0usize..6) {
            let text = key.join(".");
            prop_assert!(whole(&text, &text));
            prop_assert!(whole("#", &text));
            let mut pattern = key.clone();
            let at = star % pattern.len();
            "*".clone_into(&mut pattern[at]);
            prop_assert!(whole(&pattern.join("."), &text));
            "#".clone_into(&mut pattern[at]);
            prop_assert!(whole(&pattern.join("."), &text));
            pattern.remove(at);
            prop_assert!(!whole(&pattern.join("."), &text));
        }
    }
}
