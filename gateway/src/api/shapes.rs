//! The shapes of replies, for the description of the API. `objects` and `error_body` make the replies; the description's
//! test holds what a running gateway answers against these shapes.

use super::completion_shapes::USAGE_OF_PART;
pub(crate) use super::completion_shapes::{CHAT_COMPLETION, VERIFICATION};
use super::operation::{JOB_ID, Member, Named, Shape, always, sometimes};

/// OpenAI's error.
pub(crate) static ERROR: Named = Named {
    name: "Error",
    about: "Every error under `/v1`, in OpenAI's format.",
    shape: Shape::Members(&[
        always("error", Shape::Named(&ERROR_OBJECT), "The error."),
        sometimes(
            "errors",
            Shape::Members(&[
                always("object", Shape::Words(&["list"]), "The kind of object."),
                always(
                    "data",
                    Shape::List(&Shape::Any),
                    "The mistakes: `code`, `message` and `param` of each.",
                ),
            ]),
            "All mistakes, if several jobs were sent.",
        ),
        sometimes("job_id", JOB_ID, "The job that the error concerns, once there is one."),
    ]),
};

/// The object within OpenAI's error. Jobs that ended without an answer show it too.
pub(crate) static ERROR_OBJECT: Named = Named {
    name: "ErrorObject",
    about: "What is wrong.",
    shape: Shape::Members(&[
        always("message", Shape::Text, "One or two sentences for a person: what is wrong and what to do."),
        always(
            "type",
            Shape::Words(&[
                "invalid_request_error",
                "requests",
                "tokens",
                "insufficient_quota",
                "server_error",
            ]),
            "The kind: `requests`, `tokens` and `insufficient_quota` are limits.",
        ),
        always(
            "param",
            Shape::Maybe(&Shape::Text),
            "The part of the body that is wrong, such as `messages[0].role`.",
        ),
        always("code", Shape::Text, "The code, which never changes its meaning. `docs/errors.md` lists all."),
    ]),
};

/// An error on the network's own face.
pub(crate) static DETAIL: Named = Named {
    name: "Detail",
    about: "An error outside `/v1` that is no list of mistakes.",
    shape: Shape::Members(&[
        always("detail", Shape::Text, "One or two sentences for a person: what is wrong and what to do."),
        sometimes(
            "code",
            Shape::Text,
            "The code, which never changes its meaning; absent if the body is no JSON.",
        ),
        sometimes("job_id", JOB_ID, "The job that the error concerns, once there is one."),
    ]),
};

/// FastAPI's list of mistakes.
pub(crate) static MISTAKES: Named = Named {
    name: "HTTPValidationError",
    about: "All mistakes in a body outside `/v1`, as FastAPI lists them.",
    shape: Shape::Members(&[always("detail", Shape::List(&Shape::Named(&MISTAKE)), "The mistakes.")]),
};

static MISTAKE: Named = Named {
    name: "ValidationError",
    about: "One mistake.",
    shape: Shape::Members(&[
        always("type", Shape::Text, "The kind of mistake, mostly one of pydantic's words."),
        always(
            "loc",
            Shape::List(&Shape::Any),
            "The path to the value, from `body` inwards: names and indexes.",
        ),
        always("msg", Shape::Text, "What is wrong, in a sentence."),
        always("input", Shape::Any, "The value that was found, cut if it is long."),
        sometimes("ctx", Shape::Map(&Shape::Any), "The values from which the sentence was made."),
    ]),
};

