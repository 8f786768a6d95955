//! Runs a model's chat template: turns a conversation into one text, within bounds, as Python's loaders do. It does
//! not deal with tokens.

use std::collections::BTreeMap;
use std::io;

use minijinja::{Environment, Error as TemplateError, ErrorKind, Value};
use serde::Serialize;

use super::{calendar, json};
use infera_types::job::ChatMessage;
use infera_types::time::Timestamp;

/// The template's name in its environment; it has no suffix, so that nothing is escaped.
const NAME: &str = "chat";

/// The instructions that one rendering may take: ten times what the largest body takes, and about a second.
const INSTRUCTIONS_MAX: u64 = 20_000_000;

/// What a template may print of its own, in bytes; around each message it may print several times the message.
const PREAMBLE_MAX_BYTES: usize = 64 * 1024;
/// How many times a message's size a template may print for it.
const GROWTH_MAX: usize = 8;
/// What a message costs besides its text, in bytes.
const MESSAGE_BYTES: usize = 32;

/// The most characters of a template's own sentence that are passed on.
const SENTENCE_MAX: usize = 300;

/// Why a rendering yielded no text.
#[derive(Debug)]
pub(super) enum Unrendered {
    /// The template refused by `raise_exception`, with this sentence.
    Refused(String),
    /// The text would have more bytes than the caller allows.
    TooLong,
    /// The template produced more text or work than any template is expected to for such a conversation.
    TooMuch,
    /// The template failed.
    Failed(String),
}

/// The variables that a template sees.
#[derive(Serialize)]
struct Input<'a> {
    messages: &'a [ChatMessage],
    add_generation_prompt: bool,
    /// None, as Python's loaders say it: templates ask whether it is none.
    tools: Option<()>,
    documents: Option<()>,
    #[serde(flatten)]
    special_tokens: &'a BTreeMap<String, String>,
    strftime_now: Value,
}

/// A compiled chat template; see the module.
pub(super) struct Template {
    environment: Environment<'static>,
    special_tokens: BTreeMap<String, String>,
}

impl Template {
    /// Compiles a template that sees these special tokens by their names. Fails with what is wrong with the source.
    pub(super) fn new(source: &str, special_tokens: BTreeMap<String, String>) -> Result<Self, String> {
        let environment = environment(source).map_err(|error| full(&error))?;
        Ok(Self { environment, special_tokens })
    }

    /// Renders the conversation to at most `bytes_max` bytes.
    pub(super) fn render(
        &self,
        messages: &[ChatMessage],
        now: Timestamp,
        bytes_max: usize,
    ) -> Result<String, Unrendered> {
        let strftime_now = move |format: String| {
            calendar::strftime(now, &format)
                .map_err(|reason| TemplateError::new(ErrorKind::InvalidOperation, reason))
        };
        let input = Input {
            messages,
            add_generation_prompt: true,
            tools: None,
            documents: None,
            special_tokens: &self.special_tokens,
            strftime_now: Value::from_function(strftime_now),
        };
        let expected_max = expected_max_bytes(messages);
        let mut page = Page { bytes: Vec::new(), bytes_max: bytes_max.min(expected_max), is_full: false };
        let template = self.environment.get_template(NAME);
        let rendered = template.and_then(|template| template.render_captured_to(input, &mut page).map(drop));
        match rendered {
            Ok(()) => String::from_utf8(page.bytes).map_err(|error| Unrendered::Failed(error.to_string())),
            Err(_) if page.is_full && bytes_max <= expected_max => Err(Unrendered::TooLong),
            Err(_) if page.is_full => Err(Unrendered::TooMuch),
            Err(error) => Err(unrendered(&error)),
        }
    }

