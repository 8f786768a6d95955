//! Amounts of money in bodies and replies: decimal numbers as texts. `max_price`, which other providers' clients write as
//! numbers, is read as those too.

use infera_types::money::{PRICE_PLACES, Price, cost_text, decimal, price};
use serde_json::{Map, Value};

use crate::fastapi::{Field, Flaw, Json, Kind, Mistakes, Range, Step, refuse_strangers};

/// The form of a limit in a body. Amounts of ten digits, up to some nine billion, are taken too.
pub(crate) const LIMIT: &str = "^[0-9]{1,9}(\\.[0-9]{1,9})?$";

/// The form of a largest price in a body.
const PRICE: &str = "^[0-9]+(\\.[0-9]+)?$";

/// The members of `max_price`.
const MAX_PRICE: &[Field] = &[
    Field::optional("prompt", Kind::Nullable(&Kind::Text))
        .about("For a million tokens of the prompt.")
        .range(Range::Pattern(PRICE)),
    Field::optional("completion", Kind::Nullable(&Kind::Text))
        .about("For a million tokens of the answer.")
        .range(Range::Pattern(PRICE)),
];

/// The member `max_price`, for the description of the API. It is checked by [`max_price`].
pub(crate) const MAX_PRICE_FIELD: Field = Field::optional("max_price", Kind::Nullable(&Kind::Object(MAX_PRICE)))
    .about("The most that the model may cost, in the network's currency for a million tokens; a request for a dearer model is \
            refused. Numbers are taken too. What is left out has no bound.")
    .range(Range::NoOthers);

/// Reads a body's largest price, and notes what is wrong with it. A part that is left out is the largest number.
pub(crate) fn max_price(body: &Json, mistakes: &mut Mistakes) -> Option<Price> {
    let within =
        |step: Option<Step>| [Some(Step::name("max_price")), step].into_iter().flatten().collect::<Vec<_>>();
    let (given, members) = match body.get("max_price") {
        None | Some(Json::Null) => return None,
        Some(given @ Json::Object(members)) => (given, members),
        Some(other) => {
            mistakes.add(&within(None), Flaw::new("dict_type", "Input should be a valid dictionary"), other);
            return None;
        }
    };
    let mut max = Price { prompt: u64::MAX, completion: u64::MAX };
    for (name, value) in members {
        let part = match name.as_str() {
            "prompt" => &mut max.prompt,
            "completion" => &mut max.completion,
            // Refused below.
            _ => continue,
        };
        if *value == Json::Null {
            continue;
        }
        match digits(value).and_then(|digits| bound(&digits)) {
            Some(bound) => *part = bound,
            None => {
                let flaw = Flaw::new(
                    "value_error",
                    "Input should be an amount that is not negative, as a decimal number or text",
                );
                mistakes.add(&within(Some(Step::their_name(name))), flaw, value);
            }
        }
    }
    let known: Vec<&str> = MAX_PRICE.iter().map(|field| field.name).collect();
    refuse_strangers(given, &known, &within(None), mistakes);
    Some(max)
}

/// Reads a bound on a price, in the units of prices. Decimal places beyond those that prices have are cut off, which excludes no
/// price that is within the bound, and a bound above all prices is the largest of them.
fn bound(digits: &str) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let kept = fraction.get(..PRICE_PLACES as usize).unwrap_or(fraction);
    Some(price(&format!("{whole}.{kept}")).unwrap_or(Price::MAX))
}

/// Returns the decimal digits of an amount that was sent as a text or as a number; for a number with a fraction, the shortest
/// that name it.
fn digits(value: &Json) -> Option<String> {
    match value {
        Json::Text(text) => Some(text.clone()),
        Json::Int(number) => Some(number.to_string()),
        Json::BigInt(digits) => Some(digits.clone()),
        Json::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Writes a price for a million tokens as a person reads it.
#[must_use]
pub(crate) fn price_text(price: Price) -> String {
    let [prompt, completion] = [price.prompt, price.completion].map(|part| decimal(part, PRICE_PLACES));
    format!("{prompt} for a million tokens of prompts and {completion} for a million of answers")
}

/// Writes a largest price in the same words, without the parts that have no bound.
#[must_use]
pub(crate) fn max_price_text(max: Price) -> String {
    let part = |part: u64, what: &str| {
        (part != u64::MAX).then(|| format!("{} for a million {what}", decimal(part, PRICE_PLACES)))
    };
    let parts = [part(max.prompt, "tokens of prompts"), part(max.completion, "tokens of answers")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
}

/// Writes what may be spent and was spent in this month, into an object.
pub(crate) fn put_spending(spending: infera_ledger::Spending, object: &mut Map<String, Value>) {
    let infera_ledger::Spending { limit, spent, reserved } = spending;
    object.insert("spend_limit".to_owned(), limit.map(cost_text).into());
    object.insert("spent".to_owned(), cost_text(spent).into());
    object.insert("reserved".to_owned(), cost_text(reserved).into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Option<Price>, usize> {
        let Ok(json) = crate::fastapi::json::read(body.as_bytes()) else { panic!("{body}") };
        let mut mistakes = Mistakes::default();
        let max = max_price(&json, &mut mistakes);
        mistakes.none_or(max).map_err(|mistakes| mistakes.count())
    }

    #[test]
    fn a_largest_price_is_read_from_a_text_or_a_number() {
        let both = |prompt, completion| Ok(Some(Price { prompt, completion }));
        for (body, expected) in [
            ("{}", Ok(None)),
            (r#"{"max_price": null}"#, Ok(None)),
            (r#"{"max_price": {}}"#, both(u64::MAX, u64::MAX)),
            (r#"{"max_price": {"prompt": "0.15", "completion": null}}"#, both(150_000, u64::MAX)),
            (r#"{"max_price": {"prompt": 0.15, "completion": 1}}"#, both(150_000, 1_000_000)),
            (r#"{"max_price": {"prompt": 0.1000000, "completion": 0.3}}"#, both(100_000, 300_000)),
            (r#"{"max_price": {"prompt": 1e-6, "completion": 1e3}}"#, both(1, 1_000_000_000)),
            (r#"{"max_price": {"prompt": 0, "completion": "0"}}"#, both(0, 0)),
            (r#"{"max_price": 1}"#, Err(1)),
            (r#"{"max_price": {"prompt": -1, "completion": NaN}}"#, Err(2)),
            (r#"{"max_price": {"prompt": 1e-7, "completion": 1e300}}"#, both(0, Price::MAX)),
            (
                r#"{"max_price": {"prompt": 0.30000000000000004, "completion": "0.5999999999"}}"#,
                both(300_000, 599_999),
            ),
            (
                r#"{"max_price": {"prompt": "1000000.000001", "completion": 7000000}}"#,
                both(Price::MAX, Price::MAX),
            ),
            (r#"{"max_price": {"prompt": "+1", "completion": ".5"}}"#, Err(2)),
            (r#"{"max_price": {"prompt": true, "completion": ["1"]}}"#, Err(2)),
            (r#"{"max_price": {"input": "1", "prompt": 99999999999999999999999}}"#, Err(1)),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
    }
}
