//! A settlement as it is packed: its JSON without the answer's tokens and numbers, then these in columns.

use infera_types::columns::{read_numbers, read_tokens, write_numbers, write_tokens};
use infera_types::job::{Answer, End, Settlement};

use super::{malformed, pack, read_counted, unpack, write_counted};
use crate::LedgerError;
use crate::stored::{from_json, to_json};

/// Packs a settlement, without its group.
///
/// # Errors
/// [`LedgerError::Row`]: JSON or zstd can't express it.
pub fn pack_settlement(settlement: &Settlement) -> Result<Vec<u8>, LedgerError> {
    let Settlement { job_id, account, model, gateway, end, group: _, settled_ms } = settlement;
    let (end, answer) = match end {
        End::Succeeded { answer, verification } => {
            let bare = without_columns(answer);
            (End::Succeeded { answer: bare, verification: verification.clone() }, Some(answer))
        }
        other => (other.clone(), None),
    };
    let bare = Settlement {
        job_id: *job_id,
        account: account.clone(),
        model: model.clone(),
        gateway: gateway.clone(),
        end,
        group: None,
        settled_ms: *settled_ms,
    };
    let mut content = Vec::new();
    write_counted(to_json(&bare)?.as_bytes(), &mut content);
    if let Some(answer) = answer {
        write_tokens(&answer.tokens, &mut content);
        write_numbers(&answer.numbers, &mut content);
    }
    pack(&content)
}

/// Returns the settlement that was packed.
///
/// # Errors
/// [`LedgerError::Row`]: the bytes are no packed settlement.
pub fn unpack_settlement(bytes: &[u8]) -> Result<Settlement, LedgerError> {
    let content = unpack("settlement", bytes)?;
    let mut rest = &content[..];
    let wrong = |error| malformed("settlement", error);
    let mut settlement: Settlement = from_json("settlement", read_counted(&mut rest).map_err(wrong)?)?;
    if let End::Succeeded { answer, .. } = &mut settlement.end {
        answer.tokens = read_tokens(&mut rest).map_err(wrong)?;
        answer.numbers = read_numbers(&mut rest).map_err(wrong)?;
    }
    Ok(settlement)
}

/// Returns an answer without what is written in columns. All fields are named, so that a new one is not forgotten.
fn without_columns(answer: &Answer) -> Answer {
    Answer {
        text: answer.text.clone(),
        tokens: Vec::new(),
        finish_reason: answer.finish_reason,
        prompt_tokens: answer.prompt_tokens,
        cached_tokens: answer.cached_tokens,
        node: answer.node.clone(),
        numbers: Vec::new(),
        spelled: answer.spelled.clone(),
        model: answer.model,
    }
}
