//! The log-probabilities of an answer's tokens in OpenAI's form, from the raw numbers that its nodes reported.

use infera_types::job::Answer;
use infera_types::numbers::{TokenId, TokenNumbers};
use serde_json::{Value, json};

/// Returns the log-probabilities of an answer's tokens; `null` if none were asked for.
pub(super) fn of(answer: &Answer) -> Value {
    if answer.numbers.is_empty() {
        return Value::Null;
    }
    let content: Vec<Value> =
        answer.tokens.iter().zip(&answer.numbers).map(|(token, row)| place(answer, *token, row)).collect();
    json!({ "content": content, "refusal": null })
}

fn place(answer: &Answer, token: TokenId, row: &TokenNumbers) -> Value {
    let known = row.top.iter().chain(&row.likeliest).find(|(known, _)| *known == token);
    let mut told = entry(answer, (token, known.map(|(_, logit)| *logit)), row.log_sum_exp);
    let likeliest =
        row.likeliest.iter().map(|(token, logit)| entry(answer, (*token, Some(*logit)), row.log_sum_exp));
    told["top_logprobs"] = likeliest.collect();
    told
}

/// Returns a token with its log-probability, which is at most 0: the sum and the logit come from numbers of different precision. A
/// chosen token without a logit, which no sound replica has, gets what OpenAI tells of the unlikeliest ones.
fn entry(answer: &Answer, (token, logit): (TokenId, Option<f32>), log_sum_exp: f64) -> Value {
    const UNLIKELIEST: f64 = -9999.0;
    let logprob = logit.map_or(UNLIKELIEST, |logit| (f64::from(logit) - log_sum_exp).clamp(UNLIKELIEST, 0.0));
    let place = answer.spelled.binary_search_by_key(&token, |(known, _)| *known).ok();
    let bytes = place.and_then(|place| answer.spelled.get(place)).map(|(_, bytes)| bytes);
    let text = bytes.map_or_else(String::new, |bytes| String::from_utf8_lossy(bytes).into_owned());
    json!({ "token": text, "logprob": logprob, "bytes": bytes })
}
