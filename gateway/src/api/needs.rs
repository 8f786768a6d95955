//! What a request needs of the engines that answer it, by the parameters that ask for it.

use infera_types::features::Feature;
use infera_types::job::{JobRequest, Seed};

use super::chat_request::ChatRequest;

/// A parameter of a body and what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What a node's engine must be able to do.
    pub(crate) feature: Feature,
    /// The parameter's name.
    pub(crate) parameter: &'static str,
}

/// Returns all that a request needs beyond the plainest answer, in the order in which the parameters are described.
pub(crate) fn needs(ask: &ChatRequest) -> Vec<Need> {
    let JobRequest { temperature, seed, knobs, top_logprobs, stream, .. } = &ask.request;
    let second = Feature::Sampling2;
    let all = [
        (*temperature > 0.0, Feature::Temperature, "temperature"),
        (seed.is_some(), Feature::Seed, "seed"),
        // Nodes of the version before read seeds with a sign.
        (matches!(seed, Some(Seed::Large(_))), second, "seed"),
        (ask.choices > 1, second, "n"),
        (!knobs.stop.is_empty(), second, "stop"),
        (knobs.top_p.is_some(), second, "top_p"),
        (knobs.top_k.is_some(), second, "top_k"),
        (knobs.min_p.is_some(), second, "min_p"),
        (knobs.frequency_penalty.is_some(), second, "frequency_penalty"),
        (knobs.presence_penalty.is_some(), second, "presence_penalty"),
        (knobs.repetition_penalty.is_some(), second, "repetition_penalty"),
        (!knobs.logit_bias.is_empty(), second, "logit_bias"),
        (knobs.min_tokens > 0, second, "min_tokens"),
        (knobs.ignore_eos, second, "ignore_eos"),
        (top_logprobs.is_some(), second, "logprobs"),
        // What is shown only after the settlement needs nothing, so the request to the nodes says nothing of it.
        (stream.is_some(), Feature::Stream, "stream"),
    ];
    let asked = all.into_iter().filter(|(is_asked, ..)| *is_asked);
    asked.map(|(_, feature, parameter)| Need { feature, parameter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::chat_request::{AnswerBounds, Form, read};
    use crate::config::Config;
    use crate::fastapi::json;

    /// What this body needs, by its parameters.
    fn needed(members: &str) -> Vec<(Feature, &'static str)> {
        let text = format!(
            r#"{{"model":"m","temperature":0,"messages":[{{"role":"user","content":"hi"}}]{members}}}"#
        );
        let body = json::read(text.as_bytes()).unwrap();
        let ask = read(Form::OpenAi, &body, AnswerBounds::from(&Config::default())).unwrap();
        needs(&ask).into_iter().map(|need| (need.feature, need.parameter)).collect()
    }

    #[test]
    fn only_what_is_shown_before_the_settlement_needs_nodes_that_stream() {
        let streams = vec![(Feature::Stream, "stream")];
        for (members, expected) in [
            ("", vec![]),
            (r#","stream":false"#, vec![]),
            (r#","stream":true"#, streams.clone()),
            (r#","stream":true,"verification":{"release":"agreed"}"#, streams.clone()),
            (r#","stream":true,"verification":{"release":"first"}"#, streams.clone()),
            (r#","stream":true,"verification":{"replicas":1}"#, streams),
            (r#","stream":true,"verification":{"release":"verified"}"#, vec![]),
            // With log-probabilities nothing is shown before the settlement either.
            (r#","stream":true,"logprobs":true"#, vec![(Feature::Sampling2, "logprobs")]),
        ] {
            assert_eq!(needed(members), expected, "{members}");
        }
    }
}
