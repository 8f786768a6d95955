//! Spells the tokens that an answer's numbers name: gateways have no tokenizer.

use std::collections::BTreeSet;

use infera_model::chat::ChatModel;
use infera_types::job::End;
use infera_types::numbers::TokenId;

/// Adds to an answer with numbers the bytes of the tokens that these name.
pub(super) fn spelled(mut end: End, chat: &ChatModel) -> End {
    if let End::Succeeded { answer, .. } = &mut end
        && !answer.numbers.is_empty()
    {
        let likeliest = answer.numbers.iter().flat_map(|row| &row.likeliest).map(|(token, _)| *token);
        let named: BTreeSet<TokenId> = answer.tokens.iter().copied().chain(likeliest).collect();
        let spell = |token| Some((token, chat.token_bytes(token)?));
        answer.spelled = named.into_iter().filter_map(spell).collect();
    }
    end
}
