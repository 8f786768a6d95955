//! The currency of prices and costs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A currency by its three letters (ISO 4217), such as `USD`. Amounts are never converted; it only says what they are in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Currency(String);

impl Default for Currency {
    /// Most listings of models are in US dollars.
    fn default() -> Self {
        Self("USD".to_owned())
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no currency; give its three capital letters, such as USD or EUR"))
        }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.0
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_has_three_capital_letters() {
        for wrong in ["", "usd", "US", "USDT", "U$D", "ÄÖÜ"] {
            assert!(
                Currency::try_from(wrong.to_owned()).unwrap_err().contains("three capital letters"),
                "{wrong}"
            );
        }
        assert_eq!(Currency::try_from("EUR".to_owned()).map(String::from), Ok("EUR".to_owned()));
    }
}
