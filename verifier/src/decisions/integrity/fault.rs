//! Names what can be wrong with a replica by itself.

/// An objective fault of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Answers an assignment that it wasn't asked for.
    #[error("answers another assignment")]
    Assignment,
    /// Names another job than its assignment's.
    #[error("answers another job")]
    Job,
    /// Used other model files than announced.
    #[error("another model than announced")]
    Model,
    /// Rendered another prompt.
    #[error("another prompt")]
    Prompt,
    /// Has more tokens than were allowed.
    #[error("more tokens than allowed")]
    TooLong,
    /// The tokens don't decode to the text.
    #[error("the tokens do not decode to the text")]
    Text,
    /// An end-of-turn token stands within the answer.
    #[error("goes on after the end of the turn at token {position}")]
    EndInside {
        /// The token's position, from 0.
        position: usize,
    },
    /// A stop string was complete, and the answer goes on.
    #[error("goes on after a stop string at token {position}")]
    StopInside {
        /// The position of the token that completed it, from 0.
        position: usize,
    },
    /// Says that the model ended its turn, but no end-of-turn token won, and no stop string is complete.
    #[error("claims an end that the model did not choose")]
    Stop,
    /// Says that the length ran out, but it didn't, or a stop string ended the answer.
    #[error("claims the length's end before it")]
    Length,
    /// Has not one entry of numbers per token.
    #[error("not one entry of numbers per token")]
    NumbersCount,
    /// Has a list without as many of the best tokens as the request's knobs leave, or with one of them twice.
    #[error("malformed list of best tokens at token {position}")]
    List {
        /// The token's position, from 0.
        position: usize,
    },
    /// Has a number that is not finite.
    #[error("a number is not finite at token {position}")]
    NotFinite {
        /// The token's position, from 0.
        position: usize,
    },
    /// Has not as many of the likeliest tokens as were asked for, in their order, or others than its own list shows.
    #[error("malformed list of the likeliest tokens at token {position}")]
    Likeliest {
        /// The token's position, from 0.
        position: usize,
    },
    /// Has a log-sum-exp below that of its own logits.
    #[error("an impossible log-sum-exp at token {position}")]
    LogSumExp {
        /// The token's position, from 0.
        position: usize,
    },
    /// Has no highest logit although the node announced it, or one that its own lists or its log-sum-exp contradict.
    #[error("no highest logit, or an impossible one, at token {position}")]
    LogitMax {
        /// The token's position, from 0.
        position: usize,
    },
    /// Lists a token that ends a turn where none may be chosen.
    #[error("lists an end of the turn that may not be chosen at token {position}")]
    Masked {
        /// The token's position, from 0.
        position: usize,
    },
    /// Lists a token that the knobs leave out for its rank or its probability.
    #[error("lists a token that is left out at token {position}")]
    LeftOut {
        /// The token's position, from 0.
        position: usize,
    },
    /// The list isn't in the order of noised scores, or leaves out one that belongs into it.
    #[error("the list is out of order at token {position}")]
    Order {
        /// The token's position, from 0.
        position: usize,
    },
    /// The token isn't the best of its own list.
    #[error("the token is not the best of its own list at token {position}")]
    NotBest {
        /// The token's position, from 0.
        position: usize,
    },
}

/// Returns `fault` unless what must hold does.
pub(super) fn ensure(holds: bool, fault: Fault) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(fault) }
}
