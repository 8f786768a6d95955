//! One entry of `gateway.cors_origins`.

use serde::{Deserialize, Serialize};

/// An origin as browsers send it (`https://app.example`, `http://localhost:3000`), or `*` for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CorsOrigin(String);

impl CorsOrigin {
    /// Returns whether this entry permits `origin`.
    #[must_use]
    pub fn permits(&self, origin: &str) -> bool {
        self.0 == "*" || self.0.eq_ignore_ascii_case(origin)
    }
}

impl TryFrom<String> for CorsOrigin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
        let is_host = |rest: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte);
            !rest.is_empty() && rest.bytes().all(is_plain)
        };
        if text == "*" || rest.is_some_and(is_host) {
            Ok(Self(text))
        } else {
            Err(format!(
                "'{}' is no origin: write it as browsers send it, without a path or a slash at the end, such as \
                 https://app.example, or * for all",
                text.chars().take(100).collect::<String>()
            ))
        }
    }
}

impl From<CorsOrigin> for String {
    fn from(origin: CorsOrigin) -> Self {
        origin.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_compared_as_browsers_write_them() {
        for good in ["*", "https://app.example", "http://localhost:3000", "http://[::1]:80"] {
            assert!(CorsOrigin::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for wrong in
            ["", "app.example", "https://", "https://a/", "https://a/b", "null", "https://*.a b", "ftp://a"]
        {
            assert!(CorsOrigin::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        let one = CorsOrigin::try_from("https://app.example".to_owned()).unwrap();
        let table = [
            ("https://app.example", true),
            ("https://APP.example", true),
            ("http://app.example", false),
            ("https://app.example.evil", false),
            ("https://evil.app.example", false),
            ("null", false),
        ];
        for (origin, expected) in table {
            assert_eq!(one.permits(origin), expected, "{origin}");
        }
    }
}
