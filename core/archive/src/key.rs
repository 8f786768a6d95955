//! Defines which keys objects may have: the same in every store, so that an archive can be moved from one to another.

use super::ArchiveError;

/// The longest key. Object stores accept 1,024 bytes; our keys have under a hundred.
const KEY_MAX_BYTES: usize = 512;

/// The longest word of a key: file systems accept 255 bytes, and a temporary name needs some of them.
const WORD_MAX_BYTES: usize = 200;

/// Checks that `key` consists of words of `[a-z0-9_.-]` between slashes, none of which begins with a dot: it is never
/// absolute, never points upwards, and is never a temporary name.
///
/// # Errors
/// [`ArchiveError::InvalidKey`].
pub fn check(key: &str) -> Result<(), ArchiveError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    let is_word = |word: &str| {
        (1..=WORD_MAX_BYTES).contains(&word.len()) && !word.starts_with('.') && word.bytes().all(is_plain)
    };
    let is_key = key.len() <= KEY_MAX_BYTES && key.split('/').all(is_word);
    if is_key { Ok(()) } else { Err(ArchiveError::InvalidKey(key.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_relative_paths_of_plain_words() {
        for key in ["a", "jobs/2026/11/22/13/seg_0a.ndjson.zst", "a-b_c.d", "0/1/2"] {
            assert!(check(key).is_ok(), "{key}");
        }
        let long_word = "a".repeat(WORD_MAX_BYTES + 1);
        let long_key = "a/".repeat(KEY_MAX_BYTES);
        for key in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "../a",
            "a/.",
            ".writing-x",
            "a/.writing-x",
            "A",
            "a b",
            "a\\b",
            "a\0",
            "\u{e9}",
            "a:b",
            "~",
            &long_word,
            &long_key,
        ] {
            assert!(check(key).is_err(), "{key:?}");
        }
    }
}
