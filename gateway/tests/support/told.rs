//! An answer with log-probabilities.

use infera_types::job::{Answer, End};
use infera_types::numbers::TokenNumbers;

use super::rig::answered;

/// Returns an answer of three tokens with numbers: one is half of a character, one likely, one unlikely.
pub(crate) fn told() -> End {
    let End::Succeeded { answer, verification } = answered() else { unreachable!() };
    let row = |token, logit: f32| TokenNumbers {
        top: vec![(token, logit), (50, logit - 1.0)],
        log_sum_exp: 3.0,
        logit_max: Some(2.5),
        likeliest: vec![(50, 2.5), (token, logit)],
    };
    let spelled = vec![(7, vec![0xc3]), (8, b" Par".to_vec()), (50, "\u{e9}".as_bytes().to_vec())];
    // The last token is the end of the turn, which the answer leaves out.
    let numbers = vec![row(7, 2.0), row(8, 3.5), row(9, -2.0), row(0, 1.0)];
    End::Succeeded { answer: Answer { numbers, spelled, ..answer }, verification }
}
