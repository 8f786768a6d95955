//! Prepares a job before a node is asked: renders its prompt (nodes must render the same), and derives the keys of its noise
//! and its draw. A request that can't be asked at all is found out here.

use std::sync::Arc;
use std::time::Duration;

use infera_ledger::{CatalogueEntry, LedgerError, TakenJob};
use infera_model::chat::{ChatError, ChatModel, Prompt, RENDERING, prompt_hash};
use infera_sampling::{Noise, Rules, Terms, cache_scope, draw_key, sample_key};
use infera_types::features::{Feature, Features};
use infera_types::ids::{Digest, JobId};
use infera_types::job::{End, FailureReason, JobRequest};
use infera_types::retry::retry;
use infera_types::time::Timestamp;
use infera_types::unreadable::unreadable;

use crate::decisions::compare::Context;
use crate::decisions::thresholds::Thresholds;
use crate::tenure::{LEDGER_RETRY, Tenure};

/// Reading and rendering go to a thread of their own from this size on, and count among the bytes that are worked on at
/// once: below it they take less than a millisecond and four MiB, and are as many at once as there are threads.
pub(super) const INLINE_MAX_BYTES: usize = 16 * 1024;

/// A job that can be asked.
pub(super) struct Prepared {
    /// What is asked.
    pub(super) request: JobRequest,
    /// What that needs of a node's engine.
    pub(super) needed: Features,
    /// What the model's name means.
    pub(super) entry: Arc<CatalogueEntry>,
    /// Its tokenizer and template.
    pub(super) chat: Arc<ChatModel>,
    /// The rendered prompt's hash.
    pub(super) prompt_hash: Digest,
    /// How many tokens that has.
    pub(super) prompt_tokens: u32,
    /// The first version of rendering that comes to them.
    pub(super) rendering_min: u32,
    /// By what its tokens are chosen; keeps the prompt's tokens, where the request's knobs look at them.
    pub(super) rules: Rules,
    /// The key of the noise.
    pub(super) sample_key: Digest,
    /// Which of its request's answers the job is, counted from 0.
    pub(super) choice: u32,
    /// The key of the draws.
    pub(super) draw_key: Digest,
    /// The scope of what nodes compute for prompts: the account's, in this epoch.
    pub(super) cache_scope: Digest,
}

impl Prepared {
    /// Returns what the reference machine takes for the longest answer allowed.
    pub(super) fn reference_time(&self) -> Duration {
        let room = self.entry.context_max.saturating_sub(self.prompt_tokens);
        let tokens = u64::from(self.prompt_tokens) + u64::from(self.request.max_tokens.min(room));
        Duration::from_micros(tokens.saturating_mul(self.entry.reference_token_us))
    }

    /// Returns the most tokens that the answer may have.
    pub(super) fn answer_tokens_max(&self) -> usize {
        let room = self.entry.context_max.saturating_sub(self.prompt_tokens);
        usize::try_from(self.request.max_tokens.min(room)).unwrap_or(usize::MAX)
    }

    /// Returns what is the same for all replicas of the job.
    pub(super) fn context<'a>(&'a self, thresholds: &'a Thresholds) -> Context<'a> {
        Context { rules: &self.rules, noise: self.noise(), thresholds }
    }

    /// Returns the noise that its tokens are chosen with.
    pub(super) fn noise(&self) -> Noise {
        Noise::new(&self.sample_key, self.choice)
    }

    /// Returns whether the client is given the numbers of its answer.
    pub(super) const fn gives_numbers(&self) -> bool {
        self.request.top_logprobs.is_some()
    }

    /// Returns whether a node that renders by this version comes to the same tokens.
    pub(super) const fn is_rendered_by(&self, rendering: u32) -> bool {
        renders_alike(self.rendering_min, rendering)
    }
}

/// Returns whether two versions of rendering come to the same tokens. Of versions that this program doesn't know it can only
/// be told that they change nothing for ordinary prompts.
const fn renders_alike(rendering_min: u32, rendering: u32) -> bool {
    rendering_min == 1 || rendering == RENDERING
}

fn failed(reason: FailureReason, message: impl Into<String>) -> End {
    End::Failed { reason, message: message.into() }
}

