//! Checks the catalogue, nodes, epochs, accounts and keys.

use super::sample::model;
use super::{Halves, at, must, refused};
use infera_ledger::{
    CatalogueEntry, Epoch, FirstKey, KeyRecord, NewKey, NewNode, NodeCheck, NodeRecord, Registered,
};
use infera_types::ids::{AccountId, Digest, ModelName, NodeId, OwnerId};

/// An entry of the catalogue is the one that was listed last.
pub async fn the_catalogue_replaces_by_name(ledger: &Halves) {
    assert!(must(ledger.network.catalogue().await).is_empty());
    let entry = CatalogueEntry {
        name: model(),
        digests: vec![Digest::of(b"one"), Digest::of(b"two")],
        tokenizer: Digest::of(b"tokenizer"),
        context_max: 512,
        said_bytes_per_token: Some(13),
        quantization: None,
        end_tokens: vec![2, 5],
        reference_token_us: 1_500,
        bytes: None,
        created_ms: at(0),
        removed_ms: None,
    };
    let other = CatalogueEntry { name: ModelName::new("another"), ..entry.clone() };
    let changed = CatalogueEntry { context_max: 1_024, ..entry.clone() };
    for entry in [&entry, &other, &changed] {
        must(ledger.network.list_model(entry).await);
    }
    assert_eq!(must(ledger.network.catalogue().await), [other.clone(), changed.clone()]);
    // A removed model keeps its entry, and comes back by another.
    let removed = CatalogueEntry { bytes: Some(1 << 40), removed_ms: Some(at(7)), ..changed.clone() };
    must(ledger.network.list_model(&removed).await);
    assert_eq!(must(ledger.network.catalogue().await), [other.clone(), removed]);
    must(ledger.network.list_model(&changed).await);
    assert_eq!(must(ledger.network.catalogue().await), [other, changed]);
}

