//! What the description of the API says of the routes of keys. Their bodies are the tables by which `keys` checks them.

use super::{CHANGED, KEY, ROTATION};
use crate::api::operation::{
    Group, Operation, Parameter, Place, RequestBody, Shape, always, body, json as in_json,
};
use crate::api::shapes::API_KEY;

const ID: Parameter = Parameter {
    place: Place::Path,
    name: "id",
    shape: Shape::Text,
    about: "The key's public id. Ids of other accounts' keys are answered as unknown.",
    example: "key_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f",
};

/// The query by which an operator names an account.
pub(in crate::routes) const ACCOUNT: Parameter = Parameter {
    place: Place::Query,
    name: "account",
    shape: Shape::Text,
    about: "Another account, which only a key with the scope `admin` may name.",
    example: "acct_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f",
};

const fn operation(id: &'static str, summary: &'static str, about: &'static str) -> Operation {
    Operation {
        id,
        group: Group::Keys,
        summary,
        about,
        parameters: &[ID],
        body: None,
        reply: in_json("The key.", Shape::Named(&API_KEY)),
        errors: &["not_found"],
    }
}

/// `POST /v1/keys`.
pub(crate) static CREATE: Operation = Operation {
    parameters: &[],
    body: Some(body(Shape::Closed(KEY), r#"{"name": "laptop", "scopes": ["user"], "expires_in_s": 86400}"#)),
    errors: &["not_found", "too_many_keys"],
    ..operation(
        "createKey",
        "Make a key",
        "Makes a key and shows it, this once. It does no more than the caller's key.",
    )
};

/// `GET /v1/keys`.
pub(crate) static LIST: Operation = Operation {
    parameters: &[ACCOUNT],
    reply: in_json(
        "The keys, the newest first.",
        Shape::Members(&[
            always("object", Shape::Words(&["list"]), "The kind of object."),
            always("data", Shape::List(&Shape::Named(&API_KEY)), "The keys."),
        ]),
    ),
    errors: &[],
    ..operation(
        "listKeys",
        "List keys",
        "Lists the account's keys, revoked ones too, without the keys themselves.",
    )
};

/// `GET /v1/keys/{id}`.
pub(crate) static SHOW: Operation = operation("retrieveKey", "Show a key", "Shows one key of the account.");

/// `PATCH /v1/keys/{id}`.
pub(crate) static CHANGE: Operation = Operation {
    body: Some(body(Shape::Closed(CHANGED), r#"{"name": "old laptop"}"#)),
    errors: &["not_found", "key_not_valid"],
    ..operation(
        "changeKey",
        "Change a key",
        "Changes a key's name, scopes, expiry or spend limit. What is left out stays as it is.",
    )
};

/// `DELETE /v1/keys/{id}`.
pub(crate) static END: Operation =
    operation("revokeKey", "Revoke a key", "Revokes a key for good. To revoke it twice changes nothing.");

/// `POST /v1/keys/{id}/rotate`.
pub(crate) static ROTATE: Operation = Operation {
    body: Some(RequestBody {
        shape: Shape::Closed(ROTATION),
        example: r#"{"overlap_s": 600}"#,
        required: false,
    }),
    errors: &["not_found", "key_not_valid", "too_many_keys"],
    ..operation(
        "rotateKey",
        "Replace a key",
        "Makes a successor with the same name, scopes, expiry and spend limit, and shows it, this once. The old key ends after `overlap_s`; both spend from the same limit.",
    )
};

/// `POST /v1/keys/{id}/block`.
pub(crate) static BLOCK: Operation = operation(
    "blockKey",
    "Block a key",
    "Blocks a key of any account. The caller's key needs the scope `admin`.",
);

/// `POST /v1/keys/{id}/unblock`.
pub(crate) static UNBLOCK: Operation = operation(
    "unblockKey",
    "Take back a key's block",
    "Takes back the block of a key. The caller's key needs the scope `admin`.",
);
