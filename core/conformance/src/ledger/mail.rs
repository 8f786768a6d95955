//! Checks mails, the codes that they carry, and accounts whose addresses are proven by them.

use std::time::Duration;

use tokio::task::JoinSet;

use super::{Halves, at, must};
use infera_ledger::{
    AccountEventKind, Addressee, CodeUse, DueMail, FirstKey, MailBounds, MailKind, NewCode, NewMail,
    RecoveredKey, ShownCode,
};
use infera_types::ids::{AccountId, CodeId, Digest, KeyId, MailId};

const LEASE: Duration = Duration::from_secs(60);

const WIDE: MailBounds =
    MailBounds { per_hour_max: 1_000, per_address_hour_max: 1_000, per_network_hour_max: 1_000 };

fn first_key(text: &str) -> FirstKey {
    FirstKey { hash: Digest::of(text.as_bytes()), hint: "abcd".to_owned() }
}

async fn open(ledger: &Halves, email: &str, key: &str) -> AccountId {
    must(ledger.accounts.open_account(email, &first_key(key), at(0)).await)
}

fn proof(account: &AccountId, address: &str) -> NewMail {
    NewMail {
        id: MailId::new(),
        kind: MailKind::Proof,
        address: address.to_owned(),
        account: Some(account.clone()),
        network: "192.0.2.0/24".to_owned(),
    }
}

fn recovery(address: &str) -> NewMail {
    NewMail { kind: MailKind::Recovery, account: None, ..proof(&AccountId::fresh(), address) }
}

async fn ask(ledger: &Halves, mail: &NewMail, bounds: MailBounds, now: u64) -> bool {
    must(ledger.mail.ask_for_mail(mail, &bounds, at(now)).await)
}

async fn take(ledger: &Halves, limit: u32, now: u64) -> Vec<DueMail> {
    must(ledger.mail_outbox.take_mails(limit, LEASE, at(now)).await)
}

fn new_code(secret: &str, expires: u64) -> NewCode {
    NewCode { id: CodeId::new(), hash: Digest::of(secret.as_bytes()), expires_ms: at(expires) }
}

/// Asks for a mail, takes it and issues its code.
async fn mailed(ledger: &Halves, mail: &NewMail, secret: &str) -> (Addressee, ShownCode) {
    assert!(ask(ledger, mail, WIDE, 0).await);
    let taken = take(ledger, 9, 0).await;
    let due = taken.iter().find(|due| due.id == mail.id).cloned();
    let due = due.unwrap_or_else(|| DueMail {
        id: mail.id,
        kind: mail.kind,
        address: String::new(),
        account: None,
        tries: 0,
    });
    assert_eq!((&due.address, &due.account, due.kind), (&mail.address, &mail.account, mail.kind));
    let code = new_code(secret, 1_000);
    let addressee = must(ledger.mail_outbox.issue_code(&due, &code).await);
    must(ledger.mail_outbox.finish_mail(due.id, None).await);
    (addressee, ShownCode { id: code.id, hash: code.hash })
}

async fn redeem(ledger: &Halves, code: &ShownCode, what_for: &CodeUse, now: u64) -> Option<AccountId> {
    must(ledger.mail.redeem(code, what_for, at(now)).await)
}

async fn is_proven(ledger: &Halves, key: &str) -> bool {
    must(ledger.accounts.key(Digest::of(key.as_bytes())).await).is_some_and(|record| record.proven)
}

async fn works(ledger: &Halves, key: &str) -> bool {
    must(ledger.accounts.key(Digest::of(key.as_bytes())).await).is_some()
}

/// Makes an account that has proven its address by mail.
async fn proven(ledger: &Halves, email: &str, key: &str) -> AccountId {
    let account = open(ledger, email, key).await;
    let (_, code) = mailed(ledger, &proof(&account, email), "secret of a proof").await;
    assert_eq!(redeem(ledger, &code, &CodeUse::Proof, 1).await, Some(account.clone()));
    account
}

