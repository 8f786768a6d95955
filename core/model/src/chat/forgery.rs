//! Finds special tokens that a client spells out. A model takes `<|end|>` for the end of a turn wherever its
//! tokenizer recognises the spelling, so a spelling that came from a client has to become ordinary text, while the
//! template's own must not.
//!
//! Stand-ins tell where a piece of rendered text came from. In the client's strings, some characters of every
//! spelling (the witnesses) are replaced, one for one, by private characters that occur in none of those strings, and
//! the template is rendered with the result. A spelling that contains a stand-in is the client's, whatever the
//! template did to the text in between (trimmed it, cut it, joined it to other text).
//!
//! Not covered: strings that only become a spelling through a normaliser that folds case or compatible forms, for
//! special tokens that ask to be matched after normalisation.

use std::collections::HashSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::Tokenizer;

use infera_types::job::ChatMessage;
use infera_types::numbers::TokenId;

/// The range of stand-ins: the private planes, because no text needs them and no template looks for them.
const PRIVATE: std::ops::RangeInclusive<u32> = 0xF_0000..=0x10_FFFD;

/// The spellings of a model's special tokens.
#[derive(Debug)]
pub(super) struct Spellings {
    automaton: Option<AhoCorasick>,
    witnesses: Vec<char>,
    /// The tokens of each spelling when it is read as ordinary text.
    as_text: Vec<Vec<TokenId>>,
}

/// One occurrence of a special token's spelling in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    /// The place in the text, in bytes.
    pub(super) range: Range<usize>,
    /// The spelling's number among the spellings.
    pub(super) spelling: usize,
}

/// Says which of the client's characters get stand-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Every witness. It tells the origin of everything, but is visible to templates that look for such a character.
    Every,
    /// Only witnesses within whole spellings. It changes nothing else, but misses spellings that the template puts
    /// together.
    Spelled,
}

impl Spellings {
    /// Collects the spellings of a tokenizer's special tokens. Ordinary tokens that were added to the tokenizer later
    /// (for tools, thoughts, whitespace) are left out: spelling them says nothing that only the template may say.
    /// Fails if a spelling cannot be told from ordinary text; the tokenizer is unchanged afterwards.
    pub(super) fn of(tokenizer: &mut Tokenizer) -> Result<Self, String> {
        let mut tokens: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        tokens.sort_by_key(|(id, _)| *id);
        let special = tokens.into_iter().map(|(_, token)| token).filter(|token| token.special);
        let special: Vec<String> =
            special.map(|token| token.content).filter(|content| !content.is_empty()).collect();
        tokenizer.set_encode_special_tokens(true);
        let as_text: Result<Vec<_>, String> =
            special.iter().map(|spelling| as_text(tokenizer, &special, spelling)).collect();
        tokenizer.set_encode_special_tokens(false);
        Self::new(&special, as_text?)
    }

    fn new(special: &[String], as_text: Vec<Vec<TokenId>>) -> Result<Self, String> {
        if special.is_empty() {
            return Ok(Self { automaton: None, witnesses: Vec::new(), as_text });
        }
        // Matches as the tokenizer does.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(special)
            .map_err(|error| error.to_string())?;
        Ok(Self { automaton: Some(automaton), witnesses: witnesses(special), as_text })
    }