/// A job.
pub(crate) static JOB: Named = Named {
    name: "Job",
    about: "A job, from its acceptance to its end.",
    shape: Shape::Members(&[
        always("id", JOB_ID, "The job's id."),
        always("object", Shape::Words(&["job"]), "The kind of object."),
        always("job_id", JOB_ID, "The same id."),
        always("status", JOB_STATUS, "`queued` and `running` change; the four ends never do."),
        always("model", Shape::Text, "The model that was asked for."),
        always("service_tier", Shape::Words(&["default", "flex", "priority"]), "The tier that it waits in."),
        always("created", Shape::Time, "When it was accepted."),
        always("metadata", Shape::Map(&Shape::Text), "The client's pairs."),
        always("expires", Shape::Time, "Its deadline. A job without an answer by then expires."),
        always(
            "store",
            Shape::Flag,
            "Whether it is stored; if not, its text is erased some minutes after its end.",
        ),
        sometimes(
            "choice",
            Shape::Members(&[
                always("index", Shape::Count, "Its number, counted from 0."),
                always(
                    "job_ids",
                    Shape::List(&JOB_ID),
                    "The jobs of its request, in the order of the answers.",
                ),
            ]),
            "Which of several answers of its request it is.",
        ),
        sometimes("erased", Shape::Time, "When its text was erased."),
        sometimes("ended", Shape::Time, "When it ended."),
        sometimes(
            "verification",
            Shape::Named(&VERIFICATION),
            "What is known about the answer, once it has succeeded.",
        ),
        sometimes("result", Shape::Named(&CHAT_COMPLETION), "The answer, once it has succeeded."),
        sometimes(
            "error",
            Shape::Named(&ERROR_OBJECT),
            "Why there is no answer, once it has ended without one.",
        ),
        sometimes(
            "usage",
            Shape::Members(USAGE_OF_PART),
            "What is counted of a streamed answer of which the client had a part when it hung up.",
        ),
    ]),
};

/// The status of a job.
pub(crate) const JOB_STATUS: Shape =
    Shape::Words(&["queued", "running", "succeeded", "failed", "cancelled", "expired", "unknown"]);

/// A job in a list, without its answer.
pub(crate) static LISTED_JOB: Named = Named {
    name: "ListedJob",
    about: "A job in a list, which shows no answer.",
    shape: Shape::Members(&[
        always("id", JOB_ID, "The job's id."),
        always("object", Shape::Words(&["job"]), "The kind of object."),
        always("job_id", JOB_ID, "The same id."),
        always("status", JOB_STATUS, "`queued` and `running` change; the four ends never do."),
        always("model", Shape::Text, "The model that was asked for."),
        always("created", Shape::Time, "When it was accepted."),
        always("expires", Shape::Time, "Its deadline."),
        always("store", Shape::Flag, "Whether it is stored."),
        sometimes("erased", Shape::Time, "When its text was erased."),
        always("metadata", Shape::Map(&Shape::Text), "The client's pairs."),
        sometimes("ended", Shape::Time, "When it ended."),
    ]),
};

/// An API key.
pub(crate) static API_KEY: Named = Named {
    name: "ApiKey",
    about: "An API key, without the key itself.",
    shape: Shape::Members(KEY_MEMBERS),
};

const KEY_MEMBERS: &[Member] = &[
    always("id", Shape::Text, "The key's public id."),
    always("object", Shape::Words(&["api_key"]), "The kind of object."),
    always("account", Shape::Text, "The account that it belongs to."),
    always("name", Shape::Text, "The name that its owner gave it."),
    always("hint", Shape::Text, "Its last characters."),
    always("scopes", Shape::List(&SCOPE), "What it permits."),
    always("status", Shape::Text, "Whether it is valid, and if not, why."),
    always("created", Shape::Time, "When it was made."),
    always("expires", Shape::Maybe(&Shape::Time), "When it ends by itself."),
    always("revoked", Shape::Maybe(&Shape::Time), "When it was revoked."),
    always("replaced_by", Shape::Maybe(&Shape::Text), "The id of the key that it was rotated to."),
    always("store", Shape::Flag, "Whether its jobs are stored, if they don't say themselves."),
    always("retention_days", Shape::Maybe(&Shape::Count), "The days after which its jobs' text is deleted."),
    always(
        "spend_limit",
        Shape::Maybe(&Shape::Text),
        "The most that it may spend in a calendar month (UTC); `null` for no limit.",
    ),
    always("spent", Shape::Text, "What the ended jobs cost that it asked for in this month."),
    always("reserved", Shape::Text, "What is reserved for its jobs that have not ended."),
    sometimes("key", Shape::Text, "The key itself, in the one reply that made it."),
];

/// The words for scopes.
pub(crate) const SCOPES: &[&str] = &["user", "node", "fleet", "admin"];

const SCOPE: Shape = Shape::Words(SCOPES);