/// Each sign-up makes an account whose key works. The address names the first, until another proves it; operators name others
/// by their ids.
pub async fn every_sign_up_makes_an_account(ledger: &Halves) {
    let email = "a@example.org";
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let ledger = ledger.clone();
        tasks.spawn(async move { open(&ledger, email, &format!("key {number}")).await });
    }
    let accounts = tasks.join_all().await;
    let named = must(ledger.keys.account_of(email).await);
    assert!(named.as_ref().is_some_and(|named| accounts.contains(named)), "the address names one of them");
    for number in 0..4 {
        let key = format!("key {number}");
        let record = must(ledger.accounts.key(Digest::of(key.as_bytes())).await);
        let record = record.map(|record| (record.account, record.proven, record.scopes.to_string()));
        let known = record.clone().is_some_and(|(account, ..)| accounts.contains(&account));
        assert!(known && record.is_some_and(|(_, proven, scopes)| !proven && scopes == "user"), "{key}");
    }
    for (one, account) in accounts.iter().enumerate() {
        assert!(!accounts[..one].contains(account), "one account for several");
        assert_eq!(must(ledger.shares.prove(account.as_str(), at(1)).await).as_ref(), Some(account));
        assert_eq!(must(ledger.shares.weigh(account.as_str(), 2).await).as_ref(), Some(account));
        assert_eq!(must(ledger.nodes.allow_fleet(account.as_str(), at(1)).await).as_ref(), Some(account));
    }
    assert_eq!(
        must(ledger.accounts.sign_up(email, None, at(2)).await).account,
        named.unwrap_or(AccountId::fresh())
    );
}

/// Mails are counted for an hour from when they were asked for, sent or not.
pub async fn mails_are_bounded_in_all_by_address_and_by_network(ledger: &Halves) {
    let bounds = MailBounds { per_hour_max: 5, per_address_hour_max: 2, per_network_hour_max: 3 };
    let mail = |address: &str, network: &str| NewMail { network: network.to_owned(), ..recovery(address) };
    let hour = 60 * 60 * 1_000;
    for (address, network, now, expected) in [
        ("a@example.org", "n1", 0, true),
        ("a@example.org", "n2", 1, true),
        ("a@example.org", "n3", 2, false),
        ("b@example.org", "n1", 3, true),
        ("c@example.org", "n1", 4, true),
        ("d@example.org", "n1", 5, false),
        ("d@example.org", "n2", 6, true),
        ("e@example.org", "n4", 7, false),
        ("e@example.org", "n4", hour, true),
        ("f@example.org", "n4", hour, false),
        ("a@example.org", "n1", hour + 6, true),
    ] {
        let mail = mail(address, network);
        assert_eq!(ask(ledger, &mail, bounds, now).await, expected, "{address} {network} {now}");
    }
    let taken = take(ledger, 99, hour + 7).await;
    assert_eq!(taken.len(), 7, "what was refused is not there");
    for due in &taken {
        must(ledger.mail_outbox.finish_mail(due.id, None).await);
    }
    must(ledger.mail_outbox.forget_mails(at(hour + 7)).await);
    let again = mail("f@example.org", "n9");
    assert!(ask(ledger, &again, bounds, hour + 8).await, "the hour of most is over");
    assert!(ask(ledger, &mail("g@example.org", "n9"), bounds, hour + 8).await);
    assert!(ask(ledger, &mail("h@example.org", "n9"), bounds, hour + 8).await);
    assert!(!ask(ledger, &mail("i@example.org", "n8"), bounds, hour + 8).await, "finished mails count too");
}

