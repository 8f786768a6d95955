//! Who asks: the one API key of a request, from `Authorization: Bearer` or the seed's `api_key` header, on both
//! faces. A key in the query or the body is never looked at. Every way to be wrong gets the same answer.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};

use crate::error::ApiError;
use crate::keys::{ApiKey, Caller, KeyCache};

/// The caller that the headers prove.
///
/// # Errors
/// [`ApiError::Unauthorized`]; [`ApiError::LedgerAway`] if the key had to be looked up and couldn't.
pub async fn caller(keys: &KeyCache, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
    let key = key(headers).ok_or(ApiError::Unauthorized)?;
    match keys.caller(&key).await {
        Ok(caller) => caller.ok_or(ApiError::Unauthorized),
        Err(error) => {
            tracing::error!(%error, "a key could not be looked up");
            Err(ApiError::LedgerAway)
        }
    }
}

/// The same, where a key is optional: none without any.
///
/// # Errors
/// As [`caller`], for a key that is there.
pub async fn caller_if_any(keys: &KeyCache, headers: &HeaderMap) -> Result<Option<Arc<Caller>>, ApiError> {
    if !headers.contains_key(AUTHORIZATION) && !headers.contains_key("api_key") {
        return Ok(None);
    }
    caller(keys, headers).await.map(Some)
}

/// The key, if there is exactly one and it is well formed. The same key in both headers is one key.
fn key(headers: &HeaderMap) -> Option<ApiKey> {
    let bearer = single(headers, AUTHORIZATION.as_str())?.map(|value| {
        let (scheme, key) = value.split_once(' ').unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") { key.trim() } else { "" }
    });
    let own = single(headers, "api_key")?;
    match (bearer, own) {
        (Some(one), Some(other)) if one != other => None,
        (Some(text), _) | (None, Some(text)) => ApiKey::parse(text),
        (None, None) => None,
    }
}

/// The header's value: `Some(None)` if it isn't there, `None` if it is there twice or is no text.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Some(None),
        (Some(value), None) => value.to_str().ok().map(Some),
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_from_either_header() {
        let key_text = ApiKey::generate().unwrap().expose().to_owned();
        let other = ApiKey::generate().unwrap().expose().to_owned();
        let bearer = format!("Bearer {key_text}");
        let lower = format!("bearer {key_text}");
        let wrong_scheme = format!("Basic {key_text}");
        let table: [(&[(&str, &str)], bool); 10] = [
            (&[("authorization", &bearer)], true),
            (&[("authorization", &lower)], true),
            (&[("api_key", &key_text)], true),
            (&[("authorization", &bearer), ("api_key", &key_text)], true),
            (&[("authorization", &bearer), ("api_key", &other)], false),
            (&[("authorization", &bearer), ("authorization", &bearer)], false),
            (&[("api_key", &key_text), ("api_key", &other)], false),
            (&[("authorization", &wrong_scheme)], false),
            (&[("authorization", &key_text)], false),
            (&[], false),
        ];
        for (given, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, value.parse().unwrap());
            }
            assert_eq!(key(&headers).is_some(), expected, "{given:?}");
        }
    }
}
