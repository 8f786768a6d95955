//! Makes an answer's text of its tokens: the text of their pieces, cut at the request's stop strings. Nodes, verifiers and
//! whatever gives out text before the answer is complete make it by this alone.

use infera_types::knobs::Knobs;
use infera_types::numbers::TokenId;

use super::cutting::{Cut, Cutter};
use super::text_stream::{TextStream, Undecodable};

/// The text of a whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoppedText {
    /// The text, up to where the first stop string begins.
    pub text: String,
    /// The index of the token that completed the stop string, with which the answer ends. None also where only the end of the
    /// answer completes one: some tokenizers spell a character's bytes so that a later byte could still change it.
    pub stopped_at: Option<usize>,
}

/// The text of an answer that is still being written, up to the first stop string. It owns what it needs, so that it can
/// go wherever the answer is written.
#[derive(Debug)]
pub struct AnswerText {
    stream: TextStream,
    cutter: Cutter,
    min_tokens: usize,
    tokens_count: usize,
}

impl AnswerText {
    pub(super) fn new(stream: TextStream, knobs: &Knobs) -> Self {
        let min_tokens = usize::try_from(knobs.min_tokens).unwrap_or(usize::MAX);
        Self { stream, cutter: Cutter::new(&knobs.stop), min_tokens, tokens_count: 0 }
    }

    /// Adds the next token. A stop string that it completes ends the text if the answer has at least
    /// [`Knobs::min_tokens`] tokens with it.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn push(&mut self, token: TokenId) -> Result<Cut, Undecodable> {
        let piece = self.stream.push(token)?;
        self.tokens_count = self.tokens_count.saturating_add(1);
        Ok(self.cutter.push(&piece, self.may_stop()))
    }

    /// Returns the rest of the text once the answer has ended.
    ///
    /// # Errors
    /// [`Undecodable`].
    pub fn finish(mut self) -> Result<String, Undecodable> {
        let may_stop = self.may_stop();
        let cut = self.cutter.push(&self.stream.finish()?, may_stop);
        Ok(cut.text + &self.cutter.finish())
    }

    const fn may_stop(&self) -> bool {
        self.tokens_count >= self.min_tokens
    }

    /// Returns the text of a whole answer. Tokens after the one that completes a stop string have no text.
    pub(super) fn of(mut self, tokens: &[TokenId]) -> Result<StoppedText, Undecodable> {
        let mut text = String::new();
        for (index, &token) in tokens.iter().enumerate() {
            let cut = self.push(token)?;
            text += &cut.text;
            if cut.is_complete {
                return Ok(StoppedText { text, stopped_at: Some(index) });
            }
        }
        text += &self.finish()?;
        Ok(StoppedText { text, stopped_at: None })
    }
}