/// Why a job isn't prepared.
pub(super) enum Unprepared {
    /// It can't be asked at all, and ends.
    Ended(End),
    /// This verifier hasn't its model's tokenizer, and gives it back.
    NoTokenizer,
}

/// Renders and keys a job, or says why not. Waits while the ledger can't be read. The request's stored bytes are
/// dropped: from here on it is kept once.
pub(super) async fn prepare(tenure: &Tenure, job: &mut TakenJob) -> Result<Prepared, Unprepared> {
    let entry = tenure.ledger_view.snapshot().catalogue.get(&job.model).cloned();
    let entry = entry.ok_or_else(|| {
        Unprepared::Ended(failed(FailureReason::Unprocessable, "The model is no longer offered."))
    })?;
    let chat = tenure.chats.of(&entry).ok_or(Unprepared::NoTokenizer)?;
    prepare_by(tenure, job, (entry, chat)).await.map_err(Unprepared::Ended)
}

async fn prepare_by(
    tenure: &Tenure,
    job: &mut TakenJob,
    (entry, chat): (Arc<CatalogueEntry>, Arc<ChatModel>),
) -> Result<Prepared, End> {
    let unprocessable = |message: &str| failed(FailureReason::Unprocessable, message);
    let context_max = usize::try_from(entry.context_max).unwrap_or(usize::MAX);
    let model = *entry.digests.first().ok_or_else(|| unprocessable("The model has no files any more."))?;
    let (stored, now) = (std::mem::take(&mut job.request), job.accepted_ms);
    let (request, prompt) = if stored.len() <= INLINE_MAX_BYTES {
        read_and_render(&stored, &chat, now, context_max)
    } else {
        let _held = tenure.work.hold(stored.len()).await;
        let chat = Arc::clone(&chat);
        let rendering =
            tokio::task::spawn_blocking(move || read_and_render(&stored, &chat, now, context_max));
        rendering.await.unwrap_or(Err(Unrendered::CutOff))
    }
    .map_err(|unrendered| end_of(job.id, unrendered))?;
    let prompt_tokens = u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX);
    if prompt_tokens >= entry.context_max {
        return Err(too_long(&format!("{prompt_tokens} tokens"), entry.context_max));
    }
    let secret = epoch_secret(tenure, job.epoch).await.map_err(|error| {
        tracing::error!(job = %job.id, epoch = job.epoch, %error, "a job's epoch can't be read");
        unprocessable("The job's epoch is unknown.")
    })?;
    let choice = job.choice.index;
    let rules = Rules::new(&Terms {
        temperature: request.temperature,
        knobs: &request.knobs,
        top_logprobs: request.top_logprobs,
        end_tokens: &entry.end_tokens,
        prompt: &prompt.tokens,
    });
    Ok(Prepared {
        rules,
        choice,
        sample_key: sample_key(&secret, job.choice.first(job.id), &request, &model),
        draw_key: draw_key(&secret, job.id),
        cache_scope: cache_scope(&secret, &job.account),
        prompt_hash: prompt_hash(&prompt.tokens),
        prompt_tokens,
        rendering_min: prompt.since,
        needed: needed(&request, choice),
        request,
        entry,
        chat,
    })
}

/// Returns what an answer needs of a node's engine.
fn needed(request: &JobRequest, choice: u32) -> Features {
    let needed = Features::needed(request);
    // Older nodes know one choice.
    if choice > 0 { needed.with(Feature::Sampling2) } else { needed }
}

/// Why a stored request has no prompt.
enum Unrendered {
    /// It isn't what gateways store.
    Unreadable(serde_json::Error),
    /// The model's tokenizer or template refuses it.
    Chat(ChatError),
    /// The thread that rendered it ended.
    CutOff,
}

fn read_and_render(
    stored: &[u8],
    chat: &ChatModel,
    now: Timestamp,
    context_max: usize,
) -> Result<(JobRequest, Prompt), Unrendered> {
    let request: JobRequest = serde_json::from_slice(stored).map_err(Unrendered::Unreadable)?;
    let prompt = chat.prompt_within(&request.messages, now, context_max).map_err(Unrendered::Chat)?;
    Ok((request, prompt))
}

