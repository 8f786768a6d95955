//! `/v1/node-groups`: named groups of nodes, to which an account's jobs may go. A group's account decides which nodes it wants and
//! which accounts may use it; a node's owner decides whether it is in.

use infera_ledger::{GroupChange, KeyBook, NodeGroupBook, NodePool};
use infera_types::ids::AccountId;
use serde_json::{Value, json};

use super::call::Call;
use super::keys;
use crate::access::group_orders::{self, GroupOrderError};
use crate::access::{Caller, KeyCache};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::group_objects;
use crate::api::group_refusal::GroupRefusal;
use crate::api::nodes_wanted::{self, NodesWanted, is_group_name};
use crate::api::reply::Reply;
use crate::fastapi::{Checked, Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check_closed};

mod described;

pub(crate) use described::{ADD, ALLOW, CREATE, DELETE, DISALLOW, KEY, LIST, REMOVE, SET_KEY, SHOW};

const NAME: &[Field] = &[Field::required("name", Kind::Text)
    .about("A name to know the group by, which no other group of the account has: letters, digits, dots, hyphens and underscores, not beginning with `grp_`.")
    .range(Range::Pattern("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))];

const NODE: &[Field] = &[Field::required("node", Kind::Text)
    .about("The node: one of the account's by its name or id, another account's by its id.")
    .range(Range::Plain(1, 255))];

const ACCOUNT: &[Field] =
    &[Field::required("account", Kind::Text).about("The account's id.").range(Range::Plain(1, 255))];

const NODES: &[Field] = &[Field::required("nodes", Kind::Nullable(&Kind::Text))
    .about("As `verification.nodes` in a request: `any`, `own` or `group:` and the name or id of a group. `null` is `any`.")
    .range(Range::Pattern(nodes_wanted::PATTERN))];

/// What is done to a group's nodes and users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// A node is wanted, or its owner consents.
    AddNode,
    /// A node is removed.
    RemoveNode,
    /// An account may use the group.
    Allow,
    /// An account may no longer use it.
    Disallow,
}

/// Makes a group.
///
/// # Errors
/// The client's mistakes, [`GroupRefusal`], the ledger's error.
pub(crate) async fn create(book: &dyn NodeGroupBook, call: &Call) -> Result<Reply, Failure> {
    let (caller, name) = (call.caller()?, text(call, NAME, "name")?);
    if !is_group_name(&name) {
        let flaw = Flaw::new(
            "value_error",
            "String should have 1 to 64 letters, digits, dots, hyphens and underscores, and not begin with 'grp_'",
        );
        return Err(mistaken(call, "name", flaw)?);
    }
    let made = group_orders::create(book, &caller.account, &name).await.map_err(refused)?;
    Ok(Reply::json(&group_objects::group(&made, &caller.account))?)
}

/// Lists the groups that the caller's account has to do with.
///
/// # Errors
/// The ledger's error.
pub(crate) async fn list(book: &dyn NodeGroupBook, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let groups = book.groups_of(&caller.account, group_orders::LISTED_MAX).await.map_err(refused)?;
    let data: Vec<Value> = groups.iter().map(|group| group_objects::group(group, &caller.account)).collect();
    Ok(Reply::json(&json!({ "object": "list", "data": data }))?)
}

/// Shows a group.
///
/// # Errors
/// [`GroupRefusal::Unknown`], or the ledger's error.
pub(crate) async fn show(book: &dyn NodeGroupBook, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let whole = group_orders::find(book, &caller.account, &call.id).await.map_err(refused)?;
    Ok(Reply::json(&group_objects::whole(&whole, &caller.account))?)
}

/// Deletes a group of the caller's account. Jobs that wait for it find no nodes any more.
///
/// # Errors
/// [`GroupRefusal::Unknown`], or the ledger's error.
pub(crate) async fn delete(book: &dyn NodeGroupBook, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let deleted = group_orders::delete(book, &caller.account, &call.id).await.map_err(refused)?;
    Ok(Reply::json(&json!({ "id": deleted, "object": "node_group", "deleted": true }))?)
}

/// Changes which nodes are in a group and who may use it, as far as the caller's account may.
///
/// # Errors
/// The client's mistakes, [`GroupRefusal`], the ledger's error.
pub(crate) async fn change(book: &dyn NodeGroupBook, call: &Call, doing: Doing) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let change = match doing {
        Doing::AddNode => GroupChange::AddNode(text(call, NODE, "node")?),
        Doing::RemoveNode => GroupChange::RemoveNode(text(call, NODE, "node")?),
        Doing::Allow => GroupChange::Allow(AccountId::new(text(call, ACCOUNT, "account")?)),
        Doing::Disallow => GroupChange::Disallow(AccountId::new(text(call, ACCOUNT, "account")?)),
    };
    let changed = group_orders::change(book, &caller.account, &call.id, change).await.map_err(refused)?;
    let shown = match &changed {
        Some(whole) => group_objects::whole(whole, &caller.account),
        None => json!({ "id": call.id, "object": "node_group", "left": true }),
    };
    Ok(Reply::json(&shown)?)
}

/// Shows the nodes that a key's jobs go to where a request says nothing.
///
/// # Errors
/// [`ApiError::NotFound`] also for other accounts' keys; the ledger's error.
pub(crate) async fn of_key(
    book: &dyn NodeGroupBook,
    keys_book: &dyn KeyBook,
    call: &Call,
) -> Result<Reply, Failure> {
    let view = keys::find(keys_book, &*call.caller()?, call).await?;
    let pool = book.key_pool(&view.id).await.map_err(refused)?;
    Ok(Reply::json(&described(view.id.as_str(), &pool))?)
}

/// Sets the nodes that a key's jobs go to where a request says nothing.
///
/// # Errors
/// As [`of_key`]; the client's mistakes; [`GroupRefusal::Unknown`]; [`ApiError::KeyEnded`].
pub(crate) async fn set_key(
    book: &dyn NodeGroupBook,
    keys_book: &dyn KeyBook,
    cache: &KeyCache,
    call: &Call,
) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let wanted = wanted(call)?;
    let view = keys::find(keys_book, &caller, call).await?;
    permit(&caller, &view)?;
    let pool = match wanted {
        NodesWanted::Any => NodePool::Open,
        NodesWanted::Own => NodePool::Account(view.account.clone()),
        NodesWanted::Group(named) => {
            let found = book.usable_group(&view.account, &named).await.map_err(refused)?;
            NodePool::Group(found.ok_or(ApiError::Group(GroupRefusal::Unknown))?)
        }
    };
    if !book.set_key_pool(&view.id, &pool).await.map_err(refused)? {
        return Err(ApiError::KeyEnded.into());
    }
    cache.forget(|id, _| *id == view.id);
    Ok(Reply::json(&described(view.id.as_str(), &pool))?)
}

