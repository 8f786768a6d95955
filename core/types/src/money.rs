//! Money, in whole numbers of small units, so that sums are exact: prices in millionths and costs in billionths of the
//! network's currency. The text of an amount is a decimal number; nothing here is a floating-point number.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Decimal places of a price per million tokens.
pub const PRICE_PLACES: u32 = 6;

/// Decimal places of a price per token: that of a million tokens, and six more.
pub const TOKEN_PRICE_PLACES: u32 = PRICE_PLACES + 6;

/// Decimal places of costs and limits. One token of a model at 0.001 per million tokens costs one unit.
pub const COST_PLACES: u32 = 9;

/// The largest cost or limit, in billionths: what a column of a table holds, some nine billion of the currency.
pub const COST_MAX: u64 = i64::MAX.unsigned_abs();

/// How many units of a price, times tokens, are one unit of a cost: a price is for a million tokens and in millionths, a
/// cost in billionths.
const PRICE_UNITS_PER_COST_UNIT: u128 = 1_000;

/// What a model's tokens cost, in millionths of the currency for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Price {
    /// For tokens of prompts.
    pub prompt: u64,
    /// For tokens of answers.
    pub completion: u64,
}

impl Price {
    /// The largest price, for each kind of token: one of the currency for a token. Larger ones are mistakes, and the cost of
    /// the largest job would not fit.
    pub const MAX: u64 = 1_000_000_000_000;

    /// Returns whether nothing is owed at this price.
    #[must_use]
    pub const fn is_free(self) -> bool {
        self.prompt == 0 && self.completion == 0
    }

    /// Returns whether neither price is above the other's.
    #[must_use]
    pub const fn is_within(self, max: Self) -> bool {
        self.prompt <= max.prompt && self.completion <= max.completion
    }

    /// Returns what these tokens cost, in billionths, rounded up and cut at [`COST_MAX`].
    #[must_use]
    pub fn cost(self, prompt_tokens: u64, completion_tokens: u64) -> u64 {
        let of = |price: u64, tokens: u64| u128::from(price) * u128::from(tokens);
        let whole = of(self.prompt, prompt_tokens).saturating_add(of(self.completion, completion_tokens));
        u64::try_from(whole.div_ceil(PRICE_UNITS_PER_COST_UNIT)).unwrap_or(u64::MAX).min(COST_MAX)
    }
}

/// The payment for a job, as it was when the job was accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payment {
    /// Its model was free.
    #[default]
    Free,
    /// Its model had a price, and its account pays.
    Paid,
    /// Its model had a price, and its account does not pay.
    Unpaid,
}

impl Payment {
    /// Returns whether the model was free.
    #[must_use]
    pub fn is_free(&self) -> bool {
        *self == Self::Free
    }

    /// Returns the payment of a job whose charge says whether its account pays; none: it has no charge.
    #[must_use]
    pub fn of_charge(is_paid: Option<bool>) -> Self {
        match is_paid {
            None => Self::Free,
            Some(true) => Self::Paid,
            Some(false) => Self::Unpaid,
        }
    }
}

/// The error of a text that is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAmount {
    places: u32,
    max: u64,
}

impl fmt::Display for NoAmount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (places, max) = (self.places, decimal(self.max, self.places));
        write!(
            formatter,
            "an amount is a decimal number such as 0.15, without a sign, with at most {places} decimal places, up to {max}"
        )
    }
}

impl std::error::Error for NoAmount {}

/// Reads an amount that is written as a decimal number with at most `places` decimal places, and returns it in units of the
/// last place.
///
/// # Errors
/// [`NoAmount`]: other texts, and amounts above `max`.
pub fn amount(text: &str, places: u32, max: u64) -> Result<u64, NoAmount> {
    let read = || {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return None;
        }
        // Zeros at the end say nothing, and a whole number is as one with `.0`.
        let fraction = fraction.trim_end_matches('0');
        let missing = places.checked_sub(u32::try_from(fraction.len()).ok()?)?;
        let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
        let fraction = fraction.checked_mul(10_u64.checked_pow(missing)?)?;
        whole.parse::<u64>().ok()?.checked_mul(10_u64.checked_pow(places)?)?.checked_add(fraction)
    };
    read().filter(|amount| *amount <= max).ok_or(NoAmount { places, max })
}

/// Reads a price for a million tokens.
///
/// # Errors
/// [`NoAmount`].
pub fn price(text: &str) -> Result<u64, NoAmount> {
    amount(text, PRICE_PLACES, Price::MAX)
}

/// Reads a cost or a limit.
///
/// # Errors
/// [`NoAmount`].
pub fn cost(text: &str) -> Result<u64, NoAmount> {
    amount(text, COST_PLACES, COST_MAX)
}

