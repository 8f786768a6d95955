//! What the description of the API says of the routes of groups. Their bodies are the tables by which `node_groups` checks them.

use super::{ACCOUNT, NAME, NODE, NODES};
use crate::api::operation::{
    Group, Named, Operation, Parameter, Place, Shape, always, body, json as in_json, sometimes,
};

/// A group of nodes.
static GROUP: Named = Named {
    name: "NodeGroup",
    about: "A group of nodes, as the caller's account may see it.",
    shape: Shape::Members(&[
        always("id", Shape::Text, "The group's id."),
        always("object", Shape::Words(&["node_group"]), "The kind of object."),
        sometimes("account", Shape::Text, "The account that it belongs to."),
        sometimes("name", Shape::Text, "Its name."),
        sometimes("is_own", Shape::Flag, "Whether it belongs to the caller's account."),
        sometimes("created", Shape::Time, "When it was made."),
        sometimes(
            "nodes",
            Shape::List(&GROUP_NODE),
            "Its nodes; to another account than its own only that account's.",
        ),
        sometimes(
            "accounts",
            Shape::List(&Shape::Text),
            "The accounts that may use it beside its own, which alone sees them.",
        ),
        sometimes("deleted", Shape::Flag, "Whether it was deleted just now."),
        sometimes("left", Shape::Flag, "Whether the account has nothing to do with it any more."),
    ]),
};

const GROUP_NODE: Shape = Shape::Members(&[
    always("node", Shape::Text, "The id by which the network knows the node."),
    always("node_id", Shape::Maybe(&Shape::Text), "Its name, if it belongs to the caller's account."),
    always("is_own", Shape::Flag, "Whether it belongs to the caller's account."),
    always("status", Shape::Words(&["member", "invited"]), "`invited` until its owner consents."),
    always("invited", Shape::Time, "When the group's account wanted it."),
]);

const ID: Parameter = Parameter {
    place: Place::Path,
    name: "id",
    shape: Shape::Text,
    about: "The group's id, or its name if it is the account's own.",
    example: "lab",
};

const fn operation(id: &'static str, summary: &'static str, about: &'static str) -> Operation {
    Operation {
        id,
        group: Group::Nodes,
        summary,
        about,
        parameters: &[ID],
        body: None,
        reply: in_json("The group.", Shape::Named(&GROUP)),
        errors: &["node_group_not_found"],
    }
}

/// `POST /v1/node-groups`.
pub(crate) static CREATE: Operation = Operation {
    parameters: &[],
    body: Some(body(Shape::Closed(NAME), r#"{"name": "lab"}"#)),
    errors: &["not_found", "node_group_name_taken", "node_group_full"],
    ..operation(
        "createNodeGroup",
        "Make a group of nodes",
        "Makes an empty group, which only its account may use.",
    )
};

/// `GET /v1/node-groups`.
pub(crate) static LIST: Operation = Operation {
    parameters: &[],
    reply: in_json(
        "The groups, the earliest first.",
        Shape::Members(&[
            always("object", Shape::Words(&["list"]), "The kind of object."),
            always("data", Shape::List(&Shape::Named(&GROUP)), "The groups, without their nodes."),
        ]),
    ),
    errors: &[],
    ..operation(
        "listNodeGroups",
        "List groups of nodes",
        "Lists the account's groups, those that it may use, and those that one of its nodes is in or invited to.",
    )
};

/// `GET /v1/node-groups/{id}`.
pub(crate) static SHOW: Operation =
    operation("retrieveNodeGroup", "Show a group of nodes", "Shows a group that the account has to do with.");

/// `DELETE /v1/node-groups/{id}`.
pub(crate) static DELETE: Operation = operation(
    "deleteNodeGroup",
    "Delete a group of nodes",
    "Deletes a group of the account. Jobs that wait for it find no nodes.",
);

/// `POST /v1/node-groups/{id}/add_node`.
pub(crate) static ADD: Operation = Operation {
    body: Some(body(Shape::Closed(NODE), r#"{"node": "basement-1"}"#)),
    errors: &["node_group_not_found", "node_not_found", "node_group_full"],
    ..operation(
        "addGroupNode",
        "Add a node, or consent",
        "The group's account adds its own node, or invites another account's, which is a member once its owner sends the same.",
    )
};

/// `POST /v1/node-groups/{id}/remove_node`.
pub(crate) static REMOVE: Operation = Operation {
    body: Some(body(Shape::Closed(NODE), r#"{"node": "basement-1"}"#)),
    errors: &["node_group_not_found", "node_not_found"],
    ..operation(
        "removeGroupNode",
        "Remove a node",
        "The group's account removes any node, and a node's owner its own, also one that is only invited.",
    )
};

/// `POST /v1/node-groups/{id}/allow_account`.
pub(crate) static ALLOW: Operation = Operation {
    body: Some(body(Shape::Closed(ACCOUNT), r#"{"account": "acct01993a5f2c7e7b6c9d1f0a2b3c4d5e6f"}"#)),
    errors: &["node_group_not_found", "not_found", "node_group_full"],
    ..operation(
        "allowGroupAccount",
        "Let an account use a group",
        "Lets another account's jobs go to the group's nodes.",
    )
};

/// `POST /v1/node-groups/{id}/disallow_account`.
pub(crate) static DISALLOW: Operation = Operation {
    body: Some(body(Shape::Closed(ACCOUNT), r#"{"account": "acct01993a5f2c7e7b6c9d1f0a2b3c4d5e6f"}"#)),
    errors: &["node_group_not_found", "not_found"],
    ..operation(
        "disallowGroupAccount",
        "Close a group to an account",
        "Takes back that an account may use the group.",
    )
};

const KEY_ID: Parameter = Parameter {
    place: Place::Path,
    name: "id",
    shape: Shape::Text,
    about: "The key's public id. Ids of other accounts' keys are answered as unknown.",
    example: "key_01993a5f2c7e7b6c9d1f0a2b3c4d5e6f",
};

const OF_KEY: Shape = Shape::Members(&[
    always("id", Shape::Text, "The key's public id."),
    always("object", Shape::Words(&["api_key.nodes"]), "The kind of object."),
    always("nodes", Shape::Text, "`any`, `own`, or `group:` and the group's id."),
]);

/// `GET /v1/keys/{id}/nodes`.
pub(crate) static KEY: Operation = Operation {
    group: Group::Keys,
    parameters: &[KEY_ID],
    reply: in_json("The nodes.", OF_KEY),
    errors: &["not_found"],
    ..operation(
        "retrieveKeyNodes",
        "Show a key's nodes",
        "Shows which nodes are asked for a key's requests that don't say so themselves.",
    )
};

/// `POST /v1/keys/{id}/nodes`.
pub(crate) static SET_KEY: Operation = Operation {
    body: Some(body(Shape::Closed(NODES), r#"{"nodes": "own"}"#)),
    errors: &["not_found", "key_not_valid", "node_group_not_found"],
    ..Operation {
        group: Group::Keys,
        parameters: &[KEY_ID],
        reply: in_json("The nodes.", OF_KEY),
        ..operation(
            "setKeyNodes",
            "Set a key's nodes",
            "Sets which nodes are asked for a key's requests that don't say so themselves. A key that it is rotated to has the same.",
        )
    }
};
