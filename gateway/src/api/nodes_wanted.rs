//! The words by which a request, and a key's default, say which nodes may be asked.

use infera_types::ids::GroupId;

/// The words as a regular expression, for the API's description.
pub(crate) const PATTERN: &str = "^(any|own|group:[A-Za-z0-9][A-Za-z0-9._-]{0,63})$";

/// The largest length of a group's name, in characters: a line of a list.
pub(crate) const NAME_MAX: usize = 64;

/// The characters of a group's name beside letters and digits.
const MARKS: [char; 3] = ['.', '_', '-'];

/// Which nodes may be asked, in a client's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodesWanted {
    /// Strangers' nodes.
    Any,
    /// The account's own nodes.
    Own,
    /// The nodes of the group of this name or id.
    Group(String),
}

impl NodesWanted {
    /// Reads the words; none if they aren't any.
    pub(crate) fn read(words: &str) -> Option<Self> {
        match words {
            "any" => Some(Self::Any),
            "own" => Some(Self::Own),
            _ => {
                let group = words.strip_prefix("group:")?;
                is_word(group).then(|| Self::Group(group.to_owned()))
            }
        }
    }

    /// Returns the words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Any => "any".to_owned(),
            Self::Own => "own".to_owned(),
            Self::Group(group) => format!("group:{group}"),
        }
    }
}

/// Returns whether a text can be the name of a group: it must not look like an id.
pub(crate) fn is_group_name(text: &str) -> bool {
    is_word(text) && !text.starts_with(GroupId::PREFIX)
}

/// Returns whether a text has the letters of a group's name or id.
fn is_word(text: &str) -> bool {
    let is_first = |letter: char| letter.is_ascii_alphanumeric();
    let is_other = |letter: char| is_first(letter) || MARKS.contains(&letter);
    text.chars().next().is_some_and(is_first) && text.chars().all(is_other) && text.len() <= NAME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back_and_others_are_refused() {
        for words in ["any", "own", "group:lab", "group:grp_0a", "group:a.b_c-9"] {
            assert_eq!(NodesWanted::read(words).map(|wanted| wanted.words()).as_deref(), Some(words));
        }
        let long = format!("group:{}", "x".repeat(NAME_MAX + 1));
        for words in ["", "Own", "group", "group:", "group:-a", "group:a b", "group:\u{e9}", "own ", &long] {
            assert_eq!(NodesWanted::read(words), None, "{words:?}");
        }
        assert!(is_group_name("lab") && !is_group_name("grp_lab"));
    }
}
