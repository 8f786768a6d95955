//! Checks that accounts' keys can be listed, changed, rotated, revoked and blocked.

use infera_ledger::{
    Added, FoundKey, KeyChange, KeyEnd, KeyPrivacy, KeyView, NewKey, NewNode, NodeCheck, PrivacyChange,
    Rotated, Rotation, Scope, Scopes,
};
use infera_types::ids::{AccountId, Digest, KeyId};

use super::{Halves, at, must};

async fn account(ledger: &Halves, email: &str) -> AccountId {
    must(ledger.accounts.sign_up(email, None, at(0)).await).account
}

fn new_key(account: &AccountId, text: &[u8]) -> NewKey {
    NewKey {
        name: format!("{} of mine", String::from_utf8_lossy(text)),
        ..NewKey::plain(Digest::of(text), account.clone(), "abcd")
    }
}

async fn works(ledger: &Halves, text: &[u8]) -> bool {
    must(ledger.accounts.key(Digest::of(text)).await).is_some()
}

/// A key is shown with everything that it was stored with, to its account alone, and stored once.
pub async fn keys_are_listed_and_changed(ledger: &Halves) {
    let (mine, other) = (account(ledger, "a@example.org").await, account(ledger, "b@example.org").await);
    let first = new_key(&mine, b"one");
    let second = NewKey {
        scopes: Scopes::of(&[Scope::Node, Scope::User]),
        expires_ms: Some(at(500)),
        ..new_key(&mine, b"two")
    };
    for now in [1, 2] {
        assert_eq!(must(ledger.keys.add_key(&first, 2, at(now)).await), Added::Stored);
    }
    assert_eq!(must(ledger.keys.add_key(&second, 2, at(3)).await), Added::Stored);
    assert_eq!(must(ledger.keys.add_key(&new_key(&mine, b"three"), 2, at(4)).await), Added::Full);
    assert_eq!(must(ledger.keys.add_key(&new_key(&other, b"four"), 2, at(4)).await), Added::Stored);
    let nobodys = new_key(&AccountId::fresh(), b"five");
    assert_eq!(must(ledger.keys.add_key(&nobodys, 2, at(4)).await), Added::NoAccount);
    let view = |key: &NewKey, issued| KeyView {
        id: key.id.clone(),
        account: key.account.clone(),
        hint: key.hint.clone(),
        name: key.name.clone(),
        scopes: key.scopes,
        issued_ms: at(issued),
        expires_ms: key.expires_ms,
        revoked_ms: None,
        blocked_ms: None,
        successor: None,
        privacy: KeyPrivacy::default(),
    };
    let listed = must(ledger.keys.keys(&mine, 10).await);
    assert_eq!(listed, [view(&second, 3), view(&first, 1)], "newest first");
    assert_eq!(must(ledger.keys.keys(&mine, 1).await), [view(&second, 3)]);
    assert_eq!(must(ledger.keys.key_by_id(&first.id).await), Some(view(&first, 1)));
    assert_eq!(must(ledger.keys.key_by_id(&KeyId::fresh()).await), None);
    let record = must(ledger.accounts.key(second.hash).await)
        .map(|record| (record.id, record.scopes, record.expires_ms));
    assert_eq!(
        record,
        Some((second.id.clone(), second.scopes, second.expires_ms)),
        "also an expired one is told"
    );
    assert_eq!(
        must(ledger.keys.add_key(&new_key(&mine, b"six"), 2, at(500)).await),
        Added::Stored,
        "one expired"
    );

    let named = KeyChange { name: Some("ci".to_owned()), ..KeyChange::default() };
    let changed = must(ledger.keys.change_key(&second.id, &named).await);
    assert_eq!(changed, Some(KeyView { name: "ci".to_owned(), ..view(&second, 3) }));
    let whole = KeyChange {
        scopes: Some(Scopes::of(&[Scope::User])),
        expires_ms: Some(None),
        ..KeyChange::default()
    };
    let changed = must(ledger.keys.change_key(&second.id, &whole).await);
    let expected = KeyView {
        name: "ci".to_owned(),
        scopes: Scopes::of(&[Scope::User]),
        expires_ms: None,
        ..view(&second, 3)
    };
    assert_eq!(changed, Some(expected));
    assert_eq!(must(ledger.keys.change_key(&KeyId::fresh(), &named).await), None);
    ended_once(ledger, &second, &named).await;
    assert!(works(ledger, b"one").await);
    assert_eq!(must(ledger.keys.account_of("a@example.org").await), Some(mine));
    assert_eq!(must(ledger.keys.account_of("c@example.org").await), None);
}

