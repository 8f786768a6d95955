//! Decides how a new job waits for its turn: in which lane, under which share, and with how many tokens of prompt.

use infera_ledger::{CatalogueEntry, Share, Standby};
use infera_types::job::ChatMessage;
use infera_types::service::{Lane, ServiceTier};

use crate::access::{Caller, RentedNetwork};
use crate::api::chat_request::ChatRequest;

/// Who asks, from where, and whether a client waits for the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    /// The caller.
    pub(super) caller: &'a Caller,
    /// The network that the request came from.
    pub(super) network: RentedNetwork,
    /// Whether a client waits for the answer.
    pub(super) is_awaited: bool,
}

/// Texts have about this many bytes per token in most languages' tokenizers. The turn is corrected by the usage.
const BYTES_PER_TOKEN: u64 = 4;

/// Decides how a job waits. Only a client that waits for its answer gets into the first lane, and not with
/// the tier `flex`: that tier says that the answer may come late, so it must not take slots from those who need theirs
/// soon. At most `offered_max` jobs of a share are in the first lane's queue.
pub(super) fn standby(
    asker: Asker<'_>,
    ask: &ChatRequest,
    entry: &CatalogueEntry,
    offered_max: u32,
) -> Standby {
    let (messages, tier) = (&ask.request.messages, ask.tier);
    let (share, weight) = share(asker.caller, asker.network);
    Standby {
        lane: if asker.is_awaited && tier != ServiceTier::Flex { Lane::First } else { Lane::Later },
        tier,
        share,
        weight,
        offered_max,
        prompt_tokens: text_tokens(messages).max(entry.tokens_min(messages)),
    }
}

/// Returns the share that a caller's jobs are counted under, and its weight. A proven account counts by itself. Unproven
/// ones cost nothing to make, so all of one network count as one account.
fn share(caller: &Caller, network: RentedNetwork) -> (Share, u32) {
    if caller.is_proven {
        (Share::new(caller.account.as_str()), caller.weight)
    } else {
        (Share::new(format!("net:{network}")), 1)
    }
}

/// Estimates the tokens of messages by their length.
fn text_tokens(messages: &[ChatMessage]) -> u64 {
    let bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
    u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use infera_ledger::{Metadata, Scopes};
    use infera_types::ids::{AccountId, Digest, KeyId, ModelName};
    use infera_types::job::{JobRequest, VerificationPolicy};
    use infera_types::time::Timestamp;

    use super::*;

    fn caller(is_proven: bool) -> Caller {
        Caller {
            key: Digest::of(b"key"),
            account: AccountId::new("acct1"),
            is_proven,
            weight: 5,
            may_prioritise: true,
            id: KeyId::new("key1"),
            scopes: Scopes::default(),
            expires_ms: None,
        }
    }

    fn ask(tier: ServiceTier, content: &str) -> ChatRequest {
        let messages = vec![ChatMessage { role: "user".to_owned(), content: content.to_owned() }];
        let model = ModelName::new("m");
        let request = JobRequest { model, messages, max_tokens: 8, temperature: 0.0, seed: None };
        let (policy, timeout) = (VerificationPolicy::default(), Duration::from_secs(1));
        ChatRequest { request, policy, timeout, tier, metadata: Metadata::new() }
    }

    fn decide(caller: &Caller, ask: &ChatRequest, said: Option<u32>, is_awaited: bool) -> Standby {
        let network = RentedNetwork::from("192.0.2.9".parse::<IpAddr>().unwrap());
        standby(Asker { caller, network, is_awaited }, ask, &entry(said), 8)
    }

    fn entry(said_bytes_per_token: Option<u32>) -> CatalogueEntry {
        CatalogueEntry {
            name: ModelName::new("m"),
            digests: Vec::new(),
            tokenizer: Digest::of(b""),
            context_max: 512,
            said_bytes_per_token,
            end_tokens: Vec::new(),
            reference_token_us: 1,
            created_ms: Timestamp::from_millis(0),
        }
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
            let standby = decide(&caller(true), &ask(tier, "hi"), None, is_awaited);
            assert_eq!((standby.lane, standby.tier, standby.offered_max), (lane, tier, 8));
        }
    }

    #[test]
    fn unproven_accounts_of_a_network_are_one_share_of_weight_one() {
        for (is_proven, share, weight) in [(true, "acct1", 5), (false, "net:192.0.2.0/24", 1)] {
            let standby = decide(&caller(is_proven), &ask(ServiceTier::Default, "hi"), None, true);
            assert_eq!((standby.share.as_str(), standby.weight), (share, weight));
        }
    }

    #[test]
    fn prompts_are_estimated_by_their_bytes_or_better() {
        for (content, said_bytes_per_token, tokens) in
            [("", None, 1), ("aaaaaaaaa", None, 4), ("aaaaaaaaa", Some(1), 9), ("aaaaaaaaa", Some(13), 4)]
        {
            let ask = ask(ServiceTier::Default, content);
            let standby = decide(&caller(true), &ask, said_bytes_per_token, true);
            assert_eq!(standby.prompt_tokens, tokens, "{content:?} {said_bytes_per_token:?}");
        }
    }
}
