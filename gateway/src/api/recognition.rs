//! Recognises bodies of OpenAI's clients on the network's own paths. A client whose base URL lacks `/v1` sends them
//! there; its body is read by OpenAI's form then, so that it gets the same answer as under `/v1`.

use hyper::header::HeaderMap;

use crate::api::chat_form::UNSUPPORTED;
use crate::api::chat_request::Form;
use crate::fastapi::Json;

/// Members of OpenAI's form that the network's own forms didn't have from the beginning, beside those that are refused by name.
const OPENAIS_OWN: [&str; 21] = [
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "metadata",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "safety_identifier",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

/// Returns whether a request was made by one of OpenAI's own libraries, which say so in headers.
pub(crate) fn is_openais_client(headers: &HeaderMap) -> bool {
    headers.contains_key("x-stainless-lang")
}

/// Returns the form by which a body is read on a path whose own form is `form`.
pub(crate) fn form_of(form: Form, body: &Json, is_openais_client: bool) -> Form {
    let is_own_submit = form == Form::Submit && body.get("max_output").is_some();
    let is_openais = is_openais_client || has_openais_members(body) || has_openais_messages(body);
    if is_openais && !is_own_submit { Form::OpenAi } else { form }
}

fn has_openais_members(body: &Json) -> bool {
    let names = UNSUPPORTED.iter().map(|option| option.name).chain(OPENAIS_OWN);
    names.into_iter().any(|name| body.get(name).is_some())
}

/// Returns whether a message has a content in parts, a role or a member that only OpenAI's API has.
fn has_openais_messages(body: &Json) -> bool {
    let Some(Json::List(messages)) = body.get("messages") else { return false };
    messages.iter().any(|message| {
        let role = message.get("role");
        matches!(message.get("content"), Some(Json::List(parts)) if parts.iter().any(|part| part.get("type").is_some()))
            || ["developer", "tool", "function"].iter().any(|word| role == Some(&Json::Text((*word).to_owned())))
            || ["tool_calls", "function_call", "refusal", "audio"].iter().any(|name| message.get(name).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openais_bodies_are_recognised_on_either_path() {
        let plain = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
        let with = |member: &str| format!("{{\"model\":\"m\",\"messages\":[],{member}}}");
        let message =
            |message: &str| format!("{{\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}},{message}]}}");
        for (text, is_client, expected) in [
            (plain.to_owned(), false, false),
            (plain.to_owned(), true, true),
            (
                with("\"max_tokens\":5,\"temperature\":0,\"seed\":1,\"verification\":{},\"unknown\":1"),
                false,
                false,
            ),
            (with("\"n\":3"), false, true),
            (with("\"stream\":true"), false, true),
            (with("\"user\":\"u\""), false, true),
            (with("\"max_completion_tokens\":null"), false, true),
            (message("{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}"), false, true),
            (message("{\"role\":\"user\",\"content\":[5]}"), false, false),
            (message("{\"role\":\"developer\",\"content\":\"x\"}"), false, true),
            (message("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}"), false, true),
            (message("5"), false, false),
            ("[]".to_owned(), false, false),
        ] {
            let body = crate::fastapi::json::read(text.as_bytes()).unwrap();
            for form in [Form::Chat, Form::Submit] {
                let expected = if expected { Form::OpenAi } else { form };
                assert_eq!(form_of(form, &body, is_client), expected, "{text}");
            }
            assert_eq!(form_of(Form::OpenAi, &body, is_client), Form::OpenAi);
        }
        let own = crate::fastapi::json::read(br#"{"max_output":5,"n":1}"#).unwrap();
        assert_eq!(form_of(Form::Submit, &own, true), Form::Submit);
    }
}