/// A name belongs to the runner that registered it; ids are ours, whatever the name.
pub async fn a_node_is_found_again_by_its_secret(ledger: &Halves) {
    let account = AccountId::fresh();
    let node = |name: &str, secret: &[u8], account: Option<&AccountId>| NewNode {
        name: name.to_owned(),
        secret: Digest::of(secret),
        account: account.cloned(),
    };
    let register = async |node: NewNode, now| must(ledger.network.register_node(&node, at(now)).await);
    let first = register(node("*.#", b"secret", Some(&account)), 1).await;
    let Registered::Node(record) = &first else { unreachable!("not registered: {first:?}") };
    assert_eq!(record.owner, OwnerId::of_account(&account));
    assert_eq!((record.name.as_str(), record.registered_ms), ("*.#", at(1)));
    assert!(record.id.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    assert_eq!(register(node("*.#", b"secret", Some(&account)), 2).await, first);
    assert_eq!(register(node("*.#", b"guess", Some(&account)), 2).await, Registered::WrongSecret);
    let second = register(node("b", b"secret", None), 3).await;
    let Registered::Node(anonymous) = &second else { unreachable!("not registered: {second:?}") };
    assert_eq!(anonymous.owner, OwnerId::anonymous());
    assert_eq!(must(ledger.network.nodes().await), [record.clone(), anonymous.clone()]);
}

/// Registers a node named `name` with the secret `secret`.
async fn registered(ledger: &Halves, name: &str, account: Option<AccountId>) -> NodeRecord {
    let node = NewNode { name: name.to_owned(), secret: Digest::of(b"secret"), account };
    match must(ledger.network.register_node(&node, at(1)).await) {
        Registered::Node(record) => record,
        Registered::WrongSecret => unreachable!("a fresh name"),
    }
}

/// The scope belongs to the account and applies to all its nodes, registered before and after; other nodes have none.
pub async fn a_node_comes_in_with_its_secret_and_its_accounts_scope(ledger: &Halves) {
    let check = async |name: &str, secret: &[u8]| {
        must(ledger.nodes.admit_node(name, Digest::of(secret), at(9)).await)
    };
    assert_eq!(check("a", b"secret").await, NodeCheck::Unknown);
    let account = must(ledger.accounts.sign_up("a@example.org", None, at(0)).await).account;
    let other = must(ledger.accounts.sign_up("b@example.org", None, at(0)).await).account;
    let first = registered(ledger, "a", Some(account.clone())).await;
    let others = registered(ledger, "b", Some(other.clone())).await;
    let anonymous = registered(ledger, "c", None).await;
    assert_eq!(check("a", b"secret").await, NodeCheck::NoFleet(first.clone()));
    assert_eq!(check("a", b"guess").await, NodeCheck::Unknown);

    assert_eq!(must(ledger.nodes.allow_fleet("nobody@example.org", at(2)).await), None);
    for now in [2, 3] {
        assert_eq!(must(ledger.nodes.allow_fleet("a@example.org", at(now)).await), Some(account.clone()));
    }
    assert!(must(ledger.nodes.is_fleet(&account).await));
    for without in [other, AccountId::fresh()] {
        assert!(!must(ledger.nodes.is_fleet(&without).await));
    }
    let second = registered(ledger, "d", Some(account)).await;
    let ids = (first.id.clone(), second.id.clone());
    assert_eq!(check("a", b"secret").await, NodeCheck::Admitted(first));
    assert_eq!(check("d", b"secret").await, NodeCheck::Admitted(second));
    assert_eq!(check("a", b"guess").await, NodeCheck::Unknown);
    assert_eq!(check("b", b"secret").await, NodeCheck::NoFleet(others));
    assert_eq!(check("c", b"secret").await, NodeCheck::NoFleet(anonymous));

    let mut let_in = [ids.0, ids.1];
    let_in.sort();
    assert_eq!(must(ledger.nodes.admitted(at(9)).await), let_in, "those who were let in, and nobody else");
    assert_eq!(must(ledger.nodes.admitted(at(10)).await), []);
    must(ledger.nodes.admit_node("a", Digest::of(b"secret"), at(5)).await);
    assert_eq!(must(ledger.nodes.admitted(at(9)).await), let_in, "an earlier end shortens nothing");
}

/// A revocation is permanent, and applies to that node alone.
pub async fn a_revoked_node_stays_out(ledger: &Halves) {
    let account = must(ledger.accounts.sign_up("a@example.org", None, at(0)).await).account;
    must(ledger.nodes.allow_fleet("a@example.org", at(0)).await);
    let (gone, stays) = (
        registered(ledger, "a", Some(account.clone())).await,
        registered(ledger, "b", Some(account.clone())).await,
    );
    assert_eq!(must(ledger.nodes.revoke_node(&NodeId::fresh(), at(2)).await), None);
    let admit = async |name: &str| must(ledger.nodes.admit_node(name, Digest::of(b"secret"), at(9)).await);
    assert_eq!(admit("a").await, NodeCheck::Admitted(gone.clone()));
    for now in [2, 3] {
        assert_eq!(must(ledger.nodes.revoke_node(&gone.id, at(now)).await), Some(gone.clone()));
    }
    let check = async |name: &str, secret: &[u8]| {
        must(ledger.nodes.admit_node(name, Digest::of(secret), at(9)).await)
    };
    assert_eq!(check("a", b"secret").await, NodeCheck::Revoked);
    assert_eq!(check("a", b"guess").await, NodeCheck::Unknown);
    assert_eq!(check("b", b"secret").await, NodeCheck::Admitted(stays.clone()));
    assert_eq!(must(ledger.nodes.admitted(at(2)).await), std::slice::from_ref(&stays.id));
    assert_eq!(must(ledger.network.nodes().await), [stays]);
    let again = NewNode { name: "a".to_owned(), secret: Digest::of(b"secret"), account: Some(account) };
    assert_eq!(must(ledger.network.register_node(&again, at(4)).await), Registered::WrongSecret);
}

/// The first caller's secret becomes the epoch's; all callers agree on it.
pub async fn the_first_epoch_stays(ledger: &Halves) {
    refused(&ledger.network.epoch(Some(1), Digest::of(b"unused"), at(0)).await);
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..10_u8 {
        let network = ledger.network.clone();
        callers.spawn(async move { must(network.epoch(None, Digest::of(&[number]), at(1)).await) });
    }
    let epochs: Vec<Epoch> = callers.join_all().await;
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    let known = must(ledger.network.epoch(Some(epochs[0].number), Digest::of(b"unused"), at(2)).await);
    assert_eq!(known, epochs[0]);
    refused(&ledger.network.epoch(Some(epochs[0].number + 1), Digest::of(b"unused"), at(2)).await);
}

/// There is one account per address; a key works until it is revoked and never again.
pub async fn an_account_is_made_once_and_keys_are_revoked(ledger: &Halves) {
    let first = must(ledger.accounts.sign_up("a@example.org", None, at(0)).await);
    assert!(first.is_new);
    let again = must(ledger.accounts.sign_up("a@example.org", None, at(1)).await);
    assert_eq!((&again.account, again.is_new), (&first.account, false));
    assert_ne!(must(ledger.accounts.sign_up("b@example.org", None, at(1)).await).account, first.account);

    let first_key = |text: &[u8]| Some(FirstKey { hash: Digest::of(text), hint: "abcd".to_owned() });
    let third = must(ledger.accounts.sign_up("c@example.org", first_key(b"first"), at(1)).await);
    let record = |account, id, hint: &str, scopes| KeyRecord {
        account,
        hint: hint.to_owned(),
        id,
        scopes,
        expires_ms: None,
        proven: false,
        weight: 1,
        may_prioritise: false,
        privacy: infera_ledger::KeyPrivacy::default(),
    };
    let made = must(ledger.accounts.key(Digest::of(b"first")).await);
    let seen = made.map(|record| (record.account, record.hint, record.scopes.to_string()));
    assert_eq!(seen, Some((third.account, "abcd".to_owned(), "user".to_owned())), "made with its account");
    must(ledger.accounts.sign_up("c@example.org", first_key(b"second"), at(1)).await);
    assert_eq!(
        must(ledger.accounts.key(Digest::of(b"second")).await),
        None,
        "an existing account gets no key"
    );

    let key = NewKey::plain(Digest::of(b"key"), first.account.clone(), "wxyz");
    assert_eq!(must(ledger.accounts.key(key.hash).await), None);
    must(ledger.accounts.issue_key(&key, at(2)).await);
    let expected = record(first.account, key.id.clone(), "wxyz", key.scopes);
    assert_eq!(must(ledger.accounts.key(key.hash).await), Some(expected));
    must(ledger.accounts.revoke_key(Digest::of(b"unknown"), at(3)).await);
    must(ledger.accounts.revoke_key(key.hash, at(3)).await);
    assert_eq!(must(ledger.accounts.key(key.hash).await), None);
    must(ledger.accounts.issue_key(&key, at(4)).await);
    assert_eq!(must(ledger.accounts.key(key.hash).await), None, "a revoked key came back");
}

/// Operators prove an account, weigh it and let a key prioritise; all keys of the account show the first two, and the
/// key alone the third. Unknown accounts and revoked keys are told apart.
pub async fn accounts_are_proven_and_weighed_and_keys_prioritise(ledger: &Halves) {
    let (email, accounts, shares) = ("a@example.org", &ledger.accounts, &ledger.shares);
    let account = must(accounts.sign_up(email, None, at(0)).await).account;
    let keys = [b"one", b"two"].map(|text| NewKey::plain(Digest::of(text), account.clone(), "wxyz"));
    for key in &keys {
        must(accounts.issue_key(key, at(1)).await);
    }
    let shown = async |key: &NewKey| {
        let record = must(accounts.key(key.hash).await);
        record.map(|record| (record.proven, record.weight, record.may_prioritise))
    };
    assert_eq!(shown(&keys[0]).await, Some((false, 1, false)));
    assert_eq!(must(shares.prove(email, at(2)).await), Some(account.clone()));
    assert_eq!(must(shares.prove(email, at(3)).await), Some(account.clone()), "again changes nothing");
    assert_eq!(must(shares.weigh(email, 5).await), Some(account.clone()));
    assert!(must(shares.allow_priority(keys[0].hash, true).await));
    assert_eq!(shown(&keys[0]).await, Some((true, 5, true)));
    assert_eq!(shown(&keys[1]).await, Some((true, 5, false)));
    assert_eq!(must(shares.weigh(email, 0).await), Some(account), "no share is without weight");
    assert!(must(shares.allow_priority(keys[0].hash, false).await));
    assert_eq!(shown(&keys[0]).await, Some((true, 1, false)));
    assert_eq!(must(shares.prove("b@example.org", at(4)).await), None);
    assert_eq!(must(shares.weigh("b@example.org", 2).await), None);
    must(accounts.revoke_key(keys[1].hash, at(5)).await);
    assert!(!must(shares.allow_priority(keys[1].hash, true).await));
    assert!(!must(shares.allow_priority(Digest::of(b"unknown"), true).await));
}