fn permit(caller: &Caller, view: &infera_ledger::KeyView) -> Result<(), ApiError> {
    keys::permit(caller, view.scopes, caller.expires_ms)
}

fn described(id: &str, pool: &NodePool) -> Value {
    let nodes = match pool {
        NodePool::Open => NodesWanted::Any,
        NodePool::Account(_) => NodesWanted::Own,
        NodePool::Group(group) => NodesWanted::Group(group.to_string()),
    };
    json!({ "id": id, "object": "api_key.nodes", "nodes": nodes.words() })
}

fn wanted(call: &Call) -> Result<NodesWanted, Failure> {
    let [words] = check_closed(&call.json()?, NODES).map_err(Unfit::from)?.into_fields();
    match words {
        Checked::Text(words) => match NodesWanted::read(&words) {
            Some(wanted) => Ok(wanted),
            None => {
                let flaw = Flaw::not_among("'any', 'own' or 'group:' with the name or id of a group");
                Err(mistaken(call, "nodes", flaw)?)
            }
        },
        _ => Ok(NodesWanted::Any),
    }
}

/// Reads the one field of a body.
fn text(call: &Call, fields: &'static [Field], name: &'static str) -> Result<String, Failure> {
    let [given] = check_closed(&call.json()?, fields).map_err(Unfit::from)?.into_fields();
    let given = given.into_text();
    if given.is_empty() || given.chars().count() > 255 || given.contains(char::is_control) {
        let message = "String should have 1 to 255 characters, none of them a control character";
        return Err(mistaken(call, name, Flaw::new("value_error", message))?);
    }
    Ok(given)
}

/// Makes the failure of one wrong field.
fn mistaken(call: &Call, name: &'static str, flaw: Flaw) -> Result<Failure, Failure> {
    let body = call.json()?;
    let mut mistakes = Mistakes::default();
    mistakes.add(&[Step::name(name)], flaw, body.get(name).unwrap_or(&Json::Null));
    Ok(Unfit::from(mistakes).into())
}

/// Maps why something isn't done, and logs what is the ledger's fault.
fn refused(error: impl Into<GroupOrderError>) -> ApiError {
    match error.into() {
        GroupOrderError::NoGroup(_) => ApiError::Group(GroupRefusal::Unknown),
        GroupOrderError::NoNode(_) => ApiError::Group(GroupRefusal::NoNode),
        GroupOrderError::NoAccount(_) => ApiError::Group(GroupRefusal::NoAccount),
        GroupOrderError::NameTaken => ApiError::Group(GroupRefusal::NameTaken),
        GroupOrderError::Full(bound) => ApiError::Group(GroupRefusal::Full(bound)),
        // Names are checked before they are ordered.
        GroupOrderError::NoName => ApiError::Internal,
        GroupOrderError::Ledger(error) => {
            tracing::error!(%error, "groups of nodes could not be read or changed");
            ApiError::from(&error)
        }
    }
}
