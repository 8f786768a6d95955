//! The shapes of a conversation's answer and of what is known about it, for the description of the API; `shapes` has the others.

use super::operation::{JOB_ID, Member, Named, Shape, always, sometimes};

/// A conversation's answer.
pub(crate) static CHAT_COMPLETION: Named = Named {
    name: "ChatCompletion",
    about: "An answer in OpenAI's format, with `verification` and `job_id` beside it.",
    shape: Shape::Members(&[
        always("id", Shape::Text, "The answer's id, made from the job's."),
        always("object", Shape::Words(&["chat.completion"]), "The kind of object."),
        always("created", Shape::Time, "When the job was accepted."),
        always("model", Shape::Text, "The model that answered."),
        always("choices", Shape::List(&Shape::Members(CHOICE)), "As many choices as `n` asked for."),
        always("usage", Shape::Members(USAGE), "What is counted as used."),
        always("service_tier", Shape::Text, "The tier that was used."),
        always("store", Shape::Flag, "Whether the job is stored."),
        sometimes(
            "system_fingerprint",
            Shape::Text,
            "Changes when the model's files do: the same seed may then give other tokens.",
        ),
        always("verification", Shape::Named(&VERIFICATION), "What is known about the answer."),
        always("job_id", JOB_ID, "The job's id."),
    ]),
};

const CHOICE: &[Member] = &[
    always("index", Shape::Count, "Its number, counted from 0."),
    always(
        "message",
        Shape::Members(&[
            always("role", Shape::Words(&["assistant"]), "Who speaks."),
            always("content", Shape::Text, "The answer."),
            always("refusal", Shape::Null, "Always `null`."),
        ]),
        "The answer.",
    ),
    always(
        "logprobs",
        Shape::Maybe(&Shape::Members(&[
            always("content", Shape::List(&Shape::Members(LOGPROB)), "The answer's tokens."),
            always("refusal", Shape::Null, "Always `null`."),
        ])),
        "Log-probabilities, if they were asked for.",
    ),
    always(
        "finish_reason",
        Shape::Words(&["stop", "length"]),
        "`length` if the answer was cut at its largest length or at the context's end; `stop` also for a text of `stop`.",
    ),
    sometimes(
        "token_ids",
        Shape::List(&Shape::Count),
        "The ids of the answer's tokens, with those of a text of `stop`, if they were asked for.",
    ),
    sometimes("job_id", JOB_ID, "Its own job, of several choices."),
    sometimes("verification", Shape::Named(&VERIFICATION), "What is known about it, of several choices."),
];

const TOKEN_TEXT: Member =
    always("token", Shape::Text, "The token's text; U+FFFD stands for parts of characters.");
const TOKEN_LOGPROB: Member = always(
    "logprob",
    Shape::Number,
    "The natural logarithm of its probability at temperature 1, before all knobs.",
);
const TOKEN_BYTES: Member = always("bytes", Shape::Maybe(&Shape::List(&Shape::Count)), "The token's bytes.");

const LOGPROB: &[Member] = &[
    TOKEN_TEXT,
    TOKEN_LOGPROB,
    TOKEN_BYTES,
    always(
        "top_logprobs",
        Shape::List(&Shape::Members(&[TOKEN_TEXT, TOKEN_LOGPROB, TOKEN_BYTES])),
        "The likeliest tokens in its place.",
    ),
];

const PROMPT_TOKENS: Member =
    always("prompt_tokens", Shape::Count, "Tokens of the prompt, as the model's template makes it.");
const TOTAL_TOKENS: Member = always("total_tokens", Shape::Count, "Their sum.");
const COST: Member = sometimes(
    "cost",
    Shape::Text,
    "What it costs, a decimal number in the network's currency, if the model has a price.",
);

/// What is counted as used by a client that hung up.
pub(super) const USAGE_OF_PART: &[Member] = &[
    PROMPT_TOKENS,
    always("completion_tokens", Shape::Count, "Tokens of the answer that the client had."),
    TOTAL_TOKENS,
    COST,
];

const USAGE: &[Member] = &[
    PROMPT_TOKENS,
    always("completion_tokens", Shape::Count, "Tokens of the answer."),
    TOTAL_TOKENS,
    COST,
    always("prompt_tokens_details", Shape::Map(&Shape::Count), "Details, in OpenAI's words."),
    always("completion_tokens_details", Shape::Map(&Shape::Count), "Details, in OpenAI's words."),
];

/// What is known about an answer.
pub(crate) static VERIFICATION: Named = Named {
    name: "Verification",
    about: "What is known about an answer: that nodes of enough different owners ran this model as asked and agree on its \
            tokens. It does not say that the answer is right.",
    shape: Shape::Members(&[
        always(
            "status",
            Shape::Words(&["verified", "unverified", "disputed", "upheld", "overturned"]),
            "`unverified` if one replica was asked for; the last three are found after the answer was given.",
        ),
        always(
            "replicas",
            Shape::Members(&[
                always("asked", Shape::Count, "Nodes that were asked."),
                always("answered", Shape::Count, "Replicas that had come when the job ended."),
                always("agreed", Shape::Count, "Replicas that agree with this answer, itself included."),
            ]),
            "Counts of replicas.",
        ),
        sometimes(
            "rung",
            Shape::Words(&["identical", "benign", "text", "referee"]),
            "The test that decided.",
        ),
        sometimes(
            "numbers",
            Shape::Words(&["inside", "outside"]),
            "Whether the replicas' numbers lie within the thresholds of each other.",
        ),
        always("thresholds", Shape::Text, "The version of the thresholds that judged the answer."),
        sometimes(
            "backstop",
            Shape::Count,
            "How many of the replicas that agree are from backstop nodes of the network itself, which are asked only where others can't fill a group; absent if none.",
        ),
    ]),
};
