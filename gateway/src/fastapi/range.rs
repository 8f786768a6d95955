//! The part of a field's description that its kind doesn't tell: which values are in range, and which one counts if the
//! field is left out. The code that checks a range takes it from the same constants, so that the published description of
//! the API can't differ from what is checked.

/// The range of a field's values within its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Range {
    /// Every value of the kind.
    Any,
    /// Integers from `least` to `most`, both included.
    Integers {
        /// The smallest value.
        least: i64,
        /// The largest value.
        most: Bound,
    },
    /// Numbers from the first to the second, both included.
    Numbers(f64, f64),
    /// Numbers above the first, up to the second.
    NumbersAbove(f64, f64),
    /// One text, or a list of them, none of which is empty.
    Texts {
        /// The largest number of texts.
        most: usize,
        /// The longest text, in characters.
        characters_max: usize,
    },
    /// Objects whose members are numbers.
    NumbersByName {
        /// The largest number of members.
        most: usize,
        /// The regular expression that each name matches.
        name: &'static str,
        /// The smallest and the largest number.
        bounds: (f64, f64),
    },
    /// Texts of a length from the first to the second, in characters.
    Characters(usize, usize),
    /// The same without control characters.
    Plain(usize, usize),
    /// Lists of at least this many items.
    Items(usize),
    /// Lists of a length from the first to the second.
    ItemsWithin(usize, usize),
    /// Lists of at least one of these texts.
    ItemsAmong(&'static [&'static str]),
    /// Texts that this regular expression matches.
    Pattern(&'static str),
    /// Objects whose members are texts without U+0000.
    Pairs {
        /// The largest number of members.
        most: usize,
        /// The largest length of a name, in characters.
        key_max: usize,
        /// The largest length of a text, in characters.
        value_max: usize,
    },
    /// Objects without other members than those of their table.
    NoOthers,
    /// These texts.
    Words(&'static [&'static str]),
    /// These integers.
    Choices(&'static [u8]),
}

/// A number that is fixed, or that the operator sets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bound {
    /// This integer.
    Integer(i64),
    /// This integer, which may need all 64 bits.
    Unsigned(u64),
    /// This number.
    Number(f64),
    /// The value of this setting of the gateway.
    Setting(&'static str),
}