/// A key ends once, works no more from then on, and can't be changed.
async fn ended_once(ledger: &Halves, key: &NewKey, change: &KeyChange) {
    assert_eq!(must(ledger.keys.end_key(&KeyId::fresh(), at(6)).await), None);
    for now in [7, 8] {
        let ended = must(ledger.keys.end_key(&key.id, at(now)).await);
        assert_eq!(ended.and_then(|key| key.revoked_ms), Some(at(7)));
    }
    assert!(must(ledger.accounts.key(key.hash).await).is_none());
    assert_eq!(must(ledger.keys.change_key(&key.id, change).await), None, "a revoked key stays as it is");
}

/// Replaces a key, which stays valid for a moment.
pub(super) async fn replace(ledger: &Halves, id: &KeyId, successor: &NewKey) {
    let rotation = Rotation { id: id.clone(), successor: successor.clone(), until: at(50), live_max: 9 };
    assert_eq!(must(ledger.keys.rotate_key(&rotation, at(2)).await), Rotated::Done);
}

/// A rotated key and its successor overlap; a key has one successor.
pub async fn a_rotated_key_has_one_successor(ledger: &Halves) {
    let (mine, other) = (account(ledger, "a@example.org").await, account(ledger, "b@example.org").await);
    let old = new_key(&mine, b"old");
    must(ledger.keys.add_key(&old, 9, at(0)).await);
    let rotate = async |id: &KeyId, successor: &NewKey, until, now| {
        let rotation =
            Rotation { id: id.clone(), successor: successor.clone(), until: at(until), live_max: 9 };
        must(ledger.keys.rotate_key(&rotation, at(now)).await) == Rotated::Done
    };
    let new = new_key(&mine, b"new");
    assert!(!rotate(&old.id, &new_key(&other, b"theirs"), 100, 1).await, "another account's");
    assert!(!rotate(&KeyId::fresh(), &new, 100, 1).await);
    assert!(!works(ledger, b"new").await && !works(ledger, b"theirs").await);
    for _ in 0..2 {
        assert!(rotate(&old.id, &new, 100, 1).await);
    }
    assert!(works(ledger, b"old").await && works(ledger, b"new").await);
    let seen = must(ledger.keys.key_by_id(&old.id).await).map(|key| (key.expires_ms, key.successor));
    assert_eq!(seen, Some((Some(at(100)), Some(new.id.clone()))));
    assert!(!rotate(&old.id, &new_key(&mine, b"second"), 100, 2).await, "it has a successor");

    let short = NewKey { expires_ms: Some(at(50)), ..new_key(&mine, b"short") };
    must(ledger.keys.add_key(&short, 9, at(0)).await);
    assert!(!rotate(&short.id, &new_key(&mine, b"late"), 100, 50).await, "it has expired");
    assert!(rotate(&short.id, &new_key(&mine, b"in time"), 100, 10).await);
    let seen = must(ledger.keys.key_by_id(&short.id).await).and_then(|key| key.expires_ms);
    assert_eq!(seen, Some(at(50)), "a rotation makes no key last longer");
    must(ledger.keys.end_key(&new.id, at(3)).await);
    assert!(!rotate(&new.id, &new_key(&mine, b"of a revoked one"), 100, 4).await);
}

