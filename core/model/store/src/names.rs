//! The names that strangers choose and we make paths of: models and the files of their repositories.

use std::fmt;

/// The longest name of a model: file systems take 255 bytes for a name, and queues' names hold it too.
const MODEL_MAX_BYTES: usize = 96;
/// The longest path of a file; object stores accept 1,024 bytes.
const PATH_MAX_BYTES: usize = 512;
/// The longest name within a path: file systems accept 255 bytes, and a partial file's name needs some of them.
const PART_MAX_BYTES: usize = 200;

/// The folder within a model's folder that holds what the store knows of it.
pub const STATE: &str = ".infera";
/// The ending of a file that is not whole yet.
pub const PARTIAL: &str = ".part";
/// The ending of the note about such a file.
pub const PARTIAL_NOTE: &str = ".part.json";

/// A name that can't be used; says which and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} {problem}")]
pub struct NameError {
    what: &'static str,
    name: String,
    problem: String,
}

/// Quotes at most this many characters of a stranger's name.
const QUOTED_MAX: usize = 120;

fn refused(what: &'static str, name: &str, problem: impl fmt::Display) -> NameError {
    NameError { what, name: name.chars().take(QUOTED_MAX).collect(), problem: problem.to_string() }
}

/// Checks a model's name, which is its folder's: lower-case letters, digits and `_.-`, the first one a letter or a digit.
/// Clients write it, and queues and objects of the archive are called by it.
///
/// # Errors
/// [`NameError`].
pub fn check_model(name: &str) -> Result<(), NameError> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if first && name.len() <= MODEL_MAX_BYTES && name.bytes().all(is_plain) {
        return Ok(());
    }
    let problem = format!(
        "is no name for a model: at most {MODEL_MAX_BYTES} lower-case letters, digits and _.-, beginning with a letter or digit"
    );
    Err(refused("the name", name, problem))
}

/// Returns the name of the model in a repository: the last part of the repository's name, in lower case.
///
/// # Errors
/// [`NameError`], if that can't be a model's name.
pub fn model_of(repository: &str) -> Result<String, NameError> {
    check_repository(repository)?;
    let last = repository.rsplit('/').next().unwrap_or_default().to_lowercase();
    check_model(&last).map(|()| last)
}

/// Checks the name of a repository: one or two words of letters, digits and `_.-` with a slash between.
///
/// # Errors
/// [`NameError`].
pub fn check_repository(repository: &str) -> Result<(), NameError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_word = |word: &str| {
        (1..=MODEL_MAX_BYTES).contains(&word.len()) && !word.starts_with('.') && word.bytes().all(is_plain)
    };
    if repository.split('/').count() <= 2 && repository.split('/').all(is_word) {
        return Ok(());
    }
    Err(refused("the repository", repository, "is not of the form owner/name"))
}

/// Checks the name of a revision: a branch, a tag or a commit. It becomes one word of a URL.
///
/// # Errors
/// [`NameError`].
pub fn check_revision(revision: &str) -> Result<(), NameError> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\\?#%".contains(&byte);
    let is_fine = (1..=PART_MAX_BYTES).contains(&revision.len())
        && revision.bytes().all(is_plain)
        && revision.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if is_fine {
        return Ok(());
    }
    Err(refused("the revision", revision, "is no branch, tag or commit"))
}

/// Returns whether a revision is a commit, which always means the same files.
#[must_use]
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Checks that a file's path stays within the folder that it is joined to, on every system, and is none of the store's own.
///
/// # Errors
/// [`NameError`] names the path and what is wrong with it.
pub fn check_path(path: &str) -> Result<(), NameError> {
    let wrong = |problem: &str| Err(refused("the file name", path, problem));
    if path.is_empty() || path.len() > PATH_MAX_BYTES {
        return wrong("is empty or too long");
    }
    if path.chars().any(char::is_control) {
        return wrong("holds control characters");
    }
    if path.contains(['\\', ':']) {
        return wrong("holds a backslash or a colon, which some systems take for a way out of the folder");
    }
    for part in path.split('/') {
        match part {
            "" => return wrong("is absolute or holds an empty part"),
            "." | ".." => return wrong("leaves the model's folder"),
            STATE => return wrong("is in the folder that the store keeps for itself"),
            part if part.len() > PART_MAX_BYTES => return wrong("has a part that is too long"),
            part if part.ends_with(PARTIAL) || part.ends_with(PARTIAL_NOTE) => {
                return wrong("ends as the store's own partial files do");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns a stranger's sentence as it may be shown: one line without control characters, at most 300 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|character| !character.is_control())
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_folder() {
        for fine in
            ["config.json", "onnx/model.onnx", "onnx/model.onnx_data", "a/b/c", "..a/b..", ".gitattributes"]
        {
            assert_eq!(check_path(fine), Ok(()), "{fine}");
        }
        let long = "a".repeat(PART_MAX_BYTES + 1);
        let far = "a/".repeat(PATH_MAX_BYTES);
        for evil in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            "./x",
            "a//b",
            "a/",
            "a\\..\\x",
            "C:/x",
            "x\0y",
            "x\ny",
            ".infera/manifest.json",
            "onnx/.infera",
            "model.onnx.part",
            "model.onnx.part.json",
            &long,
            &far,
        ] {
            assert!(check_path(evil).is_err(), "{evil:?}");
        }
        let told = check_path("../../.bashrc").expect_err("evil").to_string();
        assert!(told.contains("../../.bashrc") && told.contains("leaves"), "{told}");
    }

    #[test]
    fn models_repositories_and_revisions_have_plain_names() {
        assert_eq!(model_of("HuggingFaceTB/SmolLM2-135M-Instruct"), Ok("smollm2-135m-instruct".to_owned()));
        assert_eq!(model_of("gpt2"), Ok("gpt2".to_owned()));
        for evil in ["", "a/b/c", "../x", "a/..", "a b", "/a", "a/", "a/b?x", "é/x"] {
            assert!(model_of(evil).is_err(), "{evil}");
        }
        for evil in ["", "A", "..", ".x", "-x", "a/b", "a b"] {
            assert!(check_model(evil).is_err(), "{evil}");
        }
        for fine in ["main", "v1.0", "refs/pr/1", "0123456789012345678901234567890123456789"] {
            assert_eq!(check_revision(fine), Ok(()));
        }
        for evil in ["", "..", "a/../b", "/main", "a b", "a?b", "a#b", "a%2e", "a\\b"] {
            assert!(check_revision(evil).is_err(), "{evil}");
        }
        assert!(is_commit("0123456789012345678901234567890123456789") && !is_commit("main"));
    }

    #[test]
    fn what_strangers_say_is_one_plain_line() {
        assert_eq!(shown("a\n\tb \u{1b}[31mc"), "a b [31mc");
        assert_eq!(shown(&"x".repeat(1000)).len(), 300);
    }
}
