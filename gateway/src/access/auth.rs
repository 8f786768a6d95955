//! Finds out the caller by the one API key of a request, from `Authorization: Bearer` or the seed's `api_key` header, on
//! both faces. A key in the query or the body is never looked at. Every way to be wrong gets the same answer.

use std::sync::Arc;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::keys::{ApiKey, Caller, KeyCache};
use crate::api::error::ApiError;

/// Returns the caller that the headers prove.
///
/// # Errors
/// [`ApiError::Unauthorized`]; the ledger's, if the key had to be looked up.
pub(crate) async fn caller(keys: &KeyCache, headers: &HeaderMap) -> Result<Arc<Caller>, ApiError> {
    caller_if_any(keys, headers).await?.ok_or(ApiError::Unauthorized)
}

/// Returns the same where a key is optional: none without any.
///
/// # Errors
/// As [`caller`], for a key that is there.
pub(crate) async fn caller_if_any(
    keys: &KeyCache,
    headers: &HeaderMap,
) -> Result<Option<Arc<Caller>>, ApiError> {
    let Some(text) = credential(headers)? else { return Ok(None) };
    let key = ApiKey::parse(text).ok_or(ApiError::Unauthorized)?;
    match keys.caller(&key).await {
        Ok(caller) => caller.map(Some).ok_or(ApiError::Unauthorized),
        Err(error) => {
            tracing::error!(%error, "a key could not be looked up");
            Err(ApiError::from(&error))
        }
    }
}

/// Returns the one credential of a request; none if there is none. A header without a value is as if it weren't there:
/// programs send both headers and fill one. The same key in both headers is one key; two that differ, or one header twice,
/// prove nothing.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let bearer = match single(headers, AUTHORIZATION.as_str())? {
        None => None,
        Some(value) => {
            let (scheme, key) = value.split_once(' ').unwrap_or((value, ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(ApiError::Unauthorized);
            }
            Some(key.trim()).filter(|key| !key.is_empty())
        }
    };
    match (bearer, single(headers, "api_key")?) {
        (Some(one), Some(other)) if one != other => Err(ApiError::Unauthorized),
        (bearer, own) => Ok(bearer.or(own)),
    }
}

/// Returns a header's value; none if it isn't there or empty.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter().filter(|value| !value.as_bytes().trim_ascii().is_empty());
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ApiError::Unauthorized),
        (Some(_), Some(_)) => Err(ApiError::Unauthorized),
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