/// Sign-ups with somebody's address, and recoveries that go to no one, keep no recovery from being sent.
pub async fn mails_are_bounded_by_kind(ledger: &Halves) {
    let bounds = MailBounds { per_hour_max: 3, per_address_hour_max: 2, per_network_hour_max: 2 };
    let of = |mail: NewMail, network: &str| NewMail { network: network.to_owned(), ..mail };
    let email = "victim@example.org";
    let account = open(ledger, email, "key").await;
    for (network, expected) in [("n1", true), ("n1", true), ("n2", false)] {
        assert_eq!(ask(ledger, &of(proof(&account, email), network), bounds, 0).await, expected, "a sign-up");
    }
    let stranger = open(ledger, "other@example.org", "other").await;
    assert!(
        ask(ledger, &of(proof(&stranger, "other@example.org"), "n3"), bounds, 0).await,
        "the third proof"
    );
    assert!(
        !ask(ledger, &of(proof(&stranger, "other@example.org"), "n4"), bounds, 0).await,
        "as many as may be"
    );
    for (address, network, expected) in [
        ("a@example.org", "n1", true),
        ("b@example.org", "n1", true),
        ("c@example.org", "n1", false),
        ("d@example.org", "n5", true),
        (email, "n6", false),
    ] {
        assert_eq!(ask(ledger, &of(recovery(address), network), bounds, 1).await, expected, "{address}");
    }
    for due in take(ledger, 99, 2).await.iter().filter(|due| due.kind == MailKind::Recovery) {
        let code = new_code("no one's", 1_000);
        assert_eq!(must(ledger.mail_outbox.issue_code(due, &code).await), Addressee::NoOne);
        must(ledger.mail_outbox.finish_mail(due.id, None).await);
    }
    assert!(!ask(ledger, &of(recovery("e@example.org"), "n1"), bounds, 3).await, "its network asked for two");
    for number in 0..2 {
        assert!(
            ask(ledger, &of(recovery(email), &format!("r{number}")), bounds, 3).await,
            "nothing was sent"
        );
    }
    assert!(!ask(ledger, &of(recovery(email), "r2"), bounds, 3).await, "two to one address");
}

/// Of several senders one gets a mail. If it dies, another one gets the mail after the lease; what is finished never comes.
pub async fn a_mail_has_one_sender_at_a_time_until_it_is_finished(ledger: &Halves) {
    let mails: Vec<NewMail> = (0..6).map(|number| recovery(&format!("{number}@example.org"))).collect();
    for mail in &mails {
        assert!(ask(ledger, mail, WIDE, 0).await);
    }
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let ledger = ledger.clone();
        tasks.spawn(async move { take(&ledger, 2, 1).await });
    }
    let mut taken: Vec<DueMail> = tasks.join_all().await.into_iter().flatten().collect();
    // A database may let a taker off with fewer than there are, and never gives one mail to two.
    taken.extend(take(ledger, 99, 1).await);
    let mut ids: Vec<MailId> = taken.iter().map(|due| due.id).collect();
    ids.sort_unstable();
    let mut all: Vec<MailId> = mails.iter().map(|mail| mail.id).collect();
    all.sort_unstable();
    assert_eq!(ids, all);
    assert!(taken.iter().all(|due| due.tries == 1 && due.kind == MailKind::Recovery));
    must(ledger.mail_outbox.finish_mail(all[0], None).await);
    must(ledger.mail_outbox.finish_mail(all[1], Some(at(100_000))).await);
    assert_eq!(take(ledger, 9, 60_000).await, [], "all leases last");
    let again = take(ledger, 9, 60_001).await;
    assert_eq!((again.len(), again[0].tries), (4, 2), "those that nobody finished");
    for due in &again {
        must(ledger.mail_outbox.finish_mail(due.id, None).await);
    }
    assert_eq!(take(ledger, 9, 99_999).await, []);
    let put_off = take(ledger, 9, 100_000).await;
    assert_eq!(put_off.iter().map(|due| due.id).collect::<Vec<_>>(), [all[1]]);
    // A clock that was a day ahead wrote the turn.
    must(ledger.mail_outbox.finish_mail(all[1], Some(at(86_400_000))).await);
    assert_eq!(take(ledger, 9, 100_001).await.len(), 1);
}

