//! Refuses members that a body may not have, by name, and says which ones exist: a misspelt option that is silently ignored does
//! not do what was meant.

use super::json::Json;
use super::mistakes::{Flaw, Mistakes, Step};

/// The largest number of known members that a refusal lists. A conversation has some fifty, which would hide what is wrong.
const LISTED_MAX: usize = 12;

/// Pydantic's words.
const FORBIDDEN: &str = "Extra inputs are not permitted";

/// The longest name that is compared with the known ones, in bytes. No known name is half as long.
const COMPARED_MAX_BYTES: usize = 64;

/// The shortest part of a name that tells what was meant, in bytes.
const PART_MIN_BYTES: usize = 4;

/// The most members of one body that are compared with the known ones, so that a body of nothing but strangers costs little more than
/// another. A client that has more of them wrong has another mistake.
const COMPARED_MAX: usize = 10;

/// Notes the members of `body` that aren't `known`, each with the known one that was probably meant. `within` is where the body
/// stands. What is no object has no members.
pub(crate) fn refuse_strangers(body: &Json, known: &[&str], within: &[Step], mistakes: &mut Mistakes) {
    Strangers::new(known).refuse(body, within, mistakes);
}

/// Refuses strangers in several places of one body, of which the first few are compared with the members that are known.
#[derive(Debug)]
pub(crate) struct Strangers<'a> {
    known: &'a [&'a str],
    compared: usize,
}

impl<'a> Strangers<'a> {
    /// Begins with nothing compared.
    pub(crate) const fn new(known: &'a [&'a str]) -> Self {
        Self { known, compared: 0 }
    }

    /// Notes the members of a place as [`refuse_strangers`] does.
    pub(crate) fn refuse(&mut self, place: &Json, within: &[Step], mistakes: &mut Mistakes) {
        let Json::Object(members) = place else { return };
        for (name, value) in members.iter().filter(|(name, _)| !self.known.contains(&name.as_str())) {
            let flaw = if self.compared >= COMPARED_MAX {
                Flaw::new("extra_forbidden", FORBIDDEN)
            } else {
                self.compared += 1;
                Flaw::stranger(name, self.known)
            };
            let location: Vec<Step> = within.iter().cloned().chain([Step::their_name(name)]).collect();
            mistakes.add(&location, flaw, value);
        }
    }
}

impl Flaw {
    /// Returns the flaw of a member that no body of this kind has.
    fn stranger(name: &str, known: &[&str]) -> Self {
        let meant = nearest(name, known).map(|meant| format!(", did you mean '{meant}'?"));
        let quoted = |known: &&str| format!("'{known}'");
        let all = if known.len() <= LISTED_MAX {
            format!(" There are: {}.", known.iter().map(quoted).collect::<Vec<_>>().join(", "))
        } else if meant.is_none() {
            " GET /openapi.json lists those that there are.".to_owned()
        } else {
            String::new()
        };
        let message = format!("There is no such member{}{all}", meant.unwrap_or_else(|| ".".to_owned()));
        Self::new("extra_forbidden", FORBIDDEN).advising(message)
    }
}

/// Returns the known name that a misspelt one obviously stands for: most letters are the same, or one is a part of the other, or
/// both begin alike.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if name.len() > COMPARED_MAX_BYTES {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let near = known.iter().copied().filter_map(|known| {
        let changes = changes(&name, known);
        let (longer, shorter) = (name.len().max(known.len()), name.len().min(known.len()));
        let begins_alike = name.bytes().zip(known.bytes()).take_while(|(one, other)| one == other).count();
        let is_part = shorter >= PART_MIN_BYTES && (known.contains(&name) || name.contains(known));
        let is_near =
            changes * 3 <= longer || is_part || (begins_alike > PART_MIN_BYTES && begins_alike * 2 > shorter);
        is_near.then_some((changes, known))
    });
    near.min_by_key(|(changes, _)| *changes).map(|(_, known)| known)
}

/// Returns how many bytes have to be inserted, removed, replaced or swapped with their neighbour to make one name of the other.
fn changes(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let first: Vec<usize> = (0..=other.len()).collect();
    let (mut before_last, mut last) = (first.clone(), first);
    for (row, byte) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, other_byte) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(byte != other_byte);
            let mut least = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            let is_swapped =
                row > 0 && column > 0 && one[row - 1] == *other_byte && *byte == other[column - 1];
            if is_swapped {
                least = least.min(before_last[column - 1] + 1);
            }
            next.push(least);
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::json::read;
    use super::*;

    const KEY: [&str; 4] = ["name", "scopes", "expires_in_s", "retention_days"];

    #[test]
    fn a_misspelt_name_leads_to_the_one_that_was_meant() {
        for (name, expected) in [
            ("expires_at", Some("expires_in_s")),
            ("expires", Some("expires_in_s")),
            ("expire_in_s", Some("expires_in_s")),
            ("Name", Some("name")),
            ("nmae", Some("name")),
            ("scope", Some("scopes")),
            ("days", Some("retention_days")),
            ("retention", Some("retention_days")),
            ("colour", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(nearest(name, &KEY), expected, "{name}");
        }
        assert_eq!(nearest(&"n".repeat(65), &["n"]), None);
        assert_eq!(
            (changes("ab", "ba"), changes("", "abc"), changes("kitten", "sitting"), changes("a", "a")),
            (1, 3, 3, 0)
        );
    }

    #[test]
    fn strangers_are_named_with_what_there_is() {
        let body = read(br#"{"name": "x", "expires_at": 5, "colour": 1}"#).unwrap();
        let mut mistakes = Mistakes::default();
        refuse_strangers(&body, &KEY, &[Step::name("key")], &mut mistakes);
        let said: Vec<(usize, &str)> =
            mistakes.listed().iter().map(|mistake| (mistake.location.len(), mistake.flaw.advice())).collect();
        let all = "There are: 'name', 'scopes', 'expires_in_s', 'retention_days'.";
        assert_eq!(
            said,
            [
                (2, format!("There is no such member, did you mean 'expires_in_s'? {all}").as_str()),
                (2, format!("There is no such member. {all}").as_str()),
            ]
        );
    }

    #[test]
    fn few_of_many_strangers_are_compared_wherever_they_stand() {
        let many: String = (0..80).map(|index| format!("\"expires_{index}\":1,")).collect();
        let body = read(format!("{{{many}\"name\":0}}").as_bytes()).unwrap();
        let (mut strangers, mut advised) = (Strangers::new(&KEY), 0);
        for _ in 0..5 {
            let mut mistakes = Mistakes::default();
            strangers.refuse(&body, &[], &mut mistakes);
            assert_eq!(mistakes.count(), 80);
            advised += mistakes
                .listed()
                .iter()
                .filter(|mistake| mistake.flaw.advice().contains("did you mean"))
                .count();
        }
        assert_eq!(advised, COMPARED_MAX);
    }
}
