//! The table of all error codes: the status on each face, whose fault it is, whether a retry is safe, and what to do.
//! `docs/errors.md` shows the same table, the description of the API lists each operation's part of it, and tests compare
//! all three with the errors themselves (`error`).

use crate::api::face::Face;

/// The party that can change something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client, which sent the wrong thing or too much of it.
    Client,
    /// The runner of a node.
    Runner,
    /// The network: its nodes, its ledger or its broker.
    Network,
    /// The gateway that answered; another one may serve the request.
    Gateway,
    /// The operator of the network, who has to mend something.
    Operator,
}

impl Fault {
    /// Returns the word for the table.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Runner => "node's runner",
            Self::Network => "network",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }
}

/// Whether the same request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would get the same answer.
    Useless,
    /// Nothing was accepted, so it can't run twice. The reply says when to try again, if it has `Retry-After`.
    Safe,
    /// A job may exist already. Under the same `Idempotency-Key` the request can't run twice.
    WithKey,
    /// The job goes on and can be looked at; the request itself need not be sent again.
    Look,
}

impl Retry {
    /// Returns the words for the table.
    #[must_use]
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Useless => "no, the same again",
            Self::Safe => "yes",
            Self::WithKey => "yes, under an idempotency key",
            Self::Look => "look at the job instead",
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCode {
    /// The code, which never changes its meaning.
    pub(crate) code: &'static str,
    /// The status under `/v1`.
    pub(crate) openai: u16,
    /// The statuses on the network's own face; mostly the same one.
    pub(crate) own: &'static [u16],
    /// Whose fault it is.
    pub(crate) fault: Fault,
    /// Whether a retry is safe.
    pub(crate) retry: Retry,
    /// What it means and what to do, in sentences.
    pub(crate) remedy: &'static str,
}

impl ErrorCode {
    /// Returns the statuses on a face.
    pub(crate) fn statuses(&self, face: Face) -> Vec<u16> {
        match face {
            Face::OpenAi => vec![self.openai],
            Face::Seed => self.own.to_vec(),
        }
    }
}

/// Returns the line of a code.
#[must_use]
pub(crate) fn of(code: &str) -> Option<&'static ErrorCode> {
    CODES.iter().find(|line| line.code == code)
}

macro_rules! codes {
    ($($code:literal $openai:literal $own:expr, $fault:ident $retry:ident: $remedy:literal;)*) => {
        &[$(ErrorCode {
            code: $code,
            openai: $openai,
            own: &$own,
            fault: Fault::$fault,
            retry: Retry::$retry,
            remedy: $remedy,
        }),*]
    };
}

