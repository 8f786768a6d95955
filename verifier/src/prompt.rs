//! What must be known of a job before anybody is asked: its prompt as we render it (nodes must render the same), and
//! the keys of its noise and its draw. A request that can't be asked at all is found out here.

use std::sync::Arc;
use std::time::Duration;

use infera_core::chat::{ChatModel, prompt_hash};
use infera_core::ids::Digest;
use infera_core::job::{End, FailureReason, JobRequest};
use infera_core::ledger::{CatalogueEntry, LedgerError, TakenJob};
use infera_core::sampling::{draw_key, sample_key};

use crate::tenure::Tenure;

/// Rendering goes to a thread of its own from this size on: below it takes less than a millisecond.
const INLINE_MAX_BYTES: usize = 16 * 1024;

/// Between tries while an epoch can't be read.
const RETRY: Duration = Duration::from_millis(250);

/// A job that can be asked.
pub(crate) struct Prepared {
    /// What is asked.
    pub(crate) request: JobRequest,
    /// What the model's name means.
    pub(crate) entry: Arc<CatalogueEntry>,
    /// Its tokenizer and template.
    pub(crate) chat: Arc<ChatModel>,
    /// Of the rendered prompt.
    pub(crate) prompt_hash: Digest,
    /// How many tokens that has.
    pub(crate) prompt_tokens: u32,
    /// Keys the noise.
    pub(crate) sample_key: Digest,
    /// Keys the draws.
    pub(crate) draw_key: Digest,
}

impl Prepared {
    /// What the reference machine takes for the longest answer allowed.
    pub(crate) fn reference_time(&self) -> Duration {
        let room = self.entry.context_max.saturating_sub(self.prompt_tokens);
        let tokens = u64::from(self.prompt_tokens) + u64::from(self.request.max_tokens.min(room));
        Duration::from_micros(tokens.saturating_mul(self.entry.reference_token_us))
    }
}

fn failed(reason: FailureReason, message: impl Into<String>) -> End {
    End::Failed { reason, message: message.into() }
}

/// Renders and keys a job, or says how it ends. Waits while the ledger can't be read.
pub(crate) async fn prepare(tenure: &Tenure, job: &TakenJob) -> Result<Prepared, End> {
    let unprocessable = |message: &str| failed(FailureReason::Unprocessable, message);
    let request: JobRequest = serde_json::from_slice(&job.request).map_err(|error| {
        tracing::error!(job = %job.id, %error, "a stored request can't be read");
        unprocessable("The stored request can't be read.")
    })?;
    let entry = tenure.book.page().catalogue.get(&job.model).cloned();
    let chat = tenure.chats.get(&job.model).cloned();
    let (Some(entry), Some(chat)) = (entry, chat) else {
        return Err(unprocessable("The model is no longer offered."));
    };
    let model = *entry.digests.first().ok_or_else(|| unprocessable("The model has no files any more."))?;
    let prompt = render(job, &request, &chat).await?;
    let prompt_tokens = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
    if prompt_tokens >= entry.context_max {
        return Err(failed(
            FailureReason::ContextLength,
            format!(
                "The prompt has {prompt_tokens} tokens; the model's context of {} leaves no room for an answer.",
                entry.context_max
            ),
        ));
    }
    let secret = epoch_secret(tenure, job.epoch).await.map_err(|error| {
        tracing::error!(job = %job.id, epoch = job.epoch, %error, "its epoch can't be read");
        unprocessable("The job's epoch is unknown.")
    })?;
    Ok(Prepared {
        sample_key: sample_key(&secret, job.id, &request, &model),
        draw_key: draw_key(&secret, job.id),
        prompt_hash: prompt_hash(&prompt),
        prompt_tokens,
        request,
        entry,
        chat,
    })
}

async fn render(job: &TakenJob, request: &JobRequest, chat: &Arc<ChatModel>) -> Result<Vec<u32>, End> {
    let rendered = if job.request.len() <= INLINE_MAX_BYTES {
        chat.render(&request.messages, job.accepted_ms).map_err(|error| error.to_string())
    } else {
        let (chat, messages, now) = (Arc::clone(chat), request.messages.clone(), job.accepted_ms);
        let rendering = tokio::task::spawn_blocking(move || chat.render(&messages, now));
        match rendering.await {
            Ok(rendered) => rendered.map_err(|error| error.to_string()),
            Err(_) => Err("rendering was cut off".to_owned()),
        }
    };
    rendered.map_err(|error| {
        tracing::warn!(job = %job.id, error, "a request can't be rendered");
        failed(FailureReason::Unprocessable, "The conversation can't be rendered for this model.")
    })
}

async fn epoch_secret(tenure: &Tenure, number: u64) -> Result<Digest, LedgerError> {
    loop {
        match tenure.book.epoch_secret(&*tenure.seams.network, number).await {
            Err(LedgerError::Unavailable(_) | LedgerError::Refused(_) | LedgerError::Unknown(_)) => {
                tokio::time::sleep(RETRY).await
            }
            decided => return decided,
        }
    }
}
