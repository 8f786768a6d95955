//! Finds the caller of a request by its API key. The key is sent as `Authorization: Bearer` or in the seed's header
//! `api_key`, on both faces; a key in the query or the body is ignored. A refusal says what is wrong with what was sent.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::keys::{ApiKey, Caller, KeyCache};
use crate::api::error::ApiError;
use crate::api::unauthorized::Unauthorized;

/// Returns the caller that the request's headers identify.
///
/// # Errors
/// [`ApiError::Unauthorized`], or the ledger's error if the key had to be looked up.
pub(crate) async fn caller(keys: &KeyCache, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
    caller_if_any(keys, headers).await?.ok_or(ApiError::Unauthorized(Unauthorized::Missing))
}

/// Returns the caller where a key is optional, or none if the request has no key.
///
/// # Errors
/// As [`caller`], for a key that was sent.
pub(crate) async fn caller_if_any(
    keys: &KeyCache,
    headers: &HeaderMap,
) -> Result<Option<Arc<Caller>>, ApiError> {
    let Some(text) = credential(headers)? else { return Ok(None) };
    let key = ApiKey::parse(text).ok_or(ApiError::Unauthorized(Unauthorized::Malformed))?;
    match keys.caller(&key).await {
        Ok(caller) => caller.map(Some).map_err(ApiError::Unauthorized),
        Err(error) => {
            tracing::error!(%error, "a key could not be looked up");
            Err(ApiError::from(&error))
        }
    }
}

/// Returns the one API key that a request sends, or none. A header without a value counts as absent, because some
/// programs send both headers and fill in one. The same key in both headers is one key. Two different keys, or one
/// header twice, are refused.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let bearer = match single(headers, AUTHORIZATION.as_str())? {
        None => None,
        Some(value) => {
            let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(ApiError::Unauthorized(Unauthorized::Scheme));
            }
            Some(key.trim()).filter(|key| !key.is_empty())
        }
    };
    match (bearer, single(headers, "api_key")?) {
        (Some(one), Some(other)) if one != other => Err(ApiError::Unauthorized(Unauthorized::Several)),
        (bearer, own) => Ok(bearer.or(own)),
    }
}

/// Returns a header's value, or none if the header is absent or empty.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter().filter(|value| !value.as_bytes().trim_ascii().is_empty());
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| ApiError::Unauthorized(Unauthorized::NotText))
        }
        (Some(_), Some(_)) => Err(ApiError::Unauthorized(Unauthorized::Several)),
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
        let table: [(&[(&str, &str)], bool); 17] = [
            (&[("authorization", &bearer)], true),
            (&[("authorization", &lower)], true),
            (&[("api_key", &key_text)], true),
            (&[("authorization", &bearer), ("api_key", &key_text)], true),
            (&[("authorization", "Bearer"), ("api_key", &key_text)], true),
            (&[("authorization", "bearer  "), ("api_key", &key_text)], true),
            (&[("authorization", ""), ("api_key", &key_text)], true),
            (&[("authorization", &bearer), ("api_key", "")], true),
            (&[("authorization", &bearer), ("api_key", " "), ("api_key", "")], true),
            (&[("authorization", &wrong_scheme), ("api_key", &key_text)], false),
            (&[("authorization", "Bearer"), ("api_key", "")], false),
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
            let key = credential(&headers).map(|text| text.and_then(ApiKey::parse));
            assert_eq!(matches!(key, Ok(Some(_))), expected, "{given:?}");
        }
    }
}