/// A code proves its account's address, until it expires, and once; the account's other codes end with it.
pub async fn a_code_proves_an_address_once_and_in_time(ledger: &Halves) {
    let email = "a@example.org";
    let (account, other) = (open(ledger, email, "one").await, open(ledger, email, "two").await);
    let (late_says, late) = mailed(ledger, &proof(&account, email), "late").await;
    let (second_says, second) = mailed(ledger, &proof(&account, email), "second").await;
    assert_eq!((late_says, second_says), (Addressee::MayProve, Addressee::MayProve));
    let forged = ShownCode { id: CodeId::new(), ..second };
    let key = RecoveredKey {
        hash: Digest::of(b"stolen"),
        hint: "abcd".to_owned(),
        id: KeyId::fresh(),
        revokes_others: true,
    };
    assert_eq!(redeem(ledger, &forged, &CodeUse::Proof, 1).await, None, "no such code");
    assert_eq!(redeem(ledger, &second, &CodeUse::Recovery(key), 1).await, None, "a code for something else");
    assert_eq!(redeem(ledger, &late, &CodeUse::Proof, 1_000).await, None, "expired");
    assert!(!is_proven(ledger, "one").await && !works(ledger, "stolen").await && works(ledger, "one").await);
    assert_eq!(redeem(ledger, &second, &CodeUse::Proof, 999).await, Some(account.clone()));
    assert!(is_proven(ledger, "one").await && !is_proven(ledger, "two").await);
    for code in [&second, &late] {
        assert_eq!(redeem(ledger, code, &CodeUse::Proof, 2).await, None, "used, or ended with the other");
    }
    assert_eq!(must(ledger.keys.account_of(email).await), Some(account.clone()));
    let events = must(ledger.mail.account_events(&account, 9).await);
    let seen: Vec<_> = events.iter().map(|event| (event.kind, event.at_ms, event.key.clone())).collect();
    assert_eq!(seen, [(AccountEventKind::Proven, at(999), None)]);
    assert_eq!(must(ledger.mail.account_events(&other, 9).await), []);
    let (again, _) = mailed(ledger, &proof(&account, "else@example.org"), "again").await;
    assert_eq!(again, Addressee::NoOne, "a proven address stays");
    must(ledger.mail_outbox.forget_mails(at(2_000)).await);
}

/// The address names the account that proves it, whichever signed up first, and no other one can prove it afterwards.
pub async fn an_address_is_proven_for_one_account(ledger: &Halves) {
    let email = "a@example.org";
    let squatter = open(ledger, email, "squatter").await;
    let owner = open(ledger, email, "owner").await;
    let late = open(ledger, email, "late").await;
    assert_eq!(must(ledger.keys.account_of(email).await), Some(squatter.clone()));
    let (_, of_late) = mailed(ledger, &proof(&late, email), "of the late one").await;
    let (_, code) = mailed(ledger, &proof(&owner, email), "of the owner").await;
    assert_eq!(redeem(ledger, &code, &CodeUse::Proof, 1).await, Some(owner.clone()));
    assert_eq!(must(ledger.keys.account_of(email).await), Some(owner.clone()));
    assert_eq!(redeem(ledger, &of_late, &CodeUse::Proof, 2).await, None, "proven meanwhile");
    for (account, key) in [(&squatter, "squatter"), (&late, "late")] {
        let (says, code) = mailed(ledger, &proof(account, email), "too late").await;
        assert_eq!(says, Addressee::Taken);
        assert_eq!(redeem(ledger, &code, &CodeUse::Proof, 3).await, None, "no code is stored");
        assert!(!is_proven(ledger, key).await && works(ledger, key).await, "it goes on as before");
    }
    let (says, _) = mailed(ledger, &proof(&AccountId::fresh(), email), "of none").await;
    assert_eq!(says, Addressee::NoOne);
    assert!(must(ledger.keys.block_account(&late, Some(at(4))).await));
    let (says, _) = mailed(ledger, &proof(&late, "l@example.org"), "of a blocked one").await;
    assert_eq!(says, Addressee::NoOne);
    assert_eq!(must(ledger.keys.account_of(email).await), Some(owner));
}