/// A successor takes over what its key says of its jobs' text and its spend limit; no account gets more valid keys than it may
/// have by it.
pub async fn a_successor_takes_over_and_is_counted(ledger: &Halves) {
    let mine = account(ledger, "a@example.org").await;
    let old = new_key(&mine, b"old");
    must(ledger.keys.add_key(&old, 9, at(0)).await);
    let privacy = PrivacyChange { stores: Some(false), retention_days: Some(Some(7)) };
    let change = KeyChange { privacy, spend_limit: Some(Some(5)), ..KeyChange::default() };
    must(ledger.keys.change_key(&old.id, &change).await);
    let rotation = Rotation { id: old.id, successor: new_key(&mine, b"new"), until: at(50), live_max: 1 };
    assert_eq!(must(ledger.keys.rotate_key(&rotation, at(1)).await), Rotated::Full);
    assert!(!works(ledger, b"new").await);
    let rotation = Rotation { live_max: 2, ..rotation };
    assert_eq!(must(ledger.keys.rotate_key(&rotation, at(1)).await), Rotated::Done);
    let successor = &rotation.successor.id;
    let privacy = must(ledger.keys.key_by_id(successor).await).map(|key| key.privacy);
    assert_eq!(privacy, Some(KeyPrivacy { stores: false, retention_days: Some(7) }));
    assert_eq!(must(ledger.keys.key_spending(successor, at(1)).await).limit, Some(5));
    // The same call again finds it done, though there is no place for a third.
    assert_eq!(must(ledger.keys.rotate_key(&rotation, at(2)).await), Rotated::Done);
    let third = |until| Rotation {
        id: successor.clone(),
        successor: new_key(&mine, b"third"),
        until: at(until),
        live_max: 2,
    };
    assert_eq!(must(ledger.keys.rotate_key(&third(90), at(49)).await), Rotated::Full);
    assert_eq!(
        must(ledger.keys.rotate_key(&third(90), at(50)).await),
        Rotated::Done,
        "the first has expired"
    );
}

/// A block applies to a key, or to all keys and nodes of an account, and ends when it is taken back.
pub async fn blocked_keys_and_accounts_open_nothing(ledger: &Halves) {
    let mine = account(ledger, "a@example.org").await;
    let fleet = NewKey { scopes: Scopes::of(&[Scope::User, Scope::Fleet]), ..new_key(&mine, b"two") };
    for key in [&new_key(&mine, b"one"), &fleet] {
        must(ledger.keys.add_key(key, 9, at(0)).await);
    }
    assert!(must(ledger.nodes.is_fleet(&mine).await), "a key of that scope gives it to its account");
    let node = NewNode { name: "n".to_owned(), secret: Digest::of(b"secret"), account: Some(mine.clone()) };
    must(ledger.network.register_node(&node, at(1)).await);
    let admit = async || must(ledger.nodes.admit_node("n", Digest::of(b"secret"), at(9)).await);
    assert!(matches!(admit().await, NodeCheck::Admitted(_)));

    let end = async |text: &[u8]| match must(ledger.keys.find_key(Digest::of(text)).await) {
        Some(FoundKey::Ended(ended)) => {
            assert_eq!((&ended.account, text == b"two"), (&mine, ended.id == fleet.id));
            Some(ended.end)
        }
        Some(FoundKey::Valid(_)) | None => None,
    };
    assert_eq!(must(ledger.keys.find_key(Digest::of(b"unknown")).await), None);
    assert_eq!((end(b"one").await, end(b"two").await), (None, None));
    let blocked = must(ledger.keys.block_key(&fleet.id, Some(at(2))).await);
    assert_eq!((end(b"one").await, end(b"two").await), (None, Some(KeyEnd::Blocked)));
    assert_eq!(blocked.and_then(|key| key.blocked_ms), Some(at(2)));
    assert!(works(ledger, b"one").await && !works(ledger, b"two").await);
    must(ledger.keys.block_key(&fleet.id, None).await);
    assert!(works(ledger, b"two").await);
    assert_eq!(must(ledger.keys.block_key(&KeyId::fresh(), None).await), None);

    assert!(must(ledger.keys.block_account(&mine, Some(at(3))).await));
    assert!(!works(ledger, b"one").await && !works(ledger, b"two").await);
    assert_eq!(end(b"one").await, Some(KeyEnd::AccountBlocked));
    assert!(!must(ledger.nodes.is_fleet(&mine).await));
    assert!(matches!(admit().await, NodeCheck::NoFleet(_)));
    assert_eq!(must(ledger.nodes.admitted(at(4)).await), []);
    assert!(must(ledger.keys.block_account(&mine, None).await));
    assert!(works(ledger, b"one").await && matches!(admit().await, NodeCheck::Admitted(_)));
    assert!(!must(ledger.keys.block_account(&AccountId::fresh(), None).await));
    // What lasts longest is told.
    must(ledger.keys.end_key(&fleet.id, at(5)).await);
    for since in [Some(at(6)), None] {
        must(ledger.keys.block_account(&mine, since).await);
        assert_eq!(end(b"two").await, Some(KeyEnd::Revoked));
    }
}

