//! The values of money: what models cost, what a job reserves, and what keys and accounts may spend.

use infera_types::ids::ModelName;
use infera_types::money::Price;

/// The price of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPrice {
    /// The model.
    pub model: ModelName,
    /// Its price, which isn't free.
    pub price: Price,
}

/// What a job may cost: the model's price when it is accepted, and the tokens that are reserved for it. What it does cost
/// follows from the same price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The price.
    pub price: Price,
    /// The most tokens that the prompt is taken to have.
    pub prompt_tokens: u64,
    /// The most tokens that the answer can have.
    pub completion_tokens: u64,
}

impl Charge {
    /// Returns the amount that is reserved until the job ends, in billionths.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.price.cost(self.prompt_tokens, self.completion_tokens)
    }
}

/// The owner of a limit that a job would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// That of the key that asks.
    Key,
    /// That of its account.
    Account,
}

/// The refusal of a job that may cost more than is left of a limit. Amounts are in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// The owner of the limit.
    pub payer: Payer,
    /// The limit.
    pub limit: u64,
    /// What is spent and reserved in this month.
    pub used: u64,
    /// What the job would reserve.
    pub needed: u64,
}

/// What a key or an account may spend in a calendar month (UTC), and what it spent in this one, in billionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spending {
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// What ended jobs cost that were accepted in this month.
    pub spent: u64,
    /// What is reserved for jobs that have not ended.
    pub reserved: u64,
}

/// What an account may spend and spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountSpending {
    /// Whether the account pays for what it owes, as an operator says.
    pub pays: bool,
    /// All of its keys together.
    pub account: Spending,
}

/// A change of what an account may spend, by an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountTerms {
    /// The limit per calendar month, in billionths; none: no limit.
    Limit(Option<u64>),
    /// Whether the account pays, so that its jobs earn their nodes points.
    Pays(bool),
}
