//! Decides what a new job may cost. A pure function of the model's price and what was asked for.

use infera_ledger::Charge;
use infera_types::money::Price;

use crate::api::error::ApiError;

/// Returns what a job may cost for a model of this price (none: it is free): the prompt's tokens as they are estimated, and the
/// longest answer.
///
/// # Errors
/// [`ApiError::PriceAboveMax`]: the price is above the largest one that the client takes.
pub(super) fn charge(
    price: Option<Price>,
    max: Option<Price>,
    prompt_tokens: u64,
    completion_tokens: u64,
) -> Result<Option<Charge>, ApiError> {
    let Some(price) = price.filter(|price| !price.is_free()) else { return Ok(None) };
    if let Some(max) = max.filter(|max| !price.is_within(*max)) {
        return Err(ApiError::PriceAboveMax { price, max });
    }
    Ok(Some(Charge { price, prompt_tokens, completion_tokens }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_above_the_clients_is_refused_and_a_free_model_costs_nothing() {
        let price = |prompt, completion| Price { prompt, completion };
        let charged = |price| Ok(Some(Charge { price, prompt_tokens: 7, completion_tokens: 9 }));
        let refused = |price, max| Err(ApiError::PriceAboveMax { price, max });
        let one = price(2, 3);
        for (price, max, expected) in [
            (None, None, Ok(None)),
            (None, Some(price(0, 0)), Ok(None)),
            (Some(price(0, 0)), Some(price(0, 0)), Ok(None)),
            (Some(one), None, charged(one)),
            (Some(one), Some(one), charged(one)),
            (Some(one), Some(price(2, 2)), refused(one, price(2, 2))),
            (Some(one), Some(price(1, 9)), refused(one, price(1, 9))),
            (Some(price(0, 1)), Some(price(0, 0)), refused(price(0, 1), price(0, 0))),
        ] {
            assert_eq!(charge(price, max, 7, 9), expected, "{price:?} {max:?}");
        }
    }
}
