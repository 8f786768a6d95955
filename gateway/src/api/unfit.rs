//! Shows the mistakes in a body: as pydantic's list on the network's own face, as one sentence on OpenAI's. Both are
//! bounded in size, whatever the body was.

use serde_json::{Value, json};

use crate::api::codes;
use crate::fastapi::echo::write_text;
use crate::fastapi::{Mistake, Mistakes, Part, Step, Unfit};

/// The size of the list of mistakes beyond which no more are listed, in bytes; those left out are counted. One
/// mistake is bounded too, because its input, names and reasons are cut.
const LIST_MAX_BYTES: usize = 64 * 1024;

/// The largest size of a sentence about one mistake on OpenAI's face, in bytes.
const SENTENCE_MAX_BYTES: usize = 1_000;

/// The largest size of a sentence in a list of mistakes on OpenAI's face, in bytes.
const LISTED_MAX_BYTES: usize = 200;

/// Writes FastAPI's `detail`.
pub(crate) fn write_detail(unfit: &Unfit, message: &str, out: &mut String) {
    match unfit {
        Unfit::Mistakes(mistakes) => write_mistakes(mistakes, out),
        Unfit::Syntax { message, position } => {
            let context = json!({ "error": message });
            out.push_str(&format!(
                "[{{\"type\":\"json_invalid\",\"loc\":[\"body\",{position}],\"msg\":\"JSON decode error\",\"input\":{{}},\
                 \"ctx\":{context}}}]"
            ));
        }
        Unfit::Unreadable => write_text(message, out),
    }
}

/// Returns the sentence about what is wrong with a body.
pub(crate) fn message(unfit: &Unfit) -> String {
    match unfit {
        Unfit::Unreadable => "There was an error parsing the body".to_owned(),
        Unfit::Syntax { message, position } => {
            format!("The body is not valid JSON: {message} at character {position}.")
        }
        Unfit::Mistakes(mistakes) => sentence(mistakes),
    }
}

/// Returns the sentence about the first mistake, with the number of the others.
pub(crate) fn sentence(mistakes: &Mistakes) -> String {
    mistakes.listed().first().map_or_else(String::new, |mistake| {
        let message = mistake.flaw.advice();
        let message = &message[..message.floor_char_boundary(SENTENCE_MAX_BYTES)];
        match (place(mistake), mistakes.count()) {
            (None, _) => message.to_owned(),
            (Some(place), 1) => format!("{place}: {message}"),
            (Some(place), count) => format!("{place}: {message} (and {} more)", count - 1),
        }
    })
}

/// Returns the place of the first mistake, such as `messages[0].role`, or none if it is the body itself.
pub(crate) fn param(mistakes: &Mistakes) -> Option<String> {
    mistakes.listed().first().and_then(place)
}

/// Returns whether the first mistake is a missing field.
pub(crate) fn is_missing(mistakes: &Mistakes) -> bool {
    mistakes.listed().first().is_some_and(|mistake| mistake.flaw.kind == "missing")
}

/// Returns whether the body asked for several jobs, each of which may have mistakes of its own.
pub(crate) fn is_of_several(mistakes: &Mistakes) -> bool {
    let is_of_job = |mistake: &Mistake| matches!(mistake.location[..], [Step::Name(ref name), Step::Index(_), ..] if name == "jobs");
    mistakes.listed().iter().any(is_of_job)
}

/// Returns all mistakes as OpenAI lists the errors of several requests: each with its place. A last one counts those
/// that are left out.
pub(crate) fn list(mistakes: &Mistakes) -> Value {
    let cut = |message: &str| message[..message.floor_char_boundary(LISTED_MAX_BYTES)].to_owned();
    let mut data: Vec<Value> = mistakes
        .listed()
        .iter()
        .map(|mistake| {
            json!({
                "code": code(mistake.flaw.kind),
                "message": cut(mistake.flaw.advice()),
                "param": place(mistake),
            })
        })
        .collect();
    let left_out = mistakes.count() - data.len();
    if left_out > 0 {
        let message = format!("{left_out} more mistakes are not listed");
        data.push(json!({ "code": code("too_many_mistakes"), "message": message, "param": null }));
    }
    json!({ "object": "list", "data": data })
}

/// Returns the code of a kind of flaw: what refuses a job alone has its own, and what pydantic finds is a value that is missing or
/// wrong.
fn code(kind: &str) -> &'static str {
    match codes::of(kind) {
        Some(line) => line.code,
        None if kind == "missing" => "missing_field",
        None => "invalid_value",
    }
}

fn place(mistake: &Mistake) -> Option<String> {
    let path = mistake.location.iter().fold(String::new(), |mut path, step| {
        match step {
            Step::Index(index) => path.push_str(&format!("[{index}]")),
            Step::Name(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
        }
        path
    });
    (!path.is_empty()).then_some(path)
}

/// Writes the list of mistakes. A last entry counts those that were left out.
fn write_mistakes(mistakes: &Mistakes, out: &mut String) {
    out.push('[');
    let mut listed = 0;
    for mistake in mistakes.listed() {
        if listed > 0 {
            if out.len() > LIST_MAX_BYTES {
                break;
            }
            out.push(',');
        }
        write_mistake(mistake, mistakes.part(), out);
        listed += 1;
    }
    let left_out = mistakes.count() - listed;
    if left_out > 0 {
        out.push_str(&format!(
            ",{{\"type\":\"too_many_mistakes\",\"loc\":[\"body\"],\"msg\":\"{left_out} more mistakes are not listed\",\
             \"input\":null,\"ctx\":{{\"left_out\":{left_out}}}}}"
        ));
    }
    out.push(']');
}

/// Writes one mistake as pydantic prints it, with the keys in its order.
fn write_mistake(mistake: &Mistake, part: Part, out: &mut String) {
    let Mistake { location, flaw, input } = mistake;
    out.push_str(&format!("{{\"type\":\"{}\",\"loc\":[\"{}\"", flaw.kind, part.word()));
    for step in location {
        out.push(',');
        match step {
            Step::Index(index) => out.push_str(&index.to_string()),
            Step::Name(name) => write_text(name, out),
        }
    }
    out.push_str("],\"msg\":");
    write_text(&flaw.message, out);
    out.push_str(",\"input\":");
    out.push_str(input);
    if let Some(context) = &flaw.context {
        out.push_str(&format!(",\"ctx\":{context}"));
    }
    out.push('}');
}
