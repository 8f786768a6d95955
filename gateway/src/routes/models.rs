//! `GET /v1/models` and `GET /v1/models/{model}`: the catalogue, or one entry of it, in OpenAI's shape.

use std::time::Instant;

use infera_ledger::CatalogueEntry;
use infera_types::features::Feature;
use infera_types::money::{Price, token_price_text};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::call::Call;
use crate::api::chat_form;
use crate::api::chat_request::AnswerBounds;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::knob_fields::KNOBS;
use crate::api::operation::{Group, Named, Operation, Parameter, Place, Shape, always, json as in_json};
use crate::api::reply::Reply;
use crate::config::Currency;
use crate::network::{Capacity, Catalogue, not_served};

/// The terms on which all models are offered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    /// The bounds of answers.
    pub(crate) answers: AnswerBounds,
    /// The currency of prices.
    pub(crate) currency: &'a Currency,
}

/// A model, for the description of the API.
static MODEL: Named = Named {
    name: "Model",
    about: "A model in OpenAI's format, with what listings of several providers ask for beside it.",
    shape: Shape::Members(&[
        always("id", Shape::Text, "The name to send as `model`."),
        always("object", Shape::Words(&["model"]), "The kind of object."),
        always("created", Shape::Time, "When the model was first offered."),
        always("owned_by", Shape::Text, "Always `infera`."),
        always("name", Shape::Text, "The name for people."),
        always("context_length", Shape::Count, "The largest number of tokens of prompt and answer together."),
        always("context_window", Shape::Count, "The same, under the name that other listings use."),
        always("max_output_length", Shape::Count, "The largest number of tokens of an answer."),
        always("input_modalities", Shape::List(&Shape::Words(&["text"])), "What it reads."),
        always("output_modalities", Shape::List(&Shape::Words(&["text"])), "What it writes."),
        always(
            "quantization",
            Shape::Text,
            "How its weights are stored: `fp32`, `int4` and the like, or `unknown`.",
        ),
        always(
            "supported_parameters",
            Shape::List(&Shape::Text),
            "The options of a request that change its answer.",
        ),
        always("supported_features", Shape::List(&Shape::Text), "Further abilities, such as tools: none."),
        always(
            "pricing",
            Shape::Members(&[
                always(
                    "prompt",
                    Shape::Text,
                    "What one token of a prompt costs, a decimal number; `0` if it is free.",
                ),
                always("completion", Shape::Text, "What one token of an answer costs."),
                always("request", Shape::Text, "What a request costs beside its tokens: `0`."),
                always("currency", Shape::Text, "The currency, in three capital letters."),
            ]),
            "What it costs.",
        ),
        always("nodes", Shape::Count, "The nodes that serve it now."),
    ]),
};

/// `GET /v1/models`.
pub(crate) static LIST: Operation = Operation {
    id: "listModels",
    group: Group::OpenAi,
    summary: "List the models",
    about: "Lists the models that are served here.",
    parameters: &[],
    body: None,
    reply: in_json(
        "The models.",
        Shape::Members(&[
            always("object", Shape::Words(&["list"]), "The kind of object."),
            always("data", Shape::List(&Shape::Named(&MODEL)), "The models, by name."),
        ]),
    ),
    errors: &[],
};

/// `GET /v1/models/{model}`.
pub(crate) static SHOW: Operation = Operation {
    id: "retrieveModel",
    group: Group::OpenAi,
    summary: "Show a model",
    about: "Shows one model. Slashes in its name may be written as they are or percent-encoded.",
    parameters: &[Parameter {
        place: Place::Path,
        name: "model",
        shape: Shape::Text,
        about: "The model's name.",
        example: "infera-tiny",
    }],
    body: None,
    reply: in_json("The model.", Shape::Named(&MODEL)),
    errors: &["model_not_found"],
};

/// Lists the models on offer.
///
/// # Errors
/// [`Failure`].
pub(crate) fn list(catalogue: &Catalogue, capacity: &Capacity, terms: &Terms<'_>) -> Result<Reply, Failure> {
    let now = Instant::now();
    let models = catalogue.models();
    // A model stays in the catalogue even when it was removed or no verifier offers it any more.
    let data: Vec<Value> = models
        .iter()
        .filter(|entry| not_served(entry, capacity, now).is_none())
        .map(|entry| model(entry, catalogue.price(&entry.name), terms, (capacity, now)))
        .collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}

/// Shows one model. In names with slashes, OpenAI's clients percent-encode the slashes and people don't.
///
/// # Errors
/// [`ApiError::ModelUnknown`], [`ApiError::ModelGone`], [`ApiError::ModelRemoved`], or [`ApiError::LedgerAway`] before the first
/// reading of the catalogue.
pub(crate) fn show(
    catalogue: &Catalogue,
    capacity: &Capacity,
    terms: &Terms<'_>,
    call: &Call,
) -> Result<Reply, Failure> {
    let name = percent_decode_str(&call.id).decode_utf8_lossy();
    // Before the first reading of the catalogue, it isn't known which models exist.
    catalogue.epoch().ok_or(ApiError::LedgerAway)?;
    let entry = catalogue.model(&name).ok_or_else(|| ApiError::ModelUnknown(name.to_string()))?;
    let now = Instant::now();
    if let Some(error) = not_served(&entry, capacity, now) {
        return Err(error.into());
    }
    let price = catalogue.price(&entry.name);
    Ok(Reply::json(&model(&entry, price, terms, (capacity, now)))?)
}

/// Makes OpenAI's model object, with the members by which listings of several providers compare models. Their prices are those
/// of one token, as texts.
fn model(
    entry: &CatalogueEntry,
    price: Option<Price>,
    terms: &Terms<'_>,
    (capacity, now): (&Capacity, Instant),
) -> Value {
    let price = price.unwrap_or_default();
    let of_sampling = |name: &&str| !["model", "messages", "request_timeout_time"].contains(name);
    // Its nodes may be too old for knobs; then requests with one are refused by name.
    let knobs = if capacity.lacks(&entry.name, Feature::Sampling2, now) { &[][..] } else { KNOBS };
    let names = chat_form::OPENAI.iter().chain(knobs).map(|field| field.name);
    let parameters: Vec<&str> = names.filter(of_sampling).collect();
    json!({
        "id": entry.name,
        "object": "model",
        "created": entry.created_ms.as_secs(),
        "owned_by": "infera",
        "name": entry.name,
        "context_length": entry.context_max,
        "context_window": entry.context_max,
        "max_output_length": terms.answers.tokens_max().min(entry.context_max),
        "input_modalities": ["text"],
        "output_modalities": ["text"],
        "quantization": entry.quantization.as_deref().unwrap_or("unknown"),
        "supported_parameters": parameters,
        "supported_features": [],
        "pricing": {
            "prompt": token_price_text(price.prompt),
            "completion": token_price_text(price.completion),
            "request": "0",
            "currency": terms.currency.to_string(),
        },
        "nodes": capacity.nodes(&entry.name, now),
    })
}
