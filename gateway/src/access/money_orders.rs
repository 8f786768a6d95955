//! What an operator says of money: what a model costs, what an account may spend in a month, and which accounts pay. Both
//! programs take these orders, each on its ledger.

use infera_ledger::{AccountTerms, LedgerError, PriceBook, SpendBook};
use infera_types::ids::{AccountId, ModelName};
use infera_types::money::{NoAmount, PRICE_PLACES, Price, cost, cost_text, decimal, price as price_of};

use super::account_name::known_as;

/// Why an order isn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum MoneyOrderError {
    /// A text is no amount: the operator's mistake.
    #[error("{text:?}: {source}")]
    Amount {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: NoAmount,
    },
    /// The ledger has no such account; trying again changes nothing.
    #[error("no account signed up as {0}, or has that id: POST /signup_user first")]
    NoAccount(String),
    /// The catalogue has no such model; trying again changes nothing until a verifier offers it.
    #[error("the catalogue has no model {0}: a verifier that offers it has to have started once")]
    NoModel(String),
    /// The ledger is at fault.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Sets what a model costs, for a million tokens of prompts and of answers, and returns a sentence about it. Zero for both makes
/// it free.
///
/// # Errors
/// [`MoneyOrderError`].
pub async fn price(
    book: &dyn PriceBook,
    model: &str,
    prompt: &str,
    completion: &str,
) -> Result<String, MoneyOrderError> {
    let read = |text: &str| price_of(text).map_err(|source| no_amount(text, source));
    let price = Price { prompt: read(prompt)?, completion: read(completion)? };
    if !book.set_price(&ModelName::new(model), price).await? {
        return Err(MoneyOrderError::NoModel(model.to_owned()));
    }
    if price.is_free() {
        return Ok(format!("{model} is free; jobs that were accepted before keep their price"));
    }
    let [prompt, completion] = [price.prompt, price.completion].map(|part| decimal(part, PRICE_PLACES));
    Ok(format!(
        "{model} costs {prompt} for a million tokens of prompts and {completion} for a million of answers; jobs that were \
         accepted before keep their price"
    ))
}

/// Sets what an account may spend in a calendar month, or takes the limit away for `none`, and returns a sentence about it.
///
/// # Errors
/// [`MoneyOrderError`].
pub async fn limit(book: &dyn SpendBook, email: &str, text: &str) -> Result<String, MoneyOrderError> {
    let limit = match text {
        "none" => None,
        amount => Some(cost(amount).map_err(|source| no_amount(amount, source))?),
    };
    let account = set(book, email, AccountTerms::Limit(limit)).await?;
    Ok(match limit {
        Some(limit) => format!("{account} may spend {} in a calendar month (UTC)", cost_text(limit)),
        None => format!("{account} may spend without a limit"),
    })
}

/// Records whether an account pays, and returns a sentence about it.
///
/// # Errors
/// [`MoneyOrderError`].
pub async fn pays(book: &dyn SpendBook, email: &str, pays: bool) -> Result<String, MoneyOrderError> {
    let account = set(book, email, AccountTerms::Pays(pays)).await?;
    Ok(if pays {
        format!("{account} pays: its jobs earn their nodes points")
    } else {
        format!("{account} does not pay: its jobs for models with a price earn their nodes no points")
    })
}

async fn set(book: &dyn SpendBook, email: &str, terms: AccountTerms) -> Result<AccountId, MoneyOrderError> {
    let no_account = || MoneyOrderError::NoAccount(email.to_owned());
    book.set_terms(&known_as(email), terms).await?.ok_or_else(no_account)
}

fn no_amount(text: &str, source: NoAmount) -> MoneyOrderError {
    MoneyOrderError::Amount { text: text.chars().take(40).collect(), source }
}
