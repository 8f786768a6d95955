//! What the description of the API says of the routes of accounts. Their bodies are the tables by which `account` checks them.

use super::{CODE, CODE_FOR_A_KEY, EMAIL};
use crate::api::operation::{
    Content, GoodReply, Group, Member, Operation, Parameter, Place, Shape, always, body, json as in_json,
};

const fn operation(id: &'static str, summary: &'static str, about: &'static str) -> Operation {
    Operation {
        id,
        group: Group::Keys,
        summary,
        about,
        parameters: &[],
        body: None,
        reply: in_json("What was asked for.", ASKED),
        errors: &["mail_not_sent"],
    }
}

const ASKED: Shape = Shape::Members(&[
    always("status", Shape::Words(&["accepted"]), "Always `accepted`, whatever comes of it."),
    always("message", Shape::Text, "What happens now."),
]);

const EVENT: Shape = Shape::Members(&[
    always(
        "event",
        Shape::Words(&["proven", "recovered", "recovered_and_revoked"]),
        "What happened: the address was proven, or a lost key replaced without or with revoking the others.",
    ),
    always("time", Shape::Time, "When it happened."),
    always("key", Shape::Maybe(&Shape::Text), "The public id of the key that was made."),
]);

const ACCOUNT: &[Member] = &[
    always("id", Shape::Text, "The account's id."),
    always("object", Shape::Words(&["account"]), "The kind of object."),
    always("proven", Shape::Flag, "Whether the account counts by itself when the network is shared."),
];

/// `GET /v1/account`.
pub(crate) static SHOW: Operation = Operation {
    reply: in_json(
        "The account.",
        Shape::Members(&[
            always("id", Shape::Text, "The account's id."),
            always("object", Shape::Words(&["account"]), "The kind of object."),
            always("proven", Shape::Flag, "Whether the account counts by itself when the network is shared."),
            always("mail", Shape::Flag, "Whether this network sends mail."),
            always("events", Shape::List(&EVENT), "What happened to the account by mail, the newest first."),
        ]),
    ),
    errors: &[],
    ..operation("showAccount", "Show the account", "Shows the account of the caller's key.")
};

/// `POST /v1/account/address`.
pub(crate) static ADDRESS: Operation = Operation {
    body: Some(body(Shape::Closed(EMAIL), r#"{"email": "ada@example.com"}"#)),
    reply: GoodReply { status: 202, ..in_json("The mail was asked for.", ASKED) },
    ..operation(
        "askForProof",
        "Ask for a mail that proves an address",
        "Sends a mail with a link that proves the address for the account of the caller's key. An account that has proven one \
         keeps it.",
    )
};

/// `POST /v1/account/proof`.
pub(crate) static PROVE: Operation = Operation {
    body: Some(body(Shape::Closed(CODE), r#"{"code": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#)),
    reply: GoodReply {
        content: Content::JsonOrPage(Shape::Members(ACCOUNT)),
        ..in_json("The address is proven.", Shape::Any)
    },
    errors: &["mail_not_sent", "code_not_valid"],
    ..operation(
        "proveAddress",
        "Prove an address",
        "Uses the code in a mail, which serves once. The button of the page that the mail links to sends the same as a form, and \
         gets a page.",
    )
};

/// `GET /v1/account/proof`.
pub(crate) static PAGE: Operation = Operation {
    parameters: &[Parameter {
        place: Place::Query,
        name: "code",
        shape: Shape::Text,
        about: "The code in the mail.",
        example: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }],
    reply: GoodReply { content: Content::Page, ..in_json("The page.", Shape::Any) },
    ..operation(
        "proofPage",
        "Show the page that proves an address",
        "Shows a button that sends the code. Nothing is proven by the page itself, because programs that look mails over follow \
         links.",
    )
};

/// `POST /v1/account/recovery`.
pub(crate) static RECOVER: Operation = Operation {
    body: Some(body(Shape::Closed(EMAIL), r#"{"email": "ada@example.com"}"#)),
    reply: GoodReply { status: 202, ..in_json("The mail was asked for.", ASKED) },
    ..operation(
        "askForRecovery",
        "Ask for a new key",
        "Sends a mail with a code for a new key, if an account has proven the address. The reply is the same for every address.",
    )
};

/// `POST /v1/account/recovery/key`.
pub(crate) static RECOVER_KEY: Operation = Operation {
    body: Some(body(
        Shape::Closed(CODE_FOR_A_KEY),
        r#"{"code": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "other_keys": "keep"}"#,
    )),
    reply: in_json(
        "The new key.",
        Shape::Members(&[
            always("object", Shape::Words(&["api_key"]), "The kind of object."),
            always("id", Shape::Text, "The key's public id."),
            always("account", Shape::Text, "The account that it belongs to."),
            always(
                "key",
                Shape::Text,
                "The key, which is shown this once. It has the scope `user` and no end.",
            ),
            always(
                "other_keys",
                Shape::Words(&["keep", "revoke"]),
                "What became of the account's other keys.",
            ),
        ]),
    ),
    errors: &["mail_not_sent", "code_not_valid"],
    ..operation(
        "recoverKey",
        "Get a new key for a lost one",
        "Uses the code in a mail, which serves once, and shows the new key, this once. The account notes it.",
    )
};
