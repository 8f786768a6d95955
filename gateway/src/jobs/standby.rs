//! Decides how a new job waits for its turn: in which lane, under which share, and with how many tokens of prompt.

use infera_ledger::{CatalogueEntry, Standby};
use infera_types::service::{Lane, ServiceTier};

use super::prompt::prompt_tokens;
use crate::access::JobShare;
use crate::api::chat_request::ChatRequest;

/// Decides how the job that is asked for waits. Only a client that waits for its answer gets into the first lane, and not
/// with the tier `flex`: that tier says that the answer may come late, so it must not take slots from those who need theirs
/// soon. At most `offered_max` jobs of a share are in the first lane's queue.
pub(super) fn standby(
    ask: &ChatRequest,
    counted: &JobShare,
    entry: &CatalogueEntry,
    is_awaited: bool,
    offered_max: u32,
) -> Standby {
    let (messages, tier) = (&ask.request.messages, ask.tier);
    Standby {
        lane: if is_awaited && tier != ServiceTier::Flex { Lane::First } else { Lane::Later },
        tier,
        share: counted.share.clone(),
        weight: counted.weight,
        offered_max,
        // The turn is corrected by the usage.
        prompt_tokens: prompt_tokens(messages, Some(entry)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use infera_ledger::{Metadata, Share};
    use infera_types::ids::ModelName;
    use infera_types::job::{ChatMessage, JobRequest, VerificationPolicy};
    use infera_types::knobs::Knobs;

    use super::*;
    use crate::jobs::prompt::tests::entry;

    fn asked(tier: ServiceTier, content: &str) -> ChatRequest {
        let messages = vec![ChatMessage { role: "user".to_owned(), content: content.to_owned() }];
        let model = ModelName::new("m");
        let request = JobRequest {
            model,
            messages,
            max_tokens: 8,
            temperature: 0.0,
            seed: None,
            knobs: Knobs::default(),
            top_logprobs: None,
            stream: None,
        };
        let (policy, timeout) = (VerificationPolicy::default(), Duration::from_secs(1));
        let (metadata, max_price) = (Metadata::new(), None);
        let (choices, shows_tokens) = (1, false);
        let (nodes, store, stream) = (None, None, None);
        ChatRequest {
            request,
            choices,
            shows_tokens,
            policy,
            nodes,
            timeout,
            tier,
            metadata,
            store,
            max_price,
            stream,
        }
    }

    fn counted() -> JobShare {
        JobShare { share: Share::new("acct1"), weight: 5 }
    }

    #[test]
    fn only_a_client_that_waits_and_not_for_flex_is_in_the_first_lane() {
        for (is_awaited, tier, lane) in [
            (true, ServiceTier::Default, Lane::First),
            (true, ServiceTier::Priority, Lane::First),
            (true, ServiceTier::Flex, Lane::Later),
            (false, ServiceTier::Default, Lane::Later),
            (false, ServiceTier::Priority, Lane::Later),
        ] {
            let standby = standby(&asked(tier, "hi"), &counted(), &entry(None), is_awaited, 8);
            assert_eq!((standby.lane, standby.tier, standby.offered_max), (lane, tier, 8));
            assert_eq!((standby.share.as_str(), standby.weight), ("acct1", 5));
        }
    }
}