    /// Returns whether the template, tried on conversations of several forms, prints all of the messages' text but
    /// the whitespace around it. The length of a prompt says nothing if the template leaves out or rewrites text.
    pub(super) fn keeps_what_is_said(&self) -> bool {
        const FORMS: [&[&str]; 4] = [
            &["user"],
            &["system", "user"],
            &["user", "assistant", "user"],
            &["system", "user", "assistant"],
        ];
        let long = FORMS.iter().map(|roles| roles.to_vec());
        let turns = std::iter::once(["user", "assistant"].into_iter().cycle().take(41).collect());
        let mut printed = 0;
        for (form, roles) in long.chain(turns).enumerate() {
            let messages: Vec<ChatMessage> =
                roles.iter().enumerate().map(|(turn, role)| probe(role, form, turn)).collect();
            match self.render(&messages, Timestamp::from_millis(0), usize::MAX) {
                Ok(text) if messages.iter().all(|message| text.contains(&message.content)) => printed += 1,
                // The template refuses this form, so no prompt ever has it.
                Err(Unrendered::Refused(_)) => {}
                _ => return false,
            }
        }
        printed > 0
    }
}

/// Makes a message that contains what templates are known to cut: blocks of thought, empty lines, length.
fn probe(role: &str, form: usize, turn: usize) -> ChatMessage {
    let filler = "so it goes. ".repeat(200);
    let content = format!("{form}.{turn} <think>a\n\nb</think>\n\nC  |  {{d}} {filler}e{form}.{turn}");
    ChatMessage { role: role.to_owned(), content }
}

fn expected_max_bytes(messages: &[ChatMessage]) -> usize {
    let length = |message: &ChatMessage| MESSAGE_BYTES + message.role.len() + message.content.len();
    PREAMBLE_MAX_BYTES + GROWTH_MAX * messages.iter().map(length).sum::<usize>()
}

/// Collects what a template prints, up to a length.
struct Page {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_full: bool,
}

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            self.is_full = true;
            return Err(io::Error::other("the rendered text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The sentence that a template passes to `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

/// Replaces the tags around what an assistant says. They mark it for training and print nothing; Jinja itself doesn't know
/// them.
fn without_generation_tags(source: &str) -> String {
    let (mut text, mut rest) = (String::with_capacity(source.len()), source);
    while let Some((before, tag)) = rest.split_once("{%") {
        text.push_str(before);
        text.push_str("{%");
        let Some((inner, after)) = tag.split_once("%}") else {
            rest = tag;
            break;
        };
        match inner.trim_matches(['-', '+']).trim() {
            "generation" => text.push_str(&inner.replace("generation", "if true")),
            "endgeneration" => text.push_str(&inner.replace("endgeneration", "endif")),
            _ => text.push_str(inner),
        }
        text.push_str("%}");
        rest = after;
    }
    text.push_str(rest);
    text
}

/// Makes the environment that Python's loaders give templates: block lines trimmed, methods of Python's types, loop
/// controls, `tojson` as theirs, `raise_exception`.
fn environment(source: &str) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_fuel(Some(INSTRUCTIONS_MAX));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, TemplateError> {
        let error = TemplateError::new(ErrorKind::InvalidOperation, "the template refuses");
        Err(error.with_source(Raised(reason)))
    });
    environment.add_filter("tojson", json::tojson);
    environment.add_template_owned(NAME, without_generation_tags(source))?;
    Ok(environment)
}

fn unrendered(error: &TemplateError) -> Unrendered {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(Raised(reason)) = inner.downcast_ref() {
            return Unrendered::Refused(sentence(reason));
        }
        let kind = inner.downcast_ref::<TemplateError>().map(TemplateError::kind);
        if kind == Some(ErrorKind::OutOfFuel) {
            return Unrendered::TooMuch;
        }
        cause = inner.source();
    }
    Unrendered::Failed(full(error))
}

/// Shortens a template's words to one line of bounded length, because they may repeat what the client sent.
fn sentence(reason: &str) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let mut words: String = reason.chars().take(SENTENCE_MAX).map(plain).collect();
    if reason.chars().nth(SENTENCE_MAX).is_some() {
        words.push('…');
    }
    words.trim().to_owned()
}

/// Returns the error with its causes, in one line.
fn full(error: &TemplateError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
