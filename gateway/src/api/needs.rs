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
    let JobRequest { temperature, seed, knobs, top_logprobs, .. } = &ask.request;
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
    ];
    let asked = all.into_iter().filter(|(is_asked, ..)| *is_asked);
    asked.map(|(_, feature, parameter)| Need { feature, parameter }).collect()
}