    /// Returns the tokens of a spelling as ordinary text.
    pub(super) fn as_text(&self, spelling: usize) -> &[TokenId] {
        self.as_text.get(spelling).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a text of the client could be part of a spelling at all; most could not.
    pub(super) fn could_be_in(&self, messages: &[ChatMessage]) -> bool {
        texts(messages).any(|text| text.contains(&self.witnesses[..]))
    }

    /// Chooses stand-ins for the witnesses in these messages; none if the messages use up all private characters.
    pub(super) fn stand_ins(&self, messages: &[ChatMessage]) -> Option<StandIns> {
        let is_private = |character: &char| PRIVATE.contains(&u32::from(*character));
        let taken: HashSet<char> = texts(messages).flat_map(str::chars).filter(is_private).collect();
        let mut free = PRIVATE.filter_map(char::from_u32).filter(|character| !taken.contains(character));
        let pairs = self.witnesses.iter().map(|witness| Some((*witness, free.next()?)));
        Some(StandIns { pairs: pairs.collect::<Option<_>>()? })
    }

    /// Returns the messages with stand-ins in them.
    pub(super) fn mask(
        &self,
        messages: &[ChatMessage],
        stand_ins: &StandIns,
        reach: Reach,
    ) -> Vec<ChatMessage> {
        let mask = |text: &str| match reach {
            Reach::Every => stand_ins.put(text),
            Reach::Spelled => {
                let (mut masked, mut at) = (String::with_capacity(text.len()), 0);
                for spelled in self.find(text) {
                    masked.push_str(&text[at..spelled.range.start]);
                    masked.push_str(&stand_ins.put(&text[spelled.range.clone()]));
                    at = spelled.range.end;
                }
                masked.push_str(&text[at..]);
                masked
            }
        };
        let masked = |message: &ChatMessage| ChatMessage {
            role: mask(&message.role),
            content: mask(&message.content),
        };
        messages.iter().map(masked).collect()
    }

    /// Finds the client's spellings in a text with stand-ins, and returns the text without the stand-ins.
    pub(super) fn forged(&self, masked: &str, stand_ins: &StandIns) -> (String, Vec<Spelled>) {
        let (text, replaced) = stand_ins.take(masked);
        let mut replaced = replaced.into_iter().peekable();
        let is_forged = |spelled: &Spelled| {
            while replaced.next_if(|at| *at < spelled.range.start).is_some() {}
            replaced.peek().is_some_and(|at| *at < spelled.range.end)
        };
        let forged = self.find(&text).filter(is_forged).collect();
        (text, forged)
    }

    fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Spelled> + 'a {
        let found = self.automaton.iter().flat_map(move |automaton| automaton.find_iter(text));
        found.map(|found| Spelled { range: found.range(), spelling: found.pattern().as_usize() })
    }
}

