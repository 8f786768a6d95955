//! The refusal of a body that is too large (413): the bound, what was sent as far as it is known, and what to do.

use crate::api::jobs_request::ITEMS_MAX;

/// A body that is larger than its path takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// The most bytes that the path takes.
    pub(crate) max_bytes: usize,
    /// The bytes of the body, if its head says so.
    pub(crate) sent_bytes: Option<u64>,
    /// What the body asks for.
    pub(crate) holds: Holds,
}

/// What a body asks for, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// One job or several.
    Jobs,
    /// A conversation.
    Conversation,
    /// Something else, which is always short.
    Other,
}

impl Holds {
    /// Returns what a body that is sent to this path asks for.
    #[must_use]
    pub(crate) fn at(path: &str) -> Self {
        match path {
            "/v1/jobs" => Self::Jobs,
            "/v1/chat/completions" | "/chat/completions" | "/submit_job" => Self::Conversation,
            _ => Self::Other,
        }
    }
}

impl TooLarge {
    /// Returns what is wrong and what to do.
    #[must_use]
    pub(crate) fn message(self) -> String {
        let Self { max_bytes, sent_bytes, holds } = self;
        let sent = match sent_bytes {
            Some(sent) => format!("The body has {sent} bytes, and this path takes at most {max_bytes}."),
            None => format!("The body has more than {max_bytes} bytes, the most that this path takes."),
        };
        let remedy = match holds {
            Holds::Jobs => {
                let least = sent_bytes.map_or(2, |sent| {
                    let max = u64::try_from(max_bytes).unwrap_or(u64::MAX).max(1);
                    sent.div_ceil(max).max(2)
                });
                format!(
                    " Send the jobs in {least} requests or more. Each takes up to {ITEMS_MAX} jobs, as many as fit into \
                     {max_bytes} bytes: some {} of a thousand bytes. Shorten a job that doesn't fit alone.",
                    (max_bytes / 1_000).clamp(1, ITEMS_MAX)
                )
            }
            Holds::Conversation => " Shorten the messages.".to_owned(),
            Holds::Other => String::new(),
        };
        sent + &remedy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_the_size_and_the_remedy_are_told() {
        let message =
            |sent_bytes, path| TooLarge { max_bytes: 524_288, sent_bytes, holds: Holds::at(path) }.message();
        assert_eq!(
            message(Some(1_600_000), "/v1/jobs"),
            "The body has 1600000 bytes, and this path takes at most 524288. Send the jobs in 4 requests or more. Each takes up to \
             1000 jobs, as many as fit into 524288 bytes: some 524 of a thousand bytes. Shorten a job that doesn't fit alone."
        );
        assert!(message(None, "/v1/jobs").contains("more than 524288 bytes"));
        assert!(message(None, "/v1/jobs").contains("in 2 requests"));
        assert!(message(Some(600_000), "/submit_job").ends_with("Shorten the messages."));
        assert!(message(Some(600_000), "/signup_user").ends_with("at most 524288."));
    }
}