/// Answers are counted by day, key and model, once, and for their account alone.
pub async fn usage_is_counted_by_day_key_and_model(ledger: &Halves) {
    use super::sample::{accept, ended, new_job, succeeded};
    use infera_ledger::{NewJob, Settled, UsageRow};
    use infera_types::ids::ModelName;
    use infera_types::job::{End, Settlement};

    const DAY_MS: u64 = 86_400_000;
    let (mine, key) = (AccountId::fresh(), KeyId::fresh());
    let job = |key: Option<&KeyId>, model: &str| NewJob {
        key: key.cloned(),
        model: ModelName::new(model),
        ..new_job(&mine)
    };
    let jobs = [
        (job(Some(&key), "a"), 0),
        (job(Some(&key), "a"), 0),
        (job(Some(&key), "b"), 0),
        (job(None, "a"), 0),
        (job(Some(&key), "a"), DAY_MS),
    ];
    for (job, later) in &jobs {
        must(ledger.intake.accept(job.clone()).await);
        let settlement = Settlement { settled_ms: at(1_000 + later), ..succeeded(job) };
        for first in [true, false] {
            let settled = must(ledger.owner.settle(&settlement).await);
            assert_eq!(settled == Settled::Now, first, "a settlement that is sent twice counts once");
        }
    }
    let failed = job(Some(&key), "a");
    must(ledger.intake.accept(failed.clone()).await);
    must(ledger.owner.settle(&ended(&failed, End::Expired)).await);
    let strangers = accept(ledger).await;
    must(ledger.owner.settle(&succeeded(&strangers)).await);

    let today = at(0).as_millis() / DAY_MS;
    let row = |day, key: Option<&KeyId>, model: &str, requests| UsageRow {
        day,
        key: key.cloned(),
        model: ModelName::new(model),
        requests,
        prompt_tokens: 11 * requests,
        completion_tokens: 3 * requests,
        cost: 0,
    };
    let first = [row(today, None, "a", 1), row(today, Some(&key), "a", 2), row(today, Some(&key), "b", 1)];
    let next = row(today + 1, Some(&key), "a", 1);
    let all: Vec<UsageRow> = first.iter().cloned().chain([next.clone()]).collect();
    let usage = async |from, to, limit| must(ledger.keys.usage(&mine, from, to, limit).await);
    assert_eq!(usage(today, today + 1, 100).await, all);
    assert_eq!(usage(today, today, 100).await, first);
    assert_eq!(usage(today + 1, u64::MAX, 100).await, [next]);
    assert_eq!(usage(0, u64::MAX, 2).await, first[..2]);
    assert_eq!(usage(today + 2, u64::MAX, 100).await, []);
}
