//! How much of an answer's text one client has: its length, and a hash by which it is known whether a text begins with it. A
//! client that comes back brings both, at whichever gateway, and goes on from there. Pure.

use sha2::{Digest as _, Sha256};

/// How much of an answer's text one client has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    bytes: usize,
    known: Known,
}

#[derive(Clone, Debug)]
enum Known {
    /// The hash of the text that was shown here.
    Shown(Sha256),
    /// The hash that the client brought: what it has was shown before.
    Claimed(u64),
}

/// The text doesn't begin with what the client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overturned;

impl Default for Known {
    fn default() -> Self {
        Self::Shown(Sha256::new())
    }
}

impl Mark {
    /// Makes the mark that a client brought.
    #[must_use]
    pub(crate) const fn claimed(bytes: usize, hash: u64) -> Self {
        Self { bytes, known: Known::Claimed(hash) }
    }

    /// Returns the length of what the client has, in bytes of UTF-8, and the beginning of its SHA-256.
    #[must_use]
    pub(crate) fn place(&self) -> (usize, u64) {
        let hash = match &self.known {
            Known::Shown(hash) => beginning(hash.clone()),
            Known::Claimed(hash) => *hash,
        };
        (self.bytes, hash)
    }

    /// Returns the next piece of a text that still grows, of whole characters and at most `bytes_max`, which is four at least; none
    /// if the client has all of it. The piece counts as shown.
    ///
    /// # Errors
    /// [`Overturned`].
    pub(crate) fn next<'a>(
        &mut self,
        text: &'a str,
        bytes_max: usize,
    ) -> Result<Option<&'a str>, Overturned> {
        if text.len() <= self.bytes {
            // What a client claims may be longer than what is heard of yet.
            return Ok(None);
        }
        let rest = match &self.known {
            // It is the text that was shown, and has grown.
            Known::Shown(_) => text.get(self.bytes..).ok_or(Overturned)?,
            Known::Claimed(_) => self.rest(text)?,
        };
        let piece = &rest[..rest.floor_char_boundary(bytes_max)];
        if let Known::Shown(hash) = &mut self.known {
            hash.update(piece);
        }
        self.bytes += piece.len();
        Ok(Some(piece))
    }

    /// Returns what the client lacks of a whole text.
    ///
    /// # Errors
    /// [`Overturned`].
    pub(crate) fn rest<'a>(&mut self, text: &'a str) -> Result<&'a str, Overturned> {
        let (had, rest) = text.split_at_checked(self.bytes).ok_or(Overturned)?;
        let hash = Sha256::new_with_prefix(had);
        if beginning(hash.clone()) != self.place().1 {
            return Err(Overturned);
        }
        self.known = Known::Shown(hash);
        Ok(rest)
    }
}

fn beginning(hash: Sha256) -> u64 {
    let whole: [u8; 32] = hash.finalize().into();
    whole.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Grüße: 47 + 38 = 85 €.";

    #[test]
    fn pieces_are_whole_characters_and_make_the_text() {
        for bytes_max in 4..30 {
            let (mut mark, mut shown) = (Mark::default(), String::new());
            for heard in TEXT.char_indices().map(|(end, _)| end).chain([TEXT.len()]) {
                while let Some(piece) = mark.next(&TEXT[..heard], bytes_max).unwrap() {
                    assert!(!piece.is_empty() && piece.len() <= bytes_max, "{piece:?}");
                    shown.push_str(piece);
                }
            }
            assert_eq!(shown, TEXT);
            assert_eq!(mark.rest(TEXT), Ok(""));
        }
    }

    #[test]
    fn a_client_that_comes_back_gets_the_rest_and_nothing_twice() {
        for end in TEXT.char_indices().map(|(end, _)| end) {
            let mut first = Mark::default();
            let _ = first.next(&TEXT[..end], 100);
            let (bytes, hash) = first.place();
            let mut back = Mark::claimed(bytes, hash);
            assert_eq!(back.place(), (end, hash));
            assert_eq!(back.next(&TEXT[..end], 100), Ok(None), "nothing new yet");
            assert_eq!(back.clone().rest(TEXT), Ok(&TEXT[end..]));
            assert_eq!(back.next(TEXT, 100), Ok(Some(&TEXT[end..])));
            assert_eq!(back.rest(TEXT), Ok(""));
        }
    }

    #[test]
    fn another_text_than_was_shown_is_told() {
        let mut mark = Mark::default();
        assert_eq!(mark.next("äb", 100), Ok(Some("äb")));
        for other in ["äc and more", "ä", "", "aäb", "äb".repeat(2).trim_start_matches('ä')] {
            assert_eq!(mark.rest(other), Err(Overturned), "{other}");
        }
        assert_eq!(mark.rest("äbc"), Ok("c"));
        for (bytes, hash) in [(1, mark.place().1), (3, 7), (4, mark.place().1), (usize::MAX, 0)] {
            assert_eq!(Mark::claimed(bytes, hash).rest("äbcd"), Err(Overturned), "{bytes}");
        }
        assert_eq!(Mark::claimed(3, 7).next("äbcd", 100), Err(Overturned));
    }
}