fn too_long(prompt: &str, context_max: impl std::fmt::Display) -> End {
    // The gateway refuses by length in bytes with the same words (`api/error_text.rs`). LiteLLM knows the error by the first
    // sentence's beginning, LangChain by its code.
    let message = format!(
        "This model's maximum context length is {context_max} tokens. However, your messages resulted in {prompt}, which \
         leaves no room for an answer. Shorten the messages."
    );
    failed(FailureReason::ContextLength, message)
}

/// Returns how a job ends whose request can't be asked: what the client can change is told in full, the rest is logged.
fn end_of(job: JobId, unrendered: Unrendered) -> End {
    let ours = |error: &dyn std::fmt::Display, message: &str| {
        tracing::error!(%job, %error, "a stored request can't be asked");
        failed(FailureReason::Unprocessable, message)
    };
    match unrendered {
        Unrendered::Chat(ChatError::Refused(sentence)) => failed(
            FailureReason::InvalidMessages,
            format!("The model's chat template refuses the conversation: {sentence}"),
        ),
        Unrendered::Chat(ChatError::TooLong { tokens_min, context_max }) => {
            too_long(&format!("at least {tokens_min} tokens"), context_max)
        }
        Unrendered::Chat(
            error @ (ChatError::Template(_) | ChatError::Tokenizer(_) | ChatError::Folder(_)),
        ) => ours(&error, "The conversation can't be rendered for this model."),
        Unrendered::Unreadable(error) => ours(&unreadable(&error), "The stored request can't be read."),
        Unrendered::CutOff => {
            ours(&"rendering was cut off", "The conversation can't be rendered for this model.")
        }
    }
}

async fn epoch_secret(tenure: &Tenure, number: u64) -> Result<Digest, LedgerError> {
    let attempt = || tenure.ledger_view.epoch_secret(&*tenure.seams.network, number);
    retry(LEDGER_RETRY, attempt, |error, _| error.may_pass()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_another_version_are_asked_what_is_alike_for_them() {
        for (rendering_min, rendering, expected) in
            [(1, 1, true), (1, 2, true), (1, 3, true), (2, 1, false), (2, 2, true), (2, 3, false)]
        {
            assert_eq!(renders_alike(rendering_min, rendering), expected, "{rendering_min} {rendering}");
        }
    }

    #[test]
    fn other_choices_than_the_first_need_the_second_version_of_sampling() {
        let request = r#"{"model": "m", "messages": [], "max_tokens": 1, "temperature": 0.5"#;
        for (knobs, choice, expected) in [
            ("", 0, "temperature"),
            ("", 1, "temperature, sampling/2"),
            (r#", "knobs": {"top_k": 3}"#, 0, "temperature, sampling/2"),
        ] {
            let request: JobRequest = serde_json::from_str(&format!("{request}{knobs}}}")).unwrap();
            assert_eq!(needed(&request, choice).to_string(), expected);
        }
    }

    #[test]
    fn a_clients_fault_is_told_and_ours_is_withheld() {
        let end = |error| end_of(JobId::new(), Unrendered::Chat(error));
        for (end, reason, said) in [
            (
                end(ChatError::Refused("No system turn.".to_owned())),
                FailureReason::InvalidMessages,
                "No system turn.",
            ),
            (
                end(ChatError::TooLong { tokens_min: 9, context_max: 8 }),
                FailureReason::ContextLength,
                "at least 9 tokens",
            ),
            (
                end(ChatError::Template("line 7".to_owned())),
                FailureReason::Unprocessable,
                "can't be rendered",
            ),
            (
                end(ChatError::Tokenizer("bytes".to_owned())),
                FailureReason::Unprocessable,
                "can't be rendered",
            ),
            (end_of(JobId::new(), Unrendered::CutOff), FailureReason::Unprocessable, "can't be rendered"),
        ] {
            let End::Failed { reason: found, message } = end else { unreachable!("{end:?}") };
            assert_eq!(found, reason);
            assert!(message.contains(said) && !message.contains("line 7"), "{message}");
        }
    }
}
