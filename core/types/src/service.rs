//! How jobs share the network: the lane that a job waits in, the tier that its client asked for, and the share that it
//! is counted under.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The queue of a model that a job waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, VariantArray, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Lane {
    /// A client waits for the answer.
    First = 0,
    /// The answer is collected later.
    Later = 1,
    /// The job goes to nodes of its account or of a group, whatever its client waits for. It shares nothing with the other
    /// lanes.
    Own = 2,
}

impl Lane {
    /// All lanes.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the lane's word, for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Returns the lane that a table holds as `number`. An unknown number is the later lane, in which nothing is
    /// delayed that somebody waits for.
    #[must_use]
    pub const fn of_number(number: i64) -> Self {
        match number {
            0 => Self::First,
            2 => Self::Own,
            _ => Self::Later,
        }
    }
}

/// The tier that a job is served in, in OpenAI's words. A tier is a weight and no precedence, so that none waits for
/// ever behind another.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    VariantArray,
    IntoStaticStr,
    EnumString,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ServiceTier {
    /// Cheap work that may wait.
    Flex = 0,
    /// What a request gets that names no tier.
    #[default]
    Default = 1,
    /// For keys with the right to it.
    Priority = 2,
}

impl ServiceTier {
    /// All tiers.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// Returns the tier's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.into()
    }

    /// Returns the tier's weight: a tier of weight 4 gets four times the tokens of one of weight 1 while both wait.
    /// Four between neighbours is enough to be felt, and leaves flex a twenty-first where all three wait.
    #[must_use]
    pub const fn weight(self) -> u32 {
        match self {
            Self::Flex => 1,
            Self::Default => 4,
            Self::Priority => 16,
        }
    }

    /// Returns the tier that a table holds as `number`; an unknown number is the default tier.
    #[must_use]
    pub const fn of_number(number: i64) -> Self {
        match number {
            0 => Self::Flex,
            2 => Self::Priority,
            _ => Self::Default,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_and_tiers_are_read_back_from_their_numbers() {
        for lane in Lane::ALL {
            assert_eq!(Lane::of_number(*lane as i64), *lane);
        }
        for tier in ServiceTier::ALL {
            assert_eq!(ServiceTier::of_number(*tier as i64), *tier);
            assert_eq!(tier.word().parse(), Ok(*tier));
        }
        assert_eq!((Lane::of_number(9), ServiceTier::of_number(9)), (Lane::Later, ServiceTier::Default));
    }
}