/// Writes an amount in units of the last of `places` decimal places as a decimal number, without zeros at its end.
#[must_use]
pub fn decimal(amount: u64, places: u32) -> String {
    let unit = 10_u64.saturating_pow(places).max(1);
    let width = usize::try_from(places).unwrap_or_default();
    let text = format!("{}.{:0width$}", amount / unit, amount % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes a cost or a limit as a decimal number.
#[must_use]
pub fn cost_text(cost: u64) -> String {
    decimal(cost, COST_PLACES)
}

/// Writes a price for a million tokens as the decimal number of one token's, as listings of models have it.
#[must_use]
pub fn token_price_text(price: u64) -> String {
    decimal(price, TOKEN_PRICE_PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_exact_and_rounded_up_once() {
        let price = |prompt, completion| Price { prompt, completion };
        for (price, prompt, completion, expected) in [
            (price(0, 0), u64::MAX, u64::MAX, 0),
            (price(1, 0), 1, 0, 1),
            (price(1, 0), 1_000, 0, 1),
            (price(1, 0), 1_001, 0, 2),
            // Both parts are added before they are rounded.
            (price(500, 500), 1, 1, 1),
            (price(999, 2), 1, 1, 2),
            // 0.15 and 0.60 per million tokens: 1,000 and 500 of them cost 0.00045.
            (price(150_000, 600_000), 1_000, 500, 450_000),
            (price(1_000_000, 0), 1_000_000, 0, 1_000_000_000),
            (price(Price::MAX, Price::MAX), 131_072, 0, 131_072 * 1_000_000_000),
            (price(Price::MAX, 0), u64::MAX, 0, COST_MAX),
            (price(u64::MAX, u64::MAX), u64::MAX, u64::MAX, COST_MAX),
            (price(u64::MAX, 0), 500, 0, COST_MAX),
        ] {
            assert_eq!(price.cost(prompt, completion), expected, "{price:?} {prompt} {completion}");
        }
    }

    /// The cost of jobs apart is never less than that of their tokens together, and by at most one unit a job more.
    #[test]
    fn rounding_costs_less_than_a_unit_a_job() {
        let price = Price { prompt: 137, completion: 1_003 };
        let (mut apart, mut prompt, mut completion) = (0, 0, 0);
        for tokens in 0..2_000_u64 {
            apart += price.cost(tokens * 7 % 61, tokens * 13 % 89);
            (prompt, completion) = (prompt + tokens * 7 % 61, completion + tokens * 13 % 89);
        }
        let together = price.cost(prompt, completion);
        assert!((together..=together + 2_000).contains(&apart), "{together} {apart}");
    }

    #[test]
    fn a_price_is_within_another_in_both_parts() {
        let max = Price { prompt: 2, completion: 3 };
        for (prompt, completion, is_within) in
            [(2, 3, true), (0, 0, true), (3, 3, false), (2, 4, false), (9, 9, false)]
        {
            assert_eq!(Price { prompt, completion }.is_within(max), is_within);
        }
        assert!(Price::default().is_free() && !Price { prompt: 0, completion: 1 }.is_free());
    }

    #[test]
    fn amounts_are_read_and_written_to_the_last_place() {
        for (text, units) in [
            ("0", 0),
            ("0.15", 150_000),
            ("0.000001", 1),
            ("12", 12_000_000),
            ("12.0", 12_000_000),
            ("1.50000000", 1_500_000),
            ("1000000", Price::MAX),
            ("007.50", 7_500_000),
        ] {
            assert_eq!(price(text), Ok(units), "{text}");
            assert_eq!(price(&decimal(units, PRICE_PLACES)), Ok(units), "{text}");
        }
        for wrong in [
            "",
            ".",
            ".5",
            "5.",
            "-1",
            "+1",
            "1e3",
            "0x1",
            " 1",
            "1 ",
            "1,5",
            "1.2.3",
            "0.0000001",
            "1000000.000001",
            "99999999999999999999",
            "NaN",
            "1.-5",
            "\u{661}",
        ] {
            let told = price(wrong).expect_err(wrong).to_string();
            assert!(told.contains("at most 6 decimal places, up to 1000000"), "{told}");
        }
        assert_eq!(cost("9223372036.854775807"), Ok(COST_MAX));
        assert!(cost("9223372036.854775808").is_err());
        assert_eq!(amount("7", 0, 10), Ok(7));
        assert_eq!(cost_text(COST_MAX), "9223372036.854775807");
        assert_eq!(
            (cost_text(0), cost_text(4_500), decimal(7, 0)),
            ("0".into(), "0.0000045".into(), "7".into())
        );
        assert_eq!(token_price_text(150_000), "0.00000015");
        assert_eq!(token_price_text(1), "0.000000000001");
        assert_eq!(token_price_text(0), "0");
    }
}