/// The erasure of a job's text.
pub(crate) static JOB_ERASURE: Named = Named {
    name: "JobErasure",
    about: "How far the erasure of a job's text has come.",
    shape: Shape::Members(&[
        always("id", JOB_ID, "The job's id."),
        always("object", Shape::Words(&["job.erasure"]), "The kind of object."),
        always("job_id", JOB_ID, "The same id."),
        always(
            "status",
            Shape::Words(&["kept", "scheduled", "queued", "erasing", "erased"]),
            "`kept`: no time is set; `scheduled`: its time comes later; `erasing`: it is gone from the ledger and not yet from \
             the archive.",
        ),
        always("due", Shape::Maybe(&Shape::Time), "When the text is due to go."),
        always("erased", Shape::Maybe(&Shape::Time), "When nothing was left of it."),
    ]),
};

/// The erasure of the text of an account's jobs.
pub(crate) static ACCOUNT_ERASURE: Named = Named {
    name: "AccountErasure",
    about: "How far the erasure of the text of all jobs of an account has come.",
    shape: Shape::Members(&[
        always("account", Shape::Text, "The account."),
        always("object", Shape::Words(&["account.erasure"]), "The kind of object."),
        always(
            "status",
            Shape::Words(&["none", "queued", "erasing", "erased"]),
            "`none`: it was never asked for; `queued`: jobs are still being found.",
        ),
        always("asked", Shape::Maybe(&Shape::Time), "When it was asked for. Later jobs keep their text."),
        always("jobs_found", Shape::Count, "Ended jobs that were found."),
        always("jobs_live", Shape::Count, "Jobs that had not ended; their text goes when they have."),
        always(
            "jobs_pending",
            Shape::Count,
            "Jobs whose text is due and not gone yet, from the ledger or the archive, and those that have not ended; counted up to \
             10,000.",
        ),
    ]),
};

/// A node as its owner sees it.
pub(crate) static NODE: Named = Named {
    name: "Node",
    about: "A node as its owner sees it.",
    shape: Shape::Members(&[
        always("object", Shape::Words(&["node"]), "The kind of object."),
        always("node", Shape::Text, "The id by which the network knows the node."),
        always("node_id", Shape::Text, "The name that it was registered with."),
        always(
            "status",
            Shape::Words(&["registered", "draining"]),
            "`draining` while it is drawn for no job.",
        ),
        always("draining_since", Shape::Maybe(&Shape::Time), "Since when it is drawn for no job."),
        always(
            "models",
            Shape::Maybe(&Shape::List(&Shape::Text)),
            "The models that it is drawn for; `null`: all that it has.",
        ),
        always(
            "serves",
            Shape::Words(&["all", "own"]),
            "`own` if it is asked only for jobs of its account and of its groups.",
        ),
        always(
            "backstop",
            Shape::Flag,
            "Whether it is a backstop of the network, which its operator decides.",
        ),
        always("node_version", Shape::Maybe(&Shape::Text), "The version that its owner named."),
        always("registered", Shape::Time, "When it was registered."),
        sometimes(
            "unknown_models",
            Shape::List(&Shape::Text),
            "Names in the request that the catalogue lacks.",
        ),
        sometimes("points", Shape::Number, "The points of all days."),
        sometimes("task_points", Shape::Number, "Those for answers."),
        sometimes("uptime_points", Shape::Number, "Those for uptime."),
        sometimes("tokens", Shape::Count, "The tokens of all valid answers."),
        sometimes("jobs", Shape::Map(&Shape::Count), "Its verdicts, by their words."),
        sometimes("today", Shape::Any, "The same for today."),
        sometimes("by_model", Shape::List(&Shape::Any), "Valid answers of each model."),
    ]),
};

/// A day's points.
pub(crate) static DAY_POINTS: Named = Named {
    name: "DayPoints",
    about: "A node's points of one day (UTC).",
    shape: Shape::Members(&[
        always("date", Shape::Day, "The day."),
        always("points", Shape::Number, "All points of the day."),
        always("task_points", Shape::Number, "Those for answers."),
        always("uptime_points", Shape::Number, "Those for uptime."),
    ]),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_scopes_are_those_that_are_read() {
        for word in SCOPES {
            let scope: infera_ledger::Scope = word.parse().unwrap();
            assert_eq!(scope.word(), *word);
        }
        let all: infera_ledger::Scopes = SCOPES.join(",").parse().unwrap();
        assert_eq!(all.iter().count(), SCOPES.len());
        let missing = "x".parse::<infera_ledger::Scope>().unwrap_err().to_string();
        assert!(SCOPES.iter().all(|word| missing.contains(word)));
    }
}