/// Five wrong secrets end a code, although the sixth is right.
pub async fn wrong_secrets_end_a_code(ledger: &Halves) {
    let account = open(ledger, "a@example.org", "one").await;
    let (_, code) = mailed(ledger, &proof(&account, "a@example.org"), "first").await;
    for number in 0..4_u8 {
        let guess = ShownCode { hash: Digest::of(&[number]), ..code };
        assert_eq!(redeem(ledger, &guess, &CodeUse::Proof, 1).await, None);
    }
    let (_, other) = mailed(ledger, &proof(&account, "a@example.org"), "second").await;
    let guess = ShownCode { hash: Digest::of(b"fifth"), ..code };
    assert_eq!(redeem(ledger, &guess, &CodeUse::Proof, 1).await, None);
    assert_eq!(redeem(ledger, &code, &CodeUse::Proof, 1).await, None, "it is ended");
    assert!(!is_proven(ledger, "one").await);
    assert_eq!(redeem(ledger, &other, &CodeUse::Proof, 1).await, Some(account), "another code isn't");
}

/// A recovery needs a proven address. It gives a key of the scope `user`, leaves the others or revokes them, and is noted.
pub async fn a_lost_key_comes_back_to_a_proven_account_alone(ledger: &Halves) {
    let account = proven(ledger, "a@example.org", "lost").await;
    let unproven = open(ledger, "b@example.org", "other").await;
    must(ledger.shares.prove("b@example.org", at(0)).await);
    for address in ["b@example.org", "nobody@example.org"] {
        let (says, code) = mailed(ledger, &recovery(address), "of none").await;
        assert_eq!(says, Addressee::NoOne, "{address}: an operator's word proves no mailbox");
        assert_eq!(redeem(ledger, &code, &CodeUse::Proof, 1).await, None);
    }
    let key = |text: &str, revokes_others| RecoveredKey {
        hash: Digest::of(text.as_bytes()),
        hint: "wxyz".to_owned(),
        id: KeyId::fresh(),
        revokes_others,
    };
    let (says, code) = mailed(ledger, &recovery("a@example.org"), "first").await;
    assert_eq!(says, Addressee::MayProve);
    assert_eq!(redeem(ledger, &code, &CodeUse::Proof, 1).await, None, "no proof of anything");
    let first = key("first", false);
    assert_eq!(redeem(ledger, &code, &CodeUse::Recovery(first.clone()), 2).await, Some(account.clone()));
    assert!(works(ledger, "lost").await && works(ledger, "first").await);
    assert_eq!(redeem(ledger, &code, &CodeUse::Recovery(key("again", false)), 3).await, None);
    assert!(!works(ledger, "again").await);

    let (_, code) = mailed(ledger, &recovery("a@example.org"), "second").await;
    let second = key("second", true);
    assert_eq!(redeem(ledger, &code, &CodeUse::Recovery(second.clone()), 4).await, Some(account.clone()));
    assert!(!works(ledger, "lost").await && !works(ledger, "first").await && works(ledger, "second").await);
    assert!(works(ledger, "other").await, "another account's");
    let view = must(ledger.keys.key_by_id(&second.id).await);
    let seen = view.map(|view| (view.account, view.scopes.to_string(), view.hint, view.issued_ms));
    assert_eq!(seen, Some((account.clone(), "user".to_owned(), "wxyz".to_owned(), at(4))));
    let events = must(ledger.mail.account_events(&account, 2).await);
    let seen: Vec<_> = events.into_iter().map(|event| (event.kind, event.key)).collect();
    assert_eq!(
        seen,
        [
            (AccountEventKind::RecoveredAndRevoked, Some(second.id)),
            (AccountEventKind::Recovered, Some(first.id))
        ]
    );
    assert_eq!(must(ledger.mail.account_events(&unproven, 9).await), []);

    let (_, code) = mailed(ledger, &recovery("a@example.org"), "third").await;
    assert!(must(ledger.keys.block_account(&account, Some(at(5))).await));
    assert_eq!(redeem(ledger, &code, &CodeUse::Recovery(key("third", false)), 6).await, None, "blocked");
    let (says, _) = mailed(ledger, &recovery("a@example.org"), "fourth").await;
    assert_eq!(says, Addressee::NoOne);
}