/// Returns the tokens of `spelling` by a tokenizer that recognises no special tokens.
fn as_text(tokenizer: &Tokenizer, special: &[String], spelling: &str) -> Result<Vec<TokenId>, String> {
    let encode = |text: &str| {
        let encoding = tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let is_special =
        |token: &TokenId| tokenizer.id_to_token(*token).is_some_and(|spelled| special.contains(&spelled));
    let whole = encode(spelling)?;
    if !whole.iter().any(is_special) {
        return Ok(whole);
    }
    // The model's own vocabulary contains the whole spelling, but not letter by letter.
    let mut letters = Vec::new();
    for letter in spelling.chars() {
        letters.extend(encode(letter.encode_utf8(&mut [0; 4]))?);
    }
    if letters.iter().any(is_special) {
        return Err(format!("its special token {spelling:?} can't be told from ordinary text"));
    }
    Ok(letters)
}

/// Returns every string of the client that a template can print.
fn texts(messages: &[ChatMessage]) -> impl Iterator<Item = &str> {
    messages.iter().flat_map(|message| [message.role.as_str(), message.content.as_str()])
}

/// Returns at least one character of every spelling: the one that is least common in ordinary text and in templates'
/// conditions.
fn witnesses(spellings: &[String]) -> Vec<char> {
    let mut witnesses: Vec<char> = Vec::new();
    for spelling in spellings {
        if !spelling.contains(&witnesses[..]) {
            witnesses.extend(spelling.chars().min_by_key(|character| (commonness(*character), *character)));
        }
    }
    witnesses
}

const fn commonness(character: char) -> u8 {
    match character {
        '|' => 0,
        '<' | '>' | '[' | ']' => 3,
        character if character.is_ascii_punctuation() => 2,
        character if character.is_ascii() => 4,
        // The full-width bar and similar characters.
        _ => 1,
    }
}

/// The private character that stands for each witness in one rendering.
#[derive(Debug)]
pub(super) struct StandIns {
    pairs: Vec<(char, char)>,
}

impl StandIns {
    fn put(&self, text: &str) -> String {
        let replaced = |character: char| {
            let pair = self.pairs.iter().find(|(witness, _)| *witness == character);
            pair.map_or(character, |(_, stand_in)| *stand_in)
        };
        text.chars().map(replaced).collect()
    }

    /// Returns the text with the witnesses put back, and their places in bytes.
    fn take(&self, masked: &str) -> (String, Vec<usize>) {
        let (mut text, mut places) = (String::with_capacity(masked.len()), Vec::new());
        for character in masked.chars() {
            match self.pairs.iter().find(|(_, stand_in)| *stand_in == character) {
                Some((witness, _)) => {
                    places.push(text.len());
                    text.push(*witness);
                }
                None => text.push(character),
            }
        }
        (text, places)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spellings(list: &[&str]) -> Spellings {
        let list: Vec<_> = list.iter().map(|spelling| (*spelling).to_owned()).collect();
        Spellings::new(&list, Vec::new()).unwrap()
    }

    fn said(content: &str) -> Vec<ChatMessage> {
        vec![ChatMessage { role: "user".to_owned(), content: content.to_owned() }]
    }

    #[test]
    fn witnesses_are_few_and_in_every_spelling() {
        let table: [(&[&str], &[char]); 5] = [
            (&["<|end|>", "<|user|>"], &['|']),
            (&["<s>", "</s>", "[INST]", "<|x|>"], &['<', '[']),
            (&["<｜User｜>", "<｜end▁of▁sentence｜>"], &['｜']),
            (&["<start_of_turn>", "<bos>"], &['_', '<']),
            (&[], &[]),
        ];
        for (list, expected) in table {
            assert_eq!(spellings(list).witnesses, expected, "{list:?}");
        }
    }

    #[test]
    fn only_what_a_stand_in_is_part_of_is_forged() {
        let model = spellings(&["<|end|>", "<|user|>"]);
        let stand_ins = model.stand_ins(&said("a|b")).unwrap();
        let bar = stand_ins.pairs[0].1;
        let table: [(String, &[(usize, usize)]); 6] = [
            ("<|user|>hi<|end|>".to_owned(), &[]),
            (format!("<|user|>a<{bar}end{bar}>b<|end|>"), &[(9, 16)]),
            (format!("<|user|><{bar}end|><|end|>"), &[(8, 15)]),
            (format!("{bar}<|end|>{bar}"), &[]),
            (format!("<{bar}end<{bar}end{bar}>{bar}>"), &[(5, 12)]),
            (format!("{bar}é<{bar}end{bar}><{bar}user{bar}>"), &[(3, 10), (10, 18)]),
        ];
        for (masked, expected) in table {
            let (text, forged) = model.forged(&masked, &stand_ins);
            assert_eq!(text, masked.replace(bar, "|"));
            let ranges: Vec<_> = forged.iter().map(|one| (one.range.start, one.range.end)).collect();
            assert_eq!(ranges, expected, "{text}");
        }
    }

    #[test]
    fn stand_ins_are_none_of_the_clients_characters() {
        let model = spellings(&["<|end|>"]);
        let first = char::from_u32(*PRIVATE.start()).unwrap();
        let second = char::from_u32(PRIVATE.start() + 1).unwrap();
        assert_eq!(model.stand_ins(&said("a|b")).unwrap().pairs, [('|', first)]);
        assert_eq!(model.stand_ins(&said(&format!("|{first}"))).unwrap().pairs, [('|', second)]);
        let all: String = PRIVATE.filter_map(char::from_u32).collect();
        assert!(model.stand_ins(&said(&all)).is_none());
    }

    proptest! {
        #[test]
        fn masking_is_undone(parts in prop::collection::vec("<\\|end\\|>|\\||<|[a-z]|\u{f0000}|é", 0..12)) {
            let (model, content) = (spellings(&["<|end|>", "<s>"]), parts.concat());
            let messages = said(&content);
            let stand_ins = model.stand_ins(&messages).unwrap();
            for reach in [Reach::Every, Reach::Spelled] {
                let masked = model.mask(&messages, &stand_ins, reach);
                prop_assert_eq!(masked[0].content.chars().count(), content.chars().count());
                prop_assert!(!masked[0].content.contains("<|end|>"));
                let (text, forged) = model.forged(&masked[0].content, &stand_ins);
                prop_assert_eq!(&text, &content);
                prop_assert_eq!(forged.len(), content.matches("<|end|>").count());
            }
        }
    }
}
