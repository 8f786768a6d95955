//! Says what this project makes of texts, conversations and tokens, one JSON object a line, so that other programs can be
//! held against it (`infra/smollm2/compare.py`):
//!
//! * `{"text": "…"}` gives `{"tokens": […]}`, in which special tokens that the text spells count as such.
//! * `{"messages": […]}` gives `{"prompt": "…", "tokens": […]}`.
//! * `{"ids": […]}` gives `{"positions": [[token, logit - log-sum-exp], …]}`: the most probable token after each prefix.
#![expect(clippy::print_stdout, reason = "it is a filter for other programs")]

use std::error::Error;
use std::io::{BufRead as _, stdin};
use std::path::{Path, PathBuf};

use infera_engine::whole;
use infera_engine_onnx::{OnnxConfig, OnnxEngine};
use infera_model::chat::ChatModel;
use infera_model::folder::TOKENIZER;
use infera_types::job::ChatMessage;
use infera_types::numbers::TokenId;
use infera_types::time::Timestamp;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, variant, library] = words.as_slice() else {
        return Err("usage: model_answers FOLDER VARIANT LIBRARY < requests".into());
    };
    let folder = Path::new(folder);
    let chat = ChatModel::load(folder)?;
    let tokenizer = Tokenizer::from_file(folder.join(TOKENIZER)).map_err(|error| error.to_string())?;
    let config = OnnxConfig { variant: variant.clone(), ..OnnxConfig::new(folder, PathBuf::from(library)) };
    let mut engine = OnnxEngine::load(&config)?;
    for line in stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        println!("{}", answer(&request, &chat, &tokenizer, &mut engine)?);
    }
    Ok(())
}

fn answer(
    request: &Value,
    chat: &ChatModel,
    tokenizer: &Tokenizer,
    engine: &mut OnnxEngine,
) -> Result<Value, Box<dyn Error>> {
    if let Some(text) = request["text"].as_str() {
        let encoding = tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        return Ok(json!({ "tokens": encoding.get_ids() }));
    }
    if request["messages"].is_array() {
        let messages: Vec<ChatMessage> = serde_json::from_value(request["messages"].clone())?;
        let now = Timestamp::from_millis(0);
        return Ok(
            json!({ "prompt": chat.render_text(&messages, now)?, "tokens": chat.render(&messages, now)? }),
        );
    }
    let ids: Vec<TokenId> = serde_json::from_value(request["ids"].clone())?;
    let (prompt, rest) = ids.split_at(1);
    let logits = whole::score(engine, prompt, rest)?;
    Ok(json!({ "positions": logits.rows().map(most_probable).collect::<Vec<_>>() }))
}

/// Returns the most probable token of a row and its log-probability.
fn most_probable(row: &[f32]) -> (usize, f64) {
    let best = row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (token, &logit)| {
        if logit > best.1 { (token, logit) } else { best }
    });
    let sum: f64 = row.iter().map(|&logit| f64::from(logit - best.1).exp()).sum();
    (best.0, -sum.ln())
}
