//! Cuts a text at stop strings while it is still being written. Pure: it knows the text's pieces, and no tokens.
//!
//! The text ends before the stop string that is complete first; of several that the same piece completes, before the one
//! that begins first. What can't belong to a stop string any more is given out at once; the longest end of the text that
//! a stop string may begin with is held back, so nothing that was given out ever has to be taken back.

/// A text that is cut at stop strings as it comes.
#[derive(Clone, Debug)]
pub struct Cutter {
    stops: Vec<Stop>,
    held: String,
    is_complete: bool,
}

/// What a piece of text leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The text that is final now; often it is empty.
    pub text: String,
    /// Whether a stop string is complete: the text has ended.
    pub is_complete: bool,
}

impl Cutter {
    /// Cuts at any of `stops`. Empty ones cut nothing.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        Self { stops: stops.map(|stop| Stop::new(stop)).collect(), held: String::new(), is_complete: false }
    }

    /// Adds the text's next piece. Stop strings that are completed by it end the text if `may_stop`, and are text like any
    /// other if not. After the end, further pieces give nothing.
    pub fn push(&mut self, piece: &str, may_stop: bool) -> Cut {
        if self.is_complete {
            return Cut { text: String::new(), is_complete: true };
        }
        let known = self.held.len();
        self.held.push_str(piece);
        let (mut begin, mut may_begin) = (None, 0);
        for stop in &mut self.stops {
            if let Some(end) = stop.push(piece.as_bytes()) {
                // All that was matched before this piece is held back.
                let own = (known + end).saturating_sub(stop.bytes.len());
                begin = Some(begin.map_or(own, |other: usize| other.min(own)));
            }
            may_begin = stop.matched.max(may_begin);
        }
        if let Some(begin) = begin.filter(|_| may_stop) {
            self.is_complete = true;
            self.held.truncate(begin);
            return Cut { text: std::mem::take(&mut self.held), is_complete: true };
        }
        let rest = self.held.split_off(self.held.len() - may_begin);
        Cut { text: std::mem::replace(&mut self.held, rest), is_complete: false }
    }

    /// Returns the rest of a text that no stop string ended.
    #[must_use]
    pub fn finish(self) -> String {
        self.held
    }
}

/// A stop string, and how much of it the text ends with. Bytes are compared one by one (Knuth, Morris and Pratt), so that
/// the time is that of the text, whatever the stop string: clients choose both. No crate that searches says how much of
/// a pattern a text ends with.
#[derive(Clone, Debug)]
struct Stop {
    bytes: Vec<u8>,
    /// For each beginning of the stop string, by its last byte: the length of the longest shorter one that it ends with.
    borders: Vec<usize>,
    /// The length of the longest beginning that the text ends with; less than the whole.
    matched: usize,
}

impl Stop {
    fn new(text: &str) -> Self {
        let mut stop = Self { bytes: text.into(), borders: vec![0; text.len()], matched: 0 };
        for end in 1..text.len() {
            stop.matched = stop.after(stop.bytes[end]);
            stop.borders[end] = stop.matched;
        }
        stop.matched = 0;
        stop
    }

    /// Returns how much of the stop string the text ends with after one more byte.
    fn after(&self, byte: u8) -> usize {
        let mut matched = self.matched;
        while matched > 0 && self.bytes[matched] != byte {
            matched = self.borders[matched - 1];
        }
        matched + usize::from(self.bytes[matched] == byte)
    }

    /// Takes the text's next bytes, and returns how many of them complete the first stop string that ends with one of them.
    fn push(&mut self, piece: &[u8]) -> Option<usize> {
        let mut first = None;
        for (&byte, end) in piece.iter().zip(1..) {
            self.matched = self.after(byte);
            if self.matched == self.bytes.len() {
                first = first.or(Some(end));
                self.matched = self.borders[self.matched - 1];
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what each piece, and the end, gives out.
    fn given(pieces: &[&str], stops: &[&str]) -> Vec<String> {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut cutter = Cutter::new(&stops);
        let mut given: Vec<String> = pieces.iter().map(|piece| cutter.push(piece, true).text).collect();
        given.push(cutter.finish());
        given
    }

    #[test]
    fn what_may_begin_a_stop_string_is_held_back() {
        assert_eq!(given(&["a", "b"], &[]), ["a", "b", ""]);
        assert_eq!(given(&["a", "b"], &[""]), ["a", "b", ""]);
        assert_eq!(given(&["a\n", "\n", "b"], &["\n\n"]), ["a", "", "", ""]);
        assert_eq!(given(&["a\n", "b\n"], &["\n\n"]), ["a", "\nb", "\n"]);
        assert_eq!(given(&["aab", "aac"], &["aabaab", "c"]), ["", "aabaa", ""]);
        assert_eq!(given(&["xa", "a", "a", "b"], &["aab"]), ["x", "", "a", "", ""]);
    }

    #[test]
    fn the_first_that_is_complete_ends_the_text() {
        assert_eq!(given(&["abc", "d"], &["abcd", "c"]).concat(), "ab", "the longer one comes later");
        assert_eq!(given(&["abcd"], &["c", "bcd"]).concat(), "a", "one piece completes both");
        assert_eq!(given(&["a€", "b"], &["€b"]), ["a", "", ""]);
    }

    /// Finds the end of the text by its definition, as the piece that completes a stop string and where that begins.
    fn end(pieces: &[String], stops: &[String], counts_from: usize) -> Option<(usize, usize)> {
        let text = pieces.concat();
        let mut known = 0;
        for (number, piece) in pieces.iter().enumerate() {
            let ends = known + 1..=known + piece.len();
            known += piece.len();
            let begins = (0..text.len()).filter(|&begin| {
                stops.iter().any(|stop| {
                    text.as_bytes()[begin..].starts_with(stop.as_bytes())
                        && ends.contains(&(begin + stop.len()))
                })
            });
            if let Some(begin) = begins.min().filter(|_| number >= counts_from) {
                return Some((number, begin));
            }
        }
        None
    }

    /// Returns the length of the longest end of `text` that a stop string begins with, without being the whole of it.
    fn may_begin(text: &str, stops: &[String]) -> usize {
        let is_beginning =
            |end: &str| stops.iter().any(|stop| stop.len() > end.len() && stop.starts_with(end));
        let places = text.char_indices().map(|(at, _)| at);
        places.map(|at| &text[at..]).find(|end| is_beginning(end)).map_or(0, str::len)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn texts_are_cut_by_the_definition(
            pieces in prop::collection::vec("[ab€]{0,4}", 0..12),
            stops in prop::collection::vec("[ab€]{1,5}", 0..4),
            counts_from in prop_oneof![Just(0_usize), 0..12_usize],
        ) {
            let whole = pieces.concat();
            let end = end(&pieces, &stops, counts_from);
            let text = end.map_or(&whole[..], |(_, begin)| &whole[..begin]);
            let (mut cutter, mut told, mut known) = (Cutter::new(&stops), String::new(), 0);
            for (number, piece) in pieces.iter().enumerate() {
                let cut = cutter.push(piece, number >= counts_from);
                told += &cut.text;
                known += piece.len();
                prop_assert!(text.starts_with(&told), "{:?} is no beginning of {:?}", told, text);
                let is_complete = end.is_some_and(|(completing, _)| number >= completing);
                prop_assert_eq!(cut.is_complete, is_complete);
                if !is_complete {
                    // No more is held back than must be.
                    prop_assert_eq!(told.len(), known - may_begin(&whole[..known], &stops));
                }
            }
            told += &cutter.finish();
            prop_assert_eq!(&told, text);
        }
    }
}
