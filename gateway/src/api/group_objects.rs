//! What replies say of groups of nodes. A node's name is its owner's, so it is shown to the owner alone; others see the id.

use infera_ledger::{GroupNode, NodeGroup, WholeGroup};
use infera_types::ids::{AccountId, OwnerId};
use serde_json::{Value, json};

/// Makes the object of a group without its nodes. All accounts that have to do with it see its name; in requests the name leads only
/// its own account to it, and others name it by its id.
pub(crate) fn group(group: &NodeGroup, account: &AccountId) -> Value {
    json!({
        "id": group.id,
        "object": "node_group",
        "account": group.account,
        "name": group.name,
        "is_own": group.account == *account,
        "created": group.created_ms.as_secs(),
    })
}

/// Makes the object of a group as `account` may see it: its own account sees all nodes and users, another only its own nodes.
pub(crate) fn whole(whole: &WholeGroup, account: &AccountId) -> Value {
    let (is_own, owner) = (whole.group.account == *account, OwnerId::of_account(account));
    let shown = whole.nodes.iter().filter(|node| is_own || node.owner == owner);
    let mut object = group(&whole.group, account);
    object["nodes"] = shown.map(|one| node(one, &owner)).collect();
    if is_own {
        object["accounts"] = json!(whole.accounts);
    }
    object
}

fn node(node: &GroupNode, owner: &OwnerId) -> Value {
    let is_own = node.owner == *owner;
    json!({
        "node": node.node,
        "node_id": is_own.then_some(&node.name),
        "is_own": is_own,
        "status": if node.willing_ms.is_some() { "member" } else { "invited" },
        "invited": node.invited_ms.as_secs(),
    })
}
