//! Decides what a new job may cost. Pure functions of the model's price and what was asked for.

use infera_ledger::Charge;
use infera_types::job::ChatMessage;
use infera_types::money::Price;

use crate::api::error::ApiError;

/// The most tokens that a template is taken to put around one message: marks, and the role's name.
const AROUND_MESSAGE_MAX: u64 = 32;

/// The most tokens that a template is taken to put around all messages. Those of the Hub's models that say something themselves,
/// a system's message or the date, take up to some fifty.
const AROUND_ALL_MAX: u64 = 128;

/// The most tokens that a job may take, as far as its request tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokensMax {
    /// Those of the prompt.
    pub(super) prompt: u64,
    /// Those of the answer.
    pub(super) completion: u64,
    /// Those of both together.
    pub(super) context: u64,
}

impl TokensMax {
    /// Returns a bound on the tokens of a prompt with these messages: no tokenizer makes more than one token of a byte.
    pub(super) fn of_prompt(messages: &[ChatMessage]) -> u64 {
        let of = |message: &ChatMessage| {
            u64::try_from(message.content.len()).unwrap_or(u64::MAX).saturating_add(AROUND_MESSAGE_MAX)
        };
        messages.iter().map(of).fold(AROUND_ALL_MAX, u64::saturating_add)
    }

    /// Returns the tokens of prompt and answer within the context that cost the most at `price`.
    fn dearest(self, price: Price) -> (u64, u64) {
        let Self { prompt, completion, context } = self;
        if price.prompt > price.completion {
            let prompt = prompt.min(context);
            (prompt, completion.min(context - prompt))
        } else {
            let completion = completion.min(context);
            (prompt.min(context - completion), completion)
        }
    }
}

/// Returns the price at which a job is accepted; none: its model is free.
///
/// # Errors
/// [`ApiError::PriceAboveMax`]: the price is above the largest one that the client takes.
pub(super) fn affordable(price: Option<Price>, max: Option<Price>) -> Result<Option<Price>, ApiError> {
    match (price, max) {
        (Some(price), Some(max)) if !price.is_within(max) => Err(ApiError::PriceAboveMax { price, max }),
        _ => Ok(price),
    }
}

/// Returns what a job may cost at this price: all that is to be reserved, so that it costs no more.
pub(super) fn charge(price: Price, tokens: TokensMax) -> Charge {
    let (prompt_tokens, completion_tokens) = tokens.dearest(price);
    Charge { price, prompt_tokens, completion_tokens }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_above_the_clients_is_refused() {
        let price = |prompt, completion| Price { prompt, completion };
        let refused = |price, max| Err(ApiError::PriceAboveMax { price, max });
        let one = price(2, 3);
        for (price, max, expected) in [
            (None, None, Ok(None)),
            (None, Some(price(0, 0)), Ok(None)),
            (Some(one), None, Ok(Some(one))),
            (Some(one), Some(one), Ok(Some(one))),
            (Some(one), Some(price(2, 2)), refused(one, price(2, 2))),
            (Some(one), Some(price(1, 9)), refused(one, price(1, 9))),
            (Some(price(0, 1)), Some(price(0, 0)), refused(price(0, 1), price(0, 0))),
        ] {
            assert_eq!(affordable(price, max), expected, "{price:?} {max:?}");
        }
    }

    /// Whatever a job of the request comes to, it costs no more than is reserved, and some such job costs as much.
    #[test]
    fn what_is_reserved_is_the_most_that_the_job_can_cost() {
        for (prompt, completion, context) in
            [(5, 4, 20), (5, 4, 7), (9, 4, 7), (5, 9, 7), (30, 30, 7), (0, 3, 7)]
        {
            for price in [(3_000, 1_000), (1_000, 3_000), (1_000, 1_000), (0, 1_000), (1_000, 0)] {
                let price = Price { prompt: price.0, completion: price.1 };
                let reserved = charge(price, TokensMax { prompt, completion, context }).reserved();
                let possible =
                    (0..=prompt).flat_map(|prompt| (0..=completion).map(move |answer| (prompt, answer)));
                let within = possible.filter(|(prompt, answer)| prompt + answer <= context);
                let most = within.map(|(prompt, answer)| price.cost(prompt, answer)).max();
                assert_eq!(Some(reserved), most, "{prompt} {completion} {context} {price:?}");
            }
        }
    }

    #[test]
    fn a_prompt_is_bounded_by_its_bytes() {
        let message = |content: &str| ChatMessage { role: "user".to_owned(), content: content.to_owned() };
        assert_eq!(TokensMax::of_prompt(&[]), 128);
        assert_eq!(TokensMax::of_prompt(&[message("123"), message("\u{e9}")]), 128 + 2 * 32 + 5);
    }
}