/// All codes, grouped by what a client can do.
pub(crate) const CODES: &[ErrorCode] = codes! {
    // The request itself.
    "bad_request" 400 [400], Client Useless: "The head, a header or the framing of the body is wrong. The message says what; the connection is closed.";
    "invalid_json" 400 [400, 422], Client Useless: "The body is no JSON (with the position), no UTF-8, or nested too deep.";
    "missing_field" 400 [422], Client Useless: "A required field is missing: `param` names it, or `detail` lists it.";
    "invalid_value" 400 [422], Client Useless: "A value has the wrong type or is out of range, an option is not supported, or there is no such member. `param` names the first one; on the network's own face `detail` lists those that are found together.";
    "context_length_exceeded" 400 [400], Client Useless: "The messages leave no room for an answer in the model's context. The message has both numbers. Shorten the messages.";
    "unsupported_by_model" 400 [400], Client Useless: "The nodes that serve the model can not do what the parameters ask that the message names. Leave these out, or ask another model.";
    "invalid_messages" 400 [400], Client Useless: "The model's chat template refuses the conversation, for the reason in the message: roles that do not alternate, say.";
    "headers_too_large" 431 [431], Client Useless: "The head has more than 32 KiB or too many lines.";
    "headers_timeout" 408 [408], Client Safe: "The head did not arrive in time.";
    "request_too_large" 413 [413], Client Useless: "The body is larger than the route takes. The message says how much that is, and of jobs in how many requests they fit.";
    "encoding_not_supported" 415 [415], Client Useless: "Of encoded bodies only gzip is taken, once. Send it so, or without `Content-Encoding`.";
    "body_timeout" 408 [408], Client Safe: "The body did not arrive in time.";
    // Where it went.
    "wrong_host" 421 [421], Client Useless: "The gateway does not answer under this host name. Use another, or have the operator add it to `gateway.hosts`.";
    "route_not_found" 404 [404], Client Useless: "There is no such path. The message, and `GET /openapi.json`, say what there is.";
    "endpoint_not_supported" 404 [], Client Useless: "OpenAI has this endpoint and this network does not. The message says what there is.";
    "method_not_allowed" 405 [405], Client Useless: "The path takes other methods, which the header `Allow` lists.";
    "not_found" 404 [404], Client Useless: "This account has nothing under that id. What belongs to other accounts is answered as unknown, too.";
    "erased" 410 [410], Client Useless: "The job's text was erased: it was not to be stored, its key's retention is over, or the erasure was asked for. `/v1/usage` still counts it.";
    "job_not_ended" 409 [], Client Useless: "A job's text can be erased once the job has ended. Cancel it first, or wait.";
    "model_not_found" 404 [404], Client Useless: "No model of that name is served. `GET /v1/models` lists those that are.";
    // The key and its limits.
    "missing_api_key" 401 [401], Client Useless: "No key was sent. Send one as `Authorization: Bearer` or in the header `api_key`.";
    "invalid_api_key" 401 [401], Client Useless: "What was sent is no key that was ever issued here, or there are two different ones, or `Authorization` isn't `Bearer` and a key. The message says which.";
    "key_revoked" 401 [401], Client Useless: "The key was revoked. Only the key itself is told that. Use another one.";
    "key_expired" 401 [401], Client Useless: "The key's time is over, or that of its overlap with its successor. Only the key itself is told that. Use another one.";
    "key_blocked" 401 [401], Operator Useless: "The operator blocked the key. Only the key itself is told that.";
    "account_blocked" 401 [401], Operator Useless: "The operator blocked the key's account. Only its keys are told that.";
    "insufficient_scope" 403 [403], Client Useless: "The key is valid and does not permit this: it lacks the scope that the path needs, or the key that it would make or change may do more than it. The message says which.";
    "priority_not_allowed" 403 [403], Client Useless: "The key may not ask for `service_tier` \"priority\". The operator gives that right; other tiers need none.";
    "too_many_keys" 409 [], Client Useless: "The account has as many valid keys as it may. Revoke some that are not used.";
    "key_not_valid" 409 [], Client Useless: "The key that is to be changed or rotated is revoked, blocked, expired or replaced. Create another one.";
    "code_not_valid" 403 [], Client Useless: "The code from a mail is wrong, was used already, is too old, or was shown wrongly five times. Ask for another mail.";
    "mail_not_sent" 403 [], Operator Useless: "This network sends no mail, so that no address is proven and no lost key replaced by it. Its operator can prove an account and make a key.";
    "rate_limit_exceeded" 429 [429], Client Safe: "Too many requests per minute for this key. Wait for `retry-after-ms`.";
    "token_limit_exceeded" 429 [429], Client Safe: "Too many tokens per minute for this key, prompts and the longest answers asked for together. Wait for `retry-after-ms`.";
    "look_limit_exceeded" 429 [429], Client Safe: "Too many looks and cancels per minute for this key. Wait for `retry-after-ms`, or let `wait` hold one look.";
    "concurrency_limit_exceeded" 429 [429], Client Safe: "Too many requests at once for this key. Wait until one ends, or submit jobs.";
    "queue_full" 429 [429], Client Safe: "Too many jobs of this account wait. Let some end first.";
    "account_storage_full" 429 [429], Client Safe: "The account's stored requests take up all their room, which comes back a day after jobs end.";
    "insufficient_quota" 429 [429], Client Useless: "The request may cost more than is left of the key's or the account's spend limit for this month. The message has the amounts. Raise the limit, ask for less, or wait for jobs to end.";
    "price_above_max" 400 [400], Client Useless: "The model costs more than `max_price`. The message has both prices. Allow more, or ask another model.";
    "signup_limit_exceeded" 429 [429], Client Safe: "Too many sign-ups, proofs and recoveries from this address.";
    "node_limit_exceeded" 429 [429], Runner Safe: "Too many registrations and checks of nodes from this address.";
    "connection_limit_exceeded" 429 [429], Client Safe: "Too many connections from this address are in the middle of a request.";
    // Requests that are sent again.
    "idempotency_in_progress" 409 [409], Client Safe: "The first request under this key still runs. Ask again, or look at the job that is named.";
    "idempotency_key_reused" 422 [422], Client Useless: "The key was used with another body or on another path. Use a new key for a new request.";
    // The network has no room or no nodes.
    "insufficient_nodes" 503 [503], Network Safe: "Fewer nodes of different owners serve the model than were asked for, or fewer of the account's or group's nodes on different machines: the message then says how many. Try later, submit a job, or ask for one replica.";
    "overloaded" 503 [503], Gateway Safe: "This gateway holds as many requests as it may. Try again, at another gateway if there is one.";
    "outbox_full" 503 [503], Gateway Safe: "Too many accepted jobs wait for the broker, so this one was not accepted.";
    "storage_full" 503 [503], Network Safe: "Stored requests take up all the room that they may. It comes back as older ones are archived.";
    "ledger_unavailable" 503 [503], Network WithKey: "The ledger is away. Whether a job was accepted is not known until it is back.";
    "shutting_down" 503 [503], Gateway Look: "This gateway shuts down. The job goes on; another gateway shows it by its id. A stream's event has `events_url` and `last_event_id`, from where it goes on there.";
    "timeout" 504 [504], Network Look: "There was no answer in the time allowed. The job may still end.";
    "stream_too_slow" 408 [408], Client Look: "An event of a stream that was read too slowly. The job goes on; read its end by the id in the event.";
    "stream_overturned" 502 [502], Network Look: "An event of a stream whose beginning isn't the answer's: what was shown is wrong. Read the job's end by the id in the event.";
    // How a job ended.
    "expired" 504 [504], Network WithKey: "The job's deadline passed before it had an answer.";
    "cancelled" 409 [409], Client Useless: "The job was cancelled by its account.";
    "no_consensus" 502 [502], Network WithKey: "The replicas disagree and nothing decides between them. Other nodes are asked next time.";
    "too_many_misses" 502 [502], Network WithKey: "Too many nodes missed or refused the job. Other nodes are asked next time. If the message says that the nodes' time ran out, ask for fewer tokens (`max_tokens`): the same again would end so too.";
    "poison" 500 [500], Operator Useless: "Verifiers ended while they held this job, so it is held back until the operator has looked at it.";
    "unprocessable" 500 [500], Operator WithKey: "The stored request could not be rendered, which is a fault of the network's.";
    // Faults of ours.
    "damaged" 500 [500], Operator Useless: "The stored record of this job is damaged. The operator has been told.";
    "internal_error" 500 [500], Operator WithKey: "A fault of the gateway's. It was logged under the id in `x-request-id`.";
    // Nodes.
    "nodes_not_admitted" 503 [503], Operator Safe: "This gateway lets in no nodes from outside. Another one may.";
    "fleet_scope_required" 403 [403], Operator Useless: "The account lacks the scope `fleet`, which its operator gives.";
    "node_name_taken" 409 [409], Runner Useless: "The `node_id` is registered with another secret. Send that one, or choose another `node_id`.";
    "node_unknown" 403 [403], Runner Useless: "No node of this `node_id` has this secret. Register it first.";
    "node_revoked" 403 [403], Runner Useless: "The operator shut this node out.";
    "node_not_found" 404 [404], Runner Useless: "No node of this name belongs to the key's account. Names are those that nodes were registered with.";
    "too_many_nodes" 403 [403], Runner Useless: "The account has as many nodes as it may. Register this one under the name of a node that is gone.";
    "results_not_taken" 409 [409], Runner Useless: "Results come through the broker. Run the program infera-worker; nothing of the request was kept.";
    "node_group_not_found" 404 [404], Client Useless: "No group of nodes of this name or id is open to the account. `GET /v1/node-groups` lists those that are.";
    "node_group_name_taken" 409 [], Client Useless: "The account has a group of nodes of this name. Choose another, or use that one.";
    "node_group_full" 409 [], Client Useless: "The account has as many groups as it may, the group as many nodes or users, the node as many invitations or groups, or the user as many groups of others. The message says which.";
    "broker_unavailable" 503 [503], Network Safe: "The broker is away. Try again soon.";
};

#[cfg(test)]
#[path = "codes/tests.rs"]
mod tests;
