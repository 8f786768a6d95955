//! Reads which modules a source file names: in its `use` declarations and in the paths in its code, macros' bodies
//! included. Comments and code that only tests compile are left out. It reads tokens and knows no types.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Words of a path, as written: `["super", "error", "LedgerError"]`. The last is `*` for a glob.
pub(crate) type Words = Vec<String>;

/// What a `use` declaration brings into its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// What is brought.
    pub(crate) path: Words,
    /// Under which name; the path's last word, unless it is renamed.
    pub(crate) name: String,
    /// Whether it is brought for others too (`pub`, `pub(crate)`).
    pub(crate) is_shown: bool,
}

/// What a file says of modules. Modules written within a file count as that file; their paths are told as if they stood
/// in the file's own module.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// All `use` declarations, one entry for each name.
    pub(crate) imports: Vec<Import>,
    /// All other paths of two words or more.
    pub(crate) paths: Vec<Words>,
    /// The names that the file defines at its top.
    pub(crate) defined: BTreeSet<String>,
    /// All words that stand outside of `use` declarations.
    pub(crate) words: BTreeSet<String>,
}

/// Reads a file's text.
///
/// # Errors
/// It isn't Rust.
pub(crate) fn read(text: &str) -> Result<Reading, proc_macro2::LexError> {
    let mut reading = Reading::default();
    reading.read(text.parse()?, 0);
    Ok(reading)
}

/// What a word that begins a definition is followed by.
const DEFINING: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];

impl Reading {
    /// Reads tokens that stand `inside` that many modules of this file; functions and blocks are no modules.
    fn read(&mut self, tokens: TokenStream, inside: usize) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let (mut is_test, mut is_shown) = (false, false);
        while at < tokens.len() {
            at += match &tokens[at] {
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    is_test |= tokens.get(at + 1).is_some_and(is_for_tests);
                    1
                }
                TokenTree::Ident(word) if word == "pub" => {
                    is_shown = true;
                    1
                }
                TokenTree::Ident(word) if word == "use" => {
                    let end = end_of_item(&tokens, at);
                    if !is_test {
                        self.declaration(&tokens[at + 1..end], is_shown, inside);
                    }
                    (is_test, is_shown) = (false, false);
                    end + 1 - at
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let (false, Some(TokenTree::Group(body))) = (is_test, tokens.get(at + 2)) {
                        self.read(body.stream(), inside + 1);
                    }
                    (is_test, is_shown) = (false, false);
                    3
                }
                TokenTree::Ident(word) if begins_path(&tokens, at) => {
                    let (path, taken) = path(&tokens, at);
                    if !is_test {
                        self.words.extend(path.first().cloned());
                    }
                    if path.len() > 1 && !is_test {
                        self.paths.extend(outward(path, inside));
                    }
                    if inside == 0 && DEFINING.iter().any(|defining| word == defining) {
                        self.defined.extend(tokens.get(at + 1).map(ToString::to_string));
                    }
                    taken
                }
                TokenTree::Group(group) => {
                    // The body of a function or a type that only tests have.
                    let is_body = group.delimiter() == Delimiter::Brace;
                    if !is_test {
                        self.read(group.stream(), inside);
                    }
                    if is_body {
                        (is_test, is_shown) = (false, false);
                    }
                    1
                }
                TokenTree::Punct(mark) if mark.as_char() == ';' => {
                    (is_test, is_shown) = (false, false);
                    1
                }
                _ => 1,
            };
        }
    }

    /// Reads what stands between `use` and `;`.
    fn declaration(&mut self, tokens: &[TokenTree], is_shown: bool, inside: usize) {
        for (path, name) in tree(tokens, &[]) {
            if let Some(path) = outward(path, inside) {
                self.imports.push(Import { path, name: name.clone(), is_shown });
            }
        }
    }
}

/// Whether the tokens of an attribute, `[cfg(test)]`, keep what follows out of programs.
fn is_for_tests(attribute: &TokenTree) -> bool {
    let text: String = attribute.to_string().split_whitespace().collect();
    text.starts_with("[cfg(test") || text == "[test]" || text.starts_with("[tokio::test")
}

fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ';');
    tokens[from..].iter().position(is_end).map_or(tokens.len(), |length| from + length)
}

/// Whether the word at this place can be a path's first: not a field or a method, not a path's later word.
fn begins_path(tokens: &[TokenTree], at: usize) -> bool {
    let mark = |back: usize| match at.checked_sub(back).and_then(|before| tokens.get(before)) {
        Some(TokenTree::Punct(mark)) => Some(mark.as_char()),
        _ => None,
    };
    match (mark(2), mark(1)) {
        // Two dots are a range, or the rest of a structure.
        (second, Some('.')) => second == Some('.'),
        (second, Some(':')) => second != Some(':'),
        _ => true,
    }
}

/// A path as it would stand in the file's own module, of one that stands `inside` that many modules of the file. None: it
/// doesn't leave those.
fn outward(path: Words, inside: usize) -> Option<Words> {
    let first = path.first().map(String::as_str);
    if inside == 0 || first == Some("crate") {
        return Some(path);
    }
    let ups = path.iter().take_while(|word| *word == "super").count();
    let rest = path.get(inside..).filter(|_| ups >= inside)?;
    Some(std::iter::once("self".to_owned()).filter(|_| ups == inside).chain(rest.iter().cloned()).collect())
}

/// The path that begins at a word, and how many tokens it takes. It ends where arguments of types begin.
fn path(tokens: &[TokenTree], at: usize) -> (Words, usize) {
    let mut words = vec![tokens[at].to_string()];
    let mut next = at + 1;
    while let (true, Some(TokenTree::Ident(word))) = (is_separator(tokens, next), tokens.get(next + 2)) {
        words.push(word.to_string());
        next += 3;
    }
    (words, next - at)
}

fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon =
        |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    is_colon(tokens.get(at)) && is_colon(tokens.get(at + 1))
}

/// The paths of one `use` tree, with the names that they get.
fn tree(tokens: &[TokenTree], stem: &[String]) -> Vec<(Words, String)> {
    let mut found = Vec::new();
    for branch in tokens.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',')) {
        found.extend(one(branch, stem));
    }
    found
}

fn one(branch: &[TokenTree], stem: &[String]) -> Vec<(Words, String)> {
    let mut words = stem.to_vec();
    let mut renamed = None;
    let mut rest = branch.iter();
    while let Some(token) = rest.next() {
        match token {
            TokenTree::Ident(word) if word == "as" => renamed = rest.next().map(ToString::to_string),
            TokenTree::Ident(word) if word == "self" && !words.is_empty() => {}
            TokenTree::Ident(word) => words.push(word.to_string()),
            TokenTree::Group(group) => return grouped(group, &words),
            TokenTree::Punct(mark) if mark.as_char() == '*' => words.push("*".to_owned()),
            _ => {}
        }
    }
    let name = renamed.or_else(|| words.last().cloned());
    name.map(|name| (words, name)).into_iter().collect()
}

fn grouped(group: &Group, words: &[String]) -> Vec<(Words, String)> {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    tree(&tokens, words)
}
